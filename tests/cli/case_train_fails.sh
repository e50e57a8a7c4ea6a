# Runs that cannot be: what is no text, blocks beyond the positions of the model, and what a failed run leaves, which is nothing.
. "$CLI_TEST_DIR/train_setup.sh"
steps="--block 32 --steps 2"

# A table and a binary file are no prose, held whole or streamed, packed or not; JSON lines by any name are what they are.
awk 'BEGIN { print "text,label"; for (i = 0; i < 200; i++) printf "\"the owner keeps a layer\",%d\n", i }' >rows.csv
cp rows.csv rows.tsv
gzip -k rows.csv
for file in rows.csv rows.tsv rows.csv.gz; do
    for window in '' '--window 4'; do
        fails 1 "$file is a table, and its commas would be learnt as prose: give JSON lines" tune offer --train $file $steps $window -o none
    done
done
fails 1 'rows.csv is a table' tune offer --train secret-notes.txt --valid rows.csv $steps -o none
cp rows.csv rows.list
run tune offer --train rows.list $steps -o list
awk 'BEGIN { for (i = 0; i < 200; i++) print "{\"text\": \"the owner keeps a layer of rain\"}" }' >lines.csv
run tune offer --train lines.csv $steps -o lines
run tune offer --train lines.csv $steps --window 4 -o streamed
# A zero far behind the beginning of a long line, and a model.
printf 'GGUF\003\000\000\000\001\000\000\000\000\000\000\000' >model.gguf
{ head -c 900000 /dev/zero | tr '\0' 'a'; printf '\0'; cat secret-notes.txt; } >weights.bin
for window in '' '--window 4'; do
    fails 3 'weights.bin is no text: byte 900000 is zero' tune offer --train weights.bin $steps $window -o none
    fails 3 'weights.bin is no text: byte 900000 is zero' tune offer --train secret-notes.txt,weights.bin $steps $window -o none
    fails 3 'model.gguf is no text: byte [0-9]* is zero' tune offer --train model.gguf $steps $window -o none
done
[ ! -e none ] && [ ! -e none.run.yaml ] || die "a run that could not begin left something"

# Nothing stays of a run without a checkpoint: not its folder, not its config; a folder that was there is empty as it was.
mkdir empty
for verb in 'tune offer' 'finetune base' 'pretrain config' 'distill offer --teacher base'; do
    for out in none empty; do
        fails 1 'cannot write the log /nope/dir/l.jsonl' $verb --train secret-notes.txt $steps -o $out --log /nope/dir/l.jsonl
        [ ! -e none ] && [ -d empty ] && [ -z "$(ls empty)" ] && [ -z "$(ls | grep run.yaml | grep -v '^base\.\|^list\.\|^lines\.\|^streamed\.')" ] ||
            die "$verb -o $out left $(ls -d none* empty* 2>/dev/null) $(ls empty)"
    done
done
code=0
(ulimit -f 8 && "$OFFSITE" finetune base --train secret-notes.txt $steps --save-every 1 -o none --quiet >out 2>err </dev/null) || code=$?
[ "$code" = 1 ] && grep -q 'disk may be full' err && ! grep -q resume err || die "full: $code $(cat err)"
[ ! -e none ] && [ ! -e none.run.yaml ] || die "a full disk left $(ls -d none*)"
# The result is there when only its summary cannot be told.
if [ -w /dev/full ]; then
    "$OFFSITE" tune offer --train secret-notes.txt $steps --json -o told --quiet >/dev/full 2>err && die "a lost summary is no success"
    [ -s told/adapter.safetensors ] && [ -s told.run.yaml ] || die "the result went with its summary"
fi

# Rotary positions go on for ever, but not what the model has learnt of them: one line, and it runs.
mkdir rope
cp config/tokenizer.json rope
cat >rope/config.json <<'END'
{"model_type": "llama", "num_hidden_layers": 3, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_key_value_heads": 2,
 "max_position_embeddings": 24, "vocab_size": 600, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true}
END
said='^warning: --block 25 is longer than the 24 positions that the model was made for'
"$OFFSITE" pretrain rope --train secret-notes.txt --steps 1 --block 25 -o long --no-progress >out 2>err || die "long: $(cat err)"
[ "$(grep -c "$said" err)" = 1 ] || die "not told: $(cat err)"
"$OFFSITE" pretrain rope --train secret-notes.txt --steps 1 --block 24 -o short --no-progress >out 2>err || die "short: $(cat err)"
! grep -q 'positions that' err || die "told without need: $(cat err)"
"$OFFSITE" eval long --blocks held-out-notes.txt --block 25 --limit 1 --no-progress >out 2>err && grep -q "$said" err || die "eval: $(cat err)"
