# Lost output is a failure, and the failure is one line.
set -eu
[ -w /dev/full ] || { echo "skipped: no /dev/full"; exit 77; }
for words in '--help' '--version' 'help' 'tokenize --help' 'completion bash' 'man'; do
    code=0
    # shellcheck disable=SC2086
    "$OFFSITE" $words >/dev/full 2>err || code=$?
    [ "$code" = 1 ] || { echo "$words: exit code $code"; exit 1; }
    [ "$(wc -l <err)" = 1 ]
    grep -q '^offsite: writing to standard output failed: ' err
done
