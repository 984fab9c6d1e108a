#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Count what ctskip and its peers cost: `make bench`, `make bench QUICK=1`, `make bench-check`.

    qemu-test/bench/bench.py full | quick     all, or what takes less than five minutes
    qemu-test/bench/bench.py check            ctskip's figures that must not change, in one guest
    qemu-test/bench/bench.py record           the same, recorded anew in recorded.json

To work on the hot path, with a module that is built already (10 s; `make modules KERNEL=7.3`):

    qemu-test/bench/bench.py full --only ctskip,floor --cases empty,exact --most 1 --module build/7.3/ctskip.ko

`full` and `quick` leave bench.json and bench.svg in build/bench.
"""

import argparse
import concurrent.futures
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import image  # first: it says where the scripts are

import cache
import cases
import chroot
import debug_kernel
import host
import kernel
import machine
import module
import report
import rules
import systems
from machine import UDP, Flow
from rules import DST, LAST, OWN, PORT, Rule, Trial
from shapes import Shapes

GUESTS = 2  # at once
OUT = chroot.CHECKOUT / "build/bench"
RECORDED = image.HERE / "recorded.json"

# Packets in a list: of those made here, and of a trace.
PACKETS, TRACE = 500, 2000

SIZES = [1, 10, 100, 1000, 10000, 65536]
QUICK_SIZES = [1, 1000, 65536]

# Tables made to be bad: their size, and what of a trace there is. (Some match about every packet.)
WORST = {
    "pairs": (65536, ("match", "miss")),
    "nested-pairs": (65536, ("match", "miss")),
    "random-ports": (65536, ("match",)),
    "nested-ports": (65536, ("match",)),
    "long-lists": (4096, ("match", "miss")),  # each of 1,024 combinations
    "devices": (65536, ("miss",)),
    "marks": (65536, ("match", "miss")),
    "crossing": (65536, ("match", "miss")),
    "classes": (65536, ("match",)),
}


class Plan:
    """What to measure, as the command line says."""

    def __init__(self, options: argparse.Namespace) -> None:
        only = options.only and options.only.split(",")
        self.cases = options.cases and options.cases.split(",")
        self.most: int = options.most
        self.systems = [s for s in systems.ALL if not only or s.name in only]
        self.shapes = Shapes(kernel.get(options.kernel).chroot)

    def wants(self, case: str) -> bool:
        """Tell whether a case was asked for."""
        return not self.cases or case in self.cases

    def special(self) -> list[Trial]:
        """The empty table, and one rule for everything."""
        packets = [Flow(LAST, DST, UDP, 4000, PORT)] * PACKETS
        trials = [
            Trial("empty", [], {}, {"any": packets}),
            Trial("all", [Rule("udp")], {"any": packets}, {}),
        ]
        return [trial for trial in trials if self.wants(trial.case)]

    def local(self) -> list[Trial]:
        """One rule with `local=`, which no other system can say: packets to the host, and to others."""
        packets = {to: [Flow(LAST, to, UDP, 4000, PORT)] * PACKETS for to in (OWN, DST)}
        other_port = [Flow(LAST, OWN, UDP, 4000, PORT + 1)] * PACKETS
        trial = Trial(
            "local",
            [f"udp dport={PORT} local=dst"],
            {"own": packets[OWN]},
            {"forwarded": packets[DST], "port": other_port},
        )
        return [trial] if self.wants("local") else []

    def made(self, case: str, sizes: Sequence[int]) -> list[Trial]:
        """A set made here, of all sizes."""
        return [rules.trial(case, n, PACKETS) for n in self.sizes(case, sizes)]

    def traced(self, shape: str, sizes: Sequence[int]) -> list[Trial]:
        """A shape of ClassBench's, of all sizes."""
        return [self.shapes.trial(shape, n, TRACE) for n in self.sizes(shape, sizes)]

    def bad(self, shape: str) -> list[Trial]:
        """A table made to be bad."""
        size, kinds = WORST[shape]
        sizes = self.sizes(shape, [min(size, self.most)])
        return [self.shapes.trial(shape, n, TRACE, kinds) for n in sizes]

    def sizes(self, case: str, sizes: Sequence[int]) -> list[int]:
        return [n for n in sizes if n <= self.most] if self.wants(case) else []

    def exact(self, sizes: Sequence[int]) -> Iterator[cases.Measurement]:
        """The simplest rules, in two guests of about the same length."""
        large = [n for n in sizes if n > 1000]
        small = [n for n in sizes if n <= 1000]
        trials = self.special() + self.made("exact", small)
        yield cases.Lookups("exact-small", trials, self.systems)
        yield cases.Lookups("exact-large", self.made("exact", large), self.systems)

    def full(self) -> Iterator[cases.Measurement]:
        """All that there is to measure."""
        yield from self.exact(SIZES)
        for case in ("networks", "lengths", "ranges"):
            yield cases.Lookups(case, self.made(case, [1000, 16384, 65536]), self.systems)
        for shape in rules.TRACES:
            yield cases.Lookups(shape, self.traced(shape, [1000, 16384, 65536]), self.systems)
        for shape in WORST:
            yield cases.Lookups(shape, self.bad(shape), self.systems)
        yield cases.Lookups("local", self.local(), self.ours())
        if self.wants("forward"):
            yield cases.NewFlows(self.systems)

    def quick(self) -> Iterator[cases.Measurement]:
        """A selection of it."""
        yield from self.exact(QUICK_SIZES)
        trials = self.made("lengths", [1000]) + self.made("networks", [16384])
        yield cases.Lookups("networks", trials, self.systems)
        yield cases.Lookups("acl", self.traced("acl", [1000, 65536]), self.systems)
        if self.wants("forward"):
            yield cases.NewFlows(self.systems)

    def check(self) -> Iterator[cases.Measurement]:
        """One guest, ctskip alone: what must not change. (Times and memory: their bounds.)"""
        trials = self.special() + self.made("exact", [1, 65536]) + self.local()
        trials += self.traced("acl", [65536]) + self.bad("pairs")
        yield cases.Lookups("check", trials, self.ours())

    def ours(self) -> list[systems.System]:
        """Return ctskip alone."""
        return [system for system in self.systems if isinstance(system, systems.Ctskip)]


class Run:
    """The measurements of a plan, each in a guest of its own."""

    def __init__(self, files: image.Image, module: Path) -> None:
        self.files = files
        self.module = module
        self.environment: dict[str, object] = {}

    def measure(self, what: cases.Measurement) -> list[cases.Figure]:
        """Measure in one guest; return the figures, or fail where the checks do."""
        log = cache.log_path(f"bench-{what.name}")
        with cache.step(f"bench: {what.name}"):
            answers = machine.boot(what.orders(), self.files, self.module, log)
        wrong = list(what.faults(answers))
        if wrong:
            raise cache.Failed(f"bench, {what.name}: " + "\n  ".join([*wrong, f"see {log}"]))
        self.environment = answers.environment
        return list(what.figures(answers))

    def report(self, measurements: Sequence[cases.Measurement]) -> report.Report:
        """Measure all, and return the figures; the first failure ends it."""
        with concurrent.futures.ThreadPoolExecutor(GUESTS) as pool:
            jobs = [pool.submit(self.measure, one) for one in measurements if one.todo()]
            try:
                return report.Report(figure for job in jobs for figure in job.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                machine.end_all()
                raise


def bench(run: Run, measurements: Sequence[cases.Measurement]) -> None:
    """Measure, and show it."""
    found = run.report(measurements)
    OUT.mkdir(parents=True, exist_ok=True)
    qemu = host.run_quiet("qemu-system-x86_64", "--version").splitlines()[0]
    environment = {"qemu": qemu, "cpu": machine.CPU, **run.environment}
    (OUT / "bench.json").write_text(found.json(environment))
    if any(figure.case == "exact" and figure.rules > 1 for figure in found.figures.values()):
        (OUT / "bench.svg").write_text(report.plot(found))
    print(found.text())
    for text in found.missed():
        print(f"Bound not met: {text}")
    for name, value in environment.items():
        print(f"{name}: {value}")
    print(f"Written: {OUT.relative_to(chroot.CHECKOUT)}/bench.json and bench.svg")


def check(run: Run, measurements: Sequence[cases.Measurement]) -> None:
    """Compare with the recorded figures."""
    if not RECORDED.exists():
        raise cache.Failed("nothing is recorded yet: make bench-check RECORD=1")
    found = run.report(measurements)
    recorded = json.loads(RECORDED.read_text())
    wrong = report.broken(found, recorded["figures"])
    wrong = [f"bound broken: {text}" for text in wrong]
    wrong += report.differences(found, recorded["figures"])
    if wrong:
        raise cache.Failed(
            "the cost of a packet has changed (where that is meant: make bench-check RECORD=1); "
            f"recorded with Linux {recorded['kernel']}, now {run.environment['kernel']}:\n  "
            + "\n  ".join(wrong)
        )
    print(f"bench-check: {len(recorded['figures'])} figures are as recorded")


def record(run: Run, measurements: Sequence[cases.Measurement]) -> None:
    """Record the figures."""
    found = run.report(measurements)
    content = {
        "SPDX-License-Identifier": "GPL-2.0",
        "kernel": run.environment["kernel"],
        "figures": report.record(found),
    }
    RECORDED.write_text(json.dumps(content, indent=1) + "\n")
    print(f"recorded {len(content['figures'])} figures")


MODES: dict[str, tuple[Callable[[Plan], Iterator[cases.Measurement]], Callable]] = {
    "full": (Plan.full, bench),
    "quick": (Plan.quick, bench),
    "check": (Plan.check, check),
    "record": (Plan.check, record),
}


def other_compilers(line: str | None) -> bool:
    """Tell whether a line has other compilers than the default one, whose figures are recorded."""
    return kernel.get(line).chroot != kernel.get().chroot


def main(argv: Sequence[str]) -> None:
    """Do as the usage says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("--kernel", help="the kernel line, e.g. 7.3")
    parser.add_argument("--module", type=Path, help="a ctskip.ko that is built already")
    parser.add_argument("--only", help="only these systems, joined by commas")
    parser.add_argument("--cases", help="only these cases, joined by commas")
    parser.add_argument("--most", type=int, default=65536, help="no tables with more rules")
    options = parser.parse_args(argv)
    if options.mode in ("check", "record") and other_compilers(options.kernel):
        print("bench-check: skipped, as what is recorded holds for code that other compilers made")
        return
    if (options.kernel or "").endswith(debug_kernel.DEBUG):
        raise cache.Failed(
            f"no benchmarks on {options.kernel}: a debug kernel's cost tells nothing"
        )
    files = image.get(options.kernel)
    run = Run(files, options.module or module.build(options.kernel))
    choose, do = MODES[options.mode]
    do(run, list(choose(Plan(options))))


if __name__ == "__main__":
    cache.entry_point(main)
