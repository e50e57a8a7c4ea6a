#!/usr/bin/env python3
"""Run offsite eval and lm-evaluation-harness by turns on the same documents, and compare times and every number.

    compare_lm_eval.py --offsite build/offsite --model SmolLM2.gguf --data DIR --task arc_easy [--limit 100] [--rounds 3] [--threads 2]

DIR holds TASK.SPLIT.jsonl. The harness's own task definition is used; only the source of its rows is replaced, so nothing is fetched.
Needs lm_eval, torch, transformers, datasets and gguf. The model is loaded before the harness's clock starts; offsite's time is that of the whole
command, loading included.
"""
import argparse, json, os, subprocess, tempfile, time
from pathlib import Path

SCRATCH = tempfile.TemporaryDirectory()
os.environ.update(HF_HUB_OFFLINE="1", HF_HOME=SCRATCH.name, HF_DATASETS_CACHE=SCRATCH.name, TOKENIZERS_PARALLELISM="false",
                  HF_DATASETS_DISABLE_PROGRESS_BARS="1")
import lm_eval
import torch
import yaml
from lm_eval.evaluator import evaluate
from lm_eval.loggers import EvaluationTracker
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from transformers import AutoModelForCausalLM, AutoTokenizer

FOLDERS = {"arc_easy": "arc/arc_easy", "arc_challenge": "arc/arc_challenge", "lambada_openai": "lambada/lambada_openai"}
SPLIT_KEYS = {"train": "training_split", "validation": "validation_split", "test": "test_split"}


def load(path, batch):
    path = Path(path)
    where, kw = (path.parent, dict(gguf_file=path.name)) if path.is_file() else (path, {})
    tokenizer = AutoTokenizer.from_pretrained(where, **kw)
    if kw:  # transformers forgets that SmolLM's pre-tokenizer parts digits first
        tokenizer.backend_tokenizer.pre_tokenizer = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)])
    model = AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32, **kw).eval()
    return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch)


def task_of(name, data):
    """The harness's task with its rows taken from DIR; splits that are not there are left out."""
    source = Path(lm_eval.__file__).parent / "tasks" / (FOLDERS.get(name, f"{name}/{name}") + ".yaml")
    config = dict(include=str(source), task=name, dataset_path="json", dataset_name=None)
    files = {split: Path(data).resolve() / f"{name}.{split}.jsonl" for split in ("train", "validation", "test")}
    config["dataset_kwargs"] = dict(data_files={split: str(file) for split, file in files.items() if file.exists()})
    config |= {key: None for split, key in SPLIT_KEYS.items() if not files[split].exists()}
    folder = Path(tempfile.mkdtemp(dir=SCRATCH.name))
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
    return TaskManager(include_path=str(folder), include_defaults=False).load([name])


def run_harness(lm, a, out):
    loaded = task_of(a.task, a.data)
    for task in loaded["tasks"].values():
        task.set_config("num_fewshot", a.num_fewshot)
        task.set_fewshot_seed(1234)
    begin = time.time()
    results = evaluate(lm, loaded, limit=a.limit, bootstrap_iters=0, log_samples=True)
    seconds = time.time() - begin
    if out:
        tracker = EvaluationTracker(output_path=str(out))
        tracker.general_config_tracker.model_name_sanitized = ""
        samples = results.pop("samples")
        tracker.save_results_aggregated(results, samples)
        for name, rows in samples.items():
            tracker.save_results_samples(name, rows)
    return seconds


def run_offsite(a, out):
    command = [a.offsite, "eval", a.model, "--task", a.offsite_task or a.task, "--data", a.data, "--threads", str(a.threads), "--output", str(out), "--json", "--quiet"]
    command += ["--limit", str(a.limit)] if a.limit else []
    command += ["--num-fewshot", str(a.num_fewshot)] if a.num_fewshot else []
    command += a.offsite_options.split()
    begin = time.time()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.time() - begin


def samples(folder, task):
    file = max(Path(folder).rglob(f"samples_{task}_*.jsonl"), key=lambda f: f.stat().st_mtime)
    return sorted((json.loads(line) for line in file.open(encoding="utf-8")), key=lambda r: r["doc_id"])


def compare(theirs, ours):
    """Prompts equal? The largest distance of a log-likelihood, and metrics that differ."""
    worst, prompts, metrics = 0.0, 0, 0
    assert len(theirs) == len(ours), (len(theirs), len(ours))
    for a, b in zip(theirs, ours):
        prompts += a["arguments"] != b["arguments"]
        worst = max([worst] + [abs(float(x[0]) - float(y[0])) for x, y in zip(a["filtered_resps"], b["filtered_resps"])])
        metrics += any(a[m] != b[m] for m in a["metrics"])
    return prompts, worst, metrics


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--offsite", required=True)
    p.add_argument("--model", required=True)
    p.add_argument("--data", required=True)
    p.add_argument("--task", default="arc_easy")
    p.add_argument("--offsite-task", help="a task file for offsite, where the task is not one of its own")
    p.add_argument("--limit", type=int, default=100)
    p.add_argument("--num-fewshot", type=int, default=0)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--keep", type=Path, help="folder for both results")
    p.add_argument("--offsite-options", default="", help='more options of offsite eval, e.g. "--dtype bf16"')
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    keep = a.keep or Path(SCRATCH.name)
    lm, times = load(a.model, a.batch), []
    for n in range(a.rounds):
        theirs = run_harness(lm, a, keep / "harness" if n == 0 else None)
        ours = run_offsite(a, keep / "offsite")
        times.append((theirs, ours))
        print(f"round {n}: harness {theirs:.2f} s, offsite {ours:.2f} s, {theirs / ours:.2f} times", flush=True)
    best = min(t for t, _ in times) / min(o for _, o in times)
    prompts, worst, metrics = compare(samples(keep / "harness", a.task), samples(keep / "offsite", a.task))
    print(f"best against best: {best:.2f} times; documents with other prompts {prompts}, with other metrics {metrics}; "
          f"largest distance of a log-likelihood {worst:.2g}")


if __name__ == "__main__":
    main()
