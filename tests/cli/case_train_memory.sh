# A run that would not fit is refused before it begins, with what would help; and what is advised does help.
. "$CLI_TEST_DIR/train_setup.sh"

# The plan of the run in `out` against its peak; a sanitizer's own memory would count.
right_within_5() {
    peak=$(sed 's/.*"peak_memory_bytes": *\([0-9]*\).*/\1/' out)
    ! ldd "$OFFSITE" | grep -q 'lib[a-z]*san' || return 0
    [ $((planned * 100)) -gt $((peak * 95)) ] && [ $((planned * 100)) -lt $((peak * 105)) ] || die "the plan is $planned, the peak was $peak"
}

set -- tune offer --train secret-notes.txt --valid held-out-notes.txt --block 48 --batch 16 --steps 2 -o tuned
run "$@" --json
planned=$(sed 's/.*"planned_bytes": *\([0-9]*\).*/\1/' out)
[ "$planned" -gt 1000000 ] || die "the plan is $(cat out)"
right_within_5
rm -r tuned
rm -f tuned.run.yaml

run "$@" --memory-limit "$planned"
rm -r tuned
fails 3 'tune needs .* MiB, --memory-limit is .*: try --recompute (.*), --batch 1 --grad-accum 16 (' "$@" --memory-limit $((planned - 1))
[ ! -e tuned ] || die "a refused run left its folder"
run "$@" --memory-limit 0
rm -r tuned

# One advice after another: what is named fits, what is not does not.
program=$((14 << 20)) # of which nothing can be saved
limit=$((program + (planned - program) / 3))
fails 3 'try --batch 1 --grad-accum 16' "$@" --memory-limit $limit
! grep -q 'recompute' err || die "--recompute is advised, though it is not enough: $(cat err)"
fails 3 'needs' "$@" --memory-limit $limit --recompute
run tune offer --train secret-notes.txt --valid held-out-notes.txt --block 48 --steps 2 -o tuned --memory-limit $limit --batch 1 --grad-accum 16
fails 3 'even --recompute --batch 1 --grad-accum 16 .*together need .*; try a smaller --block or a smaller model' "$@" --memory-limit 100K --force
fails 2 'memory-limit' "$@" --memory-limit many --force

# A model whose moments are what is large: LoRA and 8-bit moments, one by one, and everything together.
sed 's/"n_embd": 32/"n_embd": 256/' config/config.json >wide.json && mv wide.json config/config.json
set -- --train secret-notes.txt --valid held-out-notes.txt --block 32 --steps 2
run pretrain config -o wide "$@"
set -- finetune wide "$@" -o tuned
run "$@" --json
planned=$(sed 's/.*"planned_bytes": *\([0-9]*\).*/\1/' out)
right_within_5
rm -r tuned
fails 3 'try .*--optimizer adamw8bit (.*--peft lora (about' "$@" --memory-limit $((planned * 8 / 10))
run "$@" --memory-limit $((planned * 8 / 10)) --optimizer adamw8bit
fails 3 'try --peft lora (about [0-9.]* MiB)$' "$@" --memory-limit $((planned * 6 / 10)) --force
run "$@" --memory-limit $((planned * 6 / 10)) --peft lora --force
