# data from outside: what is counted, the learnt tokens in brackets, and the same for machines.
set -eu
tokenizer=$CLI_TEST_DIR/../data/tokenizer/gpt2/tokenizer.json
has() { # FILE TEXT
    grep -qF -- "$2" "$1" || { echo "no '$2' in:"; cat "$1"; exit 1; }
}
fails() { # CODE LINE WORDS...
    wanted=$1 line=$2
    shift 2
    code=0
    "$OFFSITE" data "$@" -m "$tokenizer" >out 2>err || code=$?
    [ "$code" = "$wanted" ] && [ "$(cat err)" = "$line" ] && [ ! -s out ] && return
    echo "data $*: exit code $code, $(cat err)"
    exit 1
}
cat >pairs.jsonl <<'END'
{"prompt": "one two", "completion": " three"}
{"prompt": "a", "completion": 3}
{"prompt": "a line\n", "completion": "and\tanother\u0000\u001b"}
{"prompt": "one two three four five six seven eight nine ten eleven twelve thirteen fourteen", "completion": " end"}
END
cat >chat.jsonl <<'END'
{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}, {"role": "user", "content": "so?"}, {"role": "assistant", "content": "no"}]}
END

"$OFFSITE" data pairs.jsonl -m "$tokenizer" --block 48 --show 2 --no-end >out 2>err
[ ! -s err ]
has out 'pairs.jsonl: prompt/completion; 2 examples, '
has out '  1 of 4 rows is bad and left out'
has out '    line 2: "completion" must be a text'
has out '  1 example is longer than the block and cut off'
has out '  1 row has nothing to learn within the block and is left out'
has out 'one two[ three]'
has out '[and\x09another\x00\x1B]'
has out 'with --pack: 1 row of up to 48 tokens'
"$OFFSITE" data chat.jsonl -m "$tokenizer" --chat-template chatml >out
has out 'chat.jsonl: messages (chatml); 1 example, '
has out '[yes<|im_end|>]'
has out '[no<|im_end|>]'
"$OFFSITE" data pairs.jsonl chat.jsonl -m "$tokenizer" --chat-template chatml --train-on all --show 1 --json >out
has out '"path": "chat.jsonl", "shape": "messages", "detail": "chatml", "packing": null, "rows": 1, "bad": 0'
has out '"bad_rows": [{"line": 2, "why": "\"completion\" must be a text"}], "examples": 3'
has out '"examples": 4'
has out '"histogram": [{"from": '
has out '"packed": {"rows": 1, "filled": '
fails 1 'offsite: pairs.jsonl:2: "completion" must be a text' pairs.jsonl --strict
fails 1 'offsite: cannot open none.jsonl: No such file or directory' none.jsonl
printf '{"prompt": "one two three", "completion": " four"}\n' >short.jsonl
fails 3 'offsite: short.jsonl: no row has anything to learn within a block of 4 tokens: use a larger --block' short.jsonl --block 4

# One list of objects, over several lines; the lines are those of the file.
printf '[\n  {\n    "text": "one two three ] \\" }"\n  },\n  {"txt": 1}, {"text": "four five"}\n]\n' >list.json
"$OFFSITE" data list.json -m "$tokenizer" --show 2 >out 2>err
has out 'list.json: text; 2 examples, '
has out '    line 5: "text" must be a text'
has out 'o[ne two three ] " }<|endoftext|>]'
printf '{\n  "text": "one two"\n}\n' >indented.json
fails 1 'offsite: indented.json holds neither JSON lines nor one list of objects: bring it into such a form, or name it .txt to have it learnt as text' indented.json
printf '{"text": "one two"}\n{"text": \n' >cut.jsonl
fails 1 'offsite: cut.jsonl:2: not valid JSON at byte 9: unexpected token near end of file' cut.jsonl --strict

# One bad file of several: the others are told all the same, each bad one by name, and the exit code says so.
mkdir -p pictures/cats
printf 'none at all' >broken.json
code=0
"$OFFSITE" data none.jsonl pairs.jsonl broken.json pictures chat.jsonl -m "$tokenizer" --chat-template chatml >out 2>err || code=$?
[ "$code" = 1 ] && [ "$(cat err)" = 'offsite: 3 of 5 files cannot be read, the first because: cannot open none.jsonl: No such file or directory' ] || { cat err; exit 1; }
has out 'pairs.jsonl: prompt/completion; 3 examples, '
has out 'chat.jsonl: messages (chatml); 1 example, '
has out 'cannot be read: none.jsonl: cannot open none.jsonl: No such file or directory'
has out 'cannot be read: broken.json: broken.json holds neither JSON lines'
has out 'cannot be read: pictures: pictures is a folder, but text is read from files'
has out 'lengths: '
code=0
"$OFFSITE" data broken.json pairs.jsonl none.jsonl -m "$tokenizer" --json >out 2>err || code=$?
[ "$code" = 1 ]
has out '"unreadable": [{"path": "broken.json", "error": "broken.json holds neither'
has out '{"path": "none.jsonl", "error": "cannot open none.jsonl: '
has out '"examples": 3, '
code=0
"$OFFSITE" data none.jsonl gone.jsonl -m "$tokenizer" >out 2>err || code=$?
[ "$code" = 1 ] && grep -q '^offsite: none of the 2 files can be read, the first because: cannot open none' err && [ "$(grep -c '^cannot be read' out)" = 2 ] || { cat err out; exit 1; }

# What is no text.
printf 'PK\003\004\000\000one two three four five six seven eight nine' >archive.txt
fails 3 'offsite: archive.txt is no text: byte 4 is zero; give text in UTF-8, JSON lines or .safetensors' archive.txt --block 4
printf 'one tw\366 three four five six seven eight nine' >latin.txt
"$OFFSITE" data latin.txt -m "$tokenizer" --block 4 >out 2>err
has out '  byte 6 is not UTF-8; such bytes are learnt as they are'
fails 1 'offsite: latin.txt: byte 6 is not UTF-8' latin.txt --block 4 --strict
# A template whose turns end with a token that the tokenizer does not have.
"$OFFSITE" data chat.jsonl -m "$tokenizer" --chat-template chatml >out
has out '  the tokenizer has no token <|im_end|>, which ends a turn of this template: it is learnt as ordinary text'
