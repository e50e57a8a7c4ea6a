#!/usr/bin/env python3
"""Training steps of `offsite bench` and of PyTorch, alternately in the same minutes, and the ratio of the two.

    bench/compare_torch.py build/offsite [--size gpt2-small] [--modes ft,ot,ft-lora,ot-lora] [--dtypes f32,bf16] [--rounds 3]

Both sides train the same shapes with random weights: batch 1, --seq tokens, clipping, AdamW. In bf16 PyTorch keeps frozen weights in
bf16, trained ones in f32, and computes under autocast, as Offsite does. Needs torch, transformers and peft; prints a Markdown table,
and with --jsonl FILE every measurement. The machine may drift while it runs, so only ratios of one round mean anything.
"""
import argparse
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import time

SHAPES = {
    "gpt2-small": ("GPT2Config", dict(n_layer=12, n_embd=768, n_head=12)),
    "opt-1.3b": ("OPTConfig", dict(num_hidden_layers=24, hidden_size=2048, ffn_dim=8192, num_attention_heads=32, word_embed_proj_dim=2048)),
    "smollm2-135m": ("LlamaConfig", dict(hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
                                         num_key_value_heads=3, vocab_size=49152, tie_word_embeddings=True)),
}
BLOCK_LISTS = {"gpt2": "transformer.h", "opt": "model.decoder.layers", "llama": "model.layers"}


def torch_side(args):
    """One measurement in this process; prints one JSON line."""
    import peft
    import torch
    import transformers

    torch.manual_seed(1)
    if args.threads:
        torch.set_num_threads(args.threads)
    kind, shape = SHAPES[args.size]
    config = getattr(transformers, kind)(**shape, use_cache=False)
    for key in ("attn_pdrop", "embd_pdrop", "resid_pdrop", "dropout", "attention_dropout"):
        if hasattr(config, key):
            setattr(config, key, 0.0)
    layers = config.num_hidden_layers
    offsite, lora = args.mode.startswith("ot"), args.mode.endswith("-lora")
    run_layers = 4 + max(2, (layers - 4) * 2 // 5) if offsite else layers
    setattr(config, "n_layer" if hasattr(config, "n_layer") else "num_hidden_layers", run_layers)
    trained = [0, 1, run_layers - 2, run_layers - 1] if offsite else list(range(run_layers))

    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    model.requires_grad_(False)
    blocks = model.get_submodule(BLOCK_LISTS[config.model_type])
    if lora:
        linear = {name.rsplit(".", 1)[-1] for name, module in blocks[0].named_modules() if type(module).__name__ in ("Linear", "Conv1D")}
        peft.inject_adapter_in_model(
            peft.LoraConfig(r=4, lora_alpha=32, target_modules=sorted(linear), layers_to_transform=trained,
                            fan_in_fan_out=config.model_type == "gpt2"), model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("lora_" in name)
    else:
        for index in trained:
            blocks[index].requires_grad_(True)
    if args.dtype == "bf16":
        for parameter in model.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data.bfloat16()
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, fused=True)
    ids = torch.randint(0, config.vocab_size, (1, args.seq))

    def step():
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.dtype == "bf16"):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    seconds = []
    for index in range(args.steps + 2):
        start = time.perf_counter()
        step()
        if index >= 2:
            seconds.append(time.perf_counter() - start)
    print(json.dumps({"engine": "torch " + torch.__version__, "blocks": run_layers, "trained_values": sum(p.numel() for p in parameters),
                      "tokens_per_s": args.seq / statistics.median(seconds),
                      "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


def measure(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("offsite", nargs="?", default="build/offsite")
    parser.add_argument("--size", choices=sorted(SHAPES), default="gpt2-small")
    parser.add_argument("--modes", default="ft,ot,ft-lora,ot-lora")
    parser.add_argument("--dtypes", default="f32,bf16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--seq", type=int, default=512)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--jsonl", type=pathlib.Path)
    parser.add_argument("--mode", help=argparse.SUPPRESS)
    parser.add_argument("--dtype", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.mode:
        return torch_side(args)

    shared = ["--size", args.size, "--steps", str(args.steps), "--seq", str(args.seq)]
    if args.threads:
        shared += ["--threads", str(args.threads)]
    print(f"{args.size}, {args.seq} tokens, batch 1, {args.rounds} rounds\n")
    print("| mode, dtype | Offsite tokens/s | PyTorch tokens/s | ratio, lowest to highest | median | peak memory, MB |\n|---|---|---|---|---|---|")
    for dtype in args.dtypes.split(","):
        for mode in args.modes.split(","):
            ours, theirs = [], []
            for _ in range(args.rounds):
                what = shared + ["--mode", mode, "--dtype", dtype]
                ours.append(measure([args.offsite, "bench", "--json"] + what))
                theirs.append(measure([sys.executable, __file__] + what))
                if ours[-1]["trained_values"] != theirs[-1]["trained_values"] or ours[-1]["blocks"] != theirs[-1]["blocks"]:
                    sys.exit(f"{mode}: the two sides do not train the same: {ours[-1]} {theirs[-1]}")
            if args.jsonl:
                with args.jsonl.open("a") as out:
                    for one in ours + theirs:
                        out.write(json.dumps({**one, "size": args.size, "mode": mode, "dtype": dtype}) + "\n")
            rates = lambda runs: "-".join(f"{rate:.0f}" for rate in (min(r["tokens_per_s"] for r in runs), max(r["tokens_per_s"] for r in runs)))
            ratios = sorted(a["tokens_per_s"] / b["tokens_per_s"] for a, b in zip(ours, theirs))
            memory = lambda runs: f"{max(r['peak_rss_bytes'] for r in runs) / 1e6:,.0f}"
            print(f"| {mode}, {dtype} | {rates(ours)} | {rates(theirs)} | {ratios[0]:.2f}-{ratios[-1]:.2f} | {statistics.median(ratios):.2f} | "
                  f"{memory(ours)} against {memory(theirs)} |", flush=True)


if __name__ == "__main__":
    main()
