"""Whether everything that is built has a licence that deny.toml allows. Without a network: cargo knows what it has downloaded.

usage: licences.py [CARGO-TREE-ARGUMENT...]
"""
import re
import subprocess
import sys
import tomllib

TREE = ["cargo", "tree", "--locked", "--offline", "--workspace", "--edges", "all", "--prefix", "none", "--no-dedupe", "--format", "{p}\t{l}"]


def allows(expression, allowed):
    """SPDX: AND binds closer than OR; a slash is an OR of old."""
    tokens = re.findall(r"[()]|[^()\s]+", expression.replace("/", " OR "))

    def one():
        if not tokens:
            raise ValueError(expression)
        token = tokens.pop(0)
        if token == "(":
            value = either()
            if not tokens or tokens.pop(0) != ")":
                raise ValueError(expression)
            return value
        if tokens[:1] == ["WITH"]:
            del tokens[0]
            token += " WITH " + tokens.pop(0)
        return token in allowed

    def both():
        value = one()
        while tokens[:1] == ["AND"]:
            del tokens[0]
            value = one() and value
        return value

    def either():
        value = both()
        while tokens[:1] == ["OR"]:
            del tokens[0]
            value = both() or value
        return value

    value = either()
    if tokens:
        raise ValueError(expression)
    return value


def main():
    with open("deny.toml", "rb") as file:
        allowed = set(tomllib.load(file)["licenses"]["allow"])
    for expression, expected in {
        "MIT": True, "MIT OR GPL-3.0": True, "GPL-3.0": False, "MIT AND GPL-3.0": False, "(MIT OR X) AND (X OR Zlib)": True,
        "MIT/Apache-2.0": True, "X OR MIT AND X": False, "Apache-2.0 WITH LLVM-exception": False,
    }.items():
        assert allows(expression, {"MIT", "Apache-2.0", "Zlib"}) == expected, expression
    lines = subprocess.run(TREE + sys.argv[1:], check=True, capture_output=True, text=True).stdout.splitlines()
    split = (line.split("\t") for line in lines if "\t" in line)
    packages = sorted({package.partition(" (")[0] + "\t" + licence for package, licence in split})
    bad = [p for p in packages if not allows(p.rpartition("\t")[2] or "none", allowed)]
    for package in bad:
        print("its licence is not one that deny.toml allows:", package.replace("\t", ": "))
    print(f"{len(packages)} packages, {len(bad)} with another licence")
    return not packages or bool(bad)


if __name__ == "__main__":
    sys.exit(main())
