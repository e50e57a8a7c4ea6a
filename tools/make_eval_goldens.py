#!/usr/bin/env python3
"""Writes tests/data/eval: two tiny models, rows for every task, and what lm-evaluation-harness 0.4 with transformers says about them.

    make_eval_goldens.py [tests/data/eval]

Needs lm_eval, torch, transformers, tokenizers, datasets and accelerate; no network. The task files in OUT/tasks are read, the rest is made. The files
are committed: run this only when a task is added. The models have learnt a few hundred sentences, so that they write words; some answers of the
exact-match tasks are what the first one writes, so that there are hits to count.
"""
import json, os, random, shutil, sys, tempfile
from pathlib import Path

SCRATCH = tempfile.TemporaryDirectory()
os.environ.update(HF_HUB_OFFLINE="1", HF_HOME=SCRATCH.name, HF_DATASETS_CACHE=SCRATCH.name, TOKENIZERS_PARALLELISM="false",
                  HF_DATASETS_DISABLE_PROGRESS_BARS="1")
import lm_eval
import torch
import yaml
from lm_eval.evaluator import simple_evaluate
from lm_eval.loggers import EvaluationTracker
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "tests/data/eval").resolve()
WORDS = ("the a one river stone house light water small green old long runs holds falls keeps under over beside warm cold morning winter child "
         "teacher wheel bread salt iron cloud garden seven never often because").split()
R = random.Random(7)

# ==== Rows. ====


def words(low, high):
    return " ".join(R.choice(WORDS) for _ in range(R.randint(low, high)))


def sentence(low=4, high=9):
    return words(low, high).capitalize() + "."


def arc(i):
    n = [4, 4, 3, 5, 4, 4][i % 6]
    labels = [str(k + 1) for k in range(n)] if i % 4 == 3 else list("ABCDE"[:n])
    return dict(id=f"q{i}", question=sentence(5, 12)[:-1] + "?", choices=dict(text=[words(1, 4) for _ in range(n)], label=labels), answerKey=R.choice(labels))


def openbookqa(i):
    row = arc(i)
    return dict(id=row["id"], question_stem=words(4, 9).capitalize() + ["", " ", " \u00a0"][i % 3], choices=row["choices"], answerKey=" " * (i % 2) + row["answerKey"])


def piqa(i):
    return dict(goal=words(3, 7), sol1=sentence(), sol2=sentence(), label=R.randint(0, 1))


def hellaswag(i):
    marks = ["", "[header] ", "[substeps] ", "[title] "]
    return dict(activity_label=words(1, 2), ctx_a=marks[i % 4] + sentence() + ["", " [title] " + words(2, 3)][i % 2], ctx_b=["", "the Old man ", "\u00e9lan is"][i % 3],
                endings=[marks[(i + k) % 4] + words(2, 6) + "." for k in range(4)], label=str(R.randint(0, 3)))


def sciq(i):
    return dict(question=words(4, 8) + "?", support=["", "  " + sentence(), sentence() + " "][i % 3], distractor1=words(1, 2), distractor2=words(1, 2),
                distractor3=words(1, 2), correct_answer=words(1, 2))


def webqs(i):
    answers = [words(1, 2) for _ in range(R.randint(1, 3))]
    return dict(url=f"u{i}", question=words(4, 7) + "?", answers=answers + [answers[0] + " too"] * (i % 2))


def race(i):
    problems = [dict(question=["It is  _  .", words(3, 5) + "?", words(3, 5) + " _ "][(i + k) % 3], answer=R.choice("ABCD"), options=[words(1, 3) for _ in range(4)])
                for k in range(R.randint(1, 3))]
    return dict(article=" ".join(sentence() for _ in range(3)), problems=str(problems))


def wikitext(i):
    body = [sentence(8, 16).replace(" water", " @,@ water").replace(" stone", " ( stone )").replace(" old", " \" old \"") for _ in range([3, 12, 1][i % 3])]
    return dict(page=f" = {words(1, 3)} = \n \n " + " \n ".join(body) + " \n")


def capitals(i):
    labels = list("ABCD"[:R.randint(2, 4)])
    return dict(topic=words(1, 1), number=str(i), question=" " + words(3, 6) + "? ", answers=dict(text=[R.choice(["", "\u00fcber "]) + words(1, 3) for _ in labels], label=labels),
                key=R.choice(labels))


def yes_no(i):
    return dict(passage=sentence(), question=words(3, 6), label=i % 2)


def fill_in(i):
    return dict(question=words(3, 6) + "?", answer=words(1, 2))


def any_of(i):
    return dict(question=sentence(3, 6) + [" ", "", "\n"][i % 3], answers=[words(1, 2), words(1, 1)][:1 + i % 2])


def letters(i):
    return dict(title=words(1, 3), paragraphs=[sentence() for _ in range([1, 4, 30][i % 3])])


def last_word(i):
    return dict(text=sentence(6, 10) + [" ", "  "][i % 2] + words(2, 4))


def bare(i):
    return dict(good=sentence(), bad=words(4, 8))


def several(i):
    return dict(question=words(3, 6) + "?", answers=[words(1, 3) for _ in range(4)], right=[[0, 2], [1, 2, 3], [3, 0]][i % 3])


OFFICIAL = {"arc_easy": ("arc/arc_easy", arc), "arc_challenge": ("arc/arc_challenge", arc), "openbookqa": ("openbookqa/openbookqa", openbookqa), "piqa": ("piqa/piqa", piqa),
            "hellaswag": ("hellaswag/hellaswag", hellaswag), "sciq": ("sciq/sciq", sciq), "webqs": ("webqs/webqs", webqs), "race": ("race/race", race),
            "wikitext": ("wikitext/wikitext", wikitext)}
OWN = {"capitals": capitals, "yes_no": yes_no, "fill_in": fill_in, "any_of": any_of, "letters": letters, "last_word": last_word, "bare": bare, "several": several}
LATE = {"bare", "several"}  # with a generator of their own, so that they change nothing that was there before them
SCORED = {"piqa": "validation", "hellaswag": "validation", "yes_no": "validation"}
SIZES = {"race": 3, "wikitext": 3, "letters": 3}


def write_rows():
    folder = OUT / "rows"
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in [(n, m) for n, (_, m) in OFFICIAL.items()] + list(OWN.items()):
        sizes = {SCORED.get(name, "test"): SIZES.get(name, 6)}
        if name in ("arc_easy", "piqa", "hellaswag", "capitals", "fill_in", "sciq"):
            sizes["train"] = 24
        for split, n in sizes.items():
            before = R.getstate()
            R.seed(name) if name in LATE else None
            rows = [make(i) for i in range(n)]
            R.setstate(before) if name in LATE else None
            if name == "any_of":
                rows = [dict(r, answers=r["answers"] if isinstance(r["answers"], list) else [r["answers"]]) for r in rows]
            (folder / f"{name}.{split}.jsonl").write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    (folder / "blocks.test.txt").write_text(" ".join(sentence() for _ in range(60)) + "\n", encoding="utf-8")


# ==== Models. ====


def make_tokenizer(adds_eos):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    special = ["<pad>", "</s>"] if adds_eos else ["<|begin|>", "<|end|>"]
    text = [sentence() + "\nQuestion: " + sentence() + "\nAnswer: " + words(1, 3) for _ in range(200)]
    t.train_from_iterator(text, trainers.BpeTrainer(vocab_size=360, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    if adds_eos:
        t.post_processor = processors.TemplateProcessing(single="</s> $A", special_tokens=[("</s>", 1)])
        return PreTrainedTokenizerFast(tokenizer_object=t, bos_token="</s>", eos_token="</s>", pad_token="<pad>")
    return PreTrainedTokenizerFast(tokenizer_object=t, bos_token="<|begin|>", eos_token="<|end|>", pad_token="<|end|>")


def teach(model, tokenizer):
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    text = "\n\n".join(f"Question: {sentence()}\nAnswer: {words(1, 3)}. {sentence()}" for _ in range(1500))
    ids = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
    for step in range(200):
        at = [R.randrange(len(ids) - 64) for _ in range(16)]
        batch = torch.stack([ids[i:i + 64] for i in at])
        model.train()(batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def write_hits(model, tokenizer):
    """Every second answer of the exact-match tasks becomes what the model writes, in another dress where the task says that it does not matter."""

    def writes(text, n):
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        return tokenizer.decode(model.generate(ids, max_new_tokens=n, do_sample=False, pad_token_id=0)[0, ids.shape[1]:], skip_special_tokens=True)

    def change(name, make):
        path = OUT / f"rows/{name}.test.jsonl"
        rows = [json.loads(line) for line in path.open(encoding="utf-8")]
        rows = [make(row) if i % 2 == 0 else row for i, row in enumerate(rows)]
        path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")

    change("fill_in", lambda r: dict(r, answer=writes(f"Q: {r['question']}\nA:", 6).split("\n")[0].split("Q:")[0].strip().upper() + "!"))
    change("any_of", lambda r: dict(r, answers=[*r["answers"], writes(r["question"], 5).split(".")[0]]))
    def goes_on(row):
        text = "Question: " + row["text"].split(".")[0]
        return dict(text=(text + writes(text, 12)).rstrip())

    change("last_word", goes_on)
    change("webqs", lambda r: dict(r, answers=[writes(f"Question: {r['question']}\nAnswer:", 3)[1:], *r["answers"]]))


def make_model(name):
    torch.manual_seed(11)
    tokenizer = make_tokenizer(name == "opt")
    ids = dict(bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    if name == "opt":
        model = OPTForCausalLM(OPTConfig(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_dim=64, word_embed_proj_dim=32,
                                         max_position_embeddings=96, dropout=0.0, init_std=0.15, **ids))
    else:
        model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                                             max_position_embeddings=128, initializer_range=0.15, tie_word_embeddings=True, **ids))
    teach(model, tokenizer)
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    model.generation_config.do_sample = False
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model.eval(), tokenizer


# ==== What the harness says. ====


def official(name, folder):
    config = dict(include=str(Path(lm_eval.__file__).parent / "tasks" / (OFFICIAL[name][0] + ".yaml")), task=name, dataset_path="json", dataset_name=None)
    files = {split: OUT / f"rows/{name}.{split}.jsonl" for split in ("train", "validation", "test")}
    config["dataset_kwargs"] = dict(data_files={split: str(file) for split, file in files.items() if file.exists()})
    config |= {key: None for split, key in dict(train="training_split", validation="validation_split", test="test_split").items() if not files[split].exists()}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))


def own(name, folder):
    config = yaml.safe_load((OUT / f"tasks/{name}.yaml").read_text())
    files = config["dataset_kwargs"]["data_files"]
    config["dataset_kwargs"]["data_files"] = {split: str((OUT / "tasks" / file).resolve()) for split, file in files.items()}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))


KEEP = ["results", "configs", "versions", "n-shot", "higher_is_better", "n-samples", "task_hashes"]
NO_MATTER = {"configs": ["dataset_kwargs", "process_docs", "fewshot_config", "metadata"]}


def record(lm, model_name, name, shots):
    folder = Path(tempfile.mkdtemp(dir=SCRATCH.name))
    (official if name in OFFICIAL else own)(name, folder)
    results = simple_evaluate(model=lm, tasks=[name], num_fewshot=shots, task_manager=TaskManager(include_path=str(folder), include_defaults=False),
                              bootstrap_iters=100, log_samples=True, random_seed=0, numpy_random_seed=1234, torch_random_seed=1234, fewshot_random_seed=1234)
    samples = results.pop("samples")
    for key in ("pretty_env_info",):
        results.pop(key, None)
    tracker = EvaluationTracker(output_path=str(folder / "out"))
    tracker.general_config_tracker.model_name_sanitized = ""
    tracker.save_results_aggregated(results, samples)
    tracker.save_results_samples(name, samples[name])
    target = OUT / "golden" / model_name
    target.mkdir(parents=True, exist_ok=True)
    stem = name if shots is None else f"{name}.{shots}shot"
    written = json.loads(next((folder / "out").glob("results_*.json")).read_text())
    all_keys = sorted(written)
    written = {key: written[key] for key in KEEP}
    for key in NO_MATTER["configs"]:
        written["configs"][name].pop(key, None)
    lines = [json.loads(line) for line in next((folder / "out").glob("samples_*.jsonl")).open(encoding="utf-8")]
    (target / f"{stem}.json").write_text(json.dumps(dict(task=name, shots=shots, keys=all_keys, written=written, samples=sorted(lines, key=lambda s: s["doc_id"])), indent=1, ensure_ascii=False) + "\n",
                                         encoding="utf-8")


def blocks(model, tokenizer, model_name, size):
    ids = tokenizer((OUT / "rows/blocks.test.txt").read_text(), add_special_tokens=False)["input_ids"]
    rows = torch.tensor(ids[:len(ids) // size * size]).view(-1, size)
    with torch.no_grad():
        losses = [model(row[None], labels=row[None]).loss.double().item() for row in rows]
    mean = sum(losses) / len(losses)
    (OUT / "golden" / model_name / "blocks.json").write_text(json.dumps(dict(task="blocks", block=size, losses=losses, loss=mean, perplexity=float(torch.tensor(mean).double().exp())), indent=1) + "\n")


def main():
    write_rows()
    shutil.rmtree(OUT / "golden", ignore_errors=True)
    for model_name in ("llama", "opt"):
        model, tokenizer = make_model(model_name)
        if model_name == "llama":
            write_hits(model, tokenizer)
        lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1)
        for name in [*OFFICIAL, *OWN]:
            record(lm, model_name, name, None)
        for name, shots in (("arc_easy", 2), ("piqa", 3), ("hellaswag", 1), ("sciq", 1), ("race", 1), ("yes_no", 2), ("fill_in", 2), ("capitals", 0), ("last_word", 1)):
            record(lm, model_name, name, shots)
        blocks(model, tokenizer, model_name, 32)


if __name__ == "__main__":
    main()
