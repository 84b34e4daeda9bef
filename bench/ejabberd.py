"""ejabberd as Debian installs it: the other server that has stream management, for comparison.

It runs as this user, from a directory of its own, without Erlang's distribution, with the modules that Prosody has here
too.  Any account may log in with any password, as with Prosody here.
"""
import dataclasses
import os
import pathlib
import re
import shutil

from servers import HOST, Installed, Server, say

CONFIGURATION = """\
loglevel: info
hosts:
  - {host}
auth_method: [anonymous]
anonymous_protocol: login_anon
allow_multiple_connections: true
listen:
  - port: {port}
    ip: "127.0.0.1"
    module: ejabberd_c2s
modules:
  mod_carboncopy: {{}}
  mod_disco: {{}}
  mod_ping: {{}}
  mod_roster: {{}}
"""

ROOMS = """\
  mod_muc:
    host: {muc}
    access: all
    access_create: all
    max_users: 5000
    default_room_options:
      max_users: 5000
      presence_broadcast: []
"""


@dataclasses.dataclass(frozen=True)
class InstalledEjabberd(Installed):
    libraries: str

    def server(self, bench, variant, **more):
        return Ejabberd(bench, self, variant, **more)


def find_ejabberd():
    for found in sorted(pathlib.Path("/usr/lib").glob("*/ejabberd-*/ebin/ejabberd.app")):
        version = re.search(r'\{vsn,\s*"([^"]+)"', found.read_text())
        if shutil.which("erl") and version:
            return InstalledEjabberd("ejabberd", f"ejabberd {version.group(1)}", str(found.parents[2]))
    say("left out: ejabberd is not installed (Debian's package ejabberd)")
    return None


class Ejabberd(Server):
    """`muc` adds a room service, whose rooms do not tell who joins."""

    logs = ("ejabberd.log",)

    def __init__(self, bench, installed, variant, muc=None):
        super().__init__(bench, installed, variant)
        text = CONFIGURATION.format(host=HOST, port=self.port)
        if variant.smacks != "none":
            text += "  mod_stream_mgmt: {}\n"
        if muc:
            self.muc = f"rooms.{HOST}"
            text += ROOMS.format(muc=self.muc)
        (self.data / "spool").mkdir()
        (self.data / "ejabberd.yml").write_text(text)

    def command(self):
        """As ejabberdctl does, but that idle schedulers sleep at once: they would wait busily, which is no work."""
        environment = {
            **os.environ, "HOME": str(self.data), "ERL_LIBS": self.installed.libraries, "ERL_CRASH_DUMP_BYTES": "0",
            "EJABBERD_CONFIG_PATH": str(self.data / "ejabberd.yml"), "EJABBERD_LOG_PATH": str(self.data / "ejabberd.log"),
        }
        return ["erl", "-noinput", "-start_epmd", "false", "+K", "true", "+P", "250000",
                "+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none",
                "-mnesia", "dir", f'"{self.data}/spool"', "-s", "ejabberd"], environment
