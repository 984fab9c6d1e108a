# SPDX-License-Identifier: GPL-2.0
"""What is measured: orders to a guest, and the figures that follow from its answers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from machine import UDP, Answers, Flow, Orders
from rules import DST, LAST, PORT, Rule, Trial
from systems import System

# How conntrack has to leave packets, and the runs that theirs are compared with.
STATES = {"match": ("untracked", "base"), "miss": ("established", "est")}

# From that number of rules on, loading and changing a table is reported; the slower of two changes,
# as the first one may have to make room for more.
LARGE = 1000
CHANGES = ("first", "second")

# Between two runs of the same with nothing in between that should matter.
DRIFT = 2

# Our way of counting and pktgen's, for the same difference, of about 900.
DISAGREEMENT = 20


@dataclass(frozen=True)
class Figure:
    """One thing that was measured."""

    system: str
    case: str
    rules: int
    path: str
    value: float
    unit: str


class Measurement:
    """What one guest measures."""

    def __init__(self, name: str) -> None:
        self.name = name

    def orders(self) -> Orders:
        """Return the orders to the guest."""
        raise NotImplementedError

    def todo(self) -> bool:
        """Tell whether there is anything to do."""
        return True

    def figures(self, answers: Answers) -> Iterator[Figure]:
        """Yield what was measured."""
        raise NotImplementedError

    def faults(self, answers: Answers) -> Iterator[str]:
        """Yield what is wrong with the answers."""
        return iter(())


class Lookups(Measurement):
    """Packets that match a rule and packets that match none, for each trial by each system.

    What a match costs is counted over the same packets with no hook and no conntrack, a miss over
    the same packets in conntrack, established, with no hook. Large tables are changed by one rule.
    """

    def __init__(self, name: str, trials: Sequence[Trial], use: Sequence[System]) -> None:
        super().__init__(name)
        self.trials = trials
        self.systems = use

    def todo(self) -> bool:
        return any(self.pairs())

    def lists(self, trial: Trial) -> Iterator[tuple[str, str]]:
        """Yield the lists of a trial's packets as files, and match or miss."""
        for name, _, what in trial.lists():
            yield f"{trial.name}.{name}", what
            if trial.both_ways:
                yield f"{trial.name}.{name}.answers", what

    def pairs(self) -> Iterator[tuple[System, Trial]]:
        """Yield which system takes which trial."""
        for system in self.systems:
            for trial in self.trials:
                if system.takes(trial.case, len(trial.rules)):
                    yield system, trial

    def orders(self) -> Orders:
        orders = Orders(self.name)
        orders.packets("pktgen", [Flow(LAST, DST, UDP, 4000, PORT)])
        for trial in self.trials:
            for name, flows, _ in trial.lists():
                orders.packets(f"{trial.name}.{name}", flows)
        lists = [pair for trial in self.trials for pair in self.lists(trial)]
        orders.run("warm", "pktgen", "drop 100", "none")
        orders.run("base/pktgen", "pktgen", "drop 100", "none")
        for packets, _ in lists:
            orders.run(f"base/{packets}", packets, "drop 1", "none")
        orders.do("pktgen base", "echo conntrack >/proc/inject/run")
        misses = [packets for packets, what in lists if what == "miss"]
        known = [packets for packets in misses if not packets.endswith(".answers")]
        # After two seconds, conntrack takes a flow of UDP for a lasting one, and does a little more.
        for pause in (3, 0):
            orders.do(*(f"entries {packets}" for packets in ["pktgen", *known]), f"sleep {pause}")
        orders.do("pktgen est")
        orders.run("est/pktgen", "pktgen", "drop 100", "established")
        for packets in misses:
            orders.run(f"est/{packets}", packets, "drop 1", "established")
        for system, trial in self.pairs():
            load = system.load(orders, trial.case, trial.rules)
            label = f"{system.name}/{trial.name}"
            orders.do(*system.begin(), f"used {label} timed {label} {load}")
            for packets, what in self.lists(trial):
                state, reference = STATES[what]
                label = f"{system.name}/{packets}"
                orders.run(label, packets, "drop 1", state, f"{reference}/{packets}")
            if system.add and len(trial.rules) >= LARGE:
                for change in CHANGES:
                    label = f"{system.name}/{trial.name}/{change}"
                    orders.do(f"timed {label}-add {system.add}")
                    orders.do(f"timed {label}-delete {system.delete}")
            orders.do(*system.end())
            orders.run(f"after/{system.name}/{trial.name}", "pktgen", "drop 100", "established")
        return orders

    def figures(self, answers: Answers) -> Iterator[Figure]:
        tracked = answers.mean("est/pktgen") - answers.mean("base/pktgen")
        yield Figure("conntrack", "established", 0, "packet", tracked, "instructions")
        for system, trial in self.pairs():
            about = system.name, trial.case, len(trial.rules)
            for what, (_, reference) in STATES.items():
                lists = [packets for packets, kind in self.lists(trial) if kind == what]
                costs = {
                    packets: answers.mean(f"{system.name}/{packets}")
                    - answers.mean(f"{reference}/{packets}")
                    for packets in lists
                }
                for packets, cost in costs.items():
                    special = packets.removeprefix(f"{trial.name}.{what}-")
                    yield Figure(*about, f"{what}: {special}", cost, "instructions")
                if lists:
                    yield Figure(*about, what, max(costs.values()), "instructions")
                    most = max(answers.most(f"{system.name}/{packets}") for packets in lists)
                    yield Figure(*about, f"{what}: slowest packet", most, "instructions")
            if len(trial.rules) >= LARGE:
                yield from self.changes(system, trial, answers)

    def changes(self, system: System, trial: Trial, answers: Answers) -> Iterator[Figure]:
        """Yield what loading a table and changing it takes."""
        about = system.name, trial.case, len(trial.rules)
        label = f"{system.name}/{trial.name}"
        kib = answers.values["memory", label]["kib"]
        yield Figure(*about, "load", answers.values["time", label]["us"] / 1e6, "seconds")
        yield Figure(*about, "memory", kib / 1024, "MiB")
        yield Figure(*about, "memory of a rule", kib * 1024 / len(trial.rules), "bytes")
        if not system.add:
            return
        for change in ("add", "delete"):
            took = (answers.values["time", f"{label}/{n}-{change}"]["us"] for n in CHANGES)
            yield Figure(*about, f"{change} one rule", max(took) / 1000, "milliseconds")

    def faults(self, answers: Answers) -> Iterator[str]:
        first = answers.mean("est/pktgen")
        for system, trial in self.pairs():
            label = f"after/{system.name}/{trial.name}"
            if abs(answers.mean(label) - first) > DRIFT:
                yield f"{label}: {answers.mean(label):.1f} a packet instead of {first:.1f}"
        ours = first - answers.mean("base/pktgen")
        its = answers.mean("est", "pktgen") - answers.mean("base", "pktgen")
        if abs(ours - its) > DISAGREEMENT:
            yield f"conntrack costs {ours:.1f} a packet, and {its:.1f} by pktgen"


class NewFlows(Measurement):
    """New flows that are forwarded, tracked and skipped, one rule; and the memory of their entries."""

    COUNT = 20000
    RULE = Rule("udp", dport=(PORT, PORT))

    def __init__(self, use: Sequence[System]) -> None:
        super().__init__("flows")
        self.systems = [system for system in use if system.takes("all", 1)]

    def orders(self) -> Orders:
        orders = Orders(self.name)
        sources = [0x0A100000 + i * 13 for i in range(self.COUNT)]
        orders.packets("flows", [Flow(s, DST, UDP, 1024 + s % 60000, PORT) for s in sources])
        orders.packets("known", [Flow(LAST, DST, UDP, 4000, PORT)])
        orders.run("warm", "known", "pass 100", "none")
        orders.run("base/known", "known", "pass 1000", "none")
        orders.run("base/flows", "flows", "pass 1", "none")
        orders.do("echo conntrack >/proc/inject/run", "entries known", "sleep 3", "entries known")
        orders.run("est/known", "known", "pass 1000", "established")
        orders.expected["new/flows"] = "new"
        orders.do("used new run new/flows flows 'pass 1'", "conntrack -F 2>/run/flushed", "sleep 3")
        for system in self.systems:
            orders.do(*system.begin(), system.load(orders, "all", [self.RULE]))
            label = f"{system.name}/flows"
            orders.expected[label] = "untracked"
            orders.do(f"used {system.name} run {label} flows 'pass 1'", *system.end())
        return orders

    def figures(self, answers: Answers) -> Iterator[Figure]:
        def path(label: str, base: str) -> float:
            return answers.mean(label) - answers.mean(base)

        about = "forward", 0
        tracked = path("est/known", "base/known")
        yield Figure("conntrack", *about, "packet of a known flow", tracked, "instructions")
        for name in ("conntrack", *(system.name for system in self.systems)):
            label, count = ("new", 0) if name == "conntrack" else (name, 1)
            cost = path(f"{label}/flows", "base/flows")
            yield Figure(name, "forward", count, "new flow", cost, "instructions")
            kib = answers.values["memory", label]["kib"]
            yield Figure(
                name, "forward", count, "memory of a new flow", kib * 1024 / self.COUNT, "bytes"
            )
