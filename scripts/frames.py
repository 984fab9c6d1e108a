# SPDX-License-Identifier: GPL-2.0
"""The stack frames of the module's functions, read from its code.

A kernel stack has 16 KiB, and a compile of rules goes deep, down to where memory is reclaimed. gcc warns of a
large frame, rustc does not.

    frames.findings(code, most)   what is wrong with an object, as `objdump --disassemble` shows it

A frame is what a function takes of the stack beside its return address: the registers that it saves, and
what it subtracts from the stack pointer.
"""

import re
from collections.abc import Iterator

FUNCTION = re.compile(r"^[0-9a-f]+ <(.+)>:$")
# What is subtracted: a number, or a register for a length that is known at run time only.
SUBTRACTED = re.compile(r"\tsub\s+(\$0x[0-9a-f]+|%\w+),%rsp")
# A negative number is added: -128 fits a byte, where 128 does not.
NEGATIVE = 1 << 63
PUSHED = re.compile(r"\tpush\s")
# rbx, rbp and r12 to r15.
SAVED_REGISTERS = 6
WORD = 8


def frames(code: str) -> Iterator[tuple[str, int | None]]:
    """Yield each function with the bytes of its frame; None where these are no constant."""
    name, pushed, most = "", 0, 0
    for row in code.splitlines():
        if match := FUNCTION.match(row):
            if name:
                yield name, frame(pushed, most)
            name, pushed, most = match[1], 0, 0
        elif PUSHED.search(row):
            pushed += 1
        elif match := SUBTRACTED.search(row):
            length = int(match[1][1:], 16) if match[1][0] == "$" else None
            if length is not None and length >= NEGATIVE:
                continue
            most = None if None in (length, most) else max(most, length)
    if name:
        yield name, frame(pushed, most)


def frame(pushed: int, subtracted: int | None) -> int | None:
    """Return the bytes of a frame. Paths through a function may each push the registers."""
    return None if subtracted is None else subtracted + WORD * min(pushed, SAVED_REGISTERS)


def findings(code: str, most: int) -> list[str]:
    """Return what to say of the functions whose frames are over `most` bytes, the largest first."""
    found = [(size, name) for name, size in frames(code) if size is None or size > most]
    found.sort(key=lambda each: (each[0] is not None, -(each[0] or 0)))
    return [
        f"{name}: "
        + (f"{size} bytes" if size is not None else "as many bytes as it finds at run time")
        for size, name in found
    ]
