#!/usr/bin/env bash
# The tests. Without options: the release build with warnings as errors, all of ctest, and the repository's own checks.
# --all: besides them the address and undefined-behaviour sanitizers and the thread sanitizer (pthreads, reference backend).
# --tidy: besides the plain tests clang-tidy. Ends with one line "N passed, N failed, N skipped".
set -euo pipefail
cd "$(dirname "$0")/.."

all=no tidy=no
case ${1:-} in
"") ;;
--all) all=yes ;;
--tidy) tidy=yes ;;
*)
    echo "usage: tools/test.sh [--all|--tidy]" >&2
    exit 2
    ;;
esac

jobs=$(nproc)
# Several test programs run beside each other: threads that wait must not spin on the cores the others need.
export OMP_WAIT_POLICY=passive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 failed=0 skipped=0

finish() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ]
}

title() { printf '\n==== %s\n' "$*"; }

# check NAME COMMAND...: one result
check() {
    title "$1"
    if "${@:2}"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $1"
    fi
}

skip() {
    title "$1"
    echo "skipped: $2"
    skipped=$((skipped + 1))
}

# build PRESET CMAKE-OPTIONS...; without a build there is nothing to test
build() {
    title "build: $1"
    if cmake --preset "$@" >"$log" 2>&1 && cmake --build --preset "$1" -j "$jobs" >"$log" 2>&1; then
        tail -n 1 "$log"
    else
        cat "$log"
        echo "FAILED: build $1"
        failed=$((failed + 1))
        return 1
    fi
}

# On kernels with much address randomisation the thread sanitizer cannot place its shadow.
without_randomisation() {
    if command -v setarch >/dev/null && setarch "$(uname -m)" -R true 2>/dev/null; then
        setarch "$(uname -m)" -R "$@"
    else
        "$@"
    fi
}

# run_ctest FOLDER CTEST-OPTIONS...: as many results as it has tests
run_ctest() {
    title "ctest: $1"
    local code=0 total bad not_run
    without_randomisation ctest --test-dir "$@" --output-on-failure --no-tests=error -j "$jobs" 2>&1 | tee "$log" || code=$?
    total=$(sed -n 's/.* tests failed out of \([0-9]*\)$/\1/p' "$log")
    bad=$(sed -n 's/.*tests passed, \([0-9]*\) tests failed out of.*/\1/p' "$log")
    not_run=$(grep -cE '\*\*\*Skipped|\(Skipped\)$' "$log" || true)
    # ctest lists each skipped test twice: as it goes by and at the end.
    not_run=$((not_run / 2))
    if [ -z "$total" ] || { [ "$code" -ne 0 ] && [ "$bad" -eq 0 ]; }; then
        failed=$((failed + 1))
        echo "FAILED: ctest in $1 ended with $code"
        return
    fi
    failed=$((failed + bad)) skipped=$((skipped + not_run)) passed=$((passed + total - bad - not_run))
    show_skips "$1"
}

# show_skips FOLDER: what its last run left out, with the reason each test printed. Parts of a program that otherwise ran count too.
show_skips() {
    awk '
        /^[0-9]+\/[0-9]+ Testing: / { test = $3; reason = ""; part = 0 }
        /^skipped: / { reason = substr($0, 10); if (test !~ /^test_/) print "skipped: " test ": " reason }
        /^SKIPPED  / { sub(/^SKIPPED  /, ""); print "skipped, a part: " test ": " $0; parts++ }
        /^\[  SKIPPED \] [0-9]+ test/ { test = "" }
        /^\[  SKIPPED \] / && test != "" { print "skipped, a part: " test ", " $4 (reason == "" ? "" : ": " reason); parts++ }
        END { print parts + 0 }' "$1/Testing/Temporary/LastTest.log" >"$log"
    sed '$d' "$log"
    skipped=$((skipped + $(tail -n 1 "$log")))
}

if build release -DOFFSITE_WERROR=ON; then
    run_ctest build
    check "installation" sh tools/check_install.sh build
fi

if command -v python3 >/dev/null; then
    check "include directions" python3 tools/check_includes.py
    check "banned functions" python3 tools/check_banned.py
else
    skip "include directions, banned functions" "python3 is not installed"
fi

if [ "$all" = yes ]; then
    # No detect_stack_use_after_return: gcc 12's fake stack does not keep the 64-byte alignment of AVX-512 locals, and they fault.
    export ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1
    export UBSAN_OPTIONS=print_stacktrace=1
    if build asan -DOFFSITE_WERROR=ON; then run_ctest build-asan; fi
    export TSAN_OPTIONS=halt_on_error=1
    if build tsan -DOFFSITE_WERROR=ON; then
        # Some kernels and containers leave it no room for its shadow; every test would fail before its first line.
        if without_randomisation build-tsan/test_base_error 2>&1 | grep -q 'ThreadSanitizer.*memory mapping'; then
            skip "ctest: build-tsan" "the thread sanitizer cannot place its shadow on this kernel"
        else
            run_ctest build-tsan -R '^(test|fuzz)_'
        fi
    fi
fi

if [ "$tidy" = yes ]; then
    if command -v clang-tidy >/dev/null; then
        check "clang-tidy" tools/tidy.sh build
    else
        skip "clang-tidy" "it is not installed"
    fi
fi

echo
finish
