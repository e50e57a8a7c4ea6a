#!/bin/sh
# Is a distilled emulator better than an undistilled one of the same size, on a text of another source? See docs/distill.md.
#
#   run.sh MODEL PUBLIC.txt PRIVATE.txt [-o DIR]
#
# The owner distils on PUBLIC; the data owner tunes on the first half of PRIVATE; perplexity is that of the second half. Both emulators go through the same
# tuning; the five numbers and the three conditions are printed for both. OFFSITE names the program (default: build/offsite of this checkout), THREADS the
# processor threads (default: all). Settings: see below; each may be given in the environment. AGAIN=--resume keeps what is trained already.
#
# owner$ and client$ are the two parties; baseline$ has both the model and the data, which no party of a real exchange has.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(CDPATH='' cd -- "$here/../.." && pwd)
out=distill-run
. "$here/../words.sh"
take_words "MODEL PUBLIC PRIVATE" "$@"

bottom=${BOTTOM:-2} top=${TOP:-2} keep=${KEEP:-20} block=${BLOCK:-512} dtype=${DTYPE:-bf16} threads=${THREADS:-0} seed=${SEED:-1}
distill_steps=${DISTILL_STEPS:-100} distill_lr=${DISTILL_LR:-3e-4} distill_more=${DISTILL_MORE:-}
steps=${STEPS:-80} lr=${LR:-2e-4} full_lr=${FULL_LR:-1e-4} limit=${LIMIT:-40}
again=${AGAIN:---force}
export OMP_WAIT_POLICY=passive
mkdir -p "$out"

# say WHO WORDS...: print the command, then run it.
say() {
    who=$1
    shift
    echo "$who\$ offsite $*"
    case $1 in
    plug) "$offsite" "$@" --quiet ;; # reads and writes, computes nothing
    *) "$offsite" "$@" --threads "$threads" --quiet ;;
    esac
}
# score NAME WHO WORDS...: perplexity on the test half, kept for the table.
score() {
    name=$1 who=$2
    shift 2
    echo "$who\$ offsite eval $* --blocks $out/test.txt --block $block --limit $limit --dtype $dtype"
    "$offsite" eval "$@" --blocks "$out/test.txt" --block "$block" --limit "$limit" --dtype "$dtype" --threads "$threads" --json --quiet >"$out/$name.json"
}
perplexity() { sed 's/.*"perplexity": \([0-9.e+-]*\).*/\1/' "$out/$1.json"; }

size=$(wc -c <"$private")
head -c $((size / 2)) "$private" >"$out/train.txt"
tail -c +$((size / 2 + 1)) "$private" >"$out/test.txt"
size=$(wc -c <"$public") # the end of the public text chooses the best step
head -c $((size - 40000)) "$public" >"$out/public.txt"
tail -c 40000 "$public" >"$out/held-out.txt"
common="--block $block --dtype $dtype --seed $seed"

[ "$again" = --resume ] && [ -e "$out/plain/manifest.json" ] ||
    say owner split "$model" -o "$out/plain" --bottom "$bottom" --top "$top" --emulator "layerdrop:keep=$keep" --force
# shellcheck disable=SC2086 # lists of words
say owner distill "$out/plain" --teacher "$model" --train "$out/public.txt" --valid "$out/held-out.txt" --valid-every 50 --steps "$distill_steps" \
    --lr "$distill_lr" $common $distill_more --log "$out/distill.jsonl" -o "$out/distilled" "$again"
score zero-shot owner "$model"
for offer in plain distilled; do
    score "$offer-emulator" client "$out/$offer"
    # shellcheck disable=SC2086
    say client tune "$out/$offer" --train "$out/train.txt" --steps "$steps" --lr "$lr" $common --log "$out/$offer-tune.jsonl" -o "$out/$offer-return" "$again"
    score "$offer-tuned" client "$out/$offer" --adapter "$out/$offer-return"
    say owner plug "$model" "$out/$offer-return" --ledger "$out/$offer.owner.json" -o "$out/plugged" --force
    score "$offer-plug-in" owner "$out/plugged"
done
# shellcheck disable=SC2086
say baseline finetune "$model" --train "$out/train.txt" --steps "$steps" --lr "$full_lr" $common -o "$out/full" "$again"
score full baseline "$out/full"
rm -rf "$out/plugged"

awk -v zs="$(perplexity zero-shot)" -v ft="$(perplexity full)" \
    -v em0="$(perplexity plain-emulator)" -v et0="$(perplexity plain-tuned)" -v pi0="$(perplexity plain-plug-in)" \
    -v em1="$(perplexity distilled-emulator)" -v et1="$(perplexity distilled-tuned)" -v pi1="$(perplexity distilled-plug-in)" '
function row(what, a, b) { printf "  %-44s %12.2f %12.2f\n", what, a, b }
function yes(x) { return x ? "yes" : "no" }
function both(what, a, b) { printf "  %-44s %12s %12s\n", what, yes(a), yes(b) }
BEGIN {
    printf "\n  %-44s %12s %12s\n", "perplexity of the second half (lower is better)", "plain", "distilled"
    row("zero-shot", zs, zs); row("emulator", em0, em1); row("tuned emulator", et0, et1); row("plug-in", pi0, pi1); row("full fine-tuning", ft, ft)
    printf "\n  conditions\n"
    both("zero-shot is worse than plug-in", zs > pi0, zs > pi1)
    both("the tuned emulator is worse than plug-in", et0 > pi0, et1 > pi1)
    both("plug-in is within 25 % of full fine-tuning", pi0 <= 1.25 * ft, pi1 <= 1.25 * ft)
    printf "\n  distillation changed the plug-in by a factor of %.3f\n", pi1 / pi0
}'
