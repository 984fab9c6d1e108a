# SPDX-License-Identifier: GPL-2.0
"""The module as a whole: its parameters by every way they come, loading, unloading, what is left."""

import contextlib
import errno
import math
import os
import re
import shutil
import socket
import subprocess
import threading
from pathlib import Path

import netlab
import pytest
from netlab import V4, V6, wait_until

LOOPBACK = {4: "127.0.0.1", 6: "::1"}
NOBODY = 4194303  # no process has that number: it is the limit
KMOD30 = "/opt/kmod30"

pytestmark = pytest.mark.own_module


def hooks(ns):
    """Where ctskip's priority is taken in a namespace, as ["ip prerouting", ...]."""
    found, family, hook = [], None, None
    for line in ns.nft("list hooks").splitlines():
        words = line.split()
        match words:
            case ["family", family, "{"]:
                pass
            case ["hook", hook, "{"]:
                pass
            case ["-0000000299", *_]:
                found.append(f"{family} {hook}")
    return found


ALL_HOOKS = ["ip prerouting", "ip output", "ip6 prerouting", "ip6 output"]


def modules():
    return {line.split()[0] for line in Path("/proc/modules").read_text().splitlines()}


def assert_nothing_left(*spaces):
    assert "ctskip" not in modules()
    assert not netlab.SYSFS.exists()
    assert not Path("/sys/module/ctskip").exists()
    for ns in spaces:
        assert hooks(ns) == []


# --- what is left ------------------------------------------------------------------------------------


def test_hooks_come_and_go(ctskip, lab, family):
    old = lab.ns()
    old.udp_sink(7)
    assert ctskip.load(rules="udp dport=7") == 0
    new = lab.ns()
    new.udp_sink(7)
    for ns in (lab.init, old, new):
        assert hooks(ns) == ALL_HOOKS
    for ns in (old, new):
        ns.track()
        ns.udp_send(LOOPBACK[family.version], 7)
        assert ns.count() == 0
    assert ctskip.counters()[0]["packets"] == 2
    assert ctskip.unload() == 0
    assert_nothing_left(lab.init, old, new)
    for ns in (old, new):
        ns.udp_send(LOOPBACK[family.version], 7)
        assert ns.count() == 1


def test_files_are_there_with_their_modes(ctskip):
    assert ctskip.load() == 0
    found = {p.name: p.stat().st_mode & 0o7777 for p in netlab.SYSFS.iterdir()}
    assert found == {
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


def test_loading_twice(ctskip):
    assert ctskip.load(rules="udp dport=53") == 0
    assert ctskip.load(rules="udp dport=54") == errno.EEXIST
    assert ctskip.rules() == ["skip udp dport=53 id=1"]


def test_the_log_says_that_it_is_loaded(ctskip, lab, dmesg):
    lab.ns()
    assert ctskip.load(rules="udp dport=1; add udp dport=2", mode="observe") == 0
    version = re.escape(ctskip.read("version").strip())
    found = dmesg.wait(
        rf"ctskip: version {version}: mode observe, 2 rules, (\d+) namespaces, 0 of them without hooks"
    )
    assert int(found[1]) >= 2
    assert ctskip.unload() == 0
    assert ctskip.load() == 0
    dmesg.wait(rf"ctskip: version {version}: mode skip, 0 rules, ")
    assert ctskip.unload() == 0
    dmesg.clear()
    assert ctskip.load(rules="nonsense") == errno.EINVAL
    assert "ctskip: version" not in dmesg.text()


# --- a bad rules= ------------------------------------------------------------------------------------


# The text, where in it the caret points, and a word of what is said.
BAD = (
    ("nonsense", "nonsense", "unknown"),
    ("udp", "udp", "cut"),
    ("udp dport=53; tcp", "tcp", "cut"),
    ("udp dport=53 # dns", "#", "comment"),
    ("udp dport=53;", ";", "cut"),
    ("udp dport=53; ", ";", "cut"),
    ("udp+dport=53++", "+", "cut"),
    ("udp+dport=53+", "+", None),
    ("udp dport=53; tcp dport=x", "x", None),
    ("udp dport=53; tcp dport=70000", "70000", None),
    ("udp dport=1; udp dport=2; udp dst=10.0.0.1/8 dport=3", "10.0.0.1/8", None),
    ("add udp dprot=53", "dprot", "unknown"),
    ("udp dport=53; insert udp dport=54", "insert", "rules only"),
    ("udp dport=53; flush", "flush", "rules only"),
    ("udp dport=53 netns=1", "1", "no such"),
    (f"udp dport=53 netns=pid:{NOBODY}", f"pid:{NOBODY}", "no such"),
    ("udp dport=53 id=1; tcp dport=53 id=1", "id=1", None),
)


@pytest.mark.parametrize("text, where, word", BAD, ids=[bad[0] for bad in BAD])
def test_bad_rules_fail_the_load(ctskip, dmesg, text, where, word):
    assert ctskip.load(rules=text) == errno.EINVAL
    assert_nothing_left()
    said = [line.removeprefix("ctskip: rules: ") for line in dmesg.lines() if "rules: " in line]
    reason = re.match(r"line 1 column (\d+): (.*)", said[0])
    column = int(reason[1]) - 1
    assert said[1].startswith("expected ")
    shown, caret = said[-2:]
    assert shown == text.rstrip()
    assert caret == " " * column + "^"
    assert shown.startswith(where, column), (column, said)
    if word:
        assert word in reason[2]


def test_after_a_bad_load_nothing_is_left(ctskip, lab, dmesg):
    """Hooks are there before the rules are read, so they have to be taken off again."""
    ns = lab.ns()
    ns.udp_sink(7)
    ns.track()
    for text in ("udp dport=7; udp", "udp dport=7 netns=1", "udp dport=7;"):
        assert ctskip.load(rules=text) == errno.EINVAL
        assert_nothing_left(ns, lab.init)
    ns.udp_send("127.0.0.1", 7)
    assert ns.count() == 1
    assert ctskip.load(rules="udp dport=7") == 0
    ns.udp_send("::1", 7)
    assert ns.count() == 1
    assert ctskip.netns(ns)["skipped"] == 1


def test_line_of_a_bad_rule(ctskip, dmesg):
    """A newline is one, and so is each further rules=."""
    assert ctskip.load(rules="udp dport=1\nudp dport=2\nudp dport=x") == errno.EINVAL
    dmesg.wait(r"ctskip: rules: line 3 column 11: ")
    done = subprocess.run(
        ["insmod", netlab.MODULE, "rules=udp+dport=1", "rules=udp+dport=2", "rules=udp"],
        capture_output=True,
        text=True,
    )
    assert done.returncode and "Invalid parameters" in done.stderr
    dmesg.wait(r"ctskip: rules: line 3 column 1: ")
    assert_nothing_left()


def test_bad_icmp_errors(ctskip):
    assert ctskip.load(icmp_errors=2) == errno.EINVAL
    assert_nothing_left()


# --- rules= as typed ---------------------------------------------------------------------------------

ONE = ["skip udp dport=53 id=1"]
TWO = ["skip udp dport=53 id=1", "skip tcp dst=10.0.0.0/8 dport=6379 id=2"]
PLUS = "udp+dport=53++tcp+dst=10.0.0.0/8+dport=6379"
SPACES = "udp dport=53; tcp dst=10.0.0.0/8 dport=6379"

# As typed to a shell; what comes of it with the insmod of kmod 34, of kmod 30, of busybox.
TYPED = {
    f"rules={PLUS}": (TWO, TWO, TWO),
    f'rules="{PLUS}"': (TWO, TWO, TWO),
    "rules=udp+dport=53 rules=tcp+dst=10.0.0.0/8+dport=6379": (TWO, TWO, TWO),
    "rules=add+udp+dport=53": (ONE, ONE, ONE),
    f"'rules=\"{SPACES}\"'": (TWO, TWO, TWO),
    # Older ones do not quote what the shell has unquoted.
    f'rules="{SPACES}"': (TWO, None, None),
    'rules="udp dport=53"': (ONE, None, None),
    # The shell makes two arguments of it.
    "rules=udp dport=53": (None, None, None),
    # What a `;` or a cut leaves.
    "rules=udp+dport=53++": (None, None, None),
    "rules=udp+dport=53+": (None, None, None),
    "rules=udp+dport=53; true": (ONE, ONE, ONE),
    "rules=": ([], [], []),
    "": ([], [], []),
}


@pytest.mark.parametrize("typed", TYPED)
@pytest.mark.parametrize("tool", ("insmod", f"{KMOD30}/insmod", "busybox insmod"))
def test_rules_as_typed_to_insmod(ctskip, tool, typed):
    column = {"insmod": 0, f"{KMOD30}/insmod": 1, "busybox insmod": 2}[tool]
    expected = TYPED[typed][column]
    done = subprocess.run(
        f"{tool} {netlab.MODULE} {typed}", shell=True, text=True, capture_output=True
    )
    if expected is None:
        assert done.returncode
        assert re.search("Invalid (parameters|argument)", done.stderr), done.stderr
        assert_nothing_left()
    else:
        assert done.returncode == 0, done.stderr
        assert ctskip.rules() == expected


@pytest.mark.not_quick
def test_long_rules(ctskip):
    """Over the 1,024 bytes of the kernel's own string parameter, and over a page."""
    rules = [f"udp dport={port}" for port in range(1, 5001)]
    assert ctskip.load(rules=";".join(rules)) == 0
    assert ctskip.rules() == [f"skip {rule} id={n}" for n, rule in enumerate(rules, 1)]
    assert ctskip.generation == 1
    assert ctskip.unload() == 0
    # Several add up, each as long.
    given = [
        "rules=" + "++".join(rule.replace(" ", "+") for rule in rules[start : start + 1700])
        for start in range(0, 5000, 1700)
    ]
    subprocess.run(["insmod", netlab.MODULE, *given], check=True)
    assert ctskip.header()["rules"] == 5000
    assert ctskip.rules()[-1] == "skip udp dport=5000 id=5000"


@pytest.fixture(scope="module")
def tree():
    """A module tree with ctskip.ko in it: what `modprobe -d` wants."""
    top, release = Path("/tmp/tree"), os.uname().release
    folder = top / "lib/modules" / release
    folder.mkdir(parents=True)
    shutil.copy(netlab.MODULE, folder)
    for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
        (folder / name).touch()
    subprocess.run(["depmod", "-b", top, release], check=True)
    yield top
    shutil.rmtree(top)


@contextlib.contextmanager
def modprobe_conf(text):
    """A file in /etc/modprobe.d, as a user would have it."""
    path = Path("/etc/modprobe.d/ctskip.conf")
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    try:
        yield
    finally:
        path.unlink()


@pytest.mark.parametrize("kmod", ("", f"{KMOD30}/"), ids=("kmod", "kmod30"))
@pytest.mark.parametrize(
    "options",
    (
        f'options ctskip rules="{SPACES}" mode=observe\n',
        f"options ctskip rules={PLUS} mode=observe\n",
        "options ctskip rules=udp+dport=53\noptions ctskip mode=observe "
        'rules="tcp dst=10.0.0.0/8 dport=6379"\n',
    ),
    ids=("quoted", "plus", "twice"),
)
def test_options_of_modprobe(ctskip, tree, kmod, options):
    with modprobe_conf(options):
        subprocess.run([f"{kmod}modprobe", "-d", tree, "ctskip"], check=True)
    assert (ctskip.rules(), ctskip.mode) == (TWO, "observe")
    subprocess.run([f"{kmod}modprobe", "-d", tree, "-r", "ctskip"], check=True)
    assert_nothing_left()


@pytest.mark.parametrize("kmod", ("", f"{KMOD30}/"), ids=("kmod", "kmod30"))
@pytest.mark.parametrize("typed", (f'rules="{SPACES}"', f"rules={PLUS}"), ids=("quoted", "plus"))
def test_rules_as_typed_to_modprobe(ctskip, tree, kmod, typed):
    subprocess.run(f"{kmod}modprobe -d {tree} ctskip {typed}", shell=True, check=True)
    assert ctskip.rules() == TWO


@pytest.mark.parametrize("kmod", ("", f"{KMOD30}/"), ids=("kmod", "kmod30"))
@pytest.mark.parametrize(
    "line",
    (f'ctskip.rules="{SPACES}" ctskip.mode=observe', f"ctskip.mode=observe ctskip.rules={PLUS}"),
    ids=("quoted", "plus"),
)
def test_rules_on_the_kernels_command_line(ctskip, tree, kmod, line):
    with netlab.kernel_command_line(line):
        subprocess.run([f"{kmod}modprobe", "-d", tree, "ctskip"], check=True)
    assert (ctskip.rules(), ctskip.mode) == (TWO, "observe")


@pytest.mark.parametrize("kmod", ("", f"{KMOD30}/"), ids=("kmod", "kmod30"))
def test_modinfo(ctskip, kmod):
    def show(field):
        return subprocess.check_output(
            [f"{kmod}modinfo", "-F", field, netlab.MODULE], text=True
        ).strip()

    found = {}
    for line in show("parm").splitlines():
        name, _, text = line.partition(":")
        found[name] = text
    assert set(found) == {"rules", "mode", "icmp_errors", "worst_lookup"}
    for text in found.values():
        assert re.fullmatch(r".{30,} \((string|bool|uint)\)", text)
    assert show("license") == "GPL"
    assert len(show("description")) > 20
    assert ctskip.load() == 0
    assert ctskip.read("version").strip() == show("version")
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", show("version"))


# --- no other module ---------------------------------------------------------------------------------


def remove_module(name):
    """Unload a module and all that use it, as soon as namespaces that have gone let go of it."""
    for user in os.listdir(f"/sys/module/{name}/holders"):
        if Path(f"/sys/module/{user}").exists():
            remove_module(user)

    def gone():
        if name not in modules():
            return True
        subprocess.run(["rmmod", name], capture_output=True)
        return name not in modules()

    wait_until(gone, 30, 0.2)


def test_needs_no_other_module_and_keeps_none(ctskip, lab):
    depends = subprocess.check_output(["modinfo", "-F", "depends", netlab.MODULE], text=True)
    assert depends.strip() == ""
    ns = lab.ns()
    ns.udp_sink(7)
    if "nf_conntrack" in modules():
        remove_module("nf_conntrack")
    before = modules()
    assert ctskip.load(rules="udp dport=7") == 0
    ns.udp_send("127.0.0.1", 7)
    assert ctskip.counters()[0]["packets"] == 1
    line, stats = ctskip.netns(ns), ctskip.stats()
    assert (line["ct"], line["entries"], line["max"]) == ("off", 0, 0)
    assert (stats["buckets"], stats["entries"], stats["average_chain"]) == (0, 0, "0.00")
    ctskip.commit("purge")
    assert modules() == before | {"ctskip"}

    # conntrack comes while ctskip is there ...
    ns.track()
    assert "nf_conntrack" in modules()
    ns.udp_send("127.0.0.1", 7)
    assert ns.count() == 0
    ns.udp_send("127.0.0.1", 8)
    assert ctskip.netns(ns)["entries"] == ns.count() == 1
    assert ctskip.netns(ns)["ct"] == "on"
    ctskip.commit("udp dport=8", "purge")
    assert ns.count() == 0
    # ... and goes.
    ns.nft("flush ruleset")
    remove_module("nf_conntrack")
    assert ctskip.netns(ns)["max"] == ctskip.stats()["buckets"] == 0
    assert ctskip.unload() == 0


# --- under traffic -----------------------------------------------------------------------------------


class Worker(threading.Thread):
    """Does something over and over until the `with` ends, and tells of what it failed with."""

    def __init__(self, work):
        super().__init__(daemon=True)
        self.work, self.stopped, self.error = work, threading.Event(), None

    def run(self):
        try:
            while not self.stopped.is_set():
                self.work()
        except Exception as error:
            self.error = error

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.join()
        assert self.error is None, repr(self.error)


@pytest.fixture
def rounds(request):
    """How often what is a matter of luck is tried: on a debug kernel a round takes ten seconds."""
    return 2 if request.config.getoption("quick") else 5


def flooder(lab):
    """Datagrams of both families: over loopback in two namespaces, and from one to another."""
    client, server = lab.pair()
    spaces = [client, server, lab.ns()]
    for ns in spaces:
        ns.udp_sink(7)
    # Keeps hooks at all points. As the first comes to one and the last goes, the kernel rewrites its
    # own code (a static key), and under emulation a processor in the midst of it can trip over that.
    client.track()
    targets = []
    for family in (V4, V6):
        for ns in spaces:
            targets.append((ns, family, LOOPBACK[family.version]))
        targets.append((client, family, server.addr(family)))
        targets.append((server, family, client.addr(family)))
    sockets = []
    for ns, family, address in targets:
        s = ns.socket(family.af, socket.SOCK_DGRAM)
        s.connect((address, 7))
        sockets.append(s)

    def work():
        for s in sockets:
            for _ in range(20):
                s.send(b"flood")

    return spaces, work


def churner(lab):
    """Namespaces that come, send, and go."""

    def work():
        ns = lab.ns()
        ns.udp_sink(7)
        for address in LOOPBACK.values():
            ns.udp_send(address, 7, count=5)
        lab.namespaces.remove(ns)
        ns.close()

    return work


def test_unload_and_load_under_traffic(ctskip, lab, rounds):
    spaces, flood = flooder(lab)
    for ns in spaces[1:]:
        ns.track()
    with Worker(flood), Worker(churner(lab)):
        for round_ in range(math.ceil(4 * rounds / netlab.SLOWER)):
            assert ctskip.load(rules="udp dport=7; track tcp dport=7") == 0, round_
            wait_until(lambda: all(ctskip.netns(ns)["skipped"] > 40 for ns in spaces), 20)
            assert ctskip.unload() == 0, round_
            assert not netlab.SYSFS.exists()
    assert_nothing_left(lab.init, *spaces)
    # All that was skipped is tracked again, by the same sockets' flows.
    for ns in spaces:
        ns.flush()
    flood()
    for ns, entries in zip(spaces, (6, 6, 2), strict=True):
        wait_until(lambda: ns.count() == entries)  # noqa: B023


def test_unload_while_tables_change(ctskip, lab, rounds):
    """With a table of its own for a namespace, commits going on until the last moment."""
    spaces, flood = flooder(lab)
    with Worker(flood):
        for _ in range(rounds):
            assert ctskip.load(rules="udp dport=7") == 0
            wait_until(lambda: ctskip.netns(spaces[0])["skipped"], 20)
            for ns in spaces:
                ctskip.commit(
                    f"add tag=t udp dport=9 netns={ns.inode}",
                    f"insert udp dport=7 netns={ns.inode}",
                )
            ctskip.commit("flush")
            ctskip.load_table("\n".join(f"udp dport={port}" for port in range(1, 500)))
            assert ctskip.unload() == 0


def test_namespaces_made_while_it_loads(ctskip, lab, rounds):
    """None is missed: each is looked at from its first packet on."""
    for _ in range(rounds):
        begun = threading.Event()

        def make(begun=begun):
            for _ in range(8):
                lab.ns().udp_sink(7)
                begun.set()

        maker = threading.Thread(target=make)
        maker.start()
        begun.wait(10)
        assert ctskip.load(rules="udp dport=7") == 0
        maker.join()
        lines = {line["netns"]: line for line in ctskip.netns()}
        for ns in lab.namespaces:
            assert lines[ns.inode]["rules"] == 1
            for address in LOOPBACK.values():
                ns.udp_send(address, 7)
        lines = {line["netns"]: line for line in ctskip.netns()}
        for ns in lab.namespaces:
            assert lines[ns.inode]["skipped"] == 2
        assert ctskip.unload() == 0


def test_namespaces_made_while_it_unloads(ctskip, lab, rounds):
    for _ in range(rounds):
        assert ctskip.load(rules="udp dport=7") == 0
        begun = threading.Event()

        def make(begun=begun):
            for _ in range(8):
                lab.ns().udp_sink(7)
                begun.set()

        maker = threading.Thread(target=make)
        maker.start()
        begun.wait(10)
        assert ctskip.unload() == 0
        maker.join()
    assert_nothing_left(*lab.namespaces[::4])


def test_unload_with_files_open(ctskip):
    """A `load` under way keeps nothing; who has a file open finds it gone."""
    assert ctskip.load() == 0
    writer = os.open(netlab.SYSFS / "rules", os.O_RDWR)
    # Not `netns`: a read of it may be overtaken by a namespace of an earlier test, which goes.
    reader = os.open(netlab.SYSFS / "stats", os.O_RDONLY)
    try:
        os.write(writer, b"load\nudp dport=1\n")
        assert os.read(reader, 10)
        assert ctskip.unload() == 0
        for call in (lambda: os.read(reader, 10), lambda: os.write(writer, b"commit\n")):
            with pytest.raises(OSError) as raised:
                call()
            assert raised.value.errno == errno.ENODEV
        assert ctskip.load() == 0
        assert ctskip.rules() == []
    finally:
        os.close(writer)
        os.close(reader)


def test_unload_while_it_is_read_and_written(ctskip, rounds):
    """Readers and writers in the midst of it get an error, at worst."""
    expected = {errno.ENODEV, errno.ENOENT, errno.ESTALE, errno.EBUSY}

    def read():
        for name in ("rules", "counters", "tags", "netns", "stats"):
            with contextlib.suppress(FileNotFoundError):
                try:
                    ctskip.read(name)
                except OSError as error:
                    if error.errno not in expected:
                        raise

    def write():
        try:
            number = ctskip.write("add udp dport=1\n")
        except OSError as error:  # of open(2)
            number = error.errno
        assert number in expected | {0}, errno.errorcode[number]

    with Worker(read), Worker(write):
        for _ in range(rounds):
            assert ctskip.load() == 0
            wait_until(lambda: len(ctskip.rules()) > 3, 20)
            assert ctskip.unload() == 0
