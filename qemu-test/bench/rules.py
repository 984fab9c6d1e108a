# SPDX-License-Identifier: GPL-2.0
"""Sets of rules, packets for them, and how each system is told them.

A rule of ctskip holds for both directions of a flow. Its peers need two for that: one as written and
one with source and destination exchanged.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from machine import ANSWERS, ICMP, UDP, Flow

Prefix = tuple[int, int]  # address, length
Ports = tuple[int, int]  # first, last

NUMBERS = {"icmp": ICMP, "tcp": 6, "udp": UDP, "gre": 47, "esp": 50, "ah": 51}

# Shapes of the test kit whose rules every system can say.
TRACES = ("acl", "firewall", "chains")

PORT = 5000  # of all rules made here; floor.ko has it too
LAST = 0x0A090001  # 10.9.0.1, in the last rule of each set made here
DST = 0x0AC80001  # 10.200.0.1, where packets go to
OWN = 0xC0A80701  # 192.168.7.1, an address of the guest's
STRANGER = 0x0A080001  # 10.8.0.1, and those that follow: in no rule


def dotted(address: int) -> str:
    """10.9.0.1"""
    return ".".join(str(byte) for byte in address.to_bytes(4, "big"))


def written(value: Prefix | Ports, by: str) -> str:
    """Return a prefix (`by` a slash) or a range of ports as text."""
    first, second = value
    if by == "/":
        return dotted(first) if second == 32 else f"{dotted(first)}/{second}"
    return str(first) if first == second else f"{first}{by}{second}"


@dataclass(frozen=True)
class Rule:
    """What of a rule every system can say."""

    proto: str = ""
    src: Prefix | None = None
    dst: Prefix | None = None
    sport: Ports | None = None
    dport: Ports | None = None
    kind: int | None = None  # ICMP's type

    def exchanged(self) -> "Rule":
        """Return the rule of the other direction."""
        kind = ANSWERS.get(self.kind, self.kind)
        return Rule(self.proto, self.dst, self.src, self.dport, self.sport, kind)

    def both(self) -> "list[Rule]":
        """Return the rules that together hold for both directions."""
        return list(dict.fromkeys([self, self.exchanged()]))

    def __str__(self) -> str:
        """Return it as ctskip takes it."""
        words = [self.proto or "ip"]
        for name, value, by in self.parts():
            words.append(f"{name}={written(value, by)}")
        if self.kind is not None:
            words.append(f"type={self.kind}")
        return " ".join(words if len(words) > 1 and self.proto else [*words, "any"])

    def parts(self) -> list[tuple[str, Prefix | Ports, str]]:
        """Return what it says of addresses and ports."""
        both = [("src", self.src, "/"), ("dst", self.dst, "/")]
        both += [("sport", self.sport, "-"), ("dport", self.dport, "-")]
        return [(name, value, by) for name, value, by in both if value is not None]

    def nft(self) -> str:
        """Return it as a rule of nft."""
        words = []
        for name, value, by in self.parts():
            before = "ip" if by == "/" else self.proto
            after = {"src": "saddr", "dst": "daddr"}.get(name, name)
            words.append(f"{before} {after} {written(value, by)}")
        if self.kind is not None:
            words.append(f"icmp type {self.kind}")
        elif self.proto and not self.sport and not self.dport:
            words.insert(0, f"ip protocol {NUMBERS[self.proto]}")
        return " ".join([*words, "notrack accept"])

    def iptables(self) -> str:
        """Return it as a line of iptables-restore."""
        words = ["-A PREROUTING"]
        if self.proto:
            words.append(f"-p {self.proto}")
        if self.kind is not None:
            words.append(f"--icmp-type {self.kind}")
        for name, value, by in self.parts():
            option = {"src": "-s", "dst": "-d"}.get(name, f"--{name}")
            words.append(f"{option} {written(value, '/' if by == '/' else ':')}")
        return " ".join([*words, "-j CT --notrack"])


def parse(text: str) -> Rule:
    """Return a rule from a line of ctskip; ValueError where it has what peers cannot say."""
    rule = Rule()
    for word in text.split():
        name, equals, value = word.partition("=")
        if word in NUMBERS:
            rule = replace(rule, proto=word)
        elif name in ("src", "dst") and re.fullmatch(r"[\d.]+(/\d+)?", value):
            address, _, length = value.partition("/")
            number = int.from_bytes(bytes(map(int, address.split("."))), "big")
            rule = replace(rule, **{name: (number, int(length or 32))})
        elif name in ("sport", "dport") and re.fullmatch(r"\d+(-\d+)?", value):
            first, _, last = value.partition("-")
            rule = replace(rule, **{name: (int(first), int(last or first))})
        elif name == "type" and value.isdigit():
            rule = replace(rule, kind=int(value))
        elif equals or word not in ("any", "ip", "skip"):
            raise ValueError(f"peers have no {word!r}")
    return rule


@dataclass(frozen=True)
class Trial:
    """Rules, packets that each match one, and packets that match none, by what is special in them."""

    case: str
    rules: Sequence[Rule | str]  # a text where only ctskip is told it
    match: dict[str, list[Flow]]
    miss: dict[str, list[Flow]]
    both_ways: bool = True  # send the answers as well; traces hold both directions already

    @property
    def name(self) -> str:
        """The case with the number of rules."""
        return f"{self.case}-{len(self.rules)}"

    def lists(self) -> list[tuple[str, list[Flow], str]]:
        """Return all lists of packets: name, packets, and match or miss."""
        match = [(f"match-{name}", flows, "match") for name, flows in self.match.items()]
        miss = [(f"miss-{name}", flows, "miss") for name, flows in self.miss.items()]
        return match + miss


def exact(count: int) -> list[Rule]:
    """Source address and destination port; floor.ko has the same."""
    sources = [0x0A400000 + i for i in range(count - 1)] + [LAST]
    return [Rule("udp", src=(source, 32), dport=(PORT, PORT)) for source in sources]


def networks(count: int) -> list[Rule]:
    """A network of 128 addresses and a port; no two networks next to each other."""
    sources = [(0x0B000000 + i * 256, 25) for i in range(count - 1)] + [(LAST, 32)]
    return [Rule("udp", src=source, dport=(PORT, PORT)) for source in sources]


def lengths(count: int) -> list[Rule]:
    """The same, of eight lengths."""
    sources = [(0x0B000000 + i * 256, 25 + i % 8) for i in range(count - 1)] + [(LAST, 32)]
    return [Rule("udp", src=source, dport=(PORT, PORT)) for source in sources]


def ranges(count: int) -> list[Rule]:
    """A network of 256 addresses, and a range of ten ports."""
    sources = [(0x0B000000 + i * 256, 24) for i in range(count - 1)] + [(LAST, 32)]
    return [Rule("udp", src=source, dport=(PORT, PORT + 9)) for source in sources]


SETS: dict[str, Callable[[int], list[Rule]]] = {
    "exact": exact,
    "networks": networks,
    "lengths": lengths,
    "ranges": ranges,
}


def trial(case: str, count: int, packets: int) -> Trial:
    """Return a trial of one of the sets made here, with one key and with many."""
    rules = SETS[case](count)
    chance = random.Random(f"{case} {count}")

    def to(source: int, port: int) -> Flow:
        return Flow(source, DST, UDP, 4000, port)

    def inside(prefix: Prefix) -> int:
        return prefix[0] + chance.randrange(1 << (32 - prefix[1]))

    some = [inside(chance.choice(rules).src) for _ in range(packets)]
    strangers = [STRANGER + chance.randrange(65000) for _ in range(packets)]
    return Trial(
        case,
        rules,
        match={"one": [to(LAST, PORT)] * packets, "many": [to(source, PORT) for source in some]},
        miss={
            "far": [to(STRANGER, 6000)] * packets,
            "port": [to(source, PORT) for source in strangers],
            "address": [to(source, 6000) for source in some],
        },
    )
