# --lr-grid: the winner is the run that its rate alone would have made, whenever the program was killed; and what is refused.
. "$CLI_TEST_DIR/train_setup.sh"

set -- tune offer --train secret-notes.txt --valid held-out-notes.txt --block 32 --batch 2 --steps 50 --seed 4 --valid-every 5 --dropout 0.1
grid='1e-4,3e-3,1e-2,3e4'

"$OFFSITE" "$@" --lr-grid $grid -o whole --log whole.jsonl --quiet >table 2>err </dev/null || die "the grid failed: $(cat err)"
[ ! -s err ] || die "on standard error: $(cat err)"
[ "$(grep -c 'kept$' table)" = 1 ] && grep -q '^ *lr  *valid loss' table || die "the table: $(cat table)"
rate=$(awk '/kept$/ { print $1 }' table)
# The losses of all runs are in one log, which plot tells apart.
[ "$(grep -c '"run": 1, .*"learning_rate"' whole.jsonl)" = 50 ] || die "the log of run 2 is not whole"
"$OFFSITE" plot whole.jsonl >plotted 2>err || die "plot: $(cat err)"

# The same as each rate alone, and the right one.
best=none best_loss=99
for lr in 1e-4 3e-3 1e-2; do
    run "$@" --lr $lr -o alone --json --force
    loss=$(sed 's/.*"best_valid_loss": *\([0-9.]*\).*/\1/' out)
    if awk "BEGIN { exit !($loss < $best_loss) }"; then best=$lr best_loss=$loss; mkdir -p keep; cp alone/adapter.safetensors keep/; fi
done
awk "BEGIN { exit !($rate == $best) }" || die "the grid kept $rate, best alone is $best"
cmp keep/adapter.safetensors whole/adapter.safetensors || die "the winner differs from the run of its rate alone"
[ "$(ls whole | sort | tr '\n' ' ')" = 'adapter.safetensors manifest.json ' ] || die "the return holds $(ls whole)"

# Killed at nine moments, in every run of the grid and between them (OFFSITE_KILLS=50: at 50 by a seeded sequence).
kills=0
moments='5 9 3 14 11 2 17 8 10'
[ -z "${OFFSITE_KILLS:-}" ] || moments=$(awk -v n="$OFFSITE_KILLS" 'BEGIN { srand(12); for (i = 0; i < n; i++) print 1 + int(rand() * 4) }')
for more in $moments; do
    before=$(lines killed.jsonl)
    "$OFFSITE" "$@" --lr-grid $grid -o killed --log killed.jsonl --save-every 1 --resume --quiet >out 2>err </dev/null &
    pid=$!
    polls=0
    while kill -0 $pid 2>/dev/null && [ "$(lines killed.jsonl)" -lt $((before + more)) ] && [ $polls -lt 3000 ]; do
        polls=$((polls + 1))
        sleep 0.005
    done
    kill -9 $pid 2>/dev/null && kills=$((kills + 1))
    wait $pid 2>/dev/null || :
    [ ! -s err ] || die "killed run $kills: $(cat err)"
done
echo "$kills kills hit a running program"
[ $kills -ge 5 ] || die "only $kills kills hit a running program"
fails 3 'an unfinished run: go on with --resume' "$@" --lr-grid $grid -o killed
fails 3 'other settings' "$@" --lr-grid 1e-4,1e-3 -o killed --resume
"$OFFSITE" "$@" --lr-grid $grid -o killed --log killed.jsonl --resume --quiet >killed.table 2>err </dev/null || die "resumed: $(cat err)"
diff -r whole killed || die "the resumed return differs"
for log in whole killed; do sed 's/, "tokens_per_second.*//' $log.jsonl >$log.cut; done
diff whole.cut killed.cut || die "the logs differ"
for t in table killed.table; do sed '/ in [0-9.]* s/d; /^wrote/d' $t >$t.cut; done
diff table.cut killed.table.cut || die "the tables differ"

# Other verbs; a grid whose every run fails; a grid without a judge.
for verb in 'finetune base' 'pretrain config' 'distill offer --teacher base'; do
    rm -rf grid alone
    set -- $verb --train secret-notes.txt --valid held-out-notes.txt --block 32 --steps 12
    run "$@" --lr-grid 1e-5,3e-3 -o grid --json
    rate=$(sed 's/.*"learning_rate": *\([0-9.e-]*\).*/\1/' out)
    run "$@" --lr "$rate" -o alone
    for file in grid/*.safetensors; do cmp "$file" "alone/${file#grid/}" || die "$verb: the winner differs"; done
done
set -- tune offer --train secret-notes.txt --valid held-out-notes.txt --block 32 --steps 20
fails 1 'none of the 2 runs of --lr-grid' "$@" --lr-grid 1e30,1e31 --clip 0 -o failed
fails 2 '.-lr-grid needs --valid FILE' tune offer --train secret-notes.txt --lr-grid 1e-3,1e-4 -o failed2
fails 2 'lr-grid' tune offer --train secret-notes.txt --lr-grid 1e-3,x -o failed2
