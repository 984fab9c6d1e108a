# SPDX-License-Identifier: GPL-2.0
"""Deal the files of tests out to guests, so that all guests take about as long.

The cache keeps how many seconds each file took in its last run, for each kind of run: kernel, accelerator
and pytest's options. What is not measured is estimated:

- The first run of a kind goes by the last run of another kind. A file that did nothing there counts twice the
  longest: test_faults.py and test_storm.py, skipped on a stock kernel, take longest on a debug kernel.
- A file that is not measured goes by its size, at the median of the measured files' seconds per byte.
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
    took = _read(path(of_kind)) or _of_another_kind()
    known = {name: seconds for name, seconds in took.items() if name in sizes}
    rate = statistics.median([known[name] / sizes[name] for name in known] or [1.0])
    return {name: known.get(name, size * rate) for name, size in sizes.items()}


def deal(seconds: Mapping[str, float], count: int) -> list[list[str]]:
    """Deal the files out in `count` parts, the longest first, each to the shortest part."""
    parts: list[list[str]] = [[] for _ in range(count)]
    for name in sorted(seconds, key=lambda name: (-seconds[name], name)):
        min(parts, key=lambda part: sum(seconds[one] for one in part)).append(name)
    return parts


def measured(report: Path, names: Sequence[str]) -> dict[str, float]:
    """Return the seconds of each named file in a complete run, from its junit.xml.

    A file whose tests are all skipped, or left out of the report, has taken no time.
    """
    took = dict.fromkeys(names, 0.0)
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname', '').partition('.')[0]}.py"
        if name in took and case.find("skipped") is None:
            took[name] += float(case.get("time", 0))
    return took


def keep(of_kind: Sequence[str], took: Mapping[str, float]) -> None:
    """Keep the seconds of some files; other files keep theirs."""
    place = path(of_kind)
    place.parent.mkdir(parents=True, exist_ok=True)
    with cache.lock(place.parent / "lock"):
        text = json.dumps({"kind": list(of_kind), "seconds": {**_read(place), **took}})
        new = place.with_suffix(".new")
        new.write_text(text + "\n")
        new.rename(place)


def path(of_kind: Sequence[str]) -> Path:
    """Return the path of the file with the seconds of a kind of run."""
    return cache.ROOT / "test-seconds" / f"{cache.key_of(list(of_kind))}.json"


def _read(place: Path) -> dict[str, float]:
    return json.loads(place.read_text())["seconds"] if place.exists() else {}


def _of_another_kind() -> dict[str, float]:
    """Return the seconds of the last run of any kind, with twice the longest in place of none."""
    kinds = (cache.ROOT / "test-seconds").glob("*.json")
    last = max(kinds, key=lambda place: place.stat().st_mtime_ns, default=None)
    took = _read(last) if last else {}
    return {name: seconds or 2 * max(took.values()) for name, seconds in took.items()}
