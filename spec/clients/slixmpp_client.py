#!/usr/bin/env python3
"""Drive slixmpp through a connection that breaks; see README.md."""

import argparse
import asyncio
import logging
import ssl
import sys

import slixmpp


def say(*words):
    print(*words, flush=True)


class Client(slixmpp.ClientXMPP):
    def __init__(self, args):
        super().__init__(args.jid, args.password)
        self.args = args
        self.received = 0
        self.sent = 0
        self.live = asyncio.Event()
        self.finished = False
        self.unacked = {}  # by id, the messages the server has not acknowledged

        # Self-signed certificate; STARTTLS only.
        self.ssl_context.check_hostname = False
        self.ssl_context.verify_mode = ssl.CERT_NONE
        self.enable_direct_tls = False

        self.register_plugin("xep_0198")
        self.add_event_handler("session_start", self.on_session_start)
        self.add_event_handler("sm_enabled", self.on_sm_enabled)
        self.add_event_handler("sm_failed", lambda _: say("failed"))
        self.add_event_handler("session_resumed", self.on_resumed)
        self.add_event_handler("disconnected", self.on_disconnected)
        self.add_event_handler("connection_failed", self.on_disconnected)
        self.add_event_handler("message", self.on_message)
        self.add_event_handler("stanza_acked", self.on_acked)

    def start(self):
        self.connect(self.args.host, self.args.port)

    def on_session_start(self, _):
        self.send_presence()

    def on_sm_enabled(self, _):
        say("ready", self.boundjid.full)
        self.live.set()

    def on_resumed(self, _):
        say("resumed")
        # A stanza that was between slixmpp's send queue and its SM queue when
        # the connection went is in neither any more (1.17.0: run_filters()
        # finds SM switched off and no transport, and drops it). It was never
        # on the wire, so send it now; what SM holds it re-sends by itself.
        held = {stanza["id"] for _, stanza in self["xep_0198"].unacked_queue}
        for key, stanza in self.unacked.items():
            if key not in held:
                say("retry", stanza["body"])
                self.send(stanza)
        self.live.set()

    def on_disconnected(self, _):
        # slixmpp leaves the reconnecting to its user.
        if self.live.is_set():
            self.live.clear()
            say("disconnected")
        if not self.is_connecting():
            self.loop.call_later(0.2, self.reconnect_if_down)

    def reconnect_if_down(self):
        if not self.finished and not self.is_connected() and not self.is_connecting():
            self.start()

    def on_message(self, message):
        if message["type"] == "error":
            say("bounced", message["body"])
            return
        say("message", message["body"])
        self.received += 1
        self.check_done()

    def on_acked(self, stanza):
        self.unacked.pop(stanza["id"], None)

    def check_done(self):
        if self.received == self.args.receive and self.sent == self.args.send:
            say("done")

    async def send_numbered(self):
        for number in range(1, self.args.send + 1):
            await asyncio.sleep(self.args.interval / 1000)
            # Not while the connection is down: what is sent then overtakes
            # the stanzas that slixmpp re-sends on resumption (1.17.0:
            # send() queues both, those of the application came first).
            await self.live.wait()
            message = self.make_message(
                mto=self.args.to, mbody="%s%d" % (self.args.prefix, number), mtype="chat")
            message["id"] = "%s%d" % (self.args.prefix, number)
            self.unacked[message["id"]] = message
            message.send()
            self.sent = number
        self.check_done()

    async def run(self):
        self.start()
        sender = asyncio.ensure_future(self.send_numbered())
        reader = asyncio.StreamReader()
        await self.loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        await reader.read()  # until standard input is closed
        self.finished = True
        sender.cancel()
        await self.disconnect(wait=1.0)


def main():
    parser = argparse.ArgumentParser()
    for name in ("jid", "password", "host", "to", "prefix"):
        parser.add_argument("--" + name, required=True)
    for name in ("port", "receive", "send", "interval"):
        parser.add_argument("--" + name, type=int, required=True)
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    logging.basicConfig(level=logging.DEBUG if args.verbose else logging.ERROR,
                        format="%(asctime)s %(name)s %(message)s")

    async def run():
        await Client(args).run()
    asyncio.run(run())


if __name__ == "__main__":
    main()
