#!/usr/bin/env python3
"""Open what `offsite export` writes with other programs and compare the logits.

    check_export.py OFFSITE MODEL... [--types f32,f16,bf16,q8_0,q4_0] [--lora ADAPTER] [--text TEXT]

Each MODEL (a folder or a GGUF) is exported to GGUF in every type. The Python package gguf must read and decode every tensor; transformers and
llama.cpp (the package llama_cpp, where it can be imported) must give the logits that offsite gives for the model itself. Folders are also exported as
sharded folders, which transformers must load to the same logits; tokens of TEXT are compared where there is a tokenizer. With --lora the adapter is
exported for llama.cpp and laid over the model's f32 GGUF there (--types f32 is enough). Differences are root mean squares as a part of the logits' spread.
"""
import argparse
import ctypes
import json
import pathlib
import subprocess
import sys
import tempfile

import os

os.environ["TQDM_DISABLE"] = "1"  # read when transformers is imported
import gguf
import numpy as np
import torch
import transformers
from safetensors.numpy import load_file, save_file

try:
    import llama_cpp
except ImportError as e:
    llama_cpp, why = None, e

# transformers decodes the file to what is in it; llama.cpp rounds activations to 8 bits before it multiplies with 8- and 4-bit weights.
ALLOWED = {"f32": 2e-5, "f16": 1e-2, "bf16": 5e-2, "q8_0": 0.25, "q4_0": 1.2}
LLAMA_ALLOWED = {"f32": 2e-3, "f16": 1e-2, "bf16": 5e-2, "q8_0": 0.25, "q4_0": 1.2}
failures = 0


def offsite(binary, *args, stdin=None):
    done = subprocess.run([binary, *map(str, args)], capture_output=True, text=True, input=stdin)
    if done.returncode != 0:
        raise RuntimeError(f"offsite {' '.join(map(str, args))}: {done.stderr.strip()}")
    return done.stdout


def distance(ours, theirs):
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    spread = ours - ours.mean(-1, keepdims=True)
    return float(np.sqrt(((ours - theirs) ** 2).sum() / (spread ** 2).sum()))


def report(what, value, allowed):
    global failures
    ok = value <= allowed
    failures += not ok
    print(f"{'ok  ' if ok else 'FAIL'} {what}: {value:.3g} (allowed {allowed:.3g})")


def gguf_reads(path):
    reader = gguf.GGUFReader(path)
    values = 0
    for tensor in reader.tensors:
        decoded = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        if not np.isfinite(decoded).all():
            raise RuntimeError(f"{path}: {tensor.name} is not finite")
        values += decoded.size
    return len(reader.tensors), values


def transformers_logits(ids, *args, **kwargs):
    model = transformers.AutoModelForCausalLM.from_pretrained(*args, dtype=torch.float32, attn_implementation="eager", **kwargs).eval()
    with torch.no_grad():
        return model(input_ids=torch.from_numpy(ids), use_cache=False).logits.float().numpy()


@ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
def quiet(level, text, data):
    pass


class Llama:
    def __init__(self, path):
        llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
        if not self.model:
            raise RuntimeError(f"llama.cpp cannot load {path}")
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)

    def logits(self, ids, lora=None):
        out = []
        for row in ids:
            params = llama_cpp.llama_context_default_params()
            params.n_ctx, params.n_batch, params.n_ubatch, params.n_threads = 512, 512, 512, 1
            params.type_k = params.type_v = 0  # F32 keys and values
            params.flash_attn_type = 0
            context = llama_cpp.llama_init_from_model(self.model, params)
            if lora is not None:
                adapter = llama_cpp.llama_adapter_lora_init(self.model, str(lora).encode())
                if not adapter:
                    raise RuntimeError(f"llama.cpp cannot load the adapter {lora}")
                one = (ctypes.c_void_p * 1)(ctypes.cast(adapter, ctypes.c_void_p))
                scale = (ctypes.c_float * 1)(1.0)
                if hasattr(llama_cpp, "llama_set_adapters_lora"):
                    many = ctypes.cast(one, llama_cpp.llama_set_adapters_lora.argtypes[1])
                    llama_cpp.llama_set_adapters_lora(context, many, 1, scale)
                else:
                    llama_cpp.llama_set_adapter_lora(context, adapter, 1.0)
            batch = llama_cpp.llama_batch_init(len(row), 0, 1)
            batch.n_tokens = len(row)
            for i, token in enumerate(row):
                batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = int(token), i, 1, 1
                batch.seq_id[i][0] = 0
            if llama_cpp.llama_decode(context, batch) != 0:
                raise RuntimeError("llama.cpp cannot decode")
            n = llama_cpp.llama_vocab_n_tokens(self.vocab)
            out.append(np.stack([np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, i), (n,)).copy() for i in range(len(row))]))
            llama_cpp.llama_batch_free(batch)
            llama_cpp.llama_free(context)
        return np.stack(out)

    def tokens(self, text):
        data = text.encode()
        room = (ctypes.c_int32 * (len(data) + 8))()
        n = llama_cpp.llama_tokenize(self.vocab, data, len(data), room, len(room), True, True)
        return list(room[:n])


def check(binary, model, types, lora, text, work):
    config = json.loads(offsite(binary, "inspect", model, "--json"))
    print(f"== {model} ({config['architecture']})")
    offsite(binary, "export", model, "-o", work / "vocab.gguf", "--dtype", "f32", "--force")
    vocab = int(next(t for t in gguf.GGUFReader(work / "vocab.gguf").tensors if t.name == "token_embd.weight").shape[1])
    # A sliding window has no place in a GGUF: within its length both models are the same.
    settings = json.loads((pathlib.Path(model) / "config.json").read_text()) if pathlib.Path(model).is_dir() else {}
    length = min(5, settings.get("sliding_window") or 5) if settings.get("use_sliding_window", True) else 5
    ids = np.random.default_rng(5).integers(4, vocab, (2, length)).astype(np.int64)
    save_file({"input_ids": ids}, work / "ids.safetensors")

    # transformers' GGUF loader drops rope_freqs.weight, which holds Llama 3's scaling.
    scaled = pathlib.Path(model).is_dir() and '"llama3"' in (pathlib.Path(model) / "config.json").read_text()

    def ours(*extra):
        offsite(binary, "forward", model, "--input", work / "ids.safetensors", "-o", work / "out.safetensors", *extra)
        return load_file(work / "out.safetensors")["logits"]

    expected = ours()
    for name in types:
        path = work / f"{name}.gguf"
        offsite(binary, "export", model, "-o", path, "--dtype", name, "--force")
        tensors, values = gguf_reads(path)
        print(f"ok   {name}: the gguf package reads {tensors} tensors, {values} values")
        try:
            found = distance(expected, transformers_logits(ids, work, gguf_file=path.name))
            report(f"{name}: transformers" + (" without the rotary scaling that it drops" if scaled else ""), found, 1.0 if scaled else ALLOWED[name])
        except (RuntimeError, ValueError, NotImplementedError) as e:
            # Its GGUF loader knows fewer keys and architectures; llama and qwen2 must work.
            if config["architecture"] in ("llama", "qwen2"):
                raise
            print(f"     {name}: transformers cannot load it: {str(e).splitlines()[0]}")
        if llama_cpp is not None:
            llama = Llama(path)
            report(f"{name}: llama.cpp", distance(expected, llama.logits(ids)), LLAMA_ALLOWED[name])
    if llama_cpp is not None and text is not None:
        wanted = json.loads(offsite(binary, "tokenize", model, "--special", stdin=text))
        report("tokens in llama.cpp", float(llama.tokens(text) != wanted), 0)
    if llama_cpp is not None and lora is not None:
        offsite(binary, "export", model, "--adapter", lora, "--gguf-lora", "-o", work / "lora.gguf", "--force")
        adapted = ours("--adapter", lora)
        changed = distance(expected, adapted)
        print(f"     lora: the adapter changes the logits by {changed:.3g}")
        if changed < 1e-3:
            raise RuntimeError(f"{lora}: with an adapter that changes nothing the comparison would say nothing")
        report("lora: llama.cpp", distance(adapted, Llama(work / "f32.gguf").logits(ids, work / "lora.gguf")), LLAMA_ALLOWED["f32"])
    if pathlib.Path(model).is_dir():
        folder = work / "hf"
        size = (work / "vocab.gguf").stat().st_size // 3
        offsite(binary, "export", model, "-o", folder, "--dtype", "f32", "--shard-size", size, "--force")
        shards = len(list(folder.glob("*.safetensors")))
        report("shards, one part in", 1 / shards, 0.5)
        report(f"folder of {shards} shards: transformers", distance(expected, transformers_logits(ids, folder)), ALLOWED["f32"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--types", default="f32,f16,bf16,q8_0,q4_0")
    parser.add_argument("--lora")
    parser.add_argument("--text")
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if llama_cpp is None:
        print(f"llama_cpp cannot be imported ({why}): llama.cpp is not asked")
    for model in args.models:
        with tempfile.TemporaryDirectory() as work:
            check(args.binary, model, args.types.split(","), args.lora, args.text, pathlib.Path(work))
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
