# The life of an output folder: Ctrl-C, --resume, --force, what is refused, a full disk; and that a return carries nothing of the data.
. "$CLI_TEST_DIR/train_setup.sh"

set -- tune offer --train secret-notes.txt --valid held-out-notes.txt --block 32 --batch 2 --steps 60 --lr 3e-3
run "$@" -o whole --log whole.jsonl
# The log numbers steps from 0, the bar counts those that are done.
[ "$(grep '"loss"' whole.jsonl | sed -n '1s/^{"step": \([0-9]*\),.*/\1/p;$s/^{"step": \([0-9]*\),.*/\1/p' | tr '\n' ' ')" = '0 59 ' ] || die "the log's steps: $(cat whole.jsonl)"
"$OFFSITE" "$@" -o counted 2>err >out </dev/null
grep -q '^tune step 1/60 ' err && grep -q '^tune step 60/60 ' err && grep -q 'after step 60 in\|: 60 steps in' out || die "$(cat err out)"
# Counts are told with commas, by every command.
grep -q '^tune: 250 rows of up to 32 tokens, 60 steps, 25,408 trained values$' err || die "$(cat err)"
"$OFFSITE" eval base --blocks secret-notes.txt --block 32 --no-progress >out
grep -q '^perplexity .* over 250 blocks, 8,000 tokens)$' out || die "$(cat out)"
"$OFFSITE" plug base whole -o told --no-progress >out
grep -q ' tensors (25,408 values, largest change ' out || die "$(cat out)"
rm -r told

# Ctrl-C: one line, exit code 1, and a checkpoint.
"$OFFSITE" "$@" -o stopped --log stopped.jsonl --quiet >out 2>err </dev/null &
pid=$!
polls=0
while kill -0 $pid 2>/dev/null && [ "$(lines stopped.jsonl)" -lt 3 ] && [ $polls -lt 3000 ]; do
    polls=$((polls + 1))
    sleep 0.005
done
kill -INT $pid
code=0
wait $pid || code=$?
[ $code = 1 ] || die "after Ctrl-C the exit code is $code: $(cat err)"
[ "$(wc -l <err)" = 1 ] && grep -q '^offsite: stopped after step [0-9]* of 60: the same command with --resume goes on from here$' err || die "after Ctrl-C: $(cat err)"
[ "$(ls stopped)" = checkpoint.safetensors ] || die "after Ctrl-C there is $(ls stopped)"

# What the signal does is said at once, while a step that takes long is still at work, and once; the second ends the run then and there.
"$OFFSITE" tune offer --train secret-notes.txt --block 32 --batch 2 --grad-accum 100000 --steps 1 -o slow --no-progress >out 2>err </dev/null &
pid=$!
said() { grep -c '^stopping as soon as the step at work is done and what is trained is saved; Ctrl-C again stops at once' err || :; }
for i in $(seq 600); do [ -f slow.run.yaml ] && break; sleep 0.01; done
sleep 0.1
kill -INT $pid
for i in $(seq 600); do [ "$(said)" = 0 ] || break; sleep 0.01; done
[ "$(said)" = 1 ] && kill -0 $pid || die "Ctrl-C during a step: $(cat err)"
kill -INT $pid
code=0
wait $pid || code=$?
[ $code = 130 ] && [ "$(said)" = 1 ] || die "after the second Ctrl-C: exit code $code: $(cat err)"

# What is unfinished is kept unless --resume or --force say otherwise, and goes on with the same command only.
state stopped >before
fails 3 'holds an unfinished run: go on with --resume' "$@" -o stopped
cp stopped.run.yaml record
differs() {
    wanted=$1
    shift
    fails 3 "stopped was begun with other settings, data or model$wanted: give the same command as before" "$@" -o stopped --resume
}
differs ' (--seed was 0, now 1)' "$@" --seed 1
differs ' (--schedule was cosine, now linear)' "$@" --schedule linear
differs ' (--train was secret-notes.txt, now held-out-notes.txt)' tune offer --train held-out-notes.txt --valid held-out-notes.txt --block 32 --batch 2 \
    --steps 60 --lr 3e-3
differs ' (the command was offsite tune offer, now offsite finetune base; --valid was held-out-notes.txt, now not given)' finetune base \
    --train secret-notes.txt --block 32 --batch 2 --steps 60 --lr 3e-3
differs ' (--steps was 60, now 20; --shuffle was yes, now no; --seed was 0, now 4; --lr was 3e-3, now 1e-3; and 2 more)' tune offer --train secret-notes.txt \
    --valid held-out-notes.txt --block 32 --batch 2 --steps 20 --lr 1e-3 --clip 2 --seed 4 --no-shuffle --weight-decay 0
cp secret-notes.txt kept-notes.txt
echo more >>secret-notes.txt
awk 'BEGIN { for (i = 0; i < 40; i++) print "and more of it" }' >>secret-notes.txt
differs '' "$@"
mv kept-notes.txt secret-notes.txt
cmp record stopped.run.yaml || die "a refused --resume changed the run's config"
mv stopped.run.yaml away.yaml
differs '' "$@" --seed 1
mv away.yaml stopped.run.yaml
fails 1 'nothing-here.txt' tune offer --train nothing-here.txt -o stopped --force
fails 2 'lora' tune offer --train secret-notes.txt --peft lorra -o stopped --force
state stopped | diff before - || die "a refused command changed the unfinished run"
run "$@" -o stopped --resume --log stopped.jsonl
diff -r whole stopped
for log in whole stopped; do sed 's/, "tokens_per_second.*//' $log.jsonl >$log.cut; done
diff whole.cut stopped.cut || die "the logs differ"

# Killed while the very first checkpoint was written: ours to clear away.
mkdir early
echo torn >early/checkpoint.safetensors.tmp-0123456789abcdef
run "$@" -o early --resume
diff -r whole early

# What is finished stays as it is.
state stopped >before
run "$@" -o stopped --resume
fails 3 'holds a finished result: keep it' "$@" -o stopped
fails 1 'nothing-here.txt' tune offer --train nothing-here.txt -o stopped --force
state stopped | diff before - || die "the finished return was touched"
run "$@" -o stopped --force --seed 9
cmp -s whole/adapter.safetensors stopped/adapter.safetensors && die "--force did not run again"
[ ! -e stopped/checkpoint.safetensors ]

# Folders that are not ours, with and without --force; and nothing is made by a run that cannot begin.
mkdir photos
echo 1 >photos/one.jpg
fails 3 'did not write' "$@" -o photos
fails 3 'did not write' "$@" -o photos --force
fails 3 'did not write' "$@" -o photos --resume
fails 3 'is a file' "$@" -o photos/one.jpg --force
[ "$(cat photos/one.jpg)" = 1 ]
fails 1 'nothing-here.txt' tune offer --train nothing-here.txt -o not-made
fails 2 'no offer' tune base --train secret-notes.txt -o not-made
fails 2 'warmup' "$@" -o not-made --warmup 61
for verb in "tune offer" "finetune base" "pretrain config"; do
    fails 1 'photos is a folder, but text is read from files: .*a folder of pictures is for a vision model' $verb --train photos --block 32 --steps 2 -o not-made
    fails 1 'photos is a folder, but text is read from files' $verb --train secret-notes.txt --valid photos --block 32 --steps 2 -o not-made
done
fails 1 'photos is a folder, but text is read from files' tune offer --train photos --window 10 --block 32 --steps 2 -o not-made
fails 1 'photos is a folder, but text is read from files' eval offer --blocks photos --block 32

# What is missing is said to be missing, with the same exit code whatever it should have been, and what belongs there.
offer='the folder of an offer' back='the folder of a return' model='a Hugging Face model directory or a GGUF file'
adapter='the folder of a return or an adapter, or a LoRA adapter in GGUF'
missing() { # WHAT WORDS...
    what=$1
    shift
    fails 1 "there is no nowhere: give $what\$" "$@"
}
missing "$offer" tune nowhere --train secret-notes.txt -o not-made
missing "$model" finetune nowhere --train secret-notes.txt -o not-made
missing "$offer" distill nowhere --teacher base --train secret-notes.txt -o not-made
missing "$model" distill offer --teacher nowhere --train secret-notes.txt -o not-made
missing "$model" split nowhere -o not-made
missing "$model" plug nowhere whole -o not-made
missing "$back" plug base nowhere -o not-made
missing "$back" plug base whole nowhere -o not-made
missing 'the folder of an offer or a return' verify nowhere
missing "$offer" verify whole --offer nowhere
missing 'a model, a configuration, an offer, a return or a LoRA adapter in GGUF' inspect nowhere
missing "$model" eval nowhere --blocks secret-notes.txt
missing "$adapter" eval offer --adapter nowhere --blocks secret-notes.txt
missing "$adapter" generate offer --adapter nowhere --prompt x
missing "$adapter" export base --adapter nowhere --format hf -o not-made
missing 'a model, or a folder or file with its tokenizer' data secret-notes.txt --model nowhere
missing 'a model, or a folder or file with its tokenizer' tokenize nowhere
missing 'a config.json or a folder with one' pretrain nowhere --train secret-notes.txt -o not-made
# A return's folder stays as it is: nobody is told to put a tokenizer into it.
fails 1 'whole is a return or an adapter and holds no tokenizer: give the offer or the model that it was tuned over$' data secret-notes.txt --model whole
fails 1 'whole is a return or an adapter and holds no tokenizer: ' tokenize whole
fails 2 'base is no offer' distill base --teacher base --train secret-notes.txt -o not-made
fails 3 'base is no bundle' verify base
fails 3 'fewer than one block' tune offer --train held-out-notes.txt --block 60000 -o not-made
[ ! -e not-made ] || die "a run that could not begin left a folder"

# A full disk: the last good checkpoint stays, and the run goes on from it when there is room.
"$OFFSITE" "$@" -o full --log full.jsonl --save-every 1 --quiet >out 2>err </dev/null &
pid=$!
polls=0
while kill -0 $pid 2>/dev/null && [ "$(lines full.jsonl)" -lt 3 ] && [ $polls -lt 3000 ]; do
    polls=$((polls + 1))
    sleep 0.005
done
kill -TERM $pid
wait $pid && die "a terminated run ended well"
cp full/checkpoint.safetensors good
code=0
(
    ulimit -f 20
    "$OFFSITE" "$@" -o full --save-every 1 --resume --quiet >/dev/null 2>err </dev/null
) || code=$?
[ $code = 1 ] && grep -q '^offsite: .*disk may be full.*; the same command with --resume goes on from the last checkpoint$' err || die "on a full disk: exit code $code, $(cat err)"
[ "$(ls full)" = checkpoint.safetensors ] || die "on a full disk there is $(ls full)"
cmp good full/checkpoint.safetensors || die "the full disk damaged the checkpoint"
run "$@" -o full --resume
diff -r whole full || die "the return after a full disk differs"

# Nothing of the data in what goes back: not a text, not a name, not even a word that the tokenizer would know.
for word in "$canary" Zephyrine Quillfeather 48213 umbrellas secret-notes held-out "$(pwd)"; do
    ! grep -raFq -- "$word" whole || die "the return holds '$word'"
done
