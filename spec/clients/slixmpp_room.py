#!/usr/bin/env python3
"""Drive slixmpp's MUC plugin by lines on standard input; see README.md."""

import argparse
import asyncio
import logging
import ssl
import sys

import slixmpp


def say(*fields):
    print("\t".join(fields), flush=True)


class Client(slixmpp.ClientXMPP):
    def __init__(self, args):
        super().__init__(args.jid, args.password)
        self.args = args
        self.room = None
        # Self-signed certificate; STARTTLS only.
        self.ssl_context.check_hostname = False
        self.ssl_context.verify_mode = ssl.CERT_NONE
        self.enable_direct_tls = False
        self.register_plugin("xep_0198")
        self.register_plugin("xep_0045")
        self.register_plugin("xep_0199")
        self.muc = self.plugin["xep_0045"]
        self.add_event_handler("session_start", self.on_session_start)
        self.add_event_handler("groupchat_message", self.on_message)

    def on_session_start(self, _):
        self.send_presence()
        say("ready", self.boundjid.full)

    def on_message(self, message):
        if message["body"]:
            late = message.get_plugin("delay", check=True) is not None
            say("history" if late else "heard", message["from"].resource, message["id"], message["body"])

    async def join(self, room, nick):
        self.room = slixmpp.JID(room)
        presence, subject, _, history = await self.muc.join_muc_wait(
            self.room, nick, maxstanzas=5, timeout=30)
        say("joined", presence["from"].resource, str(len(history)), subject["subject"])

    async def rename(self, nick):
        say("renamed", await self.muc.set_self_nick(self.room, nick, timeout=30))

    def nick(self):
        return self.muc.our_nicks[None][self.room]

    def leave(self):
        self.muc.leave_muc(self.room, self.nick())
        say("left")

    def speak(self, text):
        self.send_message(mto=self.room, mbody=text, mtype="groupchat")

    def tell_roster(self):
        say("roster", *sorted(self.muc.get_roster(self.room)))

    async def ping(self):
        result = await self.plugin["xep_0199"].ping(slixmpp.JID("%s/%s" % (self.room, self.nick())), timeout=10)
        say("pinged", "yes" if result is not None else "no")

    async def obey(self, line):
        command, *fields = line.split("\t")
        if command == "join":
            await self.join(*fields)
        elif command == "nick":
            await self.rename(*fields)
        elif command == "ping":
            await self.ping()
        else:
            {"leave": self.leave, "say": self.speak, "roster": self.tell_roster}[command](*fields)

    async def run(self):
        self.connect(self.args.host, self.args.port)
        reader = asyncio.StreamReader(limit=1 << 20)
        await self.loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            try:
                await self.obey(line.decode().rstrip("\n"))
            except Exception as error:  # whatever it is, the test is to see it
                say("failed", line.decode().rstrip("\n"), repr(error))
        await self.disconnect(wait=1.0)


def main():
    parser = argparse.ArgumentParser()
    for name in ("jid", "password", "host"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    logging.basicConfig(level=logging.DEBUG if args.verbose else logging.ERROR,
                        format="%(asctime)s %(name)s %(message)s")

    async def run():
        await Client(args).run()
    asyncio.run(run())


if __name__ == "__main__":
    main()
