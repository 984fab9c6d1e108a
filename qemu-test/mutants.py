#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Break the module on purpose, one line at a time, and see the suite fail each time.

A test that cannot fail proves nothing. Each [[mutant]] of mutants/*.toml is a change of the source
(`file`, its text `old`, what takes its place, `new`), with the tests that have to notice (`tests`, as
pytest takes them) and the behaviour that is broken (`why`). It is built in a copy of the checkout and
those tests are run on it: where they pass, the mutant has survived, and this fails.

A mutant of the pure core may name tests of the core in place of `tests`: `host` is what their names have
in them, behind `interleavings/` where they are there. These run without a guest. A core that does not
compile, or a name that no test has, is no catch.

Where others than the one that has to notice could fail, `says` is what the tests or the console must say
of the mutant, as a pattern. Files with `debug = true` are for a debug kernel (LINE-debug), and the only
ones for it.

That the tests pass on what is not broken is not seen here: `make test` first.

usage: mutants.py [--kernel LINE] [--jobs N] [AREA | AREA-N ...]

An AREA is a file in mutants/, AREA-N its Nth mutant.
"""

import argparse
import concurrent.futures
import queue
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = HERE.parent
sys.path.insert(0, str(TOP / "scripts"))

import cache  # noqa: E402
import kernel  # noqa: E402
import run  # noqa: E402

# How the suite ends (guest/suite.py): pytest's own status where a test failed, and where all passed but
# something was left behind.
TESTS_FAILED, LEFT_BEHIND = 1, 9

NOT_COPIED = (".git", "build", "target", "__pycache__")


class Mutant:
    """One change of the source, and who has to notice."""

    def __init__(self, area, number, fields):
        self.name = f"{area}-{number}"
        self.file, self.old, self.new = fields["file"], fields["old"], fields["new"]
        self.tests, self.host = fields.get("tests"), fields.get("host")
        self.why, self.says = fields["why"], fields.get("says")

    def check(self):
        """Fail unless the text to change is there exactly once."""
        count = (TOP / self.file).read_text().count(self.old)
        if count != 1 or self.old == self.new:
            raise cache.Failed(f"{self.name}: {self.file} has its old text {count} times, not once")
        if bool(self.tests) == bool(self.host):
            raise cache.Failed(f"{self.name}: names both tests and host, or neither")

    def judge(self, tree, line, log):
        """Build it in `tree` and run its tests: give the verdict."""
        path = tree / self.file
        good = path.read_text()
        path.write_text(good.replace(self.old, self.new))
        try:
            with log.open("w") as out:
                if self.host:
                    tests = [sys.executable, "scripts/checks.py", "test", self.host]
                    subprocess.run(tests, cwd=tree, stdout=out, stderr=out)
                    return host_verdict(log.read_text(errors="replace"))
                make = ["make", f"KERNEL={line}"]
                if subprocess.run(make, cwd=tree, stdout=out, stderr=out).returncode:
                    return "does not build"
                suite = [sys.executable, "qemu-test/run.py", "test", f"--kernel={line}"]
                suite += [f"--module=build/{line}/ctskip.ko", "-x", *shlex.split(self.tests)]
                code = subprocess.run(suite, cwd=tree, stdout=out, stderr=out).returncode
        finally:
            path.write_text(good)
        text = log.read_text(errors="replace")
        if code == 0:
            return "SURVIVED"
        if self.says:
            for console in re.findall(r"console: (\S+)", text):
                text += Path(console).read_text(errors="replace")
            return "caught" if re.search(self.says, text) else "not seen"
        return "caught" if noticed(code, text) else "harness failed"


def host_verdict(text):
    """The verdict by what `cargo test` says: only a test that ran and failed has caught it."""
    if re.search(r"^error: could not compile", text, re.MULTILINE):
        return "does not build"
    found = re.search(r"^test result: \w+\. (\d+) passed; (\d+) failed", text, re.MULTILINE)
    if not found:
        return "harness failed"
    passed, failed = int(found[1]), int(found[2])
    if failed:
        return "caught"
    return "SURVIVED" if passed else "no such test"


def noticed(code, text):
    """Whether a run failed by a test, the kernel, or what was left behind: not by the harness."""
    tests = code == TESTS_FAILED and re.search(r"\b\d+ (failed|errors?)\b", text)
    return bool(tests) or code == LEFT_BEHIND or run.SAYS in text or run.STUCK in text


def mutants(names, debug):
    """The mutants of these names, or all, that are for a debug kernel or a stock one."""
    found, known = [], set()
    for file in sorted((HERE / "mutants").glob("*.toml")):
        area = tomllib.loads(file.read_text())
        if area.get("debug", False) != debug:
            continue
        for number, fields in enumerate(area["mutant"], 1):
            mutant = Mutant(file.stem, number, fields)
            called = {file.stem, mutant.name}
            known |= called
            if not names or called & set(names):
                found.append(mutant)
    if unknown := sorted(set(names) - known):
        raise cache.Failed(f"no such mutants for this kernel: {' '.join(unknown)}")
    return found


def main(argv):
    """Judge the mutants, as many at once as there are copies of the tree."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kernel", help="the kernel line; -debug: the newest line's debug kernel")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("names", nargs="*", metavar="AREA[-N]")
    options = parser.parse_args(argv)
    kind = kernel.get(options.kernel)
    todo = mutants(options.names, kind.is_debug)
    for mutant in todo:
        mutant.check()

    with tempfile.TemporaryDirectory(prefix="ctskip-mutants-") as name:
        folder = Path(name)
        logs = TOP / "build" / "mutants"
        logs.mkdir(parents=True, exist_ok=True)
        trees = queue.Queue()
        for number in range(options.jobs):
            ignore = shutil.ignore_patterns(*NOT_COPIED)
            trees.put(shutil.copytree(TOP, folder / str(number), ignore=ignore))

        def judge(mutant):
            tree = trees.get()
            try:
                return mutant.judge(Path(tree), kind.line, logs / f"{mutant.name}.log")
            finally:
                trees.put(tree)

        bad = 0
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            for mutant, verdict in zip(todo, pool.map(judge, todo), strict=True):
                bad += verdict != "caught"
                print(f"{verdict:14} {mutant.name:12} {mutant.why}", flush=True)
    print(f"{len(todo) - bad} of {len(todo)} mutants caught; logs in build/mutants")
    sys.exit(bad > 0)


if __name__ == "__main__":
    cache.entry_point(main)
