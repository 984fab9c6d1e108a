# SPDX-License-Identifier: GPL-2.0
"""Rule sets and packets of the test kit's shapes, each made once and cached."""

from collections.abc import Sequence
from pathlib import Path

import image  # noqa: F401  first: it says where the scripts are

import cache
import chroot
from machine import ANSWERS, ICMP, ICMP6, SCTP, Flow
from rules import TRACES, Trial, parse

# Places in the chroot.
HERE = "/usr/src/ctskip"
OUTPUT = "/usr/src/build"

FIRST_TRY = 3  # times as many packets are asked for as are wanted, as not all can be used


class Shapes:
    """The program, built when it is first needed."""

    def __init__(self, where: chroot.Chroot) -> None:
        self.chroot = where
        self.program: Path | None = None
        top = chroot.CHECKOUT
        self.digest = cache.file_digest(*sorted((top / "testkit/src").rglob("*.rs")))

    def lines(self, *arguments: object) -> list[str]:
        """Return what the program prints."""
        words = [str(argument) for argument in arguments]

        def make(new):
            (new / "lines").write_text(self.call(words))

        entry = cache.entry("bench-shapes", self.digest, words, make=make)
        return (entry / "lines").read_text().splitlines()

    def call(self, words: list[str]) -> str:
        if not self.program:
            self.program = self.build()
        binds = {chroot.CHECKOUT: HERE, self.program.parent: OUTPUT}
        return self.chroot.output([f"{OUTPUT}/{self.program.name}", *words], binds=binds)

    def build(self) -> Path:
        """Build the program; by hand, as cargo would ask a registry for what only tests need."""
        out = chroot.CHECKOUT / "build/bench"
        out.mkdir(parents=True, exist_ok=True)
        rustc = ["rustc", "--edition=2021", "-O", "--cap-lints=allow", f"--out-dir={OUTPUT}"]
        core = ["--crate-type=lib", "--crate-name=ctskip_pure", "src/lib.rs"]
        kit = ["--crate-type=lib", "--crate-name=ctskip_testkit", "testkit/src/lib.rs"]
        program = ["--extern=ctskip_testkit", "testkit/src/bin/shapes.rs"]
        uses = ["-L", OUTPUT, "--extern=ctskip_pure"]
        with cache.step("building testkit/src/bin/shapes.rs"):
            for what in (core, [*uses, *kit], [*uses, *program]):
                binds = {chroot.CHECKOUT: HERE, out: OUTPUT}
                self.chroot.run([*rustc, *what], log="bench", binds=binds, cwd=HERE)
        return out / "shapes"

    def rules(self, shape: str, count: int) -> list[str]:
        """Return the texts of rules; none that says `track`, so that what matches is skipped."""
        return [line.removeprefix("track ") for line in self.lines("rules", shape, count)]

    def packets(self, shape: str, count: int, wanted: int, what: str) -> list[Flow]:
        """Return packets that match, or miss; only such as conntrack can track."""
        lines = self.lines("trace", shape, count, wanted * FIRST_TRY, what)
        flows = [flow(line) for line in lines]
        return [f for f in flows if trackable(f)][:wanted]

    def trial(
        self, shape: str, count: int, wanted: int, kinds: Sequence[str] = ("match", "miss")
    ) -> Trial:
        """Return rules and packets of a shape."""
        texts = self.rules(shape, count)
        told = [parse(text) for text in texts] if shape in TRACES else texts
        match, miss = (
            {"trace": self.packets(shape, count, wanted, kind)} if kind in kinds else {}
            for kind in ("match", "miss")
        )
        return Trial(shape, told, match, miss, both_ways=False)


def flow(line: str) -> Flow:
    """Return the packet of a line of a trace."""
    src, dst, *numbers = line.split()
    addresses = (int.from_bytes(bytes(map(int, a.split("."))), "big") for a in (src, dst))
    return Flow(*addresses, *map(int, numbers))


def trackable(packet: Flow) -> bool:
    """Tell whether conntrack makes an entry for such a packet, or for its answer."""
    if packet.proto == ICMP:
        return packet.dport in ANSWERS
    return packet.proto not in (ICMP6, SCTP)
