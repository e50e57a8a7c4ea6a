#!/bin/sh
# A classifier tuned offsite on pictures of other classes: the five numbers and the three conditions. See docs/vision.md.
#
#   run.sh MODEL TRAIN TEST PUBLIC [-o DIR]
#
# MODEL: a folder of ViT, CLIP or EVA with a classifier. TRAIN, TEST: the data owner's pictures, a folder with a folder for each class, an archive of
# such folders, or a part of one (cifar10.tar/train). PUBLIC: any pictures, without labels, for the owner to distil the emulator on.
# OFFSITE names the program (default: build/offsite of this checkout), THREADS the processor threads (default: all). Settings: see below; each may be
# given in the environment. PART=1 ... 6 runs that part alone, the parts before it being there already.
#
# owner$ and client$ are the two parties; nothing passes between them but an offer and a return. baseline$ has both the model and the data, which no
# party of a real exchange has: it computes what the result is compared with.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(CDPATH='' cd -- "$here/../.." && pwd)
out=vision-run
. "$here/../words.sh"
take_words "MODEL TRAIN TEST PUBLIC" "$@"

bottom=${BOTTOM:-4} top=${TOP:-4} emulator=${EMULATOR:-layerdrop:keep=2}
distill_steps=${DISTILL_STEPS:-600} distill_lr=${DISTILL_LR:-3e-4}
steps=${STEPS:-500} batch=${BATCH:-16} lr=${LR:-1e-4} head_scale=${HEAD_SCALE:-10} probe_lr=${PROBE_LR:-1e-4} augment=${AUGMENT:-flip}
limit=${LIMIT:-2000} part=${PART:-all}
export OMP_WAIT_POLICY=passive
[ -z "${THREADS:-}" ] || export OMP_NUM_THREADS="$THREADS"
mkdir -p "$out"

here_is() { [ "$part" = all ] || [ "$part" = "$1" ]; }
# say WHO WORDS...: print the command, then run it.
say() {
    who=$1
    shift
    echo "$who\$ offsite $*"
    "$offsite" "$@" --quiet
}
common="--batch $batch --steps $steps"
# score NAME WORDS...: accuracy on TEST, kept for the table.
score() {
    name=$1 who=$2
    shift 2
    echo "$who\$ offsite eval $* --images $test --limit $limit"
    "$offsite" eval "$@" --images "$test" --limit "$limit" --json --quiet >"$out/$name.json"
    sed 's/{"acc": \([0-9.e-]*\), "acc_stderr": \([0-9.e-]*\), "acc_top5": \([0-9.e-]*\), "loss": \([0-9.e-]*\), "images": \([0-9]*\).*/top-1 \1 (± \2), top-5 \3, loss \4 over \5 pictures/' "$out/$name.json"
}

if here_is 1; then # the owner's offer
    say owner split "$model" -o "$out/offer0" --bottom "$bottom" --top "$top" --emulator "$emulator" --force
    say owner distill "$out/offer0" --teacher "$model" --train "$public" --batch "$batch" --steps "$distill_steps" --lr "$distill_lr" \
        --log "$out/distill.jsonl" -o "$out/offer" --force
fi
if here_is 2; then # zero-shot: the model as it is, with a head for the new classes alone
    say baseline finetune "$model" --peft head --train "$train" $common --lr "$probe_lr" --log "$out/probe.jsonl" -o "$out/probe" --force
    score zero-shot baseline "$model" --adapter "$out/probe"
fi
if here_is 3; then # the same of the emulator
    say client finetune "$out/offer" --peft head --train "$train" $common --lr "$probe_lr" -o "$out/emulator-probe" --force
    score emulator client "$out/offer" --adapter "$out/emulator-probe"
fi
if here_is 4; then # the data owner tunes
    say client tune "$out/offer" --train "$train" $common --lr "$lr" --head-lr-scale "$head_scale" --augment "$augment" --log "$out/tune.jsonl" -o "$out/return" --force
    score tuned-emulator client "$out/offer" --adapter "$out/return"
fi
if here_is 5; then # the owner plugs in
    say owner plug "$model" "$out/return" -o "$out/plugged" --force
    score plug-in owner "$out/plugged"
fi
if here_is 6; then # the upper baseline
    say baseline finetune "$model" --train "$train" $common --lr "$lr" --head-lr-scale "$head_scale" --augment "$augment" --log "$out/finetune.jsonl" -o "$out/finetuned" --force
    score full-fine-tuning baseline "$out/finetuned"
fi

accuracy() { sed 's/{"acc": \([0-9.e-]*\).*/\1/' "$out/$1.json"; }
for name in zero-shot emulator tuned-emulator plug-in full-fine-tuning; do [ -f "$out/$name.json" ] || exit 0; done
"$offsite" plot "$out/tune.jsonl" "$out/finetune.jsonl" "$out/probe.jsonl" -o "$out/loss.svg" --title 'Training loss' --quiet
"$offsite" plot "$out/distill.jsonl" -o "$out/distill.svg" --title 'Distance of the emulator from the middle' --quiet
awk -v zs="$(accuracy zero-shot)" -v em="$(accuracy emulator)" -v et="$(accuracy tuned-emulator)" -v pi="$(accuracy plug-in)" -v ft="$(accuracy full-fine-tuning)" '
function yes(x) { return x ? "holds" : "does not hold" }
BEGIN {
    printf "\n| zero-shot (linear probe) | emulator (linear probe) | tuned emulator | plug-in | full fine-tuning |\n|---|---|---|---|---|\n"
    printf "| %.1f %% | %.1f %% | %.1f %% | %.1f %% | %.1f %% |\n\n", 100 * zs, 100 * em, 100 * et, 100 * pi, 100 * ft
    printf "zero-shot below plug-in: %s (%+.1f)\n", yes(zs < pi), 100 * (pi - zs)
    printf "tuned emulator below plug-in: %s (%+.1f)\n", yes(et < pi), 100 * (pi - et)
    printf "plug-in close to full fine-tuning: %+.1f\n", 100 * (pi - ft)
}'
