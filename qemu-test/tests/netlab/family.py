# SPDX-License-Identifier: GPL-2.0
"""IPv4 and IPv6, and addresses as text."""

import ipaddress
import socket


class Family:
    """IPv4 or IPv6: its numbers, and its name in each language."""

    def __init__(self, version):
        v4 = version == 4
        self.version = version
        self.af = socket.AF_INET if v4 else socket.AF_INET6
        self.ip = "ip" if v4 else "ip6"  # ctskip and nft
        self.icmp = "icmp" if v4 else "icmp6"  # ctskip
        self.nft_icmp = "icmp" if v4 else "icmpv6"  # nft
        self.conntrack = "ipv4" if v4 else "ipv6"  # conntrack -f, nf_conntrack
        self.iptables = "iptables" if v4 else "ip6tables"
        self.bits = 32 if v4 else 128
        self.ethertype = 0x0800 if v4 else 0x86DD
        self.echo_request, self.echo_reply = (8, 0) if v4 else (128, 129)

    def pick(self, v4, v6):
        """Return the first for IPv4, the second for IPv6."""
        return v4 if self.version == 4 else v6

    def __repr__(self):
        return f"ipv{self.version}"


V4, V6 = Family(4), Family(6)


def family_of(address):
    """Return the family of an address."""
    return V6 if ":" in address else V4


def subnet(address, prefix):
    """Return the network of an address: subnet("10.0.1.2", 24) == "10.0.1.0/24"."""
    return str(ipaddress.ip_network(f"{address}/{prefix}", strict=False))
