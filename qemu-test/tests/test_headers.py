# SPDX-License-Identifier: GPL-2.0
"""Odd packets: fragments, extension headers, options, headers cut short or outside the linear part.

They are put on the wire at `client` and looked at in `server`. Conntrack brings defragmentation with it:
`Wire.watch()` turns both on, and before that later fragments reach the rules as they are. What a rule
has matched is told by its counter, each rule having a port of its own where that helps.
"""

import contextlib
import random
import socket
import struct
from pathlib import Path

import netlab
import pytest
from netlab import V4, V6, icmp_message, wait_until

TCP, UDP, SCTP = 6, 17, 132
HOP_BY_HOP, ROUTING, FRAGMENT, AH, DESTINATION = 0, 43, 44, 51, 60
SOL_PACKET, PACKET_VNET_HDR = 263, 15
ETHERNET = 14


def ports(source, destination, data=b"data"):
    """A UDP datagram."""
    return struct.pack("!4H", source, destination, 8 + len(data), 0) + data


class Wire:
    """client and server, and IP packets from the one to the other."""

    def __init__(self, lab, family, mtu=None, silent=True):
        self.client, self.server = lab.ns("client"), lab.ns("server")
        self.link = lab.link(self.client, self.server, mtu=mtu)
        if silent:
            self.server.silent()
        self.family = family
        self.source, self.here = self.client.addr(family), self.server.addr(family)
        self.watching = None

    def watch(self):
        """Turn conntrack on in server, and count behind it."""
        self.watching = self.server.watch(f"{self.family.ip} saddr {self.source}")

    def packet(self, protocol, payload, destination=None, **header):
        """An IP packet; the payload's length and place are as given, whatever the protocol."""
        from scapy.layers.inet import IP
        from scapy.layers.inet6 import IPv6

        header |= {"src": self.source, "dst": destination or self.here}
        if self.family is V4:
            return bytes(IP(proto=protocol, **header) / payload)
        return bytes(IPv6(nh=protocol, **header) / payload)

    def send(self, *packets):
        for packet in packets:
            self.link.send(self.client, packet)

    def states(self, *packets, passed=None):
        """Send packets; the states in which they are behind conntrack: {state: packets}."""
        self.send(*packets)
        return self.watching.more("prerouting", passed or len(packets))


@pytest.fixture
def wire(lab, family):
    return Wire(lab, family)


@pytest.fixture
def wire6(lab):
    return Wire(lab, V6)


def packets(ctskip):
    """What each rule has counted, in order."""
    return [counter["packets"] for counter in ctskip.counters()]


# --- fragments -------------------------------------------------------------------------------------


def test_fragments_with_conntrack(ctskip, lab, family):
    """Where conntrack is, fragments are put together before: the whole is skipped."""
    client, server = lab.pair()
    address = server.addr(family)
    server.udp_echo(7)
    out, into = client.watch("udp dport 7"), server.watch("udp dport 7")
    data = bytes(range(200)) * 25
    assert client.udp(address, 7, data) == data
    assert into.more("prerouting", 1) == {"new": 1}
    assert len(server.entries(family)) == len(client.entries(family)) == 1
    client.flush(), server.flush()
    rule = ctskip.add(f"udp dst={address} dport=7")
    assert client.udp(address, 7, data) == data
    assert into.more("prerouting", 1) == {"untracked": 1}
    assert out.read("output")["untracked"] == 1
    assert client.entries() == server.entries() == []
    assert ctskip.counter(rule)["packets"] == 4


def fragments(wire, protocol, payload, size=64):
    """The packet in fragments of `size` bytes each."""
    for offset in range(0, len(payload), size):
        piece, more = payload[offset : offset + size], offset + size < len(payload)
        if wire.family is V4:
            yield wire.packet(protocol, piece, id=77, frag=offset // 8, flags=int(more))
        else:
            header = struct.pack("!BBHI", protocol, 0, offset | more, 77)
            yield wire.packet(FRAGMENT, header + piece)


def test_fragments_put_together(ctskip, wire):
    """In whatever order they come."""
    wire.watch()
    ctskip.add("udp dport=53")
    pieces = list(fragments(wire, UDP, ports(1000, 53, bytes(200))))
    assert len(pieces) == 4
    assert wire.states(*pieces, passed=1) == {"untracked": 1}
    assert wire.states(*pieces[::-1], passed=1) == {"untracked": 1}
    other = fragments(wire, UDP, ports(1000, 54, bytes(200)))
    assert wire.states(*other, passed=1) == {"new": 1}


@pytest.mark.parametrize(
    "named",
    [
        "udp dport=53",
        "track udp dport=53",
        "udp dport=0-65535 any",
        "track udp sport=0-65535 any",
    ],
)
def test_fragments_without_conntrack(ctskip, wire, named):
    """The first has ports and matches; later ones match no rule that names a port."""
    ctskip.add(named, "udp any")
    # What would be ports, were it the start of a datagram, is in every later fragment too.
    data = struct.pack("!2H", 1000, 53) * 48
    pieces = list(fragments(wire, UDP, ports(1000, 53, data)))
    wire.send(*pieces)
    wait_until(lambda: sum(packets(ctskip)) == len(pieces))
    assert packets(ctskip) == [1, len(pieces) - 1]


def test_icmp_fragments_without_conntrack(ctskip, wire, family):
    request = family.echo_request
    rule = f"{family.icmp} dst={wire.here}"  # the kernel's own messages go elsewhere
    ctskip.add(f"{rule} type=0-255", f"{rule} any")
    message = bytes([request, 0, 0, 0]) * 40
    pieces = list(fragments(wire, family.pick(1, 58), message))
    wire.send(*pieces)
    wait_until(lambda: sum(packets(ctskip)) == len(pieces))
    assert packets(ctskip) == [1, len(pieces) - 1]


# --- IPv6 extension headers ------------------------------------------------------------------------


def extension(kind, following, words=0):
    """An extension header of 8 + 8 * words bytes (AH: 12 + 4 * words) that does nothing."""
    if kind == FRAGMENT:
        return struct.pack("!BBHI", following, 0, 0, 1)
    if kind == AH:
        return struct.pack("!BBHII", following, 1 + words, 0, 1, 1) + bytes(4 * words)
    if kind == ROUTING:
        return struct.pack("!BBBBI", following, words, 0, 0, 0) + bytes(8 * words)
    size = 6 + 8 * words
    return bytes([following, words, 1, size - 2]) + bytes(size - 2)


def chain(*kinds, last=UDP, words=0):
    """(the first header's number, the bytes of all): extension headers up to the protocol `last`."""
    text = b""
    for kind, following in zip(kinds, (*kinds[1:], last)):
        text += extension(kind, following, words)
    return kinds[0], text


CHAINS = [
    chain(HOP_BY_HOP),
    chain(DESTINATION),
    chain(DESTINATION, words=20),
    chain(ROUTING),
    chain(FRAGMENT),
    chain(AH),
    chain(AH, words=2),
    chain(HOP_BY_HOP, DESTINATION, ROUTING, FRAGMENT, AH, DESTINATION),
    chain(HOP_BY_HOP, *[DESTINATION] * 11),
    chain(*[DESTINATION] * 12),
]
TOO_LONG = chain(*[DESTINATION] * 13)


@pytest.mark.parametrize("conntrack", [True, False], ids=["tracked", "conntrack-off"])
def test_extension_headers(ctskip, wire6, conntrack):
    """Ports are found behind any chain that the kernel walks: a port, and a rule, for each."""
    if conntrack:
        wire6.watch()
    ctskip.add(*(f"udp dport={1000 + number}" for number in range(len(CHAINS))))
    sent = [
        wire6.packet(first, text + ports(1, 1000 + number))
        for number, (first, text) in enumerate(CHAINS)
    ]
    wire6.send(*sent)
    wait_until(lambda: sum(packets(ctskip)) >= len(CHAINS))
    assert packets(ctskip) == [1] * len(CHAINS)
    if conntrack:
        assert wire6.watching.more("prerouting", len(sent)) == {"untracked": len(sent)}
        first, text = CHAINS[0]
        assert wire6.states(wire6.packet(first, text + ports(1, 999))) == {"new": 1}


def test_more_extension_headers_than_the_kernel_walks(ctskip, wire6):
    """Thirteen: the protocol is not known, so the packet stays tracked, whatever the rules."""
    first, text = TOO_LONG
    packet = wire6.packet(first, text + ports(1, 53))
    wire6.watch()
    rules = ("track udp dport=53", "proto=60 any", "ah any", f"ip6 dst={wire6.here} any", "any")
    for rule in rules:
        ctskip.add(rule)
        unread = ctskip.stats()["left_unread"]
        assert "untracked" not in wire6.states(packet), rule
        assert ctskip.stats()["left_unread"] == unread + 1
    assert packets(ctskip)[:3] == [0, 0, 0]


def test_extension_headers_cut_short(ctskip, wire6):
    """A chain that ends before its protocol, which is not known then, or says that nothing follows."""
    unread = ctskip.stats()["left_unread"]
    ctskip.add("udp dport=53", "udp any", f"ip6 dst={wire6.here} any")
    sent = [
        wire6.packet(DESTINATION, b""),
        wire6.packet(DESTINATION, bytes([UDP, 0, 1])),
        wire6.packet(DESTINATION, bytes([UDP, 255, 1, 4]) + bytes(4) + ports(1, 53)),
        wire6.packet(59, ports(1, 53)),
        wire6.packet(ROUTING, bytes([59, 0, 0, 0, 0, 0, 0, 0]) + ports(1, 53)),
    ]
    wire6.send(*sent)
    wait_until(lambda: sum(packets(ctskip)) >= len(sent) - 1)
    # The second's and the third's are known to lead to UDP; its ports lie behind the packet's end.
    assert packets(ctskip) == [0, 2, len(sent) - 3]
    assert ctskip.stats()["left_unread"] == unread + 1


# --- headers cut short, and options ----------------------------------------------------------------


@pytest.mark.every_variant
def test_cut_short(ctskip, wire, family):
    """What ends before its ports or its type matches rules that name none."""
    icmp = family.pick(1, 58)
    sent = [
        wire.packet(UDP, b""),
        wire.packet(UDP, struct.pack("!H", 53)),
        wire.packet(TCP, struct.pack("!H", 53) + b"\0"),
        wire.packet(SCTP, struct.pack("!H", 53) + b"\0"),
        wire.packet(icmp, b""),
    ]
    # Beyond the IP length there may be padding, which is not part of the packet.
    padded = [packet + struct.pack("!2H", 53, 53) * 4 for packet in sent]
    wire.watch()
    ctskip.add(
        "tcp,udp,sctp dport=0-65535 any",
        "tcp,udp,sctp sport=0-65535 any",
        f"{family.icmp} dst={wire.here} type=0-255",
    )
    states = wire.states(*sent, *padded)
    assert sum(states.values()) == 10 and "untracked" not in states
    assert packets(ctskip) == [0, 0, 0]
    assert wire.states(wire.packet(UDP, struct.pack("!2H", 1, 53))) == {"untracked": 1}
    ctskip.load_table(f"tcp,udp,sctp any\n{family.icmp} dst={wire.here} any")
    assert wire.states(*sent, *padded) == {"untracked": 10}
    assert packets(ctskip) == [8, 2]


def test_ip_options(ctskip, lab):
    """Ports are looked for where the header says that it ends."""
    wire = Wire(lab, V4)
    wire.watch()
    # Two no-operations look like port 257, where a header without options ends.
    ctskip.add("udp dport=53", "udp dport=257")
    sent = [
        wire.packet(UDP, ports(1000, 53), options=b"\x01" * 4 * words) for words in range(0, 11)
    ]
    assert wire.states(*sent) == {"untracked": len(sent)}
    assert packets(ctskip) == [len(sent), 0]


def test_any_version(ctskip, wire, family):
    """Conntrack does not ask a raw socket's packet for its version."""
    client = wire.client
    client.track()
    sent = []
    for version in (0, 15):
        packet = bytearray(wire.packet(253, b"data"))
        packet[0] = version << 4 | packet[0] & 15
        sent.append(packet)

    def entries():
        with client.socket(family.af, socket.SOCK_RAW, socket.IPPROTO_RAW) as s:
            s.setsockopt(*family.pick((socket.SOL_IP, 3), (socket.IPPROTO_IPV6, 36)), 1)  # HDRINCL
            for packet in sent:
                s.sendto(packet, (wire.here, 0))
        return len(client.entries(family))

    assert entries() == 1
    client.flush()
    rule = ctskip.add(f"proto=253 dst={wire.here} any")
    assert entries() == 0
    # Where it is taken in, ip_rcv() has them dropped.
    assert ctskip.counter(rule)["packets"] == len(sent)


# --- headers outside the linear part ---------------------------------------------------------------


class PagedSocket:
    """Sends frames of which only the first bytes are in the packet's linear part, the rest in pages.

    The kernel takes how many from the virtio header that stands ahead of each frame; it splits those
    only that are over a page long.
    """

    SIZE = 5000

    def __init__(self, wire):
        self.wire = wire
        self.socket = wire.client.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.socket.bind((wire.link.a_dev, 0))
        self.socket.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)

    def send(self, packet, linear):
        """`linear`: bytes of the IP packet that are to be so."""
        head = bytes.fromhex((self.wire.link.b_mac + self.wire.link.a_mac).replace(":", ""))
        head += struct.pack("!H", self.wire.family.ethertype)
        virtio = struct.pack("=BBHHHH", 0, 0, ETHERNET + linear, 0, 0, 0)
        self.socket.send(virtio + head + packet)


@contextlib.contextmanager
def received_packets(lab):
    """What comes in on veth devices meanwhile, as the kernel's tracepoint has it: [(len, data_len)]."""
    top = Path("/sys/kernel/tracing")
    if not (top / "trace").exists():
        lab.init.run(f"mount -t tracefs none {top}")
    event = top / "events/net/netif_rx_entry/enable"
    found = []
    (top / "trace").write_text("\n")
    event.write_text("1\n")
    try:
        yield found
    finally:
        event.write_text("0\n")
        for line in (top / "trace").read_text().splitlines():
            if "netif_rx_entry:" in line:
                seen = netlab.fields(line)
                found.append((int(seen["len"]), int(seen["data_len"])))


@pytest.fixture
def paged(lab, family):
    wire = Wire(lab, family, mtu=9000)
    wire.watch()
    wire.paged = PagedSocket(wire)
    return wire


@pytest.mark.every_variant
def test_ports_outside_linear_part(ctskip, lab, paged, family):
    """Split at each byte of the header, and before it."""
    rules = {TCP: "tcp dport=53", UDP: "udp dport=53", SCTP: "sctp dport=53"}
    ctskip.add(*rules.values())
    header = family.pick(20, 40)
    splits = range(header, header + 6)
    with received_packets(lab) as received:
        for protocol in rules:
            packet = paged.packet(protocol, ports(1000, 53, bytes(PagedSocket.SIZE)))
            for linear in splits:
                paged.paged.send(packet, linear)
        total = len(rules) * len(splits)
        assert paged.watching.more("prerouting", total) == {"untracked": total}
    assert packets(ctskip) == [len(splits)] * len(rules)
    size = header + 8 + PagedSocket.SIZE
    assert [one for one in received if one[0] == size] == [
        (size, size - linear) for linear in splits
    ] * len(rules)
    # The same with another port is tracked: what was read was the port.
    for linear in splits:
        paged.paged.send(paged.packet(UDP, ports(1000, 54, bytes(PagedSocket.SIZE))), linear)
    assert set(paged.watching.more("prerouting", len(splits))) == {"new"}


@pytest.mark.every_variant
def test_type_outside_linear_part(ctskip, paged, family):
    ctskip.add(f"{family.icmp} type={family.echo_reply}")
    message = icmp_message(
        paged.source, paged.here, family.echo_reply, body=bytes(PagedSocket.SIZE)
    )
    for linear in range(family.pick(20, 40), family.pick(20, 40) + 2):
        paged.paged.send(bytes(message), linear)
    assert paged.watching.more("prerouting", 2) == {"untracked": 2}


@pytest.mark.every_variant
def test_error_outside_linear_part(ctskip, paged, family):
    """An ICMP error, split at each byte of what is read of it and of the packet that it quotes."""
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6

    ctskip.add("udp dport=53")
    followed = ctskip.stats()["icmp_errors_followed"]
    header = family.pick(20, 40)
    quoted = family.pick(IP, IPv6)(
        src=paged.here, dst=paged.source, **family.pick({"proto": UDP}, {"nh": UDP})
    ) / ports(53, 1000, bytes(PagedSocket.SIZE))
    error = bytes(icmp_message(paged.source, paged.here, family.pick(3, 1), body=bytes(quoted)))
    splits = range(header, header + 8 + header + 8)
    for linear in splits:
        paged.paged.send(error, linear)
    assert paged.watching.more("prerouting", len(splits)) == {"untracked": len(splits)}
    assert ctskip.stats()["icmp_errors_followed"] == followed + len(splits)


def test_extension_headers_outside_linear_part(ctskip, lab):
    paged = Wire(lab, V6, mtu=9000)
    paged.watch()
    sender = PagedSocket(paged)
    ctskip.add("udp dport=53")
    first, text = chain(DESTINATION, ROUTING, AH, DESTINATION)
    packet = paged.packet(first, text + ports(1000, 53, bytes(PagedSocket.SIZE)))
    splits = range(40, 40 + len(text) + 5)
    for linear in splits:
        sender.send(packet, linear)
    assert paged.watching.more("prerouting", len(splits)) == {"untracked": len(splits)}


# --- destinations that are many ---------------------------------------------------------------------


def test_multicast_and_broadcast(ctskip, wire, family):
    wire.watch()
    group = family.pick("224.0.0.251", "ff02::fb")
    others = family.pick(["255.255.255.255", "10.0.1.255"], ["ff02::1"])
    ctskip.add(f"udp dst={family.pick('224.0.0.0/4', 'ff00::/8')} dport=5353", "udp dport=5354")
    payload = ports(5353, 5353), ports(5354, 5354)
    sent = [wire.packet(UDP, payload[0], destination=group)]
    sent += [wire.packet(UDP, payload[1], destination=other) for other in others]
    assert wire.states(*sent) == {"untracked": len(sent)}
    assert packets(ctskip) == [1, len(others)]
    # As this host's own.
    with wire.server.socket(family.af, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, wire.link.b_dev.encode())
        for address, port in ((group, 5353), *((other, 5354) for other in others)):
            s.sendto(b"hello", (address, port))
    wait_until(lambda: packets(ctskip)[0] >= 2 and packets(ctskip)[1] >= 2 * len(others))
    assert wire.server.entries() == []


# --- anything --------------------------------------------------------------------------------------

GARBAGE = 2000
RULES = """
    track tcp dport=1-9
    tcp dport=53,80-90,1000-2000 sport=1024-65535 nat=ok
    udp dst={here} dport=53 oneway
    sctp sport=5 local=src
    tcp,udp,sctp dport=0-65535 mark=0x10/0xf0
    {icmp} type=3-5,8,128-140 dev=eth*
    {icmp} type=1-4
    {icmp} any local=dst
    udp src={source} any
    proto={proto},4,6,17,47,50,132,253 dst={here} any dev=lo,eth9
    {ip} proto=255 any
    dst={wide} any oneway
    track {ip} any mark=7
    {ip} any netns=init
    gre,esp any
    {ip} any
"""


def mutated(generator, seeds, family):
    """One packet: a seed with some bytes changed, perhaps cut; mostly still taken by ip_rcv()."""
    packet = bytearray(generator.choice(seeds))
    for _ in range(generator.choice((0, 1, 1, 2, 4, 16))):
        packet[generator.randrange(len(packet))] = generator.choice(
            (0, 1, 0xFF, 0x7F, 0x80, generator.randrange(256))
        )
    header = family.pick(20, 40)
    if generator.random() < 0.4:
        del packet[generator.randrange(header, len(packet)) :]
    if generator.random() < 0.9:
        # Version, lengths and checksum as they should be.
        if family is V4:
            words = max(5, min(packet[0] & 15, len(packet) // 4))
            packet[0] = 0x40 | words
            packet[2:4] = struct.pack("!H", len(packet))
            packet[10:12] = bytes(2)
            packet[10:12] = struct.pack("!H", netlab.checksum(bytes(packet[: words * 4])))
        else:
            packet[0] = 0x60 | packet[0] & 15
            packet[4:6] = struct.pack("!H", len(packet) - header)
    return bytes(packet)


def seeds(wire, family):
    """Packets of all kinds that the rules and the dissection tell apart."""
    icmp = family.pick(1, 58)
    inner = bytes(icmp_message(wire.here, wire.source, 8, body=bytes(16)))
    out = [wire.packet(p, ports(1024, 53, bytes(60))) for p in (TCP, UDP, SCTP, 47, 50, 4, 253)]
    out += [wire.packet(icmp, bytes([kind]) + bytes(40)) for kind in (0, 3, 8, 13, 128, 135)]
    udp = wire.packet(UDP, ports(53, 1000, bytes(20)))
    reply = bytearray(udp)
    ends = slice(*family.pick((12, 20), (8, 40)))
    size = (ends.stop - ends.start) // 2
    reply[ends] = udp[ends][size:] + udp[ends][:size]
    for kind in family.pick((3, 4, 5, 11, 12), (1, 2, 3, 4)):
        for body in (udp, bytes(reply), inner):
            out.append(bytes(icmp_message(wire.source, wire.here, kind, body=body)))
    out += fragments(wire, UDP, ports(1, 53, bytes(200)))
    if family is V4:
        out += [
            wire.packet(UDP, ports(1, 53), options=b"\x01" * 40),
            wire.packet(AH, bytes(30)),
        ]
    else:
        for first, text in (*CHAINS, TOO_LONG):
            out.append(wire.packet(first, text + ports(1, 53)))
            body = wire.packet(first, text + ports(1, 53))
            out.append(bytes(icmp_message(wire.source, wire.here, 1, body=body)))
    return out


@pytest.mark.every_variant
@pytest.mark.parametrize("conntrack", [True, False], ids=["tracked", "conntrack-off"])
def test_garbage(ctskip, lab, family, conntrack):
    """2,000 packets that nobody sends: the kernel's log has nothing to say, and rules go on working."""
    wire = Wire(lab, family, mtu=9000)
    if conntrack:
        wire.watch()
    words = {
        "here": wire.here,
        "source": wire.source,
        "icmp": family.icmp,
        "proto": family.pick(1, 58),
        "ip": family.ip,
        "wide": family.pick("0.0.0.0/1", "8000::/1"),
    }
    ctskip.add(*filter(None, map(str.strip, RULES.format(**words).splitlines())))
    generator = random.Random(f"{family} {conntrack}")
    base = seeds(wire, family)
    paged = PagedSocket(wire)
    before = ctskip.stats()["seen"]
    head = family.pick(20, 40)
    for number in range(GARBAGE):
        packet = mutated(generator, base, family)
        if number % 4 == 0:
            packet += bytes(PagedSocket.SIZE)
        paged.send(packet, min(len(packet), generator.randrange(head, head + 60)))
    seen = ctskip.stats()["seen"] - before
    counts = packets(ctskip)
    assert seen > GARBAGE // 2
    assert sum(1 for count in counts if count) >= 8, counts
    last = counts[2]
    wire.send(wire.packet(UDP, ports(99, 53), destination=wire.here))
    wait_until(lambda: packets(ctskip)[2] == last + 1)
