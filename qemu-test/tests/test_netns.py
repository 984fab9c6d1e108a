# SPDX-License-Identifier: GPL-2.0
"""Rules for one namespace, and the file that has a line for each."""

import errno
import itertools
import os
import re
import socket
import threading
import time

import netlab
import pytest
from netlab import V4, V6, wait_until

FIELDS = "netns ct entries max drop nat rules skipped".split()
LEFT = ("left_entry", "left_template", "left_untracked")
LOOPBACK = {4: "127.0.0.1", 6: "::1"}
NOBODY = 4194303  # no process has that number: it is the limit


def end(ns):
    """Have a namespace go before the test does; returns when the kernel is done with it."""
    ns.lab.namespaces.remove(ns)
    ns.close()


def flood(ns, address, flows, port=1024):
    """A datagram to each of so many ports: as many flows. Those that conntrack drops are lost."""
    with ns.socket(netlab.family_of(address).af, socket.SOCK_DGRAM) as s:
        for number in range(flows):
            try:
                s.sendto(b"x", (address, port + number))
            except PermissionError:  # dropped on its way out
                pass


def here(ctskip):
    """The inode numbers of the lines of `netns`."""
    return {line["netns"] for line in ctskip.netns()}


# --- netns= ------------------------------------------------------------------------------------------


def test_files_that_are_namespaces(ctskip, lab):
    """A path is looked up as the writer sees it; where it leads to, not what it is called, is what counts."""
    client, init = lab.host()
    init.run("touch /run/plain /run/uts")
    init.run("mount --bind /proc/self/ns/uts /run/uts")
    try:
        ctskip.add(f"udp any netns=/run/../run/netns/{client.name} id=5")
        assert ctskip.rules() == [f"skip udp netns={client.inode} any id=5"]
        for path, what in (
            ("/run/plain", "a file that is not a network namespace"),
            ("/run/uts", "a file that is not a network namespace"),
            ("/run/netns/none", "no such file"),
            (
                "/run/none",
                "a file that is not there, or that the kernel must ask a file system for",
            ),
            ("/run/plain/none", "a file that is not there"),
        ):
            assert ctskip.write(f"udp any netns={path}\n"), path
            assert ctskip.last_error()["error"].startswith(what), path
        ctskip.commit("flush")
    finally:
        init.run("umount /run/uts")
        init.run("rm -f /run/plain /run/uts")


def test_every_form(ctskip, lab, family):
    client, init = lab.host()
    init.udp_echo(53)
    for ns in (client, init):
        ns.track()
    process = client.start("sleep 60")
    sports = itertools.count(20000)
    for term, acts_in, printed in (
        ("", {client, init}, ""),
        ("netns=init", {init}, " netns=init"),
        (f"netns={init.inode}", {init}, " netns=init"),
        ("netns=pid:1", {init}, " netns=init"),
        (f"netns={client.inode}", {client}, f" netns={client.inode}"),
        (f"netns=pid:{process.pid}", {client}, f" netns={client.inode}"),
        (f"netns={client.name}", {client}, f" netns={client.inode}"),
        (f"netns=/run/netns/{client.name}", {client}, f" netns={client.inode}"),
        ("netns!=init", {client}, " netns!=init"),
    ):
        ctskip.commit("flush", f"add udp dport=53 {term} id=5")
        assert ctskip.rules() == [f"skip udp dport=53{printed} id=5"]
        sport = next(sports)
        before = {ns: ctskip.netns(ns)["skipped"] for ns in (client, init)}
        assert client.udp(init.addr(family), 53, sport=sport) == b"ping"
        assert ctskip.counter(5)["packets"] == 2 * len(acts_in), term
        for ns in (client, init):
            acts = ns in acts_in
            line = ctskip.netns(ns)
            assert line["skipped"] - before[ns] == (2 if acts else 0), (term, ns)
            assert line["rules"] == (1 if acts else 0), (term, ns)
            ports = [entry.original["sport"] for entry in ns.entries(family, "udp")]
            assert ports.count(str(sport)) == (0 if acts else 1), (term, ns)


@pytest.mark.parametrize(
    "term, expected",
    (
        ("netns=1", errno.ESRCH),
        ("netns=4294967295", errno.ESRCH),
        (f"netns=pid:{NOBODY}", errno.ESRCH),
        ("netns=pid:0", errno.ESRCH),
        ("netns=eth0", errno.ESRCH),
        ("netns=/run/netns/eth0", errno.ESRCH),
        ("netns=/dev/null", errno.EINVAL),
        ("netns=/proc/1/ns/net", errno.EINVAL),
        ("netns=/proc/1/ns/mnt", errno.EINVAL),
        ("netns=", errno.EINVAL),
        ("netns=pid:", errno.EINVAL),
        ("netns=4294967296", errno.EINVAL),
        ("netns!=1", errno.EINVAL),
        ("netns=init netns=init", errno.EINVAL),
        ("netns=init netns!=init", errno.EINVAL),
    ),
)
def test_namespace_that_is_not_there(ctskip, term, expected):
    ctskip.add("udp dport=53")
    before = ctskip.text("rules")
    assert ctskip.write(f"add udp dport=54 {term}\n") == expected
    error = ctskip.last_error()
    assert error["errno"] == errno.errorcode[expected]
    assert error["column"] >= 18
    assert ctskip.text("rules") == before


def test_pid_of_a_process_that_has_gone(ctskip, lab):
    ns = lab.ns()
    process = ns.start("sleep 60")
    ctskip.add(f"udp dport=1 netns=pid:{process.pid}")
    assert ctskip.netns(ns)["rules"] == 1
    process.kill()
    process.wait()
    assert ctskip.write(f"add udp dport=2 netns=pid:{process.pid}\n") == errno.ESRCH
    # The rule names the namespace, not the process.
    assert ctskip.netns(ns)["rules"] == 1


@pytest.mark.parametrize("more", [0, 70])
def test_first_match_across_common_and_own_rules(ctskip, lab, family, more):
    """The order is the table's, whichever namespaces the rules are for; few rules, and more."""
    others = [f"add udp dport={1000 + n} id={1000 + n}" for n in range(more)]
    ns, other = lab.ns(), lab.ns()
    for one in (ns, other):
        one.udp_sink(7)
        one.track()
    rules = {
        1: f"track udp dport=7 netns={ns.inode} id=1",
        2: "skip udp dport=7 id=2",
        3: "track udp dport=7 netns!=init id=3",
        4: "skip udp dport=7 netns=init id=4",
        5: f"skip udp dport=7 netns={other.inode} id=5",
    }
    for order in itertools.permutations((1, 2, 3, 5)):
        ctskip.commit(
            "flush", *others, "add " + rules[4], *(f"add {rules[number]}" for number in order)
        )
        ns.udp_send(LOOPBACK[family.version], 7)
        hit = [c["id"] for c in ctskip.counters() if c["packets"]]
        assert hit == [next(number for number in order if number != 5)], order
    for order, entries in (((1, 2), 1), ((2, 1), 0), ((5, 3), 1), ((2, 3), 0), ((3, 2), 1)):
        ns.flush()
        ctskip.commit("flush", *others, *(f"add {rules[number]}" for number in order))
        ns.udp_send(LOOPBACK[family.version], 7)
        assert ns.count() == entries, order


@pytest.mark.not_quick
def test_many_namespaces_with_rules_of_their_own(ctskip, lab):
    """Each acts in its own only, also after every second one has gone."""
    spaces = [lab.ns() for _ in range(50)]
    for number, ns in enumerate(spaces):
        ns.udp_sink(1000 + number, 1000 + (number + 1) % 50)
    ctskip.commit(
        *(
            f"add udp dport={1000 + number} netns={ns.inode} id={1 + number}"
            for number, ns in enumerate(spaces)
        )
    )

    def check(expected):
        """Each namespace sends to its own port and its neighbour's, in both families."""
        counted = {line["netns"]: line for line in ctskip.netns()}
        for number, ns in enumerate(spaces):
            if ns in lab.namespaces:
                for address in LOOPBACK.values():
                    ns.udp_send(address, 1000 + number)
                    ns.udp_send(address, 1000 + (number + 1) % 50)
        after = {line["netns"]: line for line in ctskip.netns()}
        for ns in lab.namespaces:
            assert after[ns.inode]["rules"] == 1
            assert after[ns.inode]["skipped"] - counted[ns.inode]["skipped"] == 2
        assert [c["packets"] for c in ctskip.counters()] == [expected] * len(lab.namespaces)

    check(2)
    for ns in spaces[::2]:
        end(ns)
    wait_until(lambda: len(ctskip.rules()) == 25, 20)
    assert [c["id"] for c in ctskip.counters()] == list(range(2, 51, 2))
    check(4)


def test_rules_for_others_act_in_namespaces_made_later(ctskip, lab, family):
    ctskip.add("udp dport=1 netns!=init", "udp dport=2 netns=init", "udp dport=3")
    ns = lab.ns()
    ns.udp_sink(1, 2, 3)
    ns.track()
    assert ctskip.netns(ns)["rules"] == 2
    for port in (1, 2, 3):
        ns.udp_send(LOOPBACK[family.version], port)
    (entry,) = ns.entries()
    assert entry.original["dport"] == "2"
    assert [c["packets"] for c in ctskip.counters()] == [1, 0, 1]


# --- the end of a namespace --------------------------------------------------------------------------


def test_rules_go_with_their_namespace(ctskip, lab, dmesg):
    ns, other = lab.ns(), lab.ns()
    other.udp_sink(3)
    ctskip.commit(
        f"add udp dport=1 netns={ns.inode} id=1",
        "add udp dport=2 id=2",
        f"add track udp dport=3 netns={other.inode} id=3",
        f"add udp dport=4 netns={ns.inode} tag=t id=4",
    )
    other.udp_send("127.0.0.1", 3)
    generation, inode = ctskip.generation, ns.inode
    end(ns)
    wait_until(lambda: len(ctskip.rules()) == 2, 20)
    assert ctskip.rules() == [
        "skip udp dport=2 id=2",
        f"track udp dport=3 netns={other.inode} id=3",
    ]
    assert ctskip.generation == generation + 1
    # Over loopback a tracked packet is looked at twice, where conntrack is off.
    assert ctskip.counter(3)["packets"] == 2
    dmesg.wait(rf"ctskip: generation {generation + 1}: \+0 -2 rules, as .* gone")
    assert inode not in here(ctskip)
    assert ctskip.write(f"add udp dport=1 netns={inode}\n") == errno.ESRCH


def test_end_of_a_namespace_without_rules_changes_nothing(ctskip, lab):
    ns = lab.ns()
    ctskip.add("udp dport=1", "udp dport=2 netns!=init")
    before, inode = ctskip.text("rules"), ns.inode
    end(ns)
    wait_until(lambda: inode not in here(ctskip), 20)
    assert ctskip.text("rules") == before


def reborn(ctskip, lab):
    """A namespace with the number of one that a rule was for; the kernel gives the lowest free one,
    also to files in /proc, and frees one some time after the namespace has gone."""
    for _ in range(4):
        wait_until(lambda: len(ctskip.netns()) == 1, 20)
        old = lab.ns()
        inode = old.inode
        ctskip.add(f"udp dport=7 netns={inode}")
        end(old)
        for _ in range(8):
            made = []
            while len(made) < 5:
                made.append(lab.ns())
                if made[-1].inode == inode:
                    return made[-1]
                time.sleep(0.05 * netlab.SLOWER)
            for ns in made:
                end(ns)
    raise AssertionError("no number comes again")


def test_a_reused_inode_number_revives_no_rule(ctskip, lab):
    new = reborn(ctskip, lab)
    new.udp_sink(7)
    wait_until(lambda: ctskip.rules() == [], 20)
    assert ctskip.netns(new)["rules"] == 0
    new.udp_send("127.0.0.1", 7)
    assert ctskip.netns(new)["skipped"] == 0
    # It can be named, and is another.
    ctskip.add(f"udp dport=7 netns={new.inode}")
    new.udp_send("127.0.0.1", 7)
    assert ctskip.netns(new)["skipped"] == 1


def test_namespaces_come_and_go_while_tables_are_loaded(ctskip, lab):
    """A writer that names each as it is made; a reader; in the end all rules have gone."""
    stop = threading.Event()
    errors = []

    def read():
        while not stop.is_set():
            for name in ("netns", "rules", "counters", "stats"):
                try:
                    ctskip.read(name)
                except OSError as error:
                    if error.errno != errno.ESTALE:
                        errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(30):
            ns = lab.ns()
            ns.udp_sink(7)
            ctskip.commit(f"add udp dport=7 netns={ns.inode}", "add udp dport=8 tag=common")
            ns.udp_send("127.0.0.1", 7)
            ns.udp_send("::1", 7)
            own = f"skip udp dport=7 netns={ns.inode}"
            assert [c["packets"] for c in ctskip.counters() if c["rule"] == own] == [2]
            if number >= 5:
                end(lab.namespaces[0])
        for ns in list(lab.namespaces):
            end(ns)
        wait_until(lambda: all(r.split()[-2] == "tag=common" for r in ctskip.rules()), 30)
        assert len(ctskip.rules()) == 30
        wait_until(lambda: len(ctskip.netns()) == 1, 30)
    finally:
        stop.set()
        reader.join()
    assert errors == []


# --- the file `netns` --------------------------------------------------------------------------------


def test_a_line_for_each_namespace(ctskip, lab):
    """Also where they fill more than a page, and are read in pieces of any size."""
    spaces = [lab.ns() for _ in range(40)]
    text = ctskip.text("netns")
    assert len(text) > 4096
    inodes = [netlab.numbers(line)["netns"] for line in text.splitlines()]
    # Those of the tests before may not be quite gone.
    assert len(inodes) == len(set(inodes))
    assert {ns.inode for ns in spaces} | {"init"} <= set(inodes)
    for line in text.splitlines():
        assert list(netlab.fields(line))[: len(FIELDS)] == FIELDS
    wait_until(lambda: len(ctskip.netns()) == 41, 20)
    text = ctskip.text("netns")
    for size in (1, 7, 100, 4095, 4097):
        fd = os.open(netlab.SYSFS / "netns", os.O_RDONLY)
        try:
            pieces = b"".join(iter(lambda: os.read(fd, size), b""))  # noqa: B023
        finally:
            os.close(fd)
        assert pieces.decode() == text, size


def test_ct_says_whether_conntrack_looks(ctskip, lab, family):
    ns = lab.ns()
    line = ctskip.netns(ns)
    assert (line["ct"], line["nat"], line["entries"], line["rules"]) == ("off", "no", 0, 0)
    ns.nft(
        f"table {family.ip} t {{ chain c {{ type filter hook input priority 0; ct state new; }}; }}"
    )
    assert ctskip.netns(ns)["ct"] == "on"
    ns.nft(f"delete table {family.ip} t")
    assert ctskip.netns(ns)["ct"] == "off"
    # A chain at conntrack's priority is not conntrack.
    ns.nft("table inet t { chain c { type filter hook prerouting priority -200; accept; }; }")
    assert ctskip.netns(ns)["ct"] == "off"


def test_entries_and_limit_are_conntracks(ctskip, lab, family):
    client, server = lab.pair()
    server.udp_sink(*range(2000, 2017))
    for ns in (client, server):
        ns.track()
    flood(client, server.addr(family), 17, port=2000)
    server.udp_send("127.0.0.1", 2000)
    limit = int(lab.init.sysctl("net.netfilter.nf_conntrack_max"))
    for ns, expected in ((client, 17), (server, 18)):
        line = ctskip.netns(ns)
        assert line["entries"] == ns.count() == expected
        assert line["max"] == limit
    lab.init.sysctl("net.netfilter.nf_conntrack_max", limit - 1)
    try:
        assert {line["max"] for line in ctskip.netns()} == {limit - 1}
    finally:
        lab.init.sysctl("net.netfilter.nf_conntrack_max", limit)


def test_packets_left_alone_are_told_by_namespace(ctskip, lab, family):
    client, server = lab.pair()
    alone = lab.ns()
    for ns, hook, how in ((client, "output", "notrack"), (server, "prerouting", "ct zone set 5")):
        ns.nft(
            f"table inet raw {{ chain c {{ type filter hook {hook} priority raw; udp dport 7 {how}; }}; }}"
        )
    server.udp_sink(7, family=family)
    alone.track()
    alone.udp_sink(7, family=family)
    client.udp_send(server.addr(family), 7, count=2)  # no rule, so nothing counts
    for ns in (client, server, alone):
        assert [ctskip.netns(ns)[key] for key in LEFT] == [0, 0, 0]
    ctskip.add("udp dport=9")
    client.udp_send(server.addr(family), 7, count=3)
    alone.udp_send(LOOPBACK[family.version], 7, count=2)
    for ns, counts in ((client, [0, 0, 3]), (server, [0, 3, 0]), (alone, [2, 0, 0])):
        assert [ctskip.netns(ns)[key] for key in LEFT] == counts
    # A count of 0 is left out.
    (line,) = [
        line for line in ctskip.text("netns").splitlines() if f"netns={server.inode} " in line
    ]
    assert list(netlab.fields(line)) == [*FIELDS, "left_template"]


@pytest.fixture
def small_table(lab):
    """small(entries, buckets): conntrack's limit and hash, as they were after the test."""
    names = [f"net.netfilter.nf_conntrack_{name}" for name in ("buckets", "max")]
    lab.init.track()  # the module is there
    before = [lab.init.sysctl(name) for name in names]

    def small(entries, buckets):
        for name, value in zip(names, (buckets, entries), strict=True):
            lab.init.sysctl(name, value)

    yield small
    for name, value in zip(names, before, strict=True):
        lab.init.sysctl(name, value)


def overflowed(ns):
    """(drop, early_drop) as `conntrack -S` says, of all processors."""
    text = ns.run("conntrack -S").stdout
    return tuple(
        sum(int(n) for n in re.findall(rf"\b{name}=(\d+)", text)) for name in ("drop", "early_drop")
    )


def test_drops_show_where_the_table_overflows(ctskip, lab, family, small_table):
    client, server = lab.pair()
    third = lab.ns()
    for ns in (client, third):
        ns.track()
    small_table(100, 512)

    def state():
        line = ctskip.netns(client)
        assert (line["drop"], line["early_drop"]) == overflowed(client)
        return line

    assert (state()["drop"], state()["early_drop"]) == (0, 0)
    flood(client, server.addr(family), 600)
    line = state()
    assert line["entries"] == client.count() <= line["max"] == 100
    assert line["drop"] > 0 and line["early_drop"] > 0
    flood(client, server.addr(family), 600)
    assert state()["drop"] > line["drop"]
    # It is this namespace's, nobody else's.
    for ns in (server, third):
        assert (ctskip.netns(ns)["drop"], ctskip.netns(ns)["early_drop"]) == (0, 0)
    assert state()["drop_new"] == state()["drop"]
    # The rule that relieves it.
    ctskip.add(f"udp dst={server.addr(family)} dport=1024-2048")
    before = state()
    flood(client, server.addr(family), 600)
    after = state()
    assert (after["drop"], after["early_drop"]) == (before["drop"], before["early_drop"])
    assert after["skipped"] >= 600


@pytest.mark.own_module
def test_new_drops_are_those_since_the_module_was_loaded(ctskip, lab, family, small_table):
    client, server = lab.pair()
    client.track()
    small_table(100, 512)
    flood(client, server.addr(family), 600)
    before, _ = overflowed(client)
    assert before > 0
    assert ctskip.load() == 0
    line = ctskip.netns(client)
    assert (line["drop"], line["drop_new"]) == (before, 0)
    flood(client, server.addr(family), 600)
    line = ctskip.netns(client)
    assert line["drop"] == overflowed(client)[0] > before
    assert line["drop_new"] == line["drop"] - before


def test_stats_tell_of_the_shared_hash(ctskip, lab, family, small_table):
    client, server = lab.pair()
    for ns in (client, server):
        ns.track()
    small_table(65536, 512)
    flood(client, server.addr(family), 200)
    buckets = int(lab.init.sysctl("net.netfilter.nf_conntrack_buckets"))
    wait_until(lambda: server.count() >= 200)
    entries = sum(ns.count() for ns in (client, server, lab.init))
    assert entries >= 400
    # Those of namespaces that are on their way out count too.
    wait_until(lambda: ctskip.stats()["entries"] == entries, 20)
    stats = ctskip.stats()
    assert (stats["buckets"], stats["entries"]) == (buckets, entries)
    # Two tuples an entry, cut to two places.
    assert stats["average_chain"] == f"{entries * 200 // buckets / 100:.2f}"
    lab.init.sysctl("net.netfilter.nf_conntrack_buckets", 1024)
    stats = ctskip.stats()
    assert stats["buckets"] == 1024
    assert stats["average_chain"] == f"{entries * 200 // 1024 / 100:.2f}"


def test_read_that_a_namespaces_end_overtakes_fails(ctskip, lab):
    spaces = [lab.ns() for _ in range(3)]
    wait_until(lambda: len(ctskip.netns()) == 4, 20)
    fd = os.open(netlab.SYSFS / "netns", os.O_RDONLY)
    try:
        assert len(os.read(fd, 60)) == 60
        assert len(os.read(fd, 40)) == 40
        inode = spaces[0].inode
        end(spaces[0])
        wait_until(lambda: inode not in here(ctskip), 20)
        with pytest.raises(OSError) as raised:
            os.read(fd, 100)
        assert raised.value.errno == errno.ESTALE
        # From its start it is read again.
        os.lseek(fd, 0, os.SEEK_SET)
        assert len(os.read(fd, 60)) == 60
        assert len(os.read(fd, 40)) == 40
    finally:
        os.close(fd)


def test_counters_of_a_namespace_outlive_it_in_the_totals(ctskip, lab, family):
    ns = lab.ns()
    ns.udp_sink(7)
    rule = ctskip.add("udp dport=7")
    before = ctskip.stats()["skipped"]
    for _ in range(5):
        ns.udp_send(LOOPBACK[family.version], 7)
    assert ctskip.stats()["skipped"] == before + 5
    inode = ns.inode
    end(ns)
    wait_until(lambda: inode not in here(ctskip), 20)
    assert ctskip.stats()["skipped"] == before + 5
    assert ctskip.counter(rule)["packets"] == 5


# --- a namespace without room for hooks --------------------------------------------------------------


def fill(ns, family, point="prerouting"):
    """Have a point of the namespace have as many hooks as the kernel allows, 1,024."""
    chains = [
        f"chain c{number} {{ type filter hook {point} priority {number}; }}\n"
        for number in range(1024)
    ]
    # Some are there already. What has no room is taken back as a whole.
    while True:
        try:
            return ns.nft(f"table {family.ip} full {{\n{''.join(chains)}}}")
        except AssertionError:
            chains.pop()


@pytest.mark.own_module
@pytest.mark.parametrize("point", ("prerouting", "output"))
def test_no_room_for_hooks(ctskip, lab, family, dmesg, point):
    """Whoever has a namespace, and fills it up, keeps the module from that one only."""
    client, server = lab.pair()
    server.udp_echo(53)
    for ns in (client, server):
        ns.track()
    fill(server, family, point)

    def entries_after_load():
        assert ctskip.load(rules="udp dport=53") == 0
        lines = [ctskip.netns(ns) for ns in (client, server)]
        acts.append([(line["rules"], line.get("hooks", "yes")) for line in lines])
        for one in (V4, V6):
            for ns in (client, server):
                ns.flush()
            assert client.udp(server.addr(one), 53) == b"ping"
            yield len(client.entries(one, "udp")), len(server.entries(one, "udp"))
        assert ctskip.unload() == 0

    # Of both families: none of its hooks is there, and no rule is said to act.
    acts = []
    assert list(entries_after_load()) == [(0, 1), (0, 1)]
    assert acts.pop() == [(1, "yes"), (0, "no")]
    assert f"ctskip: netns {server.inode}: no room for a hook" in dmesg.text()
    dmesg.wait(r"ctskip: version .*, 1 rules, \d+ namespaces, 1 of them without hooks")
    server.nft("flush ruleset")
    server.track()
    dmesg.clear()
    assert list(entries_after_load()) == [(0, 0), (0, 0)]
    assert acts.pop() == [(1, "yes"), (1, "yes")]
    assert "no room" not in dmesg.text()


@pytest.mark.own_module
def test_no_room_for_hooks_in_the_initial_namespace(ctskip, lab, family, dmesg):
    client, init = lab.host()
    init.udp_echo(53)
    client.track()
    fill(init, family)
    try:
        assert ctskip.load(rules="udp dport=53") == errno.E2BIG
    finally:
        init.nft("flush ruleset")
    assert "ctskip: netns init: no room for a hook" in dmesg.text()
    assert not ctskip.loaded()
    assert ctskip.load(rules="udp dport=53") == 0
    assert client.udp(init.addr(family), 53) == b"ping"
    assert client.entries(family, "udp") == []


@pytest.mark.own_module
@pytest.mark.not_quick
def test_no_room_for_hooks_in_many_namespaces(ctskip, lab, dmesg):
    """Others make them, so the log names a few."""
    spaces = [lab.ns() for _ in range(18)]
    for ns in spaces:
        fill(ns, V4)
    assert ctskip.load() == 0
    lines = [line for line in dmesg.lines() if "room for a hook" in line]
    named = {int(found[1]) for line in lines if (found := re.search(r"netns (\d+):", line))}
    assert len(lines) == 17
    assert len(named) == 16
    assert named < {ns.inode for ns in spaces}
