# SPDX-License-Identifier: GPL-2.0
"""Servers in this process: echo over UDP, TCP and SCTP, and sockets that only take in."""

import contextlib
import selectors
import socket
import threading

from .family import V4, V6, family_of
from .namespace import Namespace


class Reactor(threading.Thread):
    """One thread that serves all servers of a lab."""

    def __init__(self):
        super().__init__(daemon=True)
        self.selector = selectors.DefaultSelector()
        self.wake, self.woken = socket.socketpair()
        self.selector.register(self.woken, selectors.EVENT_READ, None)

    def serve(self, s, handler):
        """Call handler(s) in the thread whenever the socket has something to read."""
        s.setblocking(False)
        self.selector.register(s, selectors.EVENT_READ, handler)
        if not self.is_alive():
            self.start()

    def echo(self, s):
        """Send back what comes at a socket, by its kind."""
        self.serve(s, self.accept if s.type == socket.SOCK_STREAM else self.datagram)

    def run(self):
        """Serve until close()."""
        while True:
            for key, _ in self.selector.select():
                if key.data is None:
                    return
                with contextlib.suppress(OSError):
                    key.data(key.fileobj)

    def datagram(self, s):
        """Send a datagram back."""
        s.sendto(*s.recvfrom(65535))

    def accept(self, s):
        """Take a new connection."""
        connection, _ = s.accept()
        self.selector.register(connection, selectors.EVENT_READ, self.stream)

    def stream(self, s):
        """Send back a piece of a stream; close it at its end."""
        try:
            data = s.recv(65536)
            if data:
                s.setblocking(True)
                s.sendall(data)
                s.setblocking(False)
                return
        except ConnectionError:
            pass
        self.selector.unregister(s)
        s.close()

    def close(self):
        """End the thread, close the connections; the other sockets belong to namespaces."""
        self.wake.send(b".")
        if self.is_alive():
            self.join()
        for key in list(self.selector.get_map().values()):
            if key.data == self.stream:
                key.fileobj.close()
        self.selector.close()
        self.wake.close()
        self.woken.close()


class Servers(Namespace):
    """The servers of a namespace; they are of both families unless an address or family is given."""

    def udp_echo(self, port, address=None, family=None):
        """Start a server that sends each datagram back."""
        self._echo(port, socket.SOCK_DGRAM, 0, address, family)

    def tcp_echo(self, port, address=None, family=None):
        """Start a server that sends back the bytes of a connection."""
        self._echo(port, socket.SOCK_STREAM, 0, address, family)

    def sctp_echo(self, port, address=None, family=None):
        """Start a server that sends back the messages of an SCTP association."""
        self._echo(port, socket.SOCK_STREAM, socket.IPPROTO_SCTP, address, family)

    def udp_sink(self, *ports, family=None):
        """Take datagrams at the ports and answer nothing; return the sockets."""
        return [s for port in ports for s in self._bound(port, socket.SOCK_DGRAM, 0, None, family)]

    def _bound(self, port, kind, protocol, address, family):
        """Return a socket of each family at the port."""
        families = [family_of(address)] if address else [family] if family else [V4, V6]
        made = []
        for one in families:
            s = self.socket(one.af, kind, protocol)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if one.version == 6:
                s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            s.bind((address or "", port))
            made.append(s)
        return made

    def _echo(self, port, kind, protocol, address, family):
        for s in self._bound(port, kind, protocol, address, family):
            if kind == socket.SOCK_STREAM:
                s.listen(128)
            self.lab.reactor.echo(s)
