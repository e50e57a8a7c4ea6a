# tokenize from outside, with a byte-level tokenizer small enough to read: ids 5 "he", 7 "llo", 11 line break, 12 NUL, 13 "<s>".
set -eu
rm -rf tok
mkdir tok
cat >tok/tokenizer.json <<'END'
{"version": "1.0", "truncation": null, "padding": null,
 "added_tokens": [{"id": 13, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
 "normalizer": null,
 "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
 "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
  "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
  "special_tokens": {"<s>": {"id": "<s>", "ids": [13], "tokens": ["<s>"]}}},
 "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
 "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
  "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
  "vocab": {"h": 0, "e": 1, "l": 2, "o": 3, "\u0120": 4, "he": 5, "ll": 6, "llo": 7, "w": 8, "\u00c3": 9, "\u00a9": 10, "\u010a": 11, "\u0100": 12},
  "merges": ["h e", "l l", "ll o"]}}
END
same() { # NAME WANTED
    printf '%s\n' "$2" >wanted
    cmp out wanted || { echo "$1: got"; cat out; exit 1; }
}
fails() { # CODE LINE INPUT WORDS...
    wanted=$1 line=$2 input=$3
    shift 3
    code=0
    printf '%b' "$input" | "$OFFSITE" tokenize "$@" >out 2>err || code=$?
    [ "$code" = "$wanted" ] && [ "$(cat err)" = "$line" ] && return
    echo "tokenize $* of '$input': exit code $code, $(cat err)"
    exit 1
}

printf 'hello\n\nhe w\nhello' | "$OFFSITE" tokenize tok >out
same plain '[5, 7]
[]
[5, 4, 8]
[5, 7]'
"$OFFSITE" tokenize tok </dev/null >out
[ ! -s out ]
printf 'hello\n' | "$OFFSITE" tokenize tok/tokenizer.json --special >out
same special '[13, 5, 7]'
printf '{"text": "he\\nhe\\u0000\\u00e9", "id": 1}\n\n{"text": ""}\n' | "$OFFSITE" tokenize tok --jsonl >out
same jsonl '{"ids": [5, 11, 5, 12, 9, 10]}
{"ids": []}'
printf '{"ids": [13, 5, 11, 5, 12, 9, 10, 9]}\n{"ids": []}\n' | "$OFFSITE" tokenize tok --jsonl --decode >out
same 'decode jsonl' "$(printf '{"text": "<s>he\\nhe\\u0000\303\251\357\277\275"}\n{"text": ""}')"
printf '[5, 7]\n{"ids": [5]}\n' | "$OFFSITE" tokenize --decode tok >out
same decode 'hello
{"text": "he"}'
printf 'jsonl: yes\n' >run.yaml
printf '{"text": "he"}\n' | "$OFFSITE" tokenize tok --config run.yaml >out
same config '{"ids": [5]}'
printf 'he\n' | "$OFFSITE" tokenize tok --config run.yaml --no-jsonl >out
same 'config overridden' '[5]'

fails 1 'offsite: standard input, line 2: expected an object with a string under "text"' '{"text": "he"}\n{"text": 5}\n' tok --jsonl
[ "$(cat out)" = '{"ids": [5]}' ]
fails 1 'offsite: standard input, line 1: expected an object with a string under "text"' '["he"]\n' tok --jsonl
fails 1 'offsite: standard input, line 1: expected an array of ids, or an object with one under "ids"' '{"text": "he"}\n' tok --decode
fails 1 'offsite: standard input, line 1: item 1 of the ids is not a whole number' '[5, 5.5]\n' tok --decode
fails 1 'offsite: standard input, line 1: id 14 is outside the vocabulary of 14 tokens' '[14]\n' tok --decode
fails 1 'offsite: standard input, line 1: id -1 is outside the vocabulary of 14 tokens' '[-1]\n' tok --decode
code=0
printf 'nonsense\n' | "$OFFSITE" tokenize tok --jsonl 2>err || code=$?
[ "$code" = 1 ] && [ "$(wc -l <err)" = 1 ] && grep -q '^offsite: standard input, line 1' err
code=0
echo he | "$OFFSITE" tokenize "no such folder" 2>err || code=$?
[ "$code" = 1 ] && [ "$(wc -l <err)" = 1 ] && grep -q '^offsite: .*no such folder' err
if [ -w /dev/full ]; then
    code=0
    yes hello | head -20000 | "$OFFSITE" tokenize tok >/dev/full 2>err || code=$?
    [ "$code" = 1 ] && grep -q '^offsite: writing to standard output failed' err
fi
