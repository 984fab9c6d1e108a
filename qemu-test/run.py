#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Boot a stock Debian kernel with ctskip at hand: run the suite, the demo, or give a prompt.

    qemu-test/run.py test [--kernel LINE] [--guests N] [--boot WORDS] [arguments for pytest ...]
    qemu-test/run.py demo | shell [--kernel LINE] [--boot WORDS]

The guest is the unmodified kernel image (or LINE-debug's debug kernel) with 2 CPUs, under KVM where a
short trial boot proves that it works here, else under emulation. It shares one folder with the host
(9p), a new one for each run:

    in/           what goes in: ctskip.ko, the tests, guest/ (what the guest runs), the documents
    out/          what comes back: status, junit.xml, running (the test under way), a log for each
                  test that failed
    console.log   the kernel's console

Its terminal (/dev/hvc0) is our standard output. A warning, an oops or a hang in the kernel ends the
run, failed, whatever the tests say. `Oops: int3` under emulation is QEMU's (Guest.emulator_failed()): that
guest is started once more, and first-out/, first-console.log are of the first time. What is found after
the tests, such as a leak, is said on the terminal only. The last RUNS_KEPT runs are kept.

With --guests N, N guests run at once, each with its part of the files of tests and a run of its own: a
test mostly waits, and uses one CPU where it does not. How long each file took is kept for the next deal
(see deal.py).
"""

import argparse
import ctypes
import fcntl
import json
import mmap
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = HERE.parent
sys.path.insert(0, str(TOP / "scripts"))

import cache  # noqa: E402
import deal  # noqa: E402
import guest_image  # noqa: E402
import host  # noqa: E402
import kernel  # noqa: E402
import module  # noqa: E402

RUNS_KEPT = 20
MEMORY, DEBUG_MEMORY = "2G", "4G"
TRIAL_SECONDS = 30
TEST_SECONDS = 120  # pytest ends a test that takes longer
STUCK_SECONDS = 300  # and it is ended from outside where the kernel does not let pytest
SUITE_SECONDS = 3000
NO_TESTS = 5  # the status that pytest ends with where none is chosen
DEBUG_SLOWER = 6  # so many times longer may all take on a debug kernel

SPLAT = re.compile(
    r"WARNING: |BUG: |\bOops\b|Kernel panic|general protection fault|refcount_t: |UBSAN: |KASAN: "
    r"|KCSAN: |unregister_netdevice: waiting|possible .*deadlock|circular locking|suspicious RCU"
    r"|list_(add|del) corruption|rcu: INFO: .* (stall|self-detected)|INFO: task .* blocked"
    r"|rust_kernel: panicked|Bad page|corrupted|invoked oom-killer|ODEBUG disabled"
)

SAYS = "the kernel says: "
STUCK = "one test did not end within "
OOPS = SAYS + "Oops"

KERNEL_ARGUMENTS = [
    "console=ttyS0",
    "loglevel=5",
    "panic=-1",
    "oops=panic",
    "panic_on_warn=1",
    # A fast boot. The two last: the host may be busy or pause, and a slow guest is not a stuck one.
    "mitigations=off",
    "cryptomgr.notests",
    "random.trust_cpu=on",
    "no_timer_check",
    "audit=0",
    "apparmor=0",
    "tsc=reliable",
    "nokaslr",
    "raid=noautodetect",
    "rcupdate.rcu_cpu_stall_timeout=300",
    "hung_task_panic=0",
]

# Emulation of all CPUs in turn: slower, and none can run what another is patching (Guest.emulator_failed()).
ONE_THREAD = "tcg, one thread"


def tsc_khz():
    """Return the rate of the host's time-stamp counter, which an emulated guest reads."""
    everything = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=everything)
    page.write(bytes.fromhex("0f31 48c1e220 4809d0 c3"))  # rdtsc; rdx << 32 | rax
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    rdtsc = ctypes.CFUNCTYPE(ctypes.c_uint64)(address)

    def now():
        """Return the time in ns and the counter, of the closest pair of reads."""
        reads = [(time.monotonic_ns(), rdtsc(), time.monotonic_ns()) for _ in range(100)]
        before, count, after = min(reads, key=lambda read: read[2] - read[0])
        return (before + after) / 2, count

    start, first = now()
    time.sleep(0.1)
    end, last = now()
    return round((last - first) * 1e6 / (end - start))


def qemu(accel, vmlinuz, initrd, arguments, console, memory=MEMORY):
    """Return the command line that all guests share."""
    if accel == "kvm":
        machine = ["-accel", "kvm", "-cpu", "host"]
    else:
        # On a busy host, the guest's own calibration was seen to make its clock three times too fast.
        arguments = [*arguments, f"tsc_early_khz={tsc_khz()}"]
        # What `max` has and a test does not need costs time: wider page tables, access checks.
        threads = "single" if accel == ONE_THREAD else "multi"
        machine = ["-accel", f"tcg,thread={threads}", "-cpu", "max,la57=off"]
    return [
        "qemu-system-x86_64",
        *machine,
        "-M",
        "pc,hpet=off,usb=off",
        "-smp",
        "2,sockets=2",  # the table that a kernel without ACPI reads has one CPU of each socket
        "-m",
        memory,
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
        "-nic",
        "none",
        "-kernel",
        str(vmlinuz),
        "-initrd",
        str(initrd),
        "-append",
        " ".join([*KERNEL_ARGUMENTS, *arguments]),
        "-chardev",
        f"file,id=console,path={console}",
        "-serial",
        "chardev:console",
        "-device",
        "virtio-serial-pci",
        "-device",
        "virtconsole,chardev=terminal",
    ]


def accelerator(vmlinuz, initrd):
    """Return `kvm` or `tcg`, tried once per boot of the host: /dev/kvm may be there and not work."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def make(new):
        command = qemu("kvm", vmlinuz, initrd, ["guest=trial"], new / "console.log")
        command += ["-chardev", "stdio,id=terminal"]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TRIAL_SECONDS
            )
            up = b"guest-is-up" in done.stdout
        except subprocess.TimeoutExpired:
            up = False
        (new / "accelerator").write_text("kvm" if up else "tcg")

    found = cache.entry("kvm-trial", boot, os.geteuid(), make=make)
    return (found / "accelerator").read_text()


def new_run():
    """Return a folder for this run, locked as long as we live; remove the oldest that are over."""
    runs = cache.ROOT / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    for old in sorted(runs.iterdir())[: -RUNS_KEPT + 1]:
        if lock(old):
            cache.remove(old)
    run = Path(tempfile.mkdtemp(dir=runs, prefix=time.strftime("%Y%m%d-%H%M%S-")))
    lock(run)
    return run


def lock(folder):
    """Lock a folder until we end; return False where another run has it."""
    try:
        fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, FileNotFoundError):
        return False
    return True


def fill(run, module, slower, arguments):
    """Put into a run's folder what goes into the guest."""
    (run / "out").mkdir()
    ignore = shutil.ignore_patterns("__pycache__", "run.py")
    shutil.copytree(HERE, run / "in", ignore=ignore)
    for document in (TOP / "README.md", *TOP.glob("docs/*.md")):
        copy = run / "in/documents" / document.relative_to(TOP)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(document, copy)
    if module:
        shutil.copyfile(module, run / "in/ctskip.ko")
    size = shutil.get_terminal_size((100, 40))
    environment = {
        "TERM": os.environ.get("TERM", "dumb"),
        "COLUMNS": size.columns,
        "LINES": size.lines,
        "PYTHONUNBUFFERED": 1,
        "SLOWER": slower,
    }
    (run / "in/environment").write_text("".join(f"{k}={v}\n" for k, v in environment.items()))
    colour = "yes" if sys.stdout.isatty() else "no"
    always = [f"--color={colour}", f"--timeout={TEST_SECONDS * slower}"]
    (run / "in/arguments").write_text(json.dumps([*always, *arguments]))


def make_initrd(base, out):
    """Make an initramfs of the cached one and our init, one behind the other."""
    with tempfile.TemporaryDirectory() as work:
        top = Path(work) / "top"
        top.mkdir()
        shutil.copy2(HERE / "guest/init", top / "init")
        guest_image.cpio(top, Path(work) / "init.cpio")
        with open(out, "wb") as stream:
            for part in (base, Path(work) / "init.cpio"):
                stream.write(part.read_bytes())


class Console(threading.Thread):
    """Watches the kernel's console; on a splat, gives the guest some seconds to say it all."""

    def __init__(self, folder, process, seconds, stuck_seconds):
        super().__init__(daemon=True)
        self.path, self.running = folder / "console.log", folder / "out/running"
        self.process, self.fault = process, None
        self.end = time.monotonic() + seconds
        self.seconds, self.stuck_seconds = seconds, stuck_seconds

    def run(self):
        seen = 0
        while self.process.poll() is None:
            time.sleep(0.5)
            seen = self.look(seen)
            if self.test_age() > self.stuck_seconds:
                self.fault = self.fault or f"{STUCK}{self.stuck_seconds} s"
                self.process.kill()
            if time.monotonic() > self.end:
                self.fault = self.fault or f"no end after {self.seconds} s"
                self.process.kill()
        self.look(seen)

    def test_age(self):
        """Return the seconds since the test under way began; 0 where none is."""
        try:
            return time.time() - self.running.stat().st_mtime
        except FileNotFoundError:
            return 0

    def look(self, seen):
        with open(self.path, "rb") as stream:
            stream.seek(seen)
            text = stream.read()
        end = text.rfind(b"\n") + 1
        found = SPLAT.search(text[:end].decode(errors="replace"))
        if found and not self.fault:
            self.fault = SAYS + found.group()
            self.end = min(self.end, time.monotonic() + 10)
        return seen + end


class Guest:
    """A QEMU process with a guest that comes to its end by itself."""

    def __init__(self, command, run, limit, stuck, name):
        self.arguments = command, run, limit, stuck, name
        self.run, self.name = run, name
        out = subprocess.PIPE if name else None  # one alone has our own output
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out)
        self.threads = [Console(run, self.process, limit, stuck)]
        if name:
            self.threads.append(threading.Thread(target=self.relay, daemon=True))
        for thread in self.threads:
            thread.start()

    def relay(self):
        """Print what it prints, line by line, with its name before each."""
        for line in self.process.stdout:
            sys.stdout.write(f"{self.name}: {line.decode(errors='replace').rstrip()}\n")
            sys.stdout.flush()

    def wait(self):
        """Wait for its end; return what was wrong, or None."""
        self.process.wait()
        for thread in self.threads:
            thread.join()
        return self.threads[0].fault

    def emulator_failed(self):
        """Tell whether QEMU made it fail.

        As it emulates several CPUs, one may run a breakpoint that another has put into the kernel's code
        and taken out again (seen with QEMU 7.2): what is there is an instruction. Where the breakpoint is
        there still, or no code at all, somebody runs what is not code: that is a fault like others.
        """
        emulated = "tcg,thread=multi" in self.arguments[0]
        console = (self.run / "console.log").read_text(errors="replace")
        ran = re.search(r"Oops: int3.*?\bCode: (?:[0-9a-f]{2} )*([0-9a-f]{2}) <", console, re.S)
        return emulated and ran is not None and ran[1] != "cc"

    def again(self):
        """Return a new guest with the same task; keep what came back from this one."""
        for name in ("out", "console.log"):
            (self.run / name).rename(self.run / f"first-{name}")
        (self.run / "out").mkdir()
        (self.run / "console.log").touch()
        return Guest(*self.arguments)

    def status(self):
        """Return the exit status of the guest's program; None where the guest ended before it."""
        status = self.run / "out/status"
        return int(status.read_text()) if status.exists() else None

    def verdict(self, mode, fault):
        """Say what was wrong, and where more is; return the exit status."""
        code = self.status()
        if fault is None and code is None:
            fault = f"the guest ended before the {mode} did"
        if fault:
            tail = (self.run / "console.log").read_text(errors="replace").splitlines()[-60:]
            cache.say("\n".join(tail))
            running = self.run / "out/running"
            if running.exists():
                fault += f"\nctskip: the test under way: {running.read_text()}"
            cache.say(f"ctskip: {fault}")
            code = code or 1
        if code == NO_TESTS:
            cache.say("ctskip: no test is chosen by these words")
        elif code:
            cache.say(f"ctskip: console: {self.run}/console.log")
            if mode == "test":
                cache.say(f"ctskip: logs of the failed tests: {self.run}/out")
        return code


def command(mode, accel, stock, images, run, boot=""):
    """Return the command line of a guest, without its terminal; make its initrd in `run`.

    `boot`: more words for its kernel.
    """
    root, modules, base = images
    initrd, console = run / "initrd", run / "console.log"
    make_initrd(base, initrd)
    console.touch()
    memory = DEBUG_MEMORY if stock.is_debug else MEMORY
    words = qemu(accel, stock.vmlinuz, initrd, [f"guest={mode}", *boot.split()], console, memory)
    for image in (root, modules):
        words += ["-drive", f"file={image},format=raw,if=virtio,readonly=on"]
    words += ["-virtfs", f"local,path={run},mount_tag=host,security_model=none,multidevs=remap"]
    return words


def shell(words):
    """Run a guest with our terminal; it ends when its shell does."""
    words += ["-chardev", "stdio,id=terminal,mux=on,signal=off", "-mon", "chardev=terminal"]
    if subprocess.run(words).returncode:
        raise cache.Failed("the guest did not end well")


def start(mode, accel, stock, images, run, limit, slower, name="", boot=""):
    """Return a started guest that comes to its end by itself; with a name, one of several."""
    words = command(mode, accel, stock, images, run, boot)
    words += ["-chardev", "stdio,id=terminal,signal=off"]
    return Guest(words, run, limit, STUCK_SECONDS * slower, name)


def finish(guests):
    """Wait for the end of all guests; return what was wrong with each. Run those again that QEMU made fail."""
    try:
        faults = [one.wait() for one in guests]
        for number, one in enumerate(guests):
            if faults[number] == OOPS and one.emulator_failed():
                cache.say(f"ctskip: QEMU ran into code that was being patched; again: {one.run}")
                guests[number] = one.again()
                faults[number] = guests[number].wait()
                if faults[number] == OOPS and guests[number].emulator_failed():
                    faults[number] = "QEMU ran into code that was being patched, twice"
        return faults
    finally:
        for one in guests:
            one.process.kill()


def test_files():
    """Return the size of each file of tests in bytes, by its name."""
    return {path.name: path.stat().st_size for path in HERE.glob("tests/test_*.py")}


def keep_seconds(of_kind, guests, parts):
    """Keep how long each file took, in the guests whose tests all passed: a failure may take any time."""
    for one, part in zip(guests, parts, strict=True):
        if one.status() == 0:
            deal.keep(of_kind, deal.measured(one.run / "out/junit.xml", part))


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("mode", choices=["test", "demo", "shell"])
    parser.add_argument("--kernel", help="the kernel line, e.g. 7.3; 7.3-debug: its debug kernel")
    parser.add_argument("--module", type=Path, help="a ctskip.ko that is built already")
    parser.add_argument("--no-module", action="store_true", help="a guest without ctskip")
    parser.add_argument("--accel", choices=["kvm", "tcg"], help="do not find out")
    parser.add_argument("--limit", type=int, help="seconds until the guest is ended")
    parser.add_argument("--boot", default="", help="more words for the kernel's command line")
    parser.add_argument("--guests", type=int, help="deal all files of tests to so many, at once")
    options, rest = parser.parse_known_args(argv)
    if (rest or options.guests) and options.mode != "test":
        parser.error(f"{options.mode} takes no arguments, and one guest")
    if options.mode == "shell" and not sys.stdin.isatty():
        raise cache.Failed("a shell in the guest needs a terminal")

    host.need("qemu-system-x86_64")
    stock = kernel.get(options.kernel)
    built = None
    if not options.no_module:
        built = options.module or module.build(options.kernel)
    images = guest_image.get(stock.release, stock.modules)
    accel = options.accel or accelerator(stock.vmlinuz, images[2])
    slower = DEBUG_SLOWER if stock.is_debug else 1
    limit = options.limit or SUITE_SECONDS * slower

    def folder(part=()):
        made = new_run()
        fill(made, built, slower, [*part, *rest])
        cache.say(f"ctskip: Linux {stock.release} in QEMU ({accel}); this run's files: {made}")
        return made

    if options.mode == "shell":
        return shell(command("shell", accel, stock, images, folder(), options.boot))
    of_kind = deal.kind(stock.line, accel, rest)
    parts = [[]]
    if options.guests:
        parts = deal.deal(deal.estimate(test_files(), of_kind), options.guests)
    guests = []
    for number, part in enumerate(parts, 1):
        name = f"guest {number}" if options.guests else ""
        place = folder(part)
        guests.append(
            start(options.mode, accel, stock, images, place, limit, slower, name, options.boot)
        )
    faults = finish(guests)
    if options.guests:
        keep_seconds(of_kind, guests, parts)
    sys.exit(max(one.verdict(options.mode, f) for one, f in zip(guests, faults, strict=True)))


if __name__ == "__main__":
    cache.entry_point(main)
