# SPDX-License-Identifier: GPL-2.0
"""ICMP errors: decided by the packet that they quote.

A firewall that drops what conntrack finds invalid is in nearly all of these tests. An error about a
flow that is not tracked is invalid to conntrack; so where the error arrives, ctskip let it follow its
flow, and where it does not, ctskip left it alone.

The crafted errors all come in at `server` and quote a packet that it is to have sent from port 53 to
FAR, somewhere on the other side.
"""

import select
import socket
import struct

import netlab
import pytest
from netlab import V4, V6, icmp_message

FAR = {4: "198.51.100.7", 6: "2001:db8:7::7"}
OTHER = {4: "198.51.100.8", 6: "2001:db8:7::8"}

SOL_IPV6, IP_MTU_DISCOVER, IP_RECVERR, IP_MTU = 41, 10, 11, 14
IPV6_MTU_DISCOVER, IPV6_MTU, IPV6_RECVERR = 23, 24, 25
SO_RCVMARK = 75
PMTUDISC_DO = 2


def unreachable(family):
    """The type of unreachable, and the code of a port's."""
    return family.pick((3, 3), (1, 4))


def nft_error(family):
    """nft's match of an unreachable."""
    return f"{family.nft_icmp} type destination-unreachable"


def firewall(ns, more_input=""):
    """Drop what is invalid, both ways; this turns conntrack on."""
    ns.nft(f"""table inet firewall {{
        chain input {{ type filter hook input priority 0; ct state invalid counter drop; {more_input} }}
        chain output {{ type filter hook output priority 0; ct state invalid counter drop; }}
    }}""")


def masquerade(router):
    """Translate what a router sends to the server."""
    router.nft("""table inet nat {
        chain c { type nat hook postrouting priority srcnat; oifname "eth1" masquerade; }
    }""")


def dropped(ns, chain):
    """How many packets that firewall has dropped."""
    text = ns.nft(f"list chain inet firewall {chain}")
    return int(text.split("counter packets ")[1].split()[0])


class Sender:
    """A connected UDP socket that keeps the ICMP errors that it is sent."""

    def __init__(self, ns, address, port, hops=None, probe_mtu=False):
        self.family = netlab.family_of(address)
        self.level = self.family.pick(socket.IPPROTO_IP, SOL_IPV6)
        self.socket = ns.socket(self.family.af, socket.SOCK_DGRAM)
        self.set(IP_RECVERR, IPV6_RECVERR, 1)
        if hops:
            self.set(socket.IP_TTL, socket.IPV6_UNICAST_HOPS, hops)
        if probe_mtu:
            self.set(IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_DO)
        self.socket.connect((address, port))

    def set(self, v4, v6, value):
        self.socket.setsockopt(self.level, self.family.pick(v4, v6), value)

    def send(self, data=b"probe"):
        self.socket.send(data)
        return self

    def error(self, timeout=5.0):
        """The next error: (type, code, info), info being the MTU where there is one. None: none came."""
        poll = select.poll()
        poll.register(self.socket, 0)
        if not poll.poll(timeout * 1000):
            return None
        _, ancillary, _, _ = self.socket.recvmsg(4096, 1024, socket.MSG_ERRQUEUE)
        (data,) = [d for level, _, d in ancillary if level == self.level]
        _, _, kind, code, _, info = struct.unpack_from("=IBBBBI", data)
        return kind, code, info

    def mtu(self):
        """The path MTU that the host knows of."""
        return self.socket.getsockopt(self.level, self.family.pick(IP_MTU, IPV6_MTU))


def growth(ctskip):
    """A function that tells how far a total of `stats` has grown from here on."""
    before = ctskip.stats()
    return lambda name="icmp_errors_followed": ctskip.stats()[name] - before[name]


# --- path-MTU discovery ----------------------------------------------------------------------------


def narrow(lab):
    """client -- router -- server, where the router's route to the server takes 1,300 bytes."""
    client, router, server = lab.routed()
    for family in (V4, V6):
        address = server.addr(family)
        router.run(f"ip -{family.version} route add {address}/{family.bits} dev eth1 mtu 1300")
    server.udp_echo(7)
    server.tcp_echo(7)
    return client, router, server


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_path_mtu(ctskip, lab, family, protocol):
    client, router, server = narrow(lab)
    address = server.addr(family)
    firewall(client)
    firewall(router)  # its errors about an untracked packet have a null pointer and a ctinfo
    ctskip.add(f"{protocol} dst={address} dport=7")
    followed = growth(ctskip)
    probe = Sender(client, address, 7, probe_mtu=True)
    assert probe.mtu() == 1500
    if protocol == "tcp":
        data = bytes(range(250)) * 80
        assert client.tcp(address, 7, data) == data
        assert followed() >= 2
    else:
        probe.send(bytes(1400))
        assert probe.error() == (*family.pick((3, 4), (2, 0)), 1300)
        assert followed() == 2  # as the router sends it, and as the client gets it
        assert client.udp(address, 7, bytes(1200)) == bytes(1200)
    assert Sender(client, address, 7).mtu() == 1300
    for ns in (client, router):
        assert ns.entries() == []
        assert dropped(ns, "input") == dropped(ns, "output") == 0


def test_path_mtu_of_tracked_flow(ctskip, lab, family):
    client, router, server = narrow(lab)
    address = server.addr(family)
    firewall(client)
    firewall(router)
    watch = client.watch(f"{family.nft_icmp} type {family.pick(3, 2)}")
    ctskip.add(f"{family.icmp} any", "udp dport=9")
    followed = growth(ctskip)
    data = bytes(20000)
    assert client.tcp(address, 7, data) == data
    assert Sender(client, address, 7).mtu() == 1300
    assert set(watch.read("prerouting")) == {"related"}
    assert followed() == 0


@pytest.mark.own_module
def test_path_mtu_without_icmp_errors(ctskip, lab, family):
    client, router, server = narrow(lab)
    address = server.addr(family)
    firewall(client)
    assert ctskip.load(icmp_errors=0, rules=f"tcp,udp dst={address} dport=7") == 0
    probe = Sender(client, address, 7, probe_mtu=True).send(bytes(1400))
    netlab.wait_until(lambda: dropped(client, "input") == 1)
    assert probe.error(0.1) is None
    assert client.tcp(address, 7, bytes(20000), timeout=1.0) is None
    assert Sender(client, address, 7).mtu() == 1500
    assert dropped(client, "input") >= 2
    assert ctskip.stats()["icmp_errors_followed"] == 0


# --- errors that a host or a router makes ----------------------------------------------------------


def test_closed_port(ctskip, lab, family):
    client, server = lab.pair()
    address = server.addr(family)
    firewall(server)
    firewall(client)
    out = server.watch(nft_error(family))
    ctskip.add(f"udp dst={address} dport=9")
    followed = growth(ctskip)
    assert Sender(client, address, 9).send().error() == (*unreachable(family), 0)
    assert followed() == 2
    assert out.read("output") == {"untracked": 1}
    assert client.entries() == server.entries() == []
    # A rule for the server alone, whose error then is invalid at the client.
    ctskip.load_table(f"udp dst={address} dport=9 netns={server.inode}")
    client.nft("flush chain inet firewall output")
    client.flush()
    assert Sender(client, address, 9).send().error() == (*unreachable(family), 0)
    assert followed() == 3
    assert len(client.entries(family)) == 1 and server.entries() == []


@pytest.mark.parametrize("how", ["nft", "iptables"])
def test_reject(ctskip, lab, family, how):
    """An error and a reset that netfilter makes carry a null pointer and a non-zero ctinfo."""
    client, server = lab.pair()
    address = server.addr(family)
    if how == "nft":
        firewall(server, "udp dport 9 reject; tcp dport 9 reject with tcp reset;")
    else:
        firewall(server)
        server.iptables(family, "-A INPUT -p udp --dport 9 -j REJECT", legacy=True)
        server.iptables(
            family, "-A INPUT -p tcp --dport 9 -j REJECT --reject-with tcp-reset", legacy=True
        )
    firewall(client)
    out = server.watch()
    ctskip.add(f"tcp,udp dst={address} dport=9")
    followed = growth(ctskip)
    assert Sender(client, address, 9).send().error() == (*unreachable(family), 0)
    assert followed() == 2
    with client.socket(family.af, socket.SOCK_STREAM) as s:
        s.settimeout(5 * netlab.SLOWER)
        with pytest.raises(ConnectionRefusedError):
            s.connect((address, 9))
    assert out.read("output") == {"untracked": 2}
    assert client.entries() == server.entries() == []
    assert dropped(server, "output") == dropped(client, "input") == 0


def test_time_exceeded(ctskip, lab, family):
    """A traceroute's first hop."""
    client, router, server = lab.routed()
    address = server.addr(family)
    firewall(router)
    firewall(client)
    ctskip.add(f"udp dst={address} dport=33434-33523")
    followed = growth(ctskip)
    for port in (33434, 33435):
        error = Sender(client, address, port, hops=1).send().error()
        assert error == (*family.pick((11, 0), (3, 0)), 0)
    assert Sender(client, address, 33436).send().error() == (*unreachable(family), 0)
    assert followed() == 2 * 2 + 3
    assert client.entries() == router.entries() == []
    assert dropped(router, "output") == dropped(client, "input") == 0


# --- errors about flows that conntrack knows -------------------------------------------------------


def test_tracked_flow_under_icmp_any(ctskip, lab, family):
    client, server = lab.pair()
    address = server.addr(family)
    firewall(client)
    firewall(server)
    sent, got = (ns.watch(nft_error(family)) for ns in (server, client))
    rule = ctskip.add(f"{family.icmp} dst={address} any")
    followed = growth(ctskip)
    assert client.ping(address) == 1
    assert ctskip.counter(rule)["packets"] == 4
    assert Sender(client, address, 9).send().error() == (*unreachable(family), 0)
    assert sent.read("output") == got.read("prerouting") == {"related": 1}
    assert followed() == 0 and ctskip.counter(rule)["packets"] == 4
    assert [entry.protocol for entry in client.entries(family)] == ["udp"]
    # A rule that names the type decides about the error, whatever it quotes.
    ctskip.add(f"{family.icmp} type={unreachable(family)[0]}")
    assert Sender(client, address, 9).send().error() == (*unreachable(family), 0)
    assert sent.read("output") == {"related": 1, "untracked": 1}
    assert got.read("prerouting") == {"related": 1, "untracked": 1}
    assert followed() == 0


def test_translated_flow_under_icmp_any(ctskip, lab, family):
    client, router, server = lab.routed()
    address = server.addr(family)
    masquerade(router)
    ctskip.add(f"{family.icmp} any nat=ok")
    assert Sender(client, address, 9).send().error() == (*unreachable(family), 0)
    (entry,) = router.entries(family, "udp")
    assert entry.reply["dst"] == router.addr(family, 1)
    # Were it skipped, it would not get back.
    ctskip.commit(f"insert {family.icmp} type={unreachable(family)[0]} nat=ok")
    assert Sender(client, address, 9).send().error(0.3) is None


def test_error_about_held_flow(ctskip, lab, family):
    """Where the guard holds a flow, its errors stay with it and are translated too."""
    client, router, server = lab.routed()
    address = server.addr(family)
    masquerade(router)
    rule = ctskip.add(f"udp dst={address} dport=9 netns={router.inode}")
    followed = growth(ctskip)
    assert Sender(client, address, 9).send().error() == (*unreachable(family), 0)
    counter = ctskip.counter(rule)
    assert (counter["packets"], counter["held"]) == (0, 2)
    assert followed() == 0


# --- crafted errors --------------------------------------------------------------------------------


class Target:
    """`server`, which is sent ICMP errors from the wire.

    A raw socket receives them all, with the state that they had behind conntrack as their mark.
    """

    STATES = ("untracked", "new", "established", "related", "invalid")

    def __init__(self, lab, family):
        self.client, self.server = lab.pair()
        (self.link,) = self.server.links
        self.family = family
        self.here, self.from_ = self.server.addr(family), self.client.addr(family)
        marks = ", ".join(f"{state} : {mark}" for mark, state in enumerate(self.STATES, 1))
        self.server.nft(f"""table inet states {{
            chain c {{
                type filter hook prerouting priority -150;
                meta mark set ct state map {{ {marks} }};
            }}
        }}""")
        protocol = family.pick(socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6)
        self.socket = self.server.socket(family.af, socket.SOCK_RAW, protocol)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVMARK, 1)
        self.socket.settimeout(5 * netlab.SLOWER)

    def quoted(self, source=None, destination=None, payload=None, **header):
        """The packet that is quoted: UDP from server's port 53 to FAR, unless said."""
        from scapy.layers.inet import IP, UDP
        from scapy.layers.inet6 import IPv6

        network = self.family.pick(IP, IPv6)(
            src=source or self.here, dst=destination or FAR[self.family.version], **header
        )
        if payload is None:
            payload = UDP(sport=53, dport=4000) / b"answer"
        elif "proto" not in header and "nh" not in header:
            network = self.family.pick(IP, IPv6)(
                src=network.src,
                dst=network.dst,
                **header,
                **self.family.pick({"proto": 17}, {"nh": 17}),
            )
        return bytes(network / payload)

    def error(self, quoted=None, kind=None, destination=None, code=0):
        """An error, unreachable unless said."""
        kind = unreachable(self.family)[0] if kind is None else kind
        quoted = self.quoted() if quoted is None else quoted
        return icmp_message(self.from_, destination or self.here, kind, code, body=quoted)

    def states(self, *packets):
        """The states in which packets are behind conntrack: {state: packets}."""
        found = {}
        for packet in packets:
            state = self.state(bytes(packet))
            found[state] = found.get(state, 0) + 1
        return found

    def state(self, packet):
        """The same of one packet."""
        message = packet[self.family.pick(20, 40) :]
        self.link.send(self.client, packet)
        while True:
            data, ancillary, _, (source, *_) = self.socket.recvmsg(65535, 64)
            if source == self.from_ and data.endswith(message):
                ((_, _, mark),) = ancillary
                return self.STATES[struct.unpack("=I", mark)[0] - 1]


@pytest.fixture
def target(lab, family):
    return Target(lab, family)


def test_every_kind(ctskip, target, family):
    ctskip.add("udp dport=53")
    followed = growth(ctskip)
    errors = family.pick((3, 4, 5, 11, 12), (1, 2, 3, 4))
    others = family.pick(
        (0, 6, 8, 9, 10, 13, 14, 15, 17, 40, 255), (5, 100, 127, 128, 129, 139, 200)
    )
    for kind in errors:
        assert target.states(target.error(kind=kind)) == {"untracked": 1}, kind
    assert followed() == len(errors)
    for code in range(1, 6):
        assert target.states(target.error(code=code)) == {"untracked": 1}, code
    states = target.states(*(target.error(kind=kind) for kind in others))
    assert sum(states.values()) == len(others) and "untracked" not in states
    assert followed() == len(errors) + 5
    ctskip.commit("flush")
    states = target.states(*(target.error(kind=kind) for kind in errors))
    assert states == {"invalid": len(errors)}


TABLES = [
    # rules, whether the error is skipped, whether it counts as one that followed
    ("udp dport=53", True, True),
    ("udp dport=54", False, False),
    ("udp any", True, True),
    ("any", True, True),
    ("dst={here} any", True, True),
    ("src={far} dst={here} any", True, True),
    ("src={here} dst={from_} any", False, False),  # the error's own addresses
    ("{icmp} any", False, False),
    ("{icmp} dst={here} any", False, False),
    ("{icmp} any; udp dport=53", True, True),
    ("track {icmp} any; udp dport=53", True, True),
    ("{icmp} type={type}", True, False),
    ("{icmp} type={type} src={from_}", True, False),
    ("{icmp} type={type} src={far}", False, False),
    ("{icmp} type=0-{type}", True, False),
    ("{icmp} type=11-12,{type}", True, False),
    ("{icmp} type=20-30", False, False),
    # The first in the table that matches either, decides.
    ("track {icmp} type={type}; udp dport=53", False, False),
    ("udp dport=53; track {icmp} type={type}", True, True),
    ("track udp dport=53; {icmp} type={type}", False, False),
    ("{icmp} type={type}; track udp dport=53", True, False),
    ("track udp dport=53; any", False, False),
    # The quoted packet went out of this host, from port 53.
    ("udp sport=53 oneway", True, True),
    ("udp dport=53 oneway", False, False),
    ("udp src={here} sport=53 oneway", True, True),
    ("udp dst={here} dport=53 oneway", False, False),
    ("udp dport=53 local=dst", True, True),
    ("udp dport=53 local=src", False, False),
    ("udp sport=53 local=src", True, True),
    ("udp sport=53 local=src oneway", True, True),
    ("udp sport=53 local=dst", False, False),
    ("udp dport=53 local=dst oneway", False, False),
    # The device is the error's own.
    ("udp dport=53 dev=eth0", True, True),
    ("udp dport=53 dev=eth1", False, False),
]


def test_tables(ctskip, target, family):
    words = {
        "icmp": family.icmp,
        "type": unreachable(family)[0],
        "here": target.here,
        "from_": target.from_,
        "far": FAR[family.version],
    }
    for text, skipped, follows in TABLES:
        ctskip.load_table(text.format(**words).replace("; ", "\n"))
        followed = growth(ctskip)
        got = target.states(target.error()), followed()
        assert got == ({"untracked" if skipped else "invalid": 1}, int(follows)), text


def test_track_rule_counts_the_error(ctskip, target):
    rule = ctskip.add("track udp dport=53")
    tracked = growth(ctskip)
    assert target.states(target.error()) == {"invalid": 1}
    assert ctskip.counter(rule)["packets"] == 1
    assert tracked("tracked") == 1


def test_forged(ctskip, target, family):
    """An error follows only where it goes to the one who sent what it quotes."""
    ctskip.add("udp dport=53", f"dst={OTHER[family.version]} any")
    followed = growth(ctskip)
    elsewhere = target.quoted(source=OTHER[family.version])
    turned = target.quoted(source=FAR[family.version], destination=target.here)
    assert target.states(target.error(elsewhere), target.error(turned)) == {"invalid": 2}
    # On its way through, to whom it belongs.
    assert followed() == 0
    watch = target.server.watch(f"{family.ip} daddr {OTHER[family.version]}")
    through = target.error(elsewhere, destination=OTHER[family.version])
    target.link.send(target.client, through)
    assert watch.more("prerouting", 1) == {"untracked": 1}
    assert followed() == 1


def test_redirect_of_linux(ctskip, lab):
    """A router that knows the better one's link-layer address puts it ahead of the quoted packet."""
    target = Target(lab, V6)
    ctskip.add("udp dport=53")
    followed = growth(ctskip)
    quoted = bytes(target.quoted())
    quote = bytes([4, len(quoted) // 8 + 1]) + bytes(6) + quoted + bytes(-len(quoted) % 8)
    for options in (quote, bytes([2, 1]) + bytes(6) + quote):
        before = followed()
        body = bytes(32) + options
        assert target.states(
            icmp_message(target.from_, target.here, 137, 0, body=body)
        ) == {"untracked": 1}
        assert followed() == before + 1


def test_error_about_an_error(ctskip, target, family):
    ctskip.add("any")
    followed = growth(ctskip)
    inner = icmp_message(
        target.here,
        FAR[family.version],
        unreachable(family)[0],
        body=target.quoted(source=FAR[family.version], destination=target.here),
    )
    assert target.states(target.error(bytes(inner))) == {"invalid": 1}
    assert followed() == 0
    ctskip.commit(f"add {family.icmp} type={unreachable(family)[0]}")
    assert target.states(target.error(bytes(inner))) == {"untracked": 1}
    assert followed() == 0


def test_error_about_an_echo(ctskip, target, family):
    ctskip.add(f"{family.icmp} type={family.echo_request}")
    followed = growth(ctskip)
    ends = target.here, FAR[family.version]
    echoes = [
        bytes(icmp_message(*ends, kind, rest=0x12340001))
        for kind in (family.echo_request, family.echo_reply, family.pick(13, 139))
    ]
    states = target.states(*map(target.error, echoes))
    assert states == {"untracked": 2, "invalid": 1}
    assert followed() == 2


def test_quoted_cut_short(ctskip, target, family):
    """A quoted packet without ports to read matches rules that name none."""
    whole = target.quoted()
    header = family.pick(20, 40)
    later = (
        target.quoted(payload=bytes(16), **family.pick({"frag": 3}, {})) if family is V4 else None
    )
    without_ports = [whole[:header], whole[: header + 2], whole[: header + 3]]
    if later:
        without_ports.append(later)
    no_header = [b"", whole[:1], whole[: header - 1]]
    ctskip.add("udp sport=0-65535 any", "udp dport=53")
    followed = growth(ctskip)
    packets = [target.error(quoted) for quoted in without_ports]
    assert target.states(*packets) == {"invalid": len(packets)}
    assert target.states(target.error(whole[: header + 4])) == {"untracked": 1}
    assert followed() == 1
    ctskip.add("udp any")
    assert target.states(*packets) == {"untracked": len(packets)}
    assert followed() == 1 + len(packets)
    ctskip.add("any")
    packets = [target.error(quoted) for quoted in no_header]
    assert target.states(*packets) == {"invalid": len(packets)}


def test_quoted_headers(ctskip, target, family):
    """The quoted packet's own options and extension headers are passed over."""
    from scapy.layers.inet import UDP

    udp = bytes(UDP(sport=53, dport=4000, len=8))
    if family is V4:
        quoted = [
            target.quoted(payload=udp, options=b"\1" * 4 * words, proto=17) for words in (1, 5, 10)
        ]
    else:
        chain = bytes([60, 0, 1, 4, 0, 0, 0, 0])  # hop-by-hop options, padding
        chain += bytes([17, 1, 1, 12]) + bytes(12)  # destination options, padding
        quoted = [target.quoted(payload=chain + udp, nh=0)]
    ctskip.add("udp dport=53")
    followed = growth(ctskip)
    packets = [target.error(one) for one in quoted]
    assert target.states(*packets) == {"untracked": len(packets)}
    assert followed() == len(packets)


def test_quoted_of_the_other_version(ctskip, target, family):
    """It is taken for one of the error's own, as conntrack takes it."""
    ctskip.add("any")
    other = bytearray(target.quoted())
    other[0] ^= 0x20
    assert target.states(target.error(bytes(other))) == {"untracked": 1}


@pytest.mark.own_module
def test_without_icmp_errors(ctskip, target, family):
    """icmp_errors=0: an error is a packet like any other."""
    assert ctskip.load(icmp_errors=0) == 0
    ctskip.add("udp dport=53")
    assert target.states(target.error()) == {"invalid": 1}
    ctskip.add(f"{family.icmp} any")
    assert target.states(target.error()) == {"untracked": 1}
    ctskip.load_table("track udp dport=53\nany")
    assert target.states(target.error()) == {"untracked": 1}
    assert ctskip.stats()["icmp_errors_followed"] == 0


def test_observed(ctskip, target):
    """mode=observe counts the error and leaves it."""
    rule = ctskip.add("udp dport=53")
    ctskip.mode = "observe"
    assert target.states(target.error()) == {"invalid": 1}
    assert (ctskip.counter(rule)["packets"], ctskip.counter(rule)["observed"]) == (0, 1)
