# SPDX-License-Identifier: GPL-2.0
"""Clients in this process: UDP, TCP, SCTP, echo requests."""

import errno
import socket
import struct
import time

from .family import family_of
from .namespace import Namespace
from .packets import checksum
from .system import SLOWER


class Clients(Namespace):
    """The clients of a namespace. `mark` is the socket's mark, `source` its address."""

    def _client(self, address, kind, protocol, source, sport, mark):
        made = self.socket(family_of(address).af, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if mark is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        if source or sport:
            made.bind((source or "", sport))
        return made

    def udp(
        self,
        address,
        port,
        data=b"ping",
        sport=0,
        timeout=2.0 * SLOWER,
        count=1,
        source=None,
        mark=None,
    ):
        """Send datagrams from one socket, each after the answer to the last one.

        Return the last answer, or None where it did not come.
        """
        with self._client(address, socket.SOCK_DGRAM, 0, source, sport, mark) as s:
            s.connect((address, port))
            answer = None
            for _ in range(count):
                try:
                    s.send(data)
                    if timeout:
                        s.settimeout(timeout)
                        answer = s.recv(65535)
                except (TimeoutError, ConnectionRefusedError):
                    answer = None
            return answer

    def udp_send(self, address, port, data=b"ping", sport=0, count=1, source=None, mark=None):
        """Send datagrams from one socket, without waiting for answers."""
        with self._client(address, socket.SOCK_DGRAM, 0, source, sport, mark) as s:
            for _ in range(count):
                s.sendto(data, (address, port))

    def tcp(
        self,
        address,
        port,
        data=b"ping",
        sport=0,
        timeout=5.0 * SLOWER,
        source=None,
        mark=None,
        protocol=0,
    ):
        """Connect, send, end, read to the end; return the bytes read, None without a connection."""
        with self._client(address, socket.SOCK_STREAM, protocol, source, sport, mark) as s:
            s.settimeout(timeout)
            try:
                s.connect((address, port))
                s.sendall(data)
                if protocol != socket.IPPROTO_SCTP:
                    s.shutdown(socket.SHUT_WR)
                    return b"".join(iter(lambda: s.recv(65536), b""))
                return s.recv(65536)
            except OSError as error:
                if isinstance(error, (TimeoutError, ConnectionError)) or error.errno in (
                    errno.EHOSTUNREACH,
                    errno.ENETUNREACH,
                    errno.ENOTCONN,  # of shutdown(), where the peer has reset it
                ):
                    return None
                raise

    def sctp(self, address, port, **kwargs):
        """Send one message over SCTP; return its answer, None without a connection."""
        return self.tcp(address, port, protocol=socket.IPPROTO_SCTP, **kwargs)

    def ping(self, address, count=1, timeout=2.0 * SLOWER, ident=0x1234, mark=None, data=b"ctskip"):
        """Send echo requests from a raw socket; return how many were answered."""
        family = family_of(address)
        answered = 0
        protocol = family.pick(socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6)
        with self.socket(family.af, socket.SOCK_RAW, protocol) as s:
            if mark is not None:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            for sequence in range(count):
                body = struct.pack("!BBHHH", family.echo_request, 0, 0, ident, sequence) + data
                if family.version == 4:
                    body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
                s.sendto(body, (address, 0))
                end = time.monotonic() + timeout
                while (left := end - time.monotonic()) > 0:
                    s.settimeout(left)
                    try:
                        got = s.recv(65535)
                    except TimeoutError:
                        break
                    if family.version == 4:
                        got = got[(got[0] & 15) * 4 :]
                    # It may be empty: an IP header alone came.
                    if got[:1] == bytes([family.echo_reply]) and got[4:8] == body[4:8]:
                        answered += 1
                        break
        return answered
