# Every term of the distillation loss against PyTorch (tools/make_distill_golden.py), and what the terms do to runs, offers and recipes.
. "$CLI_TEST_DIR/train_setup.sh"

golden=$CLI_TEST_DIR/../data/distill
run split "$golden/model" -o small --bottom 1 --top 1 --emulator layerdrop:keep=3
run distill small --teacher "$golden/model" --train "$golden/train.safetensors" --steps 8 --batch 2 --grad-accum 2 --lr 2e-3 --warmup 2 \
    --no-shuffle --dtype f32 --hidden-weight 5 --kl-weight 2 --kl-temperature 2 --log small.jsonl -o small2
keys='loss loss_lm loss_kd loss_hidden loss_kl grad_norm'
for key in $keys; do
    for file in "$golden/golden.json" small.jsonl; do
        sed -n "s/^{\"step\": \([0-9]*\), .*\"$key\": \([0-9.e-]*\).*/\1 \2/p" "$file" >"$key.$(basename "$file").series"
    done
    paste -d' ' "$key.golden.json.series" "$key.small.jsonl.series" | awk -v key="$key" '
        { d = $4 / $2 - 1; if ($1 != $3 || d > 2e-6 || d < -2e-6) { print key, "of step", $1 ":", $4, "instead of", $2; bad = 1 } }
        END { if (NR != 8) { print key ":", NR, "steps"; bad = 1 } exit bad }' || die "not PyTorch's"
done
grep -q 'hidden=5,kl=2,temperature=2"' small2.owner.json || die "$(cat small2.owner.json)"

# A term that is not asked for is neither in the log nor in the recipe, and each alone will do.
common="--teacher base --train secret-notes.txt --block 32 --batch 2 --steps 20 --lr 3e-3"
run distill offer $common --log plain.jsonl -o plain
grep -q 'loss_hidden\|loss_kl' plain.jsonl && die "a term that nobody asked for"
grep -q 'hidden=\|kl=' plain.owner.json && die "$(cat plain.owner.json)"
for only in '--hidden-weight 20' '--kl-weight 3'; do
    run distill offer $common --lm-weight 0 --kd-weight 0 $only --valid held-out-notes.txt --log only.jsonl -o only --force
    grep -q '"loss_kd"' only.jsonl && ! grep -q '"loss_lm"' only.jsonl || die "$only: $(head -1 only.jsonl)"
    key=loss_kl
    [ "${only#--hidden}" = "$only" ] || key=loss_hidden
    sed -n "s/.*\"$key\": \([0-9.e-]*\).*/\1/p" only.jsonl | awk -v what="$only" 'NR == 1 { a = $1 } { b = $1 } END { if (NR != 20 || b >= 0.8 * a) { print what ": from " a " to " b; exit 1 } }' ||
        die "it did not learn"
done

# Recompute and threads change nothing; bf16, stopping and going on work as ever.
run distill offer $common --hidden-weight 3 --kl-weight 2 -o terms
run distill offer $common --hidden-weight 3 --kl-weight 2 --recompute --threads 2 -o terms-again
cmp terms/model.safetensors terms-again/model.safetensors || die "recompute or threads changed the result"
run distill offer $common --hidden-weight 3 --kl-weight 2 --dtype bf16 -o half

# The same as keys of the recipe's step.
run split base -o before --emulator layerdrop:keep=2 --bottom 1 --top 1
run distill before --teacher base --train secret-notes.txt --block 16 --steps 6 --seed 3 --lr 3e-3 --hidden-weight 3 --kl-weight 2 --kl-temperature 1.5 -o apart
run split base -o piped --emulator 'layerdrop:keep=2|distill:steps=6,block=16,lr=3e-3,seed=3,hidden=3,kl=2,temperature=1.5' --bottom 1 --top 1 --data secret-notes.txt
cmp apart/model.safetensors piped/model.safetensors || die "the distill step is not offsite distill"
# Shared blocks and others that keep every place have a match at every place.
for recipe in crash:keep=2 prune:ratio=0.3; do
    run split base -o places --bottom 1 --top 1 --emulator "$recipe|distill:steps=3,block=16,hidden=1,kl=1" --data secret-notes.txt --force
done

run split base -o one --bottom 1 --top 1 --emulator layerdrop:keep=1
fails 2 'is one block' distill one $common --hidden-weight 1 -o no
fails 2 'without any of them' distill offer $common --kd-weight 0 -o no
fails 2 'kl-temperature' distill offer $common --kl-weight 1 --kl-temperature 0 -o no
fails 2 'hidden-weight' distill offer $common --hidden-weight -1 -o no
[ ! -e no ] || die "a refused run left a folder"
