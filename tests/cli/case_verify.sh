# verify from outside: sound bundles, and one changed byte.
set -eu
model=$CLI_TEST_DIR/../golden/data/train/gpt2/model
rm -rf offer offer.owner.json return copy
fails() { # CODE LINE WORDS...
    wanted=$1 line=$2
    shift 2
    code=0
    "$OFFSITE" verify "$@" --no-progress >out 2>err || code=$?
    [ "$code" = "$wanted" ] && [ "$(cat err)" = "$line" ] && [ ! -s out ] && return
    echo "verify $*: exit code $code, $(cat err)"
    exit 1
}
"$OFFSITE" split "$model" -o offer --bottom 1 --top 1 --emulator layerdrop:keep=2 --quiet
"$OFFSITE" tune offer --train "$CLI_TEST_DIR/../golden/data/models/gpt2/golden.safetensors" --steps 1 -o return --quiet --no-progress >out
"$OFFSITE" verify offer --no-progress >out 2>err
[ ! -s err ]
grep -q '^offer [0-9a-f]*: gpt2, 4 layers, of which 1 + 1 are to be tuned$' out
grep -q '^ok  52 tensors, 2,648 values, ' out
[ "$(grep -c '^ok  ' out)" = 4 ]
"$OFFSITE" verify return --offer offer --no-progress >out
grep -q '^ok  it is for the offer given and fits its layers$' out
"$OFFSITE" verify offer --json --no-progress >out
grep -q '^{"ok": true, "kind": "offer", .*"other_files": \[\]}$' out
printf 'secret' >return/notes.txt
"$OFFSITE" verify return --no-progress >out
grep -q '^not covered by the manifest: notes.txt$' out
rm return/notes.txt
# --merge on a return that replaces whole parameters is no error, and is told to do nothing.
"$OFFSITE" plug "$model" return -o plugged --force >out 2>err
[ ! -s err ]
"$OFFSITE" plug "$model" return -o merged --merge --force >out 2>err
grep -q '^--merge has no effect: this return holds no LoRA' err
[ "$(wc -l <err)" = 1 ]
cmp plugged/model.safetensors merged/model.safetensors

# The tokenizer goes with the weights: one byte of it is enough to be found. So does what PEFT reads of a LoRA return.
rm -rf worded spoken lora
cp -r "$model" worded
cp "$CLI_TEST_DIR/../data/tokenizer/gpt2/tokenizer.json" worded
"$OFFSITE" split worded -o spoken --bottom 1 --top 1 --emulator layerdrop:keep=2 --quiet --force
"$OFFSITE" verify spoken --no-progress >out
grep -q '^ok  SHA-256 of: tokenizer.json$' out
[ "$(grep -c '^ok  ' out)" = 5 ]
[ "$(grep -c 'not covered' out)" = 0 ]
"$OFFSITE" verify spoken --json --no-progress >out
grep -q '"files": \["tokenizer.json"\], "other_files": \[\]}$' out
printf ' ' | dd of=spoken/tokenizer.json bs=1 seek=1 conv=notrunc 2>dd
if cmp -s spoken/tokenizer.json worded/tokenizer.json; then printf 'x' | dd of=spoken/tokenizer.json bs=1 seek=1 conv=notrunc 2>dd; fi
fails 3 'offsite: spoken/tokenizer.json does not have the SHA-256 of the manifest: the file was changed or damaged' spoken
# Nor does it serve: whoever opens an offer looks at these files.
ids=$CLI_TEST_DIR/../golden/data/models/gpt2/golden.safetensors
for command in "tune spoken --train $ids --steps 1 -o nothing" "finetune spoken --train $ids --steps 1 -o nothing" "eval spoken --blocks $ids" \
    "distill spoken --teacher worded --train $ids --steps 1 -o nothing"; do
    code=0
    "$OFFSITE" $command --quiet >out 2>err || code=$?
    [ "$code" = 3 ] && [ "$(cat err)" = 'offsite: spoken/tokenizer.json does not have the SHA-256 of the manifest: the file was changed or damaged; `offsite verify spoken` checks all of the offer: ask for it again' ] ||
        { echo "$command: exit code $code, $(cat err)"; exit 1; }
    [ ! -e nothing ] && [ ! -e nothing.run.yaml ]
done
code=0
"$OFFSITE" split spoken -o nothing --bottom 1 --top 1 --quiet 2>err || code=$?
[ "$code" = 2 ] && [ "$(cat err)" = 'offsite: split: spoken is an offer, which was split already: give the whole model' ] || { cat err; exit 1; }
"$OFFSITE" tune offer --train "$CLI_TEST_DIR/../golden/data/models/gpt2/golden.safetensors" --steps 1 --peft lora:r=2 -o lora --quiet --no-progress >out
"$OFFSITE" verify lora --no-progress >out
grep -q '^ok  SHA-256 of: adapter_config.json$' out
sed -i 's/"lora_alpha": 32/"lora_alpha": 33/' lora/adapter_config.json
fails 3 'offsite: lora/adapter_config.json does not have the SHA-256 of the manifest: the file was changed or damaged' lora
code=0
"$OFFSITE" plug "$model" lora -o nothing --quiet 2>err || code=$?
[ "$code" = 3 ] && [ ! -e nothing ] && [ "$(cat err)" = 'offsite: lora/adapter_config.json does not have the SHA-256 of the manifest: the file was changed or damaged; `offsite verify lora` checks all of the return: ask for it again' ] ||
    { cat err; exit 1; }
rm -rf worded spoken lora

cp -r return copy
size=$(wc -c <copy/adapter.safetensors)
printf '\001' | dd of=copy/adapter.safetensors bs=1 seek=$((size - 2)) conv=notrunc 2>dd
name=$(sed -n 's/.*"name": "\(transformer[^"]*\)".*/\1/p' copy/manifest.json | tail -1)
fails 3 "offsite: copy/adapter.safetensors: tensor $name does not have the SHA-256 of the manifest: the file was changed or damaged" copy
rm -r copy
cp -r offer copy
sed 's/"n_positions": [0-9]*/"n_positions": 7/' offer/config.json >copy/config.json
fails 3 'offsite: copy: tensor transformer.wpe.weight has shape [19, 8], but config.json asks for [7, 8]' copy
cp offer/config.json copy
touch copy/state.pkl
fails 3 'offsite: copy: state.pkl looks like a pickle, which can run code when opened: no bundle needs one' copy
rm -r copy
"$OFFSITE" split "$model" -o copy --bottom 1 --top 1 --emulator layerdrop:keep=1 --quiet
fails 3 "offsite: the return is for offer $(sed -n 's/.*"offer_id": "\([0-9a-f]*\)".*/\1/p' return/manifest.json), but copy is offer $(sed -n 's/.*"offer_id": "\([0-9a-f]*\)".*/\1/p' copy/manifest.json)" return --offer copy
fails 2 'offsite: copy is an offer itself: --offer goes with a return' copy --offer offer
