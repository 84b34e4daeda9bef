#!/usr/bin/env python3
"""A TCP proxy on loopback that breaks connections on command.

usage: cut.py LISTEN_PORT TARGET_PORT        (LISTEN_PORT 0: any free port)

It prints "listening PORT", then forwards every connection to TARGET_PORT and
obeys commands, one a line, on standard input. Each gets one answer on
standard output:

  cut               abort every connection now, with RST on both sides
                      -> "ok cut CONNECTIONS"
  cut-after N [up]  abort every connection once exactly N more bytes have been
                    handed to the client ("up": to the server); byte N+1 is
                    never delivered
                      -> "ok cut-after N", and "fired cut-after N CONNECTIONS"
                         when it has happened
  down              as cut, and until "up" abort new connections at once
                      -> "ok down CONNECTIONS"
  up                accept connections again
                      -> "ok up"
  count             -> "ok count CONNECTIONS"
  quit              -> "ok quit"; so does the end of standard input

An unknown command is answered with "error ...". The standard library is all
it needs.
"""

import asyncio
import socket
import struct
import sys

ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: on, no time: close() sends RST


def say(*words):
    print(*words, flush=True)


def reset(writer):
    """Close a connection with RST, whatever it still had to send."""
    sock = writer.get_extra_info("socket")
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
    except OSError:
        pass  # already gone
    writer.transport.abort()


class Proxy:
    def __init__(self, target):
        self.target = target
        self.connections = set()  # (client writer, server writer)
        self.refusing = False
        self.budget = {"down": None, "up": None}  # bytes left before a cut

    def cut(self):
        connections, self.connections = self.connections, set()
        for pair in connections:
            for writer in pair:
                reset(writer)
        self.budget = {"down": None, "up": None}
        return len(connections)

    async def pump(self, pair, reader, writer, direction):
        """Copy one direction of a connection until it ends or is cut."""
        while True:
            data = await reader.read(4096)
            if pair not in self.connections:
                return
            left = self.budget[direction]
            if left is not None and len(data) > left:
                # The last bytes must get through before the RST: a RST makes
                # the kernel discard what has not been sent yet, and at the
                # other end what has not been read yet.
                writer.write(data[:left])
                await writer.drain()
                await asyncio.sleep(0.05)
                asked = self.fire
                say("fired cut-after", asked, self.cut())
                return
            if not data:
                if writer.can_write_eof():
                    writer.write_eof()
                return
            if left is not None:
                self.budget[direction] = left - len(data)
            writer.write(data)
            await writer.drain()

    async def accept(self, client_reader, client_writer):
        if self.refusing:
            return reset(client_writer)
        try:
            server_reader, server_writer = await asyncio.open_connection(
                "127.0.0.1", self.target)
        except OSError:
            return reset(client_writer)
        pair = (client_writer, server_writer)
        if self.refusing:  # since the line above began
            for writer in pair:
                reset(writer)
            return
        self.connections.add(pair)
        for writer in pair:
            writer.get_extra_info("socket").setsockopt(
                socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        results = await asyncio.gather(
            self.pump(pair, server_reader, client_writer, "down"),
            self.pump(pair, client_reader, server_writer, "up"),
            return_exceptions=True)
        self.connections.discard(pair)
        broken = any(isinstance(result, Exception) for result in results)
        for writer in pair:
            reset(writer) if broken else writer.close()

    def obey(self, line):
        words = line.split()
        if words == ["cut"]:
            say("ok cut", self.cut())
        elif words[:1] == ["cut-after"] and words[1:2] and words[1].isdigit() \
                and words[2:] in ([], ["bytes"], ["up"]):
            self.fire = words[1]
            self.budget["up" if words[2:] == ["up"] else "down"] = int(words[1])
            say("ok cut-after", words[1])
        elif words == ["down"]:
            self.refusing = True
            say("ok down", self.cut())
        elif words == ["up"]:
            self.refusing = False
            say("ok up")
        elif words == ["count"]:
            say("ok count", len(self.connections))
        elif words == ["quit"]:
            say("ok quit")
            return False
        elif words:
            say("error unknown command:", line.strip())
        return True


async def main():
    if len(sys.argv) != 3:
        sys.exit("usage: cut.py LISTEN_PORT TARGET_PORT")
    proxy = Proxy(int(sys.argv[2]))
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", int(sys.argv[1]))
    loop = asyncio.get_running_loop()
    stdin = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    say("listening", server.sockets[0].getsockname()[1])
    while True:
        line = await stdin.readline()
        if not line or not proxy.obey(line.decode()):
            break
    server.close()
    proxy.cut()


if __name__ == "__main__":
    asyncio.run(main())
