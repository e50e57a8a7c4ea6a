#!/bin/sh
# check_install.sh BUILD: installs a built tree into a temporary folder and checks that what lies there works on its own: the
# program, its pages, and a program of a user's own that is built by nothing but the pkg-config file.
set -eu
build=$1
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
fail() {
    echo "check_install: $*" >&2
    exit 1
}

cmake --install "$build" --prefix "$root/usr" >"$root/log" || { cat "$root/log" >&2; fail "cmake --install failed"; }
cd "$root"
"$root/usr/bin/offsite" --version >"$root/version" || fail "the installed program does not run"
[ -s "$root/usr/share/man/man1/offsite.1" ] || fail "no manual page offsite.1"
[ -s "$root/usr/share/doc/offsite/LICENSE" ] || fail "no licence"
for script in bash-completion/completions/offsite zsh/site-functions/_offsite fish/vendor_completions.d/offsite.fish; do
    [ -s "$root/usr/share/$script" ] || fail "no completion script $script"
done

pc=$(find "$root/usr" -name offsite.pc)
[ -n "$pc" ] || fail "no offsite.pc"
PKG_CONFIG_PATH=$(dirname "$pc")
export PKG_CONFIG_PATH
cflags=$(pkg-config --cflags offsite)
libs=$(pkg-config --libs offsite)
version=$(pkg-config --modversion offsite)
case $(cat "$root/version") in
*"$version"*) ;;
*) fail "the program says $(cat "$root/version"), pkg-config $version" ;;
esac

# Each public header alone, with strict warnings; then all together in a program that links.
count=0
: >"$root/user.c"
for header in "$root"/usr/include/offsite/*.h; do
    [ -e "$header" ] || continue
    line="#include <offsite/$(basename "$header")>"
    echo "$line" >"$root/one.c"
    # shellcheck disable=SC2086 # flags are words
    cc -std=c99 -pedantic -Wall -Wextra -Werror -Wstrict-prototypes $cflags -fsyntax-only "$root/one.c" || fail "$(basename "$header") does not compile alone"
    echo "$line" >>"$root/user.c"
    count=$((count + 1))
done
[ "$count" -gt 0 ] || fail "no public header"
cat >>"$root/user.c" <<'EOF'
int main(void) {
    offsite_error error;
    offsite_model *model = 0;
    return offsite_model_open("no-such-model", &model, &error) == OFFSITE_OK || offsite_version()[0] == 0;
}
EOF
# Every archive member, so that a library missing from the pkg-config file is noticed.
# shellcheck disable=SC2086
cc -std=c17 $cflags "$root/user.c" -Wl,--whole-archive "$(find "$root/usr" -name liboffsite.a)" -Wl,--no-whole-archive $libs -o "$root/user" ||
    fail "a program does not link with: $libs"
"$root/user" || fail "a program that uses the library does not run"
echo "check_install: program $version, library, $count public headers"
