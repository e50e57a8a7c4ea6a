#!/usr/bin/env python3
"""Differential test of the tokenizer against Hugging Face tokenizers.

Makes random tokenizers (model options, normalizers, pre-tokenizers, added tokens, templates, decoders) and random nasty texts, and
compares ids, ids with special tokens, and decoded text of both sides. With --file the given tokenizer.json is used instead.

    tokenizer_diff.py --program build/offsite --rounds 50 --seed 1 [--corpus FILE]
    tokenizer_diff.py --program build/offsite --file tokenizer.json --texts 2000

Exit status 1 when anything differs; the first differences are printed and the tokenizer is kept in --keep DIR.
"""
import argparse
import json
import os
import random
import subprocess
import sys
import tempfile

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
ODD = [r"\w+", r"\d", r"[^\W_]+", r"\s", r"[aeiou]", r"x*", r"(?<=a).", r"^.", r".$", r"\bt\w*\b", r"[[:alpha:]]+", r"\p{N}{1,2}+", r"(?i)the",
       r"\p{Lu}?\p{Ll}+", r"[\p{P}\p{S}]+", r"\h{2}", r"(?m:a.*)", r"\p{Greek}+", r"[\W\d]+", r"[^\P{L}a-e]+", r"[^\W\P{Ll}]", r"[\S]+",
       " ?[^(\\s|[.,!?…。，、।۔،])]+"]
WORDS = ("the of and to in a is that it was he for on with as his at be this have from or had by not word but what some we can out other were all "
         "there when up use your how said an each she don't I'll we've HELLO World naïve café über straße Ελλάδα σοφός Привет мир שלום مرحبا नमस्ते "
         "สวัสดี 你好 世界 こんにちは カタカナ 한국어 \U0001d518\U0001d52b\U0001d526 x86_64 C++ 3.14 1,000 0xDEAD 2024-01-01 user@example.org").split()
PLANES = [(0x20, 0x7E), (0x00, 0x20), (0x7F, 0xA0), (0xA1, 0x24F), (0x300, 0x36F), (0x370, 0x4FF), (0x590, 0x6FF), (0x900, 0xE7F), (0x1100, 0x11FF),
          (0x1E00, 0x206F), (0x2070, 0x2BFF), (0x3041, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xE000, 0xE010), (0xFB00, 0xFFEF),
          (0xFFF0, 0xFFFF), (0x10000, 0x1034F), (0x1D400, 0x1D7FF), (0x1F300, 0x1FAFF), (0x20000, 0x323AF), (0x10FFF0, 0x10FFFF)]
SPACES = [" ", " ", " ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", "\u00a0", "\u3000", "\u2003", "\u180e", "\u200b", "\u2028", "\x85", "\x1c", ""]


def random_text(r, extra):
    def piece():
        k = r.randrange(9)
        if k < 3:
            return r.choice(WORDS)
        if k == 3:
            low, high = r.choice(PLANES)
            return "".join(chr(r.randint(low, high)) for _ in range(r.randint(1, 6)))
        if k == 4:
            return r.choice(["'s", "'T", "'re", "'VE", "'\u017f", "n't", "'ll"])
        if k == 5:
            return r.choice(".,;:!?()[]{}<>/\\|@#$%^&*-_=+~`\"'▁Ġ") * r.randint(1, 5)
        if k == 6:
            return str(r.randrange(10 ** r.randint(1, 9)))
        if k == 7 and extra:
            return r.choice(extra)
        return r.choice(WORDS).upper() if r.random() < 0.5 else r.choice(WORDS)[: r.randint(1, 4)] * r.randint(1, 30)

    return "".join(piece() + r.choice(SPACES) for _ in range(r.randint(0, r.choice([1, 3, 8, 30]))))


def byte_level(r):
    kind = r.randrange(6)
    prefix = r.random() < 0.2
    if kind == 0:
        return pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    if kind == 1:
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=r.random() < 0.5), pre_tokenizers.ByteLevel(add_prefix_space=prefix)])
    behavior = r.choice(["isolated", "removed", "merged_with_previous", "merged_with_next", "contiguous"]) if kind > 3 else "isolated"
    pattern = r.choice([GPT2, QWEN2, LLAMA3]) if kind < 5 else r.choice(ODD)
    steps = [pre_tokenizers.Split(Regex(pattern), behavior, invert=kind > 3 and r.random() < 0.3)]
    if kind == 4:
        steps.insert(0, r.choice([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(" ", behavior), pre_tokenizers.Whitespace(),
                                  pre_tokenizers.CharDelimiterSplit("e")]))
    return pre_tokenizers.Sequence(steps + [pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=False)])


def random_normalizer(r):
    one = lambda: r.choice([normalizers.NFC, normalizers.NFD, normalizers.NFKC, normalizers.NFKD, normalizers.Lowercase, normalizers.Strip,
                            lambda: normalizers.Replace("e", "ee"), lambda: normalizers.Replace(Regex(r"\s+"), " "),
                            lambda: normalizers.Replace(Regex(r"^\s+"), ""), lambda: normalizers.Prepend("_")])()
    k = r.randrange(4)
    return None if k < 2 else one() if k == 2 else normalizers.Sequence([one() for _ in range(r.randint(1, 3))])


def added(r):
    names = ["<s>", "</s>", "<pad>", "<|im_start|>", "<|im", "<mask>", "word", "the", "Wor", " x", "e\u0301", "▁▁", "\U0001f600", "<0x41>", "123"]
    out = []
    for name in r.sample(names, r.randint(0, 6)):
        out.append(AddedToken(name, single_word=r.random() < 0.3, lstrip=r.random() < 0.3, rstrip=r.random() < 0.3, normalized=r.random() < 0.4,
                              special=r.random() < 0.5))
    return out


def make(r, corpus):
    kind = r.choice(["byte", "byte", "byte", "char", "char", "unigram"])
    if kind == "byte":
        tok = Tokenizer(models.BPE())
        tok.pre_tokenizer, tok.decoder = byte_level(r), decoders.ByteLevel()
        trainer = trainers.BpeTrainer(vocab_size=r.randint(300, 900), initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
                                      show_progress=False, **({"end_of_word_suffix": "</w>"} if r.random() < 0.1 else {}))
    elif kind == "char":
        tok = Tokenizer(models.BPE(unk_token="<unk>"))
        tok.pre_tokenizer = pre_tokenizers.Metaspace()
        marks = r.choice([{}, {}, {"end_of_word_suffix": "</w>"}, {"continuing_subword_prefix": "##"}])
        trainer = trainers.BpeTrainer(vocab_size=r.randint(200, 700), limit_alphabet=r.randint(30, 200), show_progress=False,
                                      special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)],
                                      **marks)
    else:
        tok = Tokenizer(models.Unigram())
        tok.pre_tokenizer, tok.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=r.randint(150, 400), show_progress=False, unk_token="<unk>", special_tokens=["<unk>", "<s>"])
    if kind != "char":
        tok.normalizer = random_normalizer(r)
    tok.train_from_iterator(corpus, trainer)
    spec = json.loads(tok.to_str())
    if kind == "char":
        spec["model"]["byte_fallback"] = r.random() < 0.7
        spec["model"]["fuse_unk"] = r.random() < 0.5
        if r.random() < 0.3:
            spec["model"]["unk_token"] = None
        if not spec["model"]["continuing_subword_prefix"]:
            spec["model"]["ignore_merges"] = r.random() < 0.2
        spec["added_tokens"] = []
    if kind == "byte":
        spec["model"]["ignore_merges"] = r.random() < 0.3
        if r.random() < 0.3:
            spec["model"]["merges"] = [" ".join(m) for m in spec["model"]["merges"]]
    tok = Tokenizer.from_str(json.dumps(spec))
    if kind == "char":
        if r.random() < 0.5:
            tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
            tok.pre_tokenizer = None
        else:
            tok.normalizer = random_normalizer(r)
            tok.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=r.choice(["always", "first", "never"]), split=r.random() < 0.5)
        tok.decoder = r.choice([
            decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", r.randint(0, 2), 0)]),
            decoders.Metaspace(prepend_scheme=r.choice(["always", "never"])), decoders.BPEDecoder(suffix="</w>"), None])
    specials = added(r)
    tok.add_tokens([t for t in specials if not t.special])
    tok.add_special_tokens([t for t in specials if t.special])
    names = [t.content for t in specials]
    if names and r.random() < 0.6:
        pick = [(n, tok.token_to_id(n)) for n in names]
        k = r.randrange(3)
        if k == 0:
            tok.post_processor = processors.TemplateProcessing(single=f"{names[0]} $A {names[-1]}", special_tokens=pick) if not any(
                " " in n or ":" in n for n in (names[0], names[-1])) else processors.ByteLevel()
        elif k == 1:
            tok.post_processor = processors.RobertaProcessing(pick[0], pick[-1])
        else:
            tok.post_processor = processors.Sequence([processors.ByteLevel(), processors.BertProcessing(pick[-1], pick[0])])
    return tok, names + ["<0x41>"]


def run(program, path, rows, *flags):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    done = subprocess.run([*program, path, "--jsonl", *flags], input=text, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip()[-400:])
    return [json.loads(line) for line in done.stdout.split("\n") if line]


def compare(program, path, tok, texts, show):
    """Number of differing texts."""
    # CLIP's ends of words are cleaned up in decoding as transformers does, not as the bare library does.
    spec = json.loads(tok.to_str())
    clip = spec["model"].get("end_of_word_suffix") and (spec["decoder"] or {}).get("type") == "ByteLevel"
    want = [tok.encode(t, add_special_tokens=False).ids for t in texts]
    special = [tok.encode(t).ids for t in texts]
    decoded = [tok.decode(ids, skip_special_tokens=False) for ids in want]
    if clip:
        decoded = [d.replace("</w>", " ").strip() for d in decoded]
    got = [row["ids"] for row in run(program, path, [{"text": t} for t in texts])]
    got_special = [row["ids"] for row in run(program, path, [{"text": t} for t in texts], "--special")]
    got_decoded = [row["text"] for row in run(program, path, [{"ids": ids} for ids in want], "--decode")]
    wrong = 0
    for i, text in enumerate(texts):
        for what, a, b in (("ids", want[i], got[i]), ("special", special[i], got_special[i]), ("decoded", decoded[i], got_decoded[i])):
            if a == b:
                continue
            wrong += 1
            if wrong <= show:
                print(f"  {what}: {json.dumps(text)[:300]}\n    theirs {str(ascii(a))[:300]}\n    ours   {str(ascii(b))[:300]}")
            break
    return wrong


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--program", required=True, help="the offsite program; it is called as PROGRAM tokenize FILE --jsonl")
    p.add_argument("--no-verb", action="store_true", help="call PROGRAM FILE --jsonl instead")
    p.add_argument("--file", help="compare this tokenizer.json only")
    p.add_argument("--ours", help="with --file: what our side opens instead (a GGUF, a folder)")
    p.add_argument("--plain", action="store_true", help="with --file: no added tokens in the texts")
    p.add_argument("--rounds", type=int, default=30)
    p.add_argument("--texts", type=int, default=300)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--corpus", help="a text to train on and to cut passages from")
    p.add_argument("--keep", default=".")
    args = p.parse_args()
    program = [args.program] + ([] if args.no_verb else ["tokenize"])
    own = random.Random(args.seed)
    corpus = open(args.corpus, encoding="utf-8").read()[:400000] if args.corpus else ""
    total = 0
    for n in range(1 if args.file else args.rounds):
        r = random.Random(args.seed * 100003 + n)
        if args.file:
            tok = Tokenizer.from_file(args.file)
            names = [] if args.plain else [t.content for t in tok.get_added_tokens_decoder().values()]
            path = args.ours or args.file
        else:
            lines = [" ".join(own.choice(WORDS) for _ in range(12)) for _ in range(200)] + corpus.splitlines()[:2000]
            try:
                tok, names = make(r, lines)
            except Exception as problem:  # some random options cannot be trained
                print(f"round {n}: not trained: {problem}")
                continue
            path = os.path.join(tempfile.gettempdir(), f"tokenizer-diff-{os.getpid()}.json")
            tok.save(path)
        texts = [random_text(r, names) for _ in range(args.texts)]
        if corpus:
            texts += [corpus[i : i + r.randrange(20, 2000)] for i in (r.randrange(len(corpus)) for _ in range(20))]
        try:
            wrong = compare(program, path, tok, texts, 3)
        except RuntimeError as problem:
            print(f"round {n}: {problem}")
            wrong = 1
        if wrong:
            total += wrong
            print(f"round {n}: {wrong} of {len(texts)} texts differ")
            if not args.file:
                keep = os.path.join(args.keep, f"differs-{args.seed}-{n}.json")
                tok.save(keep)
                print(f"  tokenizer kept as {keep}")
        if not args.file:
            os.unlink(path)
    print("equal" if total == 0 else f"{total} texts differ")
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
