#!/usr/bin/env bash
# tidy.sh [BUILD [FILE-PATTERN]]: clang-tidy with the root's .clang-tidy over the sources of a configured build folder.
# The pattern (extended regular expression) picks files, e.g. src/format; all of src/ without it.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
pattern=${2:-/src/}
[ -f "$build/compile_commands.json" ] || {
    echo "tidy: $build/compile_commands.json is missing: run cmake --preset release first" >&2
    exit 2
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sed -n 's/^ *"file": "\(.*\)",\{0,1\}$/\1/p' "$build/compile_commands.json" | sort -u | grep -E "$pattern" >"$work/files" || {
    echo "tidy: no file of $build matches $pattern" >&2
    exit 2
}

# The functions of errors.h are defined in error.c, where they must not be macros.
one() {
    local include=(--extra-arg=-include --extra-arg="$PWD/tools/tidy/errors.h" --extra-arg=-Wno-unused-value)
    [[ $2 == */src/base/error.c ]] && include=()
    clang-tidy -p "$1" --quiet --extra-arg=-isystem"$PWD/tools/tidy" "${include[@]}" "$2" 2>/dev/null && return
    # A compiler that crashed or was not understood says nothing on standard output.
    echo "tidy: $2"
    return 1
}
export -f one

echo "tidy: $(wc -l <"$work/files") files"
if xargs -P 2 -I{} bash -c 'one "$@"' one "$build" {} <"$work/files" >"$work/out"; then
    echo "tidy: clean"
else
    cat "$work/out"
    echo "tidy: $(grep -cE '(error|warning): .*\[' "$work/out") findings"
    exit 1
fi
