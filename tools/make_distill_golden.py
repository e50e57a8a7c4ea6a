#!/usr/bin/env python3
"""Make tests/data/distill with PyTorch and transformers: a small model, rows of ids, and a distillation with every term of the loss.

    make_distill_golden.py OUT

OUT gets model/ (a Llama of seven blocks), train.safetensors (input_ids, labels) and golden.json: the settings, and for every step the loss, its
terms and the gradient norm. The emulator is layer-drop 1-3-1 (blocks 1, 3, 5 of 1..5); tests/cli/case_distill_terms.sh runs `offsite distill` on
the same. Needs torch, transformers, safetensors; nothing of it is needed to build or test the product.
"""
import copy
import json
import math
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
import transformers
from safetensors.torch import save_file
from torch.nn import functional as F

KEPT, FIRST, END = [1, 3, 5], 1, 6  # blocks of the middle 1 .. 5
MATCHED = [2, 4, 5]  # after each kept block: the output of the block before the next kept one
ROWS, TOKENS, BATCH, ACCUM = 12, 10, 2, 2
SETTINGS = dict(steps=8, lr=2e-3, warmup=2, decay=0.1, clip=1.0, lm=1.0, kd=30.0, hidden=5.0, kl=2.0, temperature=2.0)


def make_model():
    torch.manual_seed(11)
    config = transformers.LlamaConfig(vocab_size=41, hidden_size=16, intermediate_size=24, num_hidden_layers=7, num_attention_heads=2,
                                      num_key_value_heads=1, max_position_embeddings=32, tie_word_embeddings=False)
    model = transformers.LlamaForCausalLM(config).float()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(1 + 0.1 * torch.randn(p.shape) if "norm" in name else 0.25 * torch.randn(p.shape))
    return model.eval()


def outputs(model, ids):
    """The output of every block, and the logits."""
    seen = []
    hooks = [block.register_forward_hook(lambda _m, _i, out: seen.append(out[0] if isinstance(out, tuple) else out)) for block in model.model.layers]
    logits = model(input_ids=ids, use_cache=False).logits
    for hook in hooks:
        hook.remove()
    return seen, logits


def distance(teacher, student):
    return ((teacher - student) ** 2).mean() / (teacher ** 2).mean()


def terms(teacher, student, ids, labels):
    """Of one micro-batch: mean loss, distances, divergence, and how many labels count."""
    with torch.no_grad():
        taught, wanted = outputs(teacher, ids)
    learned, logits = outputs(student, ids)
    counted = labels[:, 1:] != -100
    lm = F.cross_entropy(logits[:, :-1][counted], labels[:, 1:][counted])
    kd = distance(taught[END - 1], learned[FIRST + len(KEPT) - 1])
    hidden = sum(distance(taught[MATCHED[i]], learned[FIRST + i]) for i in range(len(KEPT) - 1)) / (len(KEPT) - 1)
    t = SETTINGS["temperature"]
    log_p, log_q = (F.log_softmax(x[:, :-1][counted] / t, dim=-1) for x in (wanted, logits))
    kl = t * t * (log_p.exp() * (log_p - log_q)).sum(-1).mean()
    return lm, kd, hidden, kl, int(counted.sum())


def main():
    out = Path(sys.argv[1])
    (out / "model").mkdir(parents=True, exist_ok=True)
    teacher = make_model()
    teacher.save_pretrained(out / "model")
    for extra in ("generation_config.json",):
        (out / "model" / extra).unlink(missing_ok=True)
    g = torch.Generator().manual_seed(5)
    ids = torch.randint(3, 41, (ROWS, TOKENS), generator=g)
    labels = ids.clone()
    labels[torch.rand(ids.shape, generator=g) < 0.3] = -100  # rows count differently
    save_file({"input_ids": ids, "labels": labels}, out / "train.safetensors")

    student = copy.deepcopy(teacher)
    layers = list(teacher.model.layers)
    student.model.layers = torch.nn.ModuleList(copy.deepcopy(layers[i]) for i in [0, *KEPT, 6])
    for i, block in enumerate(student.model.layers):
        block.self_attn.layer_idx = i
    student.config.num_hidden_layers = len(student.model.layers)
    for p in student.parameters():
        p.requires_grad_(False)
    trained = [p for block in student.model.layers[FIRST:FIRST + len(KEPT)] for p in block.parameters()]
    for p in trained:
        p.requires_grad_(True)
    s = SETTINGS
    groups = [dict(params=[p for p in trained if p.dim() > 1], weight_decay=s["decay"]), dict(params=[p for p in trained if p.dim() == 1], weight_decay=0)]
    optimizer = torch.optim.AdamW(groups, lr=s["lr"])
    log, row = [], 0
    for step in range(s["steps"]):
        parts = []
        for _ in range(ACCUM):
            chosen = [(row + i) % ROWS for i in range(BATCH)]
            row += BATCH
            parts.append(terms(teacher, student, ids[chosen], labels[chosen]))
        targets = sum(p[4] for p in parts)
        lm, kd, hidden, kl = (sum(p[i] * (p[4] / targets) for p in parts) for i in range(4))
        loss = s["lm"] * lm + s["kd"] * kd + s["hidden"] * hidden + s["kl"] * kl
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, s["clip"])
        done = (step - s["warmup"]) / (s["steps"] - s["warmup"])
        rate = s["lr"] * step / s["warmup"] if step < s["warmup"] else s["lr"] * 0.5 * (1 + math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        values = dict(loss=loss, grad_norm=norm, loss_lm=lm, loss_kd=kd, loss_hidden=hidden, loss_kl=kl)
        log.append({"step": step, **{k: float(f"{v.item():.9g}") for k, v in values.items()}})
    lines = ",\n".join(json.dumps(entry) for entry in log)
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    text = json.dumps(dict(made_by=versions, settings=s, batch=BATCH, accum=ACCUM))
    (out / "golden.json").write_text(f'{{"run": {text},\n"log": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
