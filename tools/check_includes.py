#!/usr/bin/env python3
"""Checks which folder of src/ includes which, and that no source file is too long.

Layers, lowest first: a folder may include itself and every layer below it. Folders on one layer do not include each other.
"""
import pathlib
import re
import sys
import tempfile

LAYERS = [
    ["base"],
    ["plot"],
    ["image"],
    ["tensor"],
    ["format"],
    ["engine"],
    ["engine/ref", "engine/cpu", "engine/cuda"],
    ["model"],
    ["task"],
    ["data"],
    ["emulator"],
    ["train"],
    ["peft"],
    ["eval"],
    ["protocol"],
    ["report"],
    ["api"],
    ["cli"],
]
# (including file, included header): against the layers, each for the reason beside it. None so far.
EXCEPTIONS = set()
MAX_LINES = 1000
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def layer_of(folder):
    """The index of the layer of a folder below src, or None. model/arch counts as model unless a layer names it."""
    while folder:
        for index, layer in enumerate(LAYERS):
            if folder in layer:
                return index, folder
        folder = folder.rpartition("/")[0]
    return None


def check_include(name, header, src, problems, where):
    """name: the including file below src. header: as written between quotes."""
    here = layer_of(name.rpartition("/")[0])
    target = src / header
    if not target.is_file():
        if not (src.parent / "include" / header).is_file():
            problems.append(f'{where}: "{header}" is not found from src/ or include/; write the path from there')
        return
    there = layer_of(header.rpartition("/")[0])
    if here is None or there is None or (name, header) in EXCEPTIONS:
        return
    if there[0] > here[0] or (there[0] == here[0] and there[1] != here[1]):
        problems.append(f"{where}: {here[1]} must not include {there[1]} ({header}); see the layers in tools/check_includes.py")


def check_file(root, path, problems):
    src = root / "src"
    name = path.relative_to(root).as_posix()
    lines = path.read_text(encoding="utf-8").splitlines()
    if len(lines) > MAX_LINES:
        problems.append(f"{name}:{len(lines)}: more than {MAX_LINES} lines; split it by purpose")
    for number, line in enumerate(lines, 1):
        found = INCLUDE.match(line)
        if not found:
            continue
        quoted, header = found.group(1) == '"', found.group(2)
        where = f"{name}:{number}"
        if name.startswith("include/"):
            if not header.startswith("offsite/") and (quoted or (src / header).is_file()):
                problems.append(f'{where}: a public header may include only offsite/ and system headers, not "{header}"')
        elif name.startswith("src/") and quoted:
            check_include(path.relative_to(src).as_posix(), header, src, problems, where)
        elif name.startswith("src/") and (src / header).is_file():
            problems.append(f"{where}: <{header}> is ours: include it with quotes")


def check_tree(root):
    """Problems found, and the number of files looked at."""
    problems, files = [], []
    for folder in ("src", "include", "tests", "bench", "tools", "examples"):
        files += [p for p in (root / folder).rglob("*") if p.suffix in (".c", ".h", ".cu", ".cuh", ".py", ".sh") and p.is_file()]
    for path in sorted(files):
        if path.is_relative_to(root / "src"):
            folder = path.parent.relative_to(root / "src").as_posix()
            if layer_of(folder) is None:
                problems.append(f"src/{folder}: has no layer; give it one in tools/check_includes.py")
        check_file(root, path, problems)
    return list(dict.fromkeys(problems)), len(files)


def self_test():
    """A small tree with one of each sin, and what must be said of it."""
    files = {
        "include/offsite/offsite.h": "#include <stdint.h>\n",
        "include/offsite/bad.h": '#include "base/a.h"\n#include <base/a.h>\n',
        "src/base/a.h": "",
        "src/base/a.c": '#include "base/a.h"\n#include <stdio.h>\n#include "a.h"\n#include "tensor/t.h"\n#include <base/a.h>\n',
        "src/tensor/t.h": '#include "format/f.h"\n',
        "src/format/f.h": '# include "tensor/t.h"\n',
        "src/engine/ref/r.c": '#include "engine/op.h"\n#include "engine/cpu/c.h"\n#include "base/a.h"\n',
        "src/engine/cpu/c.h": "",
        "src/engine/op.h": '#include "engine/cpu/c.h"\n',
        "src/model/arch/gpt.c": '#include "model/m.h"\n#include "engine/op.h"\n#include "cli/c.h"\n',
        "src/model/m.h": '#include "model/arch/gpt.h"\n',
        "src/model/arch/gpt.h": "",
        "src/cli/c.h": '#include "base/a.h"\n#include "model/m.h"\n#include "offsite/offsite.h"\n',
        "src/other/x.c": "",
        "src/base/long.c": "\n" * (MAX_LINES + 1),
        "src/base/full.c": "\n" * MAX_LINES,
    }
    wanted = {"include/offsite/bad.h:1", "include/offsite/bad.h:2", "src/base/a.c:3", "src/base/a.c:4", "src/base/a.c:5", "src/tensor/t.h:1",
              "src/engine/ref/r.c:2", "src/engine/op.h:1", "src/model/arch/gpt.c:3", "src/other", f"src/base/long.c:{MAX_LINES + 1}"}
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text, encoding="utf-8")
        found = {problem.split(": ")[0] for problem in check_tree(root)[0]}
    for where in sorted(wanted ^ found):
        print(f"self-test: {where} is {'missed' if where in wanted else 'wrongly reported'}")
    return wanted == found


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent).resolve()
    tested = self_test()
    problems, count = check_tree(root)
    for problem in problems:
        print(problem)
    print(f"check_includes: {count} files, {len(problems)} problems")
    return 1 if problems or not tested else 0


if __name__ == "__main__":
    sys.exit(main())
