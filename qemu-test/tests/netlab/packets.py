# SPDX-License-Identifier: GPL-2.0
"""Packets as bytes, made without a namespace."""

import socket
import struct


def checksum(data):
    """Return the Internet checksum of bytes (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def icmp_message(source, destination, kind, code=0, rest=0, body=b""):
    """Return an IP packet (scapy's) with an ICMP or ICMPv6 message.

    `rest` is the second word; the body of an error is the packet that it quotes.
    """
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6

    message = struct.pack("!BBHI", kind, code, 0, rest) + bytes(body)
    if ":" not in source:
        message = message[:2] + struct.pack("!H", checksum(message)) + message[4:]
        return IP(src=source, dst=destination, proto=socket.IPPROTO_ICMP) / message
    ends = b"".join(socket.inet_pton(socket.AF_INET6, end) for end in (source, destination))
    pseudo = ends + struct.pack("!II", len(message), socket.IPPROTO_ICMPV6)
    message = message[:2] + struct.pack("!H", checksum(pseudo + message)) + message[4:]
    return IPv6(src=source, dst=destination, nh=socket.IPPROTO_ICMPV6) / message


def dns_question(name="www.test", ident=1):
    """Return a DNS question for an A record, for ns.udp(server, 53, ...)."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return struct.pack("!6H", ident, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", 1, 1)
