# Killed right before one of its calls that change files, each third one in turn (OFFSITE_KILL_STRIDE=1: every one): in the midst of a checkpoint, between a run of the grid and its record, while
# the result is written and while the last files go. Resumed, the return has the same bytes.
. "$CLI_TEST_DIR/train_setup.sh"

if ! LD_PRELOAD=$KILL_AT_LIBRARY KILL_AT=0 KILL_COUNT=count "$OFFSITE" --version >out 2>err || [ -s err ]; then
    echo "skipped: this build does not bear a preloaded library: $(head -1 err)"
    exit 77
fi

every_call() {
    name=$1
    shift
    rm -rf whole killed killed.jsonl
    LD_PRELOAD=$KILL_AT_LIBRARY KILL_AT=0 KILL_COUNT=count "$OFFSITE" "$@" -o whole --log whole.jsonl --save-every 3 --keep 2 --quiet >out 2>err || die "$name: $(cat err)"
    calls=$(cat count)
    [ "$calls" -gt 20 ] || die "$name: only $calls calls were counted"
    at=1 kills=0
    while [ $at -le "$calls" ]; do
        rm -rf killed killed.jsonl killed.run.yaml
        code=0
        LD_PRELOAD=$KILL_AT_LIBRARY KILL_AT=$at "$OFFSITE" "$@" -o killed --log killed.jsonl --save-every 3 --keep 2 --quiet >out 2>err || code=$?
        [ $code = 137 ] || die "$name: call $at of $calls: not killed, but exit code $code: $(cat err)"
        run "$@" -o killed --log killed.jsonl --save-every 3 --keep 2 --resume
        diff -r whole killed || die "$name: killed at call $at of $calls, the result differs"
        at=$((at + ${OFFSITE_KILL_STRIDE:-3})) kills=$((kills + 1))
    done
    echo "$name: the same bytes after kills at $kills of $calls calls"
}

every_call tune tune offer --train secret-notes.txt --valid held-out-notes.txt --block 32 --steps 8 --lr 3e-3 --valid-every 2
every_call grid tune offer --train secret-notes.txt --valid held-out-notes.txt --block 32 --steps 4 --peft lora:r=2 --lr-grid 1e-3,1e-2
every_call finetune finetune base --train secret-notes.txt --block 32 --steps 4 --lr 3e-3
