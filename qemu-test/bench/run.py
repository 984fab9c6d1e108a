#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Count what ctskip and its peers cost.

Quick, to work on the hot path: the empty table and one rule, both directions, beside the floor in C;
10 s with a module that is built already (build/7.3/ctskip.ko by `make modules KERNEL=7.3`):

    qemu-test/bench/run.py [--module path/to/ctskip.ko]
"""

import argparse
import sys
from pathlib import Path

import image  # first: it says where the scripts are
import machine
from machine import UDP, Flow, Orders

import cache
import kernel

DST = 0x0AC80001  # 10.200.0.1
LAST, OTHER = 0x0A090001, 0x0A080001  # 10.9.0.1, 10.8.0.1


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--kernel", default=None, help="the kernel line, e.g. 7.3")
    parser.add_argument("--module", type=Path, help="a ctskip.ko that is built already")
    options = parser.parse_args(argv)
    files = image.get(options.kernel)
    module = options.module or kernel.build(options.kernel)
    o = Orders("one")
    one, miss = Flow(LAST, DST, UDP, 4000, 5000), Flow(OTHER, DST, UDP, 4000, 5000)
    for name, flow in {"match": one, "miss": miss}.items():
        o.packets(name, [flow])
    paths = ["match", "match.answers", "miss", "miss.answers"]
    n = "drop 2000"
    for p in paths:
        o.run(f"warm/{p}", p, "drop 20", "none")
        o.run(f"base/{p}", p, n, "none")
    o.do("echo conntrack >/proc/inject/run")
    for p in ("match", "miss"):
        o.do(f"entries {p} {p}.answers")
    for p in paths:
        o.run(f"est/{p}", p, n, "established")

    def both(system, state="untracked"):
        for p in paths:
            o.run(f"{system}/{p}", p, n, "established" if "miss" in p else state)

    for mode in (0, 1, 2):
        o.do(f"insmod /bench/floor.ko mode={mode}")
        both(f"floor{mode}", "established") if mode == 0 else None
        if mode == 1:
            for p in paths:
                o.run(f"floor1/{p}", p, n, "untracked")
        if mode == 2:
            both("floor2")
        o.do("rmmod floor")
    o.do("insmod /bench/ctskip.ko")
    both("ctskip-empty", "established")
    o.do('echo "udp src=10.9.0.1 dport=5000" >/sys/kernel/ctskip/rules')
    both("ctskip-1")
    o.do("rmmod ctskip")
    a = machine.boot(o, files, [module], cache.log_path("bench-one"))
    for label in o.expected:
        if label.startswith("warm"):
            continue
        system, p = label.split("/")
        b = a.mean(f"base/{p}")
        e = a.mean(f"est/{p}")
        print(f"{label:28} {a.mean(label):9.2f} +base {a.mean(label)-b:8.2f} +est {a.mean(label)-e:8.2f}",
              a.values["run", label]["least"], a.values["run", label]["most"])


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    cache.entry_point(main)
