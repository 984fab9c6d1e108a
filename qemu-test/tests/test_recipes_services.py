# SPDX-License-Identifier: GPL-2.0
"""The recipes of docs/recipes-services.md; see netlab/recipes.py for how they are run.

Where the guest's kernel can, the services are real: tunnel devices, IPVS, SYNPROXY, TPROXY, the SIP helper.
"""

import contextlib
import errno
import socket
import struct
from base64 import b64encode

import netlab
import pytest
from netlab import V4, wait_until
from netlab.recipes import echo, is_tracked, port, states, tcp, udp

HERE, THERE = "198.51.100.1", "198.51.100.2"
INNER_HERE, INNER_THERE = "10.77.0.1", "10.77.0.2"
# What documents say is seen on the stock kernel.
pytestmark = pytest.mark.not_quick

WEB = "192.0.2.80"


@pytest.fixture
def peer(host):
    """The host as 198.51.100.1, and its neighbour as 198.51.100.2."""
    host.own(HERE)
    host.server.add_address("eth0", THERE, 32)
    from_to(host, HERE, THERE)
    return host.server


def from_to(host, here, there):
    """Have the host and its server send by these addresses to each other."""
    gateways = host.server.addr(V4), host.init.addr(V4, 1)
    for ns, own, other, gateway in zip(
        (host.init, host.server), (here, there), (there, here), gateways, strict=True
    ):
        ns.ip.route("add", dst=f"{other}/32", gateway=gateway, prefsrc=own)


def need(host, *modules):
    """Skip the test where the kernel has no such module."""
    for module in modules:
        if host.init.run(["modprobe", module], check=False).returncode:
            pytest.skip(f"this kernel has no module {module}")


@contextlib.contextmanager
def afterwards(ns, *commands):
    """Undo by these commands what a test does to the initial namespace."""
    try:
        yield
    finally:
        for command in commands:
            ns.run(command, check=False)


def other_is_tracked(flow, *watches):
    """Tell whether another flow passes, and is tracked."""
    for watch in watches:
        watch.reset()
    return flow() and "untracked" not in states(*watches)


def ping(ns, address):
    """A flow: an echo request and its answer."""
    return lambda: ns.ping(address) == 1


# Tunnels: how to make one device at an end, from the local and the remote address.
DEVICES = {
    "vxlan": "ip link add tun0 type vxlan id 7 local {0} remote {1} dstport 4789",
    "geneve": "ip link add tun0 type geneve id 7 remote {1} dstport 6081",
    "gre": "ip link add tun0 type gre local {0} remote {1}",
    "wireguard": "ip link add tun0 type wireguard",
}
OUTER = {
    "vxlan": "udp dport 4789",
    "geneve": "udp dport 6081",
    "gre": "ip protocol gre",
    "wireguard": "udp dport 51820",
}


def wireguard(one, other):
    """Make two ends peers of each other."""
    from pyroute2 import WireGuard

    public = []
    for ns, key in ((one, b"\1"), (other, b"\2")):
        with ns.inside(), contextlib.closing(WireGuard()) as control:
            private = b64encode(key * 32).decode()
            control.set("tun0", private_key=private, listen_port=51820)
            public.append(control.info("tun0")[0].get_attr("WGDEVICE_A_PUBLIC_KEY").decode())
    for ns, key, outer, inner in (
        (one, public[1], THERE, INNER_THERE),
        (other, public[0], HERE, INNER_HERE),
    ):
        with ns.inside(), contextlib.closing(WireGuard()) as control:
            end = {"endpoint_addr": outer, "endpoint_port": 51820}
            control.set("tun0", peer={"public_key": key, "allowed_ips": [f"{inner}/32"], **end})


@pytest.mark.parametrize("kind", DEVICES)
def test_tunnels(ctskip, host, peer, kind):
    """Through a device of each kind: the outer packets are skipped, the inner ones tracked."""
    need(host, {"gre": "ip_gre"}.get(kind, kind))
    ends = (host.init, HERE, THERE, INNER_HERE), (peer, THERE, HERE, INNER_THERE)
    with afterwards(host.init, "ip link del tun0"):
        for ns, own, other, inner in ends:
            ns.run(DEVICES[kind].format(own, other))
            ns.add_address("tun0", inner, 24)
            ns.ip.link("set", index=ns.index("tun0"), state="up")
        if kind == "wireguard":
            wireguard(host.init, peer)
        outer, inner = host.watch(OUTER[kind]), host.watch("icmp type { echo-request, echo-reply }")
        flows = [ping(peer, INNER_HERE), ping(host.init, INNER_THERE)]
        host.run("tunnels", *flows)
        assert states(outer) == {"untracked"}
        assert states(inner) <= {"new", "established"}
        assert set(outer.read()) >= {"prerouting", "input", "output"}
        assert sum(counter["packets"] for counter in ctskip.counters())
        echo(host.init, 9999, HERE)
        assert is_tracked(host, 9999, udp(peer, HERE, 9999, source=THERE))


AEAD = "aead 'rfc4106(gcm(aes))' 0x0102030405060708090a0b0c0d0e0f1011121314 128"


def security(ns, outer, inner, encap):
    """Give an end its IPsec states and policies."""
    (own, other), (own_inner, other_inner) = outer, inner
    script = ""
    for src, dst, way, spi in ((own, other, "out", encap[0]), (other, own, "in", encap[1])):
        net = (own_inner, other_inner) if way == "out" else (other_inner, own_inner)
        script += (
            f"xfrm state add src {src} dst {dst} proto esp spi {spi} reqid 1 mode tunnel {AEAD}"
            f"{encap[2]}\n"
            f"xfrm policy add src {net[0]} dst {net[1]} dir {way} "
            f"tmpl src {src} dst {dst} proto esp reqid 1 mode tunnel\n"
        )
    ns.run("ip -batch -", stdin=script)


@pytest.mark.parametrize("kind", ["esp", "udp"])
def test_ipsec(ctskip, host, peer, kind):
    """ESP itself, and ESP in UDP port 4500; the keys are set by hand, so IKE is an echo."""
    need(host, "esp4", "xfrm_user", "gcm")
    encap = " encap espinudp 4500 4500 0.0.0.0" if kind == "udp" else ""
    ends = (
        (host.init, (HERE, THERE), (INNER_HERE, INNER_THERE)),
        (
            peer,
            (THERE, HERE),
            (INNER_THERE, INNER_HERE),
        ),
    )
    with afterwards(host.init, "ip xfrm policy flush", "ip xfrm state flush"):
        for (ns, outer, inner), device, spis in zip(
            ends, ("lab1", "eth0"), ((1000, 2000), (2000, 1000)), strict=True
        ):
            ns.add_address(device, inner[0], 32)
            if kind == "udp":
                taken = ns.socket(socket.AF_INET, socket.SOCK_DGRAM)
                taken.setsockopt(socket.IPPROTO_UDP, 100, 2)  # UDP_ENCAP, UDP_ENCAP_ESPINUDP
                taken.bind((outer[0], 4500))
            security(ns, outer, inner, (*spis, encap))
        from_to(host, INNER_HERE, INNER_THERE)
        echo(host.init, 500, HERE)
        outer = host.watch({"esp": "ip protocol esp", "udp": "udp dport 4500"}[kind])
        inner = host.watch("icmp type { echo-request, echo-reply }")
        ike = [host.watch(match) for match in port(500)]
        host.run(
            "ipsec",
            ping(peer, INNER_HERE),
            ping(host.init, INNER_THERE),
            udp(peer, HERE, 500, source=THERE, sport=500),
        )
        assert states(outer, *ike) == {"untracked"}
        assert states(inner) <= {"new", "established"}


def director(host, way, server):
    """Make the host an LVS director for 192.0.2.80, port 80."""
    host.own(WEB)
    host.init.run("ipvsadm -R", stdin=f"-A -t {WEB}:80 -s rr\n-a -t {WEB}:80 -r {server} -{way}\n")


def test_lvs_direct(ctskip, host, lab):
    """The server answers the client past the director. Late packets are not lost."""
    from scapy.layers.inet import IP, TCP

    need(host, "ip_vs", "ip_vs_rr")
    lab.link(host.client, host.server)
    host.server.add_address("lo", WEB, 32)
    host.server.route(f"{host.client.addr(V4)}/32", host.client.addr(V4, 1))
    echo(host.server, 80, WEB)
    with afterwards(host.init, "ipvsadm -C", "modprobe -r ip_vs_rr ip_vs"):
        director(host, "g", f"{host.server.addr(V4)}:80")
        watches = [host.watch("tcp dport 80")]
        # What a director needs while it tracks them: it sees one direction.
        host.init.nft(
            f"add rule inet filter input ip daddr {WEB} tcp dport 80 ct state invalid accept"
        )
        host.run("lvs-direct", tcp(host.client, WEB, 80))
        assert states(*watches) == {"untracked"}
        assert host.entries(80) == []

        def reset():
            """A reset of a connection that conntrack has not seen."""
            late = IP(src=host.client.addr(V4), dst=WEB) / TCP(sport=999, dport=80, flags="R")
            watches[0].reset()
            host.client.send_ip(late)
            return watches[0].more("prerouting", 1)

        assert reset() == {"untracked": 1}
        ctskip.commit("flush")
        assert reset() == {"invalid": 1}


@pytest.mark.parametrize("tracks", [1, 0], ids=["conntrack", "no_conntrack"])
def test_lvs_masquerading(ctskip, host, tracks):
    """IPVS translates packets that are skipped, whatever it does with conntrack; half of a connection dies."""
    need(host, "ip_vs", "ip_vs_rr")
    echo(host.server, 80, host.server.addr(V4))
    with afterwards(host.init, "ipvsadm -C", "modprobe -r ip_vs_rr ip_vs"):
        director(host, "m", f"{host.server.addr(V4)}:80")
        # Without it, a firewall that asks for states drops the answers: they are invalid.
        host.init.sysctl("net.ipv4.vs.conntrack", 1)
        watches = [host.watch(match) for match in port(80)]
        flow = tcp(host.client, WEB, 80)
        host.run("lvs-masquerading", flow)
        host.init.sysctl("net.ipv4.vs.conntrack", tracks)
        for watch in watches:
            watch.reset()
        assert flow()
        assert states(*watches) == {"untracked"}
        assert not any(line["nat"] != "no" for line in ctskip.netns() if line["netns"] == "init")
        assert not any(counter["held"] for counter in ctskip.counters())
        assert host.entries(80) == []
        ctskip.commit("flush", f"tcp dst={WEB} dport=80")
        assert not tcp(host.client, WEB, 80, timeout=2 * netlab.SLOWER)()


INVITE = """\
INVITE sip:b@{server} SIP/2.0
Via: SIP/2.0/UDP {client}:5060;branch=z9hG4bK1
From: <sip:a@{client}>;tag=1
To: <sip:b@{server}>
Call-ID: {call}@{client}
CSeq: 1 INVITE
Contact: <sip:a@{client}:5060>
Max-Forwards: 70
Content-Type: application/sdp
Content-Length: {length}

{body}"""
MEDIA = """\
v=0
o=- 1 1 IN IP4 {client}
s=-
c=IN IP4 {client}
t=0 0
m=audio 30000 RTP/AVP 0
"""


def invite(client, server, call):
    """A call's first message."""
    body = MEDIA.format(client=client).replace("\n", "\r\n")
    text = INVITE.replace("\n", "\r\n")
    return text.format(
        client=client, server=server, call=call, body=body, length=len(body)
    ).encode()


def expected(host):
    """How many flows helpers expect."""
    with host.init.inside(), open("/proc/thread-self/net/nf_conntrack_expect") as file:
        return len(file.readlines())


@pytest.fixture
def phone(host):
    """A telephone server with the SIP helper: a flow that is one message, and an answer."""
    need(host, "nf_conntrack_sip")
    server, client = "192.0.2.60", host.client.addr(V4)
    host.own(server)
    taken = host.init.socket(socket.AF_INET, socket.SOCK_DGRAM)
    taken.bind((server, 5060))
    # Not echoed: what a call announces is forgotten with another one's first message.
    host.init.lab.reactor.serve(taken, lambda s: s.sendto(b"taken", s.recvfrom(65535)[1]))
    host.init.nft("""
        table ip voip {
            ct helper sip { type "sip" protocol udp; l3proto ip; }
            chain c { type filter hook prerouting priority filter; udp dport 5060 ct helper set "sip"; }
        }""")

    def call(number):
        message = invite(client, server, number)
        return host.client.udp(server, 5060, data=message, sport=5060, source=client) == b"taken"

    return call


def test_rtp(ctskip, host, phone):
    """The media are skipped; the helper reads the calls as before."""
    server = "192.0.2.60"
    echo(host.init, 12000, server)
    media = [host.watch(match) for match in port(12000)]
    calls = [host.watch(match) for match in port(5060)]
    host.run("rtp", udp(host.client, server, 12000, sport=30000), lambda: phone(1))
    assert states(*media) == {"untracked"}
    assert "untracked" not in states(*calls)
    assert expected(host)


def test_sip(ctskip, host, phone):
    """What the document warns of: the helper expects nothing of a skipped call."""
    watches = [host.watch(match) for match in port(5060)]
    echo(host.init, 5061, "192.0.2.60")
    host.run("sip", lambda: phone(1))
    assert states(*watches) == {"untracked"}
    assert expected(host)  # of the calls before
    host.init.flush()
    assert phone(2)
    assert not expected(host)
    assert is_tracked(host, 5061, udp(host.client, "192.0.2.60", 5061))


def sends(ns, address, number, taken):
    """A flow: a datagram that nobody answers."""

    def flow():
        ns.udp_send(address, number, b"message")
        return taken.recv(100) == b"message"

    return flow


def test_syslog_server(ctskip, host):
    host.own("192.0.2.14")
    taken = host.init.socket(socket.AF_INET, socket.SOCK_DGRAM)
    taken.bind(("192.0.2.14", 514))
    taken.settimeout(2 * netlab.SLOWER)
    echo(host.init, 514, host.init.addr(V4))
    watches = [host.watch("udp dport 514")]
    host.run("syslog-server", sends(host.client, "192.0.2.14", 514, taken))
    assert states(*watches) == {"untracked"}
    assert other_is_tracked(udp(host.client, host.init.addr(V4), 514), *watches)


def test_ntp_server(ctskip, host):
    """Its own questions, from port 123, are skipped, too; from another port they are not."""
    server, other = "192.0.2.123", "198.51.100.123"
    host.own(server)
    host.reach(host.server, other)
    echo(host.init, 123, server)
    echo(host.server, 123, other)
    watches = [host.watch(match) for match in port(123)]
    host.run(
        "ntp-server",
        udp(host.client, server, 123),
        udp(host.client, server, 123, sport=123),
        udp(host.init, other, 123, source=server, sport=123),
    )
    assert states(*watches) == {"untracked"}
    assert other_is_tracked(udp(host.init, other, 123, source=server), *watches)


def test_ntp_client(ctskip, host):
    client, server, other = "192.0.2.7", "198.51.100.123", "198.51.100.124"
    host.own(client)
    host.reach(host.server, server, other)
    for address in (server, other):
        echo(host.server, 123, address)
    watches = [host.watch(match) for match in port(123)]
    flows = [udp(host.init, server, 123, source=client, sport=sport) for sport in (0, 123)]
    host.run("ntp-client", *flows)
    assert states(*watches) == {"untracked"}
    assert other_is_tracked(udp(host.init, other, 123, source=client), *watches)


def test_prometheus_target(ctskip, host):
    host.reach(host.client, "192.0.2.9")
    node = host.init.addr(V4)
    host.init.tcp_echo(9100)
    watches = [host.watch(match) for match in port(9100)]
    host.run("prometheus-target", tcp(host.client, node, 9100, source="192.0.2.9"))
    assert states(*watches) == {"untracked"}
    assert other_is_tracked(tcp(host.client, node, 9100), *watches)


def begins_nothing(host, peer, source, address, sport):
    """Tell whether the firewall drops a first packet from the port of answers, and takes others."""
    from scapy.layers.inet import IP, TCP

    kinds = {"first": "==", "others": "!="}
    counters = "".join(f"counter {name} {{ }}\n" for name in kinds)
    rules = "".join(
        f"tcp sport {sport} tcp dport 9999 tcp flags & (syn | ack) {sign} syn counter name {name}\n"
        for name, sign in kinds.items()
    )
    behind = f"chain c {{ type filter hook input priority filter + 1; {rules} }}"
    host.init.nft(f"table inet behind {{ {counters}{behind}\n}}")
    for flags in "SA":
        peer.send_ip(IP(src=source, dst=address) / TCP(sport=sport, dport=9999, flags=flags))
    wait_until(lambda: "packets 1 " in host.init.nft("list counter inet behind others"))
    return "packets 0 " in host.init.nft("list counter inet behind first")


def test_prometheus_server(ctskip, host):
    """The line for the answers lets in no new connection."""
    server, target = "192.0.2.9", "198.51.100.7"
    host.own(server)
    host.reach(host.server, target, "203.0.113.7")
    for address in (target, "203.0.113.7"):
        host.server.tcp_echo(9100, address)
    watches = [host.watch(match) for match in port(9100)]
    host.run("prometheus-server", tcp(host.init, target, 9100, source=server))
    assert states(*watches) == {"untracked"}
    assert begins_nothing(host, host.server, target, server, 9100)
    assert other_is_tracked(tcp(host.init, "203.0.113.7", 9100, source=server), *watches)


def vrrp(host, sender, receiver, device, source):
    """A flow: an advertisement of a router, to the group of VRRP."""
    group = socket.inet_aton("224.0.0.18")
    taken = receiver.socket(socket.AF_INET, socket.SOCK_RAW, 112)
    index = receiver.index(device[1])
    member = struct.pack("4s4si", group, bytes(4), index)
    taken.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
    taken.settimeout(2 * netlab.SLOWER)
    made = sender.socket(socket.AF_INET, socket.SOCK_RAW, 112)
    made.bind((source, 0))
    by = struct.pack("4s4si", bytes(4), socket.inet_aton(source), sender.index(device[0]))
    made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, by)
    made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)

    def flow():
        made.sendto(b"\x21\x01\x64\x00\x00\x01\x00\x00", ("224.0.0.18", 0))
        return bool(taken.recv(100))

    return flow


def test_routing(ctskip, host, peer):
    for number in (179, 3784):
        echo(host.init, number, HERE)
        echo(peer, number, THERE)
    watches = [host.watch(match) for number in (179, 3784) for match in port(number)]
    vrrps = host.watch("ip protocol 112")
    host.run(
        "routing",
        tcp(peer, HERE, 179, source=THERE),
        tcp(host.init, THERE, 179, source=HERE),
        udp(peer, HERE, 3784, source=THERE),
        udp(host.init, THERE, 3784, source=HERE, sport=3784),
        vrrp(host, peer, host.init, ("eth0", "lab1"), THERE),
        vrrp(host, host.init, peer, ("lab1", "eth0"), HERE),
    )
    assert states(vrrps, *watches) == {"untracked"}
    assert begins_nothing(host, peer, THERE, HERE, 179)
    echo(host.init, 180, HERE)
    assert is_tracked(host, 180, tcp(peer, HERE, 180, source=THERE))


SYNPROXY = f"""
    table inet shield {{
        chain begin {{
            type filter hook prerouting priority raw;
            ip daddr {WEB} tcp dport 80 tcp flags & (fin | syn | rst | ack) == syn notrack
        }}
        chain pass {{
            type filter hook forward priority filter - 1;
            ip daddr {WEB} tcp dport 80 ct state {{ invalid, untracked }} synproxy mss 1460 timestamp sack-perm
        }}
    }}"""


def test_synproxy(ctskip, host):
    """Beside a broad rule; without the rule ahead, no connection comes about."""
    need(host, "nft_synproxy")
    other = "192.0.2.81"
    host.reach(host.server, WEB, other)
    for address in (WEB, other):
        echo(host.server, 80, address)
    loose = "net.netfilter.nf_conntrack_tcp_loose"
    before = host.init.sysctl(loose)
    host.init.sysctl(loose, 0)
    try:
        host.init.nft(SYNPROXY)
        proxied, plain = tcp(host.client, WEB, 80), tcp(host.client, other, 80)
        skipped = [
            host.watch(f"tcp {end} 80 ip {address} {other}")
            for end, address in (("dport", "daddr"), ("sport", "saddr"))
        ]
        answers = host.watch(f"tcp sport 80 ip saddr {WEB}")
        host.run("synproxy", proxied, plain)
        assert states(*skipped) == {"untracked"}
        assert "established" in states(answers)
        assert [e.original["dst"] for e in host.entries(80)].count(WEB)
        assert other not in [e.original["dst"] for e in host.entries(80)]
        # The same, by a rule in place of the line with notrack.
        host.init.nft("flush chain inet shield begin")
        ctskip.commit(f"insert tcp dst={WEB} dport=80 flags=syn tag=web")
        assert proxied()
        ctskip.commit("flush", "tcp dst=192.0.2.0/24 dport=80")
        assert not tcp(host.client, WEB, 80, timeout=2 * netlab.SLOWER)()
    finally:
        host.init.sysctl(loose, before)


class Proxy:
    """A transparent proxy that echoes: what its connections know of the address that was asked for."""

    ORIGINAL_DST = 80

    def __init__(self, host):
        self.seen = []
        self.reactor = host.init.lab.reactor
        listener = host.init.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_IP, socket.IP_TRANSPARENT, 1)
        listener.bind(("0.0.0.0", 3128))
        listener.listen(16)
        self.reactor.serve(listener, self.accept)

    def accept(self, listener):
        """Take a connection."""
        connection, _ = listener.accept()
        try:
            raw = connection.getsockopt(socket.SOL_IP, self.ORIGINAL_DST, 16)
            original = socket.inet_ntoa(raw[4:8])
        except OSError as error:
            original = error.errno
        self.seen.append((connection.getsockname()[0], original))
        self.reactor.selector.register(connection, 1, self.reactor.stream)


def test_tproxy(ctskip, host):
    """For an address on no device; and what the document says of other rules."""
    need(host, "nft_tproxy")
    undo = "ip rule del fwmark 1 lookup 100", "ip route flush table 100"
    with afterwards(host.init, *undo):
        host.init.run("ip rule add fwmark 1 lookup 100")
        host.init.run("ip route add local default dev lo table 100")
        host.init.nft(f"""
            table ip divert {{
                chain c {{
                    type filter hook prerouting priority mangle;
                    ip daddr {WEB} tcp dport 80 tproxy to :3128 meta mark set 1 accept
                }}
            }}""")
        proxy = Proxy(host)
        watches = [host.watch(match) for match in port(80)]
        flow = tcp(host.client, WEB, 80)
        assert flow()
        assert proxy.seen == [(WEB, WEB)]
        host.run("tproxy", flow)
        assert states(*watches) == {"untracked"}
        assert host.entries(80) == []
        assert proxy.seen[-1] == (WEB, errno.ENOENT)
        ctskip.commit("flush", "tcp local=dst dport=80")
        assert other_is_tracked(flow, *watches)
        assert not any(counter["packets"] for counter in ctskip.counters())
        host.init.flush()
        ctskip.commit("flush", f"tcp dst={WEB} dport=80 oneway")
        flow()
        wait_until(lambda: [e for e in host.init.entries() if e.original["src"] == WEB])
