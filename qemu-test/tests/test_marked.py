# SPDX-License-Identifier: GPL-2.0
"""Packets that come marked already, and packets that pass the hooks twice.

Marked is a packet with a conntrack pointer (an entry or a template) or with the untracked mark: ctskip
leaves it as it is and counts it under its own name in `stats`.
"""

import socket

import netlab
import pytest
from netlab import V4, V6


def growth(ctskip):
    """A function that gives how far the totals of packets left alone have grown from here on."""
    names = ("entry", "template", "untracked")
    before = ctskip.stats()
    return lambda: {
        name: more
        for name in names
        if (more := ctskip.stats()[f"left_{name}"] - before[f"left_{name}"])
    }


# --- by the raw table ------------------------------------------------------------------------------


def raw_rule(ns, how, family, chain, target):
    """A rule for UDP to port 7 in the raw table: `target` is (iptables' words, nft's words)."""
    words, statement = target
    if how == "nft":
        hook = {"PREROUTING": "prerouting", "OUTPUT": "output"}[chain]
        ns.nft(f"""table inet raw {{
            chain c {{ type filter hook {hook} priority raw; udp dport 7 {statement}; }}
        }}""")
    else:
        legacy = how == "iptables-legacy"
        ns.iptables(family, f"-t raw -A {chain} -p udp --dport 7 -j CT {words}", legacy=legacy)


HOW = pytest.mark.parametrize("how", ["nft", "iptables-nft", "iptables-legacy"])
NOTRACK = ("--notrack", "notrack")
ZONE = ("--zone 5", "ct zone set 5")


@HOW
def test_notrack_at_prerouting(ctskip, lab, family, how):
    client, server = lab.pair()
    raw_rule(server, how, family, "PREROUTING", NOTRACK)
    server.udp_sink(7, 8, family=family)
    watch = server.watch("udp dport { 7, 8 }")
    left = growth(ctskip)
    rule = ctskip.add(f"track udp dport=7-8 netns={server.inode}")
    client.udp_send(server.addr(family), 7, count=3)
    client.udp_send(server.addr(family), 8)
    assert watch.more("prerouting", 4) == {"untracked": 3, "new": 1}
    assert left() == {"untracked": 3}
    assert ctskip.counter(rule)["packets"] == 1


@HOW
def test_notrack_at_output(ctskip, lab, family, how):
    client, server = lab.pair()
    raw_rule(client, how, family, "OUTPUT", NOTRACK)
    server.udp_sink(7, 8, family=family)
    watch = client.watch("udp dport { 7, 8 }")
    left = growth(ctskip)
    rule = ctskip.add(f"track udp dport=7-8 netns={client.inode}")
    client.udp_send(server.addr(family), 7, count=3)
    client.udp_send(server.addr(family), 8)
    assert watch.more("output", 4) == {"untracked": 3, "new": 1}
    assert left() == {"untracked": 3}
    assert ctskip.counter(rule)["packets"] == 1


@HOW
def test_zone_template(ctskip, lab, family, how):
    """A rule that covers the packet does not take it out of its zone."""
    client, server = lab.pair()
    raw_rule(server, how, family, "PREROUTING", ZONE)
    server.udp_sink(7, 8, family=family)
    watch = server.watch("udp dport { 7, 8 }")
    left = growth(ctskip)
    rule = ctskip.add(f"udp dport=7-8 netns={server.inode}")
    client.udp_send(server.addr(family), 7, count=2)
    client.udp_send(server.addr(family), 8)
    assert watch.more("prerouting", 3) == {"new": 2, "untracked": 1}
    assert left() == {"template": 2}
    assert ctskip.counter(rule)["packets"] == 1
    (entry,) = server.entries(family, "udp")
    assert "zone=5" in entry.text


def test_zone_template_at_output(ctskip, lab, family):
    client, server = lab.pair()
    server.udp_sink(7, family=family)
    raw_rule(client, "nft", family, "OUTPUT", ZONE)
    client.track()
    left = growth(ctskip)
    rule = ctskip.add(f"udp dport=7 netns={client.inode}")
    client.udp_send(server.addr(family), 7)
    assert left() == {"template": 1}
    assert ctskip.counter(rule)["packets"] == 0
    (entry,) = client.entries(family, "udp")
    assert "zone=5" in entry.text


def test_helper_template(ctskip, lab, family):
    """A flow that a helper was asked for keeps it."""
    client, server = lab.pair()
    server.udp_sink(69, family=family)
    server.iptables(
        family, "-t raw -A PREROUTING -p udp --dport 69 -j CT --helper tftp", legacy=True
    )
    server.track()
    left = growth(ctskip)
    rule = ctskip.add(f"udp dport=69 netns={server.inode}")
    client.udp_send(server.addr(family), 69)
    netlab.wait_until(lambda: left() == {"template": 1})
    assert ctskip.counter(rule)["packets"] == 0
    (entry,) = server.run(f"conntrack -L -f {family.conntrack} -p udp").stdout.splitlines()
    assert "helper=tftp" in entry


def test_raw_table_is_over(ctskip, lab, family):
    """ctskip looks after the raw table, nft chains at its priority included, and before conntrack."""
    client, server = lab.pair()
    server.udp_sink(7, family=family)
    server.nft("""table inet raw {
        chain c { type filter hook prerouting priority raw; udp dport 7 meta mark set 1; }
    }""")
    watch = server.watch("udp dport 7")
    rule = ctskip.add("udp mark=1")
    client.udp_send(server.addr(family), 7)
    assert watch.more("prerouting", 1) == {"untracked": 1}
    assert ctskip.counter(rule)["packets"] == 1
    assert server.entries() == []


# --- the second pass of a packet -------------------------------------------------------------------


def loopback(family):
    return family.pick("127.0.0.1", "::1")


def test_loopback_with_an_entry(ctskip, lab, family):
    """What LOCAL_OUT left to conntrack, PRE_ROUTING does not take away."""
    ns = lab.ns()
    ns.udp_echo(7, address=loopback(family))
    ns.track()
    ns.nft(
        "table inet marks { chain output { type filter hook output priority 0; udp dport 7 meta mark set 5;"
        " }; }"
    )
    left = growth(ctskip)
    rule = ctskip.add(f"udp dport=7 mark=5 oneway netns={ns.inode}")
    assert ns.udp(loopback(family), 7) == b"ping"
    assert left() == {"entry": 2}
    assert ctskip.counter(rule)["packets"] == 0
    (entry,) = ns.entries(family, "udp")
    assert entry.original["dport"] == "7"


def test_loopback_skipped(ctskip, lab, family):
    """What LOCAL_OUT skipped comes untracked to PRE_ROUTING, and is counted once."""
    ns = lab.ns()
    ns.udp_echo(7, address=loopback(family))
    watch = ns.watch("udp sport 7")
    left = growth(ctskip)
    rule = ctskip.add(f"udp dport=7 netns={ns.inode}")
    assert ns.udp(loopback(family), 7) == b"ping"
    assert left() == {"untracked": 2}
    assert ctskip.counter(rule)["packets"] == 2
    assert watch.read("prerouting") == {"untracked": 1}
    assert ns.entries() == []


def test_loopback_closed_port(ctskip, lab, family):
    """An error about a skipped packet, on the loopback device."""
    ns = lab.ns()
    ns.track()
    watch = ns.watch(f"{family.nft_icmp} type destination-unreachable")
    ctskip.add(f"udp dst={loopback(family)} dport=9 netns={ns.inode}")
    followed = ctskip.stats()["icmp_errors_followed"]
    with ns.socket(family.af, socket.SOCK_DGRAM) as s:
        s.connect((loopback(family), 9))
        s.settimeout(5)
        s.send(b"probe")
        with pytest.raises(ConnectionRefusedError):
            s.recv(100)
    assert watch.read("output") == watch.read("input") == {"untracked": 1}
    assert ctskip.stats()["icmp_errors_followed"] == followed + 1
    assert ns.entries() == []


# --- from one namespace to another -----------------------------------------------------------------


def test_veth_clears_the_mark(ctskip, lab, family):
    """Each namespace decides for itself, whatever the one before has said."""
    client, router, server = lab.routed()
    server.udp_echo(7)
    watches = {ns: ns.watch("udp dport 7") for ns in (client, router, server)}
    for ns in (client, router, server):
        ctskip.load_table(f"udp dport=7 netns={ns.inode}")
        for one in watches:
            one.flush()
        assert client.udp(server.addr(family), 7) == b"ping"
        for one, watch in watches.items():
            hook = "output" if one is client else "prerouting"
            assert watch.more(hook, 1) == {"untracked" if one is ns else "new": 1}
            assert len(one.entries(family, "udp")) == (one is not ns)


def test_veth_clears_the_raw_tables_mark(ctskip, lab, family):
    client, server = lab.pair()
    server.udp_sink(7, family=family)
    raw_rule(client, "nft", family, "OUTPUT", NOTRACK)
    watch = server.watch("udp dport 7")
    left = growth(ctskip)
    rule = ctskip.add("udp dport=7")
    client.udp_send(server.addr(family), 7)
    assert watch.more("prerouting", 1) == {"untracked": 1}
    assert left() == {"untracked": 1}
    assert ctskip.counter(rule)["packets"] == 1


# --- bridges and VRFs ------------------------------------------------------------------------------


def test_br_netfilter(ctskip, lab, family):
    client, bridge, server = lab.bridged()
    address = server.addr(family)
    server.udp_echo(7)
    watch = bridge.watch("udp dport 7")
    assert client.udp(address, 7) == b"ping"
    assert watch.more("prerouting", 1) == {"new": 1}
    assert len(bridge.entries(family, "udp")) == 1
    bridge.flush()
    port, device = (
        ctskip.add(f"udp dst={address} dport=7 dev={name} netns={bridge.inode}")
        for name in ("eth0,eth1", "br0")
    )
    assert client.udp(address, 7) == b"ping"
    assert watch.more("prerouting", 1) == {"untracked": 1}
    assert bridge.entries(family, "udp") == []
    assert ctskip.counter(port)["packets"] == 0
    assert ctskip.counter(device)["packets"] == 2
    bridge.sysctl(f"net.bridge.bridge-nf-call-{family.pick('iptables', 'ip6tables')}", 0)
    assert client.udp(address, 7) == b"ping"
    assert ctskip.counter(device)["packets"] == 2


@pytest.fixture
def vrf(lab):
    """client -- host, whose eth0 is in a VRF: (client, host)."""
    client, host = lab.ns("client"), lab.ns("host")
    link = lab.link(client, host)
    host.ip.link("add", ifname="vrf0", kind="vrf", vrf_table=100)
    host.ip.link("set", index=host.index("vrf0"), state="up")
    host.ip.link("set", index=host.index("eth0"), master=host.index("vrf0"))
    # Joining a VRF flushes IPv6 addresses that are not kept.
    present = {dict(a["attrs"])["IFA_ADDRESS"] for a in host.ip.get_addr(index=host.index("eth0"))}
    for family in (V4, V6):
        address = host.addr(family)
        if address not in present:
            host.add_address("eth0", address, family.pick(24, 64))
            host.addresses[family.version].pop()
        host.add_neighbour("eth0", client.addr(family), link.a_mac)  # flushed, too
    return client, host


def vrf_echo(host, family):
    """An echo server in the VRF."""
    s = host.socket(family.af, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"vrf0")
    s.bind((host.addr(family), 7))
    host.lab.reactor.echo(s)


def test_vrf(ctskip, lab, vrf, family):
    client, host = vrf
    address = host.addr(family)
    vrf_echo(host, family)
    watch = host.watch("udp dport 7")
    assert client.udp(address, 7) == b"ping"
    assert watch.more("input", 1) == {"new": 1}
    host.flush()
    rule = ctskip.add(f"udp dst={address} dport=7 netns={host.inode}")
    assert client.udp(address, 7) == b"ping"
    assert set(watch.more("input", 1)) == {"untracked"}
    assert host.entries(family, "udp") == []
    assert ctskip.counter(rule)["packets"] >= 2


def test_vrf_with_local(ctskip, lab, vrf, family):
    """The addresses of a VRF are in a table of its own."""
    client, host = vrf
    address = host.addr(family)
    vrf_echo(host, family)
    watch = host.watch("udp dport 7")
    ctskip.add(f"udp dport=7 local=dst netns={host.inode}")
    assert client.udp(address, 7) == b"ping"
    assert set(watch.more("input", 1)) == {"untracked"}
    assert host.entries(family, "udp") == []


def test_vrf_with_local_routes(ctskip, lab, vrf, family):
    """AnyIP in a VRF: a local route in its table."""
    client, host = vrf
    prefix, address = family.pick(("10.77.0.0/16", "10.77.1.9"), ("fd00:77::/64", "fd00:77::9"))
    host.run(f"ip -{family.version} route add local {prefix} dev vrf0 table 100")
    client.run(f"ip -{family.version} route add {prefix} via {host.addr(family)}")
    watch = host.watch("udp dport 7")
    ctskip.add(f"udp dport=7 local=dst netns={host.inode}")
    client.udp_send(address, 7)
    assert set(watch.more("prerouting", 1)) == {"untracked"}


def test_local_is_not_an_address_of_a_vrf(ctskip, lab, vrf, family):
    """A packet that comes in outside of the VRF, to an address that the host has in it alone."""
    _, host = vrf
    other = lab.ns("other")
    link = lab.link(other, host)
    prefix, address = family.pick(("10.99.0.0/16", "10.99.1.9"), ("fd00:99::/64", "fd00:99::9"))
    host.run("ip link add dummy0 type dummy")
    host.run("ip link set dummy0 master vrf0 up")
    host.add_address("dummy0", address, family.bits)
    via = family.pick(f"10.0.{link.number}.2", f"fd00:{link.number}::2")
    other.run(f"ip -{family.version} route add {prefix} via {via}")
    watch = host.watch("udp dport 7")
    ctskip.add(f"udp dport=7 local=dst netns={host.inode}")
    other.udp_send(address, 7)
    assert set(watch.more("prerouting", 1)) == {"new"}


def ask_from_vrf(host, address):
    """A question of a socket in the VRF: the answer, or None."""
    with host.socket(netlab.family_of(address).af, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"vrf0")
        s.settimeout(2 * netlab.SLOWER)
        s.connect((address, 7))
        s.send(b"ping")
        return s.recv(100)


def test_vrf_at_local_out(ctskip, lab, vrf, family):
    """What a host in a VRF sends passes LOCAL_OUT with the VRF's device, marked untracked by the kernel, and
    then, unmarked, with its port."""
    client, host = vrf
    client.udp_echo(7)
    address = client.addr(family)
    watch = host.watch("udp dport 7")
    for device, states in (("vrf0", {"untracked": 1, "new": 1}), ("eth0", {"untracked": 2})):
        left = growth(ctskip)
        rule = ctskip.add(f"udp dst={address} dport=7 dev={device} oneway netns={host.inode}")
        assert ask_from_vrf(host, address) == b"ping"
        assert watch.more("output", 2) == states
        assert ctskip.counter(rule)["packets"] == (device == "eth0")
        # The answer, which no rule matches, has an entry where it passes with the VRF's device.
        assert left() == {"untracked": 1, "entry": 1}
        host.flush()
        ctskip.commit("flush")
    for rule in (f"udp dst={address} dport=7", "udp dport=7 dev=eth0"):
        left = growth(ctskip)
        number = ctskip.add(f"{rule} netns={host.inode}")
        assert ask_from_vrf(host, address) == b"ping"
        assert watch.more("output", 2) == {"untracked": 2}
        assert host.entries(family, "udp") == []
        assert ctskip.counter(number)["packets"] == 2
        assert left() == {"untracked": 2}
        ctskip.commit("flush")


def test_vrf_asks_itself(ctskip, lab, vrf, family):
    """A packet to an address of its own VRF has the VRF's device alone."""
    _, host = vrf
    address = host.addr(family)
    vrf_echo(host, family)
    host.track()
    for device, entries in (("eth0", 1), ("vrf0", 0)):
        rule = ctskip.add(f"udp dst={address} dport=7 dev={device} netns={host.inode}")
        assert ask_from_vrf(host, address) == b"ping"
        assert len(host.entries(family, "udp")) == entries
        assert ctskip.counter(rule)["packets"] == 2 * (not entries)
        host.flush()
        ctskip.commit("flush")


def test_vrf_passes_its_port_first(ctskip, lab, vrf, family):
    client, host = vrf
    address = host.addr(family)
    vrf_echo(host, family)
    watch = host.watch("udp dport 7")
    left = growth(ctskip)
    rule = ctskip.add(f"udp dst={address} dport=7 dev=vrf0 oneway netns={host.inode}")
    client.udp_send(address, 7)
    assert set(watch.more("input", 1)) == {"new"}
    assert left().get("entry")
    assert ctskip.counter(rule)["packets"] == 0
    host.flush()
    rule = ctskip.add(f"udp dst={address} dport=7 dev=eth0 oneway netns={host.inode}")
    client.udp_send(address, 7)
    assert set(watch.more("input", 1)) == {"untracked"}
    assert ctskip.counter(rule)["packets"] == 1
