# inspect from outside: configurations under any name, the paper's splits and counts, offers and returns.
set -eu
model=$CLI_TEST_DIR/../golden/data/train/gpt2/model
rm -rf offer offer.owner.json return
cat >xl <<'END'
{"model_type": "gpt2", "n_layer": 48, "n_embd": 1600, "n_head": 25, "vocab_size": 50257}
END
cat >opt.txt <<'END'
{"model_type": "opt", "num_hidden_layers": 24, "hidden_size": 2048, "num_attention_heads": 32, "ffn_dim": 8192, "vocab_size": 50272,
 "word_embed_proj_dim": 2048}
END
has() { # FILE TEXT
    grep -qF -- "$2" "$1" || { echo "no '$2' in:"; cat "$1"; exit 1; }
}
fails() { # CODE LINE WORDS...
    wanted=$1 line=$2
    shift 2
    code=0
    "$OFFSITE" inspect "$@" >out 2>err || code=$?
    [ "$code" = "$wanted" ] && [ "$(cat err)" = "$line" ] && [ ! -s out ] && return
    echo "inspect $*: exit code $code, $(cat err)"
    exit 1
}

"$OFFSITE" inspect xl --json >out
has out '"architecture": "gpt2", "layers": 48, "hidden_size": 1600'
has out '"parameters": {"total": 1557611200'
if grep -q 'planned_bytes\|"split"\|trainable' out; then exit 1; fi
"$OFFSITE" inspect xl --emulator layerdrop:keep=16 --json >out
has out '"kept": [2, 5, 8, 11, 13, 16, 19, 22, 25, 28, 31, 34, 36, 39, 42, 45]'
has out '"trainable": 122963200'
has out '"memory": {"planned_bytes": '
"$OFFSITE" inspect opt.txt --bottom 2 --top 2 --emulator layerdrop:keep=8 --peft bitfit --json >out
has out '"kept": [2, 5, 7, 10, 13, 16, 18, 21]'
has out '"trainable": 106496'
"$OFFSITE" inspect opt.txt --peft lora --json >out
has out '"trainable": 589824'
"$OFFSITE" inspect xl --emulator layerdrop:keep=16 >out 2>err
[ ! -s err ]
has out 'gpt2, 48 layers, hidden size 1,600, 25 heads of 64'
has out '1,557,611,200 parameters'
has out 'ships 16 of 44 middle blocks'
has out "of the middle's bytes, exactly as you have them"
has out 'kept: 2 5 8 11 13 16 19 22 25 28 31 34 36 39 42 45'
has out 'finetune the whole model, full   1,475,558,400'

# Less memory when activations are computed again; more for more rows.
planned() { "$OFFSITE" inspect xl --emulator layerdrop:keep=16 --json "$@" | sed 's/.*"planned_bytes": \([0-9]*\).*/\1/'; }
[ "$(planned --recompute)" -lt "$(planned)" ]
[ "$(planned)" -lt "$(planned --batch 2)" ]
[ "$(planned --block 128)" -lt "$(planned)" ]

# What is shipped is said as it is: packed, or of a quantised GGUF that is written as bf16.
"$OFFSITE" inspect xl --emulator quantize:bits=8 >out
has out "of the middle's bytes, their matrices changed"
rm -f quantised.gguf
"$OFFSITE" export "$model" -o quantised.gguf --dtype q8_0 --quiet >out
"$OFFSITE" inspect quantised.gguf --bottom 1 --top 1 --emulator layerdrop:keep=1 >out
has out "of the middle's bytes, written as bf16: their values the same as yours to rounding"

# What tune says it plans, but for the data.
"$OFFSITE" split "$model" -o offer --bottom 1 --top 1 --emulator layerdrop:keep=2 --quiet
"$OFFSITE" inspect offer --json >out
has out '"manifest": {"kind": "offer"'
has out '"bottom": 1, "top": 1, "tensors": 52'
has out '"trainable": 1064'
"$OFFSITE" inspect offer >out
has out 'offer of 4 layers: 1 at the bottom and 1 at the top are tuned'
has out 'memory of tuning: batch 1, block 19, f32 arithmetic'
other=$CLI_TEST_DIR/../golden/data/models/gpt2/golden.safetensors
if "$OFFSITE" tune offer --train "$other" --steps 1 -o return --json --quiet --no-progress >tuned 2>err; then
    "$OFFSITE" inspect return --json >out
    has out '"manifest": {"kind": "return"'
    has out '"method": "full", "tensors": 24, "values": 1064, "bytes": 4256'
    "$OFFSITE" inspect return >out
    has out ', tuned by full'
    fails 2 'offsite: inspect: return is a return: it can be neither split nor tuned' return --emulator layerdrop:keep=1
else
    cat err
    exit 1
fi

fails 2 'offsite: --emulator: layerdrop: keep=45 is more than the 44 blocks of the middle' xl --emulator layerdrop:keep=45
fails 2 'offsite: --bottom 30 and --top 30 leave no middle in a model of 48 layers' xl --bottom 30 --top 30
fails 3 'offsite: a block of 2000 tokens is longer than the 1024 positions that the model has: use a smaller --block' xl --peft full --block 2000
printf '{"layers": 3}' >none.json
fails 1 'offsite: none.json: the key "model_type" is missing: this is no model configuration' none.json
