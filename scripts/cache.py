# SPDX-License-Identifier: GPL-2.0
"""The cache: everything that is fetched or built for ctskip's environment.

It lies under $CTSKIP_CACHE (default ~/.cache/ctskip), outside the checkout:

    NAME/KEY/       one entry; KEY is a hash of all that the entry was made from
    NAME/KEY.from   what went into KEY, in words; its time is the entry's last use
    NAME/KEY.new/   an entry in the making; renamed when it is complete
    NAME/lock       held while one is made, so that two runs at once do not clash
    log/            output of long commands
    runs/           the last runs of guests: see qemu-test/run.py
    test-seconds/   how long each file of tests took: see qemu-test/deal.py

An entry is never changed once it is there. How to make and use one:

    def make(new: Path) -> None:
        cache.run(["wget", ...], cwd=new)

    path = cache.entry("kernel-source", version, make=make)
"""

import contextlib
import fcntl
import hashlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(os.environ.get("CTSKIP_CACHE") or "~/.cache/ctskip").expanduser().absolute()

# An entry that was not used for this long goes when a newer one of its name is made.
SUPERSEDED_AFTER = 24 * 3600


class Failed(Exception):
    """A step failed; the message is for the user and says all there is to say."""


def say(text: str) -> None:
    """Print a line of progress."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def step(title: str) -> Iterator[None]:
    """Show that something is under way, and then how long it took."""
    say(f"ctskip: {title} ...")
    start = time.monotonic()
    yield
    say(f"ctskip: {title}: {time.monotonic() - start:.0f} s")


def log_path(name: str) -> Path:
    """Return the path of a log file; its folder is there."""
    folder = ROOT / "log"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.log"


def run(cmd: Sequence[str | Path], log: str | None = None, **kwargs) -> None:
    """Run a command with its output in log/LOG.log; show the end of that if it fails.

    Without `log`, the command's own name is taken.
    """
    words = [str(word) for word in cmd]
    path = log_path(log or Path(words[0]).name)
    kwargs.setdefault("stdin", subprocess.DEVNULL)
    with path.open("a") as out:
        out.write(f"$ {shlex.join(words)}\n")
        out.flush()
        start = out.tell()
        code = subprocess.run(words, stdout=out, stderr=out, check=False, **kwargs).returncode
    if code:
        with path.open(errors="replace") as text:
            text.seek(start)
            tail = text.read().splitlines()[-30:]
        say("\n".join(tail))
        raise Failed(f"{words[0]} failed ({code}); the whole output is in {path}")


def key_of(parts: Sequence[object]) -> str:
    """Return the key of an entry made from `parts`."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def file_digest(*paths: Path) -> str:
    """Return a digest of files' contents, for use as a part of a key."""
    total = hashlib.sha256()
    for path in paths:
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:16]


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold a lock file; say so where another run has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not inheritable (Python's default), so that no child outlives us with the lock.
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"ctskip: another run is making {path.parent.name}, waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def entry(name: str, *key: object, make: Callable[[Path], None]) -> Path:
    """Return the folder of an entry; where it is not there, `make(new)` fills it first.

    `key` is all that the content depends on. `make` fills the empty folder it is given; only when
    it returns does the entry exist, so an interrupted run leaves nothing half done behind.
    """
    path = ROOT / name / key_of(key)
    origin = path.with_name(path.name + ".from")
    if not path.is_dir():
        with lock(path.parent / "lock"):
            if not path.is_dir():
                new = path.with_name(path.name + ".new")
                remove(new)
                new.mkdir()
                origin.write_text("\n".join(str(part) for part in key) + "\n")
                with step(name):
                    make(new)
                new.rename(path)
                _remove_superseded(path)
    origin.touch()
    return path


def _remove_superseded(kept: Path) -> None:
    """Remove entries of the same name that no run has used for a while."""
    for origin in kept.parent.glob("*.from"):
        path = origin.with_suffix("")
        if path != kept and time.time() - origin.stat().st_mtime > SUPERSEDED_AFTER:
            remove(path)
            remove(path.with_name(path.name + ".new"))
            origin.unlink()


def remove(path: Path) -> None:
    """Remove a tree, also one with files of the subordinate uids of a user namespace."""
    if not os.path.lexists(path):
        return
    cmd = ["rm", "-rf", "--one-file-system", "--", str(path)]
    if os.geteuid() != 0:
        cmd = [*AS_ROOT_OF_USER_NAMESPACE, *cmd]
    subprocess.run(cmd, check=True)


# What a user without root has: user 0 is the user, the others are the subordinate uids.
AS_ROOT_OF_USER_NAMESPACE = ("unshare", "--user", "--map-root-user", "--map-auto")


def main(argv: Sequence[str]) -> None:
    """Remove the whole cache: `make clean-cache`."""
    if list(argv) != ["clean"]:
        raise Failed("usage: cache.py clean")
    with step(f"removing {ROOT}"):
        remove(ROOT)


def entry_point(function: Callable[[Sequence[str]], None]) -> None:
    """Call a script's main function: a `Failed` is one line and exit status 1."""
    # As by ^C: what was started ends with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        function(sys.argv[1:])
    except Failed as error:
        say(f"ctskip: {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        say("ctskip: interrupted; the next run goes on where this one stopped")
        sys.exit(130)


if __name__ == "__main__":
    entry_point(main)
