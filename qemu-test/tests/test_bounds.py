# SPDX-License-Identifier: GPL-2.0
"""What protects the host: tables by which packets cost too much, compiles that take long, whose memory it is."""

import contextlib
import errno
import ipaddress
import os
import random
import re
import signal
import time
from pathlib import Path

import netlab
import pytest

PARAMETER = Path("/sys/module/ctskip/parameters/worst_lookup")
CGROUPS = Path("/sys/fs/cgroup")
DEFAULT = 8192
DEAR = 1024  # so many rules of long lists are over it
SOON = 3.0 * netlab.SLOWER  # seconds


def rules_of_lists(count, shortest, longest, span):
    """Rules of 16 sources, 8 destinations and 8 ranges of ports, of these lengths, at random."""
    rand = random.Random(1)

    def prefix():
        length = rand.randint(shortest, longest)
        address = rand.getrandbits(length) << 32 - length
        return f"{ipaddress.IPv4Address(address)}/{length}"

    def ports():
        first = rand.randrange(65536 - span)
        return f"{first}-{first + rand.randrange(span)}"

    def some(number, make):
        return ",".join(sorted({make() for _ in range(number)}))

    for _ in range(count):
        yield f"tcp src={some(16, prefix)} dst={some(8, prefix)} dport={some(8, ports)}"


def dear(more=""):
    """A table that is over the bound."""
    return "".join(f"{rule}{more}\n" for rule in rules_of_lists(DEAR, 8, 32, 2000))


def refused(ctskip, text):
    """Load a table that is refused as too dear; return what is said of it: (cost, netns, ids, more)."""
    before = ctskip.snapshot()
    with pytest.raises(OSError) as error:
        ctskip.load_table(text)
    assert error.value.errno == errno.E2BIG
    assert ctskip.snapshot() == before
    report = ctskip.last_error()
    assert (report["errno"], report["line"]) == ("E2BIG", 0)
    assert report["error"] == "a packet would cost more than worst_lookup allows"
    found = re.fullmatch(
        r"(\d+) instructions for ip in netns (\w+), to compare a packet with rules ([\d,]+) and (\d+) more",
        report["excerpt"],
    )
    assert found, report["text"]
    return int(found[1]), found[2], [int(number) for number in found[3].split(",")], int(found[4])


# --- what a packet may cost ----------------------------------------------------------------------


@pytest.mark.not_quick
def test_a_table_that_is_too_dear_is_refused(ctskip, lab):
    ctskip.commit("udp dport=53")
    first = ctskip.counters()[0]["id"]
    cost, netns, ids, more = refused(ctskip, dear())
    assert (cost > DEFAULT, netns) == (True, "init")
    assert len(set(ids)) == len(ids) > 1 and more > 0
    assert all(first < number <= first + DEAR for number in ids)
    # What makes it so is named where it holds.
    ns = lab.ns()
    assert refused(ctskip, dear(f" netns={ns.inode}"))[1] == str(ns.inode)
    # The next one is judged by itself.
    ctskip.load_table("udp dport=54")
    assert len(ctskip.rules()) == 1


@pytest.mark.not_quick
def test_a_rule_ahead_hides_no_cost(ctskip):
    """Behind a rule that matches all packets, the others cost nothing, until it goes."""
    draw = random.Random(1)

    def wide():
        return f"{draw.randint(1, 30_000)}-{draw.randint(32_768, 62_767)}"

    rules = [
        f"ip6 udp src=::/{draw.randint(1, 120)} dst=::/{draw.randint(1, 120)} sport={wide()} dport={wide()}"
        for _ in range(2000)
    ]
    ctskip.load_table("\n".join(["any id=1", *rules, ""]))
    before = ctskip.snapshot()
    worst = ctskip.stats()["worst_lookup"]
    assert worst < DEFAULT
    assert ctskip.write("delete 1\n") == errno.E2BIG
    assert ctskip.snapshot() == before
    assert ctskip.stats()["worst_lookup"] == worst


@pytest.mark.own_module
@pytest.mark.not_quick
def test_the_bound_is_a_parameter(ctskip):
    text = dear()
    assert ctskip.load(worst_lookup=0) == 0
    assert PARAMETER.read_text() == "0\n"
    ctskip.load_table(text)
    worst = ctskip.stats()["worst_lookup"]
    assert worst > DEFAULT
    assert ctskip.unload() == 0

    # What costs just as much is taken, and rules can be deleted from it.
    assert ctskip.load(worst_lookup=worst) == 0
    ctskip.load_table(text)
    for counters in ctskip.counters()[::100]:
        ctskip.commit(f"delete {counters['id']}")
    assert ctskip.unload() == 0

    assert ctskip.load(worst_lookup=worst - 1) == 0
    assert refused(ctskip, text)[0] == worst
    assert ctskip.unload() == 0

    assert ctskip.load() == 0
    assert PARAMETER.read_text() == f"{DEFAULT}\n"
    assert PARAMETER.stat().st_mode & 0o777 == 0o444


@pytest.mark.own_module
def test_the_first_table_has_the_bound_too(ctskip, dmesg):
    assert ctskip.load(rules="udp dport=53", worst_lookup=1) == errno.EINVAL
    assert not ctskip.loaded()
    dmesg.wait(
        r"ctskip: rules: a packet would cost more than worst_lookup allows: "
        r"\d+ instructions for ip6? in netns init, to compare a packet with rules 1\b"
    )
    for bad in ("-1", "many"):
        assert ctskip.load(worst_lookup=bad) == errno.EINVAL
    assert ctskip.load(rules="udp dport=53", worst_lookup=1000) == 0


# --- compiles that take long ---------------------------------------------------------------------


class Compile:
    """A process that commits a table, which takes long to compile."""

    def __init__(self, rules):
        text = "".join(f"{rule}\n" for rule in rules)
        ready, told = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os._exit(self.child(text, told))
        os.close(told)
        # All but the last line has been taken.
        assert os.read(ready, 1) == b"x"
        os.close(ready)
        self.start = time.monotonic()

    @staticmethod
    def child(text, told):
        with contextlib.suppress(OSError), netlab.OpenFile(flags=os.O_WRONLY) as file:
            for start in range(0, len(text), 4000):
                piece = text[start : start + 4000]
                if number := file.write(piece if start else f"load\n{piece}"):
                    return number
            os.write(told, b"x")
            return file.write("commit\n")
        return 255

    def runs(self):
        """Tell whether it has not ended yet."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def end(self):
        """Wait for its end; return its exit status, or the signal as a negative number."""
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)


# Lists of short prefixes and wide ranges: these take a minute in emulation, and are too dear then.
LONG = list(rules_of_lists(240, 2, 9, 40000))


def test_a_signal_ends_a_compile(ctskip):
    ctskip.commit("udp dport=53")
    before = ctskip.snapshot()
    compile = Compile(LONG)
    time.sleep(0.5 * netlab.SLOWER)
    assert compile.runs()
    # So does one that waits for its turn.
    waiting = os.fork()
    if not waiting:
        ctskip.write("udp dport=54\n")
        os._exit(0)
    time.sleep(0.2 * netlab.SLOWER)
    start = time.monotonic()
    os.kill(waiting, signal.SIGKILL)
    os.waitpid(waiting, 0)
    assert time.monotonic() - start < SOON
    assert compile.runs()
    start = time.monotonic()
    os.kill(compile.pid, signal.SIGKILL)
    assert compile.end() == -signal.SIGKILL
    assert time.monotonic() - start < SOON
    assert ctskip.snapshot() == before
    assert ctskip.last_error()["errno"] == "EINTR"
    ctskip.commit("udp dport=55")


def test_the_mode_is_set_while_a_compile_runs(ctskip, lab):
    ns = lab.ns()
    ns.udp_sink(53)
    ctskip.commit("udp dport=53")
    compile = Compile(LONG)
    time.sleep(0.5 * netlab.SLOWER)
    start = time.monotonic()
    for mode in ("off", "skip", "observe", "off"):
        ctskip.mode = mode
        assert ctskip.mode == ctskip.header()["mode"] == mode
    took = time.monotonic() - start
    assert compile.runs() and took < SOON
    seen = ctskip.stats()["seen"]
    ns.udp_send("127.0.0.1", 53)
    assert ctskip.stats()["seen"] == seen
    os.kill(compile.pid, signal.SIGKILL)
    compile.end()


@pytest.mark.not_quick
def test_a_commit_goes_by_the_mode_that_is_set_meanwhile(ctskip, lab):
    ns = lab.ns()
    ns.track()
    ns.udp_sink(53)
    rules = [f"udp dst=10.{n >> 8}.{n & 255}.0/24 dport={n + 1}" for n in range(20_000)]
    compile = Compile(["udp dport=53", *rules[: 20_000 // netlab.SLOWER]])
    ctskip.mode = "observe"
    assert compile.end() == 0
    assert ctskip.mode == ctskip.header()["mode"] == "observe"
    ns.udp_send("127.0.0.1", 53)
    assert ns.count() == 1
    assert ctskip.counters()[0]["observed"] == 1  # the entry is there where it comes in again


@pytest.mark.own_module
def test_an_unload_ends_a_compile(ctskip, dmesg):
    assert ctskip.load(rules="udp dport=53") == 0
    compile = Compile(LONG)
    time.sleep(0.5 * netlab.SLOWER)
    assert compile.runs()
    start = time.monotonic()
    assert ctskip.unload() == 0
    assert time.monotonic() - start < SOON
    assert compile.end() == errno.ENODEV
    dmesg.wait(r"ctskip: refused a write by .*: ENODEV: the module goes")


# --- memory --------------------------------------------------------------------------------------


@contextlib.contextmanager
def cgroup(name):
    """Have what this process takes be accounted to a memory cgroup of its own."""
    (CGROUPS / "cgroup.subtree_control").write_text("+memory\n")
    made = CGROUPS / name
    made.mkdir()
    pid = f"{os.getpid()}\n"
    try:
        (made / "cgroup.procs").write_text(pid)
        yield made
    finally:
        (CGROUPS / "cgroup.procs").write_text(pid)
        made.rmdir()


@pytest.mark.own_module
@pytest.mark.skipif(
    "memory" not in (CGROUPS / "cgroup.controllers").read_text().split()
    if (CGROUPS / "cgroup.controllers").exists()
    else True,
    reason="no memory cgroups (CONFIG_MEMCG)",
)
def test_what_a_namespace_takes_is_accounted(ctskip, lab):
    """Who makes namespaces pays for what the module keeps for them."""
    count, counters = 64, 8

    def taken(name):
        with cgroup(name) as group:
            spaces = [lab.ns() for _ in range(count)]
            stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            for ns in spaces:
                ns.close()
                lab.namespaces.remove(ns)
        return int(stat["percpu"])

    without = taken("ctskip-without")
    assert ctskip.load(rules="udp dport=53") == 0
    assert taken("ctskip-with") - without >= count * counters * 8
