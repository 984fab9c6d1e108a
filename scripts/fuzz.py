# SPDX-License-Identifier: GPL-2.0
"""Fuzzing of the pure core: cargo-fuzz and libFuzzer, in the chroot of a kernel line.

Each target of fuzz/ is fed with bytes that libFuzzer makes up from those that went new ways before. It
begins with those of fuzz/corpus/TARGET; what it finds on the way is kept in the cache (fuzz/TARGET) for
the next run. A find is left in build/fuzz. To keep it from coming back, it goes under a name that says
what it is to fuzz/corpus/TARGET, whose files are a part of `make host-test`.

The chroot's compilers are stable ones; RUSTC_BOOTSTRAP has them take what libFuzzer needs. They come
without sanitizers: the core has no unsafe code for those to watch.

usage: fuzz.py run SECONDS [TARGET ...]     the time is for all of them together
       fuzz.py replay TARGET FILE           what a target says of one file
       fuzz.py corpus                       choose anew what fuzz/corpus holds, by the edges taken
"""

import concurrent.futures
import os
import random
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import cache
import checks
import chroot

# The newest that the chroot's compiler builds.
CARGO_FUZZ_VERSION = "0.13.1"
CARGO_FUZZ = "/usr/src/cargo-fuzz"
CORPUS = checks.CHECKOUT / "fuzz/corpus"
BUILT = checks.CHECKOUT / "build/fuzz"
GROWN = "/usr/src/fuzz-corpus"  # the cache's corpora, in the chroot
TARGETS = ("rules", "transactions", "headers", "matcher", "edits", "session", "flows")

# Bounds on each input: its length, its seconds, the megabytes that the target has come to.
LIMITS = ("-max_len=2048", "-timeout=20", "-rss_limit_mb=800")
SAY_EVERY = 15

# A run begins with as many of those in the cache, at random: more would take it too long.
MOST_GROWN = 300

# How many files `corpus` chooses for a target at most, and how long they are at most.
MOST_FILES, MOST_BYTES = 48, 600


class Fuzz:
    """The fuzz targets, built."""

    def __init__(self) -> None:
        self.checks = checks.Checks(None)
        self.grown = cache.ROOT / "fuzz"
        for target in TARGETS:
            (self.grown / target).mkdir(parents=True, exist_ok=True)
        BUILT.mkdir(parents=True, exist_ok=True)
        tool = cache.entry(
            "cargo-fuzz",
            CARGO_FUZZ_VERSION,
            self.checks.chroot.root.parent.name,
            make=self.install,
        )
        path = f"{CARGO_FUZZ}/bin:/usr/local/bin:/usr/bin:/bin"
        self.place = self.checks.place(
            CARGO_TARGET_DIR=f"{checks.HERE}/build/fuzz", PATH=path, RUSTC_BOOTSTRAP="1"
        )
        self.place["binds"] |= {tool: CARGO_FUZZ, self.grown: GROWN}
        with cache.step("fuzz: build"):
            build = ["cargo", "fuzz", "build", "--sanitizer", "none"]
            self.checks.chroot.run(build, log="fuzz-build", **self.place)

    def install(self, new: Path) -> None:
        """Build cargo-fuzz, of the registry."""
        place = self.checks.place()
        place["binds"] |= {new: CARGO_FUZZ}
        install = ["cargo", "install", "--locked", f"--root={CARGO_FUZZ}"]
        self.checks.chroot.run(
            [*install, f"cargo-fuzz@{CARGO_FUZZ_VERSION}"], log="cargo-fuzz", **place
        )

    def command(self, target: str, *arguments: str) -> list[str]:
        """Return the host's command for a target with arguments of libFuzzer."""
        program = f"{checks.HERE}/build/fuzz/x86_64-unknown-linux-gnu/release/{target}"
        finds = f"-artifact_prefix={checks.HERE}/build/fuzz/{target}-"
        return self.checks.chroot.command([program, *LIMITS, finds, *arguments], **self.place)

    def fuzz(self, target: str, seconds: int) -> None:
        """Feed a target for so long, and say now and then how far it is."""
        with tempfile.TemporaryDirectory(dir=BUILT) as folder:
            new, old = Path(folder, "new"), Path(folder, "old")
            new.mkdir()
            old.mkdir()
            grown = list((self.grown / target).iterdir())
            for file in random.sample(grown, min(len(grown), MOST_GROWN)):
                shutil.copy(file, old)
            here = f"{checks.HERE}/build/fuzz/{Path(folder).name}"
            corpora = [f"{here}/new", f"{here}/old", f"fuzz/corpus/{target}"]
            try:
                self.feed(target, seconds, corpora)
            finally:
                for file in new.iterdir():
                    shutil.move(file, self.grown / target / file.name)

    def feed(self, target: str, seconds: int, corpora: Sequence[str]) -> None:
        """Feed a target for so long from folders in the chroot, of which the first one grows."""
        command = self.command(target, *corpora, f"-max_total_time={seconds}")
        path = cache.log_path(f"fuzz-{target}")
        with path.open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=chroot.sbin_environment(),
            )
            try:
                self.watch(target, process, path)
            finally:
                process.kill()
        text = path.read_text(errors="replace")
        done = progress(text)
        if process.returncode == 0:
            cache.say(f"ctskip: fuzz: {target}: {seconds} s: {done}, no find")
            return
        cache.say("\n".join(text.splitlines()[-30:]))
        found = re.search(rf"written to {checks.HERE}/(\S+)", text)
        if not found:
            raise cache.Failed(f"fuzz: {target} ended ({process.returncode}); its output: {path}")
        find = checks.CHECKOUT / found[1]
        raise cache.Failed(
            f"fuzz: {target}: {done}, and a find: {find}\n"
            f"ctskip: once more: python3 scripts/fuzz.py replay {target} {find}"
        )

    @staticmethod
    def watch(target: str, process: subprocess.Popen, path: Path) -> None:
        """Wait for the end, and say how far it is."""
        start = time.monotonic()
        while True:
            try:
                process.wait(SAY_EVERY)
                return
            except subprocess.TimeoutExpired:
                done = progress(path.read_text(errors="replace"))
                cache.say(f"ctskip: fuzz: {target}: {time.monotonic() - start:.0f} s: {done}")

    def run(self, seconds: int, targets: Sequence[str]) -> None:
        """Feed the targets, as many at once as there are CPUs; after a find, begin with no other."""
        jobs = min(len(os.sched_getaffinity(0)), len(targets))
        each = max(1, seconds * jobs // len(targets))
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            runs = [pool.submit(self.fuzz, target, each) for target in targets]
            concurrent.futures.wait(runs, return_when=concurrent.futures.FIRST_EXCEPTION)
            # Those that are under way go on to their end: they may find something, too.
            pool.shutdown(cancel_futures=True)
        errors = [run.exception() for run in runs if not run.cancelled()]
        failed = [str(error) for error in errors if error]
        if failed:
            raise cache.Failed("\nctskip: ".join(failed))

    def replay(self, target: str, file: Path) -> None:
        """Show what a target says of a file."""
        with tempfile.TemporaryDirectory(dir=BUILT) as folder:
            shutil.copy(file, folder)
            inside = f"{checks.HERE}/build/fuzz/{Path(folder).name}/{file.name}"
            command = self.command(target, inside)
            code = subprocess.run(command, env=chroot.sbin_environment()).returncode
        if code:
            raise cache.Failed(f"fuzz: {target}: {file} still fails")

    def corpus(self) -> None:
        """Choose the files of fuzz/corpus anew; those with names of their own stay."""
        for target in TARGETS:
            own = CORPUS / target
            files = {file.name: file for file in (*(self.grown / target).iterdir(), *own.iterdir())}
            named = [file for file in own.iterdir() if not is_chosen(file)]
            # Of thousands of files, those that take an edge which no shorter one takes.
            some = {*self.edges(target, list(files.values())), *named}
            with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
                alone = pool.map(lambda file: self.edges(target, [file]).get(file, set()), some)
                edges = dict(zip(some, alone))
            chosen = {file.name: file.read_bytes() for file in cover(edges)}
            for old in own.iterdir():
                if is_chosen(old) and old.name not in chosen:
                    old.unlink()
            for name, content in chosen.items():
                (own / name).write_bytes(content)
            cache.say(f"ctskip: fuzz: {target}: {len(list(own.iterdir()))} files")

    def edges(self, target: str, files: Sequence[Path]) -> dict[Path, set[int]]:
        """Return the edges that each file takes and no shorter one of them."""
        with tempfile.TemporaryDirectory(dir=BUILT) as folder:
            (Path(folder) / "new").mkdir()
            (Path(folder) / "old").mkdir()
            for file in files:
                shutil.copy(file, f"{folder}/old")
            here = f"{checks.HERE}/build/fuzz/{Path(folder).name}"
            merge = ("-merge=1", "-use_counters=0", f"-max_len={MOST_BYTES}")
            control = f"-merge_control_file={here}/control"
            subprocess.run(
                self.command(target, *merge, control, f"{here}/new", f"{here}/old"),
                env=chroot.sbin_environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=True,
            )
            found = new_edges((Path(folder) / "control").read_text())
        return {file: found[file.name] for file in files if file.name in found}


def is_chosen(file: Path) -> bool:
    """Tell whether a file of a corpus has the name that libFuzzer gives, not one of its own."""
    return re.fullmatch("[0-9a-f]{40}", file.name) is not None


def new_edges(control: str) -> dict[str, set[int]]:
    """Return the edges of each file, by its name, from the control file of libFuzzer's merge.

    That has two numbers, the files, and `COV` with a file's number and the edges that are new with it.
    """
    names = [line.rpartition("/")[2] for line in control.splitlines()[2:]]
    found = re.findall(r"^COV (\d+)((?: \d+)+)$", control, re.MULTILINE)
    return {names[int(n)]: {int(edge) for edge in rest.split()} for n, rest in found}


def cover(edges: dict[Path, set[int]]) -> Iterator[Path]:
    """Yield few files that together take the most edges.

    The files that stay in any case count first.
    """
    left = {file: found for file, found in edges.items() if is_chosen(file)}
    taken = set().union(*(found for file, found in edges.items() if file not in left))
    for _ in range(min(MOST_FILES, len(left))):
        best = max(left, key=lambda file: (len(left[file] - taken), -file.stat().st_size))
        if left[best] <= taken:
            return
        taken |= left.pop(best)
        yield best


def progress(text: str) -> str:
    """Return what libFuzzer's output last says of the runs and edges."""
    found = re.findall(r"^#(\d+)\s.*?cov: (\d+)", text, re.MULTILINE)
    runs, edges = found[-1] if found else (0, 0)
    return f"{int(runs):,} inputs, {int(edges):,} edges"


def main(argv: Sequence[str]) -> None:
    """Do as the usage says."""
    match list(argv):
        case ["run", seconds, *targets] if seconds.isdecimal() and set(targets) <= set(TARGETS):
            Fuzz().run(int(seconds), targets or TARGETS)
        case ["replay", target, file] if target in TARGETS:
            Fuzz().replay(target, Path(file))
        case ["corpus"]:
            Fuzz().corpus()
        case _:
            raise cache.Failed(
                "usage: fuzz.py run SECONDS [TARGET ...] | replay TARGET FILE | corpus\n"
                f"ctskip: targets: {' '.join(TARGETS)}"
            )


if __name__ == "__main__":
    cache.entry_point(main)
