# SPDX-License-Identifier: GPL-2.0
"""Memory that is not there: every allocation of the module fails once, one after the other.

Loading, each command, each read and each making of a namespace is done again and again; in the nth
round its nth allocation fails, until a round has none left to fail. Where the kernel gets by without
that memory (it tries another way), the round succeeds, and all must be done. Else it must say ENOMEM, and
leave everything as it was. What it may have leaked is found at the end of the suite, see guest/suite.py.
With --quick, behind the first eight one in four fails; of a load, one in --loads.

One that fails is not enough for what kvmalloc() gives, which tries again: the `without_memory` ones have
all fail from the nth on. What the module asks for in a workqueue, for nobody who could be told, fails for
a time. Memory per CPU does not fail here: mm/percpu.c has no faults to inject.

It takes a kernel with fault injection, as the debug kernel is.
"""

import contextlib
import errno
import itertools
import os
import random
import re
import socket
import time
from pathlib import Path

import netlab
import pytest
from netlab import wait_until
from test_netns import end

DEBUGFS = Path("/sys/kernel/debug")
ATTRIBUTES = [DEBUGFS / name for name in ("failslab", "fail_page_alloc")]

pytestmark = [
    pytest.mark.own_module,
    pytest.mark.every_variant,
    pytest.mark.skipif(
        netlab.SLOWER == 1, reason="no debug kernel: no fault injection (FAILSLAB, FAIL_PAGE_ALLOC)"
    ),
]

# What all allocations are counted with, those that may sleep or be in high memory as well.
SETTINGS = {
    "verbose": 0,
    "stacktrace-depth": 32,
    "ignore-gfp-wait": "N",
    "ignore-gfp-highmem": "N",
    "cache-filter": "N",
    "min-order": 0,
}

# With --quick, behind so many allocations one in so many fails, of all but those of a load.
FIRST, QUICK_STEP = 8, 4

# Where the functions of all modules are, of one that is to come as well (x86-64, without KASLR:
# Documentation/arch/x86/x86_64/mm.rst).
MODULES = 0xFFFF_FFFF_A000_0000, 0xFFFF_FFFF_FF00_0000


def symbols():
    """The kernel's functions in the order of their addresses: (address, name, module or None)."""
    found = []
    for line in Path("/proc/kallsyms").read_text().splitlines():
        address, kind, name, *module = line.split()
        if kind in "tTwW":
            found.append((int(address, 16), name, module[0][1:-1] if module else None))
    return sorted(found)


def function(name):
    """The addresses of a function of the kernel's own."""
    every = symbols()
    at = next(i for i, symbol in enumerate(every) if symbol[1:] == (name, None))
    return every[at][0], next(start for start, *_ in every[at:] if start > every[at][0])


def module(name):
    """The addresses of a module's functions."""
    every = symbols()
    mine = [address for address, _, owner in every if owner == name]
    return min(mine), next((start for start, *_ in every if start > max(mine)), MODULES[1])


class Faults:
    """Has an allocation fail that is made for certain functions, on their way or below."""

    def __init__(self, step, seed):
        self.step, self.random = step, random.Random(seed)
        for path, (name, value) in itertools.product(ATTRIBUTES, SETTINGS.items()):
            if (path / name).exists():
                (path / name).write_text(f"{value}\n")
        self.fd = os.open("/proc/thread-self/fail-nth", os.O_RDWR | os.O_CLOEXEC)

    def nths(self):
        """Each allocation; with --quick, behind the first ones some, from the seed which."""
        yield from range(1, 1 + FIRST)
        yield from itertools.count(1 + FIRST + self.random.randrange(self.step), self.step)

    def within(self, addresses):
        """From now on, of the allocations that functions at these addresses make."""
        for path, (name, value) in itertools.product(ATTRIBUTES, zip(("start", "end"), addresses)):
            (path / f"require-{name}").write_text(f"{value:#x}\n")

    def each(self, act, nths=None, rest=False, before=lambda: None):
        """Yield what act() returns when its first allocation fails, its second, and so on; or the nths.

        With `rest`, all behind it fail too. Before each round, before() has all memory that it wants.
        """
        for nth in nths or self.nths():
            os.utime(netlab.OUT / "running")  # the host: it is not stuck
            before()
            with self.all() if rest else contextlib.nullcontext():
                # While it counts, the kernel looks at nothing else: should_fail_ex().
                os.pwrite(self.fd, b"%d" % nth, 0)
                try:
                    result = act()
                finally:
                    left = int(os.pread(self.fd, 16, 0))
                    os.pwrite(self.fd, b"0", 0)
            if left:  # that was one too many: nothing has failed
                assert result == 0, errno.errorcode[result]
                return
            yield result

    @contextlib.contextmanager
    def all(self):
        """All of them fail, whichever task asks; gives a function that tells how often one did."""
        most = 1_000_000
        self.always(100, most)
        try:
            yield lambda: sum(most - int((path / "times").read_text()) for path in ATTRIBUTES)
        finally:
            self.always(0, 1)

    def always(self, probability, times):
        for path in ATTRIBUTES:
            (path / "times").write_text(f"{times}\n")
            (path / "probability").write_text(f"{probability}\n")

    def close(self):
        os.close(self.fd)
        self.within((0, 2**64 - 1))


@pytest.fixture
def faults(request):
    option = request.config.getoption
    made = Faults(QUICK_STEP if option("quick") else 1, option("seed"))
    yield made
    made.close()


def number(act, *arguments):
    """The errno of what fails with OSError; 0 where it succeeds."""
    try:
        act(*arguments)
        return 0
    except OSError as error:
        return error.errno


# --- loading -----------------------------------------------------------------------------------------


def hooked(ns):
    return "-0000000299" in ns.nft("list hooks")


@pytest.mark.timeout(7200)  # some hundred rounds
def test_load(ctskip, faults, lab, request):
    """What the module's init allocates, and what its parameters do.

    The kernel that has to release a module with DEBUG_KOBJECT_RELEASE takes seconds to: so `--loads=N`
    has one allocation in N fail, from the seed which.
    """
    step = request.config.getoption("loads")
    nths = itertools.count(1 + faults.random.randrange(step), step)
    spaces = [lab.init, lab.ns()]
    rules = f"udp dport=7; tcp dport=8 netns={spaces[1].inode} tag=t"
    # Read before: a module that is a file system has a part in that.
    image = netlab.MODULE.read_bytes()
    faults.within(MODULES)
    failed = 0
    for result in faults.each(lambda: ctskip.load_image(image, rules=rules), nths):
        if result == 0:
            assert len(ctskip.rules()) == 2
            assert ctskip.unload() == 0
            continue
        failed += 1
        assert result == errno.ENOMEM, errno.errorcode[result]
        assert not ctskip.loaded() and not netlab.SYSFS.exists()
    assert failed > 0
    assert len(ctskip.rules()) == 2
    assert all(hooked(ns) for ns in spaces)
    assert ctskip.unload() == 0
    assert not any(hooked(ns) for ns in spaces)


# --- commands ----------------------------------------------------------------------------------------

BASE = """
udp dst=127.0.0.1 dport=53 id=1
tcp dst=10.0.0.0/8,192.168.0.0/16 sport=1024-65535 dport=80,443 tag=web id=2
track udp dport=5353 dev=eth*,lo id=3
icmp type=8 src=10.1.0.0/16 tag=web id=4
udp dst=2001:db8::/32 dport=53 mark=0x10/0xf0 oneway id=5
tcp dport=6379 netns=init tag=redis id=6
tcp dport=6380 netns={0} id=7
udp dport=6381 netns={1} tag=web id=8
"""

# How many rules count side by side, in one allocation: SLOTS_PER_CHUNK of src/linux/percpu.rs.
SLOTS = 510

# What is written, each text by a write of its own to the same open file; {n} is the nth of `spaces`.
COMMANDS = {
    "add": ["add udp dst=10.9.0.0/16 dport=1812-1813 tag=radius\n"],
    "add many": ["".join(f"udp dst=10.{n}.0.0/16 dport={n + 1}\n" for n in range(60))],
    "add for a namespace": ["add udp dport=1812 netns={2}\n"],
    "insert": ["insert tcp dport=8080\n"],
    "insert before": ["insert before=4 tcp dport=8080,8443 src=10.2.0.0/16\n"],
    "delete": ["delete 2\n"],
    "delete tag": ["delete tag=web\n"],
    "several": ["add tcp dport=1\ndelete 3\ninsert tcp dport=2 tag=web\ndelete tag=redis\n"],
    "flush": ["flush\n"],
    "load": ["load\nudp dport=1\nudp dst=127.0.0.1 dport=53 id=1\ncommit\n"],
    "load in pieces": [
        "load\nudp dport=1 tag=a\nudp dst=127.0.0.1 dp",
        "ort=53 id=1\n" + "".join(f"tcp dst=10.{n}.0.0/16 dport={n + 1}\n" for n in range(40)),
        "comm",
        "it\n",
    ],
    "load of a tag": ["load tag=web\ntcp dport=80 src=10.3.0.0/16\ncommit\n"],
    "abort": ["load\nudp dport=1\n", "abort\n"],
    "purge": ["purge\n"],
    "purge of some": ["purge 5,1\n"],
    "load that purges": [
        "load\nudp dport=1 dev=eth0\nudp dst=127.0.0.1 dport=53 id=1\ncommit purge\n"
    ],
}


def write(*texts, name="rules"):
    """Write one text after the other to one open file: 0, or the errno of the first that fails."""
    with netlab.OpenFile(name, os.O_WRONLY) as file:
        return next(filter(None, map(file.write, texts)), 0)


def carry_out(command, spaces):
    """Write that of COMMANDS; what write() returns."""
    return write(*(text.format(*spaces) for text in COMMANDS[command]))


@pytest.fixture
def spaces(lab):
    """The numbers of three namespaces."""
    return [lab.ns().inode for _ in range(3)]


@pytest.fixture
def base(ctskip, faults, spaces):
    """The module with a table; its own allocations fail."""
    assert ctskip.load() == 0
    wait_until(lambda: len(ctskip.netns()) == 1 + len(spaces), 60)  # those of other tests are gone
    ctskip.load_table(BASE.format(*spaces))
    faults.within(module("ctskip"))
    yield ctskip
    assert ctskip.unload() == 0
    assert not ctskip.loaded() and not netlab.SYSFS.exists()


def assert_works(ctskip):
    """A packet is still decided, and counted, by the table's first rule."""
    before = ctskip.counters()[0]
    assert before["rule"].startswith("skip udp dst=127.0.0.1 dport=53")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 53))
        s.sendto(b"x", s.getsockname())
        assert s.recv(1) == b"x"
    assert ctskip.counters()[0]["packets"] == before["packets"] + 1


def table_and_mode(ctskip):
    """What is in force. A rule that BASE has not may have another id each time that it is added."""
    return [re.sub(r" id=(?![1-8]\b)\d+", "", rule) for rule in ctskip.rules()], ctskip.mode


def refusals(ctskip, faults, act, rest=False):
    """How often act() was refused for want of memory. That leaves all as it was; else it is undone."""
    table = "\n".join(ctskip.rules())

    def undo():
        ctskip.load_table(table)
        ctskip.mode = "skip"

    assert act() == 0
    done = table_and_mode(ctskip)
    undo()
    refused = 0
    before = ctskip.snapshot()
    for result in faults.each(act, rest=rest):
        if result == 0:
            assert table_and_mode(ctskip) == done
            undo()
        else:
            refused += 1
            assert result == errno.ENOMEM, errno.errorcode[result]
            assert ctskip.read("last_error").startswith("errno=ENOMEM\n")
            assert ctskip.snapshot() == before
        assert_works(ctskip)
        before = ctskip.snapshot()
    return refused


def commands(*names):
    """COMMANDS of these names, to run a test with each; --quick leaves out what has many allocations."""
    many = {"add many", "load in pieces"}
    return [pytest.param(name, marks=[pytest.mark.not_quick] * (name in many)) for name in names]


@pytest.mark.parametrize("command", commands(*COMMANDS))
def test_command(base, faults, spaces, command):
    assert refusals(base, faults, lambda: carry_out(command, spaces)) > 0


@pytest.mark.parametrize("command", commands("add many", "add for a namespace", "load in pieces"))
def test_command_without_memory(base, faults, spaces, command):
    assert refusals(base, faults, lambda: carry_out(command, spaces), rest=True) > 0


@pytest.mark.not_quick
def test_slots_without_memory(base, faults):
    """A rule that has no slot to count in, as all that lie together are taken (percpu.rs)."""

    def chunks():
        """In how many places they lie: three pages for each CPU, and the one that vmalloc() has behind."""
        size = str((3 * os.cpu_count() + 1) * 4096)
        lines = Path("/proc/vmallocinfo").read_text().splitlines()
        return sum("[ctskip]" in line and line.split()[1] == size for line in lines)

    more = (f"udp dport={n} id={n}" for n in range(1001, 1001 + SLOTS))
    base.load_table("\n".join([*base.rules(), *more][:SLOTS]))
    assert chunks() == 1
    for result in faults.each(lambda: write("udp dport=9\n"), rest=True):
        if result == 0:
            break  # it is done; the log does without the memory to look where NAT holds it
        assert result == errno.ENOMEM, errno.errorcode[result]
        wait_until(lambda: chunks() == 1, 10)  # what is not in force goes a grace period later
    assert chunks() == 2


def test_load_that_takes_over_without_memory(base, faults):
    """From another, which is silent: that one goes on where it was."""
    with netlab.OpenFile(flags=os.O_WRONLY) as silent:
        assert silent.write("load\nudp dport=1 id=1\n") == 0
        time.sleep(11)
        before = base.snapshot()
        with faults.all() as failed:
            assert write("load\nudp dport=2\ncommit\n") == errno.ENOMEM
            assert failed()
        assert base.snapshot() == before
        assert silent.write("commit\n") == 0
    assert base.rules() == ["skip udp dport=1 id=1"]


@pytest.mark.parametrize("mode", ("observe", "off"))
def test_mode(base, faults, mode):
    assert refusals(base, faults, lambda: write(f"{mode}\n", name="mode")) > 0


def test_refused_for_another_reason(base, faults):
    """A text that is wrong is refused, also where memory is wanting to say what is wrong."""
    for texts in (["add udp\n"], ["load\nudp dport=1\nnonsense\ncommit\n"]):
        before = base.snapshot()
        results = []
        for _ in faults.each(lambda: results.append(write(*texts)) or 0):
            assert base.snapshot() == before
        assert results and set(results) <= {errno.EINVAL, errno.ENOMEM}
        assert results[-1] == errno.EINVAL  # of the round in which nothing failed


@pytest.mark.parametrize("name", "rules counters tags netns stats last_error".split())
def test_read(base, faults, name):
    """A read fails or gives the text, and the next one gives it.

    kernfs has a buffer for each read. The module allocates what it notes of the text of its rules, at the
    first read behind a commit, and for `stats` a list of all namespaces, by kvmalloc().
    """

    def read():
        return re.sub(r"generation=\d+", "", base.read(name))

    def commit():
        base.commit("add udp dport=9 id=9")
        base.commit("delete 9")

    def act():
        try:
            assert read() == expected
            return 0
        except OSError as error:
            return error.errno

    assert base.write("nonsense\n") == errno.EINVAL
    expected = read()

    def results():
        for result in faults.each(act, before=commit):
            assert result in (0, errno.ENOMEM), errno.errorcode[result]
            assert read() == expected
            yield result

    ours = set(results())
    assert (errno.ENOMEM in ours) == (name in ("rules", "counters", "tags"))
    faults.within(function("ksys_read"))
    assert errno.ENOMEM in set(results())


def test_read_without_memory(base, faults):
    for name in ("rules", "counters", "tags", "stats"):
        base.commit("add udp dport=9 id=9")
        with faults.all() as failed:
            assert number(base.read, name) == errno.ENOMEM, name
            assert failed()
        assert base.read(name)
        base.commit("delete 9")


# --- namespaces --------------------------------------------------------------------------------------


def make_namespace():
    """One that goes at once: 0, or the errno."""
    try:
        os.unshare(os.CLONE_NEWNET)
    except OSError as error:
        return error.errno
    os.setns(netlab.INIT, os.CLONE_NEWNET)
    return 0


def assert_namespaces_fail(ctskip, faults, rest=False):
    """Some could not be made. Of none is anything left."""
    lines = len(ctskip.netns())
    before = ctskip.snapshot()
    results = list(faults.each(make_namespace, rest=rest))
    assert set(results) <= {0, errno.ENOMEM} and errno.ENOMEM in results
    assert ctskip.snapshot() == before
    assert_works(ctskip)
    wait_until(lambda: len(ctskip.netns()) == lines, 60)


def test_namespace(base, faults):
    assert_namespaces_fail(base, faults)


def test_namespace_without_memory(base, faults, lab):
    """The module's list of namespaces is full, so that it needs a longer one, too."""
    while (count := len(base.netns())) < 8 or count & (count - 1):
        lab.ns()
    assert_namespaces_fail(base, faults, rest=True)


def test_namespace_that_another_module_fails(base, faults, lab):
    """Its part comes after ctskip's, which is to be undone."""
    lab.init.run("modprobe xt_recent")
    try:
        faults.within(module("xt_recent"))
        assert_namespaces_fail(base, faults)
    finally:
        lab.init.run("modprobe -r xt_recent")


def test_rules_go_later(base, faults, lab):
    """Where there is no memory to take them out when their namespace goes, it is tried again."""
    ns = lab.ns()
    base.commit(f"add udp dport=9 netns={ns.inode} id=9")
    expected = [rule for rule in base.rules() if "id=9" not in rule]
    with faults.all() as failed:
        end(ns)
        wait_until(failed, 60)
        for _ in range(2):
            time.sleep(0.5)  # what is tried is over
            before = failed()
            wait_until(lambda: failed() > before, 60)
    wait_until(lambda: base.rules() == expected, 10)
    assert_works(base)


def test_unload_while_it_waits_for_memory(base, faults, lab):
    """An unload does not wait for it."""
    ns = lab.ns()
    base.commit(f"add udp dport=9 netns={ns.inode} id=9")
    with faults.all() as failed:
        end(ns)
        wait_until(failed, 60)
        assert base.unload() == 0
    assert base.load() == 0
