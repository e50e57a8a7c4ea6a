#!/bin/sh
# package.sh OUT [ROOT]: makes a Debian package, a tarball that runs from any folder and a Python wheel with the same program, and
# checks each. ROOT is a bare system to try the tarball in with chroot (as root). Builds in build-package and build-bundle.
set -eu
[ $# -ge 1 ] || { echo "usage: package.sh OUT [ROOT]" >&2; exit 2; }
source=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
system=${2:-}
work=$(mktemp -d)
inside=
trap 'rm -rf "$work" ${inside:+"$inside"}' EXIT
fail() {
    echo "package: $*" >&2
    exit 1
}
quietly() { "$@" >"$work/log" 2>&1 || { tail -30 "$work/log" >&2; fail "$1 failed"; }; }
build() { # FOLDER OPTIONS...
    folder=$1
    shift
    quietly cmake -S "$source" -B "$source/$folder" -G Ninja -DCMAKE_BUILD_TYPE=Release -DOFFSITE_TESTS=OFF "$@"
    quietly cmake --build "$source/$folder"
}
# Trains and runs a tiny model: matrix products, files, tokenizer.
demo() { # PROGRAM...
    mkdir -p "$work/demo"
    cp "$source/tests/data/tokenizer/gpt2/tokenizer.json" "$work/demo/"
    echo '{"model_type": "gpt2", "n_layer": 2, "n_embd": 32, "n_head": 2, "n_positions": 64, "vocab_size": 600}' >"$work/demo/config.json"
    awk 'BEGIN { for (i = 0; i < 400; i++) printf "the owner keeps layer %d\n", i % 7 }' >"$work/text.txt"
    rm -rf "$work/model"
    quietly env -i "$@" pretrain "$work/demo" -o "$work/model" --train "$work/text.txt" --block 32 --steps 2
    quietly env -i "$@" generate "$work/model" --prompt "the owner" --max-new 4
}

# ==== Debian package ====
build build-package -DOFFSITE_BUNDLE=OFF
(cd "$source/build-package" && rm -f ./*.deb && quietly cpack -G DEB)
deb=$(find "$source/build-package" -maxdepth 1 -name '*.deb')
dpkg-deb -f "$deb" Depends | grep -q libopenblas || fail "the Debian package does not depend on OpenBLAS"
dpkg-deb -x "$deb" "$work/deb"
demo "$work/deb/usr/bin/offsite"
cp "$deb" "$out/"
echo "package: $(basename "$deb"): unpacked and run; depends on $(dpkg-deb -f "$deb" Depends)"

# ==== Tarball ====
build build-bundle -DOFFSITE_BUNDLE=ON
version=$(env -i "$source/build-bundle/offsite" --version | awk 'NR == 1 { print $2 }')
machine=$(uname -m)
name=offsite-$version-linux-$machine
quietly cmake --install "$source/build-bundle" --prefix "$work/$name" --strip
mkdir -p "$work/$name/lib/offsite" "$work/$name/share/doc/offsite/libraries"
# All but the C library and its loader, with what their packages say about copyright.
env -i ldd "$source/build-bundle/offsite" | awk '$3 ~ /^\// { print $1, $3 }' | while read -r soname path; do
    case $soname in libc.so.* | libm.so.*) continue ;; esac
    cp -L "$path" "$work/$name/lib/offsite/$soname"
    package=$(dpkg -S "*/$(basename "$(readlink -f "$path")")" | head -1 | cut -d: -f1)
    cp "/usr/share/doc/$package/copyright" "$work/$name/share/doc/offsite/libraries/$package"
done
tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner -czf "$out/$name.tar.gz" "$name"
# Prints what comes from the system besides the C library.
foreign() { awk -v home="$1" '$1 !~ /^(linux-vdso|libc\.so|libm\.so|\/lib64\/ld-linux)/ && index($3, home) != 1' "$work/ldd"; }
mkdir -p "$work/moved/elsewhere"
tar -C "$work/moved/elsewhere" -xzf "$out/$name.tar.gz"
moved=$work/moved/elsewhere/$name
rm -rf "${work:?}/$name"
env -i ldd "$moved/bin/offsite" >"$work/ldd"
[ -z "$(foreign "$moved")" ] || fail "the tarball's program takes from the system: $(foreign "$moved")"
demo "$moved/bin/offsite"
echo "package: $name.tar.gz: run from another folder with an empty environment; nothing but the C library is the system's"
if [ "$(id -u)" = 0 ]; then
    # A root with the C library and nothing else. The loader asks /proc where the program lies; there is none, so it is told.
    mkdir -p "$work/bare/lib64" "$work/bare/lib" "$work/bare/tmp"
    awk '$1 ~ /^lib[cm]\.so/ { print $3 } $1 ~ /ld-linux/ { print $1 }' "$work/ldd" | while read -r path; do
        cp -L "$path" "$work/bare/lib64/"
        cp -L "$path" "$work/bare/lib/"
    done
    cp -a "$moved" "$work/bare/offsite"
    cp -a "$work/demo" "$work/text.txt" "$work/bare/tmp/"
    quietly env -i LD_ORIGIN_PATH=/offsite/bin "$(command -v chroot)" "$work/bare" /offsite/bin/offsite pretrain /tmp/demo -o /tmp/model --train /tmp/text.txt --block 32 --steps 2
    echo "package: $name.tar.gz: run in a root folder that holds the C library and nothing else"
fi
if [ -n "$system" ]; then
    inside=$(mktemp -d "$system/tmp/offsite-XXXXXX")
    cp -a "$moved" "$inside/"
    home=/tmp/$(basename "$inside")/$name
    # As above, where nobody mounted /proc.
    origin=LD_ORIGIN_PATH=$home/bin
    chroot "$system" /usr/bin/env -i "$origin" ldd "$home/bin/offsite" >"$work/ldd"
    [ -z "$(foreign "$home")" ] || fail "in $system the tarball's program takes from the system: $(foreign "$home")"
    cp -a "$work/demo" "$work/text.txt" "$inside/"
    at=/tmp/$(basename "$inside")
    quietly chroot "$system" /usr/bin/env -i "$origin" "$home/bin/offsite" pretrain "$at/demo" -o "$at/model" --train "$at/text.txt" --block 32 --steps 2
    echo "package: $name.tar.gz: run inside $(. "$system/etc/os-release" && echo "$PRETTY_NAME")"
fi

# ==== Wheel ====
wheel=$(python3 "$source/tools/make_wheel.py" "$moved" "$version" "$out")
python3 -m venv "$work/venv"
quietly "$work/venv/bin/pip" install --no-index --no-deps --disable-pip-version-check "$wheel"
"$work/venv/bin/offsite" --version | grep -q "$version" || fail "the wheel's program does not say $version"
demo "$work/venv/bin/offsite"
echo "package: $(basename "$wheel"): installed into a fresh virtual environment and run"
