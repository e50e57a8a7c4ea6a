#!/usr/bin/env python3
"""Writes the hand-made files in tar/, csv/, preprocess/ and pictures/ beside this script: archives, lists and configurations of pictures.

good-* must be read, all others refused; tests/unit/test_lists.c and test_preprocess.c say with which words. They are committed: run this only to add one.
"""
import io
import json
import pathlib
import tarfile

HERE = pathlib.Path(__file__).parent
PICTURE = (HERE.parent / "image" / "one-pixel.png").read_bytes()


def put(folder, name, data):
    (HERE / folder).mkdir(exist_ok=True)
    (HERE / folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


def header(name=b"a.png", size=b"00000000003\0", kind=b"0", magic=b"ustar\x0000", prefix=b"", checksum=None):
    block = bytearray(512)
    block[0 : len(name)] = name
    block[100:108] = b"0000644\0"
    block[124 : 124 + len(size)] = size
    block[136:148] = b"00000000000\0"
    block[156:157] = kind
    block[257 : 257 + len(magic)] = magic
    block[345 : 345 + len(prefix)] = prefix
    block[148:156] = b" " * 8
    block[148:156] = checksum if checksum is not None else b"%06o\0 " % sum(block)
    return bytes(block)


def padded(data):
    return data + b"\0" * (-len(data) % 512)


END = b"\0" * 1024


def one(**how):
    return header(**how) + padded(b"abc") + END


def extended(records, kind=b"x", then=None):
    return header(b"PaxHeader", b"%011o\0" % len(records), kind) + padded(records) + (one() if then is None else then)


def record(key, value):
    body = b" " + key + b"=" + value + b"\n"
    n = len(body)
    while len(str(n)) + len(body) != n:
        n = len(str(n)) + len(body)
    return str(n).encode() + body


def tars():
    put("tar", "empty", b"")
    put("tar", "text", b"this is no archive\n" * 40)
    put("tar", "gzip", b"\x1f\x8b\x08\0" + b"\0" * 600)
    put("tar", "picture", PICTURE + b"\0" * 1000)
    put("tar", "only-blanks", END)
    put("tar", "header-cut", one()[:300])
    put("tar", "second-header-cut", one()[:1024] + b"x" * 100)
    put("tar", "contents-cut", one()[:514])
    put("tar", "checksum-wrong", one(checksum=b"000123\0 "))
    put("tar", "second-checksum-wrong", one()[:1024] + one(checksum=b"000123\0 "))
    put("tar", "checksum-no-number", one(checksum=b"zzzzzz\0 "))
    put("tar", "size-no-number", one(size=b"0000000zzz3\0"))
    put("tar", "size-blank", one(size=b"           \0"))
    put("tar", "size-beyond", one(size=b"77777777777\0"))
    put("tar", "size-negative", one(size=b"\xff" * 12))
    put("tar", "size-64-bits", one(size=b"\x80\0\0\0\x7f" + b"\xff" * 7))
    put("tar", "size-above-64-bits", one(size=b"\x80" + b"\x7f" * 11))
    put("tar", "name-absolute", one(name=b"/etc/passwd.png"))
    put("tar", "name-upwards", one(name=b"cats/../../a.png"))
    put("tar", "name-upwards-at-end", one(name=b"cats/.."))
    put("tar", "name-upwards-after-dot", one(name=b".//../a.png"))
    put("tar", "name-empty", one(name=b""))
    put("tar", "prefix-upwards", one(prefix=b".."))
    put("tar", "long-name-upwards", extended(b"../a.png\0", b"L"))
    put("tar", "long-name-empty", extended(b"", b"L"))
    put("tar", "long-name-too-long", extended(b"a" * 5000, b"L"))
    put("tar", "pax-upwards", extended(record(b"path", b"x/../../a.png")))
    put("tar", "pax-path-empty", extended(b"8 path=\n"))
    put("tar", "pax-path-too-long", extended(record(b"path", b"a" * 5000)))
    put("tar", "pax-path-nul", extended(record(b"path", b"a.png\0.txt")))
    put("tar", "pax-no-equals", extended(b"10 path a\n"))
    put("tar", "pax-no-length", extended(b"path=a.png\n"))
    put("tar", "pax-length-zero", extended(b"0 path=a.png\n"))
    put("tar", "pax-length-short", extended(b"5 path=a.png\n"))
    put("tar", "pax-length-beyond", extended(b"99 path=a.png\n"))
    put("tar", "pax-length-huge", extended(b"9" * 40 + b" path=a.png\n"))
    put("tar", "pax-no-line-end", extended(b"14 path=a.png!"))
    put("tar", "pax-size-no-number", extended(record(b"size", b"-3")))
    put("tar", "pax-size-empty", extended(record(b"size", b"")))
    put("tar", "pax-size-too-many-digits", extended(record(b"size", b"9" * 30)))
    put("tar", "pax-size-beyond", extended(record(b"size", b"999999999999999999")))
    put("tar", "pax-sparse", extended(record(b"GNU.sparse.major", b"1")))
    put("tar", "pax-cut", header(b"PaxHeader", b"00000001000\0", b"x") + b"1")
    put("tar", "sparse", one(kind=b"S"))
    put("tar", "header-alone", extended(record(b"path", b"a.png"), then=END))
    put("tar", "only-folders", header(b"cats/", b"00000000000\0", b"5") + END)
    put("tar", "good-plain", one())
    put("tar", "good-old", one(magic=b"", kind=b"\0"))
    put("tar", "good-gnu", one(magic=b"ustar  \0"))
    put("tar", "good-prefix", one(prefix=b"cats/black"))
    put("tar", "good-dot", one(name=b"./cats/a.png"))
    put("tar", "good-no-end", one()[:1024])
    put("tar", "good-cut-padding", one()[:515])
    put("tar", "good-binary-size", one(size=b"\x80" + b"\0" * 10 + b"\x03"))
    put("tar", "good-long-name", extended(b"cats/" + b"l" * 200 + b".png\0", b"L"))
    put("tar", "good-pax", extended(record(b"path", "cats/Müller's.png".encode()) + record(b"size", b"3") + record(b"mtime", b"1.5"), then=one(size=b"00000000000\0")))
    put("tar", "good-pax-for-all", extended(record(b"comment", b"made by hand"), b"g"))
    put("tar", "good-old-folder", header(b"cats/", b"00000000000\0", b"0") + one(name=b"cats/a.png"))
    put("tar", "good-links", header(b"l", b"00000000003\0", b"2") + header(b"h", b"00000000003\0", b"1") + header(b"pipe", b"00000000000\0", b"6") + one())


def csvs():
    put("csv", "empty", b"")
    put("csv", "only-blank-lines", b"\n\r\n\n")
    put("csv", "nul", b"path,label\na\0.png,cat\n")
    put("csv", "picture", PICTURE)
    put("csv", "utf-16", "path,label\na.png,cat\n".encode("utf-16"))
    put("csv", "quote-unclosed", b'path,label\n"a.png,cat\nb.png,dog\n')
    put("csv", "quote-in-the-middle", b'path,label\na"b".png,cat\n')
    put("csv", "text-behind-quote", b'path,label\n"a.png" ,cat\n')
    put("csv", "quote-alone", b'path,label\n"\n')
    put("csv", "field-too-long", b"path,label\n" + b"a" * 70000 + b",cat\n")
    put("csv", "too-many-fields", b"path,label\n" + b"," * 300 + b"\n")
    put("csv", "good-plain", b"path,label\na.png,cat\nb.png,dog\n")
    put("csv", "good-quotes", b'path,label\n"a, the first.png","a ""big"" cat"\n"two\nlines.png",dog\n')
    put("csv", "good-windows", b"\xef\xbb\xbfpath,label\r\na.png,cat\r\n\r\nb.png,\r\n")
    put("csv", "good-no-last-line-end", b"path,label\na.png,cat")
    put("csv", "good-empty-fields", b"path,label,\n,,\n\"\",\"\",\"\"\n")


def configs():
    def config(name, **keys):
        put("preprocess", name, json.dumps({"image_processor_type": "ViTImageProcessor"} | keys))

    put("preprocess", "empty", b"")
    put("preprocess", "text", b"no configuration\n")
    put("preprocess", "cut", b'{"do_resize": tr')
    put("preprocess", "array", b"[1, 2]")
    put("preprocess", "number", b"7")
    put("preprocess", "key-twice", b'{"do_resize": true, "do_resize": false}')
    put("preprocess", "deep", b'{"size": ' + b"[" * 5000 + b"]" * 5000 + b"}")
    put("preprocess", "not-utf8", b'{"image_processor_type": "\xff"}')
    put("preprocess", "factor-infinite", b'{"rescale_factor": 1e999}')
    config("type-unknown", image_processor_type="BeitImageProcessor")
    config("type-number", image_processor_type=3)
    config("type-prefix-alone", image_processor_type="ViT")
    config("extractor-unknown", image_processor_type=None, feature_extractor_type="DetrFeatureExtractor")
    config("flag-number", do_resize=1)
    config("flag-text", do_normalize="yes")
    config("filter-negative", resample=-1)
    config("filter-unknown", resample=6)
    config("filter-text", resample="bicubic")
    config("factor-text", rescale_factor="1/255")
    config("factor-too-large", rescale_factor=1e300)
    for key in ("size", "crop_size"):
        also = {"do_center_crop": True} if key == "crop_size" else {}
        config(f"{key}-zero", **{key: 0}, **also)
        config(f"{key}-negative", **{key: -224}, **also)
        config(f"{key}-huge", **{key: 1 << 40}, **also)
        config(f"{key}-fraction", **{key: 224.5}, **also)
        config(f"{key}-text", **{key: "224"}, **also)
        config(f"{key}-list", **{key: [224, 224]}, **also)
        config(f"{key}-height-alone", **{key: {"height": 224}}, **also)
        config(f"{key}-height-text", **{key: {"height": "224", "width": 224}}, **also)
        config(f"{key}-width-zero", **{key: {"height": 224, "width": 0}}, **also)
        config(f"{key}-longest-edge", **{key: {"longest_edge": 224}}, **also)
        config(f"{key}-none", **{key: {}}, **also)
    config("crop_size-shortest-edge", crop_size={"shortest_edge": 224}, do_center_crop=True)
    config("size-both-edges", size={"shortest_edge": 224, "longest_edge": 448})
    config("edge-without-crop", size={"shortest_edge": 224})
    config("mean-two", image_mean=[0.5, 0.5])
    config("mean-text", image_mean=["a", "b", "c"])
    config("mean-too-large", image_mean=[1e300, 0.5, 0.5])
    config("std-zero", image_std=[0.5, 0, 0.5])
    config("std-negative", image_std=-0.5)
    config("std-too-small", image_std=[1e-45, 0.5, 0.5])
    config("std-object", image_std={"r": 1})
    config("good-vit", size={"height": 8, "width": 12}, resample=2, image_mean=[0.5, 0.5, 0.5], image_std=[0.5, 0.5, 0.5])
    config("good-old", image_processor_type=None, feature_extractor_type="ViTFeatureExtractor", size=16)
    config("good-fast", image_processor_type="ViTImageProcessorFast", size={"height": 16, "width": 16}, crop_size=None, default_to_square=True)
    config("good-clip", image_processor_type="CLIPImageProcessor", size={"shortest_edge": 20}, crop_size={"height": 16, "width": 16}, resample=3)
    config("good-clip-old", image_processor_type=None, feature_extractor_type="CLIPFeatureExtractor", size=20, crop_size=16, resample=3)
    config("good-deit", image_processor_type="DeiTImageProcessor", size={"height": 20, "width": 20}, crop_size={"height": 16, "width": 16})
    config("good-blip", image_processor_type="BlipImageProcessor", size={"height": 16, "width": 16})
    config("good-nothing", do_resize=False, do_rescale=False, do_normalize=False)
    config("good-one-number", image_mean=0.5, image_std=0.25, size=9)
    put("preprocess", "good-no-keys", b"{}")


def samples(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def pictures():
    """Archives and lists; beside the lists lies a.png."""
    put("pictures", "a.png", PICTURE)
    put("pictures", "no-pictures.tar", samples([("a.txt", b"none")]))
    put("pictures", "no-labels-left.tar", samples([("1.png", PICTURE), ("1.cls", b" \n"), ("2.png", PICTURE), ("2.cls", b"a\0b")]))
    put("pictures", "json-broken.tar", samples([("1.png", PICTURE), ("1.json", b'{"label": ')]))
    put("pictures", "json-no-label.tar", samples([("1.png", PICTURE), ("1.json", b'{"text": "a cat"}')]))
    put("pictures", "json-label-list.tar", samples([("1.png", PICTURE), ("1.json", b'{"label": [1]}')]))
    put("pictures", "json-label-nul.tar", samples([("1.png", PICTURE), ("1.json", b'{"label": "a\\u0000b"}')]))
    put("pictures", "json-label-long.tar", samples([("1.png", PICTURE), ("1.json", json.dumps({"label": "a" * 2000}).encode())]))
    put("pictures", "label-too-large.tar", samples([("1.png", PICTURE), ("1.cls", b"a" * 70000)]))
    put("pictures", "only-parts.tar", samples([("train/cat/a.png", PICTURE), ("test/cat/b.png", PICTURE)]))
    put("pictures", "damaged.tar", samples([("cat/a.png", PICTURE[:30]), ("dog/b.png", b"")]))
    put("pictures", "no-path.csv", b"picture,label\na.png,cat\n")
    put("pictures", "no-rows.csv", b"path,label\n")
    put("pictures", "all-outside.csv", b"path,label\n/etc/a.png,cat\n../a.png,dog\n,dog\n")
    put("pictures", "all-uneven.csv", b"path,label\na.png\na.png,cat,dog\n")
    put("pictures", "label-long.csv", b"path,label\na.png," + b"l" * 2000 + b"\n")
    put("pictures", "not-there.csv", b"path,label\nb.png,cat\n")
    put("pictures", "no-end-of-quote.csv", b'path,label\n"a.png,cat\n')
    put("pictures", "good-folders.tar", samples([("x/cat/a.png", PICTURE), ("x/dog/b.png", PICTURE), ("x/dog/c.png", PICTURE[:40])]))
    put("pictures", "good-samples.tar", samples([("1.png", PICTURE), ("1.cls", b"3\n"), ("2.jpg", PICTURE), ("2.json", b'{"label": 7}'), ("3.png", PICTURE), ("3.cls", b"")]))
    put("pictures", "good-names.tar", samples([("a/1.png", PICTURE), ("a/1.cls", b"cat"), ("b/1.png", PICTURE), ("b/1.json", b'{"cls": "dog"}')]))
    put("pictures", "good-list.csv", b"path,label\na.png,cat\nb.png,dog\n../a.png,cat\n./a.png,10\n")
    put("pictures", "good-numbers.csv", b"label,FileName\n1,a.png\n0,a.png\n,a.png\n")


tars()
csvs()
configs()
pictures()
