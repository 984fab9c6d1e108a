#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Run the suite in the guest, and after it look for what it may have left behind.

Exit status: pytest's own; 9 where the tests passed and something was left behind.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

LEFT_BEHIND = 9

# Bits of /proc/sys/kernel/tainted: a bad page, an oops, a warning, a soft lockup.
FAULTS = 1 << 5 | 1 << 7 | 1 << 9 | 1 << 14

# On a debug kernel: memory that nothing points at.
KMEMLEAK = Path("/sys/kernel/debug/kmemleak")
KMEMLEAK_AGE = 5  # seconds until it looks at what was allocated
BOOT = 'comm "swapper/0", pid 1,'  # who allocated what the kernel lost before it ran any program


def modules():
    return [line.split()[0] for line in Path("/proc/modules").read_text().splitlines()]


def left_behind():
    """Say what is still there: a fault in the kernel's log, the module, namespaces."""
    if int(Path("/proc/sys/kernel/tainted").read_text()) & FAULTS:
        yield "the kernel has warned, see its console"
    if "ctskip" in modules():
        done = subprocess.run(["rmmod", "ctskip"], capture_output=True, text=True)
        if done.returncode:
            yield f"ctskip cannot be unloaded: {done.stderr.strip()}"
            return
    named = os.listdir("/run/netns")
    if named:
        yield f"namespaces left in /run/netns: {' '.join(named)}"
    module = Path("/root/ctskip.ko")
    if not module.exists():
        return
    # A namespace that a reference keeps alive shows in no other list of the kernel: the module,
    # loaded now, sees every one that is not gone.
    subprocess.run(["insmod", str(module)], check=True)
    deadline = time.monotonic() + 20
    while True:
        lines = Path("/sys/kernel/ctskip/netns").read_text().splitlines()
        if len(lines) <= 1:
            break
        if time.monotonic() > deadline:
            yield "network namespaces that did not go:\n" + "\n".join(lines)
            break
        time.sleep(0.2)
    subprocess.run(["rmmod", "ctskip"], check=True)


def scan():
    """Have kmemleak look. It tells of an object that it finds so twice, and not changed meanwhile.

    To look before the suite as well, and have it forget what it finds, takes a minute for nothing.
    """
    for _ in range(2):
        KMEMLEAK.write_text("scan\n")
    parts = re.split(r"(?m)^(?=unreferenced)", KMEMLEAK.read_text())
    return [part for part in parts if part and BOOT not in part]


def leaks():
    """What a debug kernel finds leaked: what it says of one object each. Elsewhere, nothing.

    While it looks, a pointer may be on its way from one place to another: it is to find it later too.
    """
    if not KMEMLEAK.exists():
        return []
    time.sleep(KMEMLEAK_AGE + 1)
    return scan() and scan()


def not_watching():
    """Say which of a debug kernel's checks has turned itself off."""
    lockdep = Path("/proc/lockdep_stats")
    if lockdep.exists() and not re.search(r"(?m)^ *debug_locks: +1$", lockdep.read_text()):
        yield "lockdep is off, see the console"


def main():
    import pytest

    print(f"guest up after {time.clock_gettime(time.CLOCK_BOOTTIME):.1f} s", flush=True)
    arguments = json.loads(Path("/root/arguments").read_text())
    os.chdir("/root/tests")
    status = int(pytest.main(["--junitxml=/host/out/junit.xml", *arguments]))
    print(f"tests done after {time.clock_gettime(time.CLOCK_BOOTTIME):.1f} s", flush=True)
    for text in [*left_behind(), *leaks(), *not_watching()]:
        print(f"after the suite: {text}", flush=True)
        status = status or LEFT_BEHIND
    return status


if __name__ == "__main__":
    sys.exit(main())
