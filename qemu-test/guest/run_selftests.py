#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Run the kernel's netfilter selftests in the guest, in one state of the module; see ../selftests.py.

What each said goes to /host/out/NAME.log, what came of it to /host/out/results.json.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

OUT = Path("/host/out")
PLACE = Path("/opt/selftests/net/netfilter")
MODULE = Path("/root/ctskip.ko")
SYSFS = Path("/sys/kernel/ctskip")
TIMEOUT = 1800  # their own, see the file `settings` beside them
RUNNING = OUT / "running"
TAINTED = Path("/proc/sys/kernel/tainted")
UNTAINTED = Path("/tmp/untainted")


# What a line that tells of one of its parts begins with, in the words that one or the other uses.
PARTS = {
    "passed": r"(?:PASS|OK|ok)\b",
    "skipped": r"SKIP\b",
    "missed": r"XFAIL\b",
    "failed": r"(?:FAIL|ERROR|not ok)\b",
}


def run(name, log, env):
    """One run of one test, in this environment.

    Its exit status (124 where it did not end), seconds, how many of its parts passed, were skipped, ...,
    and which ones failed, in their words.
    """
    start = time.monotonic()
    with log.open("a") as out:
        out.write(f"--- {name}\n")
        out.flush()
        begin = out.tell()
        cmd = ["timeout", "-k", "30", str(TIMEOUT), f"./{name}.sh"]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": out}
        process = subprocess.Popen(cmd, cwd=PLACE, env=env, **quiet)
        while process.poll() is None:
            time.sleep(0.2)
            RUNNING.write_text(name)  # the host: it is not stuck
        out.write(f"--- exit {process.returncode}\n")
    RUNNING.unlink()
    said = log.read_bytes()[begin:].decode(errors="replace")
    parts = {part: len(re.findall(f"(?m)^{word}", said)) for part, word in PARTS.items()}
    fails = re.findall(f"(?m)^{PARTS['failed']}.*", said)
    seconds = round(time.monotonic() - start)
    return {"code": process.returncode, "seconds": seconds, **parts, "fails": fails}


def load(rules):
    """Load the module, with these rules; return how that taints the kernel, which is hidden.

    A module from out of the tree does, and br_netfilter would not run then.
    """
    subprocess.run(["insmod", MODULE], check=True)
    taint = TAINTED.read_text()
    UNTAINTED.write_text("0\n")
    subprocess.run(["mount", "--bind", UNTAINTED, TAINTED], check=True)
    text = "".join(f"{rule}\n" for rule in ["load", *rules, "commit"]).encode()
    with open(SYSFS / "rules", "wb", buffering=0) as file:
        for start in range(0, len(text), 4096):
            file.write(text[start : start + 4096])
    return taint


def packets():
    """How many packets the module has seen."""
    return sum(map(int, re.findall(r"\bseen=(\d+)", (SYSFS / "stats").read_text())))


def unload(rules, taint):
    """Unload it; what is wrong with what it has counted, or tainted the kernel since."""
    subprocess.run(["umount", TAINTED], check=True)
    if TAINTED.read_text() != taint:
        yield f"tainted was {taint.strip()}, is {TAINTED.read_text().strip()}"
    if rules:
        counters = (SYSFS / "counters").read_text().splitlines()
        if len(counters) != len(rules):
            yield f"{len(rules)} rules were loaded, {len(counters)} are there"
        matched = [line for line in counters if not re.search(r"\bpackets=0\b.*\bheld=0\b", line)]
        if matched:
            yield f"rules that should match nothing did: {matched[:3]}"
    subprocess.run(["rmmod", "ctskip"], check=True)


def main():
    job = json.loads(Path("/root/selftests.json").read_text())
    rules = job["rules"]
    results, wrong, seen = {}, [], 0

    def tell():
        """What is known so far: one of the tests may end the guest."""
        found = {"tests": results, "wrong": wrong, "seen": seen}
        (OUT / "results.json").write_text(json.dumps(found))

    if rules is not None:
        taint = load(rules)
    for name in job["tests"]:
        runs = results[name] = []
        for _ in range(job["runs"]):
            runs.append(run(name, OUT / f"{name}.log", {**os.environ, **job["env"]}))
            print(f"{name}: {runs[-1]}", flush=True)
            last = runs[-1]
            if last["code"] in (0, 4) and not last["missed"] and not last["failed"]:
                break
        tell()
    if rules is not None:
        seen = packets()
        wrong += unload(rules, taint)
    tell()
    return 0


if __name__ == "__main__":
    sys.exit(main())
