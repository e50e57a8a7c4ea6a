#!/usr/bin/env python3
"""Top-1 and top-5 of transformers and of offsite over the same files of pictures, and where they differ.

    python3 tools/check_vision.py --model vit/ --images folder-or-tar [--every 4] [--tensors] [--offsite build/offsite]

Pictures lie in folders that are called after the classes, and are turned upright by EXIF, as transformers' load_image does. With --tensors, offsite reads the pixel_values that transformers' image processor made,
so that only the model is compared; without, it reads, resizes and normalises the files itself. Needs torch, transformers, safetensors and Pillow."""
import argparse
import io
import json
import pathlib
import subprocess
import tarfile
import tempfile
import time

import torch
from PIL import Image, ImageOps
from safetensors.torch import save_file
from transformers import AutoImageProcessor, AutoModelForImageClassification


def pictures(path):
    """(name, class, opened picture), in the order of their names."""
    path = pathlib.Path(path)
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")):
            yield str(file.relative_to(path)), file.parent.name, Image.open(file)
        return
    with tarfile.open(path) as tar:
        for member in sorted((m for m in tar if m.isfile()), key=lambda m: m.name):
            yield member.name, pathlib.PurePath(member.name).parent.name, Image.open(io.BytesIO(tar.extractfile(member).read()))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--model", required=True)
    p.add_argument("--images", required=True)
    p.add_argument("--every", type=int, default=1, help="take every N-th picture")
    p.add_argument("--tensors", action="store_true")
    p.add_argument("--interpolate", action="store_true", help="transformers' interpolate_pos_encoding, for pictures of another size than the model's")
    p.add_argument("--offsite", default="build/offsite")
    p.add_argument("--batch", type=int, default=16)
    a = p.parse_args()
    processor = AutoImageProcessor.from_pretrained(a.model, use_fast=False)
    model = AutoModelForImageClassification.from_pretrained(a.model).eval()
    names, labels, pixels = [], [], []
    start = time.time()
    for i, (name, label, picture) in enumerate(pictures(a.images)):
        if i % a.every:
            continue
        names.append(name)
        labels.append(model.config.label2id[label])
        pixels.append(processor(ImageOps.exif_transpose(picture).convert("RGB"), return_tensors="pt")["pixel_values"][0])
    pixels, labels = torch.stack(pixels), torch.tensor(labels)
    reading, start = time.time() - start, time.time()
    with torch.no_grad():
        more = {"interpolate_pos_encoding": True} if a.interpolate else {}
        logits = torch.cat([model(pixel_values=pixels[i:i + a.batch], **more).logits for i in range(0, len(pixels), a.batch)])
    seconds = time.time() - start
    top = logits.topk(min(5, logits.shape[1])).indices
    print(f"transformers: top-1 {100 * (top[:, 0] == labels).float().mean():.2f} %, top-5 {100 * (top == labels[:, None]).any(1).float().mean():.2f} %, "
          f"loss {torch.nn.functional.cross_entropy(logits, labels):.6f} over {len(labels)} pictures, "
          f"{len(labels) / seconds:.1f} a second, {len(labels) / (seconds + reading):.1f} with reading")
    losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    with tempfile.TemporaryDirectory() as folder:
        source = a.images
        if a.tensors or a.every > 1:
            source = f"{folder}/pictures.safetensors"
            save_file({"pixel_values": pixels.contiguous(), "labels": labels}, source)
        start = time.time()
        run = subprocess.run([a.offsite, "eval", a.model, "--images", source, "--json", "--quiet", "--output", folder], check=True, capture_output=True, text=True)
        whole = time.time() - start
        mine = json.loads(run.stdout)
        samples = [json.loads(line) for line in next(pathlib.Path(folder).glob("samples_images_*.jsonl")).open()]
    print(f"offsite:      top-1 {100 * mine['acc']:.2f} %, top-5 {100 * mine['acc_top5']:.2f} %, loss {mine['loss']:.6f} over {mine['images']} pictures, "
          f"{mine['images_per_second']:.1f} a second, {mine['images'] / whole:.1f} with starting and checking every file")
    known = {name: i for i, name in enumerate(names)}
    theirs = [model.config.id2label[int(k)] for k in top[:, 0]]
    apart = [s for n, s in enumerate(samples) if s["prediction"] != theirs[known.get(s["image"], n)]]
    worst = max((abs(s["loss"] - float(losses[known.get(s["image"], n)])), s["image"]) for n, s in enumerate(samples))
    print(f"{len(apart)} of {len(samples)} predictions differ; the largest difference of a picture's loss is {worst[0]:.2g}")
    for s in apart[:10]:
        i = known.get(s["image"], s["doc_id"])
        two = logits[i].topk(2).values
        print(f"  {names[i]}: {s['prediction']} instead of {theirs[i]}, whose logit is {two[0] - two[1]:.5f} above the next")


main()
