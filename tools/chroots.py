"""Other releases of Debian, in directories: to build for the oldest and to try Enjamb in each.

A release is fetched once, with debootstrap, and never changed after that: what a command does in it goes to a layer above
that is thrown away, or kept under a name for the next. Mounts and processes are in namespaces of their own, so that
nothing is left of either. The archive is the one that the machine's own apt has.

usage: chroots.py [--layer NAME]... [--keep NAME] [--bind FROM:TO]... [--over FROM:TO]... [--offline] [--on-host] RELEASE COMMAND...

COMMAND is run in the chroot, or with --on-host beside it, with the chroot's path in $CHROOT. --keep does nothing if there is such a
layer already; --layer runs on top of one (the last given is the uppermost). --bind shows a file or directory of this machine
there; --over a directory of which nothing is changed: what is written there is thrown away as well. --offline leaves nothing of
the network but loopback.
"""
import argparse
import contextlib
import fcntl
import glob
import os
import shlex
import shutil
import socket
import struct
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CHROOTS = os.path.join(TOP, "build", "chroots")

# Which release of the archive each is made of, and what apt has beside that.
RELEASES = {
    "bullseye": ("bullseye", None),
    "bookworm": ("bookworm", None),
    "bookworm-backports": ("bookworm", "bookworm-backports"),
    "trixie": ("trixie", None),
    "sid": ("sid", None),
}
OLDEST = "bullseye"


class Unavailable(Exception):
    """What was asked for cannot be had on this machine; the text says why."""


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def mirror():
    """The address that the machine's own `main` comes from, and the keys that it is signed with."""
    form = "$(REPO_URI) $(COMPONENT) $(SIGNED_BY)"
    try:
        lines = output("apt-get", "indextargets", "--format", form, "Identifier: Packages", "Origin: Debian").splitlines()
    except (OSError, subprocess.CalledProcessError) as error:
        raise Unavailable(f"apt does not say where its archive is: {error}") from error
    for line in lines:
        address, component, *_ = line.split()
        if component == "main" and "security" not in address:
            return address.rstrip("/")
    raise Unavailable("apt has no source for Debian's main")


def layer(release, name):
    return os.path.join(CHROOTS, f"{release}.{name}")


@contextlib.contextmanager
def locked(name):
    os.makedirs(CHROOTS, exist_ok=True)
    with open(os.path.join(CHROOTS, f"{name}.lock"), "w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def make(release):
    """Fetches a release, unless it is there. Its directory."""
    suite, _ = RELEASES[release]
    directory, ready = os.path.join(CHROOTS, suite), os.path.join(CHROOTS, f"{suite}.ready")
    with locked(suite):
        if os.path.exists(ready):
            return directory
        if not shutil.which("debootstrap"):
            raise Unavailable("debootstrap is not installed")
        print(f"fetching Debian {suite}", file=sys.stderr)
        shutil.rmtree(directory, ignore_errors=True)
        log = os.path.join(CHROOTS, f"{suite}.log")
        with open(log, "wb") as file:
            code = subprocess.call(["debootstrap", "--variant=minbase", suite, directory, mirror()], stdout=file, stderr=file)
        if code:
            with open(log, encoding="utf-8", errors="replace") as file:
                last = ([line.strip() for line in file if line.strip()] or ["?"])[-1]
            raise Unavailable(f"debootstrap cannot fetch {suite}: {last} (all of it is in {log})")
        for file in glob.glob(os.path.join(directory, "var/cache/apt/archives/*.deb")):
            os.remove(file)
        open(ready, "w", encoding="ascii").close()
    return directory


def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def bring_up_loopback():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, 0x8914, struct.pack("16sh14s", b"lo", 0x49, b""))  # SIOCSIFFLAGS: up, loopback, running


def prepare(root, release):
    """What a program in the chroot expects of a running system, and apt of its settings."""
    mount("-t", "proc", "proc", f"{root}/proc")
    mount("-t", "tmpfs", "-o", "mode=755", "dev", f"{root}/dev")
    for name in "null", "zero", "full", "random", "urandom", "tty":
        open(f"{root}/dev/{name}", "w", encoding="ascii").close()
        mount("--bind", f"/dev/{name}", f"{root}/dev/{name}")
    for name, target in {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}.items():
        os.symlink(target, f"{root}/dev/{name}")
    os.mkdir(f"{root}/dev/shm", 0o1777)
    shutil.copy("/etc/resolv.conf", f"{root}/etc/resolv.conf")
    shutil.copy("/etc/hosts", f"{root}/etc/hosts")
    # Services are not started by packages: there is no init.
    with open(f"{root}/usr/sbin/policy-rc.d", "w", encoding="ascii") as file:
        file.write("#!/bin/sh\nexit 101\n")
    os.chmod(f"{root}/usr/sbin/policy-rc.d", 0o755)
    settings = output("apt-config", "dump") if shutil.which("apt-config") else ""
    with open(f"{root}/etc/apt/apt.conf.d/90machine", "w", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in settings.splitlines() if line.startswith("Acquire::") and "roxy" in line))
        file.write('APT::Install-Recommends "false";\nDpkg::Use-Pty "false";\n')
        if release == "sid":  # which is signed for some days only, and mirrors lag behind
            file.write('Acquire::Check-Valid-Until "false";\n')
    if RELEASES[release][1]:
        with open(f"{root}/etc/apt/sources.list.d/more.list", "w", encoding="utf-8") as file:
            file.write(f"deb {mirror()} {RELEASES[release][1]} main\n")


def stack(lower, upper, work, root):
    """Directories, the uppermost first, with one to write to above them, at `root`."""
    for directory in lower:
        if not os.path.isdir(directory):
            raise Unavailable(f"there is no {directory}")
    for directory in upper, work:
        os.mkdir(directory)
    os.chmod(upper, 0o755)
    try:
        mount("-t", "overlay", "overlay", "-o", f"lowerdir={':'.join(lower)},upperdir={upper},workdir={work}", root)
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"this system mounts no overlays: {error.stderr.decode().strip()}") from error


def inside(arguments):
    """The second half: in the namespaces already."""
    scratch = arguments.scratch
    upper, work, root = (os.path.join(scratch, name) for name in ("upper", "work", "root"))
    os.mkdir(root)
    if arguments.offline:
        bring_up_loopback()
    stack([*(layer(arguments.release, name) for name in reversed(arguments.layer)), make(arguments.release)], upper, work, root)
    prepare(root, arguments.release)
    for bind in arguments.bind:
        source, _, target = bind.partition(":")
        target = root + target
        if os.path.isdir(source):
            os.makedirs(target, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            open(target, "w", encoding="ascii").close()
        mount("--rbind", source, target)
    for number, over in enumerate(arguments.over):
        source, _, target = over.partition(":")
        os.makedirs(root + target, exist_ok=True)
        stack([os.path.abspath(source)], f"{upper}.{number}", f"{work}.{number}", root + target)
    environment = dict(os.environ, CHROOT=root, LC_ALL="C.UTF-8", DEBIAN_FRONTEND="noninteractive")
    command = arguments.command
    if not arguments.on_host:
        environment["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        environment.pop("TMPDIR", None)
        command = ["chroot", root, *command]
    return subprocess.call(command, env=environment)


def settle(scratch, name, release):
    """Keeps what was written as a layer."""
    upper, kept = os.path.join(scratch, "upper"), layer(release, name)
    for path in "etc/resolv.conf", "etc/hosts", "etc/apt/apt.conf.d/90machine":
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(upper, path))
    for file in glob.glob(os.path.join(upper, "var/cache/apt/archives/*.deb")):
        os.remove(file)
    shutil.rmtree(kept, ignore_errors=True)
    os.rename(upper, kept)


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1].split("\n", maxsplit=1)[0])
    parser.add_argument("--layer", action="append", default=[])
    parser.add_argument("--keep")
    parser.add_argument("--bind", action="append", default=[])
    parser.add_argument("--over", action="append", default=[])
    parser.add_argument("--offline", action="store_true")
    parser.add_argument("--on-host", action="store_true")
    parser.add_argument("--scratch", help=argparse.SUPPRESS)
    parser.add_argument("release", choices=RELEASES)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    try:
        if arguments.scratch:
            return inside(arguments)
        if os.geteuid():
            os.execvp("sudo", ["sudo", sys.executable, *sys.argv])
        if arguments.keep and os.path.isdir(layer(arguments.release, arguments.keep)):
            return 0
        make(arguments.release)
        with locked(f"{arguments.release}.{arguments.keep}") if arguments.keep else contextlib.nullcontext():
            scratch = tempfile.mkdtemp(prefix="scratch.", dir=CHROOTS)
            try:
                network = ["--net"] if arguments.offline else []
                # What is mounted and running there ends with the first process in it.
                code = subprocess.call([
                    "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", *network,
                    sys.executable, os.path.abspath(__file__), f"--scratch={scratch}", *sys.argv[1:]])
                if code == 0 and arguments.keep:
                    settle(scratch, arguments.keep, arguments.release)
                return code
            finally:
                shutil.rmtree(scratch)
    except Unavailable as error:
        print(f"{shlex.join(sys.argv)}: {error}", file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main())
