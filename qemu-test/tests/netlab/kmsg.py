# SPDX-License-Identifier: GPL-2.0
"""The kernel's log."""

import os
import re

from .system import wait_until


class Kmsg:
    """The kernel's log from the moment this is made."""

    def __init__(self):
        self.fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(self.fd, 0, os.SEEK_END)
        self.seen = []

    def lines(self):
        """Return all messages since then, without their prefix."""
        while True:
            try:
                record = os.read(self.fd, 8192)
            except BlockingIOError:
                return list(self.seen)
            except BrokenPipeError:  # the next message was overwritten; go on behind the gap
                continue
            text = record.decode(errors="replace").split("\n", 1)[0]
            self.seen.append(text.partition(";")[2])

    def text(self):
        """Return the lines as one text."""
        return "\n".join(self.lines())

    def clear(self):
        """Forget all messages so far."""
        self.lines()
        self.seen.clear()

    def wait(self, pattern, timeout=5.0):
        """Wait for a message that matches a regular expression; return the match."""
        return wait_until(lambda: re.search(pattern, self.text()), timeout)

    def close(self):
        """Close it."""
        os.close(self.fd)
