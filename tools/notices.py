"""The notices of what is linked into the library, which their licences want to go with it.

usage: notices.py VENDOR-DIRECTORY
"""
import glob
import os
import subprocess
import sys

TREE = ["cargo", "tree", "--locked", "--offline", "-p", "enjamb-library", "--edges", "normal", "--prefix", "none", "--no-dedupe", "--format", "{p}\t{l}"]


def main():
    vendor = sys.argv[1]
    texts = {}  # by text: most have the same
    lines = set(subprocess.run(TREE, check=True, capture_output=True, text=True).stdout.splitlines())
    linked = sorted((line.split("\t")[0].split()[:2], line.split("\t")[1]) for line in lines if "(/" not in line and "(proc-macro)" not in line)
    if not linked:
        sys.exit("cargo tree names nothing that is linked")
    print("Linked into enjamb.so, beside Rust's standard library (MIT OR Apache-2.0):\n")
    for (name, version), licence in linked:
        version = version.removeprefix("v")
        print(f"  {name} {version}: {licence}")
        files = [f for f in sorted(glob.glob(f"{vendor}/{name}-{version}/*")) if os.path.basename(f).upper().startswith(("LICENSE", "LICENCE", "COPYING", "NOTICE", "COPYRIGHT", "UNLICENSE"))]
        if not files:
            print(f"notices.py: {name} brings no text of its licence, {licence}", file=sys.stderr)
        for file in files:
            with open(file, encoding="utf-8") as f:
                texts.setdefault(f.read().strip(), []).append(f"{name} {version}")
    for text, of in texts.items():
        print(f"\n{'-' * 78}\n{', '.join(sorted(set(of)))}:\n\n{text}")


if __name__ == "__main__":
    main()
