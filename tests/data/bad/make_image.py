#!/usr/bin/env python3
"""Writes tests/data/bad/image: pictures that must be refused, made from those of tests/data/image, and some good ones as seeds of fuzz_image.
They are committed: run this only to add one. tests/unit/test_image.c says with which words each is refused."""
import pathlib
import struct
import zlib

HERE = pathlib.Path(__file__).parent
GOOD = HERE.parent / "image"
OUT = HERE / "image"


def put(name, data):
    OUT.mkdir(exist_ok=True)
    (OUT / name).write_bytes(bytes(data))


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width, height, rows, depth=8, kind=2, extra=b""):
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    return head + extra + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def sized_jpeg(data, width, height):
    """The same JPEG, its frame header telling other sizes."""
    at = next(i for i in range(len(data)) if data[i] == 0xFF and data[i + 1] in (0xC0, 0xC2))
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


def many_scans():
    """8 x 8 grey pixels in 883 scans: the first, and each coefficient refined bit by bit, all of them zero."""
    def segment(mark, body):
        return bytes((0xFF, mark)) + struct.pack(">H", len(body) + 2) + body

    def scan(coefficient, high, low):
        return segment(0xDA, bytes((1, 1, 0, coefficient, coefficient, high << 4 | low))) + b"\x7f"

    head = b"\xff\xd8" + segment(0xDB, b"\0" + b"\1" * 64) + segment(0xC2, struct.pack(">BHHBBBB", 8, 8, 8, 1, 1, 0x11, 0))
    tables = b"".join(segment(0xC4, bytes((kind, 1)) + b"\0" * 16) for kind in (0x00, 0x10))
    scans = b"".join(scan(k, low + 1 if low < 13 else 0, low) for k in range(1, 64) for low in range(13, -1, -1))
    return head + tables + scan(0, 0, 0) + scans + b"\xff\xd9"


def main():
    jpeg = (GOOD / "rgb.jpg").read_bytes()
    image, webp, animated = (GOOD / "rgb.png").read_bytes(), (GOOD / "lossy.webp").read_bytes(), (GOOD / "animated.webp").read_bytes()
    put("empty", b"")
    put("text", b"this is no picture\n")
    put("one-byte", b"\xff")
    put("gif", b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;")
    put("bmp", b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0")
    put("tiff", b"II*\0\x08\0\0\0\0\0")
    put("avif", b"\0\0\0\x20ftypavif\0\0\0\0avifmif1")
    put("heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    scan = jpeg.index(b"\xff\xda")
    put("jpeg-mark-alone", jpeg[:3])
    put("jpeg-cut-header", jpeg[: scan - 40])
    put("jpeg-cut-data", jpeg[: scan + 60])
    put("jpeg-cut-last-bytes", jpeg[:-12])
    put("jpeg-no-picture", b"\xff\xd8\xff\xd9")
    put("jpeg-marker-in-data", jpeg[: scan + 60] + b"\xff\xd9")
    put("jpeg-huge", sized_jpeg(jpeg, 65500, 65500))
    put("jpeg-many-pixels", sized_jpeg(jpeg, 30000, 30000))
    put("jpeg-larger-than-data", sized_jpeg(jpeg, 2000, 2000))
    put("jpeg-no-width", sized_jpeg(jpeg, 0, 17))
    put("jpeg-12-bits", jpeg.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c"))
    tables = bytearray(jpeg)
    tables[tables.index(b"\xff\xc4") + 5 : tables.index(b"\xff\xc4") + 21] = b"\xff" * 16
    put("jpeg-bad-tables", tables)
    put("good-no-tables.jpg", jpeg[: jpeg.index(b"\xff\xc4")] + jpeg[scan:])
    put("jpeg-endless-scans", many_scans())
    put("png-mark-alone", image[:8])
    put("png-cut-header", image[:20])
    put("png-cut-data", image[: len(image) // 2])
    put("png-no-end", image[:-12])
    checksum = bytearray(image)
    checksum[29] ^= 1
    put("png-header-checksum", checksum)
    data = bytearray(image)
    data[-20] ^= 1
    put("png-data-checksum", data)
    put("png-huge", png(60000, 60000, b"\0"))
    put("png-many-pixels", png(30000, 30000, b"\0"))
    put("png-largest-numbers", png(0x7FFFFFFF, 0x7FFFFFFF, b"\0"))
    put("png-above-largest", png(0xFFFFFFFF, 1, b"\0"))
    put("png-no-height", png(4, 0, b""))
    put("png-too-few-rows", png(4, 4, b"\0" * 13))
    put("png-unknown-filter", png(4, 1, b"\x07" + b"\0" * 12))
    put("png-depth-3", png(4, 1, b"\0" * 13, depth=3))
    put("png-palette-missing", png(4, 1, b"\0" * 5, kind=3))
    put("png-no-data", b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)) + chunk(b"IEND", b""))
    put("png-profile-bomb", png(4, 1, b"\0" * 13, extra=chunk(b"iCCP", b"x\0\0" + zlib.compress(b"\0" * 50_000_000, 9))))
    put("webp-cut", webp[: len(webp) // 2])
    put("webp-head-alone", webp[:12])
    put("webp-length-huge", webp[:4] + b"\xfe\xff\xff\xff" + webp[8:])
    broken = bytearray(webp)
    broken[23:26] = b"xxx"
    put("webp-bad-frame", broken)
    at = animated.index(b"VP8X") + 12
    canvas = bytearray(animated)
    canvas[at : at + 6] = b"\x3f\x9c\0\x3f\x9c\0"
    put("webp-canvas-huge", canvas)
    small = bytearray(animated)
    small[at : at + 6] = b"\x02\0\0\x02\0\0"
    put("webp-canvas-small", small)
    for name in ("rgb.jpg", "cmyk.jpg", "progressive.jpg", "turned-6.jpg", "turned-8-other-order.jpg", "palette-alphas.png", "interlaced.png",
                 "grey-alpha-16.png", "turned-6.png", "animated.webp", "alpha-lossy.webp", "turned-3.webp", "bits-1.png"):
        put(f"good-{name}", (GOOD / name).read_bytes())
    exif = (GOOD / "turned-6.jpg").read_bytes()
    tiff = exif.index(b"Exif\0\0") + 6
    put("good-exif-offset-past-end", exif[: tiff + 4] + b"\xff\xff\xff\xff" + exif[tiff + 8 :])
    put("good-exif-entries-past-end", exif[: tiff + 8] + b"\xff\xff" + exif[tiff + 10 :])


if __name__ == "__main__":
    main()
