# SPDX-License-Identifier: GPL-2.0
"""Who may read and write which file, and what anyone else can learn or cause.

All but `generation` and `version` need CAP_NET_ADMIN in the initial user namespace, by the opener's
credentials, from within the initial network namespace. Each test asks from a forked child, which may
drop what it likes: a tenant. What a tenant may know is that ctskip is there and how often its table has
changed; no file and no line of the log tells anybody where the kernel lies; and neither tenants nor
packets can fill the log: of what fails with EPERM, it has a few lines.
"""

import contextlib
import ctypes
import errno
import itertools
import json
import os
import re
import socket
import subprocess
import time
import traceback
from pathlib import Path

import netlab
import pytest
from netlab import V4

PRIVATE = ("rules", "counters", "tags", "netns", "stats", "mode", "last_error")
PUBLIC = ("generation", "version")
WRITES = {"rules": b"flush\n", "mode": b"off\n"}
NOBODY = 65534
DAC_OVERRIDE, NET_ADMIN, CAPABILITIES = 1, 12, 41
# What container engines leave to root by default, and CAP_NET_ADMIN.
CONTAINER = (0, DAC_OVERRIDE, 3, 4, 5, 6, 7, 8, 10, NET_ADMIN, 13, 18, 27, 29, 31)

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_DUMPABLE, _PR_SET_KEEPCAPS = 4, 8
_MS_REC, _MS_PRIVATE = 16384, 1 << 18


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable"))


def capabilities(change):
    """Pass effective and permitted (sets of bits as numbers) through `change` and set the result."""
    header, data = _Header(0x20080522, 0), (_Data * 2)()
    assert _libc.capget(ctypes.byref(header), data) == 0
    effective, permitted = change(
        *(getattr(data[0], n) | getattr(data[1], n) << 32 for n in ("effective", "permitted"))
    )
    for half in (0, 1):
        data[half].effective = effective >> 32 * half & 0xFFFFFFFF
        data[half].permitted = permitted >> 32 * half & 0xFFFFFFFF
    assert _libc.capset(ctypes.byref(header), data) == 0, os.strerror(ctypes.get_errno())


def drop_net_admin():
    capabilities(lambda e, p: (e & ~(1 << NET_ADMIN), p & ~(1 << NET_ADMIN)))


def become_nobody(*caps):
    """uid 65534 with these capabilities alone."""
    bits = sum(1 << cap for cap in caps)
    assert _libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    capabilities(lambda e, p: (bits, bits))
    # What setresuid() has turned off: else its files in /proc would be root's.
    assert _libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0) == 0


def own_user_namespace(flags=os.CLONE_NEWNET):
    """Root, with every capability, in a user namespace of its own."""
    uid, gid = os.getuid(), os.getgid()
    os.unshare(os.CLONE_NEWUSER | flags)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"0 {uid} 1"),
        ("gid_map", f"0 {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def become_container():
    """Root as container engines make it: namespaces and a sysfs of its own, and some capabilities."""
    os.unshare(os.CLONE_NEWNET | os.CLONE_NEWNS | os.CLONE_NEWIPC | os.CLONE_NEWUTS)
    assert _libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None) == 0
    assert _libc.mount(b"sysfs", b"/sys", b"sysfs", 0, None) == 0
    bits = sum(1 << cap for cap in CONTAINER)
    capabilities(lambda e, p: (bits, bits))


def attempt(function, *arguments):
    """The name of the errno that a call fails with, "" if it does not."""
    try:
        function(*arguments)
        return ""
    except OSError as error:
        return errno.errorcode[error.errno]


def use(name, flags, data=None):
    """Open a file and read or write it: "open EACCES", "EPERM", "" if both work."""
    try:
        fd = os.open(netlab.SYSFS / name, flags)
    except OSError as error:
        return f"open {errno.errorcode[error.errno]}"
    try:
        return attempt(os.write, fd, data) if data else attempt(os.read, fd, 4096)
    finally:
        os.close(fd)


def use_all():
    """What comes of reading every file, and of writing those that can be written."""
    found = {name: use(name, os.O_RDONLY) for name in PRIVATE + PUBLIC}
    return found | {f"{name} write": use(name, os.O_WRONLY, data) for name, data in WRITES.items()}


def child(function):
    """What `function` returns, called in a forked child."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            answer = {"is": function()}
        except BaseException:
            answer = {"failed": traceback.format_exc()}
        os.write(writer, json.dumps(answer).encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as pipe:
        answer = json.loads(pipe.read())
    os.waitpid(pid, 0)
    assert "is" in answer, answer["failed"]
    return answer["is"]


def everywhere(private):
    """The answer of use_all() where every private file gives `private`."""
    return (
        dict.fromkeys(PRIVATE, private)
        | dict.fromkeys(PUBLIC, "")
        | {f"{name} write": private for name in WRITES}
    )


@pytest.fixture
def untouched(ctskip):
    """A table that is as it was after the test, as is what the last refused write left."""
    ctskip.commit("udp dport=53", "tcp dport=80")
    ctskip.write("nonsense\n")
    before = ctskip.snapshot() | {"last_error": ctskip.read("last_error")}
    yield ctskip
    assert ctskip.snapshot() | {"last_error": ctskip.read("last_error")} == before


def test_root_may(ctskip):
    """That the refusals below are of what each test takes away."""
    ctskip.commit("udp dport=53")
    assert child(use_all) == everywhere("")
    assert ctskip.rules() == [] and ctskip.mode == "off"


def test_net_admin_is_enough(ctskip):
    """With a capability to open the files: their mode says root."""

    def run():
        become_nobody(NET_ADMIN, DAC_OVERRIDE)
        return use_all()

    ctskip.commit("udp dport=53")
    assert child(run) == everywhere("")
    assert ctskip.rules() == [] and ctskip.mode == "off"


def test_unprivileged_user(untouched):
    def run():
        become_nobody()
        return use_all()

    assert child(run) == everywhere("open EACCES")


def test_unprivileged_user_whom_modes_do_not_stop(untouched):
    def run():
        become_nobody(DAC_OVERRIDE)
        return use_all()

    assert child(run) == everywhere("EPERM")


def test_root_without_net_admin(untouched):
    def run():
        drop_net_admin()
        return use_all()

    assert child(run) == everywhere("EPERM")


def test_capsh(untouched, lab):
    """The same as an administrator would see it."""
    done = lab.init.run(
        ["capsh", "--drop=cap_net_admin", "--", "-c", f"cat {netlab.SYSFS}/rules"], check=False
    )
    assert done.returncode and "Operation not permitted" in done.stderr
    done = lab.init.run(
        ["setpriv", "--reuid=65534", "--clear-groups", "cat", f"{netlab.SYSFS}/generation"]
    )
    assert int(done.stdout) == untouched.generation


@pytest.mark.parametrize("flags", [os.CLONE_NEWNET, 0], ids=["own netns", "initial netns"])
def test_root_of_a_user_namespace(untouched, flags):
    def run():
        own_user_namespace(flags)
        return use_all()

    assert child(run) == everywhere("EPERM")


def test_unprivileged_root_of_a_user_namespace(untouched):
    def run():
        become_nobody()
        own_user_namespace()
        return use_all()

    assert child(run) == everywhere("open EACCES")


def test_root_in_another_network_namespace(untouched, lab):
    with lab.ns().inside():
        assert use_all() == everywhere("EPERM")


def test_root_of_a_container(untouched):
    """It has CAP_NET_ADMIN, though for a network namespace of its own, and cannot leave that."""

    def run():
        host = os.open("/proc/1/ns/net", os.O_RDONLY)
        become_container()
        assert attempt(os.setns, host, os.CLONE_NEWNET) == "EPERM"
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return use_all()

    assert child(run) == everywhere("EPERM")


def test_no_other_capability_will_do(untouched):
    def run():
        become_nobody(*(cap for cap in range(CAPABILITIES) if cap != NET_ADMIN))
        return use_all()

    assert child(run) == everywhere("EPERM")


# --- who counts is the opener --------------------------------------------------------------------


def test_a_file_that_was_given_away_keeps_its_rights(ctskip):
    files = {name: os.open(netlab.SYSFS / name, os.O_RDWR) for name in WRITES}

    def run():
        become_nobody()
        return [
            attempt(os.write, files["rules"], b"udp dport=53\n"),
            attempt(os.write, files["mode"], b"observe\n"),
            attempt(os.pread, files["rules"], 4096, 0),
            os.pread(files["mode"], 4096, 0).decode(),
        ]

    assert child(run) == ["", "", "", "observe\n"]
    assert len(ctskip.rules()) == 1
    for fd in files.values():
        os.close(fd)


def test_a_file_that_was_opened_without_the_right_never_has_it(untouched):
    """Though who uses it has: so no privileged program can be tricked into it."""

    def run():
        capabilities(lambda e, p: (e & ~(1 << NET_ADMIN), p))
        files = {name: os.open(netlab.SYSFS / name, os.O_RDONLY) for name in PRIVATE + PUBLIC}
        writable = {name: os.open(netlab.SYSFS / name, os.O_WRONLY) for name in WRITES}
        capabilities(lambda e, p: (e | 1 << NET_ADMIN, p))
        answers = {name: attempt(os.read, fd, 4096) for name, fd in files.items()}
        for name, fd in writable.items():
            answers[f"{name} write"] = attempt(os.write, fd, WRITES[name])
        assert use("rules", os.O_RDONLY) == ""
        return answers

    assert child(run) == everywhere("EPERM")


def test_an_open_file_does_not_work_from_another_network_namespace(ctskip, lab):
    """Nor does a load go on there; back where it was opened it does."""
    with netlab.OpenFile(flags=os.O_RDWR) as file:
        assert file.write("load\n") == 0
        with lab.ns().inside():
            assert file.write("udp dport=1\n") == errno.EPERM
            assert attempt(file.read) == "EPERM"
        assert file.write("udp dport=2\ncommit\n") == 0
        assert os.pread(file.fd, 4096, 0).startswith(b"# ctskip ")
    (rule,) = ctskip.rules()
    assert rule.startswith("skip udp dport=2 ")


# --- what a tenant learns --------------------------------------------------------------------------

# Words that stand in a table and nowhere else, as text and as the kernel might print them.
SECRETS = ("203.0.113.77", "dport=47111", "quietly", "cb00714d", "4d7100cb")
SECRET_RULE = "udp dst=203.0.113.77 dport=47111 tag=quietly"


def nobody():
    become_nobody()


def root_of_a_user_namespace():
    become_nobody()
    own_user_namespace()


TENANTS = [nobody, root_of_a_user_namespace, drop_net_admin, become_container]


def readable():
    """All that can be read of what may be about ctskip: {path: text}."""
    found = {}
    for path in itertools.chain(
        netlab.SYSFS.iterdir(),
        Path("/sys/module/ctskip").rglob("*"),
        Path("/proc/self/net").rglob("*"),
        map(Path, ("/proc/modules", "/proc/vmallocinfo", "/proc/slabinfo")),
    ):
        with contextlib.suppress(OSError):
            if path.is_file():
                found[str(path)] = path.read_text(errors="replace")
    return found


@pytest.mark.parametrize("tenant", TENANTS)
def test_a_tenant_learns_no_rule(ctskip, tenant):
    """Not by the files, nor by what they look like from outside, nor by what else the kernel shows."""
    ctskip.commit(SECRET_RULE, f"{SECRET_RULE} nat=ok")
    ctskip.write(f"delete tag=quietly\n{SECRET_RULE} nonsense\n")
    assert ctskip.refused(f"{SECRET_RULE} nonsense\n") == "EINVAL"

    def run():
        tenant()
        return readable()

    found = child(run)
    assert f"{netlab.SYSFS}/generation" in found and f"{netlab.SYSFS}/version" in found
    assert not [name for name in PRIVATE if f"{netlab.SYSFS}/{name}" in found]
    assert [
        (path, word) for path, text in found.items() for word in SECRETS if word in text.lower()
    ] == []
    # The same look at what root reads does find them.
    assert any("quietly" in text for path, text in child(readable).items())


@pytest.mark.parametrize("tenant", TENANTS)
def test_files_look_the_same_whatever_they_hold(ctskip, tenant):
    def run():
        tenant()
        found = {}
        for name in PRIVATE + PUBLIC:
            stat = os.stat(netlab.SYSFS / name)
            found[name] = (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_size, stat.st_blocks)
        return found, sorted(os.listdir(netlab.SYSFS))

    before = child(run)
    ctskip.commit(*(f"{SECRET_RULE} id={number + 1}" for number in range(30)))
    ctskip.read("rules")
    assert child(run) == before


def test_the_log_names_no_rule(ctskip, lab, dmesg):
    """Who may read the log need not know the table: there are ids in it and no more.

    But of what is refused in `rules=`, which has no other place.
    """
    router, gone = lab.ns(), lab.ns()
    router.nft("table ip t { chain c { type nat hook postrouting priority 100; masquerade; }; }")
    ctskip.commit(f"{SECRET_RULE} id=12345", f"{SECRET_RULE} netns={gone.inode}")
    assert ctskip.refused(f"{SECRET_RULE} nonsense\n") == "EINVAL"
    ctskip.mode = "observe"
    close(lab, gone)
    dmesg.wait("ctskip: .* namespaces are gone", 20)
    ctskip.commit("delete tag=quietly")
    text = dmesg.text()
    assert "rules 12345" in text
    assert [word for word in SECRETS if word in text] == []


def close(lab, ns):
    """A namespace goes, before the test's end."""
    ns.close()
    lab.namespaces.remove(ns)


# --- where the kernel lies -------------------------------------------------------------------------

# A number that could be an address, also one that %p has hashed, which tells things apart at least.
# `sum=` is 64 bits of the table's text.
NUMBERS = re.compile(
    r"(?<!sum=)\b(?:0x[0-9a-f]+|[0-9a-f]{12,16}|\d{13,20})\b|ptrval", re.IGNORECASE
)
KERNEL_HALF = 0xFFFF_8000_0000_0000


def addresses(text):
    """What could be addresses of the kernel in a text."""
    return [
        word
        for word in NUMBERS.findall(text)
        if not word.isdecimal() or KERNEL_HALF <= int(word) or len(word) == 16
        if not word.lower().startswith("0x") or int(word, 16) > 0xFFFF_FFFF
    ]


def test_what_addresses_look_like():
    for text in (
        "at ffffffffc0a01234.",
        "0xffffffffc0a01234",
        "x=FFFF888101234000",
        "ptr=00000000c0ffee12",
        "(____ptrval____)",
        f"cookie={0xFFFFFFFFC0A01234}",
    ):
        assert addresses(text), text
    for text in (
        "sum=ffffffffc0a01234 rules=1",
        "netns=4026531833",
        "mark=0xffffffff",
        "bytes=1234567",
    ):
        assert not addresses(text), text


@pytest.mark.own_module
def test_nothing_prints_an_address(ctskip, lab, dmesg):
    """Every file, and every line that the module can log: each of them is seen to be there.

    But for the one about memory that is wanting to take out rules, which has no number in it.
    """
    assert ctskip.load(rules="udp dport=53 prto=1") == errno.EINVAL
    assert ctskip.load(mode="sometimes") == errno.EINVAL
    assert ctskip.load(rules="udp dport=53 any", mode="observe") == 0
    ctskip.mode = "skip"
    client, server = lab.pair()
    server.udp_echo(53)
    gone = lab.ns()
    for ns in [server, *(lab.ns() for _ in range(17))]:
        ns.nft("table ip t { chain c { type nat hook postrouting priority 100; masquerade; }; }")
    ctskip.commit(f"udp dport=54 netns={gone.inode}", "udp dev=veth* dport=55 tag=x")
    assert client.udp(server.addr(V4), 53)
    ctskip.refused("udp dprot=53\n")
    ctskip.commit("load lenient", *ctskip.rules(), "udp dport=56 netns=1", "commit")
    with lab.ns().inside():
        assert use("rules", os.O_RDONLY) == "EPERM"
    silent = netlab.OpenFile(flags=os.O_WRONLY)
    assert silent.write("load\n") == 0
    time.sleep(10.2)
    assert ctskip.write("load\n") == 0
    silent.close()
    close(lab, gone)
    dmesg.wait("namespaces are gone", 20)
    files = {name: ctskip.text(name) for name in PRIVATE + PUBLIC}
    files["modinfo"] = subprocess.run(
        ["modinfo", netlab.MODULE], capture_output=True, text=True
    ).stdout
    assert all(files.values())
    assert ctskip.unload() == 0
    # A debug kernel says of each object when it goes, the module as well.
    lines = [line for line in dmesg.lines() if not line.startswith("kobject: ")]
    log = "\n".join(line for line in lines if "ctskip" in line)
    for line in (
        r"version \S+: mode observe, 1 rules, \d+ namespaces, 0 of them without hooks",
        r"refused a write by \S+: EINVAL, line 1 column 5: ",
        r"1 rules of the load by \S+ are left out, as their namespaces do not exist: the first in line 4",
        r"rules: EPERM for \S+: the caller is not in the initial network namespace",
        r"the load by \S+ is dropped with its 0 rules: it was silent",
        r"the load by \S+ is dropped with its 0 rules: its file was closed",
        r"rules: line 1 column 14: ",
        r"rules: expected ",
        r"rules: likely ",
        r"rules: udp dport=53 prto=1$",
        r"rules: +\^$",
        r"mode=sometimes: expected",
        r"mode skip, by ",
        r"generation \d+: \+2 -0 rules, by ",
        r"rules 1,3 are held in netns (init|\d+)",
        r"rules are held in further namespaces",
        r"generation \d+: \+0 -1 rules, as their namespaces are gone",
    ):
        assert re.search(f"(?m)ctskip: {line}", log), line
    found = {name: addresses(text) for name, text in files.items() | {("log", log)}}
    assert {name: words for name, words in found.items() if words} == {}


def test_the_module_shows_nobody_where_it_lies(ctskip):
    """What the kernel has of it beside our files: addresses are for root, or zeros."""

    def run():
        become_nobody()
        return readable()

    files = child(run)
    found = {path: addresses(text) for path, text in files.items() if "/module/ctskip" in path}
    assert found and not any(found.values())
    (line,) = re.findall("^ctskip .*", files["/proc/modules"], re.MULTILINE)
    assert line.split()[5] == "0x0000000000000000"


# --- what fills the log ----------------------------------------------------------------------------


def ours(dmesg):
    return [line for line in dmesg.lines() if "ctskip" in line]


@pytest.mark.own_module
@pytest.mark.parametrize("tenant", TENANTS)
def test_a_tenant_writes_few_lines_of_the_log(ctskip, dmesg, tenant):
    """By files that it may not use, hundreds of times: three, and none by namespaces."""

    def run():
        tenant()
        for _ in range(200):
            use_all()
        for _ in range(20):
            if attempt(os.unshare, os.CLONE_NEWNET) != "":
                break
        return True

    assert ctskip.load() == 0
    ctskip.commit("udp any", "udp any netns=init")
    dmesg.clear()
    assert child(run)
    lines = ours(dmesg)
    assert all(re.match(r"ctskip: \w+: EPERM for \S+\[\d+\]: the ", line) for line in lines), lines
    # Nobody cannot even open them.
    assert len(lines) == (0 if tenant in (nobody, root_of_a_user_namespace) else 3)
    assert ctskip.read("last_error") == ""


@pytest.mark.own_module
def test_the_log_says_why_a_file_may_not_be_used(ctskip, lab, dmesg):
    def in_a_user_namespace():
        own_user_namespace(0)

    other = lab.ns()

    def elsewhere():
        os.setns(other.fd, os.CLONE_NEWNET)

    assert ctskip.load() == 0
    for become, name, why in (
        (in_a_user_namespace, "netns", "the file was opened outside of the initial user namespace"),
        (drop_net_admin, "rules", "the file was opened without CAP_NET_ADMIN"),
        (elsewhere, "mode", "the caller is not in the initial network namespace"),
    ):
        dmesg.clear()

        def run(become=become, name=name):
            become()
            return use(name, os.O_RDONLY)

        assert child(run) == "EPERM"
        dmesg.wait(rf"ctskip: {name}: EPERM for \S+\[\d+\]: {why}")
    assert ctskip.read("last_error") == ""


@pytest.mark.own_module
def test_a_refused_write_is_a_line_of_the_log(ctskip, dmesg):
    """Where dash says `I/O error`. A script that loops does not fill the log."""
    assert ctskip.load() == 0
    script = f'echo "udp dport=53; udp dport=domain" > {netlab.SYSFS}/rules'
    with subprocess.Popen(["sh", "-c", script], stderr=subprocess.DEVNULL) as shell:
        assert shell.wait(30)
    dmesg.wait(
        rf"ctskip: refused a write by \S+\[{shell.pid}\]: EINVAL, line 1 column 25: .+; see last_error"
    )
    assert ctskip.write("sometimes\n", "mode") == errno.EINVAL
    dmesg.wait(r"ctskip: refused a write by .*: EINVAL, line 1 column 1: not a mode")
    assert ctskip.write("delete 5\n") == errno.ENOENT
    dmesg.wait(r"ctskip: refused a write by .*: ENOENT, line 1 column 8: no rule has this id")
    # What comes behind a refused text is not told again.
    dmesg.clear()
    with netlab.OpenFile(flags=os.O_WRONLY) as file:
        for _ in range(5):
            assert file.write("nonsense\n") == errno.EINVAL
    assert len(ours(dmesg)) == 1
    for _ in range(100):
        assert ctskip.write("nonsense\n") == errno.EINVAL
    assert len(ours(dmesg)) == 10 - 3


def test_a_tenants_nat_writes_one_line_of_the_log(ctskip, dmesg):
    """Rules are held where a tenant turns NAT on, as often as it likes: that is told once."""

    def run():
        own_user_namespace()
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        table = "table ip t { chain c { type nat hook output priority -100; }; }"
        for _ in range(10):
            subprocess.run(["nft", "-f", "-"], input=table, text=True, check=True)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                for _ in range(50):
                    s.sendto(b"x", ("127.0.0.1", 53))
            subprocess.run(["nft", "flush", "ruleset"], check=True)
        return True

    ctskip.add("udp dport=53")
    dmesg.clear()
    assert child(run)
    assert ctskip.counters()[0]["held"] >= 500
    (line,) = ours(dmesg)
    assert "rules are held in netns " in line


def test_packets_write_no_line_of_the_log(ctskip, lab, dmesg, request):
    """Skipped, tracked by rule, held, ICMP errors about them, observed: many of each."""
    many = 300 if request.config.getoption("quick") else 2000
    client, server = lab.pair()
    server.nft("table ip t { chain c { type nat hook prerouting priority -100; }; }")
    for name in ("icmp_msgs_per_sec", "icmp_msgs_burst"):
        server.sysctl(f"net.ipv4.{name}", 1_000_000)
    server.sysctl("net.ipv4.icmp_ratelimit", 0)
    address = server.addr(V4)
    ctskip.commit("udp dport=1 nat=ok", "track udp dport=2", "udp dport=3")
    dmesg.clear()
    for port in (1, 2, 3, 4):
        client.udp_send(address, port, count=many)
    counters = ctskip.counters()
    assert min(c["packets"] + c["held"] for c in counters) >= many and counters[2]["held"] >= many
    assert ctskip.stats()["icmp_errors_followed"] >= many
    assert ours(dmesg) == []
    ctskip.mode = "observe"
    dmesg.clear()  # of who has changed the mode
    client.udp_send(address, 1, count=many)
    assert ctskip.stats()["observed"] >= many
    assert ours(dmesg) == []


@pytest.mark.not_quick
def test_a_commit_logs_no_more_the_more_namespaces_have_nat(ctskip, lab, dmesg):
    """Tenants make namespaces, and NAT there: of a commit they see some, whatever their number."""
    for _ in range(20):
        lab.ns().nft("table ip t { chain c { type nat hook output priority -100; }; }")
    dmesg.clear()
    ctskip.commit(*(f"udp dport={port}" for port in range(1, 101)))
    lines = ours(dmesg)
    assert len(lines) == 18 and "generation" in lines[0] and "further" in lines[-1]
    assert max(map(len, lines)) < 200


def test_namespaces_that_go_log_no_more_than_were_named(ctskip, lab, dmesg):
    """A tenant may end a namespace that a rule names, once for each that the administrator named."""
    named = [lab.ns() for _ in range(10)]
    ctskip.commit(*(f"udp dport={n} netns={ns.inode}" for ns in named for n in (1, 2, 3)))
    dmesg.clear()
    for ns in named:
        close(lab, ns)
    netlab.wait_until(lambda: not ctskip.rules(), 20)
    netlab.wait_until(lambda: ours(dmesg))  # the last line is written behind the table
    lines = ours(dmesg)
    assert 1 <= len(lines) <= len(named)
    assert all("as their namespaces are gone" in line for line in lines)
