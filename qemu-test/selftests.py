#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Run the kernel's own netfilter selftests in guests: without ctskip, with it, and with rules in it.

    qemu-test/selftests.py [--kernel LINE] [NAME ...]

They are those of the kernel's source package, unchanged, with their own helpers compiled. Each runs in
every state of STATES, in one of its GUESTS, and must give in all of them what it gives without the
module; the guest's part is guest/run_selftests.py. One that fails, if only in part, or by its own words has
missed its moment (XFAIL), is run again, RUNS times at most: their own timeouts are short for an emulated
guest on a busy host, although they are told that it is slow. One that failed OFTEN times more than without
the module is not the same, whatever its last run gave. Prints what came of each, and the seconds that its
runs took in each state; exits nonzero where a state made a difference, or one passes in none and is not
EXCUSED: that would show nothing.
"""

import argparse
import itertools
import json
import os
import re
import shutil
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "scripts")]

import cache  # noqa: E402
import chroot  # noqa: E402
import guest_image  # noqa: E402
import host  # noqa: E402
import kernel  # noqa: E402
import module  # noqa: E402
import run  # noqa: E402

# All that are there but nft_audit, nft_concat_range, nft_concat_range_perf, bridge_brouter and nft_offload,
# which have nothing to do with conntrack or PRE_ROUTING, and nf_conntrack_packetdrill: Debian has no
# packetdrill.
TESTS = """
    conntrack_icmp_related conntrack_tcp_unreplied conntrack_clash conntrack_reverse_clash
    conntrack_resize conntrack_vrf conntrack_dump_flush conntrack_ipip_mtu conntrack_sctp_collision
    br_netfilter br_netfilter_queue nft_nat nft_nat_zones nf_nat_edemux nft_zones_many nft_flowtable
    nft_queue nft_synproxy nft_conntrack_helper nft_fib nft_fib_nexthop nft_interface_stress nft_meta
    nft_tproxy_tcp nft_tproxy_udp rpath vxlan_mtu_frag xt_string ipvs
""".split()

# Those that may not pass in any state, and why.
EXCUSED = {
    "conntrack_clash": "two CPUs' packets clash by chance, and emulated ones take turns",
}

# How the module is: not there, with no rule, with rules that no packet of the tests matches.
STATES = {"without": None, "empty": 0, "rules": 1000}
WITH_MODULE = [state for state, rules in STATES.items() if rules is not None]
RUNS, OFTEN = 3, 2
GUESTS = 3  # for each state, one after the other: with one that dies, only its part is lost
# The exit status of one that lacks something; of one whose moment has not come, as two CPUs' packets that
# clash: by its own words that is no failure.
SKIP, MISSED = 4, 2
SECONDS = 2 * 3600  # of one guest, on a busy host

# What the selftests want beside the suite's tools; the last line is to compile their helpers.
PACKAGES = """
    iperf3 jq libmnl0 netcat-openbsd psmisc tcpdump
    gcc libc6-dev libmnl-dev
""".split()

# Parts of tools/testing/selftests that they use.
PARTS = (
    "kselftest.h",
    "kselftest_harness.h",
    "kselftest",
    "net/lib.sh",
    "net/lib",
    "net/netfilter",
)
PLACE = "opt/selftests"

# Their own Makefile would want the kernel's headers installed from a tree that is built nowhere else.
COMPILE = f"""
set -eu
cd /{PLACE}/net/netfilter
for source in *.c; do
    gcc -O2 -Wall -D_GNU_SOURCE= -I/{PLACE} -o "${{source%.c}}" "$source" -lmnl -lpthread
done
"""


def root_fs(tree):
    """The folder with the selftests' root.squashfs and busybox."""
    packages, mirror = [*guest_image.PACKAGES, *PACKAGES], chroot.debian_mirror()

    def make(new):
        chroot.bootstrap(new, [guest_image.SUITE], packages, mirror, chroot.apt_options())
        root = chroot.Chroot(new / "root")
        for part in PARTS:
            source, place = tree / "tools/testing/selftests" / part, root.root / PLACE / part
            place.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if source.is_dir() else shutil.copy2
            copy(source, place)
        for script in (COMPILE, guest_image.FINISH):
            root.run(["sh", "-c", script], log="selftests")
        shutil.copy(root.root / "bin/busybox", new / "busybox")
        guest_image.squashfs(new / "root.squashfs", root.root)
        cache.remove(root.root)

    key = (guest_image.SUITE, packages, mirror, PARTS, COMPILE, guest_image.FINISH, tree.name)
    return cache.entry("guest-selftests", *key, make=make)


def no_match():
    """Rules whose addresses no selftest uses (of those for documentation)."""
    number = STATES["rules"]
    for n in range(number // 4):
        yield f"tcp,udp dst=203.0.113.{n} dport={n + 1}"
        yield f"udp src=203.0.113.0/24 sport={n + 1000}-{n + 2000} local=dst"
        yield f"icmp,tcp src=192.0.2.{n} any nat=ok"
        yield f"ip6 dst=2001:db8:{n:x}::/48 any"


def best(runs):
    """The best of a test's runs."""
    return min(runs, key=lambda one: (failures([one]), one["code"], one["failed"], one["missed"]))


def verdict(one):
    """What came of a run, in words that must be the same in every state.

    A part that has missed its moment would have passed or failed, by chance in one state only.
    """
    word = {0: "pass", MISSED: "pass", SKIP: "skip", 124: "no end"}.get(one["code"])
    counts = {**one, "passed": one["passed"] + one["missed"]}
    parts = [f"{counts[part]} {part}" for part in ("passed", "skipped", "failed") if counts[part]]
    return ": ".join(filter(None, [word or f"fail ({one['code']})", ", ".join(parts)]))


def lasting(line):
    """What a line says each time: without the random ends of namespaces' names, counts and times."""
    line = re.sub(r"\b([a-z]\w*)-\w{6}\b", r"\1", line.strip())
    return re.sub(r"(?<![\w.:/])\d+(?:\.\d+)?(?=(?:m?s)?\b)(?![.:/]\w)", "N", line)


def agrees(one, without):
    """Whether a run gave what one without the module did.

    Parts that fail there although the whole passes are too slow for their own timeouts, so that some
    may pass here by chance; none may fail that passes there.
    """
    better = without["failed"] - one["failed"]
    as_slow = {**one, "passed": one["passed"] - better, "failed": without["failed"]}
    known = set(map(lasting, one["fails"])) <= set(map(lasting, without["fails"]))
    return known and better >= 0 and verdict(as_slow) == verdict(without)


def failures(runs):
    return sum(one["code"] not in (0, MISSED, SKIP) for one in runs)


def table(results, names):
    """The results as text, the tests that a state made a difference to, and those that pass nowhere."""
    lines, differ, nowhere = [], [], []
    for name in names:
        runs = {state: results.get(state, {}).get(name, []) for state in STATES}
        found = {state: verdict(best(each)) if each else "not run" for state, each in runs.items()}
        often = max(map(failures, runs.values())) >= failures(runs["without"]) + OFTEN
        missed = [state for state, each in runs.items() if each and best(each)["missed"]]
        # What one state misses is chance; what each misses that has the module is not.
        same = all(runs.values()) and missed != WITH_MODULE and not often
        same = same and all(agrees(best(each), best(runs["without"])) for each in runs.values())
        took = ", ".join("+".join(f"{one['seconds']}" for one in each) for each in runs.values())
        text = found["without"] if len(set(found.values())) == 1 else f"{found}"
        text = text if same else f"DIFFERS: {text}"
        text += f"; in part not seen, by chance: {', '.join(missed)}" if missed else ""
        lines.append(f"{name:{max(map(len, names))}}  {text} ({took} s)")
        if not same:
            differ.append(name)
        elif not found["without"].startswith("pass") or len(missed) == len(STATES):
            nowhere.append(name)
    return "\n".join(lines), differ, nowhere


def main(argv):
    """Boot the guests, and judge what they have found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--kernel", help="the kernel line, e.g. 7.3; 7.3-debug: its debug kernel")
    parser.add_argument("--module", type=Path, help="a ctskip.ko that is built already")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="the tests; all where none is named"
    )
    options = parser.parse_args(argv)
    names = options.names or TESTS

    host.need("qemu-system-x86_64", "cpio", "depmod", "mksquashfs")
    stock = kernel.get(options.kernel)
    built = options.module or module.build(options.kernel)
    root, mods = root_fs(stock.tree()), guest_image.modules(stock.release, stock.modules)
    initrd = guest_image.initramfs(root, mods) / "base.cpio"
    images = root / "root.squashfs", mods / "modules.squashfs", initrd
    slower = run.DEBUG_SLOWER if stock.is_debug else 1
    # br_netfilter has code patched under load: neither of two guests that ran it otherwise outlived that.
    accel = run.accelerator(stock.vmlinuz, initrd).replace("tcg", run.ONE_THREAD)

    def start(state, tests):
        """A guest that runs these tests in that state."""
        rules = None if STATES[state] is None else list(itertools.islice(no_match(), STATES[state]))
        # Their own word for hosts on which 200 MB do not go anywhere within five seconds.
        env = {} if accel == "kvm" else {"KSFT_MACHINE_SLOW": "yes"}
        job = {"tests": tests, "runs": RUNS, "rules": rules, "env": env}
        folder = run.new_run()
        run.fill(folder, built, slower, [])
        (folder / "in/selftests.json").write_text(json.dumps(job))
        cache.say(f"ctskip: Linux {stock.release} in QEMU ({accel}); this run's files: {folder}")
        limit = SECONDS * slower
        return run.start("selftests", accel, stock, images, folder, limit, slower, state)

    results, seen = {state: {} for state in STATES}, dict.fromkeys(STATES, 0)
    wrong, logs = [], []

    def end(state, one):
        """Take what it has found."""
        fault = one.wait()
        found = one.run / "out/results.json"
        result = json.loads(found.read_text()) if found.exists() else {}
        results[state].update(result.get("tests", {}))
        seen[state] += result.get("seen", 0)
        wrong.extend(result.get("wrong", []))
        if one.verdict("selftests", fault):
            wrong.append(f"{state}: the guest did not come to its end")
        logs.append(f"{state}: {one.run}/console.log, {one.run}/out")

    # As many at once as there are CPUs: emulated, each takes one.
    parts = [part for part in (names[first::GUESTS] for first in range(GUESTS)) if part]
    waiting, under_way = list(itertools.product(parts, STATES)), []
    try:
        while waiting or under_way:
            while waiting and len(under_way) < os.cpu_count():
                part, state = waiting.pop(0)
                under_way.append((state, start(state, part)))
            time.sleep(1)
            for state, one in [each for each in under_way if each[1].process.poll() is not None]:
                end(state, one)
                under_way.remove((state, one))
    finally:
        for _, one in under_way:
            one.process.kill()

    # Not of a few: conntrack_dump_flush, for one, sends nothing.
    if not seen["rules"] and not options.names:
        wrong.append("rules: the module has seen no packet")
    text, differ, nowhere = table(results, names)
    for name in nowhere:
        if name in EXCUSED:
            text += f"\nctskip: {name} shows nothing this time: {EXCUSED[name]}"
        else:
            wrong.append(f"{name} shows nothing: it does not pass without the module either")
    wrong += [f"{name} is not the same with the module and without" for name in differ]
    cache.say("\n".join([text, *(f"ctskip: {what}" for what in [*logs, *wrong])]))
    if wrong:
        raise cache.Failed("the selftests do not show that the module leaves them as they were")
    cache.say(f"ctskip: {len(names)} selftests, the same with the module and without")


if __name__ == "__main__":
    cache.entry_point(main)
