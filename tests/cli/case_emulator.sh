# split from outside: every emulator method, measuring, the gate, the search; nothing is left where a limit refuses.
set -eu
model=$CLI_TEST_DIR/../golden/data/train/gpt2/model
data=$CLI_TEST_DIR/../golden/data/models/gpt2/golden.safetensors
rm -rf wild offer* again* pruned* narrow* q.svg return tuned
fails() { # CODE WORDS ARGUMENTS...
    wanted=$1 words=$2
    shift 2
    code=0
    "$OFFSITE" split "$model" --bottom 1 --top 1 "$@" --no-progress >out 2>err || code=$?
    [ "$code" = "$wanted" ] && grep -qF -- "$words" err && [ "$(wc -l <err)" = 1 ] && [ ! -s out ] && return
    echo "split $*: exit code $code, $(cat err)"
    exit 1
}
number() { sed -n "s/.*\"$1\": \([0-9.e+-]*\).*/\1/p" "$2"; }
n=0
for recipe in 'layerdrop:keep=2,strategy=random,seed=3' 'prune:ratio=0.4' 'prune:heads=0.5,channels=0.5' fakequant:bits=3 quantize:bits=8 \
    'quantize:bits=4,group=16' svd:ratio=0.7 crash:keep=2 'layerdrop:keep=3|prune:channels=0.3|svd:ratio=0.9|quantize:bits=4,group=32'; do
    n=$((n + 1))
    "$OFFSITE" split "$model" -o "offer$n" --bottom 1 --top 1 --emulator "$recipe" --data "$data" --json --no-progress >out
    "$OFFSITE" split "$model" -o again --bottom 1 --top 1 --emulator "$recipe" --data "$data" --force --quiet >out2
    diff -r "offer$n" again || { echo "$recipe: another offer the second time"; exit 1; }
    grep -qF "\"emulator\": \"$recipe\"" "offer$n.owner.json"
    grep -q '"libraries"' "offer$n.owner.json"
    grep -q '"fidelity"' "offer$n.owner.json"
    number sign_agreement out | awk '{ exit !($1 > 0.3 && $1 <= 1) }' || { echo "$recipe: signs"; cat out; exit 1; }
    "$OFFSITE" verify "offer$n" --no-progress >out2
    "$OFFSITE" inspect "offer$n" >out2
    # What the search and eval say of it is the same.
    "$OFFSITE" eval "offer$n" --blocks "$data" --json --no-progress >out2
    [ "$(number emulator_perplexity out | cut -c1-6)" = "$(number perplexity out2 | cut -c1-6)" ] || { echo "$recipe: perplexities differ"; cat out out2; exit 1; }
    # A return of it plugs in.
    rm -rf return tuned
    "$OFFSITE" tune "offer$n" --train "$data" --steps 2 -o return --quiet --no-progress >out2
    "$OFFSITE" plug "$model" return -o tuned --ledger "offer$n.owner.json" --quiet --no-progress >out2
    "$OFFSITE" eval "$model" --adapter return --blocks "$data" --json --no-progress >out3
    "$OFFSITE" eval tuned --blocks "$data" --json --no-progress | cmp - out3
done
grep -q '"model_type": "offsite"' offer5/config.json
grep -q '"model_type": "gpt2"' offer1/config.json
"$OFFSITE" split "$model" -o whole --bottom 1 --top 1 --data "$data" --json --force --no-progress >out 2>err
for key in cpl fidelity sign_agreement middle_shipped_bit_exact middle_values_same; do [ "$(number $key out | cut -c1-5)" = "$(printf '%s' 1 | cut -c1-5)" ] || { echo "$key of the whole middle"; cat out; exit 1; }; done

# An offer that is the whole model is warned of, with an emulator that exists, and is not said to be fit to send; a smaller one is.
[ "$(wc -l <err)" = 1 ] && grep -q '^warning: whole holds the whole model: .* --emulator layerdrop:keep=[1-9]' err && grep -q '"whole_model": true' out || { cat err out; exit 1; }
advice=$(sed -n 's/.*--emulator \([^ ]*\).*/\1/p' err)
for recipe in '' prune:ratio=0 "$advice"; do
    "$OFFSITE" split "$model" -o whole --bottom 1 --top 1 --emulator "$recipe" --force --no-progress >out 2>err
    if [ "$recipe" = "$advice" ]; then
        [ ! -s err ] && grep -q 'send only whole$' out || { cat err out; exit 1; }
    else
        [ "$(wc -l <err)" = 1 ] && grep -q 'send it to nobody who may not have that' out && ! grep -q 'send only' out || { echo "$recipe:"; cat err out; exit 1; }
    fi
done
"$OFFSITE" split "$model" -o whole --bottom 1 --top 1 --emulator "$advice" --force --json --no-progress >out
grep -q '"whole_model": false' out || { cat out; exit 1; }

# Half of the values pruned: no tensor is whole, the other half is the owner's own. Written narrower, all are to rounding, none exactly.
"$OFFSITE" split "$model" -o pruned --bottom 1 --top 1 --emulator prune:ratio=0.5 --json --force --no-progress >out
number middle_values_same out | awk '{ exit !($1 > 0.4 && $1 < 0.6) }' || { echo "pruned by half:"; cat out; exit 1; }
"$OFFSITE" split "$model" -o narrow --bottom 1 --top 1 --dtype bf16 --force --no-progress >out
grep -q 'holds 0 % of its bytes (0 of [0-9]* tensors) exactly as you have them, and 100 % of its values the same to rounding' out || { cat out; exit 1; }
grep -q '"middle_values_same": 1' narrow.owner.json

fails 2 'the nearest is "quantize"' -o none --emulator quantise:bits=4
fails 2 'the nearest is "channels"' -o none --emulator prune:chanels=0.5
fails 2 'bits is 8 or 4, not 5' -o none --emulator quantize:bits=5
fails 2 '--data FILE' -o none --emulator crash:keep=2
fails 2 '--data FILE' -o none --max-cpl 0.5
fails 2 '--data FILE' --search
fails 2 'option -o, --output is missing'
fails 2 'leave --output out' --search --data "$data" -o none
fails 3 'above --max-bytes 1024' -o none --max-bytes 1K
fails 3 'CPL 1.0000' -o none --data "$data" --max-cpl 0.9
[ ! -e none ] && [ ! -e none.owner.json ]
"$OFFSITE" split "$model" -o within --bottom 1 --top 1 --data "$data" --max-cpl 1.1 --max-bytes 1G --force --quiet --no-progress >out

"$OFFSITE" split "$model" --bottom 1 --top 1 --search --data "$data" --json --svg q.svg --no-progress >out
grep -q '"emulator": "quantize:bits=4".*"front": true' out
grep -q '"emulator": "crash:keep=2"' out
grep -q '</svg>' q.svg
"$OFFSITE" split "$model" --bottom 1 --top 1 --search --try layerdrop:keep=1 --try '' --data "$data" --max-cpl 0.999 --no-progress >out
grep -q '^(the whole middle) .*  beyond$' out
grep -q '^front: .*layerdrop:keep=1' out
grep -q 'better in one of weights, CPL and signs' out
[ "$(wc -l <out)" = 6 ]
tail -1 out | grep -q '^CPL above 1: by itself the emulator predicts these data better'
"$OFFSITE" split "$model" -o above --bottom 1 --top 1 --emulator layerdrop:keep=1 --data "$data" --force --quiet --no-progress >out
grep -q '^CPL above 1: by itself' out
"$OFFSITE" split "$model" -o above --bottom 1 --top 1 --data "$data" --force --quiet --no-progress >out
[ "$(grep -c 'CPL above 1' out)" = 0 ]
grep -q 'CPL 1.000' out
# Signs that agree by chance: one block of 28 of a model whose blocks change everything stands for nothing. Where they agree nothing is said.
mkdir -p wild/config
cp "$CLI_TEST_DIR/../data/tokenizer/gpt2/tokenizer.json" wild/config
echo '{"model_type": "gpt2", "n_layer": 30, "n_embd": 32, "n_head": 2, "n_positions": 64, "vocab_size": 600, "initializer_range": 3.0}' >wild/config/config.json
awk 'BEGIN { x = 7; n = split("the owner keeps a middle layer and sends it out tuned by hand with some data of rain or snow", w, " ")
    for (i = 0; i < 1000; i++) { x = (x * 1229 + 351) % 16381; printf "%s ", w[1 + x % n] } }' >wild/text
"$OFFSITE" pretrain wild/config -o wild/base --train wild/text --block 32 --steps 1 --lr 1e-9 --seed 3 --quiet --no-progress >out
wild() { "$OFFSITE" split wild/base --bottom 1 --top 1 --data wild/text --block 32 --no-progress "$@" >out 2>err; }
wild -o wild/offer --emulator layerdrop:keep=1,strategy=last
grep -q '^warning: signs agree in \(4[5-9]\|5[01]\)\.[0-9] %, and 50 % is chance: what this emulator teaches' err || { cat out err; exit 1; }
wild -o wild/offer --emulator layerdrop:keep=1,strategy=last --force --quiet
[ ! -s err ]
wild --search --try layerdrop:keep=1,strategy=last
grep -q '^signs below 52 %, where 50 % is chance' out
"$OFFSITE" split "$model" -o above --bottom 1 --top 1 --emulator layerdrop:keep=1 --data "$data" --force --no-progress >out 2>err
! grep chance out err || exit 1
"$OFFSITE" split "$model" --bottom 1 --top 1 --search --try layerdrop:keep=1 --data "$data" --no-progress >out
! grep chance out || exit 1
# Each row as soon as it is known: also when a later recipe ends the search; columns stand below their titles.
code=0
"$OFFSITE" split "$model" --bottom 1 --top 1 --search --try layerdrop:keep=1 --try layerdrop:keep=99 --data "$data" --no-progress >out 2>err || code=$?
[ "$code" = 2 ]
grep -q 'keep=99' err
[ "$(wc -l <out)" = 2 ]
grep -q '^layerdrop:keep=1  .* %' out
awk 'NR == 1 { at = index($0, "memory") + 5 } NR == 2 { exit substr($0, at, 1) !~ /[0-9]/ || substr($0, at + 1) != "" }' out
"$OFFSITE" help emulator >page
"$OFFSITE" split --help emulator | cmp - page
for name in layerdrop prune svd crash fakequant quantize; do grep -q "^  $name  " page; done
