#!/usr/bin/env python3
"""Does transformers open the offers that are plain models, and compute what offsite computes? Packages torch, transformers, safetensors.

    tools/check_emulators.py OFFSITE MODEL [TEXT]

MODEL is a Hugging Face folder (or a GGUF) of a decoder; TEXT any public text, for crash, whitened svd and distill. Each kind of offer is split off in f32,
opened by AutoModelForCausalLM with nothing missing and nothing left over, and its logits are compared with `offsite forward`. Offers that no plain model
expresses must say so in config.json, and transformers must refuse them.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
import transformers
from safetensors.torch import load_file, save_file

BAR = 2e-4  # of the largest logit


def plain_recipes(middle, text):
    keep = max(1, middle // 2)
    recipes = ["", f"layerdrop:keep={keep}", "prune:ratio=0.4", "fakequant:bits=4", "svd:ratio=0.8,factors=no", "quantize:bits=4,packed=no",
               f"layerdrop:keep={keep}|quantize:bits=8,packed=no"]
    if text:
        recipes += [f"crash:keep={keep},share=no", "svd:ratio=0.8,factors=no,whiten=yes", f"layerdrop:keep={keep}|distill:steps=2,block=16"]
    return recipes


def own_recipes(middle, text):
    recipes = ["quantize:bits=4", "prune:heads=0.4,channels=0.4", "svd:ratio=0.8"]
    return recipes + ([f"crash:keep={max(1, middle // 2)}"] if text and middle > 1 else [])


def run(program, *words):
    done = subprocess.run([program, *words], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"offsite {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def split(args, folder, recipe, number):
    offer = str(folder / f"offer{number}")
    words = ["split", args.model, "-o", offer, "--bottom", "1", "--top", "1", "--emulator", recipe, "--dtype", "f32", "--json", "--limit", "1", "--force"]
    if args.text:
        words += ["--data", args.text, "--block", "32"]
    return offer, json.loads(run(args.offsite, *words))


def difference(args, folder, offer, ids):
    model, report = transformers.AutoModelForCausalLM.from_pretrained(offer, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[what]:
            return f"{what} {sorted(report[what])[:3]}"
    with torch.no_grad():
        theirs = model.eval()(input_ids=ids).logits
    run(args.offsite, "forward", offer, "--input", str(folder / "in.safetensors"), "-o", str(folder / "out.safetensors"))
    ours = load_file(str(folder / "out.safetensors"))["logits"].float()
    worst = float((ours - theirs).abs().max() / theirs.abs().max())
    return worst if worst <= BAR else f"logits differ by {worst:.2e} of the largest"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("offsite")
    parser.add_argument("model")
    parser.add_argument("text", nargs="?")
    args = parser.parse_args()
    facts = json.loads(run(args.offsite, "inspect", args.model, "--json"))
    middle = facts["layers"] - 2
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        torch.manual_seed(1)
        offer, _ = split(args, folder, "", 0)
        ids = torch.randint(0, json.loads((pathlib.Path(offer) / "config.json").read_text())["vocab_size"], (2, 12))
        save_file({"input_ids": ids}, str(folder / "in.safetensors"))
        for number, recipe in enumerate(plain_recipes(middle, args.text)):
            offer, told = split(args, folder, recipe, number)
            found = difference(args, folder, offer, ids)
            fine = isinstance(found, float) and told["plain"]
            bad += not fine
            print(f"{'ok  ' if fine else 'FAIL'} {recipe or '(the whole middle)'}: {found if isinstance(found, str) else f'{found:.1e}'}", flush=True)
        for number, recipe in enumerate(own_recipes(middle, args.text)):
            offer, told = split(args, folder, recipe, 100 + number)
            kind = json.loads((pathlib.Path(offer) / "config.json").read_text())["model_type"]
            try:
                transformers.AutoModelForCausalLM.from_pretrained(offer)
                refused = False
            except (ValueError, KeyError, OSError):
                refused = True
            fine = kind == "offsite" and refused and not told["plain"]
            bad += not fine
            print(f"{'ok  ' if fine else 'FAIL'} {recipe}: only offsite opens it" + ("" if fine else f" (model_type {kind}, refused {refused})"), flush=True)
    print(f"{bad} wrong")
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
