#!/usr/bin/python3
"""Drive aioxmpp by lines on standard input; see README.md (talk_spec.lua)."""

import argparse
import asyncio
import datetime
import logging
import sys

import aioxmpp
import aioxmpp.connector
import aioxmpp.dispatcher
import aioxmpp.muc
import aioxmpp.security_layer


def say(*fields):
    print("\t".join(fields), flush=True)


def body_of(message):
    return message.body.any() if message.body else None


class Driver:
    def __init__(self, args):
        self.client = c = aioxmpp.PresenceManagedClient(
            aioxmpp.JID.fromstr(args.jid),
            aioxmpp.security_layer.make(args.password, no_verify=True),  # the certificate is self-signed
            override_peer=[(args.host, args.port, aioxmpp.connector.STARTTLSConnector())])
        c.backoff_start = c.backoff_cap = datetime.timedelta(milliseconds=300)
        self.muc = c.summon(aioxmpp.MUCClient)
        dispatcher = c.summon(aioxmpp.dispatcher.SimpleMessageDispatcher)
        for kind in (aioxmpp.MessageType.CHAT, aioxmpp.MessageType.NORMAL, aioxmpp.MessageType.ERROR):
            dispatcher.register_callback(kind, None, self.on_message)
        c.on_stream_established.connect(self.on_established)
        c.on_stream_suspended.connect(self.on_suspended)
        c.on_stream_resumed.connect(self.on_resumed)
        c.on_failure.connect(self.on_failure)
        self.room = None

    # Each is called for as long as it does not return true.
    def on_established(self):
        say("ready", str(self.client.local_jid))

    def on_suspended(self, _reason):
        say("disconnected")

    def on_resumed(self):
        say("resumed")

    def on_failure(self, error):
        say("failed", repr(error))

    def on_message(self, message):
        body = body_of(message)
        if body:
            say("bounced" if message.type_ == aioxmpp.MessageType.ERROR else "message", body)

    def on_groupchat(self, message, member, _source, **_):
        body = body_of(message)
        if body:
            say("heard", message.from_.resource if member is None else member.nick, body)

    async def join(self, room, nick):
        self.room, entered = self.muc.join(aioxmpp.JID.fromstr(room), nick)
        self.room.on_message.connect(self.on_groupchat)
        await entered
        say("joined", self.room.me.nick)

    def send(self, body, kind, to=None):
        # While the stream is suspended the library keeps it in its queue.
        message = aioxmpp.Message(to=to, type_=kind)
        message.body[None] = body
        if to is None:
            self.room.send_message(message)
        else:
            self.client.enqueue(message)

    async def obey(self, line):
        command, *fields = line.split("\t")
        if command == "join":
            await self.join(*fields)
        elif command == "say":
            self.send(fields[0], aioxmpp.MessageType.GROUPCHAT)
        elif command == "tell":
            self.send(fields[1], aioxmpp.MessageType.CHAT, aioxmpp.JID.fromstr(fields[0]))

    async def run(self):
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        async with self.client.connected():
            while line := await reader.readline():
                await self.obey(line.decode().rstrip("\n"))


def main():
    parser = argparse.ArgumentParser()
    for name in ("jid", "password", "host"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    logging.basicConfig(level=logging.DEBUG if args.verbose else logging.ERROR, format="%(asctime)s %(name)s %(message)s")

    async def run():
        await Driver(args).run()
    asyncio.run(run())


if __name__ == "__main__":
    main()
