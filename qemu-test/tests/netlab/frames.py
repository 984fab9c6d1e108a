# SPDX-License-Identifier: GPL-2.0
"""Whole packets and frames: sent past the protocols, and captured."""

import select
import socket
import time

from .family import V4, V6
from .namespace import Namespace
from .system import SLOWER

_IPV6_HDRINCL = 36


class Capture:
    """Packets that came in on a device: AF_PACKET, so before any hook."""

    def __init__(self, ns, device):
        self.socket = ns.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        if device:
            self.socket.bind((device, 3))

    def packets(self, timeout=0.2 * SLOWER):
        """Yield each frame (bytes, with its Ethernet header) until none comes for `timeout` seconds."""
        while select.select([self.socket], [], [], timeout)[0]:
            data, (_, _, kind, _, _) = self.socket.recvfrom(65535)
            if kind != socket.PACKET_OUTGOING:
                yield data

    def wait(self, condition, timeout=2.0 * SLOWER):
        """Return the first frame for which condition(bytes) is true, or None after the timeout."""
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            for data in self.packets(left):
                if condition(data):
                    return data
                if time.monotonic() > end:
                    return None
        return None


class Frames(Namespace):
    """Whole packets and frames of a namespace."""

    def send_ip(self, packet, mark=None):
        """Send a whole IP packet (bytes or scapy) as this host's own: through LOCAL_OUT and routing."""
        data = bytes(packet)
        v4 = data[0] >> 4 == 4
        with self.socket(V4.af if v4 else V6.af, socket.SOCK_RAW, socket.IPPROTO_RAW) as s:
            if mark is not None:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            if v4:
                s.sendto(data, (socket.inet_ntop(socket.AF_INET, data[16:20]), 0))
            else:
                s.setsockopt(socket.IPPROTO_IPV6, _IPV6_HDRINCL, 1)
                s.sendto(data, (socket.inet_ntop(socket.AF_INET6, data[24:40]), 0))

    def send_frame(self, device, frame):
        """Send a whole Ethernet frame out of a device, past every hook of this namespace."""
        with self.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as s:
            s.bind((device, 0))
            s.send(bytes(frame))

    def capture(self, device=None):
        """Record what comes in on a device from now on: a Capture."""
        return Capture(self, device)
