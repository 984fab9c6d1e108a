# SPDX-License-Identifier: GPL-2.0
"""The lines of docs/firewall.md; see netlab/recipes.py for how they are run.

    server -- init -- client -- far         init is a DNS server, and forwards to another one, `server`

All chains drop by default. The way to `far` is narrow behind `client`, which says so by ICMP errors.
"""

import contextlib
import itertools
import socket
import time
from pathlib import Path

import netlab
import pytest
from netlab import V4, V6, wait_until
from netlab.recipes import port, recipe, states, udp

NEAR, BEHIND = "192.0.2.53", "192.0.2.54"
NEAR6, BEHIND6 = "2001:db8::53", "2001:db8::54"
# What documents say is seen on the stock kernel.
pytestmark = pytest.mark.not_quick

OTHER = "198.51.100.1"
PAGE = bytes(10_000)  # several packets, and less than a socket takes at once


def serve_page(ns, address):
    """Answer each connection to port 53 with more than one packet."""

    def accept(listener):
        connection, _ = listener.accept()
        with connection:
            connection.sendall(PAGE)

    listener = ns.socket(netlab.family_of(address).af, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, 53))
    listener.listen(16)
    ns.lab.reactor.serve(listener, accept)


class Narrow:
    """The host's two servers, asked by UDP, and by TCP over a narrow path; and its own questions."""

    def __init__(self, lab, host):
        self.host, self.far, self.numbers = host, lab.ns("far"), itertools.count(10)
        self.link = lab.link(self.far, host.client)
        self.net = self.link.number
        host.client.forward()
        host.client.ip.link("set", index=host.client.index("eth1"), mtu=1300)
        for family in (V4, V6):
            self.far.route("default", host.client.addr(family, 1))
            net = family.pick(f"10.0.{self.net}.0/24", f"fd00:{self.net}::/64")
            host.init.route(net, host.client.addr(family))
        host.own(NEAR, NEAR6)
        for address in (BEHIND, OTHER, BEHIND6):
            length = 128 if ":" in address else 32
            host.server.add_address("eth0", address, length)
            host.init.route(f"{address}/{length}", host.server.addr(netlab.family_of(address)))
        for ns, addresses in ((host.init, (NEAR, NEAR6)), (host.server, (BEHIND, BEHIND6))):
            for address in addresses:
                ns.udp_echo(53, address)
                serve_page(ns, address)
        host.server.udp_echo(53, OTHER)
        self.asks = udp(host.init, OTHER, 53, source=NEAR)

    def page(self, address):
        """A flow: a page, for an address that no server knows the path to yet."""
        family = netlab.family_of(address)

        def flow():
            number = next(self.numbers)
            source = family.pick(f"10.0.{self.net}.{number}", f"fd00:{self.net}::{number}")
            self.far.add_address("eth0", source, family.pick(24, 64))
            self.host.client.add_neighbour("eth1", source, self.link.a_mac)
            return self.far.tcp(address, 53, data=b"", source=source) == PAGE

        return flow

    def flows(self, *addresses):
        """All flows to these servers."""
        questions = [udp(self.host.client, address, 53) for address in addresses]
        return [*questions, *(self.page(address) for address in addresses)]


@pytest.fixture
def narrow(lab, host):
    return Narrow(lab, host)


ALL = (NEAR, BEHIND, NEAR6, BEHIND6)
ERRORS = "icmp type destination-unreachable", "icmpv6 type packet-too-big"


def all_is_skipped(host, name, flows, *errors):
    """Run a recipe; tell whether its flows are skipped in the end, and the errors about them, too."""
    watches = [host.watch(match) for match in port(53)]
    told = [host.watch(error) for error in errors]
    host.run(name, *flows)
    return [states(watch) for watch in (*watches, *told)] == [{"untracked"}] * (2 + len(told))


def test_firewall_nft(ctskip, host, narrow):
    host.init.nft("""
        table inet filter {
            chain output {
                type filter hook output priority filter; policy drop;
                oif lo accept
                ct state { new, established, related } accept
            }
        }""")
    assert all_is_skipped(host, "firewall-nft", narrow.flows(*ALL), *ERRORS)
    assert narrow.asks()


@pytest.mark.parametrize("accepts", [True, False])
def test_firewall_try(ctskip, host, accepts):
    """The counter says whether the firewall lacks a line."""
    tried = "198.51.100.7"
    host.own(NEAR)
    host.reach(host.client, tried)
    host.init.udp_echo(53, NEAR)
    asks = udp(host.client, NEAR, 53, source=tried)
    assert asks()
    if accepts:
        (line,) = (c for c in recipe("firewall-nft") if f"filter input ip daddr {NEAR} " in c)
        host.do(line)
    count, skip, look = recipe("firewall-try")
    host.do(count)
    host.do(skip)
    assert asks() == accepts
    assert (" packets 0 " in host.do(look)) == accepts
    host.do('echo "delete tag=try" > /sys/kernel/ctskip/rules')
    assert asks()


@pytest.mark.parametrize("kind", ["nft", "legacy"])
def test_firewall_iptables(ctskip, lab, host, narrow, kind, monkeypatch):
    """By both kinds of iptables, as the host's `iptables`."""
    bin_ = lab.new_path("bin")
    bin_.mkdir()
    for family in (V4, V6):
        (bin_ / family.iptables).symlink_to(f"/usr/sbin/xtables-{kind}-multi")
    monkeypatch.setenv("PATH", f"{bin_}:/usr/sbin:/usr/bin:/sbin:/bin")
    legacy = kind == "legacy"
    host.init.nft("delete table inet filter")
    chains = "INPUT", "OUTPUT", "FORWARD"
    try:
        for family in (V4, V6):
            for chain in chains:
                state = "-m conntrack --ctstate NEW,ESTABLISHED,RELATED -j ACCEPT"
                host.init.iptables(family, f"-A {chain} {state}", legacy)
                host.init.iptables(family, f"-P {chain} DROP", legacy)
        assert all_is_skipped(host, "firewall-iptables", narrow.flows(*ALL), *ERRORS)
        assert narrow.asks()
    finally:
        for family in (V4, V6):
            for chain in chains:
                host.init.iptables(family, f"-P {chain} ACCEPT", legacy, check=False)


@contextlib.contextmanager
def firewalld(host):
    """Run firewalld, and the bus that it is asked over."""
    Path("/run/dbus").mkdir(exist_ok=True)
    bus = host.init.start("dbus-daemon --system --nofork --nopidfile")
    wait_until(Path("/run/dbus/system_bus_socket").exists, 20)
    daemon = host.init.start("firewalld --nofork --nopid")
    try:
        state = "firewall-cmd --state"
        wait_until(lambda: not host.init.run(state, check=False).returncode, 60, interval=2)
        yield
    finally:
        for process in (daemon, bus):
            process.terminate()
            process.wait(20 * netlab.SLOWER)


@pytest.mark.timeout(240 * netlab.SLOWER)  # its programs are slow
def test_firewall_firewalld(ctskip, host, narrow):
    """Its chains of type nat hold rules without nat=ok."""
    host.init.nft("delete table inet filter")
    with firewalld(host):
        host.init.run("firewall-cmd --add-service=dns")
        ctskip.add(f"udp dst={NEAR} dport=53")
        assert udp(host.client, NEAR, 53)()
        assert any(counter["held"] for counter in ctskip.counters())
        ctskip.commit("flush")
        flows = [*narrow.flows(NEAR), narrow.asks]
        assert all_is_skipped(host, "firewall-firewalld", flows, ERRORS[0])


@pytest.mark.timeout(240 * netlab.SLOWER)  # its programs are slow
def test_firewall_ufw(ctskip, host, narrow):
    host.init.nft("delete table inet filter")
    settings = Path("/etc/default/ufw")
    before = settings.read_text()
    # No sysctls: they would stay for the tests behind.
    settings.write_text(before.replace("IPT_SYSCTL=", "#IPT_SYSCTL=") + "IPT_SYSCTL=\n")
    try:
        host.init.run("ufw --force enable")
        host.init.run(f"ufw allow to {NEAR} port 53")
        host.init.run(f"ufw route allow to {BEHIND} port 53")
        flows = [*narrow.flows(NEAR, BEHIND), narrow.asks]
        assert all_is_skipped(host, "firewall-ufw", flows, ERRORS[0])
        assert not any(counter["held"] for counter in ctskip.counters())
    finally:
        host.init.run("ufw --force reset", check=False)
        settings.write_text(before)


# What docs/firewall.md says of conditions: whether a rule with it matches a skipped packet.
NFT = {
    "ct state untracked": True,
    "ct state != established": True,
    "ct state invalid": False,
    "ct mark 0": False,
    "ct mark != 1": False,
    "ct status != dnat": False,
    "ct direction original": False,
    "ct label != 1": False,
    "ct original bytes >= 0": False,
    "tcp flags & (syn | ack) == syn ct count over 1": False,
}
IPTABLES = {
    "-m conntrack --ctstate UNTRACKED --ctorigdst 203.0.113.9": True,
    "-m conntrack ! --ctstate ESTABLISHED": True,
    "-m connmark --mark 0": False,
    "-m connmark ! --mark 1": False,
    "-m connbytes --connbytes 0: --connbytes-dir both --connbytes-mode bytes": False,
    "-m helper ! --helper ftp": True,
    "--syn -m connlimit --connlimit-above 1": False,
}


def test_what_skipping_takes_away(ctskip, host):
    """The table of docs/firewall.md, as far as rules show it; what no rule shows, the services' tests do."""
    host.own(NEAR)
    host.init.nft("add rule inet filter input ct state untracked accept")
    host.init.tcp_echo(53, NEAR)
    ctskip.add(f"tcp dst={NEAR} dport=53")
    counters = "".join(f"counter c{number} {{ }}\n" for number in range(len(NFT)))
    rules = "".join(
        f"tcp dport 53 {match} counter name c{number}\n" for number, match in enumerate(NFT)
    )
    chain = f"chain c {{ type filter hook input priority filter - 1; {rules} }}"
    host.init.nft(f"table ip taken {{ {counters}{chain}\n}}")
    for match in IPTABLES:
        host.init.iptables(V4, f"-A INPUT -p tcp --dport 53 {match}")
    # Three connections that stay open: each limit is one.
    for _ in range(3):
        made = host.client.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.settimeout(5 * netlab.SLOWER)
        made.connect((NEAR, 53))
        made.sendall(b"ping")
        assert made.recv(4) == b"ping"
        time.sleep(0.05)  # a new look of the limits
    assert host.entries(53) == []
    listed = host.init.nft("list counters table ip taken")
    zero = [f"counter c{number} {{\n\t\tpackets 0 " in listed for number in range(len(NFT))]
    assert dict(zip(NFT, (not z for z in zero), strict=True)) == NFT
    lines = host.init.iptables(V4, "-vxnL INPUT").stdout.splitlines()[2:]
    assert dict(zip(IPTABLES, (line.split()[0] != "0" for line in lines), strict=True)) == IPTABLES
