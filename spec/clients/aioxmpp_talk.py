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
import aioopenssl
from aioxmpp.stream import StanzaState


def say(*fields):
    print("\t".join(fields), flush=True)


def body_of(message):
    return message.body.any() if message.body else None


def ignore_writes_once_closed(transport):
    """asyncio's own transports take no notice of what is written to a connection that has just gone. aioopenssl 0.6 raises a
    RuntimeError, which aioxmpp 0.13.3 takes for the client's end: seen on a busy machine."""
    write = transport.write

    def write_unless_closed(self, data):
        if not self.is_closing():
            write(self, data)
    transport.write = write_unless_closed


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
        self.refused = []  # tokens of what the library told that it could not send
        self.later = None

    # Each is called for as long as it does not return true.
    def on_established(self):
        say("ready", str(self.client.local_jid))

    def on_suspended(self, _reason):
        if self.later:
            self.later.cancel()
        say("disconnected")

    def on_resumed(self):
        say("resumed")
        self.later = asyncio.get_running_loop().call_later(1, self.send_refused)

    def send_refused(self):
        refused, self.refused = self.refused, []
        for token in refused:
            if token.state == StanzaState.FAILED:
                self.enqueue(token.stanza)

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
            message.to = self.room.jid
        self.enqueue(message)

    def enqueue(self, message):
        # In the moment in which the connection goes the library says that it failed, and leaves the rest to the application; but
        # the first of what failed it sends again by itself a moment after it has resumed.
        def changed(token, state):
            if state == StanzaState.FAILED:
                self.refused.append(token)
        self.client.enqueue(message, on_state_change=changed)

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

    ignore_writes_once_closed(aioopenssl.STARTTLSTransport)

    async def run():
        await Driver(args).run()
    asyncio.run(run())


if __name__ == "__main__":
    main()
