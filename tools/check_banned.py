#!/usr/bin/env python3
"""Checks that the library neither exits, prints nor asserts, that no code uses functions which cannot be used safely, and that
no build file asks for -ffast-math.

Comments and strings are blanked out first, so that they may name what is banned.
"""
import pathlib
import re
import sys
import tempfile

# Banned in every file below src/ and include/.
UNSAFE = {
    "sprintf": "snprintf", "vsprintf": "vsnprintf", "strcpy": "memcpy or snprintf", "strcat": "snprintf", "stpcpy": "memcpy",
    "strncpy": "memcpy or snprintf", "strncat": "snprintf", "strtok": "a scan of your own", "strtok_r": "a scan of your own",
    "atoi": "strtoll with its checks", "atol": "strtoll with its checks", "atoll": "strtoll with its checks", "atof": "strtod with its checks",
    "gets": "fgets", "scanf": "strtoll, strtod", "sscanf": "strtoll, strtod", "fscanf": "strtoll, strtod", "rand": "ot_rng", "srand": "ot_rng",
    "random": "ot_rng", "drand48": "ot_rng", "alloca": "ot_malloc", "mktemp": "ot_writer_open", "tmpnam": "ot_writer_open",
    "strerror": "ot_fail_errno", "localtime": "localtime_r", "gmtime": "gmtime_r", "asctime": "strftime", "ctime": "strftime",
    "system": "posix_spawn", "popen": "posix_spawn",
}
# Banned in the library, which reports by ot_error: src/cli alone talks to people and ends the process.
LIBRARY = {
    "exit": "return an ot_status", "_exit": "return an ot_status", "_Exit": "return an ot_status", "quick_exit": "return an ot_status",
    "abort": "return an ot_status", "assert": "return an ot_status, or static_assert", "atexit": "give the caller a close function",
    "printf": "return data or an ot_error", "vprintf": "return data or an ot_error", "puts": "return data or an ot_error",
    "putchar": "return data or an ot_error", "perror": "ot_fail_errno", "setlocale": "uselocale", "signal": "leave it to src/cli",
    "sigaction": "leave it to src/cli",
}
STREAMS = re.compile(r"\b(stdout|stderr)\b")
CALL = re.compile(r"(?<![\w.])(?<!->)([A-Za-z_]\w*)\s*\(")
FAST_MATH = re.compile(r"-ffast-math|-Ofast|-funsafe-math-optimizations|-ffinite-math-only|-fassociative-math")
FAST_PRAGMA = re.compile(r"(pragma|optimize).*(fast-math|Ofast|unsafe-math|finite-math|associative-math)")
TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def blank(text):
    """Comments and literals become spaces; line breaks stay."""
    return TOKEN.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


def check_code(name, text, problems):
    banned = dict(UNSAFE)
    library = not name.startswith("src/cli/")
    if library:
        banned.update(LIBRARY)
    for number, line in enumerate(text.splitlines(), 1):
        if FAST_PRAGMA.search(line):
            problems.append(f"{name}:{number}: unsafe floating-point options: NaN and infinity must keep their meaning")
    for number, line in enumerate(blank(text).splitlines(), 1):
        for found in CALL.finditer(line):
            word = found.group(1)
            if word in banned:
                problems.append(f"{name}:{number}: {word} is banned here: use {banned[word]}")
        if library and STREAMS.search(line):
            problems.append(f"{name}:{number}: the library does not write to standard streams: return data or an ot_error")


def check_tree(root):
    """Problems found, and the number of files looked at."""
    problems, count = [], 0
    for folder in ("src", "include"):
        for path in sorted(p for p in (root / folder).rglob("*") if p.suffix in (".c", ".h", ".cu", ".cuh")):
            count += 1
            check_code(path.relative_to(root).as_posix(), path.read_text(encoding="utf-8"), problems)
    builds = [root / "CMakeLists.txt", root / "CMakePresets.json", *root.glob("cmake/*"), *root.glob("*/**/CMakeLists.txt"), *root.glob(".ci/*")]
    for path in sorted(p for p in set(builds) if p.is_file() and not p.relative_to(root).parts[0].startswith("build")):
        count += 1
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if FAST_MATH.search(line.split("#")[0]):
                problems.append(f"{path.relative_to(root)}:{number}: unsafe floating-point options: NaN and infinity must keep their meaning")
    return problems, count


def self_test():
    """Each line of a bad tree must be found, and nothing in a good one."""
    library = ["exit(1);", "abort ();", "assert(x);", 'printf("x");', "fputs(x, stdout);", "fprintf(stderr, x);", "sprintf(a, b);", "strcpy(a, b);",
               "strcat(a, b);", "strtok(a, b);", "x = atoi(a);", "gets(a);", "rand();", "srand(1);", '/* */ puts("");',
               '#pragma GCC optimize("fast-math")', "__attribute__((optimize(\"Ofast\"))) int f(void);"]
    good = ["/* exit(1); printf */", 'char *s = "exit(1) stdout";', "// abort()", "ot_exit(1);", "w->abort(w);", "b.printf(1);", "snprintf(a, 1, b);",
            "int f(const char *) __attribute__((format(printf, 1, 2)));", "static_assert(1, 2);", "/* two", "lines: exit(1) */ x = 1;", "fgets(a, 1, f);"]
    cli_bad = ["strcpy(a, b);", "x = atoi(a);"]
    cli_good = ["exit(1);", 'printf("x");', "fputs(x, stderr);"]
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for name, lines in (("src/base/bad.c", library), ("src/base/good.c", good), ("src/cli/bad.c", cli_bad), ("src/cli/good.c", cli_good),
                            ("CMakeLists.txt", ["# -ffast-math is banned", "add_compile_options(-ffast-math)"])):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        found = {problem.split(": ")[0] for problem in check_tree(root)[0]}
    wanted = {f"src/base/bad.c:{i + 1}" for i in range(len(library))} | {f"src/cli/bad.c:{i + 1}" for i in range(len(cli_bad))} | {"CMakeLists.txt:2"}
    for where in sorted(wanted ^ found):
        print(f"self-test: {where} is {'missed' if where in wanted else 'wrongly reported'}")
    return wanted == found


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent).resolve()
    tested = self_test()
    problems, count = check_tree(root)
    for problem in problems:
        print(problem)
    print(f"check_banned: {count} files, {len(problems)} problems")
    return 1 if problems or not tested else 0


if __name__ == "__main__":
    sys.exit(main())
