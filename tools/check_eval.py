#!/usr/bin/env python3
"""Compare offsite eval with recorded answers of lm-evaluation-harness about SmolLM2, document by document.

    check_eval.py --offsite build/offsite --model SmolLM2-135M-Instruct.Q4_1.gguf [--golden ../shared/golden/eval] [--data ../shared/data]
                  [--only NAME ...] [--options "--dtype bf16"] [--tolerance 2e-3] [--chars 20000]

Records of other documents are made by golden/eval/make.py: --golden names their folder, --chars says what make.py was told.
Bars: prompts equal, a log-likelihood within 2e-3, a block's loss within 2e-4, a perplexity within 1e-4 of itself; a choice may differ only where two
scores are closer than the tolerance. Standard library only.
"""
import argparse, json, math, subprocess, sys, tempfile
from pathlib import Path

CHOICES = {"arc_easy": ("arc_easy", 0), "arc_easy_2shot": ("arc_easy", 2), "arc_challenge": ("arc_challenge", 0), "openbookqa": ("openbookqa", 0),
           "hellaswag": ("hellaswag", 0), "piqa": ("piqa", 0), "webqs": ("webqs", 0), "sciq_made": ("sciq", 0), "race_made": ("race", 0),
           "arc_easy_made": ("arc_easy", 0), "openbookqa_made": ("openbookqa", 0), "hellaswag_made": ("hellaswag", 0), "webqs_made": ("webqs", 0)}
SPLITS = {"hellaswag": "validation", "piqa": "validation"}
PAGES = {"wikitext_one_8192": 8192, "wikitext_one_512": 512, "wikitext_pages": 8192}


def lines(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f]


class Checker:
    def __init__(self, a):
        self.a, self.failures = a, 0

    def say(self, name, ok, text):
        self.failures += not ok
        print(f"{'ok  ' if ok else 'FAIL'} {name:20} {text}", flush=True)

    def evaluate(self, task, folder, *more):
        """(results, samples) of a run."""
        with tempfile.TemporaryDirectory() as out:
            command = [self.a.offsite, "eval", self.a.model, "--task", task, "--data", str(folder), "--output", out, "--json", "--quiet", *more]
            done = subprocess.run(command + self.a.options.split(), check=True, stdout=subprocess.PIPE)
            rows = lines(next(Path(out).glob(f"samples_{task}*.jsonl")))
            return json.loads(done.stdout)["results"][task], rows

    def choices(self, name):
        task, shots = CHOICES[name]
        records = lines(self.a.golden / (name + ".jsonl"))
        file = f"{task}.{SPLITS.get(task, 'test')}.jsonl"
        source = self.a.made / (task + ".jsonl") if name.endswith("_made") else self.a.data / "qa" / file
        if shots:  # what a document's examples are depends on those before it
            _, rows = self.evaluate(task, self.a.data / "qa", "--limit", str(max(r["doc"] for r in records) + 1), "--num-fewshot", str(shots))
        else:
            with tempfile.TemporaryDirectory() as folder:
                documents = source.read_text(encoding="utf-8").split("\n")
                (Path(folder) / file).write_text("".join(documents[r["doc"]] + "\n" for r in records), encoding="utf-8")
                _, rows = self.evaluate(task, folder)
            rows = {record["doc"]: row for record, row in zip(records, rows)}
        worst, prompts, flips, greedy = 0.0, 0, 0, 0
        for record in records:
            row = rows[record["doc"]]
            for i, choice in enumerate(record["choices"]):
                given = row["arguments"][f"gen_args_{i}"]
                prompts += given["arg_0"] != choice["context"] or given["arg_1"] != choice["continuation"]
                ll, is_greedy = row["filtered_resps"][i]
                worst = max(worst, abs(float(ll) - choice["loglikelihood"]))
                greedy += (is_greedy == "True") != choice["greedy"]
            prompts += len(row["filtered_resps"]) != len(record["choices"])
            flips += sum(self.flipped(record, row, m) for m in ("acc", "acc_norm") if m in record)
            flips += "exact_match" in record and record["exact_match"] != row["exact_match"]
        ok = prompts == flips == greedy == 0 and worst <= self.a.tolerance
        self.say(name, ok, f"{len(records)} documents: prompts that differ {prompts}, largest distance {worst:.1e}, greedy {greedy}, choices {flips}")

    def flipped(self, record, row, metric):
        if record[metric] == row[metric]:
            return False
        scale = [len(c["continuation"]) - 1 if metric == "acc_norm" else 1 for c in record["choices"]]
        best = sorted((c["loglikelihood"] / n for c, n in zip(record["choices"], scale)), reverse=True)
        return best[0] - best[1] > self.a.tolerance / min(scale)

    def pages(self, name):
        text = (self.a.data / "text/wikitext-2-raw.test.txt").read_text(encoding="utf-8")
        part = text[:text.rindex("\n", 0, self.a.chars) + 1]
        records = lines(self.a.golden / (name + ".jsonl"))
        with tempfile.TemporaryDirectory() as folder:
            if name == "wikitext_pages":
                (Path(folder) / "wikitext.test.txt").write_text(part, encoding="utf-8")
            else:
                (Path(folder) / "wikitext.test.jsonl").write_text(json.dumps(dict(page=part)) + "\n")
            results, rows = self.evaluate("wikitext", folder, "--max-length", str(PAGES[name]))
        same = len(rows) == len(records) and all(r["arguments"]["gen_args_0"]["arg_0"] == g["text"] for r, g in zip(rows, records))
        worst = max(abs(float(r["filtered_resps"][0]) / g["loglikelihood"] - 1) for r, g in zip(rows, records))
        total = sum(g["loglikelihood"] for g in records)
        wanted = dict(word_perplexity=math.exp(-total / sum(g["words"] for g in records)), byte_perplexity=math.exp(-total / sum(g["bytes"] for g in records)))
        wanted["bits_per_byte"] = math.log2(wanted["byte_perplexity"])
        far = max(abs(results[k + ",none"] / v - 1) for k, v in wanted.items())
        self.say(name, same and far <= 1e-4, f"{len(records)} documents: texts equal {same}, sums within {worst:.1e}, perplexities within {far:.1e}")

    def blocks(self):
        records = lines(self.a.golden / "blocks.jsonl")
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "blocks.test.txt").write_bytes((self.a.data / "text/wikitext-2-raw.test.txt").read_bytes())
            _, rows = self.evaluate("blocks", folder, "--limit", str(max(g["block"] for g in records) + 1))
        rows = [rows[g["block"]] for g in records]
        worst = max(abs(r["loss"] - g["loss"]) for r, g in zip(rows, records))
        far = abs(math.exp(sum(r["loss"] - g["loss"] for r, g in zip(rows, records)) / len(records)) - 1)
        self.say("blocks", worst <= 2e-4 and far <= 1e-4, f"{len(records)} blocks: losses within {worst:.1e}, perplexity within {far:.1e}")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(__file__).resolve().parent.parent
    p.add_argument("--offsite", required=True)
    p.add_argument("--model", required=True)
    p.add_argument("--golden", type=Path, default=here / "../shared/golden/eval")
    p.add_argument("--data", type=Path, default=here / "../shared/data")
    p.add_argument("--made", type=Path, default=here / "../shared/golden/eval/made")
    p.add_argument("--chars", type=int, default=20000, help="of the text that wikitext's records are of")
    p.add_argument("--only", nargs="*")
    p.add_argument("--options", default="", help="more options of offsite eval")
    p.add_argument("--tolerance", type=float, default=2e-3)
    checker = Checker(p.parse_args())
    wanted = lambda name: not checker.a.only or name in checker.a.only
    there = lambda name: wanted(name) and (checker.a.golden / (name + ".jsonl")).exists()
    for name in filter(there, CHOICES):
        checker.choices(name)
    for name in filter(there, PAGES):
        checker.pages(name)
    if there("blocks"):
        checker.blocks()
    return 1 if checker.failures else 0


if __name__ == "__main__":
    sys.exit(main())
