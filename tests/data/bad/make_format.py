#!/usr/bin/env python3
"""Writes the hand-made files in safetensors/ and json/ beside this script.

good-* must be read, all others refused; tests/unit/test_safetensors.c and test_json.c say with which words.
They are committed: run this only to add one.
"""
import json
import pathlib
import struct

HERE = pathlib.Path(__file__).parent


def st(name, header, data=b"", length=None):
    text = header if isinstance(header, bytes) else (header if isinstance(header, str) else json.dumps(header)).encode()
    size = len(text) if length is None else length
    (HERE / "safetensors" / name).write_bytes(struct.pack("<Q", size) + text + data)


def t(begin, end, shape=None, dtype="F32"):
    return {"dtype": dtype, "shape": [(end - begin) // 4] if shape is None else shape, "data_offsets": [begin, end]}


def safetensors():
    (HERE / "safetensors" / "empty").write_bytes(b"")
    (HERE / "safetensors" / "seven-bytes").write_bytes(b"\x02\0\0\0\0\0\0")
    (HERE / "safetensors" / "text-file").write_bytes(b"this is no safetensors file\n")
    st("header-length-zero", b"")
    st("header-past-end", {"a": t(0, 4)}, b"1234", length=4000)
    st("header-past-end-by-one", {"a": t(0, 0, [0])}, length=len(json.dumps({"a": t(0, 0, [0])})) + 1)
    st("header-length-huge", {"a": t(0, 4)}, b"1234", length=2**64 - 1)
    st("header-length-above-limit", {"a": t(0, 4)}, b"1234", length=100_000_001)
    st("header-blank-first", ' {"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x")
    st("header-array", b"[1]")
    st("header-cut", b'{"a":{"dtype":"F32","sha')
    st("header-trailing-text", b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}}', b"x")
    st("header-trailing-nul", b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}\0\0', b"x")
    st("header-not-utf8", b'{"\xff\xfe":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x")
    st("header-deep", b'{"a":' + b"[" * 3000 + b"]" * 3000 + b"}")
    st("header-nan", b'{"a":{"dtype":"U8","shape":[NaN],"data_offsets":[0,1]}}', b"x")
    st("header-infinity", b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,Infinity]}}', b"x")
    st("duplicate-tensor", b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}', b"xy")
    st("duplicate-key", b'{"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}', b"x")
    st("duplicate-metadata", b'{"__metadata__":{"k":"1","k":"2"}}')
    st("nul-in-name", b'{"a\\u0000b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x")
    st("metadata-array", b'{"__metadata__":["a"]}')
    st("metadata-number", b'{"__metadata__":{"steps":3}}')
    st("entry-number", b'{"layer.weight":7}')
    st("dtype-missing", b'{"w":{"shape":[1],"data_offsets":[0,4]}}', b"1234")
    st("dtype-unknown", {"w": t(0, 4, dtype="F31")}, b"1234")
    st("dtype-lowercase", {"w": t(0, 4, dtype="f32")}, b"1234")
    st("dtype-nul", b'{"w":{"dtype":"F32\\u0000","shape":[1],"data_offsets":[0,4]}}', b"1234")
    st("dtype-float8", {"w": t(0, 4, [4], dtype="F8_E4M3")}, b"1234")
    st("dtype-quantised", {"w": t(0, 18, [32], dtype="Q4_0")}, bytes(18))
    st("shape-missing", b'{"w":{"dtype":"F32","data_offsets":[0,4]}}', b"1234")
    st("shape-negative", {"w": t(0, 4, [-1])}, b"1234")
    st("shape-two-negatives", {"w": t(0, 4, [-1, -1])}, b"1234")
    st("shape-real", b'{"w":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}', b"1234")
    st("shape-string", b'{"w":{"dtype":"F32","shape":["1"],"data_offsets":[0,4]}}', b"1234")
    st("shape-overflow", {"w": t(0, 4, [2**62, 2**62])}, b"1234")
    st("shape-overflow-wraps-to-one-element", {"w": t(0, 4, [2**32, 2**32 + 1])}, b"1234")
    st("shape-bytes-overflow", {"w": t(0, 4, [2**62])}, b"1234")
    st("shape-above-int64", b'{"w":{"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,4]}}', b"1234")
    st("shape-seven-dimensions", {"w": t(0, 4, [1] * 7)}, b"1234")
    st("shape-too-large", {"w": t(0, 4, [2])}, b"1234")
    st("shape-too-small", {"w": t(0, 8, [1])}, b"12345678")
    st("offsets-missing", b'{"w":{"dtype":"F32","shape":[1]}}', b"1234")
    st("offsets-one", b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[4]}}', b"1234")
    st("offsets-three", b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}', b"12345678")
    st("offsets-negative", {"w": t(-4, 0, [1])}, b"1234")
    st("offsets-reversed", {"w": t(4, 0, [1])}, b"1234")
    st("offsets-past-end", {"w": t(0, 8, [2])}, b"1234")
    st("offsets-far-past-end", {"w": t(2**62, 2**62 + 4, [1])}, b"1234")
    st("overlap", {"a": t(0, 8), "b": t(4, 12)}, bytes(12))
    st("overlap-same-bytes", {"a": t(0, 4), "b": t(0, 4)}, bytes(4))
    st("overlap-inside", {"a": t(0, 12), "b": t(4, 8)}, bytes(12))
    st("gap-first", {"a": t(4, 8)}, bytes(8))
    st("gap-between", {"a": t(0, 4), "b": t(8, 12)}, bytes(12))
    st("gap-empty-tensor-in-it", {"a": t(0, 4), "e": t(6, 6, [0]), "b": t(8, 12)}, bytes(12))
    st("trailing-bytes", {"a": t(0, 4)}, bytes(5))
    st("trailing-bytes-without-tensors", b"{}", b"hidden")
    st("name-with-escape-codes", b'{"\\u001b[2Jw":7}')
    st("good-one", {"__metadata__": {"format": "pt"}, "a": t(0, 8, [1, 2])}, struct.pack("<2f", 1, -2))
    st("good-no-tensors", b"{}")
    st("good-padded", b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}   ', b"x")
    st("good-scalar", {"s": t(0, 4, [])}, struct.pack("<f", 3))
    st("good-unaligned", {"b": t(1, 5, [1]), "a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}, b"\x07" + struct.pack("<f", 2.5))
    st("good-empty-tensors", {"z": t(4, 4, [0, 5]), "y": t(0, 0, [0]), "a": t(0, 4)}, struct.pack("<f", 9))
    st("good-extra-key", b'{"__metadata__":null,"a":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1],"note":[]}}', b"\1")


def doc(name, text):
    (HERE / "json" / name).write_bytes(text if isinstance(text, bytes) else text.encode())


def json_files():
    doc("empty", "")
    doc("blank", " \n\t ")
    doc("open-object", '{"a": 1')
    doc("open-array", "[1, 2")
    doc("open-string", '{"a": "b')
    doc("two-documents", '{"a": 1} {"b": 2}')
    doc("trailing-comma-object", '{"a": 1,}')
    doc("trailing-comma-array", "[1,]")
    doc("duplicate-key", '{"a": 1, "b": 2, "a": 3}')
    doc("duplicate-nested", '{"x": [{"k": 1, "k": 1}]}')
    doc("duplicate-by-escape", '{"a": 1, "\\u0061": 2}')
    doc("nan", '{"a": NaN}')
    doc("minus-infinity", "[-Infinity]")
    doc("number-overflow", "[1e999]")
    doc("integer-overflow", "[9223372036854775808]")
    doc("leading-zero", "[012]")
    doc("plus-sign", "[+1]")
    doc("bare-point", "[.5]")
    doc("hexadecimal", "[0x10]")
    doc("single-quotes", "{'a': 1}")
    doc("comment", "[1] // one")
    doc("bad-escape", '["\\x41"]')
    doc("lone-surrogate", '["\\ud800"]')
    doc("control-character", b'["a\x01b"]')
    doc("not-utf8", b'["\xc3\x28"]')
    doc("overlong-utf8", b'["\xc0\xaf"]')
    doc("byte-order-mark", b"\xef\xbb\xbf[1]")
    doc("utf16", '{"a": 1}'.encode("utf-16-le"))
    doc("nul-byte", b'{"a": 1}\0')
    doc("nul-in-key", '{"a\\u0000": 1}')
    doc("deep-arrays", "[" * 100000)
    doc("deep-objects", '{"a":' * 5000 + "1" + "}" * 5000)
    doc("key-not-string", "{1: 2}")
    doc("missing-colon", '{"a" 1}')
    doc("upper-case-true", "[True]")
    doc("good-config", '{"n_layer": 12, "layer_norm_epsilon": 1e-05, "tie": true, "name": "gpt2", "none": null, "list": [1, 2.5, "x"]}')
    doc("good-escapes", '{"text": "\\u0000\\n\\"\\\\\\ud83d\\ude00 \\/", "empty": {}, "nothing": []}')
    doc("good-number", " 42 \n")
    doc("good-limits", "[9223372036854775807, -9223372036854775808, 1.7976931348623157e308, 5e-324, -0.0]")


safetensors()
json_files()
