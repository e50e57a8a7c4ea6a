# A run that is killed without warning at many random moments and resumed each time returns the same bytes as one that never was.
# OFFSITE_KILLS=50 ctest --test-dir build -R cli_case_train_kill -V      ten by default
. "$CLI_TEST_DIR/train_setup.sh"

KILLS=${OFFSITE_KILLS:-10}
STEPS=$((KILLS * 12))
set -- tune offer --train secret-notes.txt --valid held-out-notes.txt --block 32 --batch 2 --grad-accum 2 --steps $STEPS --lr 3e-3 --seed 4 \
    --valid-every 7 --dropout 0.1 --guard skip --patience 1000
run "$@" -o whole --log whole.jsonl

# After r more steps, r and the moment inside a step by a seeded sequence.
awk -v n="$KILLS" 'BEGIN { srand(11); for (i = 0; i < n; i++) print 1 + int(rand() * 9), rand() * 0.01 }' >moments
kills=0 saving=0
while read -r more pause; do
    before=$(lines killed.jsonl)
    "$OFFSITE" "$@" -o killed --log killed.jsonl --save-every 1 --keep $((1 + kills % 3)) --resume --quiet >out 2>err </dev/null &
    pid=$!
    polls=0
    # The log of a resumed run is cut back first, so count from what is there then.
    while kill -0 $pid 2>/dev/null && [ "$(lines killed.jsonl)" -lt $((before + more)) ] && [ $polls -lt 3000 ]; do
        polls=$((polls + 1))
        sleep 0.005
    done
    sleep "$pause"
    kill -9 $pid 2>/dev/null && kills=$((kills + 1))
    wait $pid 2>/dev/null || :
    [ ! -s err ] || die "killed run $kills: $(cat err)"
    case $(ls killed) in *.tmp-*) saving=$((saving + 1)) ;; esac
done <moments
echo "$kills kills hit a running program, $saving of them while a file was written"
[ $((kills * 2)) -ge "$KILLS" ] || die "only $kills kills hit a running program"
[ "$KILLS" -lt 50 ] || [ $saving -ge 3 ] || die "only $saving kills hit a save"
! [ -f killed/checkpoint.safetensors ] || fails 3 'an unfinished run: go on with --resume' "$@" -o killed
run "$@" -o killed --log killed.jsonl --resume
diff -r whole killed || die "the resumed return differs"
for log in whole killed; do sed 's/, "tokens_per_second.*//' $log.jsonl >$log.cut; done
diff whole.cut killed.cut || die "the logs differ"
[ "$(ls killed | sort | tr '\n' ' ')" = 'adapter.safetensors manifest.json ' ] || die "the return holds $(ls killed)"

# The same for models: finetune, killed once.
set -- finetune base --train secret-notes.txt --block 32 --steps 30 --lr 1e-3
run "$@" -o model
"$OFFSITE" "$@" -o again --save-every 1 --resume --log again.jsonl --quiet >out 2>err </dev/null &
pid=$!
polls=0
while kill -0 $pid 2>/dev/null && [ "$(lines again.jsonl)" -lt 5 ] && [ $polls -lt 3000 ]; do
    polls=$((polls + 1))
    sleep 0.005
done
kill -9 $pid 2>/dev/null || :
wait $pid 2>/dev/null || :
run "$@" -o again --resume
diff -r model again || die "the resumed model differs"
