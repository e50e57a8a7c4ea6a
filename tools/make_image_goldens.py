#!/usr/bin/env python3
"""Makes tests/data/image: small pictures of every kind that is read, what Pillow makes of each, and checksums of Pillow's resizing.

usage: make_image_goldens.py [OUT]

goldens.json: "decode": for each file the upright picture as 8-bit RGB, in hexadecimal (exif_transpose, then convert("RGB")); "resize": for a crop
box, a size and a filter of rgb.png the CRC-32 of Pillow's bytes. Needs Pillow 13 and numpy.
"""
import io
import json
import pathlib
import struct
import sys
import zlib

import numpy as np
from PIL import Image, ImageOps

WIDTH, HEIGHT = 23, 17


def scene(width=WIDTH, height=HEIGHT):
    """Smooth colours with a few hard edges and some noise: [height, width, 3] uint8."""
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(5).integers(0, 40, (height, width, 3))
    rgb = np.stack([x * 200 // width, y * 200 // height, (x + y) * 200 // (width + height)], axis=-1) + noise
    rgb[height // 4 : height // 2, width // 3 : width // 2] = (250, 10, 30)
    return rgb.clip(0, 255).astype(np.uint8)


def alpha(width=WIDTH, height=HEIGHT):
    y, x = np.mgrid[0:height, 0:width]
    return ((x * 37 + y * 11) % 256).astype(np.uint8)


def png16(array):
    """A PNG of 16 bits a sample, [height, width, 1, 2, 3 or 4] uint16, which Pillow cannot write in colour."""
    height, width, channels = array.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def interlaced(rgb):
    """An Adam7 PNG, which Pillow reads and does not write."""
    height, width, _ = rgb.shape
    data = b""
    for x0, y0, dx, dy in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)):
        part = rgb[y0::dy, x0::dx]
        if part.size:
            data += b"".join(b"\0" + row.tobytes() for row in part)

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b"")


def saved(image, form, **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def oriented(image, form, orientation):
    exif = Image.Exif()
    exif[0x010F] = "camera"
    exif[0x0112] = orientation
    return saved(image, form, exif=exif.tobytes(), **({"quality": 92} if form == "JPEG" else {"lossless": True} if form == "WEBP" else {}))


def big_endian_exif(jpeg):
    """The same JPEG with an EXIF block in the other byte order, orientation 8."""
    tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 8, 0, 0)
    app1 = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(app1) + 2) + app1 + jpeg[2:]


def without_adobe(jpeg):
    """A CMYK JPEG without its Adobe marker."""
    at = jpeg.index(b"\xff\xee")
    size = struct.unpack(">H", jpeg[at + 2 : at + 4])[0]
    return jpeg[:at] + jpeg[at + 2 + size :]


def pictures():
    rgb = Image.fromarray(scene())
    grey = rgb.convert("L")
    rgba = rgb.copy()
    rgba.putalpha(Image.fromarray(alpha()))
    cmyk = Image.fromarray(np.concatenate([scene(), alpha()[..., None] // 3], axis=-1), "CMYK")
    palette = rgb.quantize(13)
    files = {
        "rgb.png": saved(rgb, "PNG"), "grey.png": saved(grey, "PNG"), "rgba.png": saved(rgba, "PNG"), "grey-alpha.png": saved(rgba.convert("LA"), "PNG"),
        "palette.png": saved(palette, "PNG"), "palette-transparent.png": saved(palette, "PNG", transparency=3),
        "palette-alphas.png": saved(palette, "PNG", transparency=bytes(range(13))), "two-colours.png": saved(rgb.quantize(2), "PNG"),
        "bits-1.png": saved(grey.convert("1"), "PNG"), "colour-key.png": saved(rgb, "PNG", transparency=(250, 10, 30)),
        "interlaced.png": interlaced(scene()), "one-pixel.png": saved(rgb.crop((3, 3, 4, 4)), "PNG"),
        "turned-6.png": oriented(rgb, "PNG", 6), "animated.png": saved(rgb, "PNG", save_all=True, append_images=[ImageOps.invert(rgb)]),
        "rgb.jpg": saved(rgb, "JPEG", quality=90), "rough.jpg": saved(rgb, "JPEG", quality=15, subsampling=2),
        "full-colour.jpg": saved(rgb, "JPEG", quality=95, subsampling=0), "half-colour.jpg": saved(rgb, "JPEG", quality=80, subsampling=1),
        "progressive.jpg": saved(rgb, "JPEG", quality=85, progressive=True), "grey.jpg": saved(grey, "JPEG", quality=85),
        "cmyk.jpg": saved(cmyk, "JPEG", quality=95), "cmyk-plain.jpg": without_adobe(saved(cmyk, "JPEG", quality=95)),
        "restarts.jpg": saved(rgb, "JPEG", quality=85, restart_marker_blocks=2), "kept-rgb.jpg": saved(rgb, "JPEG", quality=90, keep_rgb=True),
        "turned-8-other-order.jpg": big_endian_exif(saved(rgb, "JPEG", quality=92)),
        "lossy.webp": saved(rgb, "WEBP", quality=80), "lossless.webp": saved(rgb, "WEBP", lossless=True),
        "alpha-lossy.webp": saved(rgba, "WEBP", quality=85), "alpha-lossless.webp": saved(rgba, "WEBP", lossless=True, exact=True),
        "animated.webp": saved(rgb, "WEBP", save_all=True, append_images=[ImageOps.invert(rgb)], lossless=True, duration=50),
        "turned-3.webp": oriented(rgb, "WEBP", 3),
    }
    for orientation in range(1, 9):
        files[f"turned-{orientation}.jpg"] = oriented(rgb, "JPEG", orientation)
    wide = scene().astype(np.uint16) * 256 + scene(WIDTH, HEIGHT)[:, ::-1]
    files["rgb-16.png"] = png16(wide)
    files["rgba-16.png"] = png16(np.concatenate([wide, alpha()[..., None].astype(np.uint16) * 257], axis=-1))
    files["grey-alpha-16.png"] = png16(np.stack([wide[..., 0], wide[..., 1]], axis=-1))
    files["grey-16.png"] = png16(wide[..., :1])
    # YCCK: the same CMYK data, said to be transformed.
    ycck = bytearray(files["cmyk.jpg"])
    at = ycck.index(b"\xff\xee")
    ycck[at + 15] = 2
    files["ycck.jpg"] = bytes(ycck)
    return files


def read(data):
    return ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")


def decode_cases(files):
    cases = {}
    for name, data in sorted(files.items()):
        image = read(data)
        if name == "grey-16.png":  # Pillow saturates: the high byte is what a viewer shows
            deep = np.asarray(Image.open(io.BytesIO(data))).astype(np.uint16)
            image = Image.fromarray((deep >> 8).astype(np.uint8)).convert("RGB")
        cases[name] = {"width": image.width, "height": image.height, "rgb": image.tobytes().hex()}
    return cases


def resize_cases(image):
    """Reductions and enlargements, odd ratios, one axis alone, crops, sizes of one pixel."""
    sizes = [(1, 1), (2, 1), (5, 3), (7, 17), (23, 5), (16, 16), (22, 16), (24, 18), (23, 40), (60, 17), (46, 34), (64, 48), (224, 224), (13, 101), (20, 2), (22, 3)]
    boxes = [None, (0, 0, 11, 9), (4, 3, 20, 16), (22, 16, 23, 17), (5, 0, 6, 17)]
    cases = []
    for box in boxes:
        part = image if box is None else image.crop(box)
        for width, height in sizes:
            for filter_ in range(6):
                made = part.resize((width, height), resample=filter_)
                cases.append({"box": None if box is None else [box[0], box[1], box[2] - box[0], box[3] - box[1]], "size": [width, height],
                              "filter": filter_, "crc": zlib.crc32(made.tobytes())})
    return cases


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent / "tests" / "data" / "image")
    out.mkdir(parents=True, exist_ok=True)
    files = pictures()
    for name, data in files.items():
        (out / name).write_bytes(data)
    decode, resize = decode_cases(files), resize_cases(read(files["rgb.png"]))
    lines = ["{", '"decode": {', ",\n".join(f"{json.dumps(name)}: {json.dumps(case)}" for name, case in decode.items()), "},", '"resize": [',
             ",\n".join(json.dumps(case) for case in resize), "]", "}"]
    (out / "goldens.json").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{out}: {len(decode)} pictures, {len(resize)} resizings")


if __name__ == "__main__":
    main()
