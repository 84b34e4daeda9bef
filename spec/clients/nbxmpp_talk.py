#!/usr/bin/python3
"""Drive nbxmpp, Gajim's library, by lines on standard input; see README.md (talk_spec.lua)."""

import argparse
import logging
import os
import sys

import gi

gi.require_version("Soup", "3.0")

from gi.repository import GLib  # noqa: E402
from nbxmpp.client import Client  # noqa: E402
from nbxmpp.const import ConnectionProtocol, ConnectionType, StreamState  # noqa: E402
from nbxmpp.namespaces import Namespace  # noqa: E402
from nbxmpp.protocol import Message, Presence  # noqa: E402
from nbxmpp.structs import StanzaHandler  # noqa: E402


def say(*fields):
    print("\t".join(fields), flush=True)


class Driver:
    def __init__(self, args):
        self.loop = GLib.MainLoop()
        self.live = False
        self.ending = False
        self.room = None
        self.waiting = []  # orders that came while there was no connection
        self.rest = b""
        user, rest = args.jid.split("@")
        host, resource = rest.split("/")
        self.client = c = Client(log_context="enjamb")
        c.set_domain(host)
        c.set_username(user)
        c.set_resource(resource)
        c.set_password(args.password)
        c.set_custom_host("%s:%d" % (args.host, args.port), ConnectionProtocol.TCP, ConnectionType.START_TLS)
        c.set_ignore_tls_errors(True)  # the certificate is self-signed
        for signal, handler in (("connected", self.on_connected), ("resume-successful", self.on_resumed),
                                ("resume-failed", lambda *_: say("failed", "resume")),
                                ("disconnected", self.on_disconnected), ("connection-failed", self.on_disconnected)):
            c.subscribe(signal, handler)
        c.register_handler(StanzaHandler(name="message", callback=self.on_message))
        c.register_handler(StanzaHandler(name="presence", callback=self.on_presence))

    def on_connected(self, *_):
        self.client.send_stanza(Presence())
        say("ready", str(self.client.get_bound_jid()))
        self.come_alive()

    def on_resumed(self, *_):
        # The library sends again, after this signal, what was not acknowledged: what waited comes after that.
        GLib.idle_add(self.after_resumption)

    def after_resumption(self):
        say("resumed")
        self.come_alive()

    def come_alive(self):
        self.live = True
        waiting, self.waiting = self.waiting, []
        for line in waiting:
            self.obey(line)

    def on_disconnected(self, *_):
        if self.live:
            say("disconnected")
        self.live = False
        if self.ending:
            self.loop.quit()
        else:  # reconnecting is the application's
            GLib.timeout_add(200, self.reconnect)

    def reconnect(self):
        if self.client.state == StreamState.DISCONNECTED and not self.ending:
            self.client.connect()
        return False

    def on_message(self, _client, stanza, _properties):
        body, sender = stanza.getBody(), stanza.getFrom()
        if not body:
            return
        if stanza.getType() == "error":
            say("bounced", body)
        elif stanza.getType() == "groupchat":
            say("heard", sender.resource, body)
        else:
            say("message", body)

    def on_presence(self, _client, stanza, _properties):
        muc = stanza.getTag("x", namespace=Namespace.MUC_USER)
        if stanza.getType() is None and muc and any(s.getAttr("code") == "110" for s in muc.getTags("status")):
            say("joined", stanza.getFrom().resource)

    def obey(self, line):
        if not self.live:
            self.waiting.append(line)
            return
        command, *fields = line.split("\t")
        if command == "join":
            self.room, nick = fields
            presence = Presence(to="%s/%s" % (self.room, nick))
            presence.setTag(Namespace.MUC + " x")
            self.client.send_stanza(presence)
        elif command == "say":
            self.client.send_stanza(Message(to=self.room, body=fields[0], typ="groupchat"))
        elif command == "tell":
            self.client.send_stanza(Message(to=fields[0], body=fields[1], typ="chat"))

    def on_input(self, fd, _condition):
        data = os.read(fd, 65536)
        if not data:
            self.ending = True
            if self.client.state == StreamState.ACTIVE:
                self.client.disconnect()
            GLib.timeout_add(1000, self.loop.quit)
            return False
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self.obey(line.decode())
        return True

    def run(self):
        GLib.io_add_watch(sys.stdin.fileno(), GLib.IO_IN | GLib.IO_HUP, self.on_input)
        self.client.connect()
        self.loop.run()


def main():
    parser = argparse.ArgumentParser()
    for name in ("jid", "password", "host"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    logging.basicConfig(level=logging.DEBUG if args.verbose else logging.ERROR, format="%(asctime)s %(name)s %(message)s")
    Driver(args).run()


if __name__ == "__main__":
    main()
