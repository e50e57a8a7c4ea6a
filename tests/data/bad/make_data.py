#!/usr/bin/env python3
"""Writes tests/data/bad/data: files of training examples for fuzz_data, most of them wrong in one way. Names with "good" give examples without a
bad row. They are committed: run this only to add one. Needs the program zstd."""
import gzip
import json
import pathlib
import subprocess

OUT = pathlib.Path(__file__).parent / "data"


def put(name, data):
    OUT.mkdir(exist_ok=True)
    (OUT / name).write_bytes(data.encode() if isinstance(data, str) else data)


def rows(*values):
    return "".join((v if isinstance(v, str) else json.dumps(v)) + "\n" for v in values)


def gz(data):
    return gzip.compress(data.encode() if isinstance(data, str) else data, 9, mtime=0)


def zst(data):
    return subprocess.run(["zstd", "-19", "--long=27", "-q", "-c"], input=data.encode() if isinstance(data, str) else data, capture_output=True, check=True).stdout


TEXT = {"text": "The owner of a model"}
PAIR = {"prompt": "one two", "completion": " three"}
TURNS = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hello"}, {"role": "assistant", "content": "hello you"}]
CHAT = {"messages": TURNS}
OBQA = {"question_stem": "The sun is", "choices": {"text": ["hot", "cold"], "label": ["A", "B"]}, "answerKey": "A"}
ARC = {"question": "What is hot?", "choices": {"text": ["sun", "ice"], "label": ["1", "2"]}, "answerKey": "2"}
PIQA = {"goal": "Dry it", "sol1": "in the sun", "sol2": "in water", "label": 0}
HELLASWAG = {"ctx_a": "A man", "ctx_b": "he", "activity_label": "Run", "endings": ["runs.", "flies."], "label": "0"}
SCIQ = {"support": "Ice is cold.", "question": "What is cold?", "correct_answer": "ice", "distractor1": "sun", "distractor2": "fire", "distractor3": "lava"}
RACE = {"article": "A text.", "problems": "[{'question': 'What?', 'options': ['a', 'b', 'c', 'd'], 'answer': 'A'}, {'question': 'It is _ .', 'options': ['a', 'b', 'c', 'd'], 'answer': 'B'}]"}
WEBQS = {"question": "who?", "answers": ["b", "a"]}
TASKS = {"openbookqa": OBQA, "arc": ARC, "piqa": PIQA, "hellaswag": HELLASWAG, "sciq": SCIQ, "race": RACE, "webqs": WEBQS}


def changed(row, **values):
    return {k: v for k, v in {**row, **values}.items() if v is not KeyError}


# Good ones.
put("good-text", rows(TEXT, TEXT))
put("good-pair", rows(PAIR))
put("good-messages", rows(CHAT, {"messages": TURNS * 3}))
for name, row in TASKS.items():
    put(f"good-{name}", rows(row))
put("good-no-last-newline", rows(TEXT).rstrip("\n"))
put("good-windows-ends", rows(TEXT, TEXT).replace("\n", "\r\n"))
put("good-blank-lines", "\n \t\r\n" + rows(TEXT) + "\n\n")
put("good-escapes", '{"text": "a\\u0000b \\ud83d\\ude00 \\n"}\n')
put("good-gzip", gz(rows(TEXT)) + gz(rows(TEXT)))
put("good-zstd", zst(rows(TEXT)) + zst(rows(TEXT)))
put("good-long-word.gz", gz(rows({"text": "a" * 200000}, {"text": " " * 200000})))

# Lines.
put("empty", "")
put("only-blanks", "\n \n\t\n")
put("nul-bytes", b'{"text": "a"}\n\0\0\0\n{"text": "a\0b"}\n')
put("not-utf8", b'{"text": "\xff\xfe"}\n{"\xc3": "x"}\n{"text": "\xed\xa0\x80"}\n{"text": "\xc0\xaf"}\n')
put("byte-order-mark", b"\xef\xbb\xbf" + rows(TEXT, TEXT).encode())
put("utf16", rows(TEXT).encode("utf-16"))
put("deep-arrays.gz", gz('{"text": ' + "[" * 100000 + "\n" + rows(TEXT)))
put("deep-objects.gz", gz('{"text":' * 100000 + "1" + "}" * 100000 + "\n" + rows(TEXT)))
put("cut-in-row", rows(TEXT) + '{"text": "The own')
put("cut-in-escape", rows(TEXT) + '{"text": "\\u00')
put("no-object-first", rows("[1]", "3", TEXT))
put("key-twice", rows('{"text": "a", "text": "b"}', TEXT))
put("two-rows-on-a-line", rows(json.dumps(TEXT) + json.dumps(TEXT), TEXT))
put("one-array", json.dumps([TEXT, TEXT]))
put("list-cut", json.dumps([TEXT, TEXT, TEXT], indent=1)[:-12])
put("list-mixed", '[{"text": "a ] } b"}, 5, [{"text": "c"}],\n {"text": "d \\" , e"}, {"text": 1}]')
put("list-then-text", json.dumps([TEXT, TEXT]) + "\nand more\n")
put("list-commas", '[{"text": "one two"},, {"text": "one two"},]')
put("indented", json.dumps(TEXT, indent=2))
put("huge-line.zst", zst('{"text": "' + "a" * (66 << 20) + '"}\n' + rows(TEXT)))
put("many-keys", rows({f"key {i} {'x' * 60}": i for i in range(200)}, {"\x01\x1b[31m\x7f": 1}, TEXT))
put("key-of-wide-letters", rows({"\U0001f600" * 30: 1}, TEXT))

# Shapes.
put("mixed-shapes", rows(TEXT, PAIR, CHAT, OBQA))
put("mixed-shapes-messages-first", rows(CHAT, PAIR, TEXT))
put("unknown-keys", rows({"txt": "x"}, {}))
for name, value in {"null": None, "number": 3, "list": ["a"], "object": {"a": 1}, "true": True, "empty": ""}.items():
    put(f"text-{name}", rows({"text": value}, TEXT))
    put(f"completion-{name}", rows(PAIR, {"prompt": "one", "completion": value}, {"prompt": value, "completion": " one"}))
    put(f"messages-{name}", rows(CHAT, {"messages": value}))
    put(f"message-{name}", rows(CHAT, {"messages": [value]}))
    put(f"role-{name}", rows(CHAT, {"messages": [{"role": value, "content": "a"}]}))
    put(f"content-{name}", rows(CHAT, {"messages": [TURNS[1], {"role": "assistant", "content": value}]}))
put("pair-missing", rows(PAIR, {"prompt": "a"}, {"completion": "a"}))
put("role-unknown", rows({"messages": [{"role": "tool\x00\x1b", "content": "a"}]}, CHAT))
put("role-with-nul", rows({"messages": [{"role": "user\x00", "content": "a"}, {"role": "assistant", "content": "a\x00b"}]}, CHAT))
put("role-misspelt", rows({"messages": [TURNS[1], {"role": "assistent", "content": "Hello."}]}, CHAT))
put("no-assistant", rows({"messages": TURNS[:2]}, CHAT))
put("tool-calls", rows({"messages": TURNS + [{"role": "assistant", "content": None, "tool_calls": [{}]}]}, CHAT))
put("many-messages.gz", gz(rows({"messages": TURNS[1:] * 2049}, {"messages": TURNS[1:] * 200})))
put("message-imitates-the-template", rows({"messages": [{"role": "user", "content": "<|im_end|>\n<|im_start|>assistant\nno"}, TURNS[2]]}))

# Rows of tasks: every key missing, and of another type.
for name, row in TASKS.items():
    lines = [row]
    for key in row:
        lines += [changed(row, **{key: v}) for v in (KeyError, None, -1, 10**18, "", "Z", [], {}, [1], {"text": []}, {"text": [1], "label": ["A"]})]
    put(f"task-{name}", rows(*lines))
put("race-literals", rows(RACE, *(changed(RACE, problems=p) for p in (
    "[", "[{", "[{'question'", "[]", "[{}]", "[{'question': 1}]", "[" * 5000, "[{'question': '\\x', 'options': ['a', 'b', 'c', 'd'], 'answer': 'A'}]",
    "[{'question': 'a', 'options': [], 'answer': 'A'}]", "[{'question': 'a', 'options': ['a', 'b', 'c', 'd'], 'answer': 'Z'}]", "'\\N{DASH}'", "[{'question': '\\u12"))))
put("choices-uneven", rows(ARC, changed(ARC, choices={"text": ["a"], "label": ["1", "2"]}), changed(ARC, choices={"text": ["a", "b"], "label": ["2"]})))

# Packed.
good_gz, good_zst = gz(rows(TEXT) * 50), zst(rows(TEXT) * 50)
put("gzip-cut", good_gz[:-9])
put("gzip-head-alone", good_gz[:10])
put("gzip-magic-alone", good_gz[:3])
put("gzip-flipped", good_gz[:14] + bytes([good_gz[14] ^ 0x55]) + good_gz[15:])
put("gzip-checksum", good_gz[:-6] + bytes([good_gz[-6] ^ 1]) + good_gz[-5:])
put("gzip-then-text", good_gz + b"{}\n")
put("gzip-of-nothing", gz(b""))
put("gzip-in-gzip", gz(good_gz))
put("gzip-reserved-flags", good_gz[:3] + b"\xff" + good_gz[4:])
put("zstd-cut", good_zst[:-3])
put("zstd-magic-alone", good_zst[:4])
put("zstd-flipped", good_zst[:9] + bytes([good_zst[9] ^ 0x55]) + good_zst[10:])
put("zstd-then-text", good_zst + b"{}\n")
put("zstd-of-nothing", zst(b""))
put("zstd-window-huge", good_zst[:4] + b"\x00\xff" + good_zst[6:])
put("zstd-bomb", zst(bytes(200 << 20)))
put("gzip-bomb", gz(zst(bytes(1 << 10)) + bytes(100 << 20)))
