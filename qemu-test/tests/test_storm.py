# SPDX-License-Identifier: GPL-2.0
"""Everything at once, for a time, and then all must be as it was. What rages is in storm.py.

An ordinary run has none of it; `--storm=SECONDS --seed=...` is what `make storm` asks for. A short one
comes first, so that what the kernel allocates once and keeps is there before memory is measured. Whether
the kernel has anything to say, the harness sees on its console; on a debug kernel it looks for what
leaked as well (guest/suite.py).
"""

import gc
import os
import re
import tempfile
import time

import netlab
import pytest
import storm
from netlab import wait_until

# By how much more of a kind of memory may be in use afterwards, what caches keep is not exact: of any,
# and of kmalloc's, where there are no inodes, and a stock kernel has no bookkeeping of its own.
MORE, MORE_KMALLOC = 1 << 18, 1 << 16 if netlab.SLOWER == 1 else 1 << 18
TELL = 30  # seconds between two reports
# Lines of the kernel's log in a minute at least: commits, and of these, such as took out rules with
# their namespaces.
LOGGED = {"generation ": 100, "namespaces are gone": 10}
# How many times longer it may take on a busy host until all have done enough, and of how many seconds at
# least, as each must have done something.
LONGER, SHORTEST = 6, 60
STEPS = 60 if netlab.SLOWER == 1 else 20  # of flows, to see what the module does after it


def pytest_generate_tests(metafunc):
    seconds = metafunc.config.getoption("storm")
    marks = pytest.mark.timeout(2 * LONGER * max(seconds, SHORTEST) + 900 * netlab.SLOWER)
    if not seconds:
        marks = pytest.mark.skip(reason="not asked for by --storm=SECONDS")
    metafunc.parametrize("seconds", [pytest.param(seconds, marks=marks)])


class Storm:
    """The actors in one set of places, from their start to their end."""

    def __init__(self, ctskip, seed, seconds, say, warming_up):
        self.ctskip, self.seconds, self.say, self.warming_up = ctskip, seconds, say, warming_up
        self.kmsg = netlab.Kmsg()
        self.lab = netlab.Lab()
        self.places = storm.Places(self.lab)
        with tempfile.NamedTemporaryFile(delete=False) as lock:
            self.everyone = storm.crew(seed, self.places, lock.name)
        self.servers, *self.actors = self.everyone

    def rage(self):
        """Start all, wait, have them end; what went wrong."""
        assert self.ctskip.load(rules="; ".join(self.places.witnessed)) == 0
        gc.freeze()  # what is here is shared with the processes: it does not move
        for actor in self.everyone:
            actor.start()
        wait_until(lambda: all(actor.is_ready() for actor in self.everyone), 60)
        for actor in self.everyone:
            actor.stage.value = storm.GO
        began = told = time.monotonic()
        while self.goes_on(time.monotonic() - began):
            time.sleep(0.2)
            self.kmsg.lines()
            if time.monotonic() > told + TELL:
                told = time.monotonic()
                self.tell(told - began)
        for actor in self.actors:
            actor.stage.value = storm.END
        wrong = [text for actor in self.actors for text in actor.ended()]
        self.tell(time.monotonic() - began)
        return wrong or list(self.missing())

    def goes_on(self, seconds):
        """For its time, and on a busy host until all have done enough; not where one has ended."""
        longest = LONGER * max(self.seconds, SHORTEST)
        more = seconds < self.seconds or (seconds < longest and any(self.missing()))
        return more and all(actor.alive() for actor in self.actors)

    def tell(self, seconds):
        """What each has done and what is missing, to whoever watches; the host sees that this is not stuck."""
        os.utime(netlab.OUT / "running")
        parts = [
            f"{actor.name} " + " ".join(f"{what}={times}" for what, times in actor.done().items())
            for actor in self.actors
        ]
        parts += [f"commits={self.logged('generation ')}", *self.missing()]
        self.say(f"{seconds:.0f} s: {'; '.join(parts)}")

    def logged(self, text):
        return sum(1 for line in self.kmsg.lines() if text in line)

    def missing(self):
        """What there was too little of; nothing where that does not matter."""
        if self.warming_up:
            return
        yield from storm.too_little(self.actors, self.seconds)
        for text, often in LOGGED.items():
            what = f"lines of the log with {text!r}"
            yield from storm.fewer(what, self.logged(text), often, self.seconds)

    def check(self):
        """The module does what it is for, and has forgotten the namespaces that went."""
        ctskip, every = self.ctskip, self.places.every
        wait_until(lambda: not re.search(r"netns=\d", ctskip.text("rules")), 60)
        wait_until(lambda: len(ctskip.netns()) == len(every), 60)
        flows = next(actor for actor in self.actors if isinstance(actor, storm.Flows))
        before = sum(flows.done().values())
        ctskip.commit("flush", "ip any nat=ok", "ip6 any nat=ok")
        time.sleep(1)  # what was let pass before is where it goes
        for ns in every:
            ns.flush()
        for _ in range(STEPS):
            flows.step()
        assert sum(flows.done().values()) > before
        assert [(ns, ns.entries()) for ns in every if ns.entries()] == []
        # One that is gone from the table is counted for as long as a packet of it waits somewhere.
        wait_until(lambda: not any(ns.count() for ns in every), 10)
        ctskip.commit("flush")
        for _ in range(STEPS):
            flows.step()
        assert [ns for ns in every if ns.count()] != []

    def close(self):
        """The servers end, and all others that a storm which broke off has left."""
        left = [one for one in self.actors if one.process and one.alive()]
        left += [self.servers] if self.servers.process else []
        for actor in left:
            actor.stage.value = storm.END
        wrong = [text for actor in left for text in actor.ended()]
        self.lab.close()
        self.kmsg.close()
        assert not wrong, wrong


def storm_and_after(ctskip, seed, seconds, say, warming_up=False):
    """One storm: what memory there is in use after it, with the module and without."""
    wait_until(storm.only_initial_namespace, 60, 0.5)
    one = Storm(ctskip, seed, seconds, say, warming_up)
    try:
        wrong = one.rage()
        assert not wrong, "\n".join(wrong)
        if not warming_up:
            one.check()
    finally:
        one.close()
    wait_until(storm.only_initial_namespace, 120, 0.5)
    wait_until(lambda: len(ctskip.netns()) == 1)
    used = [storm.memory()]
    assert ctskip.unload() == 0
    return [*used, storm.memory()]


@pytest.mark.own_module
def test_storm(ctskip, seconds, request, capsys):
    seed = request.config.getoption("seed")

    def say(text):
        with capsys.disabled():
            print(f"\n{text}", end="", flush=True)

    say(f"storm: --storm={seconds} --seed={seed}")
    before = storm_and_after(
        ctskip, f"{seed} first", max(5, min(10, seconds // 2)), say, warming_up=True
    )
    after = storm_and_after(ctskip, seed, seconds, say)
    for state, then, now in zip(("loaded", "unloaded"), before, after, strict=True):
        more = {kind: now[kind] - then.get(kind, 0) for kind in now}
        say(f"{state}: more bytes in use: { {k: v for k, v in more.items() if v} }")
        most = {kind: MORE_KMALLOC if kind.startswith("kmalloc") else MORE for kind in more}
        assert not {kind: size for kind, size in more.items() if size > most[kind]}, state
    assert ctskip.load() == 0
