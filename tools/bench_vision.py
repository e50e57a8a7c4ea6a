#!/usr/bin/env python3
"""Pictures a second of whole training steps and of evaluation: offsite bench against PyTorch, run in turns on the same machine.

    python3 tools/bench_vision.py [--size vit-tiny] [--mode ft,ot,eval] [--batch 16] [--steps 5] [--rounds 2] [--dtype f32|bf16]

Both sides compute the same: random weights and pictures, the blocks named by the mode and the head trained, forward, backward, clipping, AdamW.
ft trains every block; ot the outer 4 + 4 of 4 + 2 + 4; eval runs forward only. In bf16, PyTorch stores what is frozen in bf16 and runs under
autocast. Needs torch and transformers."""
import argparse
import json
import os
import statistics
import subprocess
import time

import torch
from transformers import ViTConfig, ViTForImageClassification

SIZES = {
    "vit-tiny": dict(hidden_size=192, num_attention_heads=3, intermediate_size=768),
    "vit-base": dict(),
    "vit-large": dict(hidden_size=1024, num_attention_heads=16, intermediate_size=4096, num_hidden_layers=24),
}


def blocks(model):
    for name in ("layers", "encoder"):
        part = getattr(model.vit, name, None)
        if part is not None:
            return part if name == "layers" else part.layer
    raise SystemExit("this version of transformers names the blocks of ViT otherwise")


def torch_step(a, mode):
    config = ViTConfig(num_labels=1000, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **SIZES[a.size])
    if mode == "ot":
        config.num_hidden_layers = 10
    torch.manual_seed(0)
    model = ViTForImageClassification._from_config(config, attn_implementation="sdpa")
    train = mode != "eval"
    n = config.num_hidden_layers
    model.requires_grad_(False)
    if train:
        for i, block in enumerate(blocks(model)):
            block.requires_grad_(mode == "ft" or i < 4 or i >= n - 4)
        model.classifier.requires_grad_(True)
    if a.dtype == "bf16":
        for p in model.parameters():
            if not p.requires_grad:
                p.data = p.data.to(torch.bfloat16)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, weight_decay=0.01) if train else None
    pixels = torch.rand(a.batch, 3, 224, 224) * 2 - 1
    labels = torch.randint(0, 1000, (a.batch,))

    def step():
        with torch.set_grad_enabled(train), torch.autocast("cpu", torch.bfloat16, enabled=a.dtype == "bf16"):
            loss = torch.nn.functional.cross_entropy(model(pixel_values=pixels).logits.float(), labels)
        if train:
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()

    step()
    times = []
    for _ in range(a.steps):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return a.batch / statistics.median(times)


def offsite_step(a, mode):
    command = [a.offsite, "bench", "--size", a.size, "--batch", str(a.batch), "--steps", str(a.steps), "--dtype", a.dtype, "--threads", str(a.threads), "--json"]
    command += ["--forward-only"] if mode == "eval" else ["--mode", mode]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["images_per_s"]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--size", default="vit-tiny", choices=SIZES)
    p.add_argument("--mode", default="ft,ot,eval")
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--steps", type=int, default=5)
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--dtype", default="f32", choices=("f32", "bf16"))
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--offsite", default="build/offsite")
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    for mode in a.mode.split(","):
        ratios = []
        for _ in range(a.rounds):
            mine, theirs = offsite_step(a, mode), torch_step(a, mode)
            ratios.append(mine / theirs)
            print(f"{a.size} {mode} {a.dtype} batch {a.batch}: offsite {mine:.1f} pictures/s, torch {theirs:.1f}, ratio {mine / theirs:.2f}", flush=True)
        print(f"{a.size} {mode} {a.dtype}: ratio {statistics.median(ratios):.2f}", flush=True)


main()
