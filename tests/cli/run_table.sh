#!/bin/sh
# run_table.sh PROGRAM TABLE: for each pair of lines
#     $ words of a command after "offsite"
#     CODE one exact line of standard error
# runs the command by sh without input and compares exit code and standard error; standard output must stay empty.
# Lines that begin with '#' and empty lines are skipped.
program=$(realpath "$1") || exit 1
exec 3<"$2" || exit 1
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
offsite() { "$program" "$@"; }
count=0 bad=0 command=
while IFS= read -r line <&3 || [ -n "$line" ]; do
    case $line in
    '#'* | '') ;;
    '$') command= ;;
    '$ '*) command=${line#??} ;;
    *)
        wanted_code=${line%% *} wanted_text=${line#* }
        eval "offsite $command" </dev/null >out 2>err 3<&-
        code=$?
        printf '%s\n' "$wanted_text" >wanted
        count=$((count + 1))
        if [ "$code" != "$wanted_code" ] || ! cmp -s wanted err || [ -s out ]; then
            bad=$((bad + 1))
            printf 'offsite %s\n  wanted %s: %s\n  got    %s: %s\n' "$command" "$wanted_code" "$wanted_text" "$code" "$(cat err)"
            [ -s out ] && sed 's/^/  stdout: /' out
        fi
        rm -f out err wanted
        ;;
    esac
done
echo "$count commands, $bad wrong"
[ "$count" -gt 0 ] && [ "$bad" -eq 0 ]
