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
grep -qF 'messages (chatml), 1 examples' out || die "$(cat out)"
