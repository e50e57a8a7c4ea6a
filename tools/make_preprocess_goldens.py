#!/usr/bin/env python3
"""Makes tests/data/image/preprocess.json: what the image processors of transformers make of the pictures beside it.

usage: make_preprocess_goldens.py

For each configuration and picture: the pixel_values as hexadecimal of little-endian float32. Pictures are turned upright by EXIF and made RGB first, as
transformers' load_image does. Needs transformers and Pillow 13; the processors are those of the Pillow backend.
"""
import json
import pathlib

import numpy as np
from PIL import Image, ImageOps
from transformers import CLIPImageProcessor, DeiTImageProcessor, BlipImageProcessor, ViTImageProcessor

FOLDER = pathlib.Path(__file__).parent.parent / "tests" / "data" / "image"
PICTURES = ["rgb.png", "palette.png", "grey-alpha-16.png", "turned-6.png", "one-pixel.png", "lossless.webp"]
PROCESSORS = {"ViT": ViTImageProcessor, "CLIP": CLIPImageProcessor, "DeiT": DeiTImageProcessor, "Blip": BlipImageProcessor}
CONFIGS = [
    ("ViT", dict(size={"height": 8, "width": 8})),
    ("ViT", dict(size={"height": 6, "width": 11}, resample=3, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])),
    ("ViT", dict(size={"height": 8, "width": 8}, do_rescale=False, do_normalize=False, resample=1)),
    ("ViT", dict(size={"height": 8, "width": 8}, do_normalize=False)),
    ("ViT", dict(size={"height": 8, "width": 8}, rescale_factor=1 / 127.5, image_mean=[1.0, 1.0, 1.0], image_std=[1.0, 1.0, 1.0])),
    ("CLIP", dict(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8})),
    ("CLIP", dict(size={"shortest_edge": 10}, crop_size={"height": 7, "width": 8})),
    ("CLIP", dict(size={"shortest_edge": 6}, crop_size={"height": 9, "width": 8})),
    ("CLIP", dict(do_resize=False, crop_size={"height": 8, "width": 10})),
    ("DeiT", dict(size={"height": 11, "width": 9}, crop_size={"height": 8, "width": 8})),
    ("DeiT", dict(size={"height": 8, "width": 8}, do_center_crop=False)),
    ("Blip", dict(size={"height": 8, "width": 8})),
]


def main():
    cases = []
    for kind, keys in CONFIGS:
        processor = PROCESSORS[kind](**keys)
        config = {"image_processor_type": kind + "ImageProcessor"} | keys
        for name in PICTURES:
            picture = ImageOps.exif_transpose(Image.open(FOLDER / name)).convert("RGB")
            pixels = processor(picture, return_tensors="np")["pixel_values"][0].astype("<f4")
            cases.append({"config": config, "picture": name, "shape": list(pixels.shape), "values": np.ascontiguousarray(pixels).tobytes().hex()})
    (FOLDER / "preprocess.json").write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
    print(f"{len(cases)} cases")


main()
