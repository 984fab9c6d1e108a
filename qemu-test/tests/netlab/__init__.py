# SPDX-License-Identifier: GPL-2.0
"""Network namespaces, packets and ctskip itself, for the tests.

Emulation makes starting a process cost 30-80 ms, half a second on a debug kernel, and a thousand Python
instructions nearly nothing. So this process does what it can itself: sockets, netlink, namespaces, files,
nft's rules. A program that users run (conntrack, iptables, dig) is started where a test is about it.

    def test_dns(ctskip, lab, family):
        client, server = lab.pair()                     # two namespaces, a veth between them
        watch = server.watch("udp dport 53")            # turns conntrack on, counts behind it
        server.udp_echo(53)
        ctskip.add(f"udp dst={server.addr(family)} dport=53")
        assert client.udp(server.addr(family), 53) == b"ping"
        assert watch.read("prerouting") == {"untracked": 1}
        assert server.entries() == []

In `lab` (a fixture; all of it goes after the test):
    lab.ns()                            one namespace
    lab.pair()                          client -- server
    lab.routed()                        client -- router -- server, the router forwards
    lab.bridged()                       client -- bridge -- server, the bridge's frames pass the IP hooks
    lab.host()                          client -- the initial namespace
    lab.link(a, b)                      one more veth between two; a Link
    lab.init                            the initial namespace, with all that other ones have

ctskip looks in every namespace. So a pair sees each packet twice: at LOCAL_OUT of the sender and at
PRE_ROUTING of the receiver; with a router, three times. A rule's counters are the sum;
ctskip.netns(ns) tells the namespaces apart.

A file for each subject; each uses only files that stand above it here:
    system.py       the guest: its files and speed, waiting, system calls
    family.py       IPv4 and IPv6                               V4 V6 family_of() subnet()
    packets.py      packets as bytes                            checksum() icmp_message() dns_question()
    kmsg.py         the kernel's log                            Kmsg
    ctskip.py       the module and its files                    Ctskip OpenFile fields() numbers()
    namespace.py    a namespace: addr() route() sysctl() inside() run() start() socket() listens()
    firewall.py     its packet filter: nft() iptables() silent()
    conntrack.py    its conntrack: track() watch() entries() count() flush()
    clients.py      clients in this process: udp() udp_send() tcp() sctp() ping()
    servers.py      servers in this process: udp_echo() tcp_echo() sctp_echo() udp_sink()
    programs.py     programs: dnsmasq() dig() nginx() curl()
    frames.py       whole packets and frames: send_ip() send_frame() capture()
    netns.py        Netns: a namespace with all of these
    lab.py          Lab and Link: the namespaces of a test
    questions.py    DNS questions all the time                  Questions
    recipes.py      the documents' recipes, and the host that they run on

One file of tests, with a module that is built already:
    qemu-test/run.py test --module build/7.3/ctskip.ko test_smoke.py -k raw

scapy: `from scapy.layers.inet import IP, UDP`, not scapy.all (2 s of emulation).
"""

from . import recipes
from .ctskip import SYSFS, Ctskip, OpenFile, fields, numbers
from .family import V4, V6, family_of, subnet
from .kmsg import Kmsg
from .lab import Lab
from .packets import checksum, dns_question, icmp_message
from .system import INIT, MODULE, OUT, SLOWER, kernel_command_line, wait_until

__all__ = [
    "INIT",
    "MODULE",
    "OUT",
    "SLOWER",
    "SYSFS",
    "V4",
    "V6",
    "Ctskip",
    "Kmsg",
    "Lab",
    "OpenFile",
    "checksum",
    "dns_question",
    "family_of",
    "fields",
    "icmp_message",
    "kernel_command_line",
    "numbers",
    "recipes",
    "subnet",
    "wait_until",
]
