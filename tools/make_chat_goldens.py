#!/usr/bin/env python3
"""Makes tests/data/chat/goldens.json: what transformers' chat template renderer makes of conversations, for every known template.

usage: make_chat_goldens.py FOLDER OUT.json

FOLDER holds NAME.jinja, the chat_template of a model's tokenizer, for each NAME of src/data/chat_templates.c. Those texts are their models' own and
are not kept here; the renderings are. A conversation that a template refuses has null for its text.
"""
import json
import pathlib
import sys

from transformers.utils.chat_template_utils import render_jinja_template

U, A, S = "user", "assistant", "system"
CONVERSATIONS = [
    [(U, "Hello")],
    [(U, "Hello"), (A, "Hi there")],
    [(S, "You answer in rhymes."), (U, "Hello"), (A, "Hi there"), (U, "Who are you?"), (A, "   I am an assistant.  \n"), (U, " Another\nquestion ")],
    [(S, "  Be brief.\n"), (U, "\u00a0 two blanks "), (A, "")],
    [(S, "Be brief."), (U, "One"), (A, "1"), (U, "Two"), (A, "2")],
    [(U, "One"), (A, "1"), (S, "Now in Latin."), (U, "Two")],
    [(U, "{bos} {role} {eos}"), (A, "{{ bos_token }} caf\u00e9 \U0001f600")],
    [(A, "I begin.")],
    [(U, "One"), (U, "Two")],
]


def main():
    folder, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    cases = []
    for path in sorted(folder.glob("*.jinja")):
        template = path.read_text(encoding="utf-8")
        for conversation in CONVERSATIONS:
            for ask in (False, True):
                messages = [{"role": role, "content": content} for role, content in conversation]
                try:
                    texts, _ = render_jinja_template([messages], chat_template=template, add_generation_prompt=ask, bos_token="<s>", eos_token="</s>")
                    text = texts[0]
                except Exception:  # the templates' own raise_exception, and undefined names
                    text = None
                cases.append({"template": path.stem, "ask": ask, "messages": messages, "text": text})
    out.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(case, ensure_ascii=True) for case in cases)
    out.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    print(f"{out}: {len(cases)} cases")


if __name__ == "__main__":
    main()
