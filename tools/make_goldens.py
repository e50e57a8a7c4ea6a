#!/usr/bin/env python3
"""Make the project's own small golden fixtures with PyTorch and transformers.

    make_goldens.py OUT [--seed N]

OUT gets models/FAMILY (a model directory with golden.safetensors, golden-left.safetensors, generate.safetensors) and
train/FAMILY (model, split.json, data.safetensors, one file per way of tuning), which tests/golden reads. tests/golden/README.md
says what every tensor means. Needs torch, transformers, safetensors; nothing of it is needed to build or test the product.
"""
import argparse
import json
import math
import os
import random
import shutil
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
import transformers
from safetensors.torch import save_file
from torch.nn import functional as F

NOT_COUNTED = -100
VOCABULARIES = (37, 41, 44)  # small, as all shapes here: the files are committed
TRAIN_STEPS, WARM_UP, RATE, DECAY = 20, 5, 1e-3, 0.01


class Draw:
    """Random shapes, weights and tokens of one fixture, decided by the seed and the fixture's name."""

    def __init__(self, seed, name):
        self.shapes = random.Random(f"{name}/{seed}")
        self.numbers = torch.Generator().manual_seed(self.shapes.getrandbits(60))

    def one_of(self, *values):
        return self.shapes.choice(values)

    def normal(self, shape, spread, centre=0.0):
        return torch.empty(shape).normal_(centre, spread, generator=self.numbers)

    def tokens(self, vocabulary, *shape):
        """Ids from 3 on: padding, begin and end have the ids below, and OPT treats its padding id apart."""
        return torch.randint(3, vocabulary, shape, generator=self.numbers)


# ------------------------------------------------------------------------------------------------------------ models


def learned_positions(draw, layers):
    heads, width = (2, 4) if layers else draw.one_of((2, 6), (3, 4), (2, 8))  # training runs are smaller still
    return dict(vocabulary=draw.one_of(*VOCABULARIES), dim=heads * width, heads=heads, layers=layers or 2,
                positions=draw.one_of(17, 19), inner=12 if layers else draw.one_of(18, 21))


def gpt2(draw, layers=None):
    s = learned_positions(draw, layers)
    return transformers.GPT2Config(
        vocab_size=s["vocabulary"], n_embd=s["dim"], n_head=s["heads"], n_layer=s["layers"], n_positions=s["positions"], n_inner=s["inner"],
        resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, bos_token_id=0, eos_token_id=0)


def opt(draw, layers=None, early=False):
    s = learned_positions(draw, layers)
    return transformers.OPTConfig(
        vocab_size=s["vocabulary"], hidden_size=s["dim"], num_attention_heads=s["heads"], num_hidden_layers=s["layers"],
        max_position_embeddings=s["positions"], ffn_dim=s["inner"], do_layer_norm_before=not early,
        word_embed_proj_dim=s["dim"] - 5 if early else s["dim"], dropout=0, attention_dropout=0)


def bloom(draw, layers=None):
    heads, width = draw.one_of((5, 2), (3, 4), (6, 2))  # no power of two: ALiBi's second kind of slopes
    return transformers.BloomConfig(
        vocab_size=draw.one_of(*VOCABULARIES), hidden_size=heads * width, n_head=heads, n_layer=layers or 2, hidden_dropout=0,
        attention_dropout=0, pad_token_id=0)


def rotary(config, draw, layers=None, own_width=0, rope=None, tied=False, **more):
    heads, groups, width = draw.one_of((4, 2, 4), (4, 1, 4), (3, 1, 4))
    if layers or rope:
        heads, groups, width = 2, 1, 8 if rope else 4
    if own_width:
        more["head_dim"] = width + own_width
    return config(
        vocab_size=draw.one_of(*VOCABULARIES), hidden_size=heads * width, num_attention_heads=heads, num_key_value_heads=groups,
        num_hidden_layers=layers or 2, intermediate_size=12 if layers else draw.one_of(18, 21), rms_norm_eps=draw.one_of(1e-5, 1e-6),
        max_position_embeddings=48, tie_word_embeddings=tied, bos_token_id=1, eos_token_id=2,
        rope_parameters=rope or dict(rope_type="default", rope_theta=draw.one_of(300.0, 10000.0, 1000000.0)), **more)


def stretched(draw):
    """Wavelengths of 2 pi 200^(i/4) from 6 to 334 lie on both sides of 40 / 4 and of 40 / 1."""
    return dict(rope_type="llama3", rope_theta=200.0, factor=draw.one_of(4.0, 8.0), low_freq_factor=1.0, high_freq_factor=4.0,
                original_max_position_embeddings=40)


FAMILIES = {
    "gpt2": gpt2,
    "opt": opt,
    "opt-350m": lambda d: opt(d, early=True),
    "bloom": bloom,
    "llama": lambda d: rotary(transformers.LlamaConfig, d),
    "llama-tied": lambda d: rotary(transformers.LlamaConfig, d, rope=stretched(d), tied=True),
    "mistral-window": lambda d: rotary(transformers.MistralConfig, d, own_width=2, sliding_window=d.one_of(3, 4)),
    "qwen2": lambda d, layers=None: rotary(transformers.Qwen2Config, d, layers, tied=True),
    "qwen3": lambda d: rotary(transformers.Qwen3Config, d, own_width=2, tied=True),
}


def fresh(config):
    return transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()


def build(config, draw):
    """A model whose every parameter is random and far from its default: no zero bias, no unit gain."""
    model = fresh(config)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 1:
                p.copy_(draw.normal(p.shape, 0.2, 1.0 if "norm" in name or ".ln_" in name else 0.0))
                if name.endswith("bias"):
                    p.copy_(draw.normal(p.shape, 0.15))
            else:
                p.copy_(draw.normal(p.shape, 0.5 if "embed" in name or ".wte" in name or ".wpe" in name else p.shape[1] ** -0.5))
    return model


def decoder_blocks(model):
    """The list of blocks and its path; of all module lists in these models it is the only one."""
    (path, blocks), = [(n, m) for n, m in model.named_modules() if isinstance(m, torch.nn.ModuleList)]
    return path, blocks


def write(path, tensors):
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = {}
    for name, value in tensors.items():
        value = torch.as_tensor(value).detach()
        value = value.float() if value.is_floating_point() else value.long()
        plain[name] = value.reshape(value.shape or (1,)).clone().contiguous()
    save_file(plain, str(path), metadata={"format": "pt"})
    path.chmod(0o644)


def observe(model, gradients=True, **inputs):
    """Everything one forward and backward pass shows."""
    raw = []
    hook = decoder_blocks(model)[1][-1].register_forward_hook(lambda module, given, y: raw.append(y if torch.is_tensor(y) else y[0]))
    out = model(**inputs, output_hidden_states=True, use_cache=False)
    hook.remove()
    seen = dict(inputs, logits=out.logits, loss=out.loss)
    if gradients:
        model.zero_grad()
        out.loss.backward()
        seen.update({f"hidden_states.{i}": h for i, h in enumerate(out.hidden_states)}, last_block=raw[0])
        seen.update({f"grad.{n}": torch.zeros_like(p) if p.grad is None else p.grad for n, p in model.named_parameters()})
    return seen


def left_padded(draw, vocabulary, pad, rows, length):
    """Rows of different lengths with their padding in front; the loss counts the second half of each."""
    ids, mask = draw.tokens(vocabulary, rows, length), torch.ones(rows, length, dtype=torch.long)
    labels = torch.full_like(ids, NOT_COUNTED)
    for r in range(rows):
        gap = 0 if r == 0 else draw.shapes.randrange(1, length - 4)
        mask[r, :gap] = 0
        ids[r, :gap] = pad
        first = gap + 1 + (length - gap) // 2  # never the first token of a row: the model would predict it from padding
        labels[r, first:] = ids[r, first:]
    return dict(input_ids=ids, attention_mask=mask, labels=labels)


@torch.no_grad()
def continued(model, draw, vocabulary, count=12, lead=0.02):
    """A prompt with its greedy continuation, drawn again until every step is decided by a clear lead."""
    while True:
        prompt = draw.tokens(vocabulary, 1, draw.one_of(4, 5))
        ids, smallest = prompt, math.inf
        for _ in range(count):
            best, second = model(ids, use_cache=False).logits[0, -1].topk(2).values.tolist()
            smallest = min(smallest, best - second)
            ids = torch.cat([ids, model(ids, use_cache=False).logits[:, -1:].argmax(-1)], 1)
        if smallest > lead:
            return dict(prompt=prompt, ids=ids[:, prompt.shape[1]:], margin=torch.tensor(smallest))


def save_model(model, path):
    model.save_pretrained(path)
    (path / "generation_config.json").unlink(missing_ok=True)
    (path / "model.safetensors").chmod(0o644)


def make_model(family, seed, path):
    draw = Draw(seed, f"models/{family}")
    model = build(FAMILIES[family](draw), draw)
    vocabulary = model.config.vocab_size
    save_model(model, path)
    ids = draw.tokens(vocabulary, 2, draw.one_of(8, 9))
    write(path / "golden.safetensors", observe(model, input_ids=ids, labels=ids))
    padded = left_padded(draw, vocabulary, model.config.pad_token_id or 0, 3, draw.one_of(9, 10))
    seen = observe(model, gradients=False, **padded)
    seen["logits"] = seen["logits"] * padded["attention_mask"][..., None]
    write(path / "golden-left.safetensors", seen)
    write(path / "generate.safetensors", continued(model, draw, vocabulary))


# ---------------------------------------------------------------------------------------------------------- training


def evenly(middle, keep):
    step = (middle - 1) / (keep - 1)
    return [round(step * i) for i in range(keep)]


class Sandwich:
    """A whole model and its emulator: the outer blocks that are tuned, and the middle ones that stay."""

    def __init__(self, whole, bottom, top, keep):
        self.whole, self.bottom, self.top, self.keep = whole, bottom, top, keep
        self.path, blocks = decoder_blocks(whole)
        self.count = len(blocks)
        self.kept = [bottom + i for i in evenly(self.count - bottom - top, keep)]
        self.source = list(range(bottom)) + self.kept + list(range(self.count - top, self.count))
        self.tuned = [i for i, s in enumerate(self.source) if s not in self.kept]

    def split_name(self, name):
        """(block, rest) of a parameter's name; (None, name) outside the blocks."""
        head = self.path + "."
        if not name.startswith(head):
            return None, name
        number, rest = name[len(head):].split(".", 1)
        return int(number), rest

    def in_whole(self, name):
        block, rest = self.split_name(name)
        return name if block is None else f"{self.path}.{self.source[block]}.{rest}"

    def emulator(self):
        config = type(self.whole.config).from_dict(self.whole.config.to_dict() | {"num_hidden_layers": len(self.source), "layer_types": None})
        model, stored = fresh(config), self.whole.state_dict()
        model.load_state_dict({n: stored[self.in_whole(n)] for n in model.state_dict()})
        return model

    def plugged(self, tuned):
        """The whole model with tuned parameters {whole-model name: value} in place."""
        model = fresh(self.whole.config)
        model.load_state_dict(self.whole.state_dict() | {n: p.detach() for n, p in tuned.items()}, strict=True)
        return model


def loss_on(model, ids):
    return model(input_ids=ids, labels=ids, use_cache=False).loss


def train(model, trainable, batches):
    """Optimizer steps as docs describe them; returns the series of the log and the first gradients."""
    for p in model.parameters():
        p.requires_grad_(False)
    for p in trainable.values():
        p.requires_grad_(True)
    everything = list(trainable.values())
    optimizer = torch.optim.AdamW([dict(params=[p for p in everything if p.ndim > 1], weight_decay=DECAY),
                                   dict(params=[p for p in everything if p.ndim == 1], weight_decay=0.0)], lr=RATE)
    series, first = {"losses": [], "grad_norms": [], "lrs": []}, {}
    for step, ids in enumerate(batches):
        share = step / WARM_UP if step < WARM_UP else 0.5 * (1 + math.cos(math.pi * (step - WARM_UP) / (len(batches) - WARM_UP)))
        for group in optimizer.param_groups:
            group["lr"] = RATE * share
        optimizer.zero_grad()
        loss = loss_on(model, ids)
        loss.backward()
        for name, p in trainable.items():
            if name.endswith("c_attn.bias"):  # the keys' third has gradient 0; AdamW would blow its rounding up to whole steps
                p.grad.view(3, -1)[1].zero_()
        if step == 0:
            first = {n: p.grad.clone() for n, p in trainable.items()}
        norm = math.sqrt(sum(float(p.grad.double().square().sum()) for p in everything))
        for p in everything:
            p.grad.mul_(min(1.0, 1.0 / (norm + 1e-6)))
        optimizer.step()
        for key, value in (("losses", loss.item()), ("grad_norms", norm), ("lrs", RATE * share)):
            series[key].append(value)
    return {k: torch.tensor(v) for k, v in series.items()}, first


def linears_of(block):
    """Names of a block's linears, whichever way they store their weight, with (in, out)."""
    found = {}
    for name, module in block.named_modules():
        if isinstance(module, torch.nn.Linear):
            found[name] = (module.in_features, module.out_features)
        elif isinstance(module, transformers.pytorch_utils.Conv1D):
            found[name] = tuple(module.weight.shape)
    return found


def add_lora(blocks, tensors, name_of, scale):
    """y += scale B A x beside every linear that tensors holds a pair for."""
    for i, block in enumerate(blocks):
        for linear in linears_of(block):
            a, b = (tensors.get(f"{name_of(i, linear)}.lora_{side}.weight") for side in "AB")
            if a is not None:
                block.get_submodule(linear).register_forward_hook(
                    lambda module, given, y, a=a, b=b: y + scale * F.linear(F.linear(given[0], a), b))


def add_houlsby(blocks, tensors, numbers, places):
    """y + up(relu(down(y))) after the attention's output projection and the second linear of the MLP."""
    for block, number in zip(blocks, numbers):
        for part, place in places.items():
            if f"{number}.{part}.down.weight" in tensors:
                down, up = ([tensors[f"{number}.{part}.{side}.{kind}"] for kind in ("weight", "bias")] for side in ("down", "up"))
                block.get_submodule(place).register_forward_hook(
                    lambda module, given, y, down=down, up=up: y + F.linear(F.relu(F.linear(y, *down)), *up))


class Fixture:
    """One folder of train/."""

    def __init__(self, family, seed, path):
        self.draw, self.path = Draw(seed, f"train/{family}"), path
        bottom = top = 1
        whole = build(FAMILIES[family](self.draw, bottom + 4 + top), self.draw)
        self.s = Sandwich(whole, bottom, top, 3)  # 0, 1.5, 3: the tie goes to 2
        vocabulary, rows, length = whole.config.vocab_size, self.draw.one_of(2, 3), self.draw.one_of(8, 9)
        self.batches, self.held = self.draw.tokens(vocabulary, TRAIN_STEPS, rows, length), self.draw.tokens(vocabulary, rows, length)
        save_model(whole, path / "model")
        write(path / "data.safetensors", dict(batches=self.batches, held_out=self.held))
        (path / "split.json").write_text(json.dumps(dict(
            n=self.s.count, bottom=bottom, top=top, keep=3, kept=self.s.kept, emulator_blocks=self.s.source,
            optimizer=dict(lr=RATE, warmup=WARM_UP, steps=TRAIN_STEPS, schedule="cosine", weight_decay=DECAY, clip=1.0)), indent=1) + "\n")

    @torch.no_grad()
    def losses(self, **models):
        return {f"held_out.{key}": loss_on(model, self.held) for key, model in models.items()}

    def finish(self, way, series, final, first=None, initial=None, **models):
        write(self.path / f"{way}.safetensors", series | self.losses(**models)
              | {f"grad0.{n}": g for n, g in (first or {}).items()} | {f"init.{n}": t for n, t in (initial or {}).items()}
              | {f"final.{n}": t for n, t in final.items()})

    def full(self):
        model = fresh(self.s.whole.config)
        model.load_state_dict(self.s.whole.state_dict())
        trained = {n: p for n, p in model.named_parameters() if self.s.split_name(n)[0] is not None}
        series, _ = train(model, trained, self.batches)
        self.finish("full", series, trained, full_zs=self.s.whole, full_ft=model)

    def own_parameters(self, way, wanted):
        model, untouched = self.s.emulator(), self.s.emulator()
        trained = {self.s.in_whole(n): p for n, p in model.named_parameters() if self.s.split_name(n)[0] in self.s.tuned and wanted(p)}
        series, first = train(model, trained, self.batches)
        self.finish(way, series, trained, first if way == "offsite" else None, full_zs=self.s.whole, emulator_zs=untouched, emulator_ft=model,
                    plug_in=self.s.plugged(trained))

    def lora(self, rank=4, alpha=32):
        model, whole = self.s.emulator(), self.s.plugged({})
        blocks = decoder_blocks(model)[1]
        name = lambda number, linear: f"{self.s.path}.{number}.{linear}"
        pair = {}
        for i in self.s.tuned:
            for linear, (fan_in, fan_out) in linears_of(blocks[i]).items():
                stem = name(self.s.source[i], linear)
                pair[f"{stem}.lora_A.weight"] = self.draw.normal((rank, fan_in), fan_in ** -0.5)
                pair[f"{stem}.lora_B.weight"] = self.draw.normal((fan_out, rank), 0.02)
        initial = {n: t.clone() for n, t in pair.items()}
        add_lora(blocks, pair, lambda i, linear: name(self.s.source[i], linear), alpha / rank)
        series, _ = train(model, pair, self.batches)
        add_lora(decoder_blocks(whole)[1], pair, name, alpha / rank)
        self.finish("lora", series, pair, initial=initial, emulator_ft=model, plug_in=whole)

    def houlsby(self, places, width=3):
        model, whole = self.s.emulator(), self.s.plugged({})
        dim, tensors = model.config.hidden_size, {}
        for i in self.s.tuned:
            for part in places:
                for side, shape in (("down", (width, dim)), ("up", (dim, width))):
                    stem = f"{self.s.source[i]}.{part}.{side}"
                    tensors[f"{stem}.weight"], tensors[f"{stem}.bias"] = self.draw.normal(shape, 0.1), self.draw.normal(shape[:1], 0.1)
        initial = {n: t.clone() for n, t in tensors.items()}
        add_houlsby(decoder_blocks(model)[1], tensors, self.s.source, places)
        before = self.losses(emulator_initial=model)
        series, _ = train(model, tensors, self.batches)
        add_houlsby(decoder_blocks(whole)[1], tensors, range(self.s.count), places)
        self.finish("houlsby", series | before, tensors, initial=initial, emulator_ft=model, plug_in=whole)


def make_training(family, seed, path):
    fixture = Fixture(family, seed, path)
    fixture.own_parameters("offsite", lambda p: True)
    if family == "gpt2":
        fixture.own_parameters("bitfit", lambda p: p.ndim == 1)
        fixture.houlsby({"attn": "attn.c_proj", "mlp": "mlp.c_proj"})
    else:
        fixture.full()
        fixture.lora()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", default="0", help="any text; the committed files are seed 0")
    parser.add_argument("--replace", action="store_true", help="remove models/ and train/ of OUT first")
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for part in ("models", "train"):
        if args.replace:
            shutil.rmtree(args.out / part, ignore_errors=True)
        elif (args.out / part).exists():
            sys.exit(f"make_goldens.py: {args.out / part} exists; --replace removes it")
    for family in FAMILIES:
        make_model(family, args.seed, args.out / "models" / family)
    for family in ("gpt2", "qwen2"):
        make_training(family, args.seed, args.out / "train" / family)


if __name__ == "__main__":
    main()
