#!/usr/bin/env python3
"""What the low-rank products of LoRA cost, by difference: the blocks' time of a step with them less that of a step without.

    bench/low_rank.py build/offsite [--size smollm2-135m] [--dropout 0] [--dtype f32] [--seq 512] [--rounds 10] [-- more options of offsite bench]

Low-rank products that are done in the same call as the linear beside them have no time of their own, so that a profile cannot tell.
Both steps are `offsite bench --mode ft --profile` on random weights, run alternately; the one without products trains a soft prompt of
one token before a sequence that is shorter by one, whose backward goes through all frozen blocks, too. It differs in the input gradients of
the first block's first linears, which LoRA does not need: less than a hundredth. The machine may drift while it runs: rounds are compared
one by one, and their median is printed, beside the fastest step of either side.
"""
import argparse
import json
import statistics
import subprocess
import sys

WITHOUT = "prompt:tokens=1"


def blocks(args, peft, tokens):
    """Milliseconds in the blocks, and of these by low-rank products done alone and by linears that take one along."""
    command = [args.binary, "bench", "--size", args.size, "--mode", "ft", "--peft", peft, "--dtype", args.dtype, "--seq", str(tokens), "--steps", str(args.steps), "--warm-up", "1",
               "--profile", "--json", *args.more]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        sys.exit(f"{' '.join(command)}: {run.stderr.strip()}")
    result = json.loads(run.stdout)
    return [1e3 * result.get(key, 0.0) for key in ("blocks_s", "low_rank_s", "linear_with_low_rank_s")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--size", default="smollm2-135m")
    parser.add_argument("--dropout", default="0")
    parser.add_argument("--dtype", default="f32", choices=["f32", "bf16"])
    parser.add_argument("--seq", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("more", nargs="*")
    args = parser.parse_args()
    with_, without, alone, along = [], [], [], []
    for index in range(args.rounds):
        sides = [(f"lora:dropout={args.dropout}", args.seq, with_), (WITHOUT, args.seq - 1, without)]
        for peft, tokens, times in sides if index % 2 == 0 else reversed(sides):
            total, products, linears = blocks(args, peft, tokens)
            times.append(total)
            if times is with_:
                alone.append(products)
                along.append(linears)
    differences = [a - b for a, b in zip(with_, without)]
    shares = [d / b for d, b in zip(differences, without)]
    print(f"{args.size}, {args.dtype}, dropout {args.dropout}, {args.rounds} rounds; milliseconds in the blocks")
    print(f"  with LoRA       median {statistics.median(with_):8.1f}   best {min(with_):8.1f}")
    print(f"  without         median {statistics.median(without):8.1f}   best {min(without):8.1f}")
    median, best = statistics.median(differences), min(with_) - min(without)
    print(f"  difference      median {median:8.1f}   best {best:8.1f}")
    print(f"  of those without       {100 * statistics.median(shares):7.1f} %        {100 * best / min(without):7.1f} %")
    print(f"  of those with          {100 * median / statistics.median(with_):7.1f} %        {100 * best / min(with_):7.1f} %")
    print(f"  low-rank products done alone {statistics.median(alone):.1f}, linears that take one along {statistics.median(along):.1f}")


if __name__ == "__main__":
    main()
