# SPDX-License-Identifier: GPL-2.0
"""Whole flows of real programs under one rule: they work, and make no entry in either direction.

Each test first lets the same traffic pass without a rule and finds its entries, so it would notice if
there were nothing to skip.
"""

import base64
import contextlib
import errno
import re
import socket
import struct

import netlab
import pytest
from netlab import SLOWER, V4, V6

# What a host has that is both a DNS server and a client: stateful, and with a hole as narrow as the
# rule for each direction of what is not tracked.
FIREWALL = """table inet firewall {
    chain input { type filter hook input priority filter; policy drop;
        ct state established,related accept
        udp dport 53 ct state { new, untracked } accept
        udp sport 53 ct state untracked accept
    }
    chain output { type filter hook output priority filter; policy drop;
        ct state established,related accept
        udp dport 53 ct state { new, untracked } accept
        udp sport 53 ct state untracked accept
    }
}
"""


# What a stateful firewall does with what conntrack has seen half of.
STRICT = "ct state invalid drop"


def assert_no_entries(family, *spaces):
    for ns in spaces:
        assert ns.entries(family) == []
        assert ns.count() == 0


def assert_untracked(watch, *hooks):
    """Packets passed at these hooks, and all that passed anywhere were untracked."""
    found = watch.read()
    assert set(hooks) <= set(found)
    assert {state for states in found.values() for state in states} == {"untracked"}, found


# --- DNS ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["init", "namespace"])
def test_dns_behind_a_firewall(ctskip, lab, family, place):
    client, server = lab.host() if place == "init" else lab.pair()
    address = server.addr(family)
    for ns in (client, server):
        ns.nft(FIREWALL)
    server.dnsmasq()
    assert client.dig(address) == "192.0.2.1"
    assert client.count() == server.count() == 1

    rule = ctskip.add(f"udp dst={address} dport=53")
    watches = []
    for ns in (client, server):
        ns.flush()
        watches.append(ns.watch("meta l4proto udp"))
    assert client.dig(address) == "192.0.2.1"
    assert client.dig(address, kind="AAAA") == "2001:db8::1"
    assert_no_entries(family, client, server)
    for watch in watches:
        assert watch.read() == {
            hook: {"untracked": 2} for hook in ("prerouting", "input", "output", "postrouting")
        }
    assert ctskip.counter(rule)["packets"] == 8
    assert ctskip.netns(client)["skipped"] >= 4 and ctskip.netns(server)["skipped"] >= 4

    # Other DNS of the same hosts is tracked on.
    client.udp_echo(53)
    assert server.udp(client.addr(family), 53) == b"ping"
    assert client.count() == server.count() == 1


@pytest.mark.not_quick
def test_dns_under_load(ctskip, lab, family):
    """Many sockets, so many flows: each would be an entry on both sides."""
    client, server = lab.pair()
    for ns in (client, server):
        ns.nft(FIREWALL)
    server.dnsmasq()
    queries = lab.new_path("queries")
    queries.write_text("".join(f"host{n}.test A\n" for n in range(200)))
    address = server.addr(family)

    def ask():
        done = client.run(f"dnsperf -s {address} -d {queries} -n 1 -c 40 -T 1 -q 20 -t 10")
        assert re.search(r"Queries completed:\s+200 \(100", done.stdout), done.stdout

    ask()
    assert client.count() == server.count() == 40
    rule = ctskip.add(f"udp dst={address} dport=53")
    client.flush()
    server.flush()
    ask()
    assert_no_entries(family, client, server)
    assert ctskip.counter(rule)["packets"] == 4 * 200


HALF = 25 // SLOWER


@pytest.mark.not_quick
@pytest.mark.own_module
@pytest.mark.timeout(240 * SLOWER)
def test_dns_in_fifty_namespaces(ctskip, lab):
    """Half made before the load and half after: each asks the server in init, and serves init itself."""
    lab.init.nft(FIREWALL)
    lab.init.dnsmasq()

    def make():
        ns = lab.ns()
        lab.link(ns, lab.init)
        ns.nft(FIREWALL)
        ns.udp_echo(53)
        return ns

    def talk(ns):
        (link,) = ns.links
        for family, net in ((V4, f"10.0.{link.number}."), (V6, f"fd00:{link.number}::")):
            own, server = net + "1", net + "2"
            assert own == ns.addr(family)
            answer = ns.udp(server, 53, netlab.dns_question())
            assert answer and answer.endswith(bytes([192, 0, 2, 1]))
            assert lab.init.udp(own, 53) == b"ping"

    before = [make() for _ in range(HALF)]
    for ns in before:
        talk(ns)
        assert ns.count() == 4
    assert lab.init.count() == 4 * HALF

    rules = "udp+dst=10.0.0.0/8+dport=53++udp+dst=fd00::/16+dport=53"
    assert ctskip.load(rules=rules) == 0
    for ns in [*before, lab.init]:
        ns.flush()
    for ns in before:
        talk(ns)
    after = []
    for _ in range(HALF):
        after.append(make())
        talk(after[-1])
    for ns in [*before, *after]:
        assert ns.count() == 0
        # To the very first: a query and an answer each way, of both families.
        assert ctskip.netns(ns)["skipped"] == 8
    assert ctskip.netns(lab.init)["skipped"] == 2 * HALF * 8
    for family in (V4, V6):
        assert_no_entries(family, lab.init, before[0], after[-1])


def test_first_packet_of_a_new_namespace(ctskip, lab, family):
    """Nothing has ever passed there, and conntrack waits for it."""
    rule = ctskip.add("udp dport=53")
    address = family.pick("127.0.0.1", "::1")
    ns = lab.ns()
    ns.track()
    for port in (53, 54):
        ns.udp_echo(port)
    assert ns.udp(address, 53) == b"ping"
    assert_no_entries(family, ns)
    assert ctskip.counter(rule)["packets"] == ctskip.netns(ns)["skipped"] == 2
    assert ns.udp(address, 54) == b"ping"
    assert ns.count() == 1


# --- all kinds of flows ------------------------------------------------------------------------------
#
# Each makes ready what it needs, and gives a rule, what nft calls its packets, and a function that
# talks once through it.


def nginx(client, server, family):
    server.nginx()

    def talk():
        assert client.curl(server.addr(family)) == 65536

    return f"tcp dst={server.addr(family)} dport=80", "meta l4proto tcp", talk


def sctp(client, server, family):
    server.sctp_echo(7)

    def talk():
        for ns in (client, server):
            for state in ("closed", "shutdown_sent", "shutdown_recd", "shutdown_ack_sent"):
                ns.sysctl(f"net.netfilter.nf_conntrack_sctp_timeout_{state}", 60)  # it may be 3 s
        assert client.sctp(server.addr(family), 7, data=b"message") == b"message"

    # No address: both ends tell each other all that they have, and ask after those as well.
    return "sctp dport=7", "meta l4proto sctp", talk


def icmp_echo(client, server, family):
    def talk():
        assert client.ping(server.addr(family), count=3) == 3

    rule = f"{family.icmp} type={family.echo_request} dst={server.addr(family)}"
    return rule, f"meta l4proto {family.nft_icmp}", talk


def iperf3(*options):
    def flow(client, server, family):
        server.start("iperf3 -s")
        netlab.wait_until(lambda: server.listens("tcp", 5201), 20)

        def talk():
            client.run(["iperf3", "-c", server.addr(family), "-l", "1000", *options])

        # iperf3 over UDP has a TCP connection for itself.
        rule = f"tcp,udp dst={server.addr(family)} dport=5201"
        return rule, "meta l4proto { tcp, udp }", talk

    return flow


def tunnel(protocol, v4_kind, v6_kind):
    """A ping inside; the packets inside are no business of the rule."""

    def flow(client, server, family):
        ends = [client.addr(family), server.addr(family)]
        for ns, (local, remote), own in ((client, ends, 1), (server, ends[::-1], 2)):
            kind = family.pick(v4_kind, v6_kind)
            ns.run(f"ip link add tun9 type {kind} local {local} remote {remote}")
            ns.run("ip link set tun9 up")
            ns.run(f"ip addr add 192.168.9.{own}/24 dev tun9")

        def talk():
            assert client.ping("192.168.9.2", count=2) == 2

        return f"{protocol} dst={server.addr(family)}", f"meta l4proto {protocol}", talk

    return flow


def raw(protocol, number):
    """Datagrams of a protocol that the kernel knows nothing of, both ways."""

    def flow(client, server, family):
        ends = [ns.socket(family.af, socket.SOCK_RAW, number) for ns in (client, server)]
        for end in ends:
            end.settimeout(5 * SLOWER)
        spi = struct.pack("!2I", 4711, 1)

        def talk():
            for source, target, address in (
                (*ends, server.addr(family)),
                (*ends[::-1], client.addr(family)),
            ):
                source.sendto(spi + b"sealed", (address, 0))
                assert target.recv(1000).endswith(b"sealed")

        return f"{protocol} dst={server.addr(family)}", f"meta l4proto {number}", talk

    return flow


FLOWS = {
    "nginx": nginx,
    "sctp": sctp,
    "icmp": icmp_echo,
    "iperf3-tcp": iperf3("-n", "200K"),
    "iperf3-udp": iperf3("-u", "-b", "20M", "-n", "100K"),
    "gre": tunnel("gre", "gre", "ip6gre"),
    "ipip": tunnel("ipip", "ipip", "ip6tnl mode ipip6"),
    "esp": raw("esp", 50),
    "ah": raw("ah", 51),
    "number": raw("proto=253", 253),
}


@pytest.mark.parametrize("kind", FLOWS)
def test_flow(ctskip, lab, family, kind):
    client, server = lab.pair()
    if kind == "ah" and family is V6:  # there an extension header, so never what is carried
        assert ctskip.write(f"add ah dst={server.addr(family)}\n") == errno.EINVAL
        return
    rule, match, talk = FLOWS[kind](client, server, family)
    match = match.replace("ipip", "4")
    inside = int(kind in ("gre", "ipip"))  # the flow of IPv4 in the tunnel
    watches = [ns.watch(match) for ns in (client, server)]
    outside = {client.addr(family), server.addr(family)}

    def entries(ns):
        """How many entries there are of the rule's flow, and of others."""
        found = ns.entries(None if inside else family)
        ours = sum(entry.original["src"] in outside for entry in found)
        return ours, len(found) - ours

    talk()
    for ns in (client, server):
        ours, others = entries(ns)
        assert ours > 0 and others == inside

    ctskip.add(rule)
    for ns, watch in zip((client, server), watches, strict=True):
        ns.flush()
        watch.reset()
    talk()
    for ns, watch in zip((client, server), watches, strict=True):
        assert entries(ns) == (0, inside)
        assert ns.count() == inside
        assert_untracked(watch, "prerouting", "input", "output", "postrouting")
        assert ctskip.netns(ns)["skipped"] > 0


# --- tunnels by port and by mark ----------------------------------------------------------------------


def vxlan(ns, local, remote):
    """One end of a VXLAN: what nft calls its packets, and a rule."""
    ns.run(f"ip link add tun9 type vxlan id 9 local {local} remote {remote} dstport 4789")
    return "udp dport 4789", "udp dport=4789"


def gre(ns, local, remote):
    """One end of a GRE tunnel: what nft calls its packets, and a rule."""
    kind = "ip6gre" if ":" in local else "gre"
    ns.run(f"ip link add tun9 type {kind} local {local} remote {remote}")
    return "meta l4proto gre", f"gre src={local} dst={remote}"


def wireguard(ns, local, remote):
    """One end of WireGuard: what nft calls its packets, and a rule. The keys are no secret."""
    from pyroute2 import WireGuard

    def key(end):
        return base64.b64encode(end.encode().ljust(32)).decode()

    if ns.run(["modprobe", "wireguard"], check=False).returncode:
        pytest.skip("this kernel has no module wireguard")
    ns.run("ip link add tun9 type wireguard")
    with ns.inside(), contextlib.closing(WireGuard()) as netlink:
        # The kernel tells what public key belongs to a private one.
        netlink.set("tun9", private_key=key(remote))
        (device,) = netlink.info("tun9")
        peer = {
            "public_key": device.get_attr("WGDEVICE_A_PUBLIC_KEY"),
            "endpoint_addr": remote,
            "endpoint_port": 51820,
            "allowed_ips": ["192.168.9.0/24"],
        }
        netlink.set("tun9", private_key=key(local), listen_port=51820, peer=peer)
    return "udp dport 51820", "udp dport=51820"


@pytest.mark.parametrize("kind", [vxlan, gre, wireguard])
def test_tunnel_by_port_and_by_mark(ctskip, lab, family, kind):
    """A mark outlives decapsulation, so that a rule by mark takes packets of the flows inside, too."""
    client, server = lab.pair()
    ends = [client.addr(family), server.addr(family)]
    for ns, (local, remote), own in ((client, ends, 1), (server, ends[::-1], 2)):
        match, rule = kind(ns, local, remote)
        ns.run("ip link set tun9 up")
        ns.run(f"ip addr add 192.168.9.{own}/24 dev tun9")
    for hook in ("prerouting", "output"):
        server.nft(f"""table inet set_{hook} {{
            chain c {{ type filter hook {hook} priority raw; {match} meta mark set 5; }}
            chain strict {{ type filter hook {hook} priority 0; {STRICT}; }}
        }}""")
    outside, inside = server.watch(match), server.watch("icmp type echo-request", name="inside")

    def talk(rule, timeout=5):
        """How many pings are answered, the entries of the flow inside and of others."""
        ctskip.commit("flush", f"add {rule} netns={server.inode}")
        server.flush()
        outside.reset()
        inside.reset()
        answered = client.ping("192.168.9.2", timeout=timeout * SLOWER)
        entries = [e.original["src"] == "192.168.9.1" for e in server.entries()]
        assert_untracked(outside, "prerouting", *(["output"] if answered else []))
        return answered, entries

    assert talk(rule) == (1, [True])
    if kind is wireguard:  # which clears the mark
        assert talk("mark=5 any") == (1, [True])
        return
    assert talk("mark=5 any", timeout=0.5) == (0, [])
    assert inside.read("prerouting") == {"untracked": 1}
    # The packets inside come in by the tunnel's device.
    assert talk("mark=5 dev=eth0 any") == (1, [True])


@pytest.mark.not_quick
def test_nginx_under_load(ctskip, lab, family):
    client, server = lab.pair()
    server.nginx(size=1000)
    address = server.addr(family)
    host = family.pick(address, f"[{address}]")

    enough = 20 // SLOWER  # in as many more seconds

    def load():
        done = client.run(
            f"wrk -t 1 -c 20 -d {SLOWER}s --timeout {2 * SLOWER}s -H 'Connection: close'"
            f" http://{host}/file",
            timeout=60,
        )
        assert not re.search("Socket errors|Non-2xx", done.stdout), done.stdout
        return int(re.search(r"(\d+) requests in", done.stdout)[1])

    for ns in (client, server):
        ns.track()
    assert load() > enough
    assert server.count() > enough
    rule = ctskip.add(f"tcp dst={address} dport=80")
    for ns in (client, server):
        ns.flush()
    watch = server.watch("meta l4proto tcp")
    requests = load()
    assert requests > enough
    assert_no_entries(family, client, server)
    assert_untracked(watch, "prerouting", "output")
    # At least SYN, request, FIN and their answers, each seen at two hooks.
    assert ctskip.counter(rule)["packets"] > 12 * requests


# --- a router ----------------------------------------------------------------------------------------

FORWARD = """table inet forward { chain forward { type filter hook forward priority filter; policy drop;
    ct state established,related accept
    meta l4proto { tcp, udp } th dport { 53, 80 } ct state { new, untracked } accept
    meta l4proto { tcp, udp } th sport { 53, 80 } ct state untracked accept
}; }"""


def test_forwarded(ctskip, lab, family):
    """One rule, both directions; it is each namespace that decides for itself."""
    client, router, server = spaces = lab.routed()
    address = server.addr(family)
    server.udp_echo(53)
    server.tcp_echo(80)
    router.nft(FORWARD)
    watches = [ns.watch("meta l4proto { tcp, udp }") for ns in spaces]

    def talk():
        assert client.udp(address, 53) == b"ping"
        assert client.tcp(address, 80) == b"ping"

    def counts():
        return [len(ns.entries(family)) for ns in spaces]

    def fresh(*rules):
        ctskip.commit("flush", *(f"add {rule}" for rule in rules))
        for ns, watch in zip(spaces, watches, strict=True):
            ns.flush()
            watch.reset()
        talk()

    fresh()
    assert counts() == [2, 2, 2]

    fresh(f"tcp,udp dst={address} dport=53,80")
    assert counts() == [0, 0, 0]
    assert_untracked(watches[0], "output", "prerouting")
    assert_untracked(watches[1], "prerouting", "forward", "postrouting")
    assert_untracked(watches[2], "prerouting", "output")
    assert set(watches[1].read()) == {"prerouting", "forward", "postrouting"}

    fresh(f"tcp,udp dst={address} dport=53,80 netns={router.inode}")
    assert counts() == [2, 0, 2]
    assert_untracked(watches[1], "prerouting", "forward", "postrouting")
    assert "untracked" not in watches[2].read("prerouting")

    # Neither end is an address of the router: nothing is skipped there, and both directions are tracked.
    for end in ("dst", "src"):
        rule = f"udp dport=53 local={end} netns={router.inode}"
        ctskip.commit("flush", f"add {rule}")
        watches[1].reset()
        assert client.udp(address, 53) == b"ping"
        assert watches[1].read("forward") == {"new": 1, "established": 1}
        assert ctskip.counters()[0]["packets"] == 0
        router.flush()


def test_device_on_a_router(ctskip, lab, family):
    """One device is half of a forwarded flow: what conntrack sees of the other half is invalid."""
    client, router, server = lab.routed()
    address, clients = server.addr(family), family.pick("10.0.1.0/24", "fd00:1::/64")
    server.tcp_echo(80)
    router.nft(
        f"table inet strict {{ chain f {{ type filter hook forward priority 0; {STRICT}; }}; }}"
    )

    def talk(rule, timeout=5):
        ctskip.commit("flush", f"add {rule} netns={router.inode}")
        router.flush()
        return client.tcp(address, 80, timeout=timeout * SLOWER)

    assert talk("tcp any dev=eth0", timeout=0.5) is None
    for rule in (f"tcp src={clients}", "tcp any dev=eth0,eth1"):
        assert talk(rule) == b"ping"
        assert_no_entries(family, router)


def test_two_routers(ctskip, lab, family):
    """Each router forwards one direction, so that conntrack takes all but the SYN for invalid."""
    client, there, server, back = (lab.ns(name) for name in ("client", "there", "server", "back"))
    for ends in ((client, there), (there, server), (server, back), (back, client)):
        lab.link(*ends)
    for router in (there, back):
        router.forward()
        router.nft(
            f"table inet strict {{ chain f {{ type filter hook forward priority 0; {STRICT}; }}; }}"
        )
    for ns, via in ((client, there), (server, back)):
        ns.route("default", via.addr(family))
    back.route(family.pick("10.0.1.0/24", "fd00:1::/64"), client.addr(family, 1))
    source, address = client.addr(family), server.addr(family)
    server.tcp_echo(80)
    watches = [router.watch("meta l4proto tcp") for router in (there, back)]

    def talk(timeout=5):
        for ns, watch in zip((there, back), watches, strict=True):
            ns.flush()
            watch.reset()
        return client.tcp(address, 80, source=source, timeout=timeout * SLOWER)

    assert talk(0.5) is None
    assert "invalid" in watches[1].read("forward")
    ctskip.add(f"tcp src={source} dst={address}")
    assert talk() == b"ping"
    assert_no_entries(family, there, back)
    for watch in watches:
        assert_untracked(watch, "forward")
    # An empty chain of type nat holds the rule, and only nat=ok lets it act.
    nat = f"table {family.ip} n {{ chain c {{ type nat hook postrouting priority 100; }}; }}"
    there.nft(nat)
    assert talk(0.5) is None
    assert ctskip.netns(there)["held"] > 0
    ctskip.commit("flush", f"add tcp src={source} dst={address} nat=ok")
    assert talk() == b"ping"
    assert_no_entries(family, there, back)


# --- a host that talks to itself ---------------------------------------------------------------------


TIMES = 4


@pytest.mark.parametrize("place", ["loopback", "own address"])
def test_loopback(ctskip, lab, family, place):
    """A packet keeps its mark, or its entry, over lo: it is left alone where it comes in again."""
    ns, _ = lab.pair()
    address = ns.addr(family) if place == "own address" else family.pick("127.0.0.1", "::1")
    for port in (53, 54):
        ns.udp_echo(port)
    ns.tcp_echo(80)
    watch = ns.watch("meta l4proto { tcp, udp }")

    def talk():
        assert ns.udp(address, 53) == b"ping"
        assert ns.tcp(address, 80) == b"ping"

    talk()
    assert ns.count() == 2
    ctskip.add(f"udp dst={address} dport=53", f"tcp dst={address} dport=80")
    ns.flush()
    watch.reset()
    talk()
    assert_no_entries(family, ns)
    assert_untracked(watch, "output", "prerouting")

    def change(port):
        # Neighbour discovery and the like, of whatever namespace, are seen as well: the least counts.
        return min((change_of_one(port) for _ in range(TIMES)), key=lambda change: change["seen"])

    def change_of_one(port):
        before = ctskip.stats()
        assert ns.udp(address, port) == b"ping"
        after = ctskip.stats()
        keys = ("seen", "skipped", "left_untracked", "left_entry", "tracked", "held", "observed")
        return {k: after[k] - before[k] for k in keys if after[k] != before[k]}

    assert change(53) == {"seen": 4, "skipped": 2, "left_untracked": 2}
    assert change(54) == {"seen": 4, "left_entry": 2}
    assert ns.count() == TIMES


@pytest.mark.parametrize("end", ["dst", "src"])
@pytest.mark.parametrize("place", ["loopback", "own address"])
def test_loopback_with_local(ctskip, lab, family, place, end):
    """A host that asks itself is both ends, so that either `local=` has both directions, at LOCAL_OUT."""
    ns, _ = lab.pair()
    address = ns.addr(family) if place == "own address" else family.pick("127.0.0.1", "::1")
    ns.nft(
        "table inet strict { chain output { type filter hook output priority 0; ct state invalid drop; };"
        " chain input { type filter hook input priority 0; ct state invalid drop; }; }"
    )
    ns.udp_echo(53)
    ns.tcp_echo(80)
    watch = ns.watch("meta l4proto { tcp, udp }")
    rule = ctskip.add(f"tcp,udp dport=53,80 local={end} netns={ns.inode}")
    assert ns.udp(address, 53) == b"ping"
    assert ns.tcp(address, 80) == b"ping"
    assert_no_entries(family, ns)
    assert_untracked(watch, "output", "prerouting")
    assert ctskip.counter(rule)["packets"] == watch.read("output")["untracked"]


def test_local_is_by_address(ctskip, lab, family):
    """A router's own flows, by each of its addresses and from either side, and none that it forwards."""
    client, router, server = lab.routed()
    router.track()
    server.udp_echo(53)
    ctskip.add(f"udp dport=53 local=dst netns={router.inode}")
    watch = router.watch("udp dport 53")
    for own in (router.addr(family, 0), router.addr(family, 1)):
        router.udp_echo(53, address=own)
        assert client.udp(own, 53) == b"ping"
        assert watch.more("input", 1) == {"untracked": 1}
    assert router.entries(family, "udp") == []
    assert router.udp(server.addr(family), 53) == b"ping"
    assert client.udp(server.addr(family), 53) == b"ping"
    assert len(router.entries(family, "udp")) == 2
    assert set(watch.read("forward")) == {"new"}
    # From its side: what it asks, and nothing else.
    ctskip.commit("flush", f"add udp dport=53 local=src netns={router.inode}")
    router.flush()
    assert router.udp(server.addr(family), 53) == b"ping"
    assert router.entries(family, "udp") == []
    assert client.udp(router.addr(family, 0), 53) == b"ping"
    assert client.udp(server.addr(family), 53) == b"ping"
    assert len(router.entries(family, "udp")) == 2


def test_local_addresses_of_routes(ctskip, lab, family):
    """AnyIP: a prefix that a local route says is this host's; 127.0.0.0/8 is one, too."""
    client, server = lab.pair()
    server.track()
    prefix, address = family.pick(("10.77.0.0/16", "10.77.1.9"), ("fd00:77::/64", "fd00:77::9"))
    server.run(f"ip -{family.version} route add local {prefix} dev lo")
    client.run(f"ip -{family.version} route add {prefix} via {server.addr(family)}")
    server.sysctl("net.ipv6.ip_nonlocal_bind", 1)
    server.udp_echo(53, address=address)
    rule = ctskip.add(f"udp dport=53 local=dst netns={server.inode}")
    assert client.udp(address, 53) == b"ping"
    assert server.entries(family, "udp") == []
    assert ctskip.counter(rule)["packets"] == 2
    if family.version == 4:
        server.udp_echo(53, address="127.9.9.9")
        assert server.udp("127.9.9.9", 53) == b"ping"
        assert server.entries(family, "udp") == []


def test_local_of_many(ctskip, lab):
    """Broadcast and multicast addresses are every host's."""
    client, server = lab.pair()
    server.track()
    network = server.addr(V4).rsplit(".", 1)[0]
    watch = server.watch("udp dport 7")
    rule = ctskip.add(f"udp dport=7 local=dst netns={server.inode}")
    addresses = ("255.255.255.255", f"{network}.255", "224.0.0.251")
    with client.socket(V4.af, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        for address in addresses:
            s.sendto(b"hello", (address, 7))
    with client.socket(V6.af, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        s.sendto(b"hello", ("ff02::1", 7))
    assert watch.more("prerouting", 4) == {"untracked": 4}
    assert ctskip.counter(rule)["packets"] == 4


def test_local_in_a_container(ctskip, lab, family):
    """A client in a container asks a server far away: no other namespace on the way is an end."""
    client, host, server = lab.routed()
    server.udp_echo(53)
    host.nft(
        "table inet filter { chain forward { type filter hook forward priority 0; policy drop;"
        " ct state established,related accept; udp dport 53 ct state { new, untracked } accept; }; }"
    )
    client.track()
    address = server.addr(family)
    ctskip.add(f"udp src={client.addr(family)} dport=53 local=src")
    assert client.udp(address, 53) == b"ping"
    assert client.entries(family, "udp") == []
    assert len(host.entries(family, "udp")) == 1
