# SPDX-License-Identifier: GPL-2.0
"""The debug kernel of a line: built from the stock kernel's source package, by clang.

Its options are, each overriding the ones before: tinyconfig; the stock kernel's own netfilter
options, so that all is there that the suite finds on the stock kernel; the kernel's debug.config;
what its netfilter selftests ask for; and qemu-test/debug.config.

    debug_kernel.get(stock)     the debug kernel of a stock kernel; all scripts take it as they take that
"""

import contextlib
import os
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cache
import chroot
import stock_kernel

FRAGMENT = chroot.CHECKOUT / "qemu-test/debug.config"
CHROOT = "trixie-clang"
# Behind the name of a line: its debug kernel.
DEBUG = "-debug"
# In the source; they come before the fragment.
FRAGMENTS = ("kernel/configs/debug.config", "tools/testing/selftests/net/netfilter/config")
# The stock kernel's options that are taken over.
TAKEN_OVER = re.compile(
    r"CONFIG_(NF_|NFT_|NETFILTER|IP_NF_|IP6_NF_|IP_SET|IP_VS|BRIDGE|NET_ACT_CT|NET_CLS_ACT)\w*=.*"
)
PROGRESS_SECONDS = 30


@dataclass(frozen=True)
class DebugKernel(stock_kernel.Kernel):
    """A kernel of our own that is full of checks."""

    @property
    def is_debug(self) -> bool:
        """Whether it is a debug kernel."""
        return True

    @property
    def vmlinuz(self) -> Path:
        """The kernel as an ELF file: QEMU starts that as well."""
        return self.folder / "tree/vmlinux"

    @property
    def chroot(self) -> chroot.Chroot:
        """The chroot with its compilers."""
        return chroot.get(CHROOT)

    def make_arguments(self) -> list[str]:
        """Return the make arguments of a build that agrees with it."""
        return make_arguments(self.release)

    def tree(self) -> Path:
        """Return the tree it was built in."""
        return self.folder / "tree"


def make_arguments(release: str) -> list[str]:
    """Return the make arguments of a debug kernel of that release."""
    return ["LLVM=1", "LOCALVERSION=", f"KERNELRELEASE={release}", f"-j{os.cpu_count()}"]


def get(stock: stock_kernel.Kernel) -> DebugKernel:
    """Return the debug kernel of a stock kernel's source; build it first where it is not there."""
    release = re.match(r"[\d.]+", stock.release)[0] + DEBUG
    config = "\n".join(
        line for line in stock.config.read_text().splitlines() if TAKEN_OVER.fullmatch(line)
    )
    where = chroot.get(CHROOT)

    def make(new: Path) -> None:
        tree = new / "tree"
        tree.mkdir()
        stock_kernel.unpack_source(stock, where, tree)
        configure(where, tree, config, release)
        build(where, new, release)

    folder = cache.entry(
        f"kernel-{stock.line}{DEBUG}",
        *(stock.version, release, config, FRAGMENTS, *asked_for(FRAGMENT.read_text())),
        *(make_arguments(release)[:-1], where.root.parent.name),
        make=make,
    )
    return DebugKernel(f"{stock.line}{DEBUG}", release, stock.version, folder)


def configure(where: chroot.Chroot, tree: Path, taken_over: str, release: str) -> None:
    """Make the .config, and see that all of the fragment came through."""
    make = ["make", "-C", chroot.TREE, *make_arguments(release)]
    binds = {tree: chroot.TREE}
    where.run([*make, "tinyconfig"], log="debug-kernel", binds=binds)
    config = tree / ".config"
    parts = [config.read_text(), taken_over]
    parts += [(tree / name).read_text() for name in FRAGMENTS]
    config.write_text("\n".join([*parts, FRAGMENT.read_text()]))
    where.run([*make, "olddefconfig"], log="debug-kernel", binds=binds)
    if missing := sorted(set(asked_for(FRAGMENT.read_text())) - set(given(config.read_text()))):
        text = ", ".join(f"{name}={value}" for name, value in missing)
        raise cache.Failed(f"the debug kernel cannot have what {FRAGMENT.name} asks for: {text}")


def asked_for(fragment: str) -> Iterator[tuple[str, str]]:
    """Yield the options of a fragment; `n` is the value of one that is not to be set."""
    for name, value in re.findall(r"^(CONFIG_\w+)=(.*)$", fragment, re.MULTILINE):
        yield name, value
    for name in re.findall(r"^# (CONFIG_\w+) is not set$", fragment, re.MULTILINE):
        yield name, "n"


def given(config: str) -> Iterator[tuple[str, str]]:
    """Yield the options of a .config, also those that are not even asked: they are not set."""
    options = dict(asked_for(config))
    yield from options.items()
    for name, value in asked_for(FRAGMENT.read_text()):
        if value == "n" and name not in options:
            yield name, "n"


def build(where: chroot.Chroot, new: Path, release: str) -> None:
    """Build the kernel and its modules in NEW/tree; modules go to NEW/usr."""
    inside = "/usr/src/new"
    binds = {new / "tree": chroot.TREE, new: inside}
    make = ["make", "-C", chroot.TREE, *make_arguments(release)]
    with cache.step(f"building Linux {release}, which takes about half an hour"), progress():
        where.run([*make, "vmlinux", "modules"], log="debug-kernel", binds=binds)
    install = [*make, f"INSTALL_MOD_PATH={inside}/usr", "modules_install"]
    where.run(install, log="debug-kernel", binds=binds)


@contextlib.contextmanager
def progress() -> Iterator[None]:
    """Say now and then how many files of the kernel are compiled."""
    log, done = cache.log_path("debug-kernel"), threading.Event()
    start, began = log.stat().st_size, time.monotonic()

    def watch() -> None:
        while not done.wait(PROGRESS_SECONDS):
            with log.open(errors="replace") as text:
                text.seek(start)
                files = re.findall(r"^  (?:CC|AS|RUSTC)\b.* (\S+)$", text.read(), re.MULTILINE)
            if files:
                seconds = time.monotonic() - began
                cache.say(f"ctskip:   {seconds:.0f} s, {len(files)} files, now {files[-1]}")

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
