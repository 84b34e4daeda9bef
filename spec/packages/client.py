"""A small XMPP client that does stream management and nothing by itself, on the standard library alone.

What it may not do: reconnect, acknowledge or ask unless it is told to. Elements that come in are in `inbox` until taken.
"""
import base64
import itertools
import socket
import struct
import time
from xml.etree import ElementTree

CLIENT, SM, STREAM = "jabber:client", "urn:xmpp:sm:3", "http://etherx.jabber.org/streams"
SASL, BIND = "urn:ietf:params:xml:ns:xmpp-sasl", "urn:ietf:params:xml:ns:xmpp-bind"
MUC, MUC_USER = "http://jabber.org/protocol/muc", "http://jabber.org/protocol/muc#user"
PATIENCE = 20  # seconds until something that has to come is given up

ids = itertools.count(1)


def named(name, namespace=CLIENT, **attributes):
    """Whether an element has that name, and these attributes (`sender` for `from`)."""
    wanted = {"from" if key == "sender" else key: value for key, value in attributes.items()}
    return lambda e: e.tag == f"{{{namespace}}}{name}" and all(e.get(key) == value for key, value in wanted.items())


def body_of(element):
    return element.findtext(f"{{{CLIENT}}}body")


class Gone(Exception):
    """What was waited for did not come; the text says what, and what there was instead."""


class Client:
    def __init__(self, port, user, host="localhost", password="secret"):
        self.port, self.user, self.host, self.password = port, user, host, password
        self.inbox, self.received, self.token, self.jid = [], 0, None, None
        self.counts = False

    def send(self, text):
        self.socket.sendall(text.encode())

    def open(self):
        self.parser, self.depth = ElementTree.XMLPullParser(("start", "end")), 0
        self.send(f"<?xml version='1.0'?><stream:stream to='{self.host}' version='1.0' xmlns='{CLIENT}' xmlns:stream='{STREAM}'>")
        return self.take(named("features", STREAM), "stream features")

    def connect(self):
        self.socket = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        self.open()
        secret = base64.b64encode(f"\0{self.user}\0{self.password}".encode()).decode()
        self.send(f"<auth xmlns='{SASL}' mechanism='PLAIN'>{secret}</auth>")
        self.take(named("success", SASL), f"{self.user} to be let in")
        return self.open()

    def read(self, seconds):
        self.socket.settimeout(max(seconds, 0.01))
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            return
        if not data:
            raise Gone("the connection")
        self.parser.feed(data)
        for event, element in self.parser.read_events():
            self.depth += 1 if event == "start" else -1
            if event == "end" and self.depth == 1:
                self.inbox.append(element)
                if self.counts and element.tag in (f"{{{CLIENT}}}{name}" for name in ("message", "presence", "iq")):
                    self.received += 1

    def take(self, wanted, what, seconds=PATIENCE):
        end = time.monotonic() + seconds
        while True:
            for i, element in enumerate(self.inbox):
                if wanted(element):
                    return self.inbox.pop(i)
            left = end - time.monotonic()
            if left <= 0:
                there = b" ".join(map(ElementTree.tostring, self.inbox)).decode()
                raise Gone(f"{self.user} waited for {what}; there was: {there[:2000] or 'nothing'}")
            self.read(left)

    def log_in(self, resource):
        self.connect()
        self.send(f"<iq type='set' id='bind'><bind xmlns='{BIND}'><resource>{resource}</resource></bind></iq>")
        self.jid = self.take(named("iq", id="bind"), "a resource").findtext(f".//{{{BIND}}}jid")
        self.send(f"<enable xmlns='{SM}' resume='true'/>")
        self.token = self.take(named("enabled", SM), "<enabled/>").get("id")
        self.received, self.counts = 0, True
        self.send("<presence/>")
        self.take(named("presence", sender=self.jid), "its own presence")
        return self

    def resume(self):
        self.counts = False
        self.connect()
        self.send(f"<resume xmlns='{SM}' previd='{self.token}' h='{self.received}'/>")
        answer = self.take(lambda e: e.tag in (f"{{{SM}}}resumed", f"{{{SM}}}failed"), "<resumed/>")
        if answer.tag != f"{{{SM}}}resumed":
            raise Gone(f"the session of {self.user}: {ElementTree.tostring(answer).decode()}")
        # What came in the same read is after <resumed/>, and counts.
        self.received += sum(e.tag.startswith(f"{{{CLIENT}}}") for e in self.inbox)
        self.counts = True

    def acknowledged(self):
        """Asks what the server has of what was sent."""
        self.send(f"<r xmlns='{SM}'/>")
        return int(self.take(named("a", SM), "an ack").get("h"))

    def drop(self):
        """The connection breaks, unannounced."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
        self.counts, self.inbox = False, []

    def log_out(self):
        self.send(f"<a xmlns='{SM}' h='{self.received}'/></stream:stream>")
        self.socket.settimeout(PATIENCE)
        while self.socket.recv(65536):
            pass
        self.socket.close()

    def ping(self):
        """Returns when all that was sent before has been dealt with, and what that led to has come."""
        id = f"ping{next(ids)}"
        self.send(f"<iq type='get' id='{id}' to='{self.host}'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")
        self.take(named("iq", id=id), "an answer from its server")

    def say(self, to, body, kind="chat"):
        self.send(f"<message to='{to}' type='{kind}' id='m{next(ids)}'><body>{body}</body></message>")

    def hear(self, *bodies):
        """These messages have to come, in this order, once, and no others."""
        for body in bodies:
            self.take(lambda e, body=body: body_of(e) == body, f"the message '{body}'")
        self.ping()
        more = [text for text in map(body_of, self.inbox) if text]
        if more:
            raise Gone(f"an end to messages: {self.user} got also {more}")

    def join(self, room, nickname):
        self.send(f"<presence to='{room}/{nickname}'><x xmlns='{MUC}'><history maxstanzas='0'/></x></presence>")
        self.take(lambda e: e.get("from") == f"{room}/{nickname}" and e.find(f".//{{{MUC_USER}}}status[@code='110']") is not None,
                  f"{room} to let it in")
        self.take(lambda e: e.find(f"{{{CLIENT}}}subject") is not None, "the subject")
