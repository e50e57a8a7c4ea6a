# Manual pages: one for the program and one for each command, free of warnings, with every option.
set -eu
rm -rf pages
"$OFFSITE" man -o pages
[ -s pages/offsite.1 ] && [ -s pages/offsite-tokenize.1 ]
"$OFFSITE" man | cmp - pages/offsite.1
"$OFFSITE" man tokenize | cmp - pages/offsite-tokenize.1
[ ! -e pages/offsite-man.1 ] # hidden
checked=no
for page in pages/*.1; do
    if command -v mandoc >/dev/null; then
        checked=yes
        # A date would make builds differ.
        mandoc -T lint -W warning "$page" | grep -v 'missing date' >lint || true
        [ ! -s lint ] || { cat lint; exit 1; }
    fi
    if command -v groff >/dev/null; then
        checked=yes
        groff -man -ww -z -T utf8 "$page" 2>lint
        [ ! -s lint ] || { cat lint; exit 1; }
    fi
    verb=$(basename "$page" .1)
    verb=${verb#offsite}
    verb=${verb#-}
    [ -n "$verb" ] || continue
    for option in $("$OFFSITE" completion fish | sed -n "s/.*seen_subcommand_from $verb' -l \([a-z0-9-]*\).*/\1/p"); do
        grep -qF "\\-\\-$(printf %s "$option" | sed 's/-/\\-/g')" "$page" || { echo "$page lacks --$option"; exit 1; }
    done
done
if [ "$checked" = no ]; then
    echo "skipped: neither mandoc nor groff is here to check the pages"
    exit 77
fi
