#!/usr/bin/env python3
"""Writes tests/data/bad/tokenizer: broken tokenizer files, each wrong in one way, and NAME.good.* that must load."""
import copy
import json
import struct
from pathlib import Path

OUT = Path(__file__).parent / "tokenizer"
GOOD = {
    "version": "1.0", "truncation": None, "padding": None,
    "added_tokens": [{"id": 4, "content": "<s>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}],
    "normalizer": {"type": "NFC"},
    "pre_tokenizer": {"type": "Split", "pattern": {"Regex": " ?\\p{L}+"}, "behavior": "Isolated", "invert": False},
    "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                       "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [4], "tokens": ["<s>"]}}},
    "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False,
              "byte_fallback": False, "ignore_merges": False, "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3}, "merges": [["a", "b"]]},
}


def with_value(path, value):
    spec = copy.deepcopy(GOOD)
    at = spec
    for key in path[:-1]:
        at = at[key]
    if value is KeyError:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return json.dumps(spec)


def nested(depth):
    value = {"type": "NFC"}
    for _ in range(depth):
        value = {"type": "Sequence", "normalizers": [value]}
    return value


JSON = {
    "good": json.dumps(GOOD),
    "good-string-merges": with_value(["model", "merges"], ["#version: 0.2", "a b"]),
    "truncated": json.dumps(GOOD)[:200],
    "array": "[]",
    "no-model": with_value(["model"], KeyError),
    "model-null": with_value(["model"], None),
    "model-wordpiece": with_value(["model", "type"], "WordPiece"),
    "no-vocab": with_value(["model", "vocab"], KeyError),
    "vocab-array": with_value(["model", "vocab"], ["a", "b"]),
    "id-text": with_value(["model", "vocab", "a"], "0"),
    "id-real": with_value(["model", "vocab", "a"], 0.5),
    "id-negative": with_value(["model", "vocab", "a"], -1),
    "id-huge": with_value(["model", "vocab", "a"], 2**31),
    "id-far": with_value(["model", "vocab", "a"], 10000000),
    "id-64-bits": with_value(["model", "vocab", "a"], 2**62),
    "id-twice": with_value(["model", "vocab", "a"], 1),
    "no-merges": with_value(["model", "merges"], KeyError),
    "merge-unknown-part": with_value(["model", "merges"], [["a", "x"]]),
    "merge-unknown-result": with_value(["model", "merges"], [["b", "c"]]),
    "merge-three-parts": with_value(["model", "merges"], ["a b c"]),
    "merge-one-part": with_value(["model", "merges"], ["a"]),
    "merge-number": with_value(["model", "merges"], [7]),
    "merge-long-array": with_value(["model", "merges"], [["a", "b", "c"]]),
    "merge-short-right": with_value(["model", "continuing_subword_prefix"], "###"),
    "dropout": with_value(["model", "dropout"], 0.1),
    "fuse-text": with_value(["model", "fuse_unk"], "yes"),
    "unk-number": with_value(["model", "unk_token"], 3),
    "normalizer-unknown": with_value(["normalizer"], {"type": "Precompiled", "precompiled_charsmap": ""}),
    "normalizer-text": with_value(["normalizer"], "NFC"),
    "normalizer-no-type": with_value(["normalizer"], {}),
    "normalizer-no-list": with_value(["normalizer"], {"type": "Sequence"}),
    "normalizer-deep": with_value(["normalizer"], nested(20)),
    "normalizer-many": with_value(["normalizer"], {"type": "Sequence", "normalizers": [{"type": "NFC"}] * 100}),
    "replace-no-pattern": with_value(["normalizer"], {"type": "Replace", "content": "x"}),
    "replace-no-content": with_value(["normalizer"], {"type": "Replace", "pattern": {"String": "x"}}),
    "pretokenizer-unknown": with_value(["pre_tokenizer"], {"type": "UnicodeScripts"}),
    "regex-open-group": with_value(["pre_tokenizer", "pattern"], {"Regex": "(a"}),
    "regex-open-class": with_value(["pre_tokenizer", "pattern"], {"Regex": "[a"}),
    "regex-nested-class": with_value(["pre_tokenizer", "pattern"], {"Regex": "[a[^b]]"}),
    "regex-deep-class": with_value(["pre_tokenizer", "pattern"], {"Regex": "[a" * 50 + "]" * 50}),
    "regex-intersection": with_value(["pre_tokenizer", "pattern"], {"Regex": "[a-z&&[^b]]"}),
    "regex-property": with_value(["pre_tokenizer", "pattern"], {"Regex": "\\p{Nonsense}"}),
    "regex-backslash": with_value(["pre_tokenizer", "pattern"], {"Regex": "a\\"}),
    "regex-deep": with_value(["pre_tokenizer", "pattern"], {"Regex": "(" * 300 + ")" * 300}),
    "behavior": with_value(["pre_tokenizer", "behavior"], "Sometimes"),
    "metaspace-replacement": with_value(["pre_tokenizer"], {"type": "Metaspace", "replacement": "__"}),
    "metaspace-scheme": with_value(["pre_tokenizer"], {"type": "Metaspace", "replacement": "_", "prepend_scheme": "last"}),
    "decoder-unknown": with_value(["decoder"], {"type": "CTC"}),
    "strip-empty": with_value(["decoder"], {"type": "Strip", "content": "", "start": 1, "stop": 0}),
    "processor-unknown": with_value(["post_processor"], {"type": "Nonsense"}),
    "template-no-single": with_value(["post_processor", "single"], KeyError),
    "template-no-text": with_value(["post_processor", "single"], [{"SpecialToken": {"id": "<s>", "type_id": 0}}]),
    "template-twice": with_value(["post_processor", "single"], [{"Sequence": {"id": "A"}}, {"Sequence": {"id": "A"}}]),
    "template-unknown-token": with_value(["post_processor", "special_tokens"], {}),
    "template-bad-id": with_value(["post_processor", "special_tokens", "<s>", "ids"], [-4]),
    "template-id-outside": with_value(["post_processor", "special_tokens", "<s>", "ids"], [400]),
    "roberta-no-cls": with_value(["post_processor"], {"type": "RobertaProcessing", "sep": ["<s>", 4]}),
    "added-object": with_value(["added_tokens"], {}),
    "added-text": with_value(["added_tokens"], ["<s>"]),
    "added-no-content": with_value(["added_tokens", 0, "content"], KeyError),
    "added-flag": with_value(["added_tokens", 0, "lstrip"], 1),
    "unigram-object": with_value(["model"], {"type": "Unigram", "unk_id": 0, "vocab": {"a": 0}}),
    "unigram-empty": with_value(["model"], {"type": "Unigram", "unk_id": 0, "vocab": []}),
    "unigram-no-score": with_value(["model"], {"type": "Unigram", "unk_id": 0, "vocab": [["a"]]}),
    "unigram-unk": with_value(["model"], {"type": "Unigram", "unk_id": 5, "vocab": [["a", -1.0]]}),
}


def varint(n):
    n &= 2**64 - 1
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def field(number, payload):
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def number(n, value):
    return varint(n << 3) + varint(value)


def piece(text, score=0.0, kind=1):
    return field(1, field(1, text) + varint(2 << 3 | 5) + struct.pack("<f", score) + number(3, kind))


PIECES = piece(b"<unk>", 0, 2) + piece(b"<s>", 0, 3) + piece(b"</s>", 0, 3) + piece("\u2581".encode(), -1) + piece(b"a", -2) + piece(b"b", -3) + \
    piece(b"ab", -0.5) + piece("\u2581a".encode(), -0.7)
TRAINER = field(2, number(3, 2) + number(40, 0) + number(41, 1) + number(42, 2))
MODEL = {
    "good": PIECES + TRAINER + field(3, field(1, b"identity")),
    "empty": b"",
    "no-pieces": TRAINER,
    "unigram": PIECES,
    "truncated-piece": (PIECES + TRAINER)[:20],
    "truncated-number": PIECES + b"\x12",
    "long-field": PIECES + b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    "long-number": PIECES + b"\x80" * 12,
    "unknown-kind": PIECES + b"\x13",
    "short-float": field(1, field(1, b"a") + varint(2 << 3 | 5) + b"\0\0"),
    "empty-piece": piece(b"") + TRAINER,
    "not-utf8": piece(b"\xff\xfe") + TRAINER,
    "nan-score": piece(b"a", float("nan")) + TRAINER,
    "type-9": piece(b"a", 0, 9) + TRAINER,
    "unk-outside": PIECES + field(2, number(3, 2) + number(40, 99)),
    "bos-outside": PIECES + field(2, number(3, 2) + number(41, 99)),
    "eos-outside": PIECES + field(2, number(3, 2) + number(42, 99)),
    "character-map": PIECES + TRAINER + field(3, field(2, b"\x04\0\0\0abcd")),
    "no-escape": PIECES + TRAINER + field(3, number(5, 0)),
    "long-piece": PIECES + piece(b"a" * 5000) + TRAINER,
}

OUT.mkdir(exist_ok=True)
for name, text in JSON.items():
    (OUT / f"{name}.json").write_text(text)
for name, data in MODEL.items():
    (OUT / f"{name}.model").write_bytes(data)
