# export: every family through a GGUF and back, types, shards, an adapter merged and as a GGUF of its own, refusals.
set -eu
rm -rf -- *
data=$CLI_TEST_DIR/../golden/data
die() { echo "$*"; exit 1; }
fails() { # CODE PATTERN WORDS...
    wanted=$1 pattern=$2 code=0
    shift 2
    "$OFFSITE" export "$@" >out 2>err || code=$?
    [ "$code" = "$wanted" ] && grep -q "$pattern" err || die "export $*: exit code $code, $(cat err)"
}
forward() { "$OFFSITE" forward "$1" --input "$2" -o "$3" --quiet >/dev/null; }
for dir in "$data"/models/*/; do
    family=$(basename "$dir")
    [ -f "$dir/model.safetensors" ] && [ -f "$dir/golden.safetensors" ] || continue
    case $family in
    opt*) fails 1 'GGUF and llama.cpp have no architecture for opt' "$dir" -o no.gguf; [ ! -e no.gguf ] || die "a file was left"; continue ;;
    gpt2* | bloom* | llama* | mistral* | qwen*) ;;
    *) continue ;;
    esac
    for type in f32 bf16 q8_0; do "$OFFSITE" export "$dir" -o "$family-$type.gguf" --dtype "$type" --json >"$family-$type.json"; done
    grep -q '"logit_difference": 0,' "$family-f32.json" || die "$family: f32 changes logits: $(cat "$family-f32.json")"
    # Back to a folder: the same bytes of logits.
    "$OFFSITE" export "$family-f32.gguf" -o "$family-back" --dtype f32 --shard-size 4K >/dev/null
    [ -f "$family-back/model.safetensors.index.json" ] || die "$family: not sharded"
    forward "$family-f32.gguf" "$dir/golden.safetensors" a.safetensors
    forward "$family-back" "$dir/golden.safetensors" b.safetensors
    cmp a.safetensors b.safetensors || die "$family: another model came back"
done
[ -f gpt2-f32.gguf ] || die "no model was exported"

model=$data/train/gpt2/model
"$OFFSITE" split "$model" -o offer --bottom 1 --top 1 --emulator layerdrop:keep=2 --quiet >/dev/null
for keep in 1 2; do
    "$OFFSITE" split "$model" -o few --force --bottom 1 --top 1 --emulator layerdrop:keep=$keep >out
    [ "$(grep -c '^fewer than half of the middle blocks are kept: .* split --data FILE tells$' out)" = $((2 - keep)) ] || die "keep=$keep: $(cat out)"
done
"$OFFSITE" tune offer --train "$data/models/gpt2/golden.safetensors" --steps 3 --warmup 0 --lr 1e-2 --peft lora:r=2,dropout=0 -o return --quiet --no-progress >/dev/null
"$OFFSITE" plug "$model" return -o merged --merge --dtype f32 --quiet >/dev/null
"$OFFSITE" export "$model" --adapter return -o exported --dtype f32 >/dev/null
cmp merged/model.safetensors exported/model.safetensors || die "export merges otherwise than plug"
# What is merged is not laid over the result once more, under whatever name, nor over a copy of it; another adapter is, and over the model that was merged into.
twice() { # MODEL ADAPTER COMMAND WORDS...: the command refuses it
    line="offsite: $2 is merged into the weights of $1 already, as its merged.json says, and would count twice: leave the adapter out"
    code=0
    "$OFFSITE" "$3" "$1" --adapter "$2" "$4" "$5" >out 2>err || code=$?
    [ "$code" = 3 ] && [ "$(cat err)" = "$line" ] || die "$3 $1 --adapter $2: exit code $code, $(cat err)"
}
cmp merged/merged.json exported/merged.json
"$OFFSITE" plug "$model" return -o plugged >/dev/null
"$OFFSITE" export "$model" --adapter return --gguf-lora -o return.gguf >/dev/null
cp -r return renamed
"$OFFSITE" export merged -o copy --dtype f32 >/dev/null
ids=$data/models/gpt2/golden.safetensors
for dir in merged exported copy; do
    twice $dir return eval --blocks "$ids"
    twice $dir renamed generate --input "$ids"
    twice $dir plugged eval --blocks "$ids"
    twice $dir return.gguf eval --blocks "$ids"
    twice $dir return export -o no
done
[ ! -e no ] || die "a folder was left"
"$OFFSITE" tune offer --train "$ids" --steps 2 --warmup 0 --lr 1e-2 --peft lora:r=2,dropout=0 -o second --quiet --no-progress >/dev/null
"$OFFSITE" eval merged --adapter second --blocks "$ids" --quiet >out
"$OFFSITE" export merged --adapter second -o both >/dev/null
twice both return eval --blocks "$ids"
twice both second eval --blocks "$ids"
"$OFFSITE" tune offer --train "$ids" --steps 2 --warmup 0 --lr 1e-2 -o whole --quiet --no-progress >/dev/null
"$OFFSITE" plug "$model" whole -o replaced >/dev/null
[ ! -e replaced/merged.json ] || die "what replaces is noted as added"
"$OFFSITE" eval replaced --adapter whole --blocks "$ids" --quiet >out
fails_on_list() {
    code=0
    "$OFFSITE" eval copy --adapter return --blocks "$ids" >out 2>err || code=$?
    [ "$code" = 1 ] && grep -q "^offsite: copy/merged.json$1" err || die "$(head -c 80 copy/merged.json): exit code $code, $(cat err)"
}
refuses_list() {
    printf '%s' "$1" >copy/merged.json
    fails_on_list "$2"
}
known='"format": "offsite-merged", "version"'
for text in '{}' '[]' '{"format": "of another program"}' "{$known: 2, \"adapters\": []}" "{$known: 1}" "{$known: 1, \"adapters\": {}}" "{$known: 1, \"adapters\": [7]}"; do
    refuses_list "$text" ' is no list of merged adapters of version 1'
done
refuses_list '{' ': not valid JSON at byte 1 '
refuses_list '' ': not valid JSON at byte 0 '
head -c 1100000 /dev/zero | tr '\0' ' ' >copy/merged.json
fails_on_list ' is larger than the 1048576 bytes allowed'
"$OFFSITE" export "$model" --adapter return --gguf-lora -o lora.gguf >/dev/null
forward merged "$data/models/gpt2/golden.safetensors" a.safetensors
"$OFFSITE" forward "$model" --adapter lora.gguf --input "$data/models/gpt2/golden.safetensors" -o b.safetensors --quiet >/dev/null
"$OFFSITE" forward "$model" --adapter return --input "$data/models/gpt2/golden.safetensors" -o c.safetensors --quiet >/dev/null
cmp b.safetensors c.safetensors || die "the GGUF adapter gives other logits"
# A GGUF that is no model says what it is, whatever its name, and a folder with GGUF files which of them to give.
says() { # CODE LINE WORDS...
    wanted=$1 line=$2 code=0
    shift 2
    "$OFFSITE" "$@" >out 2>err || code=$?
    [ "$code" = "$wanted" ] && [ "$(cat err)" = "offsite: $line" ] && [ ! -s out ] || die "$*: exit code $code, $(cat err)"
}
"$OFFSITE" export "$model" --adapter return --gguf-lora -o nameless >/dev/null
cmp nameless lora.gguf
"$OFFSITE" inspect nameless >out
printf 'nameless\nLoRA adapter in GGUF for a model of the architecture gpt2\nover 8 linears, rank 2, alpha 32\n16 tensors, 352 values, 1.38 KiB\n' | cmp - out
"$OFFSITE" inspect nameless --json >out
grep -q '^{"architecture": "gpt2", "adapter": {"kind": "lora", "least_rank": 2, "most_rank": 2, "alpha": 32, "linears": 8, "tensors": 16, ' out || die "$(cat out)"
says 2 'inspect: nameless is an adapter: it can be neither split nor tuned' inspect nameless --bottom 1
says 1 'nameless is an adapter in GGUF (lora, for the architecture gpt2) and no model: give the model that it goes over' split nameless -o no
says 1 'nameless is an adapter in GGUF and holds no tokenizer: give the model that it goes over' tokenize nameless
mkdir one several
cp gpt2-f32.gguf one/m.gguf
cp gpt2-f32.gguf several/b.gguf
cp gpt2-f32.gguf several/a.gguf
echo none >several/0.gguf
says 1 'one holds no config.json, but a GGUF file, which is a model by itself: give one/m.gguf' split one -o no
says 1 'one holds no config.json, but a GGUF file, which is a model by itself: give one/m.gguf' inspect one
says 1 'several holds no config.json, but 2 GGUF files: give one of them, such as several/a.gguf' split several -o no
says 1 'one: no tokenizer here, but a GGUF file: give one/m.gguf' tokenize one
says 1 'several: no tokenizer here, but GGUF files: give one of them, such as several/a.gguf' tokenize several
[ ! -e no ] || die "a folder was left"
fails 3 'exists already' "$model" -o gpt2-f32.gguf
fails 2 'is a type of GGUF files' "$model" -o folder --dtype q8_0
fails 2 'say which with --adapter' "$model" -o x.gguf --gguf-lora
"$OFFSITE" tune offer --train "$data/models/gpt2/golden.safetensors" --steps 1 --peft prefix:tokens=2 -o prefixed --quiet --no-progress >/dev/null
fails 2 'only LoRA, DoRA and the methods that replace parameters' "$model" --adapter prefixed -o x.gguf
[ ! -e x.gguf ] || die "a file was left"
