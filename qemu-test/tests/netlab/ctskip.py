# SPDX-License-Identifier: GPL-2.0
"""The module, and its files in /sys/kernel/ctskip."""

import errno
import os
import re
import time
from pathlib import Path

from .system import MODULE, SLOWER, delete_module, init_module

SYSFS = Path("/sys/kernel/ctskip")

# The keys of `netns` that a line has only where they are not 0.
MOSTLY_0 = "drop_new early_drop held left_entry left_template left_untracked".split()


def fields(line):
    """Return `key=value key="a value"` as a dict; words without = are left out."""
    found = re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)', line)
    return {key: value[1:-1] if value.startswith('"') else value for key, value in found}


def numbers(line):
    """Return the fields of a line, with numbers as int."""
    return {
        key: int(value) if re.fullmatch(r"-?\d+", value) else value
        for key, value in fields(line).items()
    }


def steady(read):
    """Call read() until no commit overtakes it (ESTALE); return its value."""
    while True:
        try:
            return read()
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise


def write_once(fd, text):
    """Make one write(2) of a page at most; return the errno, 0 where all of it was taken."""
    data = text if isinstance(text, bytes) else text.encode()
    try:
        done = os.write(fd, data)
    except OSError as error:
        return error.errno
    assert done == len(data), f"write took {done} of {len(data)} bytes"
    return 0


class Refused(AssertionError):
    """A write was refused that should be taken."""


class OpenFile:
    """An open file of ctskip, for several writes or reads of one opener."""

    def __init__(self, name="rules", flags=os.O_RDONLY):
        self.fd = os.open(SYSFS / name, flags | os.O_CLOEXEC)

    def write(self, text):
        """Make one write(2) of a page at most; return the errno, 0 where all of it was taken."""
        return write_once(self.fd, text)

    def read(self, size=65536):
        """Return the text of one read(2); OSError as the kernel gives it."""
        return os.read(self.fd, size).decode()

    def close(self):
        """Close it, where it is open."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Ctskip:
    """The module and its files."""

    # the module

    @staticmethod
    def loaded():
        """Tell whether the module is loaded."""
        return Path("/sys/module/ctskip").exists()

    @classmethod
    def load(cls, **parameters):
        """Load it with parameters (rules="a b", mode=...); return the errno, 0 for success.

        No insmod or modprobe takes part: test_module.py tests their way with a command line.
        """
        return cls.load_image(MODULE.read_bytes(), **parameters)

    @staticmethod
    def load_image(image, **parameters):
        """Load it from the bytes of its file; return the errno, 0 for success."""
        text = " ".join(
            f'{k}="{v}"' if re.search(r"\s", str(v)) else f"{k}={v}" for k, v in parameters.items()
        )
        return init_module(image, text)

    @staticmethod
    def unload(timeout=5.0 * SLOWER):
        """Unload it; return the errno, 0 for success.

        Where the module is in use it tries again until the timeout: the kernel's own uses are short.
        """
        end = time.monotonic() + timeout
        while number := delete_module("ctskip"):
            if number not in (errno.EAGAIN, errno.EWOULDBLOCK) or time.monotonic() > end:
                return number
            time.sleep(0.02)
        return 0

    # its files

    @staticmethod
    def read(name):
        """Return a whole file; OSError as the kernel gives it (ESTALE: a commit overtook the read)."""
        fd = os.open(SYSFS / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return b"".join(iter(lambda: os.read(fd, 65536), b"")).decode()
        finally:
            os.close(fd)

    @staticmethod
    def write(text, name="rules"):
        """Open a file and make one write(2); return the errno, 0 where all of it was taken."""
        with OpenFile(name, os.O_WRONLY) as file:
            return file.write(text)

    def snapshot(self):
        """Return the files that a refused write must leave as they were, by name."""
        return {name: self.read(name) for name in ("rules", "counters", "mode", "generation")}

    def refused(self, text, name="rules"):
        """Write; it must fail and change nothing. Return the name of the errno."""
        before = self.snapshot()
        number = self.write(text, name)
        assert number, f"taken: {text!r}"
        assert self.snapshot() == before
        return errno.errorcode[number]

    def commit(self, *lines):
        """Write commands, one a line, in one write that must be taken."""
        number = self.write("".join(f"{line}\n" for line in lines))
        if number:
            raise Refused(f"{errno.errorcode[number]} for {lines!r}\n{self.read('last_error')}")

    def add(self, *rules):
        """Add rules at the end; return the id of the last."""
        self.commit(*(f"add {rule}" for rule in rules))
        return self.counters()[-1]["id"]

    def load_table(self, text, piece=4096):
        """Write `load`, the text and `commit`, in writes of at most `piece` bytes, as cat does."""
        data = f"load\n{text.rstrip()}\ncommit\n".encode()
        fd = os.open(SYSFS / "rules", os.O_WRONLY | os.O_CLOEXEC)
        try:
            for start in range(0, len(data), piece):
                os.write(fd, data[start : start + piece])
        finally:
            os.close(fd)

    def reset(self):
        """Delete all rules, end a `load` under way, set mode skip."""
        self.write("abort\n")
        self.commit("flush")
        self.mode = "skip"

    @property
    def mode(self):
        """The mode, a word."""
        return self.read("mode").strip()

    @mode.setter
    def mode(self, value):
        number = self.write(f"{value}\n", "mode")
        assert number == 0, errno.errorcode[number]

    @property
    def generation(self):
        """The number of the table in force."""
        return int(self.read("generation"))

    def text(self, name):
        """Return a whole file; read it again where a commit or a change of namespaces overtook it."""
        return steady(lambda: self.read(name))

    def header(self):
        """Return the first line of `rules` as a dict."""
        return numbers(self.text("rules").split("\n", 1)[0])

    def rules(self):
        """Return the canonical rules as text, in order."""
        return [line for line in self.text("rules").splitlines() if not line.startswith("#")]

    def counters(self):
        """Return a dict for each rule, in order: id, packets, bytes, held, observed, tag, rule."""
        return [numbers(line) for line in self.text("counters").splitlines()]

    def counter(self, rule_id):
        """Return the counters of one rule."""
        return next(c for c in self.counters() if c["id"] == rule_id)

    def netns(self, ns=None):
        """Return a dict for each namespace, or the dict of one (a Netns): all by their numbers.

        Counts that a line does not have are 0.
        """
        init = os.stat("/proc/1/ns/net").st_ino
        found = [numbers(line) for line in self.text("netns").splitlines()]
        for line in found:
            line["netns"] = init if line["netns"] == "init" else line["netns"]
            for key in MOSTLY_0:
                line.setdefault(key, 0)
        if ns is None:
            return found
        return next(line for line in found if line["netns"] == ns.inode)

    def stats(self):
        """Return the totals as one dict."""
        return numbers(self.text("stats"))

    def last_error(self):
        """Return the report of the last refused write as a dict; it is empty before the first.

        There is a key for each field. But "text" is the whole report, and "excerpt" the line that
        the report is about (its field `text=`).
        """
        text = self.read("last_error")
        found = dict(line.split("=", 1) for line in text.splitlines())
        for key in ("line", "column", "generation"):
            if key in found:
                found[key] = int(found[key])
        return {**found, "excerpt": found.get("text", ""), "text": text} if found else {}
