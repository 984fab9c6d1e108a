# SPDX-License-Identifier: GPL-2.0
"""What users met: situations from public reports, and those in which a walk through the documents failed.

Each test has the value that is right for the user; where that is a loss that the documents tell of, it says so.
"""

import contextlib
import re
import socket
import struct
import subprocess
import threading

import netlab
import pytest
from netlab import V4
from netlab.recipes import blocks, commands

# Of verdicts and words, which are the same on every kernel.
pytestmark = pytest.mark.not_quick

STATEFUL = (
    "table inet filter {{ chain {0} {{ type filter hook {0} priority filter; policy drop; "
    "ct state {{ established, related }} accept; }}; }}"
)


def firewall(ns, chain, *accepts):
    """A stateful firewall that drops by default, and what it accepts beside what it knows."""
    ns.nft(STATEFUL.format(chain))
    for accept in accepts:
        ns.nft(f"add rule inet filter {chain} {accept} accept")


def strict(ns, *chains):
    """Drop what is invalid; this turns conntrack on."""
    for chain in chains:
        ns.nft(
            f"table inet strict {{ chain {chain} {{ type filter hook {chain} priority 0; "
            "ct state invalid counter drop; }; }"
        )


def say(ns, port, address, text):
    """A server that answers each datagram with that text."""
    s = ns.socket(netlab.family_of(address).af, socket.SOCK_DGRAM)
    s.bind((address, port))

    def answer(s):
        s.sendto(text, s.recvfrom(100)[1])

    ns.lab.reactor.serve(s, answer)


def entries(ns, family, port):
    """The entries of flows to a port."""
    return [e for e in ns.entries(family) if e.original.get("dport") == str(port)]


# --- NAT ------------------------------------------------------------------------------------------------


COMES = {
    "listed": lambda ns, family: ns.iptables(family, "-t nat -L -n", legacy=True),
    "empty chain": lambda ns, family: ns.nft(
        f"table {family.ip} nat {{ chain c {{ type nat hook postrouting priority 100; }}; }}"
    ),
}


@pytest.mark.parametrize("how", COMES)
def test_nat_comes_later(ctskip, lab, family, dmesg, how):
    """With the README's firewall, no query is lost: it is tracked from then on, as the log and `netns` say."""
    client, server = lab.pair()
    address = server.addr(family)
    firewall(server, "input", "udp dport 53 ct state { new, untracked }")
    server.udp_echo(53)
    ctskip.add(f"udp,tcp dst={address} dport=53")
    assert client.udp(address, 53) == b"ping"
    assert entries(server, family, 53) == []
    COMES[how](server, family)
    assert client.udp(address, 53) == b"ping"
    assert len(entries(server, family, 53)) == 1
    dmesg.wait(rf"ctskip: rules are held in netns {server.inode} from now on: NAT is in use")
    line = ctskip.netns(server)
    assert (line["nat"], line["held"]) == (family.pick("ipv4", "ipv6"), 2)


@pytest.fixture
def service(lab, family):
    """client -- router -- server, which the router has a service's address for: (..., that address)."""
    client, router, server = lab.routed()
    address, to = family.pick("10.96.0.20", "fd96::20"), server.addr(family)
    router.nft(
        f"table {family.ip} services {{ chain c {{ type nat hook prerouting priority dstnat; "
        f"{family.ip} daddr {address} dnat to {to}; }}; }}"
    )
    server.tcp_echo(80)
    server.udp_echo(53)
    return client, router, server, address


def test_services_and_their_servers(ctskip, service, family, dmesg):
    """`track` for the services does not help: the servers' answers are like any other flow of theirs."""
    client, router, server, address = service
    pods = family.pick("10.0.0.0/16", "fd00::/16")
    services = netlab.subnet(address, family.pick(12, 64))
    here, netns = server.addr(family), f"netns={router.inode}"

    def talk(to):
        timeout = 1.5 * netlab.SLOWER
        return client.tcp(to, 80, timeout=timeout), client.udp(to, 53, timeout=timeout)

    rules = f"track dst={services} any id=1", f"src={pods} dst={pods} any {netns} id=2"
    # Held, without nat=ok: all goes on, and is tracked.
    ctskip.commit(*rules)
    assert talk(address) == talk(here) == (b"ping", b"ping")
    assert ctskip.counter(2)["held"] > 0
    assert len(router.entries(family)) == 4
    assert f"ctskip: rules 2 are held in netns {router.inode}" in dmesg.text()
    # With it, the log says what is lost: the service.
    ctskip.commit("flush", rules[0], f"{rules[1]} nat=ok")
    router.flush()
    assert f"ctskip: rules 2 say nat=ok, and NAT is in use in netns {router.inode}" in dmesg.text()
    assert talk(here) == (b"ping", b"ping")
    assert router.entries(family) == []
    assert talk(address) == (None, None)


def test_a_rule_for_servers_behind_a_service(ctskip, service, family, dmesg):
    """It names no service, and breaks it all the same: the log says so."""
    client, router, server, address = service
    rule = f"udp dst={netlab.subnet(server.addr(family), 16)} dport=53 netns={router.inode}"
    ctskip.commit(f"{rule} id=1")
    assert client.udp(address, 53) == b"ping"
    ctskip.commit("flush", f"{rule} nat=ok id=2")
    dmesg.wait(
        rf"ctskip: rules 2 say nat=ok, and NAT is in use in netns {router.inode}: no flow that is "
        "translated there may have an end that the rules name"
    )
    router.flush()
    assert client.udp(address, 53, timeout=netlab.SLOWER) is None


@pytest.mark.parametrize("nat_ok", [False, True])
def test_a_masquerade_comes_for_skipped_flows(ctskip, lab, family, dmesg, nat_ok):
    """It takes them for new ones, and resets them: nat=ok keeps them as they are."""
    client, router, server = lab.routed()
    router.track()
    server.tcp_echo(80)
    ctskip.add(f"tcp dst={server.addr(family)} dport=80" + " nat=ok" * nat_ok)
    connection = client.socket(family.af, socket.SOCK_STREAM)
    connection.settimeout(4 * netlab.SLOWER)
    connection.connect((server.addr(family), 80))

    def talk():
        connection.sendall(b"ping")
        return connection.recv(100)

    assert talk() == b"ping"
    assert router.entries(family, "tcp") == []
    router.nft(
        f"table {family.ip} nat {{ chain c {{ type nat hook postrouting priority srcnat; "
        "oifname eth1 masquerade; }; }"
    )
    if nat_ok:
        assert talk() == b"ping"
        assert router.entries(family, "tcp") == []
    else:
        with pytest.raises(ConnectionResetError):
            talk()
        assert f"rules are held in netns {router.inode} from now on" in dmesg.text()
        assert client.tcp(server.addr(family), 80) == b"ping"


@pytest.mark.parametrize("netns", ["", "netns=init"])
def test_a_mesh_redirects_its_pods_questions(ctskip, lab, family, netns):
    """A pod's own redirect goes on beside the node's rule, unless that acts in the pod, too."""
    pod, node = lab.host()
    plain = lab.ns("plain")
    link = lab.link(plain, node)
    plain.route("default", family.pick(f"10.0.{link.number}.2", f"fd00:{link.number}::2"))
    pod.route("default", node.addr(family))
    cache = family.pick("169.254.20.10", "fd53::10")
    node.add_address("lab0", cache, family.bits)
    node.nft(f"table {family.ip} n {{ chain c {{ type nat hook postrouting priority srcnat; }}; }}")
    pod.nft(
        f"table {family.ip} mesh {{ chain c {{ type nat hook output priority dstnat; "
        "meta l4proto { tcp, udp } th dport 53 redirect to :15053; }; }"
    )
    say(node, 53, cache, b"cache")
    say(pod, 15053, family.pick("127.0.0.1", "::1"), b"mesh")
    node.tcp_echo(53, cache)
    pod.tcp_echo(15053)
    watch = node.watch("meta l4proto { tcp, udp } th dport 53")
    assert pod.udp(cache, 53) == b"mesh"
    ctskip.add(f"udp,tcp dst={cache} dport=53 nat=ok {netns}")
    pod.flush()
    node.flush()
    watch.reset()
    assert pod.udp(cache, 53) == (b"mesh" if netns else b"cache")
    assert pod.tcp(cache, 53) == b"ping"
    if netns:
        assert watch.read("prerouting") == {}
        assert len(pod.entries(family, "udp")) == len(pod.entries(family, "tcp")) == 1
    else:
        assert pod.entries(family) == []
    assert plain.udp(cache, 53) == b"cache"
    assert plain.tcp(cache, 53) == b"ping"
    assert set(watch.read("prerouting")) == {"untracked"}
    assert entries(node, family, 53) == []


# --- routers and hosts ----------------------------------------------------------------------------------


def test_a_device_on_a_router(ctskip, lab, family, dmesg):
    """One device is half a flow, as the log says; both are the whole one."""
    client, router, server = lab.routed()
    address = server.addr(family)
    server.udp_echo(53)
    firewall(
        router,
        "forward",
        "udp dport 53 ct state { new, untracked }",
        "udp sport 53 ct state untracked",
    )
    assert client.udp(address, 53) == b"ping"
    router.flush()
    ctskip.commit(f"udp dport=53 dev=eth0 netns={router.inode} id=1")
    assert f"ctskip: rules 1 name one device in netns {router.inode}" in dmesg.text()
    assert client.udp(address, 53, timeout=netlab.SLOWER) is None
    router.flush()
    dmesg.clear()
    ctskip.commit("flush", f"udp dport=53 dev=eth0,eth1 netns={router.inode} id=2")
    assert client.udp(address, 53) == b"ping"
    assert entries(router, family, 53) == []
    assert "name one device" not in dmesg.text()


def test_path_mtu_behind_a_stateful_firewall(ctskip, lab, family):
    """The README's lines for ICMP errors let them through; without these, the flow is in a black hole."""
    client, router, server = lab.routed()
    own, far = server.addr(family), client.addr(family)
    router.run(f"ip -{family.version} route add {far}/{family.bits} dev eth0 mtu 1300")
    server.tcp_echo(80)
    firewall(server, "input", "tcp dport 80 ct state { new, untracked }")
    data = bytes(20_000)
    ctskip.add(f"tcp dst={own} dport=80")
    assert client.tcp(own, 80, data, timeout=1.5 * netlab.SLOWER) is None
    lines = [
        command
        for name, text in blocks()
        if name == "dns-server"
        for command in commands(text)
        if re.search(r" icmp(v6)? type ", command)
    ]
    assert len(lines) == 2
    for line in lines:
        server.run(["bash", "-c", line])
    assert client.tcp(own, 80, data) == data
    assert server.entries(family, "tcp") == []


class Director:
    """client -> director -> server, whose answers go straight back: direct routing, as of LVS.

    The director sees half of each connection, and drops what is invalid.
    """

    def __init__(self, lab, family):
        self.family = family
        self.client, self.director, self.server = (
            lab.ns(name) for name in ("client", "director", "server")
        )
        lab.link(self.client, self.director)
        lab.link(self.director, self.server)
        lab.link(self.client, self.server)
        self.director.forward()
        self.address = family.pick("203.0.113.10", "fd99::10")
        prefix = f"{self.address}/{family.bits}"
        self.client.route(prefix, self.director.addr(family))
        self.director.route(prefix, self.server.addr(family))
        self.server.add_address("eth0", self.address, family.bits)
        self.server.route(f"{self.client.addr(family)}/{family.bits}", self.client.addr(family, 1))
        self.listener = self.server.socket(family.af, socket.SOCK_STREAM)
        self.listener.bind((self.address, 80))
        self.listener.listen()
        self.listener.settimeout(1.5 * netlab.SLOWER)
        strict(self.director, "forward")
        self.server.track()

    def reset_arrives(self):
        """Connect, send, reset; tell whether the server has heard of each, or None where not even of the first."""
        with self.client.socket(self.family.af, socket.SOCK_STREAM) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.bind((self.client.addr(self.family), 0))
            s.settimeout(2 * netlab.SLOWER)
            s.connect((self.address, 80))
            s.send(b"ping")
            try:
                connection, _ = self.listener.accept()
            except TimeoutError:
                return None
            with connection:
                connection.settimeout(1.5 * netlab.SLOWER)
                assert connection.recv(100) == b"ping"
                s.close()
                try:
                    return connection.recv(100) is None
                except ConnectionResetError:
                    return True
                except TimeoutError:
                    return False


def test_direct_routing(ctskip, lab, family):
    lvs = Director(lab, family)
    assert not lvs.reset_arrives()
    ctskip.add(f"tcp dst={lvs.address} dport=80,443 nat=ok tag=lvs-dr")
    for ns in (lvs.director, lvs.server):
        ns.flush()
    dropped = lvs.director.nft("list chain inet strict forward")
    assert lvs.reset_arrives()
    assert lvs.director.entries(family, "tcp") == []
    assert lvs.server.entries(family, "tcp") == []
    assert lvs.director.nft("list chain inet strict forward") == dropped


def test_vxlan_of_many_flows(ctskip, lab, family):
    """Each inner flow has a source port of its own outside, and so an entry: only the inner one stays."""
    client, server = lab.pair()
    for ns, peer, own in ((client, server, 1), (server, client, 2)):
        local, remote = ns.addr(family), peer.addr(family)
        for command in (
            f"ip link add vx9 type vxlan id 9 dstport 4789 local {local} remote {remote}",
            f"ip addr add 192.168.9.{own}/24 dev vx9",
            "ip link set vx9 up",
        ):
            ns.run(command)
        ns.track()
    server.udp_echo(7)

    def talk():
        for ns in (client, server):
            ns.flush()
        for port in range(4000, 4064):
            assert client.udp("192.168.9.2", 7, sport=port) == b"ping"

    def inner(ns):
        return len(entries(ns, V4, 7))

    def outer(ns):
        return len(entries(ns, family, 4789))

    talk()
    for ns in (client, server):
        assert inner(ns) == 64
        assert outer(ns) > 32
    network = netlab.subnet(client.addr(family), family.pick(24, 64))
    ctskip.add(f"udp src={network} dst={network} dport=4789 nat=ok")
    talk()
    for ns in (client, server):
        assert (inner(ns), outer(ns)) == (64, 0)


def opens(ns, address, port):
    """Have two sockets connect to each other at once; tell whether they come to talk."""
    ends = [ns.socket(netlab.family_of(address).af, socket.SOCK_STREAM) for _ in range(2)]
    for number, end in enumerate(ends):
        end.bind((address, port + number))
        end.settimeout(1.5 * netlab.SLOWER)

    def connect():
        with contextlib.suppress(OSError):
            ends[1].connect((address, port))

    other = threading.Thread(target=connect, daemon=True)
    other.start()
    try:
        ends[0].connect((address, port + 1))
        ends[0].sendall(b"ping")
        other.join()
        return ends[1].recv(100) == b"ping"
    except OSError:
        other.join()
        return False


def test_simultaneous_open_on_loopback(ctskip, lab, family):
    """Both ends send a SYN before they have seen the other's. Conntrack once took the answers for invalid."""
    ns = lab.ns()
    strict(ns, "input", "output")
    ns.run("tc qdisc add dev lo root netem delay 100ms")
    address = family.pick("127.0.0.1", "::1")
    assert opens(ns, address, 4000)
    assert len(ns.entries(family, "tcp")) == 1
    ctskip.add(f"any dev=lo nat=ok netns={ns.inode}")
    assert opens(ns, address, 5000)
    assert entries(ns, family, 5000) == entries(ns, family, 5001) == []


# --- text -------------------------------------------------------------------------------------------------


@pytest.mark.own_module
def test_typed_in_a_shell(ctskip, dmesg):
    """dash says `I/O error` for all, and a file that is closed without `commit` nothing: the log says why."""
    assert ctskip.load() == 0
    rules = netlab.SYSFS / "rules"
    done = subprocess.run(
        ["dash", "-c", f'echo "udp dport=domain" > {rules}'], capture_output=True, text=True
    )
    assert done.returncode
    dmesg.wait(
        r"ctskip: refused a write by dash\[\d+\]: EINVAL, line 1 column 11: .*; see last_err"
    )
    text = f'{{ echo load; echo "udp dport=53"; }} > {rules}; echo "udp dport=54" > {rules}'
    subprocess.run(["bash", "-c", text], check=True)
    dmesg.wait(r"ctskip: the load by bash\[\d+\] is dropped with its 1 rules: .* without commit")
    assert [line.rpartition(" id=")[0] for line in ctskip.rules()] == ["skip udp dport=54"]
