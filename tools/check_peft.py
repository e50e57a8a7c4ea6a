#!/usr/bin/env python3
"""Open adapters that offsite wrote with PEFT, and adapters that PEFT wrote with offsite, and compare the logits.

    check_peft.py OFFSITE MODEL_DIR... [--rtol R]

For each decoder: LoRA and DoRA returns over its offer, the plugged adapter over the whole model, its merge, a prefix in every block, soft prompts and IA3 as
LoRA, words written behind a soft prompt, and PEFT's own LoRA with patterns of rank and alpha, rank-stabilised scale and targets that are a regular expression, and DoRA. Needs torch, transformers and peft.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

PLAIN = {"dtype": torch.float32, "attn_implementation": "eager"}
failures = 0


def offsite(binary, *args):
    done = subprocess.run([binary, *map(str, args)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"offsite {' '.join(map(str, args))}: {done.stderr.strip()}")
    return done.stdout


def theirs(model, ids):
    model.eval()
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits.float()


def load(path):
    return transformers.AutoModelForCausalLM.from_pretrained(path, **PLAIN)


class Checker:
    def __init__(self, binary, model, work, rtol):
        self.binary, self.model, self.work, self.rtol = binary, pathlib.Path(model), pathlib.Path(work), rtol
        config = json.loads((self.model / "config.json").read_text())
        self.conv1d = config["model_type"] == "gpt2"
        self.blocks = config.get("n_layer") or config.get("num_hidden_layers")
        # 0 to 3 are special somewhere.
        self.ids = torch.randint(4, config["vocab_size"], (2, 9), generator=torch.Generator().manual_seed(5))
        save_file({"input_ids": self.ids}, self.work / "ids.safetensors")

    def ours(self, model, adapter=None):
        out = self.work / "out.safetensors"
        extra = ["--adapter", adapter] if adapter else []
        offsite(self.binary, "forward", model, "--input", self.work / "ids.safetensors", "-o", out, "--threads", 1, *extra)
        return load_file(out)["logits"]

    def compare(self, what, ours, expected, base):
        """base: logits without the adapter, which must differ, or nothing was tested."""
        global failures
        error, size = (ours - expected).abs().max().item(), expected.abs().max().item()
        changed = (expected - base).abs().max().item()
        good = error <= self.rtol * size and changed > 100 * error
        failures += not good
        print(f"{'ok  ' if good else 'FAIL'} {self.model.name}: {what}: off by {error:.2e} of {size:.2f}, the adapter changes {changed:.2e}")

    def train(self, verb, target, out, method):
        offsite(self.binary, verb, target, "--train", self.work / "ids.safetensors", "--peft", method, "--steps", 12, "--warmup", 1, "--lr", "2e-2",
                "--batch", 1, "--threads", 1, "-o", out)

    def own_lora(self, method):
        what, name = ("DoRA" if method.startswith("dora") else "LoRA"), method[:4]
        offer, back, plugged, merged = (self.work / f"{name}-{n}" for n in ("offer", "back", "plugged", "merged"))
        offsite(self.binary, "split", self.model, "-o", offer, "--bottom", 1, "--top", int(self.blocks > 2), "--emulator",
                "layerdrop:keep=1")
        self.train("tune", offer, back, method)
        base, whole = theirs(load(offer), self.ids), theirs(load(self.model), self.ids)
        self.compare(f"{what} return over the offer", self.ours(offer, back), theirs(peft.PeftModel.from_pretrained(load(offer), back), self.ids), base)
        offsite(self.binary, "plug", self.model, back, "-o", plugged)
        over = theirs(peft.PeftModel.from_pretrained(load(self.model), plugged), self.ids)
        self.compare(f"plugged {what} over the model", self.ours(self.model, plugged), over, whole)
        self.compare(f"{what} return over the model", self.ours(self.model, back), over, whole)
        offsite(self.binary, "plug", self.model, back, "-o", merged, "--merge", "--dtype", "f32")
        self.compare(f"merged {what}", theirs(load(merged), self.ids), over, whole)

    def own_targets(self):
        """One target of two linears with the same last name, where there are such."""
        linear = {"gpt2": "mlp.c_proj", "opt": "fc2,v_proj"}.get(self.model_type(), None)
        out = self.work / "targets"
        if linear is None:
            return
        self.train("finetune", self.model, out, f"lora:r=2,targets={linear}")
        base = theirs(load(self.model), self.ids)
        self.compare(f"LoRA on {linear}", self.ours(self.model, out), theirs(peft.PeftModel.from_pretrained(load(self.model), out), self.ids), base)

    def model_type(self):
        return json.loads((self.model / "config.json").read_text())["model_type"]

    def own_prefix(self):
        """A sliding window hides transformers' prefix from late tokens, and never ours: no comparison there."""
        if json.loads((self.model / "config.json").read_text()).get("sliding_window"):
            return
        out = self.work / "prefix"
        self.train("finetune", self.model, out, "prefix:tokens=3")
        base = theirs(load(self.model), self.ids)
        model = peft.PeftModel.from_pretrained(load(self.model), out).eval()
        with torch.no_grad():
            expected = model(input_ids=self.ids).logits
        self.compare("prefix in every block", self.ours(self.model, out), expected, base)

    def own_prompt(self):
        """Over an offer and, plugged, over the model: the same tensor."""
        offer, back, plugged = (self.work / n for n in ("prompt-offer", "prompt-back", "prompt-plugged"))
        offsite(self.binary, "split", self.model, "-o", offer, "--bottom", 1, "--top", int(self.blocks > 2), "--emulator", "layerdrop:keep=1")
        self.train("tune", offer, back, "prompt:tokens=3")
        offsite(self.binary, "plug", self.model, back, "-o", plugged)
        for what, base, adapter in (("over the offer", offer, back), ("plugged", self.model, plugged)):
            expected = theirs(peft.PeftModel.from_pretrained(load(base), adapter), self.ids)[:, 3:]
            self.compare(f"soft prompt {what}", self.ours(base, adapter), expected, theirs(load(base), self.ids))

    def own_ia3(self):
        offer, back, plugged = (self.work / n for n in ("ia3-offer", "ia3-back", "ia3-plugged"))
        offsite(self.binary, "split", self.model, "-o", offer, "--bottom", 1, "--top", int(self.blocks > 2), "--emulator", "layerdrop:keep=1")
        self.train("tune", offer, back, "ia3")
        offsite(self.binary, "plug", self.model, back, "-o", plugged)
        for what, base, adapter in (("over the offer", offer, back), ("plugged", self.model, plugged)):
            expected = theirs(peft.PeftModel.from_pretrained(load(base), adapter), self.ids)
            self.compare(f"IA3 {what}", self.ours(base, adapter), expected, theirs(load(base), self.ids))

    def own_generation(self):
        """Greedy words behind a soft prompt, through the cache."""
        out = self.work / "prompt-all"
        self.train("finetune", self.model, out, "prompt:tokens=3")
        model = peft.PeftModel.from_pretrained(load(self.model), out).eval()
        ids = json.loads(offsite(self.binary, "generate", self.model, "--adapter", out, "--input", self.work / "ids.safetensors", "--max-new", 5,
                                 "--greedy", "--ignore-eos", "--json", "--threads", 1))["ids"]
        sequence = self.ids
        for _ in range(5):
            sequence = torch.cat([sequence, theirs(model, sequence)[:, -1].argmax(-1, keepdim=True)], 1)
        global failures
        good = ids == sequence[:, self.ids.shape[1]:].tolist()
        failures += not good
        print(f"{'ok  ' if good else 'FAIL'} {self.model.name}: greedy words behind a soft prompt")

    def round_trip(self, theirs_dir, options):
        """PEFT -> offsite -> PEFT: a step at rate zero changes no bit."""
        back = self.work / f"round-trip-{options.get('use_dora', False)}"
        offsite(self.binary, "finetune", self.model, "--train", self.work / "ids.safetensors", "--peft", f"{'dora' if options.get('use_dora') else 'lora'}:r={options['r']},alpha={options['lora_alpha']}",
                "--init-adapter", theirs_dir, "--steps", 1, "--lr", 0, "--warmup", 0, "--threads", 1, "-o", back)
        one, two = (load_file(d / "adapter_model.safetensors") for d in (theirs_dir, back))
        global failures
        good = one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
        failures += not good
        print(f"{'ok  ' if good else 'FAIL'} {self.model.name}: PEFT -> offsite -> PEFT, {len(one)} tensors bit by bit")

    def their_lora(self, what, **options):
        torch.manual_seed(1)
        model = peft.get_peft_model(load(self.model), peft.LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.1, fan_in_fan_out=self.conv1d, **options))
        with torch.no_grad():
            for name, p in model.named_parameters():
                if "magnitude" in name:
                    p.mul_(1 + 0.3 * torch.randn(p.shape))
                elif "lora_" in name:
                    p.normal_(std=0.1)
        out = self.work / "theirs"
        model.save_pretrained(out)
        if what.startswith("all linears") and not self.model_type() == "opt":
            self.round_trip(out, options)
        self.compare(f"PEFT's {'DoRA' if options.get('use_dora') else 'LoRA'}, {what}", self.ours(self.model, out), theirs(model, self.ids), theirs(load(self.model), self.ids))

    def run(self):
        self.own_lora("lora:r=3,alpha=7,rslora=yes")
        self.own_lora("dora:r=3,alpha=7")
        self.own_targets()
        self.own_prefix()
        self.own_prompt()
        self.own_ia3()
        self.own_generation()
        names = {"gpt2": ["c_attn", "c_fc"], "opt": ["q_proj", "fc2"], "bloom": ["query_key_value", "dense_4h_to_h"]}
        first, second = names.get(self.model_type(), ["q_proj", "down_proj"])
        # Linears outside the blocks (OPT-350m's) are not read.
        outside = ["project_in", "project_out"] if self.model_type() == "opt" else None
        self.their_lora("all linears", r=2, lora_alpha=5, target_modules="all-linear", exclude_modules=outside)
        self.their_lora("all linears, scaled", r=2, lora_alpha=5, target_modules="all-linear", exclude_modules=outside, use_dora=True)
        self.their_lora("patterns, scaled", r=2, lora_alpha=5, target_modules=[first, second], rank_pattern={first: 3}, use_dora=True, use_rslora=True)
        self.their_lora("patterns", r=2, lora_alpha=5, target_modules=[first, second], rank_pattern={first: 3}, alpha_pattern={rf"\d+\.\w+\.{second}": 9})
        self.their_lora("some blocks, rank-stabilised", r=4, lora_alpha=6, target_modules=[second], layers_to_transform=[1], use_rslora=True)
        self.their_lora("a regular expression", r=2, lora_alpha=5, target_modules=rf".*\.[02]\..*{second}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("offsite")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--rtol", type=float, default=2e-5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    for model in args.models:
        with tempfile.TemporaryDirectory() as work:
            Checker(args.offsite, model, work, args.rtol).run()
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
