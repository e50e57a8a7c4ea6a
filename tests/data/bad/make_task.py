#!/usr/bin/env python3
"""Writes tests/data/bad/task: task files with rows for fuzz_task and test_own_task, most of them wrong in one way. Before the line %%% stands a
task file, or the name of a task of the table; behind it the rows. They are committed: run this only to add one."""
import json
import pathlib

OUT = pathlib.Path(__file__).parent / "task"
CHOICE = dict(task="t", test_split="test", output_type="multiple_choice", doc_to_text="Q: {{q}}", doc_to_choice="{{c}}", doc_to_target="{{a}}")
WRITE = dict(task="t", test_split="test", output_type="generate_until", doc_to_text="q", doc_to_target="a")
PAGES = dict(task="t", test_split="test", output_type="loglikelihood_rolling", doc_to_target="{{t}}")
ROW = dict(q="one?", c=["x", "y"], a=1, t="text", d={"k": ["m", "n"], "a b": "z"}, n=2, f=1.5, u="\u00dcBER \u03a3", none=None, yes=True)


def put(name, config, *rows):
    OUT.mkdir(exist_ok=True)
    if isinstance(config, dict):
        config = "".join(f"{k}: {v if isinstance(v, Raw) else json.dumps(v)}\n" for k, v in config.items() if v is not None)
    text = config if isinstance(config, bytes) else config.encode()
    body = "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows).encode()
    (OUT / name).write_bytes(text + (b"%%%\n" + body if rows else b""))


class Raw(str):
    pass


def choice(name, *rows, **changes):
    put(name, dict(CHOICE, **changes), *(rows or [ROW]))


def write(name, *rows, **changes):
    put(name, dict(WRITE, **changes), *(rows or [ROW]))


def template(name, text, *rows):
    write(name, *rows, doc_to_text=text)


# Files that are good.
choice("good-choice")
choice("good-everything", metric_list=[dict(metric="acc", aggregation="mean", higher_is_better=True), dict(metric="acc_bytes")], description="D {{n}}", num_fewshot=3,
       fewshot_split="train", training_split="train", fewshot_delimiter="\n", target_delimiter="", fewshot_config=dict(sampler="first_n"), tag=["a"],
       dataset_path="json", dataset_kwargs=dict(data_files=dict(test="x.jsonl", train=["/y.jsonl"])), metadata=dict(version=1.0), repeats=1)
choice("good-fields", doc_to_text="q", doc_to_choice="c", doc_to_target="a")
choice("good-list", doc_to_choice=["no", "yes"], doc_to_target=0)
choice("good-map", doc_to_choice=dict(a="no", b="yes"), doc_to_target="yes")
choice("good-literal", doc_to_choice="['no', '{{q}}']", doc_to_target="one?")
write("good-write", generation_kwargs=dict(until=["\n"], max_gen_toks=4, do_sample=False, temperature=0.0),
      filter_list=[dict(name="x", filter=[dict(function="remove_whitespace"), dict(function="lowercase"), dict(function="take_first")])],
      metric_list=[dict(metric="exact_match", ignore_case=True, ignore_punctuation=True, ignore_numbers=True)])
write("good-many", doc_to_target="{{c}}")
write("good-choices", doc_to_choice="c", doc_to_target="a")
put("good-pages", dict(PAGES, metric_list=[dict(metric="bits_per_byte")]), ROW)
template("good-expressions", "{{ q }}{{d.k[0]}}{{d['a b']}}{{c[a]}}{{c[-1]}}{{n + 1}}{{n - 1}}{{q + 'x'}}{{[q, n]}}{{c}}{{d}}{{f}}{{none}}{{yes}}{{c.index('y')}}"
         "{{u.lower()}}{{u | capitalize}}{{' a '.strip()}}{{q | trim | replace('o', '0') | length}}{{c | join(', ')}}{{c | first}}{{c | last}}{{'7' | int + 1}}"
         "{{(n) | string}}{{\"\\n\\t\\\\'\"}}")
put("good-target", dict(WRITE, output_type="loglikelihood", doc_to_text="{{q.split(' ')[:-1] | join(' ')}}", doc_to_target="{{' ' + q.split()[-1]}}"), dict(q="a b  c"))
template("good-conditions", "{{'a' if yes else 'b'}}{{'a' if n == 2 else absent}}{{absent if n != 2 else 'b'}}{{q if none else c[0] if f != n else 1}}{{none}}{{True}}{{'x' if false == n - 2 else 'y'}}{{'x' if none == false else 'y'}}{{n == 2}}{{'x' if c else 'y'}}{{'x' if [] else 'y'}}"
         "{{'x' if yes == 1 else 'y'}}{{ ('x' if q == 'one?' else 'y') + 'z' }}{{ifs}}", dict(ROW, ifs="i"))
template("good-slices", "{{c[:1]}}{{c[1:]}}{{c[:]}}{{c[-5:9]}}{{c[1:1]}}{{c[:-1]}}{{' a  b '.split()}}{{' a '.split(' ')}}{{''.split(' ')}}{{'a.b.'.split('.')}}")
# Files that are no task.
put("empty", "")
put("list", "- a\n")
put("no-task", {k: v for k, v in CHOICE.items() if k != "task"})
put("no-text", {k: v for k, v in CHOICE.items() if k != "doc_to_text"})
put("no-target", {k: v for k, v in CHOICE.items() if k != "doc_to_target"})
put("no-choice", {k: v for k, v in CHOICE.items() if k != "doc_to_choice"})
put("no-split", {k: v for k, v in CHOICE.items() if k != "test_split"})
choice("name-path", task="../x")
choice("kind-unknown", output_type="perplexity")
choice("key-unknown", doc_to_txt="x")
choice("key-python", process_docs="x")
choice("tag-function", process_docs=Raw("!function utils.f"))
choice("text-list", doc_to_text=["a"])
choice("choice-empty", doc_to_choice=[])
choice("choice-nested", doc_to_choice=[["a"]])
choice("shots-text", num_fewshot="3")
choice("shots-many", num_fewshot=5000)
choice("sampler-unknown", fewshot_config=dict(sampler="balanced"))
choice("fewshot-key", fewshot_config=dict(samples=[]))
choice("repeats", repeats=2)
choice("metric-unknown", metric_list=[dict(metric="f1")])
choice("metric-other-kind", metric_list=[dict(metric="word_perplexity")])
choice("metric-key", metric_list=[dict(metric="acc", hf_evaluate=True)])
choice("metric-aggregation", metric_list=[dict(metric="acc", aggregation="median")])
choice("metric-nameless", metric_list=[dict(aggregation="mean")])
choice("metric-no-list", metric_list="acc")
choice("generation-misplaced", generation_kwargs=dict(until=["x"]))
choice("filter-misplaced", filter_list=[dict(name="x", filter=[])])
write("generation-sampled", generation_kwargs=dict(do_sample=True))
write("generation-warm", generation_kwargs=dict(temperature=0.7))
write("generation-key", generation_kwargs=dict(top_p=0.5))
write("generation-long", generation_kwargs=dict(max_gen_toks=0))
write("filter-regex", filter_list=[dict(name="x", filter=[dict(function="regex", regex_pattern="a")])])
write("filter-unknown", filter_list=[dict(name="x", filter=[dict(function="uppercase")])])
write("filter-two", filter_list=[dict(name="x", filter=[]), dict(name="y", filter=[])])
write("number-without-choices", doc_to_target=1)
put("pages-choice", dict(PAGES, doc_to_choice=["a"]), ROW)
choice("files-text", dataset_kwargs=dict(data_files="x.jsonl"))
choice("files-key", dataset_kwargs=dict(streaming=True))
# Templates.
for name, text in {"statement": "{% if a %}x{% endif %}", "comment": "{# a #}", "open": "{{ q", "empty": "{{ }}", "condition": "{{ 'a' if yes }}", "and": "{{ 'a' if yes and n else 'b' }}", "field-if": "{{ if }}", "filter": "{{ q | upper }}",
                   "method": "{{ q.title() }}", "call": "{{ range(3) }}", "slice": "{{ c[0:1:2] }}", "control": "{{- q }}", "text-open": "{{ 'a }}", "escape": "{{ '\\x41' }}",
                   "real": "{{ 1.5 }}", "times": "{{ n * 2 }}", "arguments": "{{ q.replace('a') }}", "deep": "{{ " + "(" * 40 + "q" + ")" * 40 + " }}",
                   "long": "{{ " + " + ".join(["n"] * 60) + " }}", "list-open": "{{ [q, n }}"}.items():
    template("template-" + name, text)
# Rows.
choice("row-no-field", dict(c=["x"], a=0))
choice("row-no-named-field", dict(c=["x"], a=0), doc_to_text="question")
choice("row-choices-text", dict(ROW, c="xy"))
choice("row-choices-numbers", dict(ROW, c=[1, 2]))
choice("row-choices-empty", dict(ROW, c=[]))
choice("row-gold-large", dict(ROW, a=2))
choice("row-gold-other", dict(ROW, a="z"))
choice("good-several", dict(ROW, a=[1, 0]), doc_to_target="a")
choice("good-several-template", dict(ROW, a=[1]))
choice("row-golds-text", dict(ROW, a=["x"]), doc_to_target="a")
choice("row-golds-large", dict(ROW, a=[0, 2]), doc_to_target="a")
choice("row-golds-none", dict(ROW, a=[]), doc_to_target="a")
choice("row-golds-no-list", dict(ROW, a=1), doc_to_target="[{{q}}]")
write("row-golds-write", dict(ROW, a=[0]), doc_to_choice="c", doc_to_target="a")
choice("row-entry-large", doc_to_text="{{c[5]}}")
choice("row-entry-of-text", doc_to_text="{{q[0]}}")
choice("row-member-missing", doc_to_text="{{d.x}}")
choice("row-member-of-text", doc_to_text="{{q.x}}")
choice("row-index-missing", doc_to_target="{{c.index('z')}}")
choice("row-adds-list", doc_to_text="{{c + n}}")
choice("row-strips-number", doc_to_text="{{n.strip()}}")
choice("row-replaces-number", doc_to_text="{{q.replace(n, n)}}")
choice("row-slice-of-text", doc_to_text="{{q[:1]}}")
choice("row-slice-at-text", doc_to_text="{{c[:q]}}")
choice("row-split-at-nothing", doc_to_text="{{q.split('')}}")
put("target-choice", dict(WRITE, output_type="loglikelihood", doc_to_choice=["a"]), ROW)
choice("row-first-of-nothing", dict(ROW, c=[]), doc_to_text="{{c | first}}")
choice("row-sum-large", dict(ROW, n=9223372036854775807), doc_to_text="{{n + 1}}")
choice("row-not-json", "{")
choice("row-not-object", "[1]")
# Tasks of the table.
for name, rows in {
    "piqa": [dict(goal="g", sol1="a", sol2="b", label=0), dict(goal="g", sol1="a", sol2="b", label="7"), dict(goal=1)],
    "arc_easy": [dict(question="q", choices=dict(text=["a"], label=["A"]), answerKey="A"), dict(question="q", choices=[], answerKey="A"), dict(question="q", answerKey="B", choices=dict(text=["a"], label=[]))],
    "hellaswag": [dict(activity_label="a", ctx_a="[header] x [title] y", ctx_b="\u00df\u0130 \u03a3", endings=["[x", "y]"], label="1"), dict(activity_label="a", ctx_a="", ctx_b="", endings=[], label="0")],
    "race": [dict(article="a", problems="[{'question': 'q  _  .', 'answer': 'A', 'options': ['1','2','3','4']}]"), dict(article="a", problems="[{}]"), dict(article="a", problems="1"), dict(article="a", problems="[")],
    "webqs": [dict(question="q", answers=["b", "a", "ab"]), dict(question="q", answers=[])],
    "sciq": [dict(support="  s", question="q", distractor1="a", distractor2="b", distractor3="c", correct_answer="d"), dict(support="s")],
    "openbookqa": [dict(question_stem="s ", choices=dict(text=["a", "b"], label=["A", "B"]), answerKey=" B")],
    "wikitext": [dict(page=" = a = \n \n ( x ) [ y \" z \" ' s ' N 1 @,@ 2 \u00b0 /' 4/"), dict(page=""), dict(page=3)],
    "blocks": [dict(page="x")],
}.items():
    put("table-" + name, name + "\n", *rows)
put("table-none", "arc\n", ROW)
