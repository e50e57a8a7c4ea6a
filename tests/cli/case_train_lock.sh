# Two runs into one folder: the second is refused, whatever it asks for, and leaves the first alone; a killed run leaves nothing that blocks.
. "$CLI_TEST_DIR/train_setup.sh"

# held OUT WORDS...: begins that run, and stops it (SIGSTOP) within a step.
held() {
    out=$1
    shift
    "$OFFSITE" "$@" -o "$out" --log "$out.jsonl" --save-every 1 --quiet >first 2>&1 </dev/null &
    pid=$!
    polls=0
    while kill -0 $pid 2>/dev/null && [ "$(lines "$out.jsonl")" -lt 2 ] && [ $polls -lt 3000 ]; do
        polls=$((polls + 1))
        sleep 0.005
    done
    kill -STOP $pid
    # It stops a moment later.
    until grep -q '^State:.*T' /proc/$pid/status; do sleep 0.01; done
    sleep 0.05
}
set -- --train secret-notes.txt --block 32 --batch 2 --steps 300 --lr 1e-3
for verb in 'tune offer' 'finetune base' 'pretrain config' 'distill offer --teacher base'; do
    name=${verb%% *}
    held "$name" $verb "$@"
    state "$name" >before
    cp "$name.run.yaml" record
    fails 3 "another run is at work in $name: wait for it" $verb "$@" -o "$name"
    fails 3 "another run is at work in $name: wait for it" $verb "$@" -o "$name" --resume --seed 3
    fails 3 "another run is at work in $name/: wait for it" $verb "$@" -o "$name/" --force
    state "$name" | diff before - || die "$verb: a refused run changed the other's folder"
    cmp record "$name.run.yaml" || die "$verb: a refused run changed the other's config"
    kill -9 $pid
    wait $pid 2>/dev/null || :
    run $verb "$@" -o "$name" --resume
    run $verb "$@" -o whole --force
    diff -r whole "$name" || die "$verb: another result after a kill"
done

# --force while nobody is at work: what was there goes, files that a run does not write too.
echo mine >tune/notes
run tune offer --train secret-notes.txt --block 32 --steps 2 -o tune --force
[ ! -e tune/notes ] || die "--force kept $(ls tune)"

# Two that begin at once: one of them does it.
"$OFFSITE" tune offer "$@" -o both --quiet >first 2>&1 </dev/null & one=$!
"$OFFSITE" tune offer "$@" -o both --quiet >second 2>&1 </dev/null & two=$!
codes=0
wait $one || codes=$((codes + $?))
wait $two || codes=$((codes + $?))
[ $codes = 3 ] || die "two at once: $(cat first second)"
run tune offer "$@" -o whole --force
diff -r whole both || die "two at once: another result"
