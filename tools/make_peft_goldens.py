#!/usr/bin/env python3
"""Adapters that PEFT wrote, with what PEFT computes with them: the fixtures of tests/unit/test_peft_golden.c.

    make_peft_goldens.py MODELS_DIR OUT_DIR

For each tiny model of MODELS_DIR (tests/golden/data/models) a soft prompt, IA3 and DoRA, all with random values: PEFT's own two files, and
expected.safetensors with input_ids, labels, an attention_mask (left padding in the second row), the logits, the gradient of the loss, the loss of
each of STEPS steps of AdamW and the values after them. Needs torch, transformers and peft; the files are committed, so that tests need none of them.

With dropout (LoRA and DoRA on two models; no logits, as those are for use without) PEFT's modules draw offsite's masks, functions of the step's seed, the
linear and the element: src/engine/dropout.h and src/base/rng.h, computed here once more.
"""
import pathlib
import sys

import numpy as np
import peft
import torch
import transformers
from safetensors.torch import save_file

STEPS, RATE, TOKENS = 6, 3e-2, 9
DROPOUT, DROPOUT_SEED = 0.25, 23  # of the first step; each further one counts on. With 11 an early gradient is so near zero that AdamW magnifies rounding
SITES = 1 << 24  # OT_PEFT_DROPOUT_SITES
# As in src/model/desc.h.
ROLES = ("embed", "patch", "class", "positions", "embed_norm", "project_in", "norm1", "qkv", "q", "k", "v", "q_norm", "k_norm", "o", "scale1", "norm2", "gate",
         "up", "down", "scale2", "final_norm", "project_out", "head")
ROLE_OF = {"attn.c_attn": "qkv", "attn.c_proj": "o", "mlp.c_fc": "up", "mlp.c_proj": "down", "self_attn.q_proj": "q", "self_attn.k_proj": "k",
           "self_attn.v_proj": "v", "self_attn.o_proj": "o", "mlp.gate_proj": "gate", "mlp.up_proj": "up", "mlp.down_proj": "down"}


def hash64(seed, counter):
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + (counter.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


class Mask(torch.nn.Module):
    """In place of a linear's dropout. Rows are numbered as offsite has them: one sequence after another, without padding."""

    def __init__(self, name, attention_mask):
        super().__init__()
        block, place = next((name.split(".")[name.split(".").index(key) + 1], name) for key in ("h", "layers") if key in name.split("."))
        role = next(r for suffix, r in ROLE_OF.items() if place.endswith(suffix))
        self.site, self.kept, self.seed = SITES + int(block) * len(ROLES) + ROLES.index(role), attention_mask.bool(), 0

    def forward(self, x):
        element = np.arange(int(self.kept.sum()) * x.shape[-1], dtype=np.uint64)
        seed = np.uint64(self.seed) ^ hash64(self.site, np.zeros(1))[0]
        bits = (hash64(seed, element // np.uint64(4)) >> (element % np.uint64(4) * np.uint64(16))) & np.uint64(0xFFFF)
        mask = torch.zeros_like(x)
        mask[self.kept] = torch.from_numpy((bits / 65536.0 >= DROPOUT).astype(np.float32)).reshape(-1, x.shape[-1])
        return x * mask / (1 - DROPOUT)


def draw_masks(model, attention_mask):
    """PEFT's layers alone are in training: the configurations' own dropout stays off."""
    masks = []
    for name, layer in model.named_modules():
        if isinstance(layer, peft.tuners.lora.LoraLayer):
            layer.training = True
            masks.append(Mask(name, attention_mask))
            layer.lora_dropout["default"] = masks[-1]
    return masks


def configs(name):
    """IA3 on keys, values and what the second MLP linear reads, as offsite has it."""
    targets = {"gpt2": (["c_attn", "mlp.c_proj"], ["mlp.c_proj"]), "bloom": (["query_key_value", "mlp.dense_4h_to_h"], ["mlp.dense_4h_to_h"]),
               "opt": (["k_proj", "v_proj", "fc2"], ["fc2"])}
    if name in ("gpt2", "llama"):
        for dora in (False, True):
            yield f"{'dora' if dora else 'lora'}-dropout", peft.LoraConfig(task_type="CAUSAL_LM", use_dora=dora, r=2, lora_alpha=5, lora_dropout=DROPOUT,
                                                                          target_modules="all-linear", fan_in_fan_out=name == "gpt2")
    target, feedforward = targets.get(name, (["k_proj", "v_proj", "down_proj"], ["down_proj"]))
    yield "dora", peft.LoraConfig(task_type="CAUSAL_LM", use_dora=True, r=2, lora_alpha=5, target_modules="all-linear", fan_in_fan_out=name == "gpt2")
    yield "prompt", peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    yield "ia3", peft.IA3Config(task_type="CAUSAL_LM", target_modules=target, feedforward_modules=feedforward, fan_in_fan_out=name == "gpt2")


def saved_name(name):
    """As PEFT's file has it."""
    name = "prompt_embeddings" if name.startswith("prompt_encoder") else name.replace(".default", "")
    return name.replace("lora_magnitude_vector.weight", "lora_magnitude_vector")


def make(model_dir, name, method, config, out):
    transformers.set_seed(7)
    model = transformers.AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32, attn_implementation="eager")
    ids = torch.randint(4, model.config.vocab_size, (2, TOKENS), generator=torch.Generator().manual_seed(5))
    labels, mask = ids.clone(), torch.ones_like(ids)
    labels[0, 4] = -100
    # PEFT lets padding predict the first word after it; here, as in data files, what is masked has no label and predicts nothing.
    mask[1, :2], labels[1, :3] = 0, -100
    model = peft.get_peft_model(model, config)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for n, p in trained.items():
            random = torch.randn(p.shape) * 0.3 + (method == "ia3")
            p.copy_(p * (1 + random) if "magnitude" in n else random)
    model.save_pretrained(out)
    model.eval()  # without the configurations' dropout
    masks = draw_masks(model, mask) if method.endswith("-dropout") else []
    result = {"input_ids": ids, "labels": labels, "attention_mask": mask}
    # No decay of vectors, as offsite has it.
    groups = [{"params": [p for p in trained.values() if (p.ndim > 1) == matrices], "weight_decay": 0.01 * matrices} for matrices in (True, False)]
    optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=RATE)
    losses = []
    for step in range(STEPS):
        for drawn in masks:
            drawn.seed = DROPOUT_SEED + step
        output = model(input_ids=ids, attention_mask=mask, labels=labels)
        optimizer.zero_grad()
        output.loss.backward()
        losses.append(output.loss.item())
        if step == 0:
            front = output.logits.shape[1] - TOKENS
            if not masks:
                result["logits"] = (output.logits[:, front:] * mask[:, :, None]).detach().contiguous()
            result |= {f"grad.{saved_name(n)}": p.grad.clone() for n, p in trained.items()}
        optimizer.step()
    result["losses"] = torch.tensor(losses)
    result |= {f"final.{saved_name(n)}": p.detach().clone() for n, p in trained.items()}
    save_file(result, out / "expected.safetensors")
    for other in out.glob("README.md"):
        other.unlink()


def main():
    models, target = map(pathlib.Path, sys.argv[1:])
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    for name in ("gpt2", "opt", "bloom", "llama", "qwen3"):
        for method, config in configs(name):
            make(models / name, name, method, config, target / f"{name}-{method}")


if __name__ == "__main__":
    main()
