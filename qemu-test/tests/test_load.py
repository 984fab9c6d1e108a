# SPDX-License-Identifier: GPL-2.0
"""`load` ... `commit`: a whole table, or a tag's rules, over as many writes as it takes."""

import contextlib
import errno
import os
import random
import re
import signal
import subprocess
import time

import netlab
import pytest

SILENCE = 10  # seconds until a silent writer's load gives way


def writer():
    return netlab.OpenFile(flags=os.O_WRONLY)


def texts(ctskip):
    """The rules without their ids."""
    return [line.rpartition(" id=")[0] for line in ctskip.rules()]


def ids(ctskip):
    return [line["id"] for line in ctskip.counters()]


def table(count):
    """That many rules of all kinds."""
    kinds = (
        "udp dst=10.{a}.{b}.0/24 dport={p} tag=dns",
        "track tcp src=fd00:{b}::/32 sport={p}-65000,5,7-9",
        "udp,tcp dev=eth0,veth* dport={p} oneway",
        "icmp dst=10.{a}.{b}.1 type=8 local=dst nat=ok",
        "ip6 any mark=0x{p:x}/0xffff netns=init tag=t{b}",
    )
    return [kinds[i % 5].format(a=i // 256 % 256, b=i % 256, p=1024 + i) for i in range(count)]


def piecewise(file, text, seed):
    """Write `text` in pieces cut anywhere behind the word `load`; errno of the first refused one."""
    rand = random.Random(seed)
    data = text.encode()
    start, size = 0, 4
    while start < len(data):
        number = file.write(data[start : start + size])
        if number:
            return number
        start += size
        size = rand.choice((1, rand.randrange(1, 40), rand.randrange(1, 4097), 4096))
    return 0


# --- what it does --------------------------------------------------------------------------------


def test_table_becomes_exactly_the_lines(ctskip):
    ctskip.commit("udp dport=1", "udp dport=2", "udp dport=3")
    first = ids(ctskip)
    before = ctskip.generation
    ctskip.commit("load", "udp dport=4", "# a comment", "", "add udp dport=2", "commit")
    assert texts(ctskip) == ["skip udp dport=4", "skip udp dport=2"]
    assert ids(ctskip) == [first[2] + 1, first[1]]
    assert ctskip.generation == before + 1


def test_of_nothing_empties_the_table(ctskip):
    ctskip.commit("udp dport=1")
    ctskip.commit("load", "commit")
    assert ctskip.rules() == []


@pytest.mark.not_quick
def test_in_pieces_cut_anywhere(ctskip, lab):
    rules = table(9999)
    rules.insert(5000, "udp dport=53")
    text = "load\n" + "\n".join(rules) + "\ncommit\n"
    generation = ctskip.generation
    with writer() as file:
        assert piecewise(file, text, 1) == 0
    assert ctskip.generation == generation + 1
    canonical = ctskip.read("rules")
    assert ctskip.header()["rules"] == 10000

    # The same table read back, and the same text once more: nothing changes.
    lab.ns().udp_send("127.0.0.1", 53, count=5)
    counters = ctskip.read("counters")
    assert netlab.numbers(counters.splitlines()[5000])["packets"] >= 5
    with writer() as file:
        assert piecewise(file, f"load\n{canonical}commit\n", 2) == 0
        assert piecewise(file, text, 3) == 0
    assert ctskip.read("rules") == canonical
    assert ctskip.read("counters") == counters

    # Another order: rules keep their ids and counters. Others are shadowed.
    rules.reverse()
    with writer() as file:
        assert piecewise(file, "load\n" + "\n".join(rules) + "\ncommit\n", 4) == 0
    assert ctskip.generation == generation + 2
    kept = [
        re.sub(r" +(shadowed_by=\S+ +)?rule=", " rule=", text)
        for text in (ctskip.read("counters"), counters)
    ]
    assert kept[0].splitlines() == kept[1].splitlines()[::-1]


@pytest.mark.parametrize("size", [1, 7])
def test_in_small_pieces(ctskip, size):
    rules = table(40)
    text = "load\n" + "\n".join(rules) + "\ncommit\n"
    with writer() as file:
        assert file.write(text[:4]) == 0
        for start in range(4, len(text), size):
            assert file.write(text[start : start + size]) == 0
    assert len(ctskip.rules()) == 40
    before = ctskip.snapshot()
    ctskip.commit("load", *rules, "commit")
    assert ctskip.snapshot() == before


def test_equal_rules_each_keep_their_own(ctskip):
    ctskip.commit("udp dport=1", "udp dport=1", "tcp dport=1", "udp dport=1")
    first = ids(ctskip)
    before = ctskip.generation
    ctskip.commit("load", "udp dport=1", "udp dport=1", "tcp dport=1", "udp dport=1", "commit")
    assert (ids(ctskip), ctskip.generation) == (first, before)
    # A line that says its id gets that rule, whatever stands ahead of it.
    ctskip.commit("load", "udp dport=1", f"udp dport=1 id={first[0]}", "commit")
    assert ids(ctskip) == [first[1], first[0]]


@pytest.mark.not_quick
def test_many_equal_rules(ctskip):
    """To compare each with each would take many times longer than as many different ones do.

    The least of four, in turn: the host may take time from any one.
    """
    number = 60_000 // netlab.SLOWER

    def seconds(rules):
        text = "".join(f"{rule}\n" for rule in rules)
        start = time.process_time()
        ctskip.load_table(text)
        generation = ctskip.generation
        ctskip.load_table(text)
        assert ctskip.generation == generation
        return time.process_time() - start

    tables = [f"udp dport={port + 1}" for port in range(number)], ["udp dport=1"] * number
    different, equal = map(min, zip(*(map(seconds, tables) for _ in range(4)), strict=True))
    assert equal < 2 * different


def test_changed_terms_make_another_rule(ctskip):
    ctskip.commit("udp dport=1", "udp dport=2")
    one, two = ids(ctskip)
    ctskip.commit("load", f"track udp dport=1 id={one}", f"udp dport=2 id={two + 5}", "commit")
    assert ctskip.rules() == [f"track udp dport=1 id={one}", f"skip udp dport=2 id={two + 5}"]


def test_abort_and_no_end(ctskip, dmesg):
    ctskip.commit("udp dport=1")
    before = ctskip.snapshot()
    ctskip.commit("load", "udp dport=2", "abort")
    assert ctskip.snapshot() == before
    with writer() as file:
        assert file.write("load\nudp dport=2\n") == 0
        assert file.write("abort\n") == 0
        # The load is over: what follows is a write like any other.
        assert file.write("udp dport=3\n") == 0
    assert texts(ctskip) == ["skip udp dport=1", "skip udp dport=3"]
    before = ctskip.snapshot()
    assert ctskip.write("load\nudp dport=9\ncom") == 0  # cut short: no commit came
    assert ctskip.snapshot() == before
    # The word ends it, with or without a newline.
    assert ctskip.write("load\nudp dport=9\ncommit") == 0
    assert texts(ctskip) == ["skip udp dport=9"]


@pytest.mark.parametrize(
    "text",
    [
        "load;udp dport=1;commit",
        "load\nudp dport=1\n+commit",
        "load++udp+dport=1++commit",
        "load\nudp dport=1; commit ",
    ],
)
def test_a_commit_without_a_newline_is_carried_out(ctskip, text):
    assert ctskip.write(text) == 0
    assert texts(ctskip) == ["skip udp dport=1"]


@pytest.mark.parametrize("end", ["commit;", "commit ;", "commit #x", "abort;", "commit++"])
def test_a_commit_that_may_go_on_is_refused(ctskip, end):
    """Without a newline behind it: it is not forgotten in silence."""
    ctskip.commit("udp dport=53")
    before = ctskip.snapshot()
    rules = "load++udp+dport=1++" if end.endswith("++") else "load\nudp dport=1\n"
    with writer() as file:
        assert file.write(rules + end) == errno.EINVAL
        assert "no newline at the end" in ctskip.last_error()["error"]
        assert file.write("flush\n") == errno.EINVAL
    assert ctskip.snapshot() == before
    assert ctskip.write(rules.replace("++", "\n").replace("+", " ") + "commit # x\n") == 0
    assert texts(ctskip) == ["skip udp dport=1"]


def test_lines_are_those_of_the_file(ctskip, tmp_path):
    """As an editor shows them, over as many writes as it takes."""
    file = tmp_path / "rules"
    for good in (2, 300):  # in one piece, and over a page
        file.write_text("udp dport=1 # ....................\n" * good + "udp dprot=2\n")
        script = f"{{ echo load; cat {file}; echo commit; }} > {netlab.SYSFS}/rules"
        assert subprocess.run(["bash", "-c", script], stderr=subprocess.DEVNULL).returncode
        error = ctskip.last_error()
        assert (error["line"], error["excerpt"]) == (good + 1, "udp dprot=2")


# --- lenient -------------------------------------------------------------------------------------


@pytest.mark.own_module
def test_lenient_leaves_out_rules_of_namespaces_that_have_gone(ctskip, lab, dmesg):
    assert ctskip.load() == 0
    stays, goes = lab.ns(), lab.ns()
    gone = goes.inode
    saved = (
        "udp dport=1 id=11",
        f"udp dport=2 netns={gone} id=12",
        f"udp dport=3 netns={stays.inode} id=13",
        f"udp dport=4 netns={gone} tag=a id=14",
    )
    ctskip.commit(*saved)
    text = ctskip.rules()
    lab.namespaces.remove(goes)
    goes.close()
    netlab.wait_until(lambda: len(ctskip.rules()) == 2, 20)
    left = ctskip.rules()
    ctskip.commit("flush")
    assert ctskip.refused("\n".join(["load", *text, "commit", ""])) == "ESRCH"
    assert ctskip.last_error()["line"] == 2
    ctskip.commit("load lenient", *text, "commit")
    assert ctskip.rules() == left
    dmesg.wait(r"ctskip: 2 rules of the load by .* are left out, .*: the first in line 2")
    # Again, nothing changes, and it is told again.
    generation = ctskip.generation
    dmesg.clear()
    ctskip.commit("load lenient", *text, "commit")
    assert ctskip.generation == generation
    dmesg.wait(r"ctskip: 2 rules of the load by")
    # Whatever else is wrong is refused, also in such a rule.
    assert ctskip.refused(f"load lenient\nudp dprot=1 netns={gone}\ncommit\n") == "EINVAL"


def test_several_loads_through_one_file(ctskip):
    with writer() as file:
        for port in (1, 2, 3):
            assert file.write("load\n") == 0
            assert file.write(f"udp dport={port}\ncommit\n") == 0
            assert texts(ctskip) == [f"skip udp dport={port}"]


def test_log(ctskip, dmesg):
    ctskip.commit("udp dport=1", "udp dport=2")
    ctskip.commit("load", "udp dport=2", "udp dport=3", "udp dport=4", "commit")
    who = rf"by python3?\S*\[{os.getpid()}\]"
    dmesg.wait(rf"ctskip: generation {ctskip.generation}: \+2 -1 rules, {who}")
    ctskip.commit("load", "udp dport=4", "udp dport=3", "udp dport=2", "commit")
    dmesg.wait(rf"ctskip: generation {ctskip.generation}: \+0 -0 rules, {who}")
    lines = len(dmesg.lines())
    ctskip.commit("load", "udp dport=4", "udp dport=3", "udp dport=2", "commit")
    assert len(dmesg.lines()) == lines


# --- of one tag ----------------------------------------------------------------------------------


def test_tag_where_its_rules_stand(ctskip):
    ctskip.commit(
        "udp dport=1 tag=a",
        "udp dport=2",
        "udp dport=3 tag=a",
        "udp dport=4 tag=b",
    )
    one, two, three, four = ids(ctskip)
    before = ctskip.generation
    ctskip.commit(
        "load tag=a", "tcp dport=1", "udp dport=3", "tcp dport=5 tag=a", "tcp dport=6", "commit"
    )
    assert texts(ctskip) == [
        "skip tcp dport=1 tag=a",
        "skip udp dport=2",
        "skip udp dport=3 tag=a",
        "skip tcp dport=5 tag=a",
        "skip tcp dport=6 tag=a",
        "skip udp dport=4 tag=b",
    ]
    assert ids(ctskip) == [four + 1, two, three, four + 2, four + 3, four]
    again = ctskip.snapshot()
    ctskip.commit(
        "load tag=a", "tcp dport=1", "udp dport=3", "tcp dport=5 tag=a", "tcp dport=6", "commit"
    )
    assert ctskip.snapshot() == again
    ctskip.commit("load tag=a", "udp dport=3", "commit")
    assert texts(ctskip) == [
        "skip udp dport=3 tag=a",
        "skip udp dport=2",
        "skip udp dport=4 tag=b",
    ]
    ctskip.commit("load tag=a", "commit")
    assert ids(ctskip) == [two, four]
    assert ctskip.generation == before + 3


def test_tag_that_is_new_goes_to_the_end(ctskip):
    ctskip.commit("udp dport=1 tag=a")
    ctskip.commit("load tag=new", "udp dport=2", "udp dport=3", "commit")
    assert texts(ctskip) == [
        "skip udp dport=1 tag=a",
        "skip udp dport=2 tag=new",
        "skip udp dport=3 tag=new",
    ]


# --- refusals ------------------------------------------------------------------------------------

REFUSED = [
    ("load x", "EINVAL", 1, "x"),
    ("load tag=a b", "EINVAL", 1, "b"),
    ("load tag=", "EINVAL", 1, ""),
    ("load lenient x", "EINVAL", 1, "x"),
    ("# x\n\nload x", "EINVAL", 3, "x"),
    ("load\nload", "EINVAL", 1, "load"),
    ("load\nflush", "EINVAL", 1, "flush"),
    ("load\ninsert udp dport=1", "EINVAL", 1, "insert"),
    ("load\ndelete {0}", "EINVAL", 1, "delete"),
    ("load\nudp dport=1\nadd nonsense", "EINVAL", 2, "nonsense"),
    ("load\ncommit now", "EINVAL", 1, "now"),
    ("load\nabort now", "EINVAL", 1, "now"),
    ("load\nudp dport=1\ncommit\nudp dport=2", "EINVAL", 3, "udp"),
    ("load\nudp dport=1\ncommit; udp dport=2", "EINVAL", 2, "udp"),
    ("load\nudp dport=1\nabort\nflush", "EINVAL", 3, "flush"),
    ("load tag=a\nudp dport=1 tag=b", "EINVAL", 1, ""),
    ("load\nudp dport=1 netns=1", "ESRCH", 1, "1"),
    ("load\nudp dport=1 id=5\nudp dport=2 id=5\ncommit", "EEXIST", 2, None),
    ("load tag=a\nudp dport=9 id={1}\ncommit", "EEXIST", 1, None),
]


@pytest.mark.parametrize("text, name, line, word", REFUSED)
def test_refused(ctskip, lab, text, name, line, word):
    """`line` is counted behind the load; `word` is what the caret stands under; None where the line is not at
    hand any more."""
    ctskip.commit("udp dport=53 tag=a", "udp dport=54 tag=b")
    lab.ns().udp_send("127.0.0.1", 53, count=3)
    text = text.format(*ids(ctskip)) + "\n"
    assert ctskip.refused(text) == name
    error = ctskip.last_error()
    assert (error["errno"], error["line"]) == (name, line), error["text"]
    place = line if text.startswith(("load\n", "load tag=a\n")) else line - 1
    if word is not None:
        offending = text.splitlines()[place]
        assert offending[error["column"] - 1 :].startswith(word), error["text"]
        assert error["excerpt"] == offending

    if "commit" in text or "abort" in text or text.startswith("#"):
        return
    # Line by line as well: the line is refused, and all that follows in this file.
    before = ctskip.snapshot()
    with writer() as file:
        results = [file.write(part + "\n") for part in text.splitlines()]
        assert results[place] == getattr(errno, name)
        for rest in ("udp dport=70\n", "commit\n", "flush\n"):
            assert file.write(rest) == errno.EINVAL
    assert ctskip.snapshot() == before
    assert ctskip.last_error() == error


def test_what_follows_a_refused_piece_does_nothing(ctskip):
    """As from a shell: cat goes on behind a refused piece where it is another program's turn."""
    ctskip.commit("udp dport=53")
    before = ctskip.snapshot()
    with writer() as file:
        assert file.write("load\nudp dport=1\n") == 0
        assert file.write("nonsense\nudp dport=2\n") == errno.EINVAL
        error = ctskip.last_error()
        assert (error["line"], error["excerpt"]) == (2, "nonsense")
        for rest in ("udp dport=3\n", "add udp dport=4\n", "flush\n", "commit\n", "udp dp"):
            assert file.write(rest) == errno.EINVAL
        assert ctskip.last_error() == error
        assert ctskip.snapshot() == before
        # Other files are not concerned, and this one may begin anew.
        assert ctskip.write("udp dport=5\n") == 0
        assert file.write("load\nudp dport=6\ncommit\n") == 0
        assert file.write("udp dport=7\n") == 0
    assert texts(ctskip) == ["skip udp dport=6", "skip udp dport=7"]


def test_what_follows_a_refused_commit_does_nothing(ctskip):
    """The rules are in order, but not with the table that they come to."""
    ctskip.commit("udp dport=53 id=5 tag=old")
    before = ctskip.snapshot()
    with writer() as file:
        assert file.write("load tag=new\nudp dport=1 id=5\n") == 0
        assert file.write("commit\n") == errno.EEXIST
        assert file.write("delete tag=old\n") == errno.EINVAL
        assert ctskip.snapshot() == before


@pytest.mark.parametrize("first", ["udp dport=1\n" * 400, "udp dport=1\nudp dst=10.0.0.1"])
def test_what_follows_a_text_that_was_cut_does_nothing(ctskip, first):
    """As from stdio, which hands over a buffer at a time and goes on where one was refused."""
    ctskip.commit("udp dport=53")
    before = ctskip.snapshot()
    with writer() as file:
        assert file.write(first) == errno.EINVAL
        error = ctskip.last_error()
        assert "cut" in error["text"]
        for rest in ("udp dport=2\n", "flush\n", " sport=7\n"):
            assert file.write(rest) == errno.EINVAL
        assert ctskip.last_error() == error
        assert ctskip.snapshot() == before
        assert file.write("load\nudp dport=6\ncommit\n") == 0
        assert file.write("udp dport=7\n") == 0


def test_the_rest_of_a_comment_is_no_command(ctskip):
    """It is refused to end a piece within a comment behind commit, as more of it may follow."""
    ctskip.commit("udp dport=53")
    before = ctskip.snapshot()
    with writer() as file:
        assert file.write("load\nudp dport=1\ncommit\n# see the wiki;") == errno.EINVAL
        assert file.write(" flush\n") == errno.EINVAL
        assert ctskip.snapshot() == before


def test_a_line_too_long(ctskip):
    """Of 8,192 bytes and no more, however it is cut."""
    ctskip.commit("udp dport=53")
    before = ctskip.snapshot()
    for length, number in ((8192, 0), (8193, errno.EINVAL), (20000, errno.EINVAL)):
        line = "udp dport=1 #" + "." * (length - 13)
        with writer() as file:
            assert piecewise(file, f"load\n{line}\n", length) == number
            if number:
                assert ctskip.last_error()["line"] == 1
    assert ctskip.snapshot() == before


# --- several writers -----------------------------------------------------------------------------


def busy(ctskip):
    """A load now is refused, and nothing of it or of what follows in its file is carried out."""
    before = ctskip.snapshot()
    with writer() as file:
        assert file.write("# mine\nload\n") == errno.EBUSY
        error = ctskip.last_error()
        assert (error["errno"], error["line"], error["excerpt"]) == ("EBUSY", 2, "load")
        assert file.write("udp dport=7777\n") == errno.EINVAL
        assert file.write("commit\n") == errno.EINVAL
        assert ctskip.last_error() == error
    assert ctskip.snapshot() == before


def test_busy_while_another_loads(ctskip):
    ctskip.commit("udp dport=53")
    with writer() as file:
        assert file.write("load\nudp dport=1\n") == 0
        busy(ctskip)
        assert file.write("udp dport=2\n") == 0
        busy(ctskip)
        assert file.write("commit\n") == 0
        assert texts(ctskip) == ["skip udp dport=1", "skip udp dport=2"]
        ctskip.commit("load", "udp dport=3", "commit")
        assert file.write("load\n") == 0
        busy(ctskip)
        assert file.write("abort\n") == 0
        ctskip.commit("load", "udp dport=4", "commit")
    assert texts(ctskip) == ["skip udp dport=4"]


def test_plain_writes_go_on_meanwhile(ctskip):
    """The load then takes the table as it finds it."""
    ctskip.commit("udp dport=1")
    with writer() as file:
        assert file.write("load\nudp dport=1\nudp d") == 0
        added = ctskip.add("udp dport=2")
        assert file.write("port=2\n") == 0
        ctskip.commit("insert tcp dport=80")
        assert len(ctskip.rules()) == 3
        assert file.write("commit\n") == 0
    assert texts(ctskip) == ["skip udp dport=1", "skip udp dport=2"]
    assert ids(ctskip)[1] == added


def test_a_file_shared_by_processes_is_one_writer(ctskip):
    """As of a shell and what it starts: the load ends with the last of them."""
    with writer() as file:
        assert file.write("load\n") == 0
        child = os.fork()
        if not child:
            os._exit(file.write("udp dport=1\n"))
        assert os.waitpid(child, 0)[1] == 0
        busy(ctskip)
        assert file.write("commit\n") == 0
    assert texts(ctskip) == ["skip udp dport=1"]


def test_takeover_from_a_closed_file(ctskip):
    with writer() as file:
        assert file.write("load\nudp dport=1\n") == 0
    ctskip.commit("load", "udp dport=2", "commit")
    assert texts(ctskip) == ["skip udp dport=2"]


def test_takeover_from_a_killed_writer(ctskip):
    ready, tell = os.pipe()
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            file = writer()
            os.write(tell, b"1" if file.write("load\nudp dport=1\n") == 0 else b"0")
            signal.pause()
        os._exit(1)
    assert os.read(ready, 1) == b"1"
    busy(ctskip)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    ctskip.commit("load", "udp dport=2", "commit")
    assert texts(ctskip) == ["skip udp dport=2"]
    os.close(ready)
    os.close(tell)


def test_takeover_from_a_silent_writer(ctskip):
    """10 s behind its last piece; it goes on, however late, if nobody took over."""
    ctskip.commit("udp dport=53")
    with writer() as silent, writer() as other:
        assert silent.write("load\nudp dport=1\n") == 0
        time.sleep(SILENCE + 0.2)
        assert silent.write("udp dport=2\n") == 0
        busy(ctskip)
        time.sleep(SILENCE + 0.2)
        assert texts(ctskip) == ["skip udp dport=53"]
        assert other.write("load\nudp dport=3\n") == 0
        assert ctskip.write("nonsense\n") == errno.EINVAL
        # What the silent one still has to say is not carried out. It is told why, once.
        assert silent.write("udp dport=4\n") == errno.EINVAL
        error = ctskip.last_error()
        assert "another one took over" in error["error"]
        assert (error["errno"], error["excerpt"]) == ("EINVAL", "udp dport=4")
        assert error["writer"].endswith(f"[{os.getpid()}]")
        assert ctskip.write("rubbish\n") == errno.EINVAL
        error = ctskip.last_error()
        for rest in ("udp dport=4\n", "flush\n", "commit\n"):
            assert silent.write(rest) == errno.EINVAL
        assert ctskip.last_error() == error
        assert silent.write("load\n") == errno.EBUSY
        assert other.write("commit\n") == 0
        assert texts(ctskip) == ["skip udp dport=3"]
        assert silent.write("load\nudp dport=5\ncommit\n") == 0
        assert silent.write("udp dport=6\n") == 0
    assert texts(ctskip) == ["skip udp dport=5", "skip udp dport=6"]


@pytest.mark.own_module
def test_a_load_that_is_lost_is_told(ctskip, dmesg):
    """In the log and in `last_error`: of a file that is closed, without any other write."""
    assert ctskip.load() == 0
    with writer() as file:
        assert file.write("load\nudp dport=1\nudp dport=2\nudp") == 0
        time.sleep(1.5)
        assert ctskip.read("last_error") == ""
    found = dmesg.wait(r"ctskip: the load by (\S+) is dropped with its 2 rules: .* without commit")
    error = ctskip.last_error()
    assert (error["errno"], error["writer"], error["line"]) == ("ECANCELED", found[1], 0)
    assert error["writer"].endswith(f"[{os.getpid()}]")
    assert "closed without commit" in error["error"]
    # It is told of no load that ended otherwise.
    dmesg.clear()
    with writer() as file:
        for end in ("commit\n", "abort\n", "nonsense\n"):
            assert (file.write("load\n"), file.write(end) != 0) == (0, end == "nonsense\n")
    time.sleep(1.5)
    assert "dropped" not in dmesg.text() and ctskip.last_error()["excerpt"] == "nonsense"
    with writer() as silent, writer() as other:
        assert silent.write("load\nudp dport=1\n") == 0
        time.sleep(SILENCE + 0.2)
        assert other.write("load\nabort\n") == 0
        dmesg.wait(
            r"the load by \S+ is dropped with its 1 rules: it was silent for 10 s, and \S+ took over"
        )


def test_a_load_whose_writer_has_gone_keeps_no_mount(ctskip, tmp_path):
    """The open file is given back without another write."""
    subprocess.run(["mount", "-t", "sysfs", "none", tmp_path], check=True)
    fd = os.open(tmp_path / "kernel/ctskip/rules", os.O_WRONLY)
    os.write(fd, b"load\n")
    os.close(fd)

    def unmounted():
        return subprocess.run(["umount", tmp_path], capture_output=True).returncode == 0

    netlab.wait_until(unmounted, 10)


@pytest.mark.own_module
def test_unload_with_a_load_open(ctskip):
    for close_first in (True, False):
        assert ctskip.load() == 0
        file = writer()
        refused = writer()
        assert file.write("load\nudp dport=1\n") == 0
        assert refused.write("load\n") == errno.EBUSY
        if close_first:
            file.close()
        assert ctskip.unload() == 0
        if not close_first:
            assert file.write("commit\n") == errno.ENODEV
        assert refused.write("udp dport=1\n") == errno.ENODEV
        file.close()
        refused.close()
