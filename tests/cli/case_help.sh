# Help goes to standard output with exit code 0, the same by every way to ask, and names every command.
set -eu
"$OFFSITE" --help >overview 2>err
[ ! -s err ]
"$OFFSITE" -h | cmp - overview
"$OFFSITE" help | cmp - overview
[ "$(awk 'length > 100' overview)" = "" ] || { echo "a line of --help is too long"; exit 1; }
for step in 'offsite split MODEL -o OFFER --emulator ' 'offsite tune OFFER --train DATA -o RETURN' 'offsite plug MODEL RETURN -o TUNED'; do
    grep -qF "$step" overview
done
verbs=$("$OFFSITE" completion fish | sed -n 's/.*__fish_use_subcommand -f -a \([a-z]*\) .*/\1/p')
[ "$(echo "$verbs" | wc -l)" -ge 3 ]
for verb in $verbs; do
    grep -q "^  $verb " overview || { echo "--help lacks $verb"; exit 1; }
    "$OFFSITE" "$verb" --help >page 2>err
    [ ! -s err ]
    "$OFFSITE" help "$verb" | cmp - page
    "$OFFSITE" "$verb" -h --nonsense | cmp - page
    head -1 page | grep -q "^offsite $verb - "
    grep -q '^Examples:' page || { echo "$verb has no examples"; exit 1; }
    for option in $("$OFFSITE" completion fish | sed -n "s/.*seen_subcommand_from $verb' -l \([a-z0-9-]*\).*/\1/p"); do
        grep -q -- "--$option\( \|$\)" page || { echo "$verb --help lacks --$option"; exit 1; }
    done
done
[ "$("$OFFSITE" --version)" = "$("$OFFSITE" -V)" ]
"$OFFSITE" --version | grep -q '^offsite [0-9][0-9.]*$'

# The scripts of examples/ say what they do not know before how they are used.
for script in "$CLI_TEST_DIR"/../../examples/*/run.sh; do
    code=0
    OFFSITE=none sh "$script" --bogus >page 2>err || code=$?
    [ "$code" = 2 ] && [ ! -s page ] && [ "$(head -1 err)" = "run.sh: unknown option '--bogus'" ] && sed 1d err | grep -q '^run.sh ' ||
        { echo "$script: exit code $code"; cat err; exit 1; }
done
for words in 'missing PRIVATE:m p' "unexpected argument 'x':m p q x" '-o needs the name of a folder:m p q -o'; do
    code=0
    # Words are meant to be split.
    # shellcheck disable=SC2086
    OFFSITE=none sh "$CLI_TEST_DIR/../../examples/distill/run.sh" ${words#*:} >page 2>err || code=$?
    [ "$code" = 2 ] && [ "$(head -1 err)" = "run.sh: ${words%%:*}" ] || { echo "${words%%:*}: exit code $code"; cat err; exit 1; }
done
