# SPDX-License-Identifier: GPL-2.0
"""What each file holds, and that a reader gets it whole, in steps of any size, of one table."""

import ctypes
import errno
import os
import random
import re
import subprocess
from pathlib import Path

import netlab
import pytest

FILES = {
    "rules": 0o600,
    "counters": 0o400,
    "tags": 0o400,
    "netns": 0o400,
    "stats": 0o400,
    "mode": 0o600,
    "last_error": 0o400,
    "generation": 0o444,
    "version": 0o444,
}


def test_modes(ctskip):
    found = {path.name: path.stat() for path in netlab.SYSFS.iterdir()}
    assert {name: stat.st_mode & 0o7777 for name, stat in found.items()} == FILES
    assert all((stat.st_uid, stat.st_gid) == (0, 0) for stat in found.values())


@pytest.mark.parametrize("name", [name for name, mode in FILES.items() if not mode & 0o200])
def test_not_writable(ctskip, name):
    """By root as well, whom no mode keeps from opening it."""
    before = ctskip.snapshot()
    with pytest.raises(OSError):
        fd = os.open(netlab.SYSFS / name, os.O_WRONLY)
        try:
            os.write(fd, b"flush\n")
        finally:
            os.close(fd)
    assert ctskip.snapshot() == before


def alone(ctskip, *spaces):
    """Wait until those of earlier tests have gone: these namespaces are all there are."""
    inodes = sorted(ns.inode for ns in spaces)
    netlab.wait_until(lambda: sorted(line["netns"] for line in ctskip.netns()) == inodes, 20)


# --- rules ---------------------------------------------------------------------------------------


def test_header(ctskip):
    """`# ctskip VERSION mode=... generation=... rules=N sum=...`, whatever the table."""
    for mode in ("skip", "observe", "off"):
        ctskip.mode = mode
        for count in range(2):
            head, *rules = ctskip.read("rules").splitlines()
            assert re.fullmatch(
                rf"# ctskip {re.escape(ctskip.read('version').strip())} mode={mode} "
                rf"generation={ctskip.generation} rules={count} sum=[0-9a-f]{{16}}",
                head,
            )
            assert len(rules) == count
            ctskip.commit("udp dport=53" if count == 0 else "flush")


def test_rules_are_canonical(ctskip):
    ctskip.commit(
        "tag=web dport=443,80 dst=192.0.2.7,10.0.0.0/8 tcp",
        "any id=4000000 ip6 track",
        "mark=16/0x10 udp netns=init nat=ok oneway",
    )
    first = ctskip.counters()[0]["id"]
    assert ctskip.rules() == [
        f"skip tcp dst=10.0.0.0/8,192.0.2.7 dport=80,443 tag=web id={first}",
        "track ip6 any id=4000000",
        "skip udp mark=0x10/0x10 netns=init nat=ok oneway id=4000001",
    ]


def test_sum_is_of_the_rules_alone(ctskip):
    """Equal for equal tables whatever their ids and how they came to be; else different."""

    def total(*lines):
        ctskip.commit(*lines)
        return ctskip.header()["sum"]

    one = total("flush", "udp dport=1", "tcp dport=2 tag=t")
    sums = {
        one,
        total("flush"),
        total("udp dport=1"),
        total("tcp dport=2"),
        total("delete tag=t") if ctskip.write("tcp dport=3 tag=t\n") == 0 else None,
        total("flush", "tcp dport=2 tag=t", "udp dport=1"),
        total("flush", "track udp dport=1", "tcp dport=2 tag=t"),
    }
    assert len(sums) == 6  # the table of both rules, without the third, comes twice
    assert total("flush", "dport=2 tag=t tcp id=9000", "insert dport=1-1 udp id=9001") == one
    assert total("load", "udp dport=1", "add tcp dport=2 tag=t", "commit") == one
    ctskip.mode = "observe"
    assert ctskip.header()["sum"] == one


# --- tags ----------------------------------------------------------------------------------------


def test_tags(ctskip):
    """A tag's line changes where its own rules do, and is what another table of them alone has."""

    def tags():
        lines = [netlab.fields(line) for line in ctskip.read("tags").splitlines()]
        return {line["tag"]: (int(line["rules"]), line["sum"]) for line in lines}

    assert ctskip.read("tags") == ""
    ctskip.commit(
        "udp dport=1 tag=dns", "udp dport=3", "udp dport=2 tag=dns", "tcp dport=1 tag=b:c/d"
    )
    before = tags()
    assert list(before) == ["", "b:c/d", "dns"]
    assert [rules for rules, _ in before.values()] == [1, 1, 2]
    ctskip.commit("add udp dport=4", "insert tcp dport=9 tag=b:c/d")
    after = tags()
    assert after["dns"] == before["dns"]
    assert after[""] != before[""] and after["b:c/d"] != before["b:c/d"]
    ctskip.commit("flush", "udp dport=1 tag=dns", "udp dport=2 tag=dns")
    assert tags() == {"dns": before["dns"]}
    ctskip.commit("flush", "udp dport=2 tag=dns", "udp dport=1 tag=dns")
    assert tags()["dns"] != before["dns"]


def test_many_tags(ctskip):
    """As many as rules, read in steps of any size."""
    ctskip.load_table("\n".join(f"udp dport={n + 1} tag=t{n}" for n in range(1000)))
    whole = ctskip.read("tags")
    assert whole.count("\n") == 1000
    for size in (1, 100, 4096, 5000):
        assert in_steps("tags", size) == whole, size


# --- counters ------------------------------------------------------------------------------------


def test_counters_name_the_rule_that_shadows(ctskip):
    ctskip.commit("udp any id=3", "udp dport=53 id=4", "tcp dport=53 id=5")
    assert [line.get("shadowed_by") for line in ctskip.counters()] == [None, 3, None]
    ctskip.commit("delete 3")
    assert [line.get("shadowed_by") for line in ctskip.counters()] == [None, None]


def test_counters(ctskip, lab, family):
    client, server = lab.pair()
    server.watch()
    server.udp_echo(53)
    server.udp_sink(54, family=family)
    address = server.addr(family)
    ctskip.commit(f"udp dst={address} dport=53 tag=dns", f"track udp {family.ip} any")
    assert client.udp(address, 53, b"x" * 100, count=4)
    client.udp_send(address, 54, b"x" * 10, count=3)
    first, second = ctskip.read("counters").splitlines()
    length = family.pick(20, 40) + 8
    # Each packet is seen where it leaves and where it arrives; four have answers.
    packets, size = 16, 16 * (length + 100)
    line = rf'id=\d+ packets={packets} bytes={size} held=0 observed=0 tag=dns +rule="(.*)"'
    assert re.fullmatch(line, first).group(1) == f"skip udp dst={address} dport=53 tag=dns"
    packets, size = 6, 6 * (length + 10)
    line = rf'id=\d+ packets={packets} bytes={size} held=0 observed=0 tag= +rule="(.*)"'
    assert re.fullmatch(line, second).group(1) == f"track {family.ip} udp any"


def test_counters_hold_what_nat_kept(ctskip, lab):
    client, server = lab.pair()
    server.nft("table ip n { chain c { type nat hook prerouting priority dstnat; }; }")
    server.udp_sink(53, family=netlab.V4)
    ctskip.commit("udp dport=53")
    client.udp_send(server.addr(), 53, count=3)
    (line,) = ctskip.counters()
    assert (line["packets"], line["held"]) == (3, 3)  # skipped at the client, held at the server
    assert ctskip.netns(server)["held"] == 3 and ctskip.netns(server)["nat"] == "ipv4"
    assert ctskip.netns(client)["held"] == 0 and ctskip.netns(client)["nat"] == "no"


# --- netns and stats -----------------------------------------------------------------------------


def test_netns(ctskip, lab, family):
    client, server = lab.pair()
    server.watch()
    server.udp_echo(53)
    server.udp_sink(60, family=family)
    ctskip.commit(f"udp {family.ip} dport=53", f"udp dport=54 netns={server.inode}")
    assert client.udp(server.addr(family), 53, count=5)
    client.udp_send(server.addr(family), 60, count=1)
    lines = ctskip.text("netns").splitlines()
    keys = "netns ct entries max drop nat rules skipped".split()
    assert all(re.findall(r"(\w+)=", line)[: len(keys)] == keys for line in lines)
    assert all(len(line) < 120 for line in lines)
    # As a rule names them.
    assert [line.split()[0] for line in lines].count("netns=init") == 1
    assert f"netns={lab.init.inode} " not in "".join(lines)
    assert lab.init.inode == os.stat("/proc/1/ns/net").st_ino
    alone(ctskip, lab.init, client, server)
    most = int(server.sysctl("net.netfilter.nf_conntrack_max"))
    assert ctskip.netns(server) == {
        "netns": server.inode,
        "ct": "on",
        "entries": server.count(),
        "max": most,
        "drop": 0,
        "drop_new": 0,
        "early_drop": 0,
        "nat": "no",
        "rules": 2,
        "skipped": 10,
        "held": 0,
        "left_entry": 0,
        "left_template": 0,
        "left_untracked": 0,
    }
    assert server.count() == 1
    other = ctskip.netns(client)
    assert (other["ct"], other["entries"], other["rules"], other["skipped"]) == ("off", 0, 1, 10)


def test_netns_comes_and_goes(ctskip, lab):
    """What comes is behind what is there: a read that is under way goes on."""
    spaces = [lab.ns() for _ in range(5)]
    alone(ctskip, lab.init, *spaces)
    made = {ns.inode for ns in spaces}
    with netlab.OpenFile("netns") as file:
        text = file.read(10)
        made.add(lab.ns().inode)
        while piece := file.read(100):
            text += piece
    assert {f"netns={inode}" for inode in made} <= {line.split()[0] for line in text.splitlines()}


def test_stats(ctskip, lab, family):
    client, server = lab.pair()
    server.watch()
    server.udp_echo(53)
    server.udp_sink(54, 55, family=family)
    address = server.addr(family)
    ctskip.commit(f"udp {family.ip} dport=53", f"track udp {family.ip} dport=54")
    before = ctskip.stats()
    assert (
        list(before)
        == (
            "seen skipped observed held tracked left_entry left_template left_untracked left_unread "
            "icmp_errors_followed skipped_without_ct worst_lookup purged kept_translated kept_expected kept_helped "
            "kept_offloaded kept_marked kept_labelled kept_templated kept_unsure buckets entries average_chain"
        ).split()
    )
    assert client.udp(address, 53, count=5)
    client.udp_send(address, 54, count=2)
    client.udp_send(address, 55, count=1)
    ctskip.mode = "observe"
    assert client.udp(address, 53, count=1)
    alone(ctskip, lab.init, client, server)
    after = ctskip.stats()
    grown = {key: after[key] - before[key] for key in list(before)[:9] if after[key] != before[key]}
    # Each packet is seen where it leaves and where it arrives.
    assert grown["skipped"] == 20
    assert grown["observed"] == 4
    assert grown["tracked"] == 4
    assert grown["seen"] >= 30  # the kernel's own neighbour discovery comes on top
    assert not {"held", "left_entry", "left_template", "icmp_errors_followed"} & set(grown)
    assert after["buckets"] == int(Path("/proc/sys/net/netfilter/nf_conntrack_buckets").read_text())
    spaces = (lab.init, client, server)
    assert after["entries"] == sum(ctskip.netns(ns)["entries"] for ns in spaces)
    assert after["entries"] >= 3
    assert abs(float(after["average_chain"]) - after["entries"] * 2 / after["buckets"]) <= 0.01


def test_stats_say_what_a_lookup_takes_at_worst(ctskip):
    """It grows with the kinds of rules, and hardly with their number."""

    def worst(*rules):
        ctskip.load_table("\n".join(rules))
        return ctskip.stats()["worst_lookup"]

    none = worst()
    one = worst("udp dport=53 any")
    many = worst(*(f"udp src=10.{n // 256}.{n % 256}.1 dport=53" for n in range(2000)))
    kinds = [f"udp src=10.0.0.0/{8 + n} dport={n}-{n + 40}" for n in range(24)]
    kinds += [f"udp dst=10.0.0.0/{8 + n} sport={n}-{n + 40}" for n in range(24)]
    assert 0 < none < one < many < 1000
    assert one < worst(*kinds) < 2000


def test_stats_tell_what_was_skipped_without_conntrack(ctskip, lab):
    """Of namespaces by what they are when the file is read, and of gone ones by what they were at last."""
    spaces = [lab.ns() for _ in range(3)]
    tracks, plain, _ = spaces
    tracks.track()
    alone(ctskip, lab.init, *spaces)
    ctskip.commit("udp dport=53")
    before = ctskip.stats()

    def grown():
        now = ctskip.stats()
        return [now[key] - before[key] for key in ("skipped", "skipped_without_ct")]

    for ns, count in zip(spaces, (3, 5, 9), strict=True):
        ns.udp_sink(53, family=netlab.V4)
        ns.udp_send("127.0.0.1", 53, count=count)
    assert grown() == [17, 14]
    # All that a namespace has counted moves, where conntrack comes or goes.
    plain.track()
    assert grown() == [17, 9]
    tracks.nft("delete table inet lab_track")
    assert grown() == [17, 12]
    while spaces:
        ns = spaces.pop()
        ns.close()
        lab.namespaces.remove(ns)
        alone(ctskip, lab.init, *spaces)
        assert grown() == [17, 12]


def test_stats_keep_what_gone_namespaces_counted(ctskip, lab):
    ns = lab.ns()
    ctskip.commit("udp dport=53")
    before = ctskip.stats()["skipped"]
    ns.udp_send("127.0.0.1", 53, count=7)
    grown = ctskip.stats()["skipped"]
    assert grown >= before + 14
    inode = ns.inode
    ns.close()
    lab.namespaces.remove(ns)
    netlab.wait_until(lambda: inode not in {line["netns"] for line in ctskip.netns()}, 20)
    assert ctskip.stats()["skipped"] == grown


# --- mode, generation, version -------------------------------------------------------------------


def test_mode(ctskip, dmesg):
    ctskip.commit("udp dport=53")
    generation = ctskip.generation
    for mode in ("observe", "off", "skip"):
        assert ctskip.write(f"{mode}\n", "mode") == 0
        assert ctskip.read("mode") == f"{mode}\n"
        assert ctskip.header()["mode"] == mode
        dmesg.wait(rf"ctskip: mode {mode}, by \S+\[{os.getpid()}\]")
    assert ctskip.generation == generation and len(ctskip.rules()) == 1
    for bad in ("", "on", "Skip", "skip off", "observ", "skip\0"):
        if bad:
            assert ctskip.refused(f"{bad}\n", "mode") == "EINVAL"
            assert ctskip.last_error()["excerpt"].startswith(bad.rstrip("\0"))
    assert ctskip.refused("\n", "mode") == "EINVAL"


def test_generation_and_version(ctskip):
    before = ctskip.generation
    for number in range(1, 4):
        ctskip.commit("udp dport=53")
        assert ctskip.read("generation") == f"{before + number}\n"
    done = subprocess.run(
        ["modinfo", "-F", "version", netlab.MODULE], capture_output=True, text=True, check=True
    )
    assert ctskip.read("version") == done.stdout != "\n"


# --- last_error ----------------------------------------------------------------------------------


@pytest.mark.own_module
def test_last_error_is_empty_before_the_first(ctskip):
    assert ctskip.load() == 0
    assert ctskip.read("last_error") == ""
    ctskip.commit("udp dport=53")
    assert ctskip.read("last_error") == ""
    assert ctskip.write("nonsense\n") == errno.EINVAL
    assert ctskip.read("last_error").startswith("errno=EINVAL\n")
    assert ctskip.unload() == 0 and ctskip.load() == 0
    assert ctskip.read("last_error") == ""


def test_last_error(ctskip):
    ctskip.commit("udp dport=1")
    assert ctskip.write("udp dport=2\n  add udp dprot=53\n") == errno.EINVAL
    text = ctskip.read("last_error")
    assert re.fullmatch(
        "errno=EINVAL\n"
        "line=2\n"
        "column=11\n"
        rf"generation={ctskip.generation}" + "\n"
        rf"writer=python3?\S*\[{os.getpid()}\]" + "\n"
        "error=.+\n"
        "expected=.*dport=.*\n"
        "likely=dport=\n"
        "text=  add udp dprot=53\n"
        "here=          \\^\n",
        text,
    ), text
    # It stays through writes that are taken.
    ctskip.commit("udp dport=2")
    assert ctskip.read("last_error") == text


LIKELY = [
    ("udp dpotr=53", "dpotr", "dport="),
    ("upd dport=53", "upd", "udp"),
    ("notrack udp dport=53", "notrack", "skip"),
    ("udp dst=10.0.0.1 ports=53", "ports=", "dport="),
    ("udp dport=53 uid=1000", "uid=", ""),
    # A negation is told the rule ahead, never its opposite.
    ("udp src!=10.0.0.0/8", "!=", "insert track udp src=10.0.0.0/8"),
    ("udp dst=10.0.0.0/8 dport!=53", "!=", "insert track udp dst=10.0.0.0/8 dport=53"),
    ("udp dport=53 mark!=1", "!=", "insert track udp dport=53 mark=0x1"),
    ("udp dport=53 dev!=eth0", "!=", "insert track udp dport=53 dev=eth0"),
    ("udp dport=53 dev=!eth0", "!", "insert track udp dport=53 dev=eth0"),
    # Other languages.
    ("-p udp --dport 53", "-p", "udp dport=53"),
    ("ip daddr 10.0.0.1 udp dport 53 notrack", "daddr", "udp dst=10.0.0.1 dport=53"),
    ("udp dport={53,54}", "{", "udp dport=53,54"),
    ("udp dport=domain", "domain", "53"),
    ("udp dport=53:60", "53:60", "53-60"),
    ("udp dst=10.0.0.0/255.0.0.0", "255", "10.0.0.0/8"),
    # What matches nothing.
    ("udp dst=::ffff:10.0.0.1 dport=53", "::ffff", "10.0.0.1"),
    ("udp dport=53 dev=eth0.100@eth0", "eth0.100@", "eth0.100"),
    ("udp dport=53 dev=any", "any", "udp dport=53"),
    ("udp dst=0.0.0.0/0", "udp", ""),
    ("udp dport=0-65535", "udp", ""),
    ("icmpv6 type=8", "icmpv6", "icmp6"),
    ("udp daddr=10.0.0.1", "daddr", "dst="),
    ("tcp dst=10.1.2.3/8", "10.1.2.3", "10.0.0.0/8"),
    ("tcp src=fd00::1/64 any", "fd00", "fd00::/64"),
    ("delte 5", "delte", "delete"),
    ("tcp dev=eth+ any", "eth+", "eth*"),
    ("udp", "udp", ""),
    ("xyzzyxyzzy", "xyzzy", ""),
]


@pytest.mark.parametrize("text, word, likely", LIKELY)
def test_likely_spelling_and_caret(ctskip, text, word, likely):
    assert ctskip.refused(text + "\n") == "EINVAL"
    error = ctskip.last_error()
    assert error["likely"] == likely, error["text"]
    assert error["excerpt"] == text
    assert text[error["here"].index("^") :].startswith(word), error["text"]
    assert error["column"] == text.index(word) + 1


@pytest.mark.parametrize("ahead", [0, 70, 200, 1500, 3500])
@pytest.mark.parametrize("behind", [0, 60, 300])
def test_caret_in_a_long_line(ctskip, ahead, behind):
    """The part around the word is shown, and all of it is within a page."""
    line = "udp dport=1;" + " " * ahead + "wrong!" + " any" * (behind // 4)
    assert ctskip.refused(line + "\n") == "EINVAL"
    error = ctskip.last_error()
    assert error["column"] == line.index("wrong!") + 1
    assert error["excerpt"][error["here"].index("^") :].startswith("wrong!"), error["text"]
    assert error["excerpt"] in line and len(error["text"]) < 4096


def test_last_error_shows_no_bytes_that_do_not_print(ctskip):
    assert ctskip.refused(b"udp\tdport=53 \x1b[31m\xc3\xa4\x00\n") == "EINVAL"
    error = ctskip.last_error()
    assert error["text"].isascii() and error["text"].replace("\n", "").isprintable()
    assert error["excerpt"].startswith("udp dport=53 ?[31m")
    assert error["here"].index("^") == 13


def test_writers_name_cannot_break_the_line(ctskip):
    libc = ctypes.CDLL(None)
    child = os.fork()
    if not child:
        libc.prctl(15, b'a b"c\\\n=x', 0, 0, 0)  # PR_SET_NAME
        os._exit(ctskip.write("nonsense\n"))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == errno.EINVAL
    assert ctskip.last_error()["writer"] == f"a_b?c??=x[{child}]"


# --- reading in steps ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def listing():
    """The lines of a table of 1,000 rules, short and long."""
    rand = random.Random(5)
    lines = []
    for port in range(1000):
        addresses = {f"10.{rand.randrange(256)}.{rand.randrange(256)}.0/24" for _ in range(8)}
        some = ",".join(sorted(addresses)[: rand.choice((1, 1, 2, 8))])
        lines.append(f"udp dst={some} dport={port} tag=t{port % 7}")
    return lines


@pytest.fixture
def listed(ctskip, listing):
    ctskip.load_table("\n".join(listing))
    return ctskip


def exactly(file, size):
    """That many bytes: one read may give fewer, up to the end of a line."""
    text = ""
    while len(text) < size:
        text += file.read(size - len(text))
    return text


def in_steps(name, size):
    with netlab.OpenFile(name) as file:
        return "".join(iter(lambda: file.read(size), ""))


@pytest.mark.parametrize("name", ["rules", "counters"])
def test_steps_of_any_size(listed, name):
    whole = listed.read(name)
    assert whole.count("\n") == 1000 + (name == "rules")
    for size in (100, 4096, 5000):
        assert in_steps(name, size) == whole, size
    rand = random.Random(6)
    with netlab.OpenFile(name) as file:
        assert "".join(iter(lambda: file.read(rand.randrange(1, 600)), "")) == whole
        assert file.read(1) == ""


@pytest.mark.parametrize("size", [1, 7])
@pytest.mark.parametrize("name", FILES)
def test_small_steps(ctskip, lab, name, size):
    alone(ctskip, lab.init)
    ctskip.commit("udp dport=53 tag=a", "track tcp dst=10.0.0.0/8 dport=1-100")
    ctskip.write("nonsense\n")
    whole = ctskip.read(name)
    assert whole.endswith("\n")
    if name == "stats":  # its numbers may have grown meanwhile; their columns stay
        assert [line.split("=")[0] for line in in_steps(name, size).splitlines()] == [
            line.split("=")[0] for line in whole.splitlines()
        ]
    else:
        assert in_steps(name, size) == whole


@pytest.mark.parametrize("name", ["rules", "counters"])
def test_any_offset(listed, name):
    whole = listed.read(name).encode()
    rand = random.Random(7)
    with netlab.OpenFile(name) as file:
        for _ in range(100):
            offset, size = rand.randrange(len(whole) + 10), rand.randrange(1, 5000)
            got = os.pread(file.fd, size, offset)
            assert whole[offset:].startswith(got)
            assert got or offset >= len(whole)
        for offset in (len(whole), len(whole) + 1, 1 << 40):
            assert os.pread(file.fd, 100, offset) == b""
        # Back and forth through the file's own position.
        assert exactly(file, 100) == whole[:100].decode()
        os.lseek(file.fd, 50, os.SEEK_SET)
        assert exactly(file, 100) == whole[50:150].decode()
        os.lseek(file.fd, -100, os.SEEK_CUR)
        assert exactly(file, 10) == whole[50:60].decode()
        os.lseek(file.fd, 0, os.SEEK_SET)
        assert exactly(file, 100) == whole[:100].decode()


@pytest.mark.not_quick
def test_lines_keep_their_place_while_counters_grow(listed, lab):
    """A reader of `counters` in small steps gets whole lines, whatever the traffic."""
    ns = lab.ns()
    ns.sysctl("net.ipv4.conf.all.forwarding", 0)
    listed.commit("insert udp dst=127.0.0.0/8 dport=53")
    text = ""
    with netlab.OpenFile("counters") as file:
        # The numbers of the line that changes are in the first piece: each piece is of its own time.
        while piece := file.read(64):
            text += piece
            if len(text) < 5000:
                ns.udp_send("127.0.0.1", 53, count=11)
    pattern = r'id=\d+ packets=\d+ bytes=\d+ held=\d+ observed=\d+ tag=\S* +rule="[^"]+"'
    lines = text.splitlines()
    assert len(lines) == 1001 and all(re.fullmatch(pattern, line) for line in lines)
    assert len(lines[0]) + len("id= rule=") > 60


def shell(script):
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=60, cwd=netlab.SYSFS
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_shell_reads_line_by_line(listed):
    """bash's `read` takes more than a line and seeks back."""
    whole = listed.read("rules")
    assert shell('while IFS= read -r line; do echo "$line"; done < rules') == whole
    assert shell('mapfile -t all < rules; printf "%s\\n" "${all[@]}"') == whole


def test_programs_that_read(listed):
    whole = listed.read("rules")
    lines = whole.splitlines(keepends=True)
    assert shell("cat rules") == whole
    assert shell("head -n 3 rules") == "".join(lines[:3])
    assert shell("tail -n 3 rules") == "".join(lines[-3:])
    assert shell("wc -l < rules").strip() == "1001"
    assert shell("grep -c tag=t3 counters").strip() == str(whole.count(" tag=t3 "))
    assert shell("cp rules /tmp/copy && cat /tmp/copy") == whole
    assert shell("dd if=rules bs=333 status=none") == whole
    assert shell("sort -R rules | wc -l").strip() == "1001"


# --- a commit that overtakes a read --------------------------------------------------------------


@pytest.mark.parametrize("name", ["rules", "counters"])
@pytest.mark.parametrize("how", ["add", "flush", "mode"])
def test_stale(listed, name, how):
    with netlab.OpenFile(name) as file, netlab.OpenFile(name) as late:
        first = exactly(file, 100)
        assert file.read(100)
        if how == "mode":
            listed.mode = "observe"
        else:
            listed.commit("add udp dport=53" if how == "add" else "flush")
        if name == "counters" and how == "mode":
            assert file.read(100)  # nothing in it has changed
            return
        for _ in range(2):  # it does not pass by being tried again
            with pytest.raises(OSError) as caught:
                file.read(100)
            assert caught.value.errno == errno.ESTALE
        assert listed.read(name).startswith(late.read(100))
        # From the start it is the new table.
        os.lseek(file.fd, 0, os.SEEK_SET)
        assert "".join(iter(lambda: file.read(4096), "")) == listed.read(name)
        assert name == "counters" or first != listed.read(name)[:100]


@pytest.mark.parametrize("name", ["netns", "stats"])
def test_stale_where_the_table_is_told_of(ctskip, lab, name):
    """No line tells of another table than the line ahead of it."""
    spaces = [lab.ns() for _ in range(5)]
    alone(ctskip, lab.init, *spaces)
    ctskip.commit("udp dport=1")
    with netlab.OpenFile(name) as file:
        assert file.read(50)
        ctskip.mode = "observe"
        assert file.read(50)  # nothing in it is of the mode
        ctskip.commit("udp dport=2")
        for _ in range(2):
            with pytest.raises(OSError) as caught:
                file.read(50)
            assert caught.value.errno == errno.ESTALE
        os.lseek(file.fd, 0, os.SEEK_SET)
        text = "".join(iter(lambda: file.read(50), ""))
    if name == "netns":
        assert [netlab.numbers(line)["rules"] for line in text.splitlines()] == [2] * 6
    else:
        assert "worst_lookup=" in text


def test_not_stale_where_nothing_changed(listed):
    with netlab.OpenFile() as file:
        first = file.read(100)
        listed.write("nonsense\n")
        listed.write("udp dport=53 id=99999999\ndelete 99999999\n")
        listed.write("load\nudp dport=1\nabort\n")
        assert first + "".join(iter(lambda: file.read(4096), "")) == listed.read("rules")


def test_stale_at_the_end(ctskip):
    """The last read, which finds no more, belongs to the text as well."""
    ctskip.commit("udp dport=53")
    with netlab.OpenFile() as file:
        assert file.read(4096)
        ctskip.commit("udp dport=54")
        with pytest.raises(OSError) as caught:
            file.read(4096)
        assert caught.value.errno == errno.ESTALE
