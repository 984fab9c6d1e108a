# SPDX-License-Identifier: GPL-2.0
"""One guest of the benchmark: what it is told to do, its run, and what it says.

The guest is emulated with a clock that counts instructions, one a nanosecond (-icount), so what it
measures is the same on every host, and however busy that is.
"""

import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

import image  # first: it says where the scripts are

import cache
import guest_image

LIMIT = 1500  # seconds until a guest is ended
CPU = "max,-erms,-fsrm"  # else clearing memory counts an instruction a byte

KERNEL_ARGUMENTS = [
    "console=ttyS0",
    "quiet",
    "loglevel=1",
    "rdinit=/init",
    "panic=-1",
    # No work of the kernel's own, and none that depends on chance.
    "mitigations=off",
    "nokaslr",
    "clocksource=tsc",
    "tsc=reliable",
    "no_timer_check",
    "nowatchdog",
    "audit=0",
    "maxcpus=1",  # one is used; memory is taken for the second that could come
    "cryptomgr.notests=1",
    "random.trust_cpu=on",
]


ICMP, UDP, ICMP6, SCTP = 1, 17, 58, 132

# Types of ICMP that conntrack has entries for, and those that answer them.
ANSWERS = {8: 0, 0: 8, 13: 14, 14: 13, 15: 16, 16: 15, 17: 18, 18: 17}


class Flow(NamedTuple):
    """What a packet is made of; addresses as numbers, an ICMP type as `dport`."""

    src: int
    dst: int
    proto: int
    sport: int
    dport: int

    def answer(self) -> "Flow":
        """Return the packet of the other direction."""
        if self.proto == ICMP:
            return Flow(self.dst, self.src, ICMP, self.sport, ANSWERS[self.dport])
        return Flow(self.dst, self.src, self.proto, self.dport, self.sport)


@dataclass
class Orders:
    """What one guest is to do: its files, its commands, and how packets must fare in its runs."""

    name: str
    files: dict[str, bytes] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    expected: dict[str, str] = field(default_factory=dict)

    def do(self, *commands: str) -> None:
        """Add commands of the shell; functions are in bench/init."""
        self.commands += commands

    def file(self, name: str, content: str | bytes) -> str:
        """Add a file; return its path in the guest."""
        self.files[name] = content.encode() if isinstance(content, str) else content
        return f"/bench/{name}"

    def packets(self, name: str, flows: Iterable[Flow]) -> None:
        """Add a list of packets, and the list of the answers to them, NAME.answers."""
        flows = list(flows)
        self.file(name, records(flows))
        self.file(f"{name}.answers", records(flow.answer() for flow in flows))

    def run(self, label: str, packets: str, command: str, state: str, reference: str = "") -> None:
        """Send a list of packets; behind conntrack, all of them must be in that state."""
        self.expected[label] = state
        self.do(f"run {label} {packets} '{command}' {reference}")


def records(flows: Iterable[Flow]) -> bytes:
    """Return packets as inject.ko takes them."""
    return b"".join(struct.pack(">IIHHB3x", f.src, f.dst, f.sport, f.dport, f.proto) for f in flows)


@dataclass
class Answers:
    """What a guest has found: by kind of line and label, its values."""

    values: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    def mean(self, label: str, kind: str = "run") -> float:
        """Return the instructions a packet of a run."""
        run = self.values[kind, label]
        return run["sum"] / run["packets"]

    def most(self, label: str) -> int:
        """Return how much more than in the run of reference a packet took at most."""
        return self.values["run", label]["most"]


running: set[subprocess.Popen] = set()


def end_all() -> None:
    """End the guests that other threads wait for."""
    for process in list(running):
        process.kill()


def boot(orders: Orders, files: image.Image, module: Path, log: Path) -> Answers:
    """Run a guest to its end, and check what it says."""
    with tempfile.TemporaryDirectory(prefix="ctskip-bench-") as work:
        initrd = Path(work) / "initrd"
        make_initrd(orders, files, module, Path(work) / "top", initrd)
        command = qemu(files.vmlinux, initrd)
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        running.add(process)
        limit = threading.Timer(LIMIT, process.kill)
        limit.start()
        try:
            lines = list(console(process.stdout, log))
        finally:
            limit.cancel()
            process.kill()
            process.wait()
            running.discard(process)
    answers = parse(lines)
    wrong = list(faults(orders, answers))
    if wrong:
        text = "\n  ".join(wrong[:20])
        raise cache.Failed(f"bench, {orders.name}: its checks fail:\n  {text}\n  see {log}")
    return answers


def console(stream: IO[bytes], log: Path) -> Iterator[str]:
    """Yield a guest's lines; log them, each with the seconds since the start."""
    start = time.monotonic()
    with log.open("w") as out:
        for raw in stream:
            line = raw.decode(errors="replace").rstrip()
            out.write(f"{time.monotonic() - start:7.2f} {line}\n")
            out.flush()
            yield line


def make_initrd(orders: Orders, files: image.Image, module: Path, top: Path, out: Path) -> None:
    """The cached initramfs and what this guest is to do, one behind the other."""
    (top / "bench").mkdir(parents=True)
    (top / "init").write_bytes((image.HERE / "init").read_bytes())
    (top / "init").chmod(0o755)
    (top / "bench/ctskip.ko").write_bytes(module.read_bytes())
    for other in files.modules:
        (top / "bench" / other.name).write_bytes(other.read_bytes())
    for name, content in orders.files.items():
        (top / "bench" / name).write_bytes(content)
    (top / "bench/commands").write_text("\n".join(orders.commands) + "\n")
    guest_image.cpio(top, out.with_suffix(".cpio"))
    with out.open("wb") as stream:
        stream.write(files.base.read_bytes())
        stream.write(out.with_suffix(".cpio").read_bytes())


def qemu(vmlinux: Path, initrd: Path) -> list[str]:
    """Return the command that runs a guest; its console is standard output."""
    return [
        "qemu-system-x86_64",
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-net", "none"),
        *("-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off,align=off"),
        *("-M", "pc,hpet=off,usb=off", "-cpu", CPU, "-smp", "2", "-m", "2048"),
        *("-seed", "1", "-rtc", "base=2026-01-01T00:00:00,clock=vm", "-serial", "stdio"),
        *("-kernel", str(vmlinux), "-initrd", str(initrd), "-append", " ".join(KERNEL_ARGUMENTS)),
    ]


def parse(lines: Iterable[str]) -> Answers:
    """Return what the lines of a guest's console say: @@ KIND LABEL KEY=VALUE ..."""
    answers = Answers()
    for line in lines:
        _, found, text = line.partition("@@ ")
        words = text.split()
        if not found or len(words) < 2:
            continue
        kind, label, *pairs = words
        if kind == "with":
            answers.environment[label] = " ".join(pairs)
        elif kind == "fail":
            answers.values[kind, text] = {}
        else:
            values = (pair.split("=") for pair in pairs)
            answers.values[kind, label] = {key: int(value) for key, value in values}
    return answers


def faults(orders: Orders, answers: Answers) -> Iterator[str]:
    """Say what is wrong with a guest's answers."""
    yield from (label for kind, label in answers.values if kind == "fail")
    if "kernel" not in answers.environment:
        yield "it did not get to its end"
        return
    loops = [answers.values["run", f"clock/{count}"]["sum"] for count in (1000, 2000)]
    if loops[1] - loops[0] != 2000:
        yield f"2,000 instructions more took {loops[1] - loops[0]} ticks of its clock"
    for label, state in orders.expected.items():
        run = answers.values.get(("run", label))
        if run is None:
            yield f"{label} was not run"
        elif not run["packets"] or run[state] != run["packets"]:
            states = ", ".join(
                f"{run[name]} {name}"
                for name in ("none", "untracked", "new", "established", "related")
                if run[name]
            )
            yield f"{label}: {run['packets']} packets, all to be {state}: {states}"
