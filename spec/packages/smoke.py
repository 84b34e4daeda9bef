"""Whether Enjamb works in a Prosody that is installed in a chroot: what a person notices of it, once each.

Prints a line of JSON: for each of STEPS true, or why not (then the later ones have not been tried).

usage: smoke.py [--prosody PROGRAM] [--configure] [--fresh] [--loopback] [--steps STEP,...] CHROOT
The configuration there must have a host localhost with users that log in without encryption, and rooms.localhost; --configure writes it
below Debian's own (conf.d). --fresh takes away what Enjamb has kept there. The server listens on this network namespace's loopback, which
--loopback brings up first.
"""
import argparse
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

from client import Client, Gone, named

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
from chroots import bring_up_loopback  # noqa: E402

STEPS = "loads", "resume", "kill -9", "minimix"
PORT = 5222
ROOM = f"verona{time.time_ns()}@rooms.localhost"
# Debian includes conf.d at the end of its configuration, so this is about hosts only.
CONFIGURATION = """
VirtualHost "localhost"
	authentication = "internal_hashed"
	c2s_require_encryption = false
	allow_unencrypted_plain_auth = true
	modules_enabled = { "smacks", "minimix" }
Component "rooms.localhost" "muc"
	muc_room_locking = false
	muc_room_default_public = true
"""


class Server:
    """Prosody in the foreground, as its own user, as Debian's service starts it."""

    def __init__(self, root, program):
        self.root, self.program, self.process = root, program, None

    def chroot(self, *command, user="prosody"):
        return ["chroot", f"--userspec={user}:{user}", self.root, *command]

    def start(self):
        self.output = open(os.path.join(self.root, "tmp/prosody-output"), "ab")
        runtime = os.path.join(self.root, "run/prosody")
        os.makedirs(runtime, exist_ok=True)
        user = subprocess.check_output(["chroot", self.root, "id", "-u", "prosody"], text=True).strip()
        os.chown(runtime, int(user), -1)
        self.process = subprocess.Popen(self.chroot(self.program, "-F"), stdout=self.output, stderr=self.output, stdin=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", PORT), 1).close()
                return
            except OSError:
                time.sleep(0.1)
            if self.process.poll() is not None:
                break
        raise Gone(f"the server, which did not start: {self.log()[-1000:]}")

    def stop(self, how=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(60)
        self.process = None

    def log(self):
        text = ""
        for name in [os.path.join(self.root, "tmp/prosody-output"), *glob.glob(os.path.join(self.root, "var/log/prosody/*"))]:
            with open(name, encoding="utf-8", errors="replace") as file:
                text += file.read()
        return text


def loads(server):
    server.start()
    client = Client(PORT, "juliet").log_in("balcony")
    if not client.token:
        raise Gone("a session that can be resumed")
    journal = os.path.join(server.root, "var/lib/prosody/enjamb-journal")
    if not os.path.isdir(journal):
        raise Gone("Enjamb's journal: this is another mod_smacks")
    client.ping()
    errors = [line for line in server.log().splitlines() if "smacks" in line and ("error" in line or "Error" in line)]
    if errors:
        raise Gone("a log without errors: " + errors[0])
    client.log_out()


def resume(server):
    juliet, romeo = Client(PORT, "juliet").log_in("balcony"), Client(PORT, "romeo").log_in("orchard")
    romeo.say(juliet.jid, "before")
    juliet.hear("before")
    juliet.drop()
    romeo.say(juliet.jid, "while away 1")
    romeo.say(juliet.jid, "while away 2")
    romeo.ping()
    juliet.resume()
    juliet.hear("while away 1", "while away 2")
    for client in juliet, romeo:
        client.log_out()


def kill(server):
    juliet, romeo = Client(PORT, "juliet").log_in("balcony"), Client(PORT, "romeo").log_in("orchard")
    juliet.drop()
    romeo.say(juliet.jid, "before the end")
    if romeo.acknowledged() < 2:
        raise Gone("an ack of the message")
    server.stop(signal.SIGKILL)
    romeo.drop()
    server.start()
    romeo.resume()
    romeo.say(juliet.jid, "after it")
    romeo.ping()
    juliet.resume()
    juliet.hear("before the end", "after it")
    for client in juliet, romeo:
        client.log_out()


def minimix(server):
    romeo = Client(PORT, "romeo").log_in("orchard")
    romeo.join(ROOM, "Romeo")
    balcony = Client(PORT, "juliet").log_in("balcony")
    balcony.join(ROOM, "Juliet")
    romeo.take(named("presence", sender=f"{ROOM}/Juliet"), "Juliet to come in")
    chamber = Client(PORT, "juliet").log_in("chamber")
    chamber.join(ROOM, "Juliet")
    romeo.ping()
    if any(e.get("from") == f"{ROOM}/Juliet" for e in romeo.inbox):
        raise Gone("one occupant for both of her devices")
    romeo.say(ROOM, "to both", "groupchat")
    for client in romeo, balcony, chamber:
        client.hear("to both")
    balcony.say(ROOM, "from one", "groupchat")
    for client in romeo, balcony, chamber:
        client.hear("from one")
    balcony.drop()
    romeo.say(ROOM, "while one is away", "groupchat")
    for client in romeo, chamber:
        client.hear("while one is away")
    balcony.resume()
    balcony.hear("while one is away")
    for client in romeo, balcony, chamber:  # so that all is acknowledged
        client.acknowledged()
    server.stop(signal.SIGKILL)
    for client in romeo, balcony, chamber:
        client.drop()
    server.start()
    for client in romeo, balcony, chamber:
        client.resume()
    romeo.say(ROOM, "after the end", "groupchat")
    for client in romeo, balcony, chamber:
        client.hear("after the end")
    for client in romeo, balcony, chamber:
        client.log_out()


def configure(root):
    for name in glob.glob(os.path.join(root, "etc/prosody/conf.d/*")):
        os.remove(name)
    with open(os.path.join(root, "etc/prosody/conf.d/smoke.cfg.lua"), "w", encoding="utf-8") as file:
        file.write(CONFIGURATION)


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1].split("\n", maxsplit=1)[0])
    parser.add_argument("--prosody", default="/usr/bin/prosody")
    parser.add_argument("--configure", action="store_true")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--loopback", action="store_true")
    parser.add_argument("--steps", default=",".join(STEPS))
    parser.add_argument("root")
    arguments = parser.parse_args()
    if arguments.loopback:
        bring_up_loopback()
    if arguments.fresh:
        for name in "journal", "rooms":
            shutil.rmtree(os.path.join(arguments.root, "var/lib/prosody", f"enjamb-{name}"), ignore_errors=True)
    if arguments.configure:
        configure(arguments.root)
    server = Server(arguments.root, arguments.prosody)
    for user in "juliet", "romeo":
        subprocess.run(["chroot", arguments.root, arguments.prosody + "ctl", "register", user, "localhost", "secret"],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found = {}
    try:
        for name, step in zip(STEPS, (loads, resume, kill, minimix)):
            if name not in arguments.steps.split(","):
                continue
            try:
                step(server)
                raised = [line for line in server.log().splitlines() if "Top-level error" in line or "Traceback" in line]
                found[name] = raised[0] if raised else True
            except (Gone, OSError) as error:
                found[name] = str(error) or type(error).__name__
                break
    finally:
        server.stop()
    print(json.dumps(found))
    if not all(value is True for value in found.values()):
        print(server.log()[-6000:], file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
