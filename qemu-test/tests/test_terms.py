# SPDX-License-Identifier: GPL-2.0
"""Every term of a rule: what it matches, and what it leaves alone, at both hooks.

A Bench is a namespace S with a neighbour C. Packets are put on the wire ahead of S ("in", so they
meet PRE_ROUTING) or sent by S itself ("out", LOCAL_OUT), one kind at a time, and the entries of S
tell which of them were tracked:

    bench.check("udp dport=53 local=dst",
                skipped=["in C.* > S.53", "out S.53 > C.*"],
                tracked=["in C.53 > S.*", "out S.* > C.53"])

`*` is a port that no other probe uses. A probe that S never got must not pass for a skipped one: the
first time a bench meets a probe, it is sent without rules too, and has to make an entry.
"""

import errno
import functools
import itertools
import os
import re
import socket
import struct

import pytest
from netlab import SLOWER, V4, V6
from pyroute2 import NFCTSocket
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6Unknown, IPv6
from scapy.layers.sctp import SCTP, SCTPChunkInit
from scapy.packet import Raw

# What the kernel says by itself would be counted too: dropped ahead of ctskip.
QUIET = """table inet quiet { chain output { type filter hook output priority -400;
    tcp flags rst drop
    sctp chunk abort exists drop
    icmp type destination-unreachable drop
    icmpv6 type { destination-unreachable, parameter-problem, mld-listener-report, mld2-listener-report,
                  mld-listener-done, nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } drop
}; }
"""
TRACK = "table inet track { chain input { type filter hook input priority 300; ct state new; }; }\n"
PROBE = re.compile(
    r"(?P<hook>in|out) (?:(?P<protocol>\w+) )?(?P<src>[A-Z]\w*)(?:\.(?P<sport>\d+|\*))? > "
    r"(?P<dst>[A-Z]\w*)(?:\.(?P<dport>\d+|\*))?(?: mark=(?P<mark>\d+))?(?: dev=(?P<dev>\w+))?"
)
PROTOCOLS = {"udp": 17, "tcp": 6, "sctp": 132}
ETHERTYPE = 0x88B5  # for local experiments: met by no hook


class Probe:
    """One packet, and the entry it makes if it is tracked."""

    free_ports = itertools.count(20000)

    def __init__(self, text, names, family):
        found = PROBE.fullmatch(text)
        assert found, text
        given = found.groupdict()
        self.text, self.hook, self.device = text, given["hook"], given["dev"]
        self.protocol = given["protocol"] or "udp"
        self.number = PROTOCOLS.get(self.protocol) or int(self.protocol)
        self.src, self.dst = names[given["src"]], names[given["dst"]]
        self.sport, self.dport = (
            next(self.free_ports) if port == "*" else int(port) if port else None
            for port in (given["sport"], given["dport"])
        )
        self.mark = int(given["mark"]) if given["mark"] else None
        self.family = family

    @property
    def entry(self):
        ports = [] if self.sport is None else [str(self.sport), str(self.dport)]
        return (self.number, self.src, self.dst, *ports)

    @property
    def packet(self):
        ports = {"sport": self.sport, "dport": self.dport}
        body = {
            "udp": lambda: UDP(**ports) / b"probe",
            "tcp": lambda: TCP(flags="S", **ports),
            "sctp": lambda: SCTP(tag=0, **ports) / SCTPChunkInit(init_tag=1, a_rwnd=65536),
        }.get(self.protocol, lambda: Raw(b"\0\0\x08\0probe"))()
        if self.family is V4:
            return bytes(IP(src=self.src, dst=self.dst, proto=self.number) / body)
        return bytes(IPv6(src=self.src, dst=self.dst, nh=self.number) / body)


class Bench:
    """S, which is looked at, and C, its neighbour and default router."""

    def __init__(self, ctskip, lab, family):
        self.ctskip, self.family = ctskip, family
        self.client, self.server = lab.pair()
        (self.link,) = self.server.links
        self.links = {self.link.b_dev: self.link}
        self.server.nft(QUIET + TRACK)
        self.client.nft(QUIET)
        for ns in (self.client, self.server):  # nothing is answered but by probes
            ns.sysctl("net.ipv4.icmp_echo_ignore_all", 1)
            ns.sysctl("net.ipv6.icmp.echo_ignore_all", 1)
        self.server.route("default", self.client.addr(family))
        self.names = {"C": self.client.addr(family), "S": self.server.addr(family)}
        self.wires = {}
        self.proven = set()
        self.arrived = self.server.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.arrived.bind((self.link.b_dev, ETHERTYPE))
        self.arrived.settimeout(5 * SLOWER)
        with self.server.inside():
            self.conntrack = NFCTSocket()

    def close(self):
        """Nothing of it is left."""
        self.conntrack.close()

    def name(self, **addresses):
        """Give more addresses a name for probes."""
        self.names.update(addresses)

    def send(self, *probes):
        """Send probes (text), and return when S has dealt with all of them; the Probes."""
        made = [Probe(text, self.names, self.family) for text in probes]
        for probe in made:
            if probe.hook == "out":
                self.server.send_ip(probe.packet, mark=probe.mark)
            else:
                self.to_wire(probe.packet, self.links[probe.device or self.link.b_dev])
        self.settle()
        return made

    def send_packet(self, hook, packet):
        """The same with one packet as it is."""
        if hook == "out":
            self.server.send_ip(packet)
        else:
            self.to_wire(packet, self.link)
        self.settle()

    def to_wire(self, packet, link, ethertype=None):
        """As link.send(), by a socket that stays: to close one takes a grace period."""
        if link not in self.wires:
            self.wires[link] = self.client.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self.wires[link].bind((link.a_dev, 0))
        header = bytes.fromhex((link.b_mac + link.a_mac).replace(":", ""))
        header += struct.pack("!H", ethertype or self.family.ethertype)
        self.wires[link].send(header + packet)

    def settle(self):
        """All that was sent so far has passed S: a frame sent behind it, on the same CPU, is there."""
        self.to_wire(bytes(46), self.link, ETHERTYPE)
        self.arrived.recv(100)

    def tracked(self, *probes):
        """Send probes; those (text) that made an entry in S."""
        self.conntrack.flush()
        sent = self.send(*probes)
        entries = set()
        for entry in self.server.entries(self.family):
            tuple_ = entry.original
            ports = [tuple_["sport"], tuple_["dport"]] if "sport" in tuple_ else []
            entries.add((entry.number, tuple_["src"], tuple_["dst"], *ports))
        return [probe.text for probe in sent if probe.entry in entries]

    def rules(self, *rules):
        """Exactly these rules."""
        self.ctskip.commit("flush", *(f"add {rule}" for rule in rules))

    def check(self, *rules, skipped=(), tracked=()):
        """Under these rules the first probes are skipped and the others tracked."""
        probes = [*skipped, *tracked]
        if new := [probe for probe in probes if probe not in self.proven]:
            self.rules()
            assert self.tracked(*new) == new, "the probes make entries where there is no rule"
            self.proven.update(new)
        self.rules(*rules)
        before = self.ctskip.netns(self.server)["skipped"]
        assert self.tracked(*probes) == list(tracked), rules
        assert self.ctskip.netns(self.server)["skipped"] - before == len(skipped), rules


@pytest.fixture
def bench(ctskip, lab, family):
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {0})
    made = Bench(ctskip, lab, family)
    yield made
    made.close()
    os.sched_setaffinity(0, cpus)


# --- directions --------------------------------------------------------------------------------------

QUERY_IN, ANSWER_OUT = "in C.* > S.53", "out S.53 > C.*"  # a flow that S serves
QUERY_OUT, ANSWER_IN = "out S.* > C.53", "in C.53 > S.*"  # a flow that S asks for


def test_directions(bench):
    flows = [QUERY_IN, ANSWER_OUT, QUERY_OUT, ANSWER_IN]
    for terms, skipped in (
        ("", flows),
        ("oneway", [QUERY_IN, QUERY_OUT]),
        ("local=dst", [QUERY_IN, ANSWER_OUT]),
        ("local=src", [QUERY_OUT, ANSWER_IN]),
        ("local=dst oneway", [QUERY_IN]),
        ("local=src oneway", [QUERY_OUT]),
    ):
        bench.check(
            f"udp dport=53 {terms}", skipped=skipped, tracked=[p for p in flows if p not in skipped]
        )


def test_local_with_addresses(bench):
    """Written from the other end: `sport=53 local=src` is what `dport=53 local=dst` is."""
    bench.name(X=bench.family.pick("198.51.100.7", "2001:db8::7"))
    server = bench.names["S"]
    bench.check(
        f"udp src={server} sport=53 local=src",
        skipped=[QUERY_IN, ANSWER_OUT, "in X.* > S.53"],
        tracked=[QUERY_OUT, ANSWER_IN, "in X.53 > S.*"],
    )
    bench.check(
        f"udp dst={server} local=dst",
        skipped=["in X.53 > S.*", "out S.* > X.53", "in C.* > S.53"],
        tracked=["out X.9 > C.*"],
    )


# --- addresses ---------------------------------------------------------------------------------------


def test_addresses(bench):
    family = bench.family
    net = family.pick("198.51.100.", "2001:db8:1:2:8000::")
    bench.name(
        A=f"{net}1",
        B=f"{net}2",
        D=f"{net}3",
        Far=family.pick(
            "198.51.101.1", "2001:db8:1:2::1"
        ),  # differs above /24 and in bit 64 of 128
        Other=family.pick("203.0.113.1", "2001:db8:ffff::1"),
    )
    names, full = bench.names, family.bits
    a, b, other = (names[n] for n in ("A", "B", "Other"))
    prefix = family.pick("198.51.100.0/24", "2001:db8:1:2:8000::/65")
    shorter = family.pick("198.51.100.0/23", "2001:db8:1:2::/64")
    pair = family.pick("198.51.100.2/31", "2001:db8:1:2:8000::2/127")
    everything = family.pick("0.0.0.0/0", "::/0")

    def to(*wanted):
        return [f"out S.* > {name}.7" for name in wanted]

    bench.check(f"udp dst={a}", skipped=[*to("A"), "in A.7 > S.*"], tracked=to("B", "Far"))
    bench.check(f"udp dst={a}/{full}", skipped=to("A"), tracked=to("B"))
    bench.check(f"udp dst={prefix}", skipped=to("A", "B"), tracked=to("Far", "Other"))
    bench.check(f"udp dst={shorter}", skipped=to("A", "Far"), tracked=to("Other"))
    bench.check(f"udp dst={pair}", skipped=to("B", "D"), tracked=to("A"))
    bench.check(f"udp dst={everything} any", skipped=[*to("A", "Other"), "in C.* > S.*"])
    # A range is the prefixes that it is made of: here .1 and .2-.3.
    span = f"{a}-{names['D']}"
    bench.check(f"udp dst={span}", skipped=[*to("A", "B", "D"), "in B.7 > S.*"], tracked=to("Far"))
    assert bench.ctskip.rules()[0].count(",") == 1
    bench.check(
        f"udp dst={a},{other},{pair}", skipped=to("A", "B", "D", "Other"), tracked=to("Far")
    )
    bench.check(
        f"udp src={a},{b} dst={names['S']}",
        skipped=["in A.7 > S.*", "in B.7 > S.*", "out S.* > B.7"],
        tracked=["in D.7 > S.*", "out S.* > D.7", "out A.7 > Other.*"],
    )
    bench.check(
        f"udp src={prefix} oneway",
        skipped=["in A.* > S.7", "out B.* > C.7"],
        tracked=["in Far.* > S.7", *to("A")],
    )


def test_an_address_list_of_sixteen(bench):
    net = bench.family.pick("198.51.100.", "2001:db8::")
    bench.name(First=f"{net}1", Last=f"{net}31", Next=f"{net}32", Before=f"{net}30")
    listed = ",".join(f"{net}{n}" for n in range(1, 32, 2))
    assert listed.count(",") == 15
    bench.check(
        f"udp dst={listed}",
        skipped=["out S.* > First.7", "out S.* > Last.7"],
        tracked=["out S.* > Next.7", "out S.* > Before.7"],
    )


# --- ports -------------------------------------------------------------------------------------------


def test_ports(bench):
    bench.check(
        "udp dport=53,5000-5010,65535",
        skipped=[f"in C.* > S.{p}" for p in (53, 5000, 5005, 5010, 65535)]
        + [f"out S.{p} > C.*" for p in (53, 5000, 5010, 65535)],
        tracked=[f"in C.* > S.{p}" for p in (52, 54, 4999, 5011, 65534)],
    )
    bench.check(
        "udp sport=1000-1009 dport=53",
        skipped=["in C.1000 > S.53", "in C.1009 > S.53", "out S.53 > C.1004", "out S.1001 > C.53"],
        tracked=["in C.1010 > S.53", "in C.999 > S.53", "in C.1002 > S.54", "in C.53 > S.1010"],
    )
    bench.check("udp sport=123 oneway", skipped=["in C.123 > S.*"], tracked=["in C.* > S.123"])
    bench.check(
        "udp dport=0-1023", skipped=["in C.* > S.1", "in C.* > S.1023"], tracked=["in C.* > S.1024"]
    )
    bench.check("udp dport=0-65535 any", skipped=["in C.* > S.1", "in C.* > S.65535"])


# --- protocols ---------------------------------------------------------------------------------------


def check_protocols(bench, rule, probes, skipped):
    bench.check(
        rule,
        skipped=[p for name in probes if name in skipped for p in probes[name]],
        tracked=[p for name in probes if name not in skipped for p in probes[name]],
    )


def test_protocols_with_ports(bench):
    probes = {p: [f"in {p} C.* > S.53", f"out {p} S.53 > C.*"] for p in ("udp", "tcp")}
    # The kernel tracks no SCTP packet in mid-stream, which an answer by itself would be.
    probes["sctp"] = ["in sctp C.* > S.53", "out sctp S.* > C.53"]
    for protocols, skipped in (
        ("udp", ["udp"]),
        ("tcp", ["tcp"]),
        ("sctp", ["sctp"]),
        ("tcp,udp", ["udp", "tcp"]),
        ("sctp,udp", ["udp", "sctp"]),
        ("proto=17", ["udp"]),
        ("proto=6,132", ["tcp", "sctp"]),
        ("tcp,udp,sctp", ["udp", "tcp", "sctp"]),
    ):
        check_protocols(bench, f"{protocols} dport=53", probes, skipped)


def test_protocols_without_ports(bench):
    probes = {p: [f"in {p} C > S", f"out {p} S > X"] for p in (4, 47, 50, 89, 112, 253, 254)}
    bench.name(X=bench.family.pick("198.51.100.7", "2001:db8::7"))
    for protocols, skipped in (
        ("proto=253", [253]),
        ("proto=253,255", [253]),
        ("gre", [47]),
        ("esp", [50]),
        ("ipip", [4]),
        ("esp,gre", [47, 50]),
        ("ospf", [89]),
        ("vrrp,ospf", [89, 112]),
        ("proto=47,253", [47, 253]),
        ("udp", []),
    ):
        check_protocols(bench, f"{protocols} any", probes, skipped)


# --- any, ip, ip6 ------------------------------------------------------------------------------------


def test_any(bench):
    ctskip, server = bench.ctskip, bench.names["S"]
    bench.rules("tcp dport=80")
    table = ctskip.read("rules")
    broad = [
        "udp",
        f"dst={server}",
        f"udp dst={bench.family.pick('0.0.0.0/0', '::/0')}",
        "udp dport=0-65535",
        f"{bench.family.icmp} type=0-255",
        "dport=53 any",
        "type=8 any",
        bench.family.ip,
        "mark=1",
        "dev=eth0",
        "skip",
        "track",
        "oneway",
    ]
    for rule in [*broad, "local=dst", "tag=t", "tcp,udp dev=eth0", f"udp {bench.family.ip}"]:
        assert ctskip.write(f"add {rule}\n") == errno.EINVAL, rule
        assert ctskip.last_error()["errno"] == "EINVAL"
    assert ctskip.read("rules") == table
    flow = ["in C.* > S.7", "out S.* > C.7", "in 253 C > S"]
    udp, tcp, raw = flow[:2], ["in tcp C.* > S.7"], flow[2:]
    bench.check("udp any", skipped=udp, tracked=tcp + raw)
    bench.check(f"dst={server} any", skipped=flow + tcp)
    bench.check("any", skipped=flow + tcp)
    bench.check(f"{bench.family.ip} any", skipped=flow + tcp)
    bench.check(f"{bench.family.pick('ip6', 'ip')} any", tracked=flow + tcp)


def test_family_words(bench):
    for words in ("ip", "ip6", ""):
        here = words in ("", bench.family.ip)
        both = ["in C.* > S.53", "out S.53 > C.*"]
        bench.check(
            f"{words} udp dport=53", skipped=both if here else [], tracked=[] if here else both
        )


# --- dev= --------------------------------------------------------------------------------------------


def test_devices(bench, lab):
    """In at PRE_ROUTING, out at LOCAL_OUT, the same device for both directions of a flow."""
    family = bench.family
    for device in ("wan0", "wan0.7"):
        bench.links[device] = lab.link(bench.client, bench.server, b_dev=device)
    bench.name(W=bench.client.addr(family, 1), V=bench.client.addr(family, 2))

    def through(dev, name):
        where = {} if dev == "eth0" else {"dev": dev}
        suffix = "".join(f" {k}={v}" for k, v in where.items())
        return [
            f"in C.* > S.53{suffix}",
            f"in C.53 > S.*{suffix}",
            f"out S.* > {name}.53",
            f"out S.53 > {name}.*",
        ]

    eth0, wan0 = through("eth0", "C"), through("wan0", "W")
    dotted = ["out S.* > V.53"]
    for devices, skipped in (
        ("eth0", eth0),
        ("wan0", wan0),
        ("eth0,wan0", eth0 + wan0),
        ("eth*", eth0),
        ("wan0*", wan0 + dotted),
        ("wan0.7", dotted),
        ("e*,wan0.*", eth0 + dotted),
        ("eth,wan,wan00,eth00*,lo*", []),
    ):
        everything = eth0 + wan0 + dotted
        bench.check(
            f"udp dport=53 dev={devices}",
            skipped=[p for p in everything if p in skipped],
            tracked=[p for p in everything if p not in skipped],
        )
    bench.check(
        "udp dport=53 dev=eth0 local=dst", skipped=[eth0[0], eth0[3]], tracked=eth0[1:3] + wan0
    )


def test_renamed_device(bench, lab):
    """A short name is a name by itself, whatever longer one was there before."""
    long, short = "averylongname01", "up0"
    bench.links[long] = bench.links[short] = lab.link(bench.client, bench.server, b_dev=long)
    bench.name(W=bench.client.addr(bench.family, 1))
    out = ["out S.* > W.53"]
    bench.check(f"udp dport=53 dev={long}", skipped=["in C.* > S.53 dev=averylongname01", *out])
    bench.check(f"udp dport=53 dev={short}", tracked=["in C.* > S.53 dev=averylongname01", *out])
    index = bench.server.index(long)
    bench.server.ip.link("set", index=index, ifname=short)
    probes = ["in C.* > S.53 dev=up0", *out]
    bench.check(f"udp dport=53 dev={short}", skipped=probes)
    bench.check("udp dport=53 dev=up*", skipped=probes)
    bench.check(f"udp dport=53 dev={long},averyl*", tracked=probes)
    bench.check("udp dport=53 dev=up00,up0l*", tracked=probes)
    bench.server.ip.link("set", index=index, ifname=long)
    bench.check(f"udp dport=53 dev={long}", skipped=["in C.* > S.53 dev=averylongname01", *out])


# --- mark= -------------------------------------------------------------------------------------------


def test_mark(bench):
    """As SO_MARK sets it (out) and as the raw table does (in); an answer has no mark."""
    bench.server.nft("""table inet marks { chain prerouting {
        type filter hook prerouting priority raw;
        meta mark set udp sport map { 1007 : 7, 1018 : 0x12, 1039 : 0x27 };
    }; }""")
    seven = ["out S.* > C.53 mark=7", "in C.1007 > S.53"]
    eighteen = ["out S.* > C.53 mark=18", "in C.1018 > S.53"]
    twice = ["out S.* > C.53 mark=39", "in C.1039 > S.53"]
    none = ["out S.* > C.53", "in C.* > S.53", "out S.53 > C.*"]
    everything = seven + eighteen + twice + none
    for mark, skipped in (
        ("7", seven),
        ("0x7", seven),
        ("0x12", eighteen),
        ("7/7", seven + twice),
        ("0x2/0x2", seven + eighteen + twice),
        ("0/0x20", seven + eighteen + none),
        ("0", none),
        ("0x27/0xffffffff", twice),
        ("0x80000000/0x80000000", []),
    ):
        bench.check(
            f"udp dport=53 mark={mark}",
            skipped=[p for p in everything if p in skipped],
            tracked=[p for p in everything if p not in skipped],
        )
    bench.check("udp mark=7", skipped=seven, tracked=eighteen)


# --- all terms together ------------------------------------------------------------------------------


def test_every_term_must_match(bench, lab):
    """A rule with all terms, and packets that each miss one of them."""
    bench.links["wan0"] = lab.link(bench.client, bench.server, b_dev="wan0")
    bench.name(X=bench.family.pick("198.51.100.7", "2001:db8::7"))
    other = bench.family.pick("198.51.100.8", "2001:db8::8")
    bench.name(Y=other)
    bench.server.add_address("eth0", other, bench.family.bits)
    bench.server.nft("""table inet marks { chain prerouting {
        type filter hook prerouting priority raw; meta mark set udp sport map { 1000-1008 : 5 };
    }; }""")
    bench.check(
        f"udp src={bench.names['X']} dst={bench.names['S']} sport=1000-1009 dport=53 dev=eth0 "
        "mark=5 local=dst oneway",
        skipped=["in X.1000 > S.53"],
        tracked=[
            "in tcp X.1001 > S.53",
            "in C.1001 > S.53",
            "in X.1001 > Y.53",
            "in X.1010 > S.53",
            "in X.1002 > S.54",
            "in X.1003 > S.53 dev=wan0",
            "in X.1009 > S.53",
            "out S.53 > X.1004 mark=5",
            "out X.1005 > C.53 mark=5",
        ],
    )


# --- order -------------------------------------------------------------------------------------------


def test_track_before_skip(bench):
    client = bench.names["C"]
    bench.name(X=bench.family.pick("198.51.100.7", "2001:db8::7"))
    own, others = ["in C.* > S.53", "out S.53 > C.*"], ["in X.* > S.53", "out S.53 > X.*"]
    bench.check(f"track udp src={client} dport=53", "udp dport=53", skipped=others, tracked=own)
    track, skip = bench.ctskip.counters()
    # What S sends, C sees too.
    assert (track["packets"], skip["packets"]) == (3, 3)
    bench.check("udp dport=53", f"track udp src={client} dport=53", skipped=own + others)
    skip, track = bench.ctskip.counters()
    assert (skip["packets"], track["packets"]) == (6, 0)
    bench.check(
        f"track udp src={client} dport=53 oneway",
        "udp dport=53",
        skipped=[own[1], *others],
        tracked=own[:1],
    )
    bench.check("track udp dport=53", tracked=own + others)


def test_first_match(bench):
    """In the order of the table, however it came about, and not of ids."""
    ctskip = bench.ctskip

    def winner():
        before = {c["id"]: c["packets"] for c in ctskip.counters()}
        bench.send("in C.* > S.53")
        (found,) = (c["id"] for c in ctskip.counters() if c["packets"] > before[c["id"]])
        return found

    bench.rules("udp dport=53 id=10")
    assert winner() == 10
    ctskip.commit("add udp dport=53-54 id=11")
    assert winner() == 10
    ctskip.commit("insert udp dport=50-60 id=12")
    assert winner() == 12
    ctskip.commit("insert before=10 track udp dport=53 oneway id=5")
    assert [c["id"] for c in ctskip.counters()] == [12, 5, 10, 11]
    assert winner() == 12
    ctskip.commit("delete 12")
    assert winner() == 5
    ctskip.commit("delete 5", "delete 10")
    assert winner() == 11
    # Rules for one namespace and for all are looked through apart, and first match holds over both.
    inode = bench.server.inode
    bench.rules("udp dport=53 id=1", f"udp dport=53 netns={inode} id=2")
    assert winner() == 1
    bench.rules(f"udp dport=53 netns={inode} id=1", "netns!=init udp dport=53 id=2")
    assert winner() == 1
    bench.rules("netns!=init udp dport=53 id=1", f"udp dport=53 netns={inode} id=2")
    assert winner() == 1
    bench.rules("netns=init udp dport=53 id=1", "udp dport=53 id=2")
    assert winner() == 2


def test_many_rules(bench):
    """The matching one is far down the table."""
    rules = [f"tcp dport={port}" for port in range(1, 300)]
    table = [*rules, "udp dport=53", *rules, "udp dport=54", "udp dport=50-60"]
    bench.ctskip.load_table("\n".join(table))
    assert bench.tracked(*(f"in C.* > S.{p}" for p in (53, 54, 55, 61))) == ["in C.* > S.61"]
    found = {
        c["rule"].split("dport=")[1].split()[0]: c["packets"]
        for c in bench.ctskip.counters()
        if c["packets"]
    }
    assert found == {"53": 1, "54": 1, "50-60": 1}


# --- ICMP types --------------------------------------------------------------------------------------


@functools.cache
def icmp_packet(bench, hook, kind):
    ends = [bench.names["C"], bench.names["S"]]
    src, dst = ends if hook == "in" else ends[::-1]
    rest = struct.pack("!HH", 7, 1) + bytes(40)
    if bench.family is V4:
        return bytes(IP(src=src, dst=dst) / ICMP(type=kind, code=0, id=7, seq=1) / bytes(40))
    return bytes(IPv6(src=src, dst=dst) / ICMPv6Unknown(type=kind, code=0, msgbody=rest))


TYPES = {  # (IPv4, IPv6): request and answer, another pair, two without an answer
    "request": (8, 128),
    "answer": (0, 129),
    "request2": (17, 139),
    "answer2": (18, 140),
    "single": (9, 150),
    "single2": (40, 200),
}


def matched_icmp(bench, terms, kinds):
    """Send each type in and out under one rule: those of `kinds` that it matched, by hook."""
    bench.rules(f"{bench.family.icmp} {terms} netns={bench.server.inode}")
    found = {"in": [], "out": []}
    packets = 0
    for hook, name in itertools.product(found, kinds):
        bench.send_packet(hook, icmp_packet(bench, hook, kinds[name]))
        (counter,) = bench.ctskip.counters()
        if counter["packets"] > packets:
            assert counter["packets"] == packets + 1
            packets += 1
            found[hook].append(name)
    return found


def test_icmp_types(bench):
    """An answer without its request is `invalid` to conntrack, so nft tells what became of it."""
    kinds = {name: bench.family.pick(*pair) for name, pair in TYPES.items()}
    watch = bench.server.watch(f"meta l4proto {bench.family.nft_icmp}")
    for terms, matched in (
        ("type={request}", ["request", "answer"]),
        ("type={answer}", ["request", "answer"]),
        ("type={request} oneway", ["request"]),
        ("type={answer} oneway", ["answer"]),
        ("type={request2},{request}", ["request", "answer", "request2", "answer2"]),
        ("type={request2}-{answer2}", ["request2", "answer2"]),
        ("type={single}", ["single"]),
        ("type={single},{single2}", ["single", "single2"]),
        ("type={single2} oneway", ["single2"]),
        ("any", list(TYPES)),
    ):
        watch.reset()
        found = matched_icmp(bench, terms.format(**kinds), kinds)
        assert found == {"in": matched, "out": matched}, terms
        behind = watch.read()
        for hook in ("prerouting", "output"):
            assert behind[hook]["untracked"] == len(matched), terms
            assert sum(behind[hook].values()) == len(TYPES), terms


def test_icmp_types_with_local(bench):
    """A rule for those who ping us is none for those whom we ping."""
    kinds = {"request": bench.family.echo_request, "answer": bench.family.echo_reply}
    terms = f"type={kinds['request']} local="
    assert matched_icmp(bench, terms + "dst", kinds) == {"in": ["request"], "out": ["answer"]}
    assert matched_icmp(bench, terms + "src", kinds) == {"in": ["answer"], "out": ["request"]}


def test_icmp_type_is_of_its_family(ctskip, lab):
    """A number means different things: IPv4's 8 is not IPv6's."""
    client, server = lab.pair()
    server.track()
    first = ctskip.add("icmp type=echo-request")
    second = ctskip.add("icmp6 type=echo-request")
    assert [rule.split(" id=")[0] for rule in ctskip.rules()] == [
        "skip icmp type=8",
        "skip icmp6 type=128",
    ]
    assert client.ping(server.addr(V4)) == 1
    assert ctskip.counter(first)["packets"] == 4 and ctskip.counter(second)["packets"] == 0
    assert client.ping(server.addr(V6)) == 1
    assert ctskip.counter(second)["packets"] == 4 and ctskip.counter(first)["packets"] == 4
    assert server.count() == 0


# --- flags of TCP ------------------------------------------------------------------------------------

SEGMENTS = {"syn": "S", "syn+ecn": "SEC", "syn+ack": "SA", "data": "PA", "ack": "A", "fin": "FA"}


def segment(bench, hook, flags):
    """A segment between port 80 of S and port 4000 of C."""
    server, client = (bench.names["S"], 80), (bench.names["C"], 4000)
    (src, sport), (dst, dport) = (client, server) if hook == "in" else (server, client)
    header = IP if bench.family is V4 else IPv6
    body = b"data" if "P" in flags else b""
    return bytes(header(src=src, dst=dst) / TCP(sport=sport, dport=dport, flags=flags) / body)


def matched_segments(bench, terms):
    """The segments of SEGMENTS that a rule matches, by hook."""
    bench.rules(f"tcp {terms} any netns={bench.server.inode}")
    found = {"in": [], "out": []}
    packets = 0
    for hook, name in itertools.product(found, SEGMENTS):
        bench.send_packet(hook, segment(bench, hook, SEGMENTS[name]))
        (counter,) = bench.ctskip.counters()
        if counter["packets"] > packets:
            packets += 1
            found[hook].append(name)
        assert counter["packets"] == packets
    return found


def test_flags(bench):
    """Most of them make no entry by themselves, so that the rule's counter tells."""
    for terms, matched in (
        ("flags=syn", ["syn", "syn+ecn"]),
        ("flags=syn+ack", ["syn+ack"]),
        ("flags=ack", ["data", "ack"]),
        ("flags=psh+ack", ["data"]),
        ("flags=syn/syn", ["syn", "syn+ecn", "syn+ack"]),
        ("flags=syn/syn+ack+ece", ["syn"]),
        ("flags=ack/ack+syn", ["data", "ack", "fin"]),
        ("dport=80 flags=syn+ack", ["syn+ack"]),
        ("dport=80 flags=fin+ack dev=eth*", ["fin"]),
        ("sport=80 flags=ack", ["data", "ack"]),
        ("", list(SEGMENTS)),
    ):
        assert matched_segments(bench, terms) == {"in": matched, "out": matched}, terms
    found = matched_segments(bench, "dport=80 flags=syn oneway")
    assert found == {"in": ["syn", "syn+ecn"], "out": []}
    found = matched_segments(bench, "dport=80 flags=syn+ack local=dst")
    assert found == {"in": ["syn+ack"], "out": ["syn+ack"]}


def test_flags_skip(bench):
    """What becomes of a packet, beside rules that name no flags, and once rules have changed."""
    syn = ["in tcp C.* > S.80", "out tcp S.* > C.80"]
    other = ["in tcp C.* > S.81", "in C.* > S.80", "in 253 C > S"]
    bench.check("tcp dport=80 flags=syn", skipped=syn, tracked=other)
    bench.check("tcp dport=80 flags=ack", tracked=syn + other)
    bench.check("track tcp flags=syn any", "tcp,udp dport=80", skipped=other[1:2], tracked=syn)
    bench.rules("udp dport=80")
    bench.ctskip.commit("add tcp dport=80 flags=syn")
    assert bench.tracked(*syn, *other) == [other[0], other[2]]


# --- what is counted ---------------------------------------------------------------------------------


def grown(after, before):
    return {k: v - before[k] for k, v in after.items() if isinstance(v, int) and v != before.get(k)}


def test_rule_counters(bench):
    """Packets and bytes to the byte, of the rule that decided only, kept over commits."""
    ctskip = bench.ctskip
    header = bench.family.pick(20, 40) + 8
    bench.rules("udp dport=53 tag=dns", "track udp dport=123", "udp dport=53,123,7", "tcp dport=80")
    server = bench.names["S"]
    for size, port in ((0, 53), (1, 53), (1000, 53), (10, 123), (20, 7)):
        bench.client.udp_send(server, port, bytes(size))
        bench.settle()
    # C's LOCAL_OUT and S's PRE_ROUTING: each packet twice.
    expected = [
        {"packets": 6, "bytes": 2 * (3 * header + 1001), "held": 0, "tag": "dns"},
        {"packets": 2, "bytes": 2 * (header + 10), "held": 0},
        {"packets": 2, "bytes": 2 * (header + 20), "held": 0},
        {"packets": 0, "bytes": 0, "held": 0},
    ]
    found = ctskip.counters()
    for counter, wanted in zip(found, expected, strict=True):
        assert {key: counter[key] for key in wanted} == wanted
    ctskip.commit("insert udp dport=9", f"delete {found[3]['id']}")
    kept = ctskip.counters()
    assert kept[1:] == found[:3] and kept[0]["packets"] == 0
    bench.send("in C.* > S.53", "in C.* > S.9")
    after = ctskip.counters()
    assert [c["packets"] for c in after] == [1, 7, 2, 2]
    assert after[1]["bytes"] - kept[1]["bytes"] == header + len(b"probe")


def test_stats(bench):
    """Each packet is seen once a hook and counted once for what became of it."""
    ctskip = bench.ctskip
    bench.server.nft("""table inet marked { chain prerouting { type filter hook prerouting priority raw;
        udp dport 99 notrack; }; }""")
    bench.rules("track udp dport=10", "udp dport=10-20")

    def change(*probes):
        before = (ctskip.stats(), ctskip.netns(bench.server), ctskip.netns(bench.client))
        bench.send(*probes)
        after = (ctskip.stats(), ctskip.netns(bench.server), ctskip.netns(bench.client))
        stats = grown(after[0], before[0])
        stats.pop("entries", None)
        return (
            stats,
            after[1]["skipped"] - before[1]["skipped"],
            after[2]["skipped"] - before[2]["skipped"],
        )

    without_ct = {"seen": 3, "skipped": 3, "skipped_without_ct": 1}  # in the client's namespace
    assert change("in C.* > S.11", "out S.* > C.12") == (without_ct, 2, 1)
    assert change("in C.* > S.10") == ({"seen": 1, "tracked": 1}, 0, 0)
    assert change("in C.* > S.21", "in tcp C.* > S.11") == ({"seen": 2}, 0, 0)
    assert change("in C.* > S.99") == ({"seen": 1, "left_untracked": 1}, 0, 0)
    ctskip.mode = "observe"
    assert change("in C.* > S.11") == ({"seen": 1, "observed": 1}, 0, 0)
    assert change("in C.* > S.10") == ({"seen": 1, "tracked": 1}, 0, 0)
    ctskip.mode = "off"
    assert change("in C.* > S.11") == ({}, 0, 0)
    ctskip.mode = "skip"
    bench.rules()
    assert change("in C.* > S.11") == ({}, 0, 0)


def test_netns_line(bench):
    """What `netns` says of a namespace while its flows are tracked, and when they are not."""
    server = bench.server
    bench.tracked(*["in C.* > S.53"] * 5)
    line = bench.ctskip.netns(server)
    assert line["ct"] == "on" and line["nat"] == "no" and line["rules"] == 0
    assert line["entries"] == server.count() == 5
    assert line["max"] == int(server.sysctl("net.netfilter.nf_conntrack_max"))
    bench.rules("udp dport=53", "netns=init udp dport=54", f"netns={server.inode} udp dport=55")
    assert bench.ctskip.netns(server)["rules"] == 2
    server.flush()
    bench.send(*["in C.* > S.53"] * 5)
    line = bench.ctskip.netns(server)
    assert line["entries"] == server.count() == 0
