# --config from outside: errors name file and line, flags win, an empty file is fine.
set -eu
expect() { # CODE LINE WORDS...
    wanted=$1 line=$2
    shift 2
    code=0
    "$OFFSITE" "$@" </dev/null >out 2>err || code=$?
    [ "$code" = "$wanted" ] && [ "$(cat err)" = "$line" ] && [ ! -s out ] && return
    echo "offsite $*: exit code $code, $(cat err)"
    exit 1
}
printf 'jsonl: yes\nspecail: yes\n' >run.yaml
expect 2 "offsite: run.yaml:2: unknown option 'specail'; did you mean 'special'?" tokenize x --config run.yaml
printf 'special: yes\ndecode: yes\n' >run.yaml
expect 2 "offsite: tokenize: --special adds tokens to text and means nothing with --decode, which keeps all that the ids name" \
    tokenize x --config run.yaml
printf 'special: 7\n' >run.yaml
expect 2 "offsite: run.yaml:1: special: '7' is neither yes nor no" tokenize x --config run.yaml
printf 'special: [yes]\n' >run.yaml
expect 2 "offsite: run.yaml:1: 'special' takes one value, not a list" tokenize x --config run.yaml
code=0
"$OFFSITE" tokenize x --config missing.yaml 2>err || code=$?
[ "$code" = 1 ] && [ "$(wc -l <err)" = 1 ] && grep -q '^offsite: .*missing.yaml' err
: >run.yaml
"$OFFSITE" help --config run.yaml >out
"$OFFSITE" help | cmp - out
