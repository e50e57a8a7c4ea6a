# Training on text that is streamed: the same bytes as text held whole, stopping and going on, files of every kind, and memory that stays small.
. "$CLI_TEST_DIR/train_setup.sh"

common="--block 32 --batch 2 --lr 3e-3"

# A window that holds everything, and rows in their order through any window: as if nothing were streamed.
run tune offer --train secret-notes.txt $common --steps 30 --log whole.jsonl -o whole
run tune offer --train secret-notes.txt $common --steps 30 --log streamed.jsonl --window 100000 -o streamed
cmp whole/adapter.safetensors streamed/adapter.safetensors || die "one window is not the whole text"
run tune offer --train secret-notes.txt $common --steps 10 --peft prompt:tokens=3 -o prompt
run tune offer --train secret-notes.txt $common --steps 10 --peft prompt:tokens=3 --window 100000 -o prompt2
cmp prompt/adapter_model.safetensors prompt2/adapter_model.safetensors || die "virtual tokens predict others"
run tune offer --train secret-notes.txt $common --steps 150 --no-shuffle -o whole2
run tune offer --train secret-notes.txt $common --steps 150 --no-shuffle --window 7 -o streamed2
cmp whole2/adapter.safetensors streamed2/adapter.safetensors || die "rows in their order are others"

# A larger text, of several pieces, in three files of which two are packed: killed and gone on with, the same bytes and the same log.
awk 'BEGIN {
    srand(5); n = split("the owner keeps a middle layer and sends it out tuned by hand with some data of rain or snow while seventeen umbrellas wait", w, " ")
    for (i = 0; i < 900000; i++) printf "%s%s", w[1 + int(rand() * n)], i % 13 ? " " : ".\n"
}' >large.txt
head -c 1500000 large.txt | gzip >first.txt.gz
awk 'BEGIN { srand(6); for (i = 0; i < 30000; i++) printf "{\"text\": \"the owner keeps %d umbrellas in the rain\"}\n", int(1000 * rand()) }' | gzip >rows.jsonl.gz
set -- distill offer --teacher base --train first.txt.gz,large.txt,rows.jsonl.gz $common --window 2000 --steps 400 --kl-weight 1
run "$@" -o all --log all.jsonl
"$OFFSITE" "$@" -o stopped --log stopped.jsonl --save-every 7 --quiet >out 2>err </dev/null &
pid=$!
polls=0
while kill -0 $pid 2>/dev/null && [ "$(lines stopped.jsonl)" -lt 120 ] && [ $polls -lt 3000 ]; do
    polls=$((polls + 1))
    sleep 0.005
done
kill -KILL $pid 2>/dev/null || :
wait $pid 2>/dev/null || :
[ -e stopped/checkpoint.safetensors ] || die "it was not stopped on the way"
fails 3 'other settings, data or model' "$@" -o stopped --resume --seed 5
cp large.txt kept.txt && echo more >>large.txt
fails 3 'other settings, data or model' "$@" -o stopped --resume
mv kept.txt large.txt
run "$@" -o stopped --resume --log stopped.jsonl
cmp all/model.safetensors stopped/model.safetensors || die "the resumed run differs"
for log in all stopped; do sed 's/"tokens_per_second.*bytes": [0-9]*//' $log.jsonl >$log.cut; done
diff all.cut stopped.cut || die "the logs differ"

# Epochs are counted where they are needed; validation and the grid go through the stream too.
run tune offer --train secret-notes.txt --valid held-out-notes.txt $common --epochs 2 --window 20 --log epochs.jsonl -o epochs
run tune offer --train secret-notes.txt $common --epochs 2 -o epochs2 --log epochs2.jsonl
[ "$(lines epochs.jsonl)" = "$(lines epochs2.jsonl)" ] || die "$(lines epochs.jsonl) steps, $(lines epochs2.jsonl) of the text held whole"
tail -1 epochs.jsonl | grep -q '"epoch": 2,' || die "$(tail -1 epochs.jsonl)"
grid="--train secret-notes.txt --valid held-out-notes.txt --block 32 --batch 2 --steps 150 --window 20 --json"
run tune offer $grid --lr 1e-3 -o one
loss=$(grep -o '"valid_loss": [0-9.]*' out)
run tune offer $grid --lr-grid 1e-5,1e-3 -o grid
grep -q "$loss" out || die "the grid's second run does not begin at the beginning of the data: $loss, $(cat out)"

# 96 MiB of text within an address space that could not hold it and its tokens; the plan is above the peak.
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do cat large.txt; done >huge.txt
[ "$(wc -c <huge.txt)" -gt 70000000 ] || die "huge.txt is small"
# A sanitizer takes terabytes of addresses, and its own memory would count.
sanitized=$(ldd "$OFFSITE" | grep -c 'lib[a-z]*san' || true)
(
    [ "$sanitized" -gt 0 ] || ulimit -v 330000
    run tune offer --train huge.txt $common --steps 20 -o huge --json
) || exit 1
peak=$(sed 's/.*"peak_memory_bytes": *\([0-9]*\).*/\1/' out) planned=$(sed 's/.*"planned_bytes": *\([0-9]*\).*/\1/' out)
if [ "$sanitized" -eq 0 ]; then
    [ "$peak" -lt $((planned + 30000000)) ] && [ "$peak" -lt 120000000 ] || die "peak $peak, planned $planned"
fi
rm huge.txt

fails 2 'held whole' tune offer --train secret-notes.txt $common --steps 2 --window 10 --pack -o no
: >empty.txt
fails 1 'is empty' tune offer --train empty.txt $common --steps 2 --window 10 -o no
echo '{"text": 5}' >bad.jsonl
fails 1 'none of its 1 row ' tune offer --train bad.jsonl $common --steps 2 --window 10 -o no
head -c 300000 first.txt.gz >cut.txt.gz
fails 1 'was cut off' tune offer --train cut.txt.gz $common --epochs 1 --window 100 -o no
[ ! -e no/manifest.json ] || die "a refused run left a result"
