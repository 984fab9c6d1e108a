# SPDX-License-Identifier: GPL-2.0
"""`purge`: old entries go, so that a rule can be taken back under traffic.

An entry that is older than its rule does not learn what the flow sends while the rule acts. Once the rule no
longer acts, the flow meets it again: its window is far behind, and all packets are invalid. The first test
shows that; the second one shows the same with a purge in front.
"""

import contextlib
import errno
import os
import re
import signal
import socket
import threading
from pathlib import Path

import netlab
import pytest
from netlab import V4, wait_until

PORT = 5432
KEPT = (
    "translated",
    "expected",
    "helped",
    "offloaded",
    "marked",
    "labelled",
    "templated",
    "unsure",
)


@pytest.fixture
def ctskip(ctskip):
    """A purge looks at the entries of every namespace: those of earlier tests have to be gone."""
    if ctskip.loaded():
        wait_until(lambda: len(ctskip.netns()) == 1, 20)
    return ctskip


class Flow(threading.Thread):
    """A TCP connection that is under load: it sends to an echo server and reads all of it again."""

    ROUND = 20_000  # bytes
    MANY = 60  # rounds: many times the largest window

    def __init__(self, client, server, family):
        super().__init__(daemon=True)
        for ns in (client, server):
            ns.sysctl("net.ipv4.tcp_rmem", "4096 32768 65536")
        server.tcp_echo(PORT, family=family)
        self.socket = client.socket(family.af, socket.SOCK_STREAM)
        self.socket.settimeout(4 * netlab.SLOWER)
        self.socket.connect((server.addr(family), PORT))
        self.rounds, self.ended, self.stopped = 0, False, threading.Event()
        self.start()

    def run(self):
        """Send until it is stopped, or nothing comes any more."""
        data = bytes(self.ROUND)
        while not self.stopped.is_set():
            try:
                self.socket.sendall(data)
                left = len(data)
                while left:
                    got = self.socket.recv(left)
                    if not got:
                        raise ConnectionResetError
                    left -= len(got)
            except OSError:
                self.ended = True
                return
            self.rounds += 1

    def goes_on(self):
        """Wait for many rounds more; tell whether they came."""
        end = self.rounds + self.MANY
        wait_until(lambda: self.ended or self.rounds >= end, 60)
        return not self.ended

    def stop(self):
        """End it."""
        self.stopped.set()
        self.join()


def unrelated_nat(router, family):
    """NAT for other flows."""
    others = family.pick("172.17.0.0/16", "fd99::/64")
    router.nft(
        f"table {family.ip} nat {{ chain c {{ type nat hook postrouting priority 100; "
        f"{family.ip} saddr {others} masquerade; }}; }}"
    )


WAYS = {
    "delete": lambda ctskip, router, family: ctskip.commit("delete tag=back"),
    "flush": lambda ctskip, router, family: ctskip.commit("flush"),
    "off": lambda ctskip, router, family: setattr(ctskip, "mode", "off"),
    "observe": lambda ctskip, router, family: setattr(ctskip, "mode", "observe"),
    "unload": lambda ctskip, router, family: ctskip.unload(),
    "nat": lambda ctskip, router, family: unrelated_nat(router, family),
}
EACH_WAY = pytest.mark.parametrize("way", WAYS)


@pytest.fixture
def skipped(ctskip, lab, family):
    """A flow through a router that drops what is invalid; its entry is older than its rule."""
    client, router, server = lab.routed()
    router.nft(
        "table inet strict { chain c { type filter hook forward priority filter; "
        "ct state invalid drop; }; }"
    )
    flow = Flow(client, server, family)
    assert flow.goes_on()
    assert len(router.entries(family, "tcp")) == 1
    ctskip.add(f"tcp dst={server.addr(family)} dport={PORT} tag=back")
    assert flow.goes_on()
    yield flow, router
    flow.stop()


@EACH_WAY
@pytest.mark.not_quick
@pytest.mark.parametrize("family", [V4], ids=repr)
def test_without_a_purge_the_flow_stalls(ctskip, skipped, family, way):
    """What the purge is for."""
    flow, router = skipped
    WAYS[way](ctskip, router, family)
    assert not flow.goes_on()


@EACH_WAY
@pytest.mark.not_quick
def test_with_a_purge_the_flow_goes_on(ctskip, skipped, family, way):
    flow, router = skipped
    before = ctskip.stats()["purged"]
    ctskip.commit("purge tag=back")
    assert ctskip.stats()["purged"] == before + 1
    assert flow.goes_on()
    assert router.entries(family, "tcp") == []
    WAYS[way](ctskip, router, family)
    assert flow.goes_on()
    # Conntrack has picked it up.
    assert len(router.entries(family, "tcp")) == 1


# --- which entries ------------------------------------------------------------------------------------


def ports(ns, family, protocol="udp"):
    """The ports of the entries of a namespace."""
    return sorted(int(entry.original["dport"]) for entry in ns.entries(family, protocol))


def growth(ctskip):
    """A function that gives what purges have done from here on: the keys of `stats` that have grown."""
    names = ("purged", *(f"kept_{name}" for name in KEPT))
    before = ctskip.stats()
    return lambda: {name: more for name in names if (more := ctskip.stats()[name] - before[name])}


def track_for_long(ns):
    """Turn conntrack on; entries of UDP stay as long as a test may take."""
    ns.track()
    for name in ("udp_timeout", "udp_timeout_stream"):
        ns.sysctl(f"net.netfilter.nf_conntrack_{name}", 600)


def send(client, server, family, *numbers):
    """Send a datagram to each of these ports of the server, and wait until it has an entry for each."""
    server.udp_sink(*numbers, family=family)
    for number in numbers:
        client.udp_send(server.addr(family), number)
    wait_until(lambda: ports(server, family) == sorted(numbers))


def tracked(lab, family, *numbers):
    """A client and a server that has an entry for each of these ports."""
    client, server = lab.pair()
    track_for_long(server)
    send(client, server, family, *numbers)
    return client, server


def test_the_forms_of_the_command(ctskip, lab, family, dmesg):
    _, server = tracked(lab, family, 1, 2, 3, 4, 5, 6)
    for number in (1, 2, 3, 4, 5):
        ctskip.commit(f"udp dport={number} id={number}" + (" tag=a" if number > 3 else ""))
    done = growth(ctskip)
    ctskip.commit("purge 1")
    assert ports(server, family) == [2, 3, 4, 5, 6]
    ctskip.commit("purge id=2,3")
    assert ports(server, family) == [4, 5, 6]
    ctskip.commit("delete 4", "purge tag=a")
    assert ports(server, family) == [4, 6]
    assert done() == {"purged": 4}
    ctskip.commit("udp dport=4", "purge")
    assert ports(server, family) == [6]
    assert done() == {"purged": 5}
    kept = " ".join(f"{name}=0" for name in KEPT)
    dmesg.wait(rf"ctskip: purge of 2 rules, by \S+\[\d+\]: deleted=2 {kept}")
    assert len(re.findall("ctskip: purge of", dmesg.text())) == 4


def test_commit_purge(ctskip, lab, family):
    client, server = tracked(lab, family, 1, 2, 3)
    ctskip.add("udp dport=1 tag=other")
    with netlab.OpenFile("rules", os.O_WRONLY) as file:
        assert file.write("load tag=a\nudp dport=2\n") == 0
        assert ports(server, family) == [1, 2, 3]
        assert file.write("commit purge\n") == 0
    # By all rules in force.
    assert ports(server, family) == [3]
    # Also where nothing changes.
    generation = ctskip.generation
    ctskip.mode = "off"
    client.udp_send(server.addr(family), 2)
    wait_until(lambda: ports(server, family) == [2, 3])
    ctskip.mode = "skip"
    assert ctskip.write("load tag=a\nudp dport=2\ncommit purge\n") == 0
    assert ports(server, family) == [3]
    assert ctskip.generation == generation


@pytest.mark.parametrize("scope", ["", "netns!=init", "netns=router"])
def test_in_every_namespace_where_rules_act(ctskip, lab, family, scope):
    client, router, server = lab.routed()
    for ns in (client, router, server):
        ns.track()
    server.udp_echo(7, family=family)
    server.udp_echo(8, family=family)
    for number in (7, 8):
        assert client.udp(server.addr(family), number) == b"ping"
    scope = scope.replace("router", str(router.inode))
    ctskip.add(f"udp dport=7 {scope}")
    done = growth(ctskip)
    ctskip.commit("purge")
    everywhere = str(router.inode) not in scope
    assert ports(router, family) == [8]
    for ns in (client, server):
        assert ports(ns, family) == ([8] if everywhere else [7, 8])
    assert done() == {"purged": 3 if everywhere else 1}


def test_the_initial_namespace(ctskip, lab, family):
    client, init = lab.host()
    init.track()
    init.udp_sink(1007, 1008, family=family)
    for number in (1007, 1008):
        client.udp_send(init.addr(family), number)
    numbers = {1007, 1008}
    wait_until(lambda: numbers <= set(ports(init, family)))
    ctskip.commit("udp dport=1007 netns=init", "udp dport=1008 netns!=init", "purge")
    assert numbers & set(ports(init, family)) == {1008}


def test_a_rule_behind_a_track_rule_does_not_cover(ctskip, lab, family):
    _, server = tracked(lab, family, 1, 2)
    ctskip.commit("track udp dport=1", "udp any", "purge")
    assert ports(server, family) == [1]


def test_other_protocols(ctskip, lab, family):
    client, server = lab.pair()
    server.track()
    server.tcp_echo(7, family=family)
    assert client.ping(server.addr(family)) == 1
    assert client.tcp(server.addr(family), 7) == b"ping"
    icmp = family.pick("icmp", "icmpv6")
    assert len(server.entries(family, icmp)) == len(server.entries(family, "tcp")) == 1
    done = growth(ctskip)
    ctskip.commit(f"{family.icmp} type={family.echo_request}", "purge")
    assert server.entries(family, icmp) == []
    assert len(server.entries(family, "tcp")) == 1
    # By the type that answers, too.
    assert done() == {"purged": 1}
    ctskip.commit("flush")
    assert client.ping(server.addr(family)) == 1
    ctskip.commit(f"{family.icmp} type={family.echo_reply}", "purge")
    assert server.entries(family, icmp) == []


# --- what stays ---------------------------------------------------------------------------------------


def test_marked_entries_stay(ctskip, lab, family):
    client, server = lab.pair()
    server.nft(
        "table inet m { chain c { type filter hook input priority 0; udp dport 1 ct mark set 5; }; }"
    )
    send(client, server, family, 1, 2)
    done = growth(ctskip)
    ctskip.commit("udp dport=1-2", "purge")
    assert ports(server, family) == [1]
    assert done() == {"purged": 1, "kept_marked": 1}


def test_translated_entries_stay(ctskip, lab, family):
    client, router, server = lab.routed()
    server.udp_echo(7, family=family)
    own, to = router.addr(family), server.addr(family)
    router.nft(
        f"table {family.ip} n {{ chain c {{ type nat hook prerouting priority -100; "
        f"{family.ip} daddr {own} udp dport 7 dnat to {to}; }}; }}"
    )
    assert client.udp(own, 7) == b"ping"
    assert client.udp(to, 7) == b"ping"
    assert len(router.entries(family, "udp")) == 2
    done = growth(ctskip)
    ctskip.commit(f"udp dport=7 nat=ok netns={router.inode}", "purge")
    (left,) = router.entries(family, "udp")
    assert left.original["dst"] == own
    assert done() == {"purged": 1, "kept_translated": 1}


def test_helped_entries_stay(ctskip, lab, family):
    client, server = lab.pair()
    server.iptables(
        family, "-t raw -A PREROUTING -p udp --dport 69 -j CT --helper tftp", legacy=True
    )
    server.track()
    send(client, server, family, 69, 70)
    done = growth(ctskip)
    ctskip.commit("udp dport=69-70", "purge")
    assert ports(server, family) == [69]
    assert done() == {"purged": 1, "kept_helped": 1}


def test_expected_entries_stay(ctskip, lab, family):
    """As tftp's transfer, which comes from another port than it was asked for at."""
    client, server = lab.pair()
    server.iptables(
        family, "-t raw -A PREROUTING -p udp --dport 69 -j CT --helper tftp", legacy=True
    )
    server.track()
    server.udp_sink(69, 70, family=family)
    client.udp_sink(4000, family=family)
    client.udp_send(server.addr(family), 70)
    client.udp_send(server.addr(family), 69, b"\0\1file\0octet\0", sport=4000)
    wait_until(lambda: ports(server, family) == [69, 70])
    server.udp_send(client.addr(family), 4000, b"\0\3\0\1", sport=4001)
    wait_until(lambda: ports(server, family) == [69, 70, 4000])
    done = growth(ctskip)
    ctskip.commit("udp dport=69,70,4000", "purge")
    assert ports(server, family) == [69, 4000]
    assert done() == {"purged": 1, "kept_expected": 1, "kept_helped": 1}


def test_offloaded_entries_stay(ctskip, lab, family):
    """Their packets pass by conntrack, and by ctskip."""
    client, router, server = lab.routed()
    router.nft("""table inet ft {
        flowtable f { hook ingress priority 0; devices = { eth0, eth1 }; }
        chain c { type filter hook forward priority 0; udp dport 7 flow add @f; }
    }""")
    router.track()
    for number in (7, 8):
        server.udp_echo(number, family=family)

    def is_offloaded():
        assert client.udp(server.addr(family), 7, sport=4000) == b"ping"
        return any("[OFFLOAD]" in entry.text for entry in router.entries(family, "udp"))

    wait_until(is_offloaded)
    assert client.udp(server.addr(family), 8) == b"ping"
    assert ports(router, family) == [7, 8]
    done = growth(ctskip)
    ctskip.commit("udp dport=7-8", "purge")
    assert ports(router, family) == [7]
    assert done() == {"purged": 1, "kept_offloaded": 1}


def test_labelled_entries_stay(ctskip, lab, family):
    client, server = lab.pair()
    server.nft(
        "table inet l { chain c { type filter hook input priority 0; udp dport 1 ct label set 5; }; }"
    )
    send(client, server, family, 1, 2)
    done = growth(ctskip)
    ctskip.commit("udp dport=1-2", "purge")
    assert ports(server, family) == [1]
    assert done() == {"purged": 1, "kept_labelled": 1}


def test_entries_in_zones_stay(ctskip, lab, family):
    """Their packets have a template, and are not skipped."""
    client, server = lab.pair()
    server.iptables(family, "-t raw -A PREROUTING -p udp --dport 1 -j CT --zone 5", legacy=True)
    server.track()
    send(client, server, family, 1, 2)
    done = growth(ctskip)
    ctskip.commit("udp dport=1-2", "purge")
    assert ports(server, family) == [1]
    assert done() == {"purged": 1, "kept_templated": 1}


@pytest.mark.parametrize("what", ["events", "timeouts"])
def test_entries_of_other_templates_stay(ctskip, lab, family, what):
    """Their packets may have a template, and are not skipped then: a choice of events, timeouts."""
    client, server = lab.pair()
    if what == "events":
        server.sysctl("net.netfilter.nf_conntrack_events", 1)
        events = "-t raw -A PREROUTING -p udp --dport 1 -j CT --ctevents new,destroy"
        server.iptables(family, events, legacy=True)
    else:
        server.nft(f"""table {family.ip} t {{
            ct timeout short {{ protocol udp; policy = {{ unreplied : 60, replied : 60 }}; }};
            chain c {{ type filter hook prerouting priority 0; udp dport 1 ct timeout set "short"; }}; }}""")
    server.track()
    send(client, server, family, 1, 2)
    done = growth(ctskip)
    ctskip.commit("udp dport=1-2", "purge")
    assert ports(server, family) == [1]
    assert done() == {"purged": 1, "kept_templated": 1}


@pytest.mark.parametrize("term", ["dev=eth0", "mark=0", "local=dst", "oneway"])
def test_entries_stay_that_do_not_tell_whether_rules_match(ctskip, lab, family, term):
    _, server = tracked(lab, family, 1, 2)
    done = growth(ctskip)
    ctskip.commit(f"udp dport=1 {term}", "udp dport=2", "purge")
    assert ports(server, family) == [1]
    assert done() == {"purged": 1, "kept_unsure": 1}


def test_entries_of_held_rules_stay(ctskip, lab, family):
    _, server = tracked(lab, family, 1, 2)
    unrelated_nat(server, family)
    done = growth(ctskip)
    ctskip.commit("udp dport=1", "udp dport=2 nat=ok", "purge")
    assert ports(server, family) == [1]
    assert done() == {"purged": 1}


@pytest.mark.parametrize("mode", ["observe", "off"])
def test_modes_in_which_no_rule_acts(ctskip, lab, family, mode, dmesg):
    _, server = tracked(lab, family, 1)
    ctskip.add("udp dport=1 id=1")
    ctskip.mode = mode
    assert ctskip.refused("purge\n") == "EINVAL"
    assert "no rule acts" in ctskip.last_error()["error"]
    assert ctskip.refused("udp dport=2\n  purge 1\n") == "EINVAL"
    error = ctskip.last_error()
    assert (error["line"], error["column"]) == (2, 3)
    assert ctskip.write("load\nudp dport=1\nudp dport=2\ncommit purge\n") == 0
    assert len(ctskip.rules()) == 2
    assert ports(server, family) == [1]
    dmesg.wait(rf"ctskip: purge of 2 rules, by \S+: nothing done, as the mode is {mode}")
    # What comes behind may be the rest of the same text: the rules are not taken back without a purge.
    with netlab.OpenFile("rules", os.O_WRONLY) as file:
        assert file.write("purge\n") == errno.EINVAL
        assert file.write("flush\n") == errno.EINVAL
    assert len(ctskip.rules()) == 2


def test_refused_purges(ctskip, lab):
    ctskip.commit("udp dport=1 id=1", "track udp any id=2")
    for text, number in (
        ("purge 9\n", "ENOENT"),
        ("purge 1,9\n", "ENOENT"),
        ("purge tag=a\n", "ENOENT"),
        ("purge 2\n", "EINVAL"),
        ("purge 1\ndelete 1\n", "EINVAL"),
    ):
        assert ctskip.refused(text) == number, text
    with netlab.OpenFile("rules", os.O_WRONLY) as file:
        assert file.write("load\n") == 0
        assert file.write("purge\n") == errno.EINVAL


# --- while all goes on --------------------------------------------------------------------------------


class Sending(threading.Thread):
    """Sends to one port after the other, from one socket after the other: new flows all the time."""

    def __init__(self, client, address, numbers):
        super().__init__(daemon=True)
        self.client, self.address, self.numbers = client, address, numbers
        self.sent, self.stopped = 0, threading.Event()
        self.start()

    def run(self):
        """Send until it is stopped."""
        family = netlab.family_of(self.address)
        while not self.stopped.is_set():
            with self.client.socket(family.af, socket.SOCK_DGRAM) as s:
                for number in self.numbers:
                    s.sendto(b"ping", (self.address, number))
                    self.sent += 1

    def stop(self):
        """End it."""
        self.stopped.set()
        self.join()


@pytest.mark.not_quick
def test_no_entry_is_made_behind_the_purge(ctskip, lab, family):
    """Under flows that begin while the rule comes into force."""
    client, server = lab.pair()
    server.track()
    numbers = range(2000, 2100)
    server.udp_sink(*numbers, family=family)
    sending = Sending(client, server.addr(family), numbers)
    for _ in range(5):
        seen = sending.sent
        wait_until(lambda seen=seen: sending.sent > seen + 500)
        assert len(server.entries(family, "udp")) > 100
        assert ctskip.write("load\nudp dport=2000-2099\ncommit purge\n") == 0
        assert server.entries(family, "udp") == []
        ctskip.commit("flush")
    sending.stop()


@pytest.mark.not_quick
def test_while_the_hash_is_resized(ctskip, lab, family):
    client, server = lab.pair()
    track_for_long(server)
    with client.socket(family.af, socket.SOCK_DGRAM) as s:
        for number in range(2000, 4000):
            s.sendto(b"ping", (server.addr(family), number))
    wait_until(lambda: len(ports(server, family)) == 2000)
    ctskip.add("udp dport=2000-2999")
    buckets = int(lab.init.sysctl("net.netfilter.nf_conntrack_buckets"))
    ended = threading.Event()

    def resize():
        while not ended.is_set():
            for more in (1024, 0):
                Path("/proc/sys/net/netfilter/nf_conntrack_buckets").write_text(
                    f"{buckets + more}\n"
                )
                # A walk begins anew with each, sixteen times at most: let one come to its end.
                ended.wait(0.2 * netlab.SLOWER)

    thread = threading.Thread(target=resize, daemon=True)
    thread.start()
    done = growth(ctskip)
    try:
        for _ in range(5):
            ctskip.commit("purge")
    finally:
        ended.set()
        thread.join()
    assert done()["purged"] == 1000
    assert ports(server, family) == list(range(3000, 4000))


def test_conntrack_is_not_pinned(ctskip, lab):
    """Its symbols are taken for the purge only."""
    _, server = tracked(lab, V4, 1)
    refcnt = Path("/sys/module/nf_conntrack/refcnt")
    if not refcnt.exists():
        pytest.skip("built into the kernel")
    before = refcnt.read_text()
    ctskip.commit("udp dport=1", "purge")
    assert refcnt.read_text() == before
    assert ports(server, V4) == []


@pytest.mark.not_quick
def test_purges_of_many_rules(ctskip, lab, family):
    """Looked up as packets are; some rules are untold."""
    _, server = tracked(lab, family, 1, 2, 3)
    rules = "".join(f"udp dport={number} mark={number % 2}\n" for number in range(10_000, 13_000))
    rules += "".join(f"udp dport={number}\n" for number in range(20_000, 23_000))
    ctskip.load_table(f"track udp dport=3 mark=7\n{rules}udp dport=1\nudp dport=3\n")
    done = growth(ctskip)
    ctskip.commit("purge")
    assert ports(server, family) == [2, 3]
    assert done() == {"purged": 1, "kept_unsure": 1}


# --- what ends it early -------------------------------------------------------------------------------


ENTRIES = 2000


@pytest.fixture
def slow(ctskip, lab):
    """A server with entries all over a large hash, so that a purge takes seconds; its rule has the id 7."""
    client, server = lab.pair()
    track_for_long(server)
    path = Path("/proc/sys/net/netfilter/nf_conntrack_buckets")
    before = path.read_text()
    path.write_text(f"{1 << 22}\n")
    with client.socket(V4.af, socket.SOCK_DGRAM) as s:
        for number in range(2000, 2000 + ENTRIES):
            s.sendto(b"ping", (server.addr(V4), number))
    wait_until(lambda: server.count() == ENTRIES)
    ctskip.add("udp dport=2000-3999 id=7")
    yield server
    path.write_text(before)


def wait_until_it_deletes(server):
    """Wait until a purge has begun, without a pause: on a fast machine it does not take long."""
    wait_until(lambda: server.count() < ENTRIES, 20, interval=0)


class Purging(threading.Thread):
    """A writer that purges, and has begun to."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.file, self.number = netlab.OpenFile("rules", os.O_WRONLY), None
        self.start()
        wait_until_it_deletes(server)

    def run(self):
        """Purge."""
        self.number = self.file.write("purge\n")

    def end(self, more):
        """Wait for its end, and write more through the same file; return the errno of both."""
        self.join()
        with self.file as file:
            return self.number, file.write(more)


def deleted_in(dmesg, why):
    """How many entries a purge has deleted that ended early, as the log says."""
    found = dmesg.wait(rf"ctskip: purge of 1 rules, by \S+: deleted=(\d+) .*; not finished: {why}")
    assert 0 < int(found[1]) < ENTRIES
    return int(found[1])


@pytest.mark.not_quick
@pytest.mark.parametrize("text", ["purge 7\n", "load\nudp dport=2000-3998 id=7\ncommit purge\n"])
def test_a_writer_that_is_killed(ctskip, slow, dmesg, text):
    """What it has deleted and committed stays; the next purge does the rest."""
    table, generation = ctskip.rules(), ctskip.generation
    error, done = ctskip.read("last_error"), growth(ctskip)
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            ctskip.write(text)
        os._exit(1)
    wait_until_it_deletes(slow)
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    deleted = deleted_in(dmesg, "killed")
    assert done() == {"purged": deleted}
    assert slow.count() == ENTRIES - deleted
    if "load" in text:
        table = ["skip udp dport=2000-3998 id=7"]
        generation += 1
    assert (ctskip.rules(), ctskip.generation) == (table, generation)
    assert ctskip.read("last_error") == error
    ctskip.commit("purge")
    assert ports(slow, V4) == ([3999] if "load" in text else [])
    assert done() == {"purged": ENTRIES - slow.count()}


@pytest.mark.not_quick
@pytest.mark.parametrize("mode", ["off", "observe"])
def test_a_mode_in_which_no_rule_acts_any_more(ctskip, slow, dmesg, mode):
    done = growth(ctskip)
    purging = Purging(slow)
    ctskip.mode = mode
    # The file is stopped: what comes behind is not carried out without the purge.
    assert purging.end("flush\n") == (errno.ECANCELED, errno.EINVAL)
    assert ctskip.rules() == ["skip udp dport=2000-3999 id=7"]
    deleted = deleted_in(dmesg, "the mode has changed")
    assert done() == {"purged": deleted}
    assert slow.count() == ENTRIES - deleted
    ctskip.mode = "skip"
    ctskip.commit("purge")
    assert slow.count() == 0
    assert done() == {"purged": ENTRIES}


@pytest.mark.not_quick
def test_an_unload_ends_it(ctskip, slow, dmesg):
    purging = Purging(slow)
    assert ctskip.unload() == 0
    assert purging.end("flush\n") == (errno.ENODEV, errno.ENODEV)
    deleted = deleted_in(dmesg, "the module goes")
    assert slow.count() == ENTRIES - deleted
    assert ctskip.load(rules="udp dport=2000-3999") == 0
    ctskip.commit("purge")
    assert slow.count() == 0
    assert ctskip.stats()["purged"] == ENTRIES - deleted
