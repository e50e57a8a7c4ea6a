# A run that would not fit is refused before it begins, with what would help; and what is advised does help.
. "$CLI_TEST_DIR/train_setup.sh"

set -- tune offer --train secret-notes.txt --valid held-out-notes.txt --block 48 --batch 16 --steps 2 -o tuned
run "$@" --json
planned=$(sed 's/.*"planned_bytes": *\([0-9]*\).*/\1/' out)
[ "$planned" -gt 1000000 ] || die "the plan is $(cat out)"
rm -r tuned
rm -f tuned.run.yaml

run "$@" --memory-limit "$planned"
rm -r tuned
fails 3 'tune needs .* MiB, --memory-limit is .*: try --recompute (.*), --batch 1 --grad-accum 16 (' "$@" --memory-limit $((planned - 1))
[ ! -e tuned ] || die "a refused run left its folder"
run "$@" --memory-limit 0
rm -r tuned

# One advice after another: what is named fits, what is not does not.
limit=$((planned / 3))
fails 3 'try --batch 1 --grad-accum 16' "$@" --memory-limit $limit
! grep -q 'recompute' err || die "--recompute is advised, though it is not enough: $(cat err)"
fails 3 'needs' "$@" --memory-limit $limit --recompute
run tune offer --train secret-notes.txt --valid held-out-notes.txt --block 48 --steps 2 -o tuned --memory-limit $limit --batch 1 --grad-accum 16
fails 3 'even --recompute --batch 1 --grad-accum 16 .*together need .*; try a smaller --block or a smaller model' "$@" --memory-limit 100K --force
fails 2 'memory-limit' "$@" --memory-limit many --force
