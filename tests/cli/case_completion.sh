# Completion scripts load in their shells, and bash's offers what the tables hold.
set -eu
for shell in bash zsh fish; do "$OFFSITE" completion $shell >script.$shell; done
command -v zsh >/dev/null && zsh -n script.zsh
command -v fish >/dev/null && fish --no-execute script.fish
command -v bash >/dev/null || { echo "skipped: no bash"; exit 77; }
cat >ask.bash <<'END'
source ./script.bash
COMP_WORDS=("$@")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
compopt() { :; }
_offsite
printf '%s\n' "${COMPREPLY[@]}"
END
ask() { bash ask.bash offsite "$@"; }
[ "$(ask tok)" = tokenize ]
[ "$(ask --v)" = --version ]
[ "$(ask tokenize --js)" = --jsonl ]
[ "$(ask tokenize --no-p)" = --no-progress ]
[ "$(ask completion '')" = "bash
zsh
fish" ]
ask help '' | grep -qx tokenize
[ -z "$(ask tokenize --config '')" ] # left to file names
