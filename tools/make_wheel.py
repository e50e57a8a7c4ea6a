"""make_wheel.py TREE VERSION OUT: a Python wheel around an unpacked tarball of package.sh: the program, its libraries, their licences."""
import base64
import hashlib
import os
import platform
import sys
import zipfile

MAIN = '''"""Runs the program that lies in this package."""
import os
import sys


def main():
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin", "offsite")
    os.execv(program, [program] + sys.argv[1:])


if __name__ == "__main__":
    main()
'''


def main():
    tree, version, out = sys.argv[1:]
    libc, libc_version = platform.libc_ver()
    if libc != "glibc":
        sys.exit("make_wheel: wheels are made for glibc only")
    # What was linked against this C library needs one that is no older.
    tag = "py3-none-manylinux_%s_%s" % (libc_version.replace(".", "_"), platform.machine())
    info = "offsite-%s.dist-info" % version
    files = [("offsite/__init__.py", b"", 0o644), ("offsite/__main__.py", MAIN.encode(), 0o644)]
    for part in ("bin", "lib/offsite"):
        for name in sorted(os.listdir(os.path.join(tree, part))):
            with open(os.path.join(tree, part, name), "rb") as f:
                files.append(("offsite/%s/%s" % (part, name), f.read(), 0o755))
    documents = os.path.join(tree, "share/doc/offsite")
    for name in ["LICENSE"] + sorted("libraries/" + n for n in os.listdir(os.path.join(documents, "libraries"))):
        with open(os.path.join(documents, name), "rb") as f:
            files.append(("%s/licenses/%s" % (info, name), f.read(), 0o644))
    files.append((info + "/METADATA", ("Metadata-Version: 2.1\nName: offsite\nVersion: %s\nSummary: Offsite-tuning: the command line program\n"
                                       "Requires-Python: >=3.8\n" % version).encode(), 0o644))
    files.append((info + "/WHEEL", ("Wheel-Version: 1.0\nGenerator: make_wheel.py\nRoot-Is-Purelib: false\nTag: %s\n" % tag).encode(), 0o644))
    files.append((info + "/entry_points.txt", b"[console_scripts]\noffsite = offsite.__main__:main\n", 0o644))
    record = ""
    for name, data, _ in files:
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record += "%s,sha256=%s,%d\n" % (name, digest, len(data))
    files.append((info + "/RECORD", (record + info + "/RECORD,,\n").encode(), 0o644))
    path = os.path.join(out, "offsite-%s-%s.whl" % (version, tag))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for name, data, mode in files:
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = (0o100000 | mode) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            z.writestr(entry, data)
    print(path)


main()
