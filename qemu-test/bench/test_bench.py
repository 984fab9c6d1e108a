# SPDX-License-Identifier: GPL-2.0
"""Tests of the benchmark's own parts that need no guest. Part of `make host-test`."""

import unittest
import xml.dom.minidom

import machine
import report
import rules
import systems
from cases import Figure
from machine import Flow, Orders
from rules import Rule

GOOD = """
boot text @@ run clock/1000 packets=0 sum=2003 most=0
@@ run clock/2000 packets=0 sum=4003 most=0
@@ run here packets=10 sum=1005 most=-3 none=0 untracked=10 new=0 established=0 related=0
@@ time here us=17
@@ with nft nftables v1.1.3 (name)
@@ with kernel 7.3.4
""".splitlines()


class MachineTest(unittest.TestCase):
    """A guest's answers are read, and believed only where its checks hold."""

    def setUp(self) -> None:
        self.orders = Orders("test")
        self.orders.run("here", "packets", "drop 1", "untracked")

    def faults(self, lines: list[str]) -> list[str]:
        return list(machine.faults(self.orders, machine.parse(lines)))

    def changed(self, old: str, new: str) -> list[str]:
        lines = [line.replace(old, new) for line in GOOD]
        self.assertNotEqual(lines, GOOD)
        return self.faults(lines)

    def test_read(self) -> None:
        answers = machine.parse(GOOD)
        self.assertEqual(answers.mean("here"), 100.5)
        self.assertEqual(answers.most("here"), -3)
        self.assertEqual(answers.values["time", "here"]["us"], 17)
        self.assertEqual(answers.environment["nft"], "nftables v1.1.3 (name)")
        self.assertEqual(self.faults(GOOD), [])

    def test_faults(self) -> None:
        """A packet that fared otherwise, a run or the end that is not there, a clock that is off."""
        wrong = self.changed("untracked=10 new=0", "untracked=9 new=1")
        self.assertEqual(wrong, ["here: 10 packets, all to be untracked: 9 untracked, 1 new"])
        self.assertEqual(self.changed("run here", "run there"), ["here was not run"])
        self.assertIn("end", self.changed("with kernel", "with")[0])
        self.assertIn("2001 ticks", self.changed("sum=4003", "sum=4004")[0])
        self.assertEqual(self.faults([*GOOD, "@@ fail load: x"]), ["fail load: x"])

    def test_records(self) -> None:
        """A packet as inject.ko takes it."""
        flow = Flow(0x0A000001, 0x0A000002, 17, 4000, 53)
        self.assertEqual(machine.records([flow]).hex(), "0a0000010a0000020fa0003511000000")
        self.assertEqual(flow.answer(), Flow(0x0A000002, 0x0A000001, 17, 53, 4000))
        self.assertEqual(Flow(1, 2, 1, 0, 8).answer(), Flow(2, 1, 1, 0, 0))


class RulesTest(unittest.TestCase):
    """A rule says the same to every system."""

    RULE = Rule("tcp", (0x0A000000, 8), (0x0A090001, 32), None, (80, 89))

    def test_texts(self) -> None:
        self.assertEqual(str(self.RULE), "tcp src=10.0.0.0/8 dst=10.9.0.1 dport=80-89")
        nft = "ip saddr 10.0.0.0/8 ip daddr 10.9.0.1 tcp dport 80-89 notrack accept"
        self.assertEqual(self.RULE.nft(), nft)
        iptables = "-A PREROUTING -p tcp -s 10.0.0.0/8 -d 10.9.0.1 --dport 80:89 -j CT --notrack"
        self.assertEqual(self.RULE.iptables(), iptables)
        self.assertEqual(
            Rule("gre", (0, 1)).nft(), "ip protocol 47 ip saddr 0.0.0.0/1 notrack accept"
        )
        self.assertEqual(Rule("icmp", kind=8).nft(), "icmp type 8 notrack accept")

    def test_parse(self) -> None:
        lines = [
            str(self.RULE),
            "udp any",
            "icmp type=8",
            "ip src=1.2.3.4 any",
            "gre dst=9.0.0.0/8",
        ]
        for text in lines:
            self.assertEqual(str(rules.parse(text)), text)
        for text in ("tcp,udp dport=1", "udp dport=1,2", "udp dport=1 mark=1", "ip6 udp any"):
            with self.assertRaises(ValueError):
                rules.parse(text)

    def test_both_directions(self) -> None:
        self.assertEqual(self.RULE.both()[1].sport, (80, 89))
        self.assertEqual(Rule("icmp", kind=8).exchanged(), Rule("icmp", kind=0))
        self.assertEqual(len(Rule("udp").both()), 1)

    def test_sets(self) -> None:
        """Every set has as many different rules as it should, and packets inside and outside."""
        for case in rules.SETS:
            trial = rules.trial(case, 1000, 50)
            self.assertEqual(len(set(trial.rules)), 1000)
            for name, flows, what in trial.lists():
                for flow in flows:
                    found = any(holds(rule, flow) for rule in trial.rules)
                    self.assertEqual(found, what == "match", f"{case} {name} {flow}")

    def test_names(self) -> None:
        """Names of systems are chosen by, joined by commas."""
        names = [system.name for system in systems.ALL]
        self.assertEqual(len(set(names)), len(names))
        self.assertFalse(any("," in name for name in names))


def holds(rule: Rule, flow: Flow) -> bool:
    """Tell whether a rule of the sets holds for a packet, as written."""
    address, length = rule.src
    first, last = rule.dport
    return (address ^ flow.src) >> (32 - length) == 0 and first <= flow.dport <= last


def figure(system: str, value: float, path: str = "match", count: int = 65536) -> Figure:
    return Figure(system, "exact", count, path, value, "instructions")


class ReportTest(unittest.TestCase):
    """The tables, the plot, the comparisons."""

    def test_row(self) -> None:
        """The ratio is to the best peer, which the floor is not."""
        found = report.Report([figure(n, v) for n, v in [("ctskip", 310), ("floor", 200)]])
        self.assertEqual(found.row("exact", 65536, "match")[-2:], ["-", "300: over by 10.0"])
        peers = [figure("a", 900), figure("b", 620)]
        found = report.Report([*found.figures.values(), *peers])
        self.assertEqual(found.row("exact", 65536, "match")[-2], "0.50")
        self.assertEqual(len(found.missed()), 1)
        self.assertIn("0.50", found.text())

    def test_differences(self) -> None:
        """5 instructions, or 2 %, either way."""
        recorded = report.record(report.Report([figure("ctskip", 100), figure("a", 1)]))
        self.assertEqual(list(recorded.values()), [100])
        name = next(iter(recorded))
        for before, now, near in ((100, 105, 1), (100, 94.9, 0), (1000, 1020, 1), (1000, 1021, 0)):
            found = report.Report([figure("ctskip", now)])
            wrong = report.differences(found, {name: before})
            self.assertEqual(wrong == [], bool(near), f"{before} {now}")
        self.assertEqual(len(report.differences(report.Report([]), {name: 1})), 1)
        self.assertEqual(len(report.differences(found, {})), 1)

    def test_broken(self) -> None:
        """A bound is broken where it was met before."""
        found = report.Report([figure("ctskip", 301)])
        name = next(iter(report.record(found)))
        self.assertEqual(len(report.broken(found, {name: 299})), 1)
        self.assertEqual(report.broken(found, {name: 302}), [])

    def test_plot(self) -> None:
        values = [figure("ctskip", 200, p, n) for p in ("match", "miss") for n in (1, 65536)]
        drawn = xml.dom.minidom.parseString(report.plot(report.Report(values)))
        self.assertEqual(len(drawn.getElementsByTagName("circle")), 4)


if __name__ == "__main__":
    unittest.main()
