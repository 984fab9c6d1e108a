# SPDX-License-Identifier: GPL-2.0
"""The documents name what is there: files, keys, commands, terms, parameters. (test_recipes.py runs the recipes, and
tests/pure/terms.rs on the host holds the tables of terms to the code.)"""

import errno
import re
from pathlib import Path

import netlab
import pytest

DOCUMENTS = Path("/root/documents/docs")


def section(name, heading):
    """A document's text from a heading to the next one."""
    text = (DOCUMENTS / name).read_text()
    return re.search(rf"(?ms)^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", text)[1]


def table(name, heading):
    """The rows of the table below a heading, a list of cells each; without the head."""
    rows = re.findall(r"(?m)^\| (.*) \|$", section(name, heading))[2:]
    assert rows
    return [[cell.strip() for cell in row.split(" | ")] for row in rows]


def words(cell):
    """What a cell has as code."""
    return re.findall(r"`([^`]+)`", cell)


def keys(name, heading):
    """The keys in the first column of a table, in order."""
    return [word for row in table(name, heading) for word in words(row[0])]


def example(name, heading):
    """The keys of the example line below a heading, in order."""
    return list(netlab.fields(re.search(r"(?m)^ {4}(.*)$", section(name, heading))[1]))


def test_files(ctskip):
    documented = {words(row[0])[0]: int(row[1], 8) for row in table("files.md", "The files")}
    assert documented == {
        path.name: path.stat().st_mode & 0o7777 for path in netlab.SYSFS.iterdir()
    }


def test_keys(ctskip):
    ctskip.add("udp dport=53 tag=dns")
    assert ctskip.write("nonsense\n") == errno.EINVAL
    # tests/pure/show.rs has the keys that a line may have, in order.
    assert set(keys("files.md", "netns")) == {*ctskip.netns()[0], "hooks"}
    assert keys("files.md", "stats") == list(ctskip.stats())
    assert example("files.md", "counters") == list(ctskip.counters()[0])
    assert example("files.md", "rules") == list(ctskip.header())
    lines = ctskip.last_error()["text"].splitlines()
    assert keys("files.md", "last_error") == [line.partition("=")[0] for line in lines]


def test_modes(ctskip):
    modes = keys("files.md", "mode")
    for mode in modes:
        ctskip.mode = mode
    assert ctskip.write("other\n", "mode") == errno.EINVAL
    assert re.findall(r"\w+", ctskip.last_error()["expected"].replace("or ", "")) == modes


def test_errors(ctskip):
    for row in table("files.md", "Errors"):
        assert row[0] in errno.errorcode.values()


def test_words(ctskip):
    """Of the rules and the commands: what an unknown word is told was expected."""
    assert ctskip.write("nonsense\n") == errno.EINVAL
    commands, _, terms = ctskip.last_error()["expected"].partition(", a protocol, or one of ")
    documented = {word.split()[0] for word in keys("files.md", "Commands")} - {"RULE"}
    assert documented == {*commands.split(), "commit", "abort"}
    rows = [words(row[0]) for row in table("rules.md", "A rule")]
    documented = {re.sub(r"!?=(?!ok).*", "=", word) for row in rows[1:] for word in row}
    assert documented | {"skip", "track"} == set(terms.split())
    *protocols, number = rows[0]
    assert number == "proto=N"
    for word in protocols:
        ctskip.add(f"{word} any")


def test_icmp_types(ctskip):
    """All names are taken; tests/pure/terms.rs has their numbers."""
    for row in table("rules.md", "`type=`"):
        (protocol,), names = words(row[0]), words(row[1])
        for name in names:
            ctskip.add(f"{protocol} type={name}")


def test_words_of_other_tools(ctskip):
    for row in table("rules.md", "Words of other tools"):
        (own,) = words(row[1])
        for word in words(row[0]):
            value = "1" if word.endswith("=") else ""
            assert ctskip.write(f"any {word}{value}\n") == errno.EINVAL
            assert ctskip.last_error()["likely"] == own, word


@pytest.mark.own_module
def test_parameters(ctskip, lab):
    parameters = lab.init.run(f"modinfo -F parm {netlab.MODULE}").stdout
    documented = [word.rstrip("=") for word in keys("rules.md", "Module parameters")]
    # Their order in the module is the linker's.
    assert sorted(documented) == sorted(re.findall(r"(?m)^(\w+):", parameters))
