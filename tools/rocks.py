"""Makes what a rocks server is: rocks, and the manifest of them that luarocks and prosodyctl ask for first.

The library is one rock (source, and binary for this architecture), each module another that wants the library (and the module that
both load by themselves), so that `prosodyctl install` and `remove` do with each what they say; `enjamb` is all of them.

usage: rocks.py SOURCES.tar.gz BINARIES.tar.gz VERSION DIRECTORY
"""
import hashlib
import io
import os
import re
import shutil
import sys
import tarfile
import zipfile

LUA = "5.4"
LIBRARY = "enjamb-library"
ROOMS = "mod_muc_enjamb"
SUMMARY = {
    "enjamb": "Stream management for Prosody that loses nothing, and group chat for accounts: all of Enjamb",
    LIBRARY: "The library under mod_smacks and mod_minimix",
    "mod_smacks": "Stream management (XEP-0198) for Prosody that loses nothing",
    "mod_minimix": "Group chat as an affair of the account, for Prosody",
    ROOMS: "Rooms that outlive Prosody: loaded by mod_smacks and mod_minimix",
}


def rockspec(name, version, needs, source=None, build='type = "none"'):
    """In the format that the luarocks of Debian 12 knows. The source of a rock is in the rock."""
    needs = "".join(f', "{rock} == {version}"' for rock in needs)
    return f"""rockspec_format = "3.0"
package = "{name}"
version = "{version}"
source = {{ url = "{source[0] if source else "none"}"{f', dir = "{source[1]}"' if source else ""} }}
description = {{ summary = "{SUMMARY[name]}", license = "MIT", labels = {{ "prosody", "xmpp" }} }}
supported_platforms = {{ "linux" }}
dependencies = {{ "lua ~> {LUA}"{needs} }}
build = {{ {build} }}
"""


def lua_table(tree, indent=1):
    lines = []
    for key, value in sorted(tree.items()):
        value = lua_table(value, indent + 1) if isinstance(value, dict) else f'"{value}"'
        lines.append("   " * indent + f'["{key}"] = {value},\n')
    return "{\n" + "".join(lines) + "   " * (indent - 1) + "}"


def write(path, files):
    """The same bytes for the same files."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as rock:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            rock.writestr(entry, content)


def binary_rock(directory, name, version, arch, spec, files):
    """As luarocks would pack what it has installed."""
    files = {f"{name}-{version}.rockspec": spec.encode(), **files}
    sums = {}
    for path, content in files.items():
        *folders, file = path.split("/")
        at = sums
        for folder in folders:
            at = at.setdefault(folder, {})
        at[file] = hashlib.md5(content).hexdigest()
    files["rock_manifest"] = f"rock_manifest = {lua_table(sums)}\n".encode()
    write(os.path.join(directory, f"{name}-{version}.{arch}.rock"), files)


def main():
    sources, binaries, version, directory = sys.argv[1:]
    version += "-1"
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory)
    with open(binaries, "rb") as file:
        with tarfile.open(fileobj=io.BytesIO(file.read())) as tar:
            tree = {m.name.partition("/")[2]: tar.extractfile(m).read() for m in tar.getmembers() if m.isfile()}
    licence = {"doc/LICENSE": tree["LICENSE"]}
    lua = {path.removeprefix(f"tree/share/lua/{LUA}/"): content for path, content in tree.items() if path.startswith(f"tree/share/lua/{LUA}/")}

    archive = os.path.basename(sources)
    spec = rockspec(LIBRARY, version, [], (archive, archive.removesuffix(".tar.gz")),
                    'type = "make", build_target = "build", install_target = "install-library", '
                    'install_variables = { LUADIR = "$(LUADIR)", LIBDIR = "$(LIBDIR)" }')
    with open(sources, "rb") as file:
        write(os.path.join(directory, f"{LIBRARY}-{version}.src.rock"), {f"{LIBRARY}-{version}.rockspec": spec, archive: file.read()})
    arch = "linux-" + re.search(r"-([^-]+)-linux-", os.path.basename(binaries))[1]
    binary_rock(directory, LIBRARY, version, arch, spec, {
        **{f"lua/{path}": content for path, content in lua.items() if not path.startswith("mod_")},
        **{f"lib/{name}.so": tree[f"tree/lib/lua/{LUA}/{name}.so"] for name in ("enjamb", "enjamb-replica")},
        "doc/NOTICES": tree["NOTICES"],
        **licence,
    })
    modules = sorted({path.partition("/")[0] for path in lua if path.startswith("mod_")})
    for name in modules:
        files = {f"lua/{path}": content for path, content in lua.items() if path.startswith(f"{name}/")}
        binary_rock(directory, name, version, "all", rockspec(name, version, [LIBRARY] if name == ROOMS else [LIBRARY, ROOMS]), {**files, **licence})
    binary_rock(directory, "enjamb", version, "all", rockspec("enjamb", version, [LIBRARY, *modules]), licence)
    # luarocks asks for the one of its Lua version first.
    repository = {}
    for file in sorted(os.listdir(directory)):
        name, arch = re.fullmatch(rf"(.*)-{re.escape(version)}\.(.*)\.rock", file).groups()
        repository.setdefault(name, []).append(f'{{ arch = "{arch}" }}')
    entries = "".join(f'   ["{name}"] = {{ ["{version}"] = {{ {", ".join(archs)} }} }},\n' for name, archs in repository.items())
    for name in "manifest", f"manifest-{LUA}":
        with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
            file.write(f"commands = {{}}\nmodules = {{}}\nrepository = {{\n{entries}}}\n")
    for name in sorted(os.listdir(directory)):
        print(os.path.join(directory, name))


if __name__ == "__main__":
    main()
