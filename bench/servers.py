"""Servers under test: which there are, how Prosody is configured, how a server is started and ended.

Every server listens on 127.0.0.1 only and is ended by its own process id.
Knows nothing of what is measured. ejabberd has a file of its own.
"""
import dataclasses
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

REPO = pathlib.Path(__file__).resolve().parent.parent
PLUGINS = REPO / "bench" / "plugins"
HOST = "b.local"
START_TIMEOUT = END_TIMEOUT = 120
LUA = os.environ.get("ENJAMB_LUA", "lua5.4")


def say(text):
    print(text, file=sys.stderr, flush=True)


class Failed(Exception):
    """A run of which nothing can be used."""


class Missing(Failed):
    """What was to be measured is not there."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """What of stream management the server has."""

    name: str
    title: str
    smacks: str  # none, builtin or enjamb
    durability: str = ""
    minimix: bool = False
    make: str = "prosody"
    # The other tree's Enjamb: --against
    before: bool = False


VARIANTS = {
    v.name: v
    for v in (
        Variant("none", "no stream management", "none"),
        Variant("builtin", "Prosody's mod_smacks", "builtin"),
        Variant("enjamb", "Enjamb", "enjamb"),
        Variant("enjamb-none", "Enjamb, level none", "enjamb", "none"),
        Variant("enjamb-power", "Enjamb, level power", "enjamb", "power"),
        Variant("minimix", "Enjamb with mod_minimix", "enjamb", minimix=True),
        Variant("before", "before", "enjamb", before=True),
        Variant("minimix-before", "before, with mod_minimix", "enjamb", minimix=True, before=True),
        Variant("ejabberd-none", "no stream management", "none", make="ejabberd"),
        Variant("ejabberd", "ejabberd's mod_stream_mgmt", "builtin", make="ejabberd"),
    )
}


# How the label of a Prosody ends whose collector is generational.
GENERATIONAL = "-generational"


@dataclasses.dataclass(frozen=True)
class Installed:
    """A server that is installed here: its label in samples, and what it is called in reports."""

    label: str
    title: str

    @property
    def make(self):
        return "ejabberd" if self.label == "ejabberd" else "prosody"

    @property
    def generational(self):
        """Whether Lua's collector is; else it is as Prosody sets it."""
        return self.label.endswith(GENERATIONAL)


@dataclasses.dataclass(frozen=True)
class InstalledProsody(Installed):
    script: str

    def server(self, bench, variant, **more):
        return Prosody(bench, self, variant, **more)


def in_modes(server, modes):
    """A server once for each mode of Lua's collector, if it has one."""
    if server.make != "prosody":
        return [server]
    made = [server] if "incremental" in modes else []
    if "generational" in modes:
        made.append(dataclasses.replace(server, label=server.label + GENERATIONAL, title=server.title + ", generational collector"))
    return made


def tree_of(bench, variant):
    """Where the Enjamb of a variant is installed."""
    return bench.against if variant.before else bench.tree


def find_prosody(label, scratch):
    if label == "12":
        script = pathlib.Path(os.environ.get("ENJAMB_PROSODY12", "/usr/bin/prosody"))
        source = pathlib.Path("/usr/lib/prosody")
    else:
        root = pathlib.Path(os.environ.get("ENJAMB_PROSODY13") or REPO / "build" / "prosody-13" / "root").resolve()
        script, source = root / "usr" / "bin" / "prosody", root / "usr" / "lib" / "prosody"
    if not script.is_file():
        say(f"left out: there is no Prosody {label} at {script}")
        return None
    named = source / "prosody.version"
    version = named.read_text().strip() if named.is_file() else label
    if label != "12":
        script = relocated(root, script, scratch)
    return InstalledProsody(label, f"Prosody {version}", str(script))


def relocated(root, script, scratch):
    """The script itself if it loads what is beside it, else a copy that does."""
    source = root / "usr" / "lib" / "prosody"
    text = script.read_text()
    named = re.search(r"^CFG_SOURCEDIR\s*=\s*['\"]([^'\"]*)['\"]", text, re.M)
    if named and pathlib.Path(named.group(1)).resolve() == source:
        return script
    for name, value in (
        ("SOURCEDIR", source),
        ("PLUGINDIR", f"{source}/modules/"),
        ("CONFIGDIR", root / "etc" / "prosody"),
        ("DATADIR", scratch),
    ):
        text = re.sub(rf"^CFG_{name}\s*=.*$", lambda _: f"CFG_{name}='{value}';", text, flags=re.M)
    copy = scratch / "prosody-13"
    copy.write_text(text)
    return copy


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """One server in a directory of its own; ended and its directory removed at the end of `with`.

    `wait` is whether to wait until it answers: what runs inside the server and ends it need not.
    """

    logs = ()

    def __init__(self, bench, installed, variant, wait=True):
        self.bench, self.installed, self.variant, self.wait = bench, installed, variant, wait
        self.data = pathlib.Path(tempfile.mkdtemp(prefix=f"{installed.label}-{variant.name}-", dir=bench.scratch))
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.muc = None
        self.process = None

    def command(self):
        """What to run, and its environment."""
        raise NotImplementedError

    def check(self):
        """Did what was to be measured run?"""

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exception):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if exception[0] is None and not self.bench.keep:
            shutil.rmtree(self.data, ignore_errors=True)

    @property
    def pid(self):
        return self.process.pid

    def start(self):
        arguments, environment = self.command()
        with open(self.data / "console.log", "ab") as console:
            self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=console, stderr=console,
                                            cwd=self.data, env=environment)
        began = time.monotonic()
        while self.wait:
            if self._answers():
                return time.monotonic() - began
            if self.process.poll() is not None:
                raise Failed(f"the server does not start, status {self.process.returncode}\n{self.tail()}")
            if time.monotonic() - began > START_TIMEOUT:
                raise Failed(f"no answer after {START_TIMEOUT} s\n{self.tail()}")
            time.sleep(0.01)

    def _answers(self):
        """A port that is open is not enough: sessions may still be on their way back from the journal."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as s:
                s.settimeout(START_TIMEOUT)
                s.sendall(f"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' "
                          f"to='{HOST}' version='1.0'>".encode())
                return b"<stream:" in s.recv(4096)
        except OSError:
            return False

    def end(self, number=signal.SIGTERM):
        """Sends the server a signal and waits until it is gone."""
        self.process.send_signal(number)
        try:
            return self.process.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failed(f"the server did not end on signal {number}\n{self.tail()}") from None

    def tail(self):
        text = ""
        for name in ("console.log", *self.logs):
            path = self.data / name
            if path.exists():
                lines = path.read_text(errors="replace").splitlines()[-15:]
                text += f"--- {name}\n" + "\n".join(lines) + "\n"
        return text


class Prosody(Server):
    """`modules` are loaded beside the usual ones, `options` go into the configuration as they are, `muc` adds a room
    service ("silent": one whose rooms do not tell who joins)."""

    logs = ("prosody.log",)

    def __init__(self, bench, installed, variant, modules=(), options=(), muc=False, wait=True):
        super().__init__(bench, installed, variant, wait)
        self.muc = f"rooms.{HOST}" if muc else None
        self.config = self.data / "prosody.cfg.lua"
        self.config.write_text(self._configuration(modules, options, muc))

    def _configuration(self, modules, options, muc):
        variant = self.variant
        modules = ["roster", "saslauth", "disco", "ping", "carbons", *modules]
        if variant.smacks != "none":
            modules.append("smacks")
        if variant.minimix:
            modules.append("minimix")
        lines = [
            f'data_path = "{self.data}"',
            f'pidfile = "{self.data}/prosody.pid"',
            f'log = {{ info = "{self.data}/prosody.log" }}',
            f'plugin_paths = {{ "{PLUGINS}" }}',
            'interfaces = { "127.0.0.1" }',
            f"c2s_ports = {{ {self.port} }}",
            "c2s_direct_tls_ports = { }",
            "legacy_ssl_ports = { }",
            "c2s_require_encryption = false",
            "allow_unencrypted_plain_auth = true",
            'modules_disabled = { "s2s", "s2s_auth_certs", "tls" }',
            "modules_enabled = { %s }" % ", ".join(f'"{m}"' for m in modules),
            'storage = "internal"',
            'authentication = "enjamb_bench"',
        ]
        if os.geteuid() == 0:
            lines.append("run_as_root = true")
        if self.installed.generational:
            lines.append('gc = { mode = "generational" }')
        if variant.smacks == "enjamb":
            lines.append(f'installer_plugin_path = "{tree_of(self.bench, variant)}"')
        if variant.durability:
            lines.append(f'smacks_durability = "{variant.durability}"')
        lines += [*self.bench.options, *options, f'VirtualHost "{HOST}"']
        if self.muc:
            lines += [f'Component "{self.muc}" "muc"', "\trestrict_room_creation = false", "\tmuc_room_default_persistent = true", "\tmuc_room_locking = false"]
            if muc == "silent":
                lines.append('\tmodules_enabled = { "enjamb_bench_room" }')
        return "\n".join(lines) + "\n"

    def command(self):
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("LUA_", "PROSODY_"))}
        return [LUA, self.installed.script, "-F", "--config", str(self.config)], environment

    def log(self):
        path = self.data / "prosody.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def check(self):
        """Did the module that was to be measured run, at the level that was to be measured?"""
        log = self.log()
        refused = re.search(r"Option 'smacks_durability' must.*", log)
        if refused:
            raise Missing(f"{self.variant.title} is not to be had: {refused.group(0)}")
        for line in log.splitlines():
            if re.search(r"\terror\t|\berror\b.*Traceback", line) and "smacks" in line:
                raise Failed(f"the server logged: {line}")


def cpu_seconds(pid):
    """CPU time of a process and its threads, to the nanosecond where the scheduler says so."""
    try:
        return sum(int((task / "schedstat").read_text().split()[0])
                   for task in pathlib.Path(f"/proc/{pid}/task").iterdir()) / 1e9
    except OSError:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid):
    """Resident bytes of a process, and their peak."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return tuple(int(re.search(rf"^{field}:\s*(\d+) kB", status, re.M).group(1)) * 1024 for field in ("VmRSS", "VmHWM"))
