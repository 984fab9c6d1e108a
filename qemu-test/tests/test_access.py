# SPDX-License-Identifier: GPL-2.0
"""Who may read and write which file.

All but `generation` and `version` need CAP_NET_ADMIN in the initial user namespace, by the opener's
credentials, from within the initial network namespace. Each test asks from a forked child, which may
drop what it likes.
"""

import ctypes
import errno
import json
import os
import traceback

import netlab
import pytest

PRIVATE = ("rules", "counters", "netns", "stats", "mode", "last_error")
PUBLIC = ("generation", "version")
WRITES = {"rules": b"flush\n", "mode": b"off\n"}
NOBODY = 65534
DAC_OVERRIDE, NET_ADMIN = 1, 12

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_DUMPABLE, _PR_SET_KEEPCAPS = 4, 8


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
