# generate from outside, with the committed tiny model and a tokenizer of one letter for each of its 44 ids; and adapters over models.
set -eu
model=$CLI_TEST_DIR/../golden/data/train/gpt2/model
rm -rf model plain offer offer.owner.json return plugged
mkdir model
cp "$model"/* model/
cp -r model plain
awk 'BEGIN {
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqr"
    printf "{\"version\": \"1.0\", \"added_tokens\": [], \"normalizer\": null, \"post_processor\": null,\n"
    printf " \"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": true},\n"
    printf " \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, \"use_regex\": true},\n"
    printf " \"model\": {\"type\": \"BPE\", \"merges\": [], \"vocab\": {"
    for (i = 1; i <= 44; i++) printf "%s\"%s\": %d", (i > 1 ? ", " : ""), substr(letters, i, 1), i - 1
    print "}}}"
}' >model/tokenizer.json
letters() { # ids as JSON on standard input -> their letters
    tr -d '[]{}":a-z ' | awk -F, '{ s = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqr"; for (i = 1; i <= NF; i++) printf "%s", substr(s, $i + 1, 1) }'
}
fails() { # CODE LINE WORDS...
    wanted=$1 line=$2
    shift 2
    code=0
    "$OFFSITE" "$@" >out 2>err || code=$?
    [ "$code" = "$wanted" ] && [ "$(cat err)" = "$line" ] && [ ! -s out ] && return
    echo "$*: exit code $code, $(cat err)"
    exit 1
}
same() { [ "$2" = "$3" ] || { echo "$1: got '$2', wanted '$3'"; exit 1; }; }

# Text and ids of one prompt say the same; text is plain text and a line break.
"$OFFSITE" generate model --prompt DEF --greedy --ignore-eos -n 8 --json >out
text=$(sed 's/.*"texts": \["\([^"]*\)"\].*/\1/' out)
same length "${#text}" 8
sed 's/, "texts".*//' out | letters >ids
same letters "$(cat ids)" "$text"
"$OFFSITE" generate model -p DEF --greedy --ignore-eos -n 8 >out 2>err
same plain "$(cat out)" "$text"
grep -q '^3 prompt tokens, .* 8 new tokens, ' err
"$OFFSITE" generate model -p DEF --greedy --ignore-eos -n 8 --quiet >out 2>err
[ ! -s err ]
"$OFFSITE" generate model -p DEF --greedy --ignore-eos -n 8 --backend ref --quiet >out
same reference "$(cat out)" "$text"

# Several prompts: each as if alone, in order, parted by an empty line; lanes change nothing.
"$OFFSITE" generate model -p D --greedy --ignore-eos -n 8 --quiet >one
printf 'DEF\n\nD\r\nDEF' >prompts
for lanes in 1 2 16; do
    "$OFFSITE" generate model --prompt-file prompts --greedy --ignore-eos -n 8 --lanes $lanes --quiet >out
    same "prompts, $lanes lanes" "$(cat out)" "$text

$(cat one)

$text"
done

# Ends: a stop text, the end token of generation_config.json, --ignore-eos.
fifth=$(printf %s "$text" | cut -c5)
before=${text%%"$fifth"*}
"$OFFSITE" generate model -p DEF --greedy --ignore-eos -n 8 --stop zzz --stop "$fifth" --quiet >out
same stop "$(cat out)" "$before"
id=$(printf %s "$fifth" | "$OFFSITE" tokenize model | tr -d '[]')
printf '{"eos_token_id": [%s]}\n' "$id" >model/generation_config.json
"$OFFSITE" generate model -p DEF --greedy -n 8 --quiet >out
same end "$(cat out)" "$before"
"$OFFSITE" generate model -p DEF --greedy -n 8 --json >out
sed 's/, "texts".*//' out | letters >ids
same 'the end token is among the ids' "$(cat ids)" "$before$fifth"
"$OFFSITE" generate model -p DEF --greedy --ignore-eos -n 8 --quiet >out
same ignored "$(cat out)" "$text"

# Drawing: reproducible, and a matter of the seed.
draw() { "$OFFSITE" generate model -p DEF --ignore-eos -n 12 --temperature 5 --top-p 1 --quiet "$@"; }
same 'the same seed' "$(draw --seed 3)" "$(draw --seed 3)"
[ "$(draw --seed 3)" != "$(draw --seed 4)" ]
same 'temperature 0' "$("$OFFSITE" generate model -p DEF --ignore-eos -n 8 --temperature 0 --quiet)" "$text"

# Ids in, ids out: the same as JSON and as lines.
other=$CLI_TEST_DIR/../golden/data/models/gpt2
"$OFFSITE" generate "$other" --input "$other/golden.safetensors" --greedy --ignore-eos -n 2 --json >json
"$OFFSITE" generate "$other" --input "$other/golden.safetensors" --greedy --ignore-eos -n 2 --quiet >out
same ids "{\"ids\": [$(paste -sd, out | sed 's/,\[/, [/g')]}" "$(cat json)"
"$OFFSITE" generate model --max-new 16 -p DEF --greedy --ignore-eos --quiet >out
same 'positions allow' "$(wc -c <out)" 17

fails 1 'offsite: plain: no tokenizer here; put tokenizer.json, vocab.json with merges.txt, or tokenizer.model into it' generate plain --prompt DEF
fails 3 'offsite: prompt 0 of 3 tokens with 18 new ones is longer than the 19 positions that the model has' generate model -p DEF -n 18
printf '\n\n' >empty
fails 1 'offsite: empty holds no prompt: write one on each line' generate model --prompt-file empty
if [ -w /dev/full ]; then
    code=0
    "$OFFSITE" generate model -p DEF --quiet >/dev/full 2>err || code=$?
    [ "$code" = 1 ]
    grep -q '^offsite: writing to standard output failed' err
fi

# An adapter over its offer, and over the whole model, which is then the plugged one.
"$OFFSITE" split model -o offer --bottom 2 --top 1 --emulator layerdrop:keep=1 --quiet
for i in 1 2 3 4 5 6 7 8 9 10; do printf DEFABCqponmQRSTabcdeKLMN; done >text
"$OFFSITE" tune offer --train text --block 12 --steps 8 --lr 1e-2 -o return --quiet --no-progress
"$OFFSITE" plug model return -o plugged --quiet
perplexity() { "$OFFSITE" eval "$@" --blocks text --block 12 --limit 5 --json --no-progress --quiet; }
same 'plugged in' "$(perplexity model --adapter return)" "$(perplexity plugged)"
[ "$(perplexity offer --adapter return)" != "$(perplexity offer)" ]
[ "$(perplexity offer --adapter return)" != "$(perplexity model --adapter return)" ]
same 'generated' "$("$OFFSITE" generate model --adapter return -p DEF --greedy -n 8 --quiet)" "$("$OFFSITE" generate plugged -p DEF --greedy -n 8 --quiet)"
fails 3 'offsite: model is no bundle (it holds no manifest.json): a return, as `offsite tune` writes it, is needed' generate model --adapter model -p DEF
