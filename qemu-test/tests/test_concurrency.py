# SPDX-License-Identifier: GPL-2.0
"""Readers and writers at once, while traffic runs: nobody ever sees anything but a whole table."""

import errno
import itertools
import os
import random
import re
import socket
import threading
import time

import netlab
import pytest

PORT = 53
PACKETS = 8000 // netlab.SLOWER
COMMITS = 400 // netlab.SLOWER
SECONDS = 40  # at most


def tables(address):
    """Tables that differ in everything but this: all skip UDP with `address`, port 53, both ways."""
    other = [f"tcp dst=10.9.{n}.0/24 dport={n + 1}" for n in range(150)]
    more = [f"track udp dst=10.8.{n}.0/24 dport={n + 1} tag=more" for n in range(80)]
    return {
        "first": [f"udp dst={address} dport={PORT}", *other],
        "last": [*more, f"udp dport={PORT} tag=last"],
        "middle": [*other[:40], f"udp dport=50-60,{PORT}", *more[:20]],
        "alone": ["udp any"],
    }


def ways_to(lines):
    """Lists of writes that each make a table of `lines`, whatever was there: one transaction each."""
    text = "".join(f"{line}\n" for line in lines)
    data = f"load\n{text}commit\n"
    cut = random.Random(len(data)).randrange(5, 200)
    yield [data[:cut], *(data[at : at + 900] for at in range(cut, len(data), 900))]
    if len(text) < 4000:
        yield [f"flush\n{text}"]
    yield [data] if len(data) <= 4096 else [data[:4096], data[4096:8192], data[8192:]]


class Crew:
    """Threads that each repeat one thing until told to stop; what goes wrong in one is kept."""

    def __init__(self):
        self.stop = threading.Event()
        self.wrong = []
        self.threads = []
        self.counts = {}

    def repeat(self, function):
        name = f"{function.__name__}-{len(self.threads)}"
        self.counts[name] = 0

        def loop():
            try:
                while not self.stop.is_set():
                    self.counts[name] += function()
            except BaseException as error:
                self.wrong.append(f"{name}: {error!r}")
                self.stop.set()

        self.threads.append(threading.Thread(target=loop))

    def count(self, name):
        return sum(n for key, n in self.counts.items() if key.startswith(name))

    def run(self, enough):
        for thread in self.threads:
            thread.start()
        end = time.monotonic() + SECONDS * netlab.SLOWER
        while not self.stop.is_set() and not enough() and time.monotonic() < end:
            time.sleep(0.05)
        self.stop.set()
        for thread in self.threads:
            thread.join()
        assert not self.wrong, self.wrong
        assert enough(), self.counts


def read_whole(name, rand):
    """A file read in steps of any size; None where a commit overtook the read."""
    parts = []
    with netlab.OpenFile(name) as file:
        try:
            while part := file.read(rand.choice((300, 700, 2000, 4096))):
                parts.append(part)
                if rand.random() < 0.1:
                    time.sleep(0)
        except OSError as error:
            assert error.errno == errno.ESTALE
            return None
    return "".join(parts)


@pytest.fixture
def net(lab, family):
    """client -- server, conntrack on at both, an echo server: (client, server, address, watches)."""
    client, server = lab.pair()
    watches = [ns.watch("meta l4proto udp") for ns in (client, server)]
    server.udp_echo(PORT)
    return client, server, server.addr(family), watches


def test_no_packet_sees_an_empty_table_and_no_read_mixes_two(ctskip, family, net):
    client, server, address, watches = net
    known = {}  # sum -> the rules as text
    texts = tables(address)
    for lines in texts.values():
        ctskip.load_table("\n".join(lines))
        known[ctskip.header()["sum"]] = [r.rpartition(" id=")[0] for r in ctskip.rules()]
    assert len(known) == len(texts)
    ways = [list(ways_to(lines)) for lines in texts.values()]

    # From here on at least one of these tables is always there.
    crew = Crew()
    rounds = itertools.cycle(range(len(ways)))
    out = netlab.OpenFile(flags=os.O_WRONLY)

    def commit():
        way = ways[next(rounds)]
        for text in way[crew.counts["commit-0"] // len(ways) % len(way)]:
            assert (number := out.write(text)) == 0, (errno.errorcode[number], text)
        return 1

    def refuse():
        """Refused transactions that would empty the table, by another writer."""
        assert ctskip.write("flush\nnonsense\n") == errno.EINVAL
        number = ctskip.write("load\nnonsense\ncommit\n")
        assert number in (errno.EINVAL, errno.EBUSY)
        time.sleep(0.01)
        return 1

    rand = random.Random(3)

    def read():
        text = read_whole("rules", rand)
        if text is None:
            return 0
        head, *rules = text.splitlines()
        head = netlab.fields(head)
        assert len(rules) == int(head["rules"])
        assert [rule.rpartition(" id=")[0] for rule in rules] == known[head["sum"]]
        ids = [rule.rpartition(" id=")[2] for rule in rules]
        assert len(set(ids)) == len(ids)
        return 1

    def count():
        text = read_whole("counters", rand)
        if text is None:
            return 0
        rules = re.findall(r'rule="([^"]+)"\n', text)
        assert len(rules) == text.count("\n") and rules in known.values(), rules
        return 1

    sockets = []

    def send():
        s = client.socket(family.af, socket.SOCK_DGRAM)
        sockets.append(s)
        s.connect((address, PORT))
        for _ in range(50):
            s.send(b"ping")
        s.close()
        return 50

    for function in (commit, refuse, read, count, send, send):
        crew.repeat(function)
    before = ctskip.stats()
    crew.run(
        lambda: (
            crew.count("send") >= PACKETS
            and crew.count("commit") >= COMMITS
            and crew.count("read") >= 5
            and crew.count("count") >= 5
        )
    )
    out.close()
    grown = ctskip.stats()["skipped"] - before["skipped"]
    assert grown >= 2 * PACKETS
    for ns, watch in zip((client, server), watches):
        assert ns.count() == 0, ns.entries()
        states = {state for states in watch.read().values() for state in states}
        assert states == {"untracked"}
    print({name: number for name, number in crew.counts.items()})

    # One thread answers, in turn: with this no other answer is under way, that would make an entry without a
    # table.
    netlab.wait_until(lambda: client.udp(address, PORT), 20)

    # The same traffic with no table makes an entry and is new: so it would have been seen.
    ctskip.commit("flush")
    client.udp_send(address, PORT)
    assert netlab.wait_until(lambda: watches[1].read("prerouting").get("new")) == 1
    assert client.count() == 1 and server.count() == 1


def test_counters_lose_nothing_over_commits(ctskip, family, net):
    """A rule that stays counts every packet, whatever comes and goes around it."""
    client, server, address, _ = net
    rule = f"udp dst={address} dport={PORT}"
    ctskip.commit(rule)
    one = ctskip.counters()[0]["id"]
    crew = Crew()
    flip = itertools.cycle(
        [
            "insert tcp dport=1 tag=x\n",
            "delete tag=x\n",
            f"load\n{rule}\nudp dport=9\ncommit\n",
            f"load\n{rule}\ncommit\n",
        ]
    )
    s = client.socket(family.af, socket.SOCK_DGRAM)
    s.connect((address, PORT))
    s.settimeout(5 * netlab.SLOWER)

    def commit():
        assert ctskip.write(next(flip)) == 0
        return 1

    def ask():
        s.send(b"ping")
        assert s.recv(100) == b"ping"
        return 1

    crew.repeat(commit)
    crew.repeat(ask)
    crew.run(lambda: crew.count("commit") >= 100 and crew.count("ask") >= 300)
    # A question and its answer, each seen where it leaves and where it arrives.
    assert ctskip.counter(one)["packets"] == 4 * crew.count("ask")
    assert server.count() == 0


def test_writers_at_once_each_get_their_number(ctskip):
    """Plain writers do not get into each other's way: every rule comes in once, ids are unique."""
    before = ctskip.generation
    wrong = []

    def add(first):
        for port in range(first, first + 50):
            if ctskip.write(f"udp dport={port}\n"):
                wrong.append(port)

    threads = [threading.Thread(target=add, args=(first,)) for first in (1000, 2000, 3000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and ctskip.generation == before + 150
    counters = ctskip.counters()
    ids = [line["id"] for line in counters]
    assert ids == sorted(ids) and len(set(ids)) == 150
    assert {int(line["rule"].rpartition("=")[2]) for line in counters} == {
        first + n for first in (1000, 2000, 3000) for n in range(50)
    }
