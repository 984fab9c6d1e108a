# SPDX-License-Identifier: GPL-2.0
"""The NAT guard: what is translated stays tracked, unless a rule says nat=ok.

The server at port 53 answers with the address that it was asked from, so a test sees what was
translated. Without NAT it is the client's.
"""

import errno
import re
import select
import socket
import threading

import netlab
import pytest
from netlab import V4, V6, wait_until

KINDS = ("nft", "iptables-nft", "iptables-legacy")
NO_NAT = "table inet plain { chain c { type filter hook prerouting priority -100; accept; }; }"


def tell_address(ns, port=53):
    """A server that answers each datagram with the address that it came from."""

    def answer(s):
        _, peer = s.recvfrom(100)
        s.sendto(peer[0].encode(), peer)

    for s in ns.udp_sink(port):
        ns.lab.reactor.serve(s, answer)


def ask(ns, address, **kwargs):
    """The address that the server sees, or None where no answer came."""
    answer = ns.udp(address, 53, **kwargs)
    return answer and answer.decode()


def only(family):
    """What `nat` says where NAT of that family alone is in use."""
    return family.pick("ipv4", "ipv6")


def masquerade(router, family, kind="nft"):
    """Have what goes out to the server masqueraded."""
    if kind == "nft":
        router.nft(
            f"table {family.ip} masq {{ chain c {{ type nat hook postrouting priority 100; "
            "oifname eth1 masquerade; }; }"
        )
    else:
        router.iptables(
            family, "-t nat -A POSTROUTING -o eth1 -j MASQUERADE", legacy=kind == "iptables-legacy"
        )


def dnat(router, family, server, kind="nft"):
    """Have port 53 of the router's own address be the server's."""
    own, to = router.addr(family), server.addr(family)
    if kind == "nft":
        router.nft(
            f"table {family.ip} to_server {{ chain c {{ type nat hook prerouting priority -100; "
            f"{family.ip} daddr {own} udp dport 53 dnat to {to}; }}; }}"
        )
    else:
        router.iptables(
            family,
            f"-t nat -A PREROUTING -d {own} -p udp --dport 53 -j DNAT --to-destination {to}",
            legacy=kind == "iptables-legacy",
        )


@pytest.mark.parametrize("kind", KINDS)
def test_nat_goes_on_unless_the_rule_says_ok(ctskip, lab, family, kind):
    client, router, server = lab.routed()
    tell_address(server)
    masquerade(router, family, kind)
    dnat(router, family, server, kind)
    client.track()
    direct, through = server.addr(family), router.addr(family)
    translated = router.addr(family, 1)
    addresses = f"dst={direct},{through}"

    # No rule: NAT works, and there are entries.
    assert ask(client, direct) == translated
    assert ask(client, through) == translated
    for ns in (client, router):
        assert ns.count() == 2
        ns.flush()

    rule = ctskip.add(f"udp {addresses} dport=53")
    before = ctskip.stats()
    assert ask(client, direct) == translated
    assert ask(client, through) == translated

    # Held in the router: two queries and two answers. Skipped by the same rule at both ends.
    counter = ctskip.counter(rule)
    assert (counter["packets"], counter["held"]) == (8, 4)
    stats = ctskip.stats()
    assert stats["held"] - before["held"] == 4
    assert stats["skipped"] - before["skipped"] == 8
    line = ctskip.netns(router)
    assert (line["nat"], line["held"], line["skipped"]) == (only(family), 4, 0)
    for ns in (client, server):
        line = ctskip.netns(ns)
        assert (line["nat"], line["held"], line["skipped"]) == ("no", 0, 4)
    assert client.count() == 0
    found = router.entries(family, "udp")
    assert {e.original["dst"] for e in found} == {direct, through}
    assert {e.reply["dst"] for e in found} == {translated}
    assert {e.reply["src"] for e in found} == {direct}

    # nat=ok: no entry, so nothing is translated; at the router's address nobody listens.
    router.flush()
    ctskip.commit("flush", f"add udp {addresses} dport=53 nat=ok")
    assert ask(client, direct) == client.addr(family)
    assert ask(client, through, timeout=0.5) is None
    assert router.entries() == []
    assert ctskip.counters()[0]["held"] == 0
    line = ctskip.netns(router)
    assert (line["nat"], line["held"]) == (only(family), 4)
    assert line["skipped"] >= 3


def test_nat_of_own_packets(ctskip, lab, family):
    """At LOCAL_OUT as at PRE_ROUTING."""
    client, server = lab.pair()
    tell_address(server)
    nobody = family.pick("10.0.1.77", "fd00:1::77")
    # The server takes what is for nobody, and drops it. Else the kernel would tell seconds later, about the flow
    # of a rule, that the host is not reached: in the midst of another test, where this namespace takes long to go.
    link = client.links[0]
    client.add_neighbour(link.a_dev, nobody, link.b_mac)
    client.nft(
        f"table {family.ip} out {{ chain c {{ type nat hook output priority -100; "
        f"{family.ip} daddr {nobody} dnat to {server.addr(family)}; }}; }}"
    )
    rule = ctskip.add("udp dport=53")
    assert ask(client, nobody) == client.addr(family)
    assert ctskip.netns(client)["held"] == 2
    assert ctskip.counter(rule)["held"] == 2
    client.flush()
    ctskip.commit("flush", "add udp dport=53 nat=ok")
    assert ask(client, nobody, timeout=0.3) is None
    assert client.entries(family, "udp") == []
    assert ctskip.counters()[0]["held"] == 0
    assert ctskip.counters()[0]["packets"] >= 1


def test_nat_of_one_family_holds_only_that(ctskip, lab, family):
    other = family.pick(V6, V4)
    client, router, server = lab.routed()
    tell_address(server)
    masquerade(router, family)
    router.track()
    rule = ctskip.add("udp dport=53")
    assert ask(client, server.addr(family)) == router.addr(family, 1)
    assert ctskip.counter(rule)["held"] == 2
    assert ask(client, server.addr(other)) == client.addr(other)
    assert ctskip.counter(rule)["held"] == 2
    assert len(router.entries(family, "udp")) == 1
    assert router.entries(other, "udp") == []
    assert ctskip.netns(router)["nat"] == only(family)
    masquerade(router, other)
    assert ctskip.netns(router)["nat"] == "both"


def test_a_filter_chain_at_its_priority_is_no_nat(ctskip, lab, family):
    client, server = lab.pair()
    server.udp_echo(53)
    server.track()
    server.nft(NO_NAT)
    rule = ctskip.add("udp dport=53")
    assert client.udp(server.addr(family), 53) == b"ping"
    assert ctskip.netns(server)["nat"] == "no"
    assert ctskip.counter(rule)["held"] == 0
    assert server.count() == 0
    # Nor is NAT overlooked that stands beside one.
    server.nft(
        f"table {family.ip} nat {{ chain c {{ type nat hook postrouting priority 300; }}; }}\n"
        "table inet more { chain c { type filter hook prerouting priority -100; }; }"
    )
    assert client.udp(server.addr(family), 53) == b"ping"
    assert ctskip.netns(server)["nat"] == only(family)
    assert ctskip.counter(rule)["held"] == 2
    assert server.count() == 1


@pytest.mark.parametrize("hook", ("prerouting", "input", "output", "postrouting"))
def test_nat_at_any_hook_is_nat(ctskip, lab, hook):
    ns = lab.ns()
    assert ctskip.netns(ns)["nat"] == "no"
    ns.nft(f"table inet n {{ chain c {{ type nat hook {hook} priority 50; }}; }}")
    assert ctskip.netns(ns)["nat"] == "both"
    ns.nft("delete table inet n")
    assert ctskip.netns(ns)["nat"] == "no"


class Asking(threading.Thread):
    """Asks the server all the time, from one socket."""

    def __init__(self, client, address):
        super().__init__(daemon=True)
        self.socket = client.socket(netlab.family_of(address).af, socket.SOCK_DGRAM)
        self.socket.connect((address, 53))
        self.stopped = threading.Event()
        self.errors = []

    def run(self):
        while not self.stopped.is_set():
            try:
                self.socket.send(b"?")
                if select.select([self.socket], [], [], 0.5)[0]:
                    self.socket.recv(100)
            except OSError as error:
                self.errors.append(error)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.join()


def test_nat_comes_and_goes_while_traffic_runs(ctskip, lab, family):
    client, router, server = lab.routed()
    tell_address(server)
    router.track()
    rule = ctskip.add("udp dport=53")
    generation = ctskip.generation

    def grows(key, by=5):
        start = ctskip.netns(router)[key]
        wait_until(lambda: ctskip.netns(router)[key] >= start + by, 20)

    # The flow that runs on is not translated where it meets NAT in its middle; new ones are.
    with Asking(client, server.addr(family)) as asking:
        grows("skipped")
        assert router.entries(family, "udp") == []
        for _ in range(2):
            masquerade(router, family)
            grows("held")
            skipped = ctskip.netns(router)["skipped"]
            assert ask(client, server.addr(family)) == router.addr(family, 1)
            grows("held")
            assert ctskip.netns(router)["skipped"] == skipped
            assert len(router.entries(family, "udp")) == 2
            router.nft(f"delete table {family.ip} masq")
            grows("skipped")
            held = ctskip.netns(router)["held"]
            router.flush()
            assert ask(client, server.addr(family)) == client.addr(family)
            grows("skipped")
            assert ctskip.netns(router)["held"] == held
            assert router.entries(family, "udp") == []
    assert asking.errors == []
    assert ctskip.generation == generation
    assert ctskip.counter(rule)["held"] == ctskip.netns(router)["held"]


def test_nat_works_under_track_rules(ctskip, lab, family):
    client, router, server = lab.routed()
    tell_address(server)
    masquerade(router, family)
    ctskip.add("track udp dport=53", "skip udp any nat=ok")
    assert ask(client, server.addr(family)) == router.addr(family, 1)
    track, skip = ctskip.counters()
    assert (track["packets"], track["held"]) == (6, 0)
    assert (skip["packets"], skip["held"]) == (0, 0)
    assert ctskip.netns(router)["held"] == 0
    assert len(router.entries(family, "udp")) == 1


def test_observed_rules_are_held_too(ctskip, lab, family):
    """So `observe` shows what `skip` would do."""
    client, router, server = lab.routed()
    tell_address(server)
    masquerade(router, family)
    rule = ctskip.add("udp dport=53")
    ctskip.mode = "observe"
    assert ask(client, server.addr(family)) == router.addr(family, 1)
    counter = ctskip.counter(rule)
    assert (counter["packets"], counter["observed"], counter["held"]) == (0, 4, 2)


def test_commit_logs_which_rules_are_held_and_where(ctskip, lab, family, dmesg):
    other = family.pick(V6, V4)
    router, plain = lab.ns(), lab.ns()
    masquerade(router, family)
    netlab.wait_until(lambda: len(ctskip.netns()) == 3, 20)  # those of other tests are gone
    ctskip.commit(
        "add udp dport=1 id=11",
        "add udp dport=2 nat=ok id=12",
        "add track udp dport=3 id=13",
        f"add {other.ip} udp dport=4 id=14",
        f"add {family.ip} udp dport=5 id=15",
        "add udp dport=6 netns=init id=16",
        f"add udp dport=7 netns={plain.inode} id=17",
        f"add udp dport=8 netns={router.inode} id=18",
        "add udp dport=9 netns!=init id=19",
    )
    held = re.findall(r"ctskip: rules (\S+) are held in netns (\w+)", dmesg.text())
    assert held == [("11,15,18,19", str(router.inode))]
    for rule, is_held in {
        "udp dport=1": True,
        f"{family.ip} udp dport=1": True,
        f"{other.ip} udp dport=1": False,
        "udp dport=1 netns=init": False,
        "udp dport=1 netns!=init": True,
        f"udp dport=1 netns={router.inode}": True,
        f"udp dport=1 netns={plain.inode}": False,
        "track udp dport=1": False,
        "udp dport=1 nat=ok": False,
    }.items():
        dmesg.clear()
        ctskip.commit("flush", f"add {rule} id=7")
        assert ("ctskip: rules 7 are held" in dmesg.text()) == is_held, rule


def test_nat_ok_stands_on_skip_rules_only(ctskip):
    assert ctskip.write("add track udp dport=53 nat=ok\n") == errno.EINVAL
    assert ctskip.write("add udp dport=53 nat=yes\n") == errno.EINVAL
    ctskip.add("udp nat=ok dport=53 id=7")
    assert ctskip.rules() == ["skip udp dport=53 nat=ok id=7"]
