# SPDX-License-Identifier: GPL-2.0
"""Tests of qemu-test/deal.py: the deal of test files to guests. Part of `make host-test`."""

import os
import sys
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

sys.path.append(str(Path(__file__).resolve().parent.parent / "qemu-test"))

import deal  # noqa: E402
import run  # noqa: E402

KIND = deal.kind("7.3", "tcg", ["--quick", "--seed=1"])
OTHERS = [
    deal.kind("7.3-debug", "tcg", ["--quick"]),
    deal.kind("7.3", "kvm", ["--quick"]),
    deal.kind("7.3", "tcg", []),
]
REPORT = """<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite name="pytest" time="99">
<testcase classname="test_a" name="test_x[ipv4]" time="1.5" />
<testcase classname="test_a.TestIt" name="test_y" time="2.25"><failure message="m">t</failure></testcase>
<testcase classname="test_b" name="test_z" time="4"><skipped message="m">t</skipped></testcase>
</testsuite></testsuites>"""


class DealTest(unittest.TestCase):
    """Files go by how long they took, or by their size."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        patch = mock.patch("cache.ROOT", self.root)
        patch.start()
        self.addCleanup(patch.stop)

    def test_parts(self) -> None:
        """Each file is in one part, and no part is longer than the others by more than its last file."""
        seconds = {f"test_{n}.py": n * n % 17 for n in range(20)}
        for count in (1, 2, 3, 20, 30):
            parts = deal.deal(seconds, count)
            self.assertEqual(len(parts), count)
            self.assertEqual(sorted(sum(parts, [])), sorted(seconds))
            sums = [sum(seconds[name] for name in part) for part in parts]
            for part, total in zip(parts, sums, strict=True):
                self.assertLessEqual(total - (seconds[part[-1]] if part else 0), min(sums))
        long_first = deal.deal({"a": 1, "b": 2, "c": 3, "d": 6}, 2)
        self.assertEqual(long_first, [["d"], ["c", "b", "a"]])

    def test_first_run(self) -> None:
        """Where nothing is measured, files go by their size."""
        sizes = {"test_a.py": 100, "test_b.py": 300, "test_c.py": 250}
        self.assertEqual(deal.estimate(sizes, KIND), sizes)

    def test_suite(self) -> None:
        """The first deal of the suite gives no guest much more than its share of the bytes."""
        sizes = run.test_files()
        self.assertGreater(sizes["test_smoke.py"], 1000)
        for count in (2, 3):
            parts = deal.deal(deal.estimate(sizes, KIND), count)
            most = max(sum(sizes[name] for name in part) for part in parts)
            self.assertLess(most, 1.2 * sum(sizes.values()) / count)

    def test_measured(self) -> None:
        """The tests of a file are summed up; a file of which none was run has taken no time."""
        report = self.root / "junit.xml"
        report.write_text(REPORT)
        took = deal.measured(report, ["test_a.py", "test_b.py", "test_c.py"])
        self.assertEqual(took, {"test_a.py": 3.75, "test_b.py": 0, "test_c.py": 0})
        self.assertEqual(deal.measured(report, ["test_a.py"]), {"test_a.py": 3.75})

    def test_kept(self) -> None:
        """The last times of each file come back for that kind of run, whatever its seed."""
        sizes = {"test_a.py": 100, "test_b.py": 200, "test_c.py": 300}
        deal.keep(KIND, {"test_a.py": 5, "test_b.py": 6, "test_c.py": 7, "test_gone.py": 8})
        deal.keep(KIND, {"test_b.py": 1})
        again = deal.kind("7.3", "tcg", ["--quick", "--seed=2"])
        want = {"test_a.py": 5, "test_b.py": 1, "test_c.py": 7}
        self.assertEqual(deal.estimate(sizes, again), want)
        for number, other in enumerate(OTHERS, 1):
            deal.keep(other, {"test_a.py": number})
        for number, other in enumerate(OTHERS, 1):
            self.assertEqual(deal.estimate(sizes, other)["test_a.py"], number, other)
        self.assertEqual(deal.estimate(sizes, again), want)

    def test_first_run_of_a_kind(self) -> None:
        """It goes by the last run of another kind; one that did nothing there counts twice the longest."""
        sizes = {"test_a.py": 1000, "test_b.py": 1000, "test_c.py": 1000, "test_new.py": 500}
        for number, other in enumerate(OTHERS, 1):
            deal.keep(other, {"test_a.py": 4, "test_b.py": number, "test_c.py": 0})
        for number, last in enumerate(OTHERS, 1):
            for other in OTHERS:
                os.utime(deal.path(other), (other is last, other is last))
            want = {"test_a.py": 4, "test_b.py": number, "test_c.py": 8, "test_new.py": 2}
            self.assertEqual(deal.estimate(sizes, KIND), want)

    def test_new_file(self) -> None:
        """A file that was not there is estimated by its size and the median rate of the others."""
        deal.keep(KIND, {"test_a.py": 4, "test_b.py": 6, "test_skipped.py": 0})
        sizes = dict.fromkeys(("test_a.py", "test_b.py", "test_skipped.py"), 1000)
        self.assertEqual(deal.estimate({**sizes, "test_new.py": 2000}, KIND)["test_new.py"], 8)

    def test_which_runs_are_kept(self) -> None:
        """Only guests in which all tests passed: a failure may take any time."""
        for status in (0, 1, 2, 9, None):
            folder = self.root / f"run-{status}"
            (folder / "out").mkdir(parents=True)
            (folder / "out/junit.xml").write_text(REPORT)
            one = SimpleNamespace(run=folder, status=lambda status=status: status)
            kind = deal.kind("7.3", "tcg", [str(status)])
            run.keep_seconds(kind, [one], [["test_a.py"]])
            self.assertEqual(deal.path(kind).exists(), status == 0, status)
        self.assertEqual(deal.estimate({"test_a.py": 1}, KIND), {"test_a.py": 3.75})


if __name__ == "__main__":
    unittest.main()
