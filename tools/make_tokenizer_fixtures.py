#!/usr/bin/env python3
"""Makes tests/data/tokenizer: small tokenizers of every kind, trained on the sentences below, each with vectors.jsonl as Hugging Face
tokenizers (or sentencepiece, for the .model) answers: {"text", "ids"}, "ids_special" and "decoded" where they differ.

    make_tokenizer_fixtures.py tests/data/tokenizer

Trainers break ties at random: a new run may give other vocabularies, with vectors that fit them.
"""
import io
import json
import random
import sys
from pathlib import Path

import gguf
import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers.convert_slow_tokenizer import bytes_to_unicode

from tokenizer_diff import LLAMA3, QWEN2, random_text

SENTENCES = """The owner of a model keeps its middle layers and sends out a smaller stand-in for them.
Whoever has the data tunes the first and the last layers, and sends back only what has changed.
Plugging the tuned layers into the whole model should be better than using the stand-in, and better than no tuning at all.
A tokenizer turns text into numbers; every number stands for a piece of a word, for a word, or for a single byte.
It isn't hard to get nine texts of ten right. The tenth has two blanks, a tab, a number like 12345, or a café in it.
We'll test it on straße, naïve, Ελληνικά, русский, 日本語, 한국어 and العربية, and they're all worth a line here.
for (int i = 0; i < n; i++) { sum += x[i] * y[i]; } // the inner loop
Numbers: 0, 1, 22, 333, 4444, 3.14159, 1e-10, 0xFF, 1,000,000 and 2024-06-30.""".splitlines()
SPECIALS = ["<s>", "</s>", "<|endoftext|>", "<|im_start|>", "<mask>"]


def vectors(path, encode, encode_special, decode, specials, seed):
    r = random.Random(seed)
    texts = ["", " ", "  ", "a", "\n\n", " a  b ", "\t\n \r\n", "caf\u00e9 cafe\u0301", "\x00", "a\x00b", "\u2581", "\ufffd\U0010ffff", "12345 678"]
    texts += SENTENCES[:5] + [f"a{s} b" for s in specials] + [f" {s}{s}\n" for s in specials]
    while len(texts) < 70:
        texts.append(random_text(r, specials))
    with open(path, "w") as out:
        for text in texts:
            ids = encode(text)
            row = {"text": text, "ids": ids}
            if encode_special(text) != ids:
                row["ids_special"] = encode_special(text)
            if decode(ids) != text:
                row["decoded"] = decode(ids)
            out.write(json.dumps(row) + "\n")


def hugging_face(path, tok, specials, seed, decode=None):
    path.mkdir(parents=True, exist_ok=True)
    vectors(path / "vectors.jsonl", lambda t: tok.encode(t, add_special_tokens=False).ids, lambda t: tok.encode(t).ids,
            decode or (lambda ids: tok.decode(ids, skip_special_tokens=False)), specials, seed)


def byte_bpe(pre, size=330, suffix=None, normalizer=None, **model):
    tok = Tokenizer(models.BPE(**model))
    tok.pre_tokenizer, tok.decoder = pre, decoders.ByteLevel()
    if normalizer:
        tok.normalizer = normalizer
    tok.train_from_iterator(SENTENCES * 3, trainers.BpeTrainer(vocab_size=size, show_progress=False, initial_alphabet=sorted(
        pre_tokenizers.ByteLevel.alphabet()), **({"end_of_word_suffix": suffix} if suffix else {})))
    return tok


def split(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def save(path, tok):
    path.mkdir(parents=True, exist_ok=True)
    tok.save(str(path / "tokenizer.json"), pretty=False)


def tokenizer_json(out):
    tok = byte_bpe(pre_tokenizers.ByteLevel(add_prefix_space=False))
    tok.add_special_tokens(["<|endoftext|>", AddedToken("<mask>", lstrip=True, special=True)])
    save(out / "gpt2", tok)
    hugging_face(out / "gpt2", tok, ["<|endoftext|>", "<mask>"], 1)

    tok = byte_bpe(split(QWEN2), normalizer=normalizers.NFC())
    tok.add_special_tokens(["<|endoftext|>", "<|im_start|>"])
    tok.add_tokens([AddedToken("layers", single_word=True, normalized=True), AddedToken("<file>", rstrip=True)])
    save(out / "qwen2", tok)
    hugging_face(out / "qwen2", tok, ["<|im_start|>", "layers", "<file>"], 2)

    tok = byte_bpe(split(LLAMA3), ignore_merges=True)
    tok.add_special_tokens(["<|begin_of_text|>"])
    tok.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
        "<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", tok.token_to_id("<|begin_of_text|>"))])])
    save(out / "llama3", tok)
    hugging_face(out / "llama3", tok, ["<|begin_of_text|>"], 3)

    # Where the dialects of regular expressions differ.
    odd = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"(?i)the\b|[^\W\d_]+|\d{1,2}+|\w|\p{Greek}+|[[:punct:]]"), "merged_with_previous"),
        pre_tokenizers.Split(Regex(" ?[^(\\s|[.,!?])]+"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)])
    tok = byte_bpe(odd, normalizer=normalizers.Sequence([normalizers.NFKD(), normalizers.Lowercase(), normalizers.Strip()]))
    save(out / "odd", tok)
    hugging_face(out / "odd", tok, ["\u00bd\u00b2", "\U00031350", "\u03b1\u0370"], 11)

    for name, metaspace in (("llama2", True), ("llama2-legacy", False)):
        tok = Tokenizer(models.BPE(unk_token="<unk>"))
        tok.pre_tokenizer = pre_tokenizers.Metaspace()
        tok.train_from_iterator(SENTENCES * 3, trainers.BpeTrainer(vocab_size=420, limit_alphabet=70, show_progress=False, special_tokens=[
            "<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]))
        spec = json.loads(tok.to_str())
        spec["added_tokens"] = spec["added_tokens"][:3]
        spec["model"] |= {"byte_fallback": True, "fuse_unk": True}
        tok = Tokenizer.from_str(json.dumps(spec))
        if metaspace:
            tok.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        else:
            tok.pre_tokenizer = None
            tok.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
        tok.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
        tok.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
        save(out / name, tok)
        hugging_face(out / name, tok, ["<s>", "</s>", "<0x41>"], 4)

    tok = Tokenizer(models.Unigram())
    tok.normalizer, tok.pre_tokenizer, tok.decoder = normalizers.NFKC(), pre_tokenizers.Metaspace(), decoders.Metaspace()
    tok.train_from_iterator(SENTENCES * 3, trainers.UnigramTrainer(vocab_size=250, show_progress=False, unk_token="<unk>", special_tokens=["<unk>"]))
    save(out / "unigram", tok)
    hugging_face(out / "unigram", tok, ["<unk>"], 5)


def pair(path, vocab, merges):
    path.mkdir(parents=True, exist_ok=True)
    (path / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    (path / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))


def folders(out):
    spec = json.loads(byte_bpe(pre_tokenizers.ByteLevel(add_prefix_space=False)).to_str())
    merges = [tuple(m) for m in spec["model"]["merges"]]
    words = sorted(spec["model"]["vocab"], key=spec["model"]["vocab"].get)
    for name, front, back, specials in (("pair-gpt2", [], ["<|endoftext|>"], ["<|endoftext|>"]),
                                        ("pair-opt", ["<s>", "<pad>", "</s>", "<unk>"], [], ["<pad>", "</s>"])):
        vocab = {w: i for i, w in enumerate(front + words + back)}
        pair(out / name, vocab, merges)
        tok = Tokenizer(models.BPE(vocab, merges))
        tok.pre_tokenizer, tok.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        tok.add_special_tokens(specials)
        if name == "pair-opt":
            tok.post_processor = processors.TemplateProcessing("</s> $A", special_tokens=[("</s>", 2)])
        hugging_face(out / name, tok, ["<pad>", "</s>", "<|endoftext|>", "<s>"], 6)

    # CLIP: two alphabets, pieces that end a word carry </w>.
    normal = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    cut = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(
        r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), "removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False)])
    trained = json.loads(byte_bpe(cut, 560, "</w>", normal).to_str())["model"]
    letters = list(bytes_to_unicode().values())
    merges = [tuple(m) for m in trained["merges"]]
    words = letters + [c + "</w>" for c in letters] + ["".join(m) for m in merges] + ["<|startoftext|>", "<|endoftext|>"]
    vocab = {w: i for i, w in enumerate(words)}
    pair(out / "pair-clip", vocab, merges)
    tok = Tokenizer(models.BPE(vocab, merges, end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    tok.normalizer, tok.pre_tokenizer, tok.decoder = normal, cut, decoders.ByteLevel()
    tok.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    ends = [(w, vocab[w]) for w in ("<|endoftext|>", "<|startoftext|>")]
    tok.post_processor = processors.RobertaProcessing(ends[0], ends[1], False, False)
    hugging_face(out / "pair-clip", tok, ["<|startoftext|>", "<|endoftext|>"], 7,
                 lambda ids: tok.decode(ids, skip_special_tokens=False).replace("</w>", " ").strip())


def gguf_file(path, name, model, tokens, types, fields):
    path.mkdir(parents=True, exist_ok=True)
    w = gguf.GGUFWriter(str(path / name), "llama")
    w.add_tokenizer_model(model)
    w.add_token_list(tokens)
    w.add_token_types(types)
    fields(w)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def gguf_bpe(out):
    pre = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    trained = json.loads(byte_bpe(pre).to_str())["model"]
    merges = [tuple(m) for m in trained["merges"]]
    tokens = ["<|endoftext|>", "<|im_start|>"] + sorted(trained["vocab"], key=trained["vocab"].get)

    def fields(w):
        w.add_tokenizer_pre("smollm")
        w.add_token_merges([" ".join(m) for m in merges])
        w.add_bos_token_id(1)
        w.add_eos_token_id(0)
        w.add_add_bos_token(True)

    gguf_file(out / "gguf-bpe", "vocab.gguf", "gpt2", tokens, [3, 3] + [1] * (len(tokens) - 2), fields)
    tok = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    tok.pre_tokenizer, tok.decoder = pre, decoders.ByteLevel()
    tok.add_special_tokens(tokens[:2])
    tok.post_processor = processors.TemplateProcessing("<|im_start|> $A", special_tokens=[("<|im_start|>", 1)])
    hugging_face(out / "gguf-bpe", tok, tokens[:2], 8)


def spm(out):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(SENTENCES * 3), model_writer=model, model_type="bpe", vocab_size=420,
                                             character_coverage=0.99, byte_fallback=True, normalization_rule_name="identity",
                                             split_digits=True, user_defined_symbols=["<sep>", "tuned"], minloglevel=2)
    path = out / "spm"
    path.mkdir(parents=True, exist_ok=True)
    (path / "tokenizer.model").write_bytes(model.getvalue())
    sp = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    vectors(path / "vectors.jsonl", sp.encode, sp.encode, sp.decode, ["<s>", "<sep>", "tuned", "<0x41>"], 9)

    kinds = [(sp.is_unknown, 2), (sp.is_control, 3), (sp.is_byte, 6), (sp.is_unused, 5)]
    types = [next((k for test, k in kinds if test(i)), 4 if sp.id_to_piece(i) in ("<sep>", "tuned") else 1) for i in range(sp.vocab_size())]

    def fields(w):
        w.add_token_scores([sp.get_score(i) for i in range(sp.vocab_size())])
        w.add_unk_token_id(sp.unk_id())
        w.add_bos_token_id(sp.bos_id())
        w.add_eos_token_id(sp.eos_id())
        w.add_add_bos_token(False)
        w.add_remove_extra_whitespaces(True)

    gguf_file(out / "gguf-spm", "vocab.gguf", "llama", [sp.id_to_piece(i) for i in range(sp.vocab_size())], types, fields)
    vectors(out / "gguf-spm" / "vectors.jsonl", sp.encode, sp.encode, sp.decode, ["<s>", "<sep>", "tuned", "<0x41>"], 10)


def main():
    out = Path(sys.argv[1])
    tokenizer_json(out)
    folders(out)
    gguf_bpe(out)
    spm(out)


if __name__ == "__main__":
    main()
