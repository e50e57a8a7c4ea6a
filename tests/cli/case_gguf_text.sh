# The text side of a GGUF goes into an offer: tokenizer, first and last tokens, chat template; so a data owner's chats need no --chat-template.
set -eu
rm -rf -- *
die() { echo "$*"; exit 1; }
mkdir start
cp "$CLI_TEST_DIR/../data/tokenizer/gpt2/tokenizer.json" start
cat >start/config.json <<'END'
{"model_type": "gpt2", "n_layer": 4, "n_embd": 8, "n_head": 2, "n_positions": 256, "vocab_size": 332, "bos_token_id": 331, "eos_token_id": 331}
END
# The end is not the token that would be taken without being named.
printf '{"bos_token": "<mask>", "eos_token": {"content": "<mask>"}}' >start/tokenizer_config.json
cat >start/chat_template.jinja <<'END'
{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
END
cat >chat.jsonl <<'END'
{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]}
END
printf '{"text": "one"}\n' >text.jsonl

"$OFFSITE" pretrain start --train chat.jsonl --steps 1 --block 256 -o model --quiet --no-progress >/dev/null
"$OFFSITE" export model -o model.gguf --dtype f32 --quiet >/dev/null
"$OFFSITE" split model.gguf -o offer --bottom 1 --top 1 --emulator layerdrop:keep=1 --quiet >/dev/null
cmp start/chat_template.jinja offer/chat_template.jinja || die "the chat template is another"
for file in chat.jsonl text.jsonl; do
    for from in start model model.gguf offer; do "$OFFSITE" data "$file" -m "$from" --json >"$file-$from"; done
    for from in model model.gguf offer; do cmp "$file-start" "$file-$from" || die "$from reads $file otherwise"; done
done
grep -qF '<|im_start|>assistant\n", "learnt": false}, {"text": "yes<|im_end|>", "learnt": true}' chat.jsonl-offer || die "$(cat chat.jsonl-offer)"
grep -qF '<mask>", "learnt": true}' text.jsonl-offer || die "$(cat text.jsonl-offer)"
"$OFFSITE" tune offer --train chat.jsonl --steps 1 --block 256 -o return --no-progress >out 2>&1
grep -qF 'messages (chatml), 1 example, ' out || die "$(cat out)"

# A chat is the prompt that its template makes of it, and ends with the assistant's turn.
prompt=$(printf '<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n.')
"$OFFSITE" generate offer --prompt "${prompt%.}" --greedy -n 6 --json >wanted
"$OFFSITE" generate offer --chat -p hi --greedy -n 6 --json >out
cmp out wanted || die "--chat: $(cat out)"
printf '{"messages": [{"role": "user", "content": "hi"}]}\n\n{"messages": [{"role": "user", "content": "hi"}, {"role": "user", "content": "so"}]}\n' >ask.jsonl
"$OFFSITE" generate offer --chat -i ask.jsonl --greedy -n 6 --json >out
first=$(sed 's/.*"ids": \[\(\[[^]]*\]\).*/\1/' wanted)
grep -qF "{\"ids\": [$first, [" out || die "--chat --input: $(cat out)"
fails() { # CODE LINE WORDS...
    wanted=$1 line=$2 code=0
    shift 2
    "$OFFSITE" generate "$@" >out 2>err || code=$?
    [ "$code" = "$wanted" ] && [ "$(cat err)" = "$line" ] && [ ! -s out ] || die "generate $*: exit code $code, $(cat err)"
}
fails 1 "offsite: chat.jsonl:1: the last message is the assistant's: there is nothing to answer" offer --chat -i chat.jsonl
fails 1 'offsite: text.jsonl:1: "messages" must be a list with one message or more' offer --chat -i text.jsonl
rm offer/chat_template.jinja offer/manifest.json # a folder that promises no template
"$OFFSITE" generate offer --chat --chat-template chatml -p hi --greedy -n 6 --json >out
cmp out wanted || die "--chat-template: $(cat out)"
fails 3 "$("$OFFSITE" data chat.jsonl -m offer 2>&1)" offer --chat -p hi

# Taught one answer, a model gives it and stops at the end of its turn, which is several tokens here, or goes on with --ignore-eos.
"$OFFSITE" pretrain start --train chat.jsonl --steps 150 --lr 3e-2 --warmup 5 --block 256 -o taught --quiet --no-progress >/dev/null
[ "$("$OFFSITE" generate taught --chat -p hi --greedy -n 40 --quiet)" = yes ] || die "no end of turn: $("$OFFSITE" generate taught --chat -p hi --greedy -n 40 --quiet)"
"$OFFSITE" generate taught --chat -p hi --greedy -n 40 --ignore-eos --quiet | grep -qF 'yes<|im_end|>' || die "--ignore-eos ends"
