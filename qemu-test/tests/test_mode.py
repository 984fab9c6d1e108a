# SPDX-License-Identifier: GPL-2.0
"""The mode, at load and live: skip, observe, off."""

import errno
import re
import socket

import netlab
import pytest

BAD = ("on", "SKIP", "skip,off", "1", "")


def start(lab, family):
    """(client, server, ask): the server echoes and tracks; ask() says how many entries it made."""
    client, server = lab.pair()
    server.track()
    server.udp_echo(53)

    def ask():
        server.flush()
        assert client.udp(server.addr(family), 53) == b"ping"
        return server.count()

    return client, server, ask


def test_each_mode_at_load(ctskip, lab, family):
    client, server, ask = start(lab, family)
    assert ctskip.unload() == 0
    assert ask() == 1
    for mode, entries, packets, observed in (
        ("skip", 0, 4, 0),
        ("observe", 1, 0, 4),
        ("off", 1, 0, 0),
        (None, 0, 4, 0),
    ):
        given = {"mode": mode} if mode else {}
        assert ctskip.load(rules="udp dport=53", **given) == 0
        assert ctskip.mode == ctskip.header()["mode"] == (mode or "skip")
        assert ask() == entries, mode
        (line,) = ctskip.counters()
        assert (line["packets"], line["observed"]) == (packets, observed), mode
        assert ctskip.unload() == 0


def test_each_mode_live(ctskip, lab, family):
    client, server, ask = start(lab, family)
    rule = ctskip.add("udp dport=53")
    generation, rules = ctskip.generation, ctskip.rules()
    zero = ctskip.stats()

    def counted():
        """What the rule and all namespaces have skipped, and observed, since the start."""
        now, line = ctskip.stats(), ctskip.counter(rule)
        skipped, observed = (now[key] - zero[key] for key in ("skipped", "observed"))
        assert (line["packets"], line["observed"]) == (skipped, observed)
        return skipped, observed

    assert ask() == 0
    assert counted() == (4, 0)
    ctskip.mode = "observe"
    assert ask() == 1
    assert counted() == (4, 4)
    ctskip.mode = "off"
    seen = ctskip.stats()["seen"]
    assert ask() == 1
    assert counted() == (4, 4)
    assert ctskip.stats()["seen"] == seen >= 8
    assert ctskip.header()["mode"] == "off"
    assert ctskip.netns(server)["skipped"] == 2
    # Table and counters are as they were.
    assert (ctskip.rules(), ctskip.generation) == (rules, generation)
    ctskip.mode = "skip"
    assert ask() == 0
    assert counted() == (8, 4)
    assert ctskip.counter(rule)["bytes"] > 0


def test_observe_marks_nothing(ctskip, lab, family):
    """Behind conntrack the packets are tracked as without ctskip, and all of them are counted."""
    client, server = lab.pair()
    watch = server.watch("udp dport 53")
    server.udp_echo(53)
    rule = ctskip.add("udp dport=53", "track udp dport=54")
    ctskip.mode = "observe"
    assert client.udp(server.addr(family), 53, count=3) == b"ping"
    assert watch.read("prerouting") == {"new": 1, "established": 2}
    (first, track) = ctskip.counters()
    assert (first["packets"], first["observed"], track["packets"]) == (0, 12, 0)
    assert track["id"] == rule
    tracked = ctskip.stats()["tracked"]
    server.udp_echo(54)
    assert client.udp(server.addr(family), 54) == b"ping"
    assert ctskip.stats()["tracked"] == tracked + 4
    assert ctskip.counter(rule)["packets"] == 4


def test_rules_change_while_off(ctskip, lab, family):
    client, server, ask = start(lab, family)
    ctskip.mode = "off"
    assert ask() == 1
    old = ctskip.add("udp dport=53")
    assert ask() == 1
    assert ctskip.counter(old)["packets"] == 0
    # A namespace that is made now does nothing either, until the mode is another.
    third = lab.ns()
    third.track()
    listening = third.socket(family.af, socket.SOCK_DGRAM)
    listening.bind(("", 53))
    loopback = family.pick("127.0.0.1", "::1")
    third.udp_send(loopback, 53)
    assert third.count() == 1 and ctskip.netns(third)["skipped"] == 0
    third.flush()
    ctskip.mode = "skip"
    third.udp_send(loopback, 53)
    assert third.count() == 0 and ctskip.netns(third)["skipped"] == 1
    assert ask() == 0


def test_mode_stays_over_a_commit(ctskip, lab, family):
    client, server, ask = start(lab, family)
    ctskip.mode = "observe"
    ctskip.add("udp dport=53")
    assert ctskip.mode == "observe"
    assert ask() == 1
    assert ctskip.counters()[0]["observed"] == 4


def test_observed_packets_start_at_zero(ctskip, lab):
    """Of rules that come while packets are observed, more than an allocation of counters has; where others were."""
    ns = lab.ns()
    ctskip.mode = "observe"

    def add(first, last):
        for start in range(first, last, 100):
            ctskip.commit(*(f"udp dport={port}" for port in range(start, start + 100)))

    def counted():
        lines = ctskip.counters()
        assert not any(line["packets"] for line in lines)
        return {int(line["rule"].split("=")[-1]) for line in lines if line["observed"]}

    add(1000, 1600)
    ports = {1000, 1169, 1170, 1171, 1509, 1510, 1599}
    for port in ports:
        ns.udp_send("127.0.0.1", port)
    assert counted() == ports
    ctskip.commit("flush")
    add(2000, 2700)
    assert counted() == set()
    ns.udp_send("127.0.0.1", 2350)
    assert counted() == {2350}
    (before,) = [line for line in ctskip.counters() if line["observed"]]
    ctskip.mode = "skip"
    ns.udp_send("127.0.0.1", 2350)
    (after,) = [line for line in ctskip.counters() if line["packets"]]
    assert (after["id"], after["observed"]) == (before["id"], before["observed"])


@pytest.mark.parametrize("newline", ("", "\n"), ids=("bare", "line"))
def test_mode_is_written_with_or_without_a_newline(ctskip, newline):
    for mode in ("off", "observe", "skip"):
        assert ctskip.write(mode + newline, "mode") == 0
        assert ctskip.read("mode") == f"{mode}\n"


def test_live_a_bad_mode_is_refused(ctskip):
    ctskip.mode = "observe"
    ctskip.add("udp dport=53")
    rules = ctskip.rules()
    for bad in BAD:
        assert ctskip.write(f"{bad}\n", "mode") == errno.EINVAL, bad
        error = ctskip.last_error()
        assert error["errno"] == "EINVAL"
        assert "expected=skip, observe or off" in error["text"]
        assert re.search(rf"^text={bad}$", error["text"], re.MULTILINE)
        assert ctskip.mode == "observe"
        # What is refused is told apart from the one before.
        ctskip.write("add nonsense\n")
        assert "nonsense" in ctskip.last_error()["text"]
    assert ctskip.rules() == rules


@pytest.mark.own_module
def test_at_load_a_bad_mode_is_refused(ctskip, dmesg):
    for bad in BAD:
        dmesg.clear()
        assert ctskip.load(rules="udp dport=53", mode=bad) == errno.EINVAL, bad
        dmesg.wait(rf"ctskip: mode={bad}: expected skip, observe or off")
        assert not ctskip.loaded()
        assert not netlab.SYSFS.exists()
    # The order of the parameters makes no difference.
    assert ctskip.load(mode="bad", rules="udp dport=53") == errno.EINVAL
    assert ctskip.load(mode="off", rules="udp dport=53") == 0
    assert ctskip.mode == "off"
