#!/usr/bin/python3
"""Drive profanity on a terminal of its own by lines on standard input; see README.md (talk_spec.lua).

Orders are typed; what it shows comes from a plugin of profanity's (profanity_plugin.py), what becomes of the stream from its log.
"""

import argparse
import collections
import fcntl
import os
import pathlib
import pty
import re
import selectors
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time

HERE = pathlib.Path(__file__).resolve().parent


def say(*fields):
    print("\t".join(fields), flush=True)


class Tail:
    """Whole lines that were added to a file."""

    def __init__(self, path):
        self.path, self.file, self.rest = path, None, ""

    def lines(self):
        if self.file is None:
            if not self.path.exists():
                return []
            self.file = self.path.open(errors="replace")
        *lines, self.rest = (self.rest + self.file.read()).split("\n")
        return lines


class Driver:
    def __init__(self, args):
        self.args = args
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="enjamb-profanity-"))
        self.live = self.connected = False
        self.room = None
        # Orders; the first of them is typed and not yet sent if `typed`. One at a time: what profanity reads while it has no
        # connection, it refuses. It may read later than it was typed.
        self.orders = collections.deque()
        self.typed = self.read = False
        self.sent = []  # (id, body) of each stanza since <enable/>: what the server counts
        self.unhandled = {}  # of these, what it had not handled when the stream was resumed and is not sent again yet
        self.rest = b""
        self.configure()
        self.shown = Tail(self.home / "shown")
        self.log = Tail(self.home / "log")

    def configure(self):
        user, resource = self.args.jid.split("/")
        config, data = self.home / "config" / "profanity", self.home / "data" / "profanity"
        for directory in (config, data / "plugins"):
            directory.mkdir(parents=True)
        (config / "profrc").write_text(
            "[plugins]\nload=enjamb_talk.py\n[connection]\nreconnect=1\n[notifications]\nroom=off\nmessage=off\n"
            "[ui]\nsplash=false\nwintitle.show=false\n[muc]\nprivileges=false\n[chatstates]\nenabled=false\noutype=false\n[omemo]\npolicy=manual\n")
        (data / "accounts").write_text(
            f"[{user}]\nenabled=true\njid={user}\nresource={resource}\npassword={self.args.password}\n"
            f"server={self.args.host}\nport={self.args.port}\ntls.policy=trust\npresence.last=online\npresence.login=online\n")
        os.chmod(data / "accounts", 0o600)
        shutil.copy(HERE / "profanity_plugin.py", data / "plugins" / "enjamb_talk.py")

    def start(self):
        user = self.args.jid.split("/")[0]
        self.terminal, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 150, 0, 0))
        environment = {**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8", "HOME": str(self.home),
                       "XDG_CONFIG_HOME": str(self.home / "config"), "XDG_DATA_HOME": str(self.home / "data"),
                       "ENJAMB_SHOWN": str(self.home / "shown")}
        self.process = subprocess.Popen(
            ["profanity", "--log", "DEBUG", "--logfile", str(self.home / "log"), "--account", user],
            stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True)
        os.close(slave)

    def type(self, text):
        os.write(self.terminal, text.encode() + b"\r")

    def come_alive(self, *words):
        say(*words)
        self.live = True
        self.type_next()

    def type_next(self):
        if not self.live or self.typed or not self.orders:
            return
        command, *fields = self.orders[0]
        self.typed, self.read = True, False
        if command == "join":
            self.room, nick = fields
            self.type(f"/join {self.room} nick {nick}")
            self.done()
        elif command == "say":
            self.type(f"/win {self.room}")
            self.type(fields[0])
        elif command == "tell":
            self.type("/win 1")  # in a room it is a nick that /msg wants
            self.type(f"/msg {fields[0]} {fields[1]}")

    def done(self):
        self.orders.popleft()
        self.typed = False
        self.type_next()

    def read_log(self):
        for line in self.log.lines():
            if self.args.verbose:
                print(line, file=sys.stderr, flush=True)
            self.count(line)
            if "RECV: <resumed" in line:
                self.come_alive("resumed")
            elif "RECV: <presence" in line and 'code="110"' in line and self.room and f'from="{self.room}/' in line:
                say("joined", re.search(r'from="[^"/]*/([^"]*)"', line).group(1))
            elif self.typed and "SENT: <message" in line and f"<body>{self.orders[0][-1]}</body>" in line:
                self.done()
            elif self.typed and re.search(rf"Input received: (.* )?{self.orders[0][-1]}$", line):
                self.read = True
                self.typed = self.live
            elif "XMPP_CONN_DISCONNECT" in line and self.live:
                self.live = False
                if self.typed and self.read:  # what libstrophe had not yet written, it forgets
                    self.typed = False
                say("disconnected")

    def count(self, line):
        """libstrophe up to 0.12 counts what it sends from <enabled/>, not from <enable/>, and all versions begin anew after a
        resumption at the first that they hold, not at the server's h: they take for handled what is not, and do not send it again.
        What was forgotten so, is told."""
        if "SENT: <enable " in line:
            self.sent = []
        elif resumed := re.search(r"RECV: <resumed h=\"(\d+)\"", line):
            self.unhandled = dict(self.sent[int(resumed.group(1)):])
            del self.sent[int(resumed.group(1)):]
        elif sent := re.search(r"SENT: <(?:message|presence|iq) (.*)", line):
            id_, body = (re.search(pattern, sent.group(1)) for pattern in (r'id="([^"]*)"', "<body>(.*)</body>"))
            key = id_.group(1) if id_ else str(len(self.sent))
            self.sent.append((key, body and body.group(1)))
            if key in self.unhandled:
                del self.unhandled[key]
                return
            for forgotten in filter(None, self.unhandled.values()):  # something new: it has sent again all that it will
                say("forgotten", forgotten)
            self.unhandled = {}

    def read_shown(self):
        for line in self.shown.lines():
            word, *rest = line.split("\t")
            if word != "connected":
                say(word, *rest)
            elif not self.connected:  # profanity says so of a resumption too
                self.connected = True
                self.come_alive("ready", *rest)

    def run(self):
        self.start()
        selector = selectors.DefaultSelector()
        selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        selector.register(self.terminal, selectors.EVENT_READ)
        try:
            while self.process.poll() is None:
                for key, _ in selector.select(0.02):
                    data = os.read(key.fd, 65536)
                    if key.fd == self.terminal:
                        continue  # what it draws: it must be read
                    if not data:
                        return
                    *lines, self.rest = (self.rest + data).split(b"\n")
                    self.orders.extend(line.decode().split("\t") for line in lines)
                    self.type_next()
                self.read_log()
                self.read_shown()
            say("failed", f"profanity ended, {self.process.returncode}")
        finally:
            self.end()

    def end(self):
        if self.process.poll() is None:
            self.type("/quit")
            deadline = time.monotonic() + 3
            while self.process.poll() is None and time.monotonic() < deadline:
                readable = selectors.DefaultSelector()
                readable.register(self.terminal, selectors.EVENT_READ)
                for _ in readable.select(0.05):
                    try:
                        os.read(self.terminal, 65536)
                    except OSError:
                        break
            if self.process.poll() is None:
                os.kill(self.process.pid, signal.SIGKILL)
                self.process.wait()
        if not self.args.verbose:
            shutil.rmtree(self.home, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser()
    for name in ("jid", "password", "host"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--verbose", action="store_true")
    Driver(parser.parse_args()).run()


if __name__ == "__main__":
    main()
