# SPDX-License-Identifier: GPL-2.0
"""What is made of the figures: the tables, bench.json, the plot, and the comparison with the bounds."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from cases import Figure

OURS, FLOOR, TRACKING = "ctskip", "floor", "conntrack"
NO_PEERS = (OURS, FLOOR, TRACKING)


@dataclass(frozen=True)
class Bound:
    """The most that a figure of ctskip may be; a path stands for the same of every unit."""

    case: str
    rules: int
    path: str
    most: float


LARGEST = 65536

BOUNDS = [
    Bound("empty", 0, "miss", 30),
    Bound("exact", 1, "match", 200),
    Bound("exact", 1, "miss", 120),
    Bound("exact", LARGEST, "match", 300),
    Bound("exact", LARGEST, "miss", 180),
    Bound("acl", LARGEST, "match", 600),
    Bound("acl", LARGEST, "miss", 500),
    Bound("exact", LARGEST, "load", 1),
    Bound("exact", LARGEST, "memory", 8),
    Bound("exact", LARGEST, "add one rule", 5),
    Bound("exact", LARGEST, "delete one rule", 5),
]

# Of any table, and so of those made to be bad.
WORST_PACKET = 2000


def bound_of(figure: Figure) -> float | None:
    """Return what a figure may be at most, where that is set."""
    if figure.system != OURS:
        return None
    if figure.path in ("match: slowest packet", "miss: slowest packet"):
        return WORST_PACKET
    for bound in BOUNDS:
        if (bound.case, bound.rules, bound.path) == (figure.case, figure.rules, figure.path):
            return bound.most
    return None


def number(value: float) -> str:
    """Return a value as tables show it."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(rows: Sequence[Sequence[str]], left: int) -> str:
    """Lay rows out in columns, the first `left` of them to the left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


class Report:
    """The figures of a run."""

    def __init__(self, figures: Iterable[Figure]) -> None:
        self.figures = {(f.system, f.case, f.rules, f.path): f for f in figures}
        order = {figure.system: None for figure in self.figures.values()}
        self.peers = [system for system in order if system not in NO_PEERS]
        self.shown = [s for s in (OURS, FLOOR) if s in order] + self.peers

    def value(self, *key: str | int) -> float | None:
        """Return a figure's value, if it was measured."""
        figure = self.figures.get(key)
        return figure and figure.value

    def row(self, case: str, rules: int, path: str) -> list[str]:
        """Return a line of a table: every system, the ratio to the best peer, the bound."""
        values = {system: self.value(system, case, rules, path) for system in self.shown}
        cells = ["-" if values[s] is None else number(values[s]) for s in self.shown]
        best = min((values[s] for s in self.peers if values[s] is not None), default=None)
        ours = values.get(OURS)
        ratio = f"{ours / best:.2f}" if ours is not None and best else "-"
        return [case, f"{rules:,}", path, *cells, ratio, self.verdict(case, rules, path)]

    def verdict(self, case: str, rules: int, path: str) -> str:
        """Return the bound of a figure of ours, and whether it is met."""
        figure = self.figures.get((OURS, case, rules, path))
        most = figure and bound_of(figure)
        if most is None:
            return "-"
        over = figure.value - most
        return f"{number(most)}: {'met' if over <= 0 else f'over by {number(over)}'}"

    def section(self, title: str, paths: Sequence[str]) -> str:
        """Return a table of all cases for which one of the paths was measured."""
        about = dict.fromkeys((case, rules) for _, case, rules, _ in self.figures)
        rows = [
            self.row(case, rules, path)
            for case, rules in about
            for path in paths
            if any((system, case, rules, path) in self.figures for system in self.shown)
        ]
        if not rows:
            return ""
        head = ["case", "rules", "", *self.shown, "to best peer", "bound"]
        empty = [i for i in range(3, 3 + len(self.shown)) if all(row[i] == "-" for row in rows)]
        rows = [[c for i, c in enumerate(row) if i not in empty] for row in [head, *rows]]
        return f"{title}\n\n{table(rows, 3)}\n"

    def text(self) -> str:
        """Return all of it, for reading."""
        known = self.value(TRACKING, "established", 0, "packet")
        parts = [
            known
            and f"A packet of an established flow costs {number(known)} instructions to track.\n",
            self.section(
                "Instructions a packet. A match: over the same path with no hook and no conntrack; "
                "a miss: over the\nsame path with conntrack. The worst of the kinds of packets, "
                "both directions.",
                ["match", "miss"],
            ),
            self.section("The slowest packet.", ["match: slowest packet", "miss: slowest packet"]),
            self.kinds("match"),
            self.kinds("miss"),
            self.forwarded(),
            self.section("Seconds to load the table.", ["load"]),
            self.section("MiB that it takes, with counters for 2 CPUs.", ["memory"]),
            self.section("Bytes a rule.", ["memory of a rule"]),
            self.section(
                "Milliseconds to change it by one rule, with the tool.",
                ["add one rule", "delete one rule"],
            ),
        ]
        return "\n".join(part for part in parts if part)

    def kinds(self, what: str) -> str:
        """Return the table of ctskip's figures by what is special in the packets."""
        found: dict[tuple[str, int], dict[str, float]] = {}
        for figure in self.figures.values():
            _, special, kind = figure.path.partition(f"{what}: ")
            if figure.system == OURS and special and "slowest" not in kind:
                found.setdefault((figure.case, figure.rules), {})[kind] = figure.value
        names = list(dict.fromkeys(kind for kinds in found.values() for kind in kinds))
        rows = [
            [case, f"{rules:,}", *(number(kinds[n]) if n in kinds else "-" for n in names)]
            for (case, rules), kinds in found.items()
        ]
        title = f"{OURS}, by kind of packet: {what}. (The answers: the other direction.)"
        return f"{title}\n\n{table([['case', 'rules', *names], *rows], 2)}\n" if rows else ""

    def forwarded(self) -> str:
        """Return the table of new flows."""
        rows = [
            [figure.system, figure.path, number(max(figure.value, 0)), figure.unit]
            for figure in self.figures.values()
            if figure.case == "forward"
        ]
        title = "A packet that is forwarded, over the same with no hook and no conntrack."
        return f"{title}\n\n{table(rows, 2)}\n" if rows else ""

    def missed(self) -> list[str]:
        """Return the bounds that are not met, in words."""
        found = []
        for figure in self.figures.values():
            most = bound_of(figure)
            if most is not None and figure.value > most:
                what = f"{figure.case}, {figure.rules:,} rules, {figure.path}"
                found.append(f"{what}: {number(figure.value)} {figure.unit}, bound {number(most)}")
        return found

    def json(self, environment: dict[str, object]) -> str:
        """Return bench.json: the figures, and what they were measured on."""
        figures = [asdict(f) | {"value": round(f.value, 3)} for f in self.figures.values()]
        return json.dumps({**environment, "figures": figures}, indent=1) + "\n"


# The plot: a panel for packets that match and one for those that miss, both axes logarithmic.
WIDTH, HEIGHT, MARGIN, LEGEND = 420, 340, 76, 150
DASHED = 'stroke="black" stroke-dasharray="4"'
COLOURS = "#d62728 #7f7f7f #1f77b4 #17becf #9467bd #2ca02c #bcbd22 #8c564b #e377c2".split()


def plot(report: Report, case: str = "exact") -> str:
    """Return the cost of one kind of rules against their number, as SVG."""
    panels = [("match", "a packet that a rule matches"), ("miss", "a packet that none matches")]
    points = [f for f in report.figures.values() if f.case == case and f.path in ("match", "miss")]
    systems = [s for s in report.shown if any(f.system == s for f in points)]
    tracking = report.value(TRACKING, "established", 0, "packet")
    values = [f.value for f in points] + ([tracking] if tracking else [])
    most_x = max(math.log10(f.rules) for f in points) or 1
    low = math.floor(math.log10(max(min(values), 1)))
    high = math.ceil(math.log10(max(values)))

    def x(panel: int, rules: float) -> float:
        return MARGIN + panel * (WIDTH + MARGIN) + math.log10(rules) / most_x * WIDTH

    def y(value: float) -> float:
        return 40 + (high - math.log10(max(value, 1))) / (high - low) * HEIGHT

    out = []

    def text(at_x: float, at_y: float, words: str, anchor: str = "middle") -> None:
        out.append(f'<text x="{at_x:.1f}" y="{at_y:.1f}" text-anchor="{anchor}">{words}</text>')

    def line(points: Iterable[tuple[float, float]], style: str) -> None:
        path = " ".join(f"{at_x:.1f},{at_y:.1f}" for at_x, at_y in points)
        out.append(f'<polyline points="{path}" fill="none" {style}/>')

    grid = 'stroke="#dddddd"'
    for panel, (what, title) in enumerate(panels):
        left, right = x(panel, 1), x(panel, 10**most_x)
        text((left + right) / 2, 24, f"instructions for {title}")
        for power in range(low, high + 1):
            line([(left, y(10**power)), (right, y(10**power))], grid)
            text(left - 6, y(10**power) + 4, f"{10**power:,}", "end")
        for power in range(int(most_x) + 1):
            line([(x(panel, 10**power), y(10**low)), (x(panel, 10**power), y(10**high))], grid)
            text(x(panel, 10**power), y(10**low) + 18, f"{10**power:,}")
        if most_x % 1:
            text(right, y(10**low) + 18, f"{10**most_x:,.0f}")
        text((left + right) / 2, y(10**low) + 38, "rules (source address, destination port)")
        if tracking and what == "match":
            line([(left, y(tracking)), (right, y(tracking))], DASHED)
        for system, colour in zip(systems, COLOURS, strict=False):
            mine = sorted(
                (f.rules, f.value) for f in points if f.system == system and f.path == what
            )
            width = 3 if system == OURS else 1.5
            places = [(x(panel, rules), y(value)) for rules, value in mine]
            line(places, f'stroke="{colour}" stroke-width="{width}"')
            out += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in places]
    legend = x(1, 10**most_x) + 20
    entries = [
        ("floor (in C)" if system == FLOOR else system, f'stroke="{colour}" stroke-width="3"')
        for system, colour in zip(systems, COLOURS, strict=False)
    ]
    for i, (name, style) in enumerate([*entries, ("tracking it", DASHED)]):
        line([(legend, 60 + i * 20), (legend + 20, 60 + i * 20)], style)
        text(legend + 26, 64 + i * 20, name, "start")
    size = f'width="{legend + LEGEND:.0f}" height="{HEIGHT + 90}"'
    head = (
        "<!-- SPDX-License-Identifier: GPL-2.0 -->\n"
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">\n'
        '<rect width="100%" height="100%" fill="white"/>'
    )
    return "\n".join([head, *out, "</svg>", ""])


# How far a figure may be from the recorded one: instructions, or a part of it.
NEAR, NEAR_PART = 5, 0.02


def differences(report: Report, recorded: dict[str, float]) -> list[str]:
    """Return how the instructions differ from recorded ones, in words."""
    found = []
    now = {name_of(f): f for f in report.figures.values() if f.system == OURS}
    for name, value in recorded.items():
        if name not in now:
            found.append(f"{name}: was not measured")
        elif now[name].unit == "instructions":
            if abs(now[name].value - value) > max(NEAR, NEAR_PART * value):
                found.append(f"{name}: {now[name].value:.1f}, recorded {value:.1f}")
    return found + [f"{name}: not recorded yet" for name in now if name not in recorded]


def name_of(figure: Figure) -> str:
    """Return what a figure is recorded as."""
    return f"{figure.case}, {figure.rules} rules, {figure.path}"


def record(report: Report) -> dict[str, float]:
    """Return the figures of ctskip as they are recorded."""
    ours = [figure for figure in report.figures.values() if figure.system == OURS]
    return {name_of(figure): round(figure.value, 3) for figure in ours}


def broken(report: Report, recorded: dict[str, float]) -> list[str]:
    """Return the bounds that the recorded figures meet and these do not."""
    found = []
    for figure in report.figures.values():
        most, before = bound_of(figure), recorded.get(name_of(figure))
        if most is not None and before is not None and before <= most < figure.value:
            found.append(f"{name_of(figure)}: {figure.value:.1f} {figure.unit}, bound {most}")
    return found
