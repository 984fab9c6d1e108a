# SPDX-License-Identifier: GPL-2.0
"""Deal the files of tests out to guests, so that all guests take about as long.

The cache keeps how many seconds each file took in its last run, for each kind of run: kernel, accelerator
and pytest's options. A file that no run of that kind has measured is estimated by its size, at the median
of the measured files' seconds per byte.
"""

import json
import statistics
import xml.etree.ElementTree
from collections.abc import Mapping, Sequence
from pathlib import Path

import cache


def kind(line: str, accelerator: str, arguments: Sequence[str]) -> list[str]:
    """Return the kind of a run. The seed is no part of it: each seed takes about as long."""
    return [line, accelerator, *(word for word in arguments if not word.startswith("--seed="))]


def estimate(sizes: Mapping[str, int], of_kind: Sequence[str]) -> dict[str, float]:
    """Return the expected seconds of each file; `sizes` has the bytes of each file by its name.

    Where nothing is measured, they are bytes in place of seconds: only their proportions count.
    """
    known = {name: took for name, took in _kept(of_kind).items() if name in sizes}
    rate = statistics.median([took / sizes[name] for name, took in known.items()] or [1.0])
    return {name: known.get(name, size * rate) for name, size in sizes.items()}


def deal(seconds: Mapping[str, float], count: int) -> list[list[str]]:
    """Deal the files out in `count` parts, the longest first, each to the shortest part."""
    parts: list[list[str]] = [[] for _ in range(count)]
    for name in sorted(seconds, key=lambda name: (-seconds[name], name)):
        min(parts, key=lambda part: sum(seconds[one] for one in part)).append(name)
    return parts


def measured(report: Path, names: Sequence[str]) -> dict[str, float]:
    """Return the seconds of each named file in a complete run, from its junit.xml.

    A file without a test in the report has taken no time: all its tests were left out.
    """
    took = dict.fromkeys(names, 0.0)
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname', '').partition('.')[0]}.py"
        if name in took:
            took[name] += float(case.get("time", 0))
    return took


def keep(of_kind: Sequence[str], took: Mapping[str, float]) -> None:
    """Keep the seconds of some files; other files keep theirs."""
    path = _path(of_kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    with cache.lock(path.parent / "lock"):
        text = json.dumps({"kind": list(of_kind), "seconds": {**_kept(of_kind), **took}})
        new = path.with_suffix(".new")
        new.write_text(text + "\n")
        new.rename(path)


def _path(of_kind: Sequence[str]) -> Path:
    return cache.ROOT / "test-seconds" / f"{cache.key_of(list(of_kind))}.json"


def _kept(of_kind: Sequence[str]) -> dict[str, float]:
    path = _path(of_kind)
    return json.loads(path.read_text())["seconds"] if path.exists() else {}
