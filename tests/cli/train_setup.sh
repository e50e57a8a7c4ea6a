# Sourced by the cases of training: a tiny model made by the program itself, an offer, two texts, and the helpers they share.
set -eu
rm -rf -- *
export OMP_WAIT_POLICY=passive OMP_NUM_THREADS=1
mkdir config
cp "$CLI_TEST_DIR/../data/tokenizer/gpt2/tokenizer.json" config/
cat >config/config.json <<'END'
{"model_type": "gpt2", "n_layer": 6, "n_embd": 32, "n_head": 2, "n_positions": 64, "vocab_size": 600}
END
canary='Zephyrine Quillfeather-Oduya sold 48213 umbrellas'
awk -v canary="$canary" 'BEGIN {
    srand(7); split("the owner keeps a middle layer and sends it out tuned by hand with some data of rain or snow", w, " ")
    for (i = 0; i < 3000; i++) printf "%s%s", w[1 + int(rand() * 19)], i % 13 ? " " : ".\n"
    print canary "."
}' >secret-notes.txt
awk 'BEGIN {
    srand(8); split("snow of the owner by a hand with middle data sends some layer tuned", w, " ")
    for (i = 0; i < 400; i++) printf "%s%s", w[1 + int(rand() * 13)], i % 11 ? " " : ".\n"
}' >held-out-notes.txt

die() { echo "$*"; exit 1; }
# fails CODE PATTERN WORDS...: the program ends with that code and its one line of error matches.
fails() {
    wanted=$1 pattern=$2 code=0
    shift 2
    "$OFFSITE" "$@" --quiet >out 2>err </dev/null || code=$?
    [ "$code" = "$wanted" ] || die "offsite $*: exit code $code instead of $wanted: $(cat err)"
    [ "$(wc -l <err)" = 1 ] && [ ! -s out ] || die "offsite $*: more than one line: $(cat err out)"
    grep -q "^offsite: .*$pattern" err || die "offsite $*: $(cat err), without: $pattern"
}
run() { "$OFFSITE" "$@" --quiet >out 2>err </dev/null || die "offsite $*: exit code $?: $(cat err)"; }
# Names, sizes and times of all files: what must not change.
state() { find "$1" -printf '%p %s %T@\n' | sort; }
lines() { if [ -f "$1" ]; then grep -c '"loss"' "$1" || :; else echo 0; fi; }

run pretrain config -o base --train secret-notes.txt --block 32 --steps 2
run split base -o offer --bottom 1 --top 1 --emulator layerdrop:keep=2
