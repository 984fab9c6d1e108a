# SPDX-License-Identifier: GPL-2.0
"""Commands written to `rules`: what each does, and that a refused one does nothing at all."""

import errno
import os
import subprocess
import time

import netlab
import pytest

RULES = netlab.SYSFS / "rules"
BASE = (
    "udp dport=53 tag=dns",
    "tcp dst=10.0.0.0/8 dport=6379 tag=kv",
    "track udp dst=192.0.2.1 any",
)
MOST = 131_072


def bash(script):
    """Run a script as a user would type it, with $R for the file: (exit status, pid)."""
    with subprocess.Popen(
        ["bash", "-c", script], env={"R": str(RULES), "PATH": "/usr/bin:/bin"}
    ) as done:
        return done.wait(30), done.pid


@pytest.fixture
def base(ctskip, lab):
    """A table of three rules, the first of which has counted; the ids of the three."""
    ctskip.commit(*BASE)
    ns = lab.ns()
    ns.udp_send("127.0.0.1", 53, count=3)
    counters = ctskip.counters()
    assert counters[0]["packets"] >= 3
    return [line["id"] for line in counters]


def texts(ctskip):
    """The rules without their ids."""
    return [line.rpartition(" id=")[0] for line in ctskip.rules()]


# --- what each command does ----------------------------------------------------------------------


def test_add_goes_to_the_end(ctskip):
    ctskip.commit("add udp dport=53", "tcp dport=80", "add track udp dport=54")
    assert texts(ctskip) == ["skip udp dport=53", "skip tcp dport=80", "track udp dport=54"]
    ids = [line["id"] for line in ctskip.counters()]
    assert ids == [ids[0], ids[0] + 1, ids[0] + 2]


def test_insert_goes_to_the_front_or_ahead_of_a_rule(ctskip, base):
    ctskip.commit("insert udp dport=1", f"insert before={base[1]} udp dport=2 id={base[2] + 100}")
    assert texts(ctskip) == [
        "skip udp dport=1",
        "skip udp dport=53 tag=dns",
        "skip udp dport=2",
        "skip tcp dst=10.0.0.0/8 dport=6379 tag=kv",
        "track udp dst=192.0.2.1",
    ]
    assert ctskip.counters()[2]["id"] == base[2] + 100


@pytest.mark.parametrize("how", ["delete {}", "delete id={}"])
def test_delete_by_id(ctskip, base, how):
    ctskip.commit(how.format(base[1]))
    assert [line["id"] for line in ctskip.counters()] == [base[0], base[2]]


def test_delete_by_tag(ctskip, base):
    ctskip.commit("add udp dport=54 tag=dns", "add udp dport=55 tag=dns2")
    ctskip.commit("delete tag=dns")
    assert [line["tag"] for line in ctskip.counters()] == ["kv", "", "dns2"]


def test_flush(ctskip, base):
    ctskip.commit("flush")
    assert ctskip.rules() == [] and ctskip.counters() == []
    assert ctskip.header()["rules"] == 0


def test_counters_and_ids_stay_with_their_rules(ctskip, base):
    counted = ctskip.counter(base[0])
    ctskip.commit("insert udp dport=1", f"delete {base[1]}", "add udp dport=2")
    assert ctskip.counter(base[0]) == counted
    assert ctskip.counters()[0]["packets"] == 0


def test_counters_start_at_zero_in_the_place_of_others(ctskip, lab):
    """More rules than a page has counters for; some go, and others come where they were."""
    ns = lab.ns()

    def add(first, last):
        for start in range(first, last, 100):
            ctskip.commit(*(f"udp dport={port}" for port in range(start, start + 100)))

    def counted():
        lines = (line for line in ctskip.counters() if line["packets"])
        return {int(line["rule"].split("=")[-1]) for line in lines}

    add(1000, 1600)
    for port in (1000, 1169, 1170, 1400, 1599):
        ns.udp_send("127.0.0.1", port)
    assert counted() == {1000, 1169, 1170, 1400, 1599}
    ids = [line["id"] for line in ctskip.counters()]
    ctskip.commit(*(f"delete {number}" for number in ids[150:350]))
    ctskip.commit(*(f"delete {number}" for number in ids[350:550]))
    add(2000, 2700)
    assert counted() == {1000, 1599}
    for port in (2000, 2350, 2699):
        ns.udp_send("127.0.0.1", port)
    assert counted() == {1000, 1599, 2000, 2350, 2699}


def test_ids_ascend_and_are_not_given_again(ctskip):
    first = ctskip.add("udp dport=1")
    assert ctskip.add("udp dport=2") == first + 1
    ctskip.commit(f"delete {first + 1}")
    assert ctskip.add("udp dport=2") == first + 2
    assert ctskip.add(f"udp dport=3 id={first + 50}") == first + 50
    assert ctskip.add(f"udp dport=4 id={first + 20}") == first + 20
    assert ctskip.add("udp dport=5") == first + 51
    # An id is free again with its rule, in the same transaction already.
    ctskip.commit(f"delete {first}", f"udp dport=6 id={first}")
    assert ctskip.counters()[-1]["id"] == first


@pytest.mark.own_module
def test_ids_when_the_highest_is_taken(ctskip):
    """None is given a second time."""
    assert ctskip.load() == 0
    assert ctskip.add("udp dport=1") == 1
    assert ctskip.add("udp dport=2 id=4294967294") == 4294967294
    assert ctskip.add("udp dport=3") == 4294967295
    for text in (
        "udp dport=4\n",
        "delete 4294967295\nudp dport=4\n",
        "load\nudp dport=4\ncommit\n",
    ):
        assert ctskip.refused(text) == "ENOSPC"
        assert "no number is left" in ctskip.last_error()["error"]
    assert ctskip.add("udp dport=4 id=7") == 7
    ctskip.commit("delete 4294967294")
    ctskip.commit("delete 4294967295")
    assert ctskip.add("udp dport=5") == 8


# --- one write, one transaction ------------------------------------------------------------------


def test_lines_of_one_write_see_each_other(ctskip):
    before = ctskip.generation
    ctskip.commit("flush", "udp dport=1 id=7000", "insert before=7000 udp dport=2", "delete 7000")
    assert texts(ctskip) == ["skip udp dport=2"]
    assert ctskip.generation == before + 1


def test_what_changes_nothing_is_no_commit(ctskip, base):
    before = ctskip.snapshot()
    for text in ("\n", "# nothing\n", " ;; \n\n", "udp dport=7 id=9999\ndelete 9999\n"):
        assert ctskip.write(text) == 0
        assert ctskip.snapshot() == before, text
    ctskip.commit("flush")
    generation = ctskip.generation
    ctskip.commit("flush")
    assert ctskip.generation == generation


def test_comments_and_separators(ctskip):
    ctskip.commit(
        "# a comment",
        "udp dport=1 # one; not=a rule",
        "",
        "  udp\tdport=2 ;add udp dport=3;;  flush ; udp dport=4;",
        "udp+dport=5++tcp+dport=6++add+udp+dport=7",
        "udp+dport=8;udp dport=9",
    )
    assert texts(ctskip) == [
        f"skip {rule}"
        for rule in (
            "udp dport=4",
            "udp dport=5",
            "tcp dport=6",
            "udp dport=7",
            "udp dport=8",
            "udp dport=9",
        )
    ]


# Text, errno, and what the caret stands under. {0} is the id of the first rule.
REFUSED = [
    ("udp", "EINVAL", "udp"),
    ("add", "EINVAL", ""),
    ("add add udp dport=1", "EINVAL", "add udp"),
    ("udp dprot=1", "EINVAL", "dprot"),
    ("nonsense", "EINVAL", "nonsense"),
    ("udp dport=1; udp dport=70000", "EINVAL", "70000"),
    ("add udp dport=2 id=0", "EINVAL", "0"),
    ("add udp dport=2 id=4294967296", "EINVAL", "4294967296"),
    ("udp+dport=1+", "EINVAL", "+"),
    ("add udp+dport=1+", "EINVAL", "+"),
    ("insert", "EINVAL", ""),
    ("insert before={0}", "EINVAL", ""),
    ("insert before=x udp dport=1", "EINVAL", "x"),
    ("insert udp dport=1 before={0}", "EINVAL", "before="),
    ("delete", "EINVAL", ""),
    ("delete x", "EINVAL", "x"),
    ("delete {0} {0}", "EINVAL", "{0}"),
    ("delete tag=", "EINVAL", ""),
    ("delete tag=a=b", "EINVAL", "a=b"),
    ("flush all", "EINVAL", "all"),
    ("commit", "EINVAL", "commit"),
    ("abort", "EINVAL", "abort"),
    ("udp dport=1; load", "EINVAL", "load"),
    ("udp dport=1 id={0}", "EEXIST", "id="),
    ("insert tcp dport=1 id={0}", "EEXIST", "id="),
    ("udp dport=1 id=77777; udp dport=2 id=77777", "EEXIST", "id="),
    ("delete 99999", "ENOENT", "99999"),
    ("delete {0}; delete {0}", "ENOENT", "{0}"),
    ("delete tag=none", "ENOENT", "tag="),
    ("delete tag=DNS", "ENOENT", "tag="),
    ("insert before=99999 udp dport=1", "ENOENT", "before="),
    ("udp dport=1 netns=1", "ESRCH", "1"),
    ("udp dport=1 netns=pid:4194303", "ESRCH", "pid:"),
]


@pytest.mark.parametrize("text, name, word", REFUSED)
def test_refused(ctskip, base, text, name, word):
    """By itself, and behind good lines, which then do nothing either."""
    text, word = text.format(*base), word.format(*base)
    for ahead in ("", f"udp dport=1000\nflush\ninsert udp dport=1 id={base[0]} tag=dns\n"):
        number = 1 + ahead.count("\n")
        assert ctskip.refused(f"{ahead}{text}\nudp dport=2000\n") == name
        error = ctskip.last_error()
        assert (error["errno"], error["line"]) == (name, number), error["text"]
        assert text[error["column"] - 1 :].startswith(word), error["text"]
        if not word:
            assert error["column"] == len(text) + 1, error["text"]


@pytest.mark.parametrize(
    "text", ["udp dport=1", "udp dport=1\nudp dport=2", "flush", "delete {0}", "#"]
)
def test_text_without_a_newline_at_its_end_may_have_been_cut(ctskip, base, text):
    assert ctskip.refused(text.format(*base)) == "EINVAL"
    error = ctskip.last_error()
    assert "newline" in error["text"]
    assert error["line"] == 1 + text.count("\n")


@pytest.mark.parametrize("length", [4095, 4096, 4097, 8192, 12000])
def test_a_write_of_over_a_page_is_refused_whole(ctskip, base, length):
    """The kernel hands over its first page only, which must not become a transaction by itself."""
    line = "udp dport=1 # " + "." * 49 + "\n"
    assert len(line) == 64
    text = (line * 200)[: length - 1] + "\n"
    if length < 4096:
        assert ctskip.write(text) == 0
        assert ctskip.header()["rules"] == len(BASE) + 64
    else:
        assert ctskip.refused(text) == "EINVAL"
        assert "load ... commit" in ctskip.last_error()["expected"]


@pytest.mark.parametrize(
    "first", ["nonsense\n", "delete 99999\n", "commit\n", "udp dport=1 id=7777777777\n"]
)
def test_what_follows_a_refused_write_does_nothing(ctskip, base, first):
    """Through the same open file: a `skip` rule behind the `track` rule that was to go ahead of it."""
    before = ctskip.snapshot()
    with netlab.OpenFile(flags=os.O_WRONLY) as file:
        assert file.write(first) != 0
        error = ctskip.last_error()
        for rest in ("udp dport=10\n", "flush\n", "udp dp"):
            assert file.write(rest) == errno.EINVAL
        assert ctskip.last_error() == error
        assert ctskip.snapshot() == before
        # Other files are not concerned, and this one may begin anew.
        assert ctskip.write("udp dport=5\n") == 0
        assert file.write("load tag=x\nudp dport=6\ncommit\n") == 0
        assert file.write("udp dport=7\n") == 0
    assert texts(ctskip)[len(BASE) :] == [
        "skip udp dport=5",
        "skip udp dport=6 tag=x",
        "skip udp dport=7",
    ]


def test_what_follows_a_refused_write_by_a_shell(ctskip):
    """Its exit status tells of it, too."""
    for shell in ("bash", "sh"):
        script = f'{{ echo "track udp dprot=53"; echo "udp dport=53"; }} > {RULES}'
        assert subprocess.run([shell, "-c", script], stderr=subprocess.DEVNULL).returncode
        assert ctskip.rules() == []


def test_rules_without_white_space_behind_a_command(ctskip, base):
    ctskip.commit("add udp+dport=1", f"insert before={base[1]} udp+dport=2", "insert udp+dport=3")
    rules = texts(ctskip)
    assert (rules[0], rules[2], rules[-1]) == (
        "skip udp dport=3",
        "skip udp dport=2",
        "skip udp dport=1",
    )


def test_bytes_that_no_rule_has(ctskip, base):
    for text in (b"udp dport=53\0\n", b"\xff\xfe\n", "udp dport=\u0661\n".encode(), b"\0\n"):
        assert ctskip.refused(text) == "EINVAL"


# --- as users type it ----------------------------------------------------------------------------


def test_echo(ctskip, dmesg):
    before = ctskip.generation
    status, pid = bash('echo "add udp dport=53" > $R')
    assert status == 0
    assert texts(ctskip) == ["skip udp dport=53"]
    assert ctskip.generation == before + 1
    dmesg.wait(rf"ctskip: generation {before + 1}: \+1 -0 rules, by bash\[{pid}\]")


def test_printf_without_a_newline(ctskip):
    assert bash("printf 'udp dport=53' > $R 2>/dev/null")[0] != 0
    assert ctskip.rules() == []


@pytest.mark.parametrize("command", ["printf", "echo -e"])
def test_bash_writes_each_line_by_itself(ctskip, command):
    """So those ahead of a bad one stay: what the manual warns of."""
    newline = r"\n" if command == "printf" else ""
    before = ctskip.generation
    bash(rf"{command} 'udp dport=1\nudp dport=2{newline}' > $R")
    assert texts(ctskip) == ["skip udp dport=1", "skip udp dport=2"]
    assert ctskip.generation == before + 2


HERE = "cat > $R <<'EOF'\n{}EOF\n"
FILE = "cat > /tmp/r <<'EOF'\n{}EOF\ncat /tmp/r > $R"


@pytest.mark.parametrize("bad", [False, True])
@pytest.mark.parametrize("how", [HERE, FILE], ids=["here", "file"])
def test_a_here_document_and_a_file_are_one_transaction(ctskip, how, bad):
    text = "udp dport=1\nudp dport=2\n" + "nonsense\n" * bad
    before = ctskip.generation
    assert bool(bash("exec 2>/dev/null\n" + how.format(text))[0]) == bad
    assert len(ctskip.rules()) == (0 if bad else 2)
    assert ctskip.generation == before + (not bad)


def test_load_by_bash(ctskip, tmp_path):
    file = tmp_path / "rules"
    file.write_text("".join(f"udp dport={port}\n" for port in range(1, 1001)))
    before = ctskip.generation
    for _ in range(2):  # the second time it changes nothing
        assert bash(f"{{ echo load; cat {file}; echo commit; }} > $R")[0] == 0
        assert len(ctskip.rules()) == 1000
        assert ctskip.generation == before + 1
    assert bash(f"{{ echo 'load tag=x'; cat {file}; echo udp dport=0; echo abort; }} > $R")[0] == 0
    assert ctskip.generation == before + 1
    with open(file, "a") as more:
        more.write("nonsense\n")
    bash(f"{{ echo load; cat {file}; echo commit; }} 2>/dev/null > $R")
    assert ctskip.generation == before + 1
    assert ctskip.last_error()["line"] == 1001


def test_load_by_a_here_document(ctskip):
    assert bash("cat > $R <<EOF\nload\nudp dport=1\nudp dport=2\ncommit\nEOF\n")[0] == 0
    assert len(ctskip.rules()) == 2


# --- the most rules ------------------------------------------------------------------------------


@pytest.mark.not_quick
def test_the_most_rules(ctskip, capsys):
    start = time.monotonic()
    text = "".join(f"{name} dport={port}\n" for name in ("udp", "tcp") for port in range(65536))
    before = ctskip.snapshot()
    with pytest.raises(OSError) as caught:
        ctskip.load_table(text + "sctp dport=1")
    assert caught.value.errno == errno.ENOSPC
    error = ctskip.last_error()
    assert (error["errno"], error["line"]) == ("ENOSPC", MOST + 1)
    assert ctskip.snapshot() == before

    ctskip.load_table(text)
    assert ctskip.header()["rules"] == MOST
    taken = time.monotonic() - start
    full = (ctskip.generation, ctskip.header()["sum"])
    assert ctskip.write("sctp dport=1\n") == errno.ENOSPC
    assert ctskip.write("insert sctp dport=1\n") == errno.ENOSPC
    assert ctskip.write("load tag=x\nsctp dport=1\ncommit\n") == errno.ENOSPC
    assert (ctskip.generation, ctskip.header()["sum"]) == full

    with netlab.OpenFile() as head:
        head.read(200)
        first = head.read(200).split("\n")[0].rpartition("id=")[2]
    ctskip.commit(f"delete {first}", "sctp dport=1")
    assert ctskip.header()["rules"] == MOST
    # The other way round as well: the rules are counted at the end.
    ctskip.commit("sctp dport=2", f"delete {int(first) + 1}")
    assert ctskip.header()["rules"] == MOST
    with capsys.disabled():
        print(f"\n{MOST} rules loaded twice in {taken:.1f} s", end=" ")
