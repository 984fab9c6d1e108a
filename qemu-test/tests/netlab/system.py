# SPDX-License-Identifier: GPL-2.0
"""The guest: its files, its speed, and the system calls that Python has no function for."""

import contextlib
import ctypes
import os
import time
from pathlib import Path

MODULE = Path("/root/ctskip.ko")
OUT = Path("/host/out")  # the run's folder on the host
SLOWER = int(os.environ.get("SLOWER", 1))  # a debug kernel takes so many times longer

# The initial network namespace, as a file descriptor.
INIT = os.open("/proc/1/ns/net", os.O_RDONLY | os.O_CLOEXEC)

_libc = ctypes.CDLL(None, use_errno=True)
_MS_BIND, _MNT_DETACH = 4096, 2
_SYS_INIT_MODULE, _SYS_DELETE_MODULE = 175, 176


def wait_until(condition, timeout=5.0, interval=0.01):
    """Wait until condition() is true and return its value; AssertionError after the timeout.

    The first look is after `interval` seconds, the next ones after longer and longer: each look costs
    processor time, which the awaited work may need.
    """
    end = time.monotonic() + timeout * SLOWER
    longest = max(interval, 0.1)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(
                f"not within {timeout * SLOWER} s: {getattr(condition, '__name__', condition)}"
            )
        time.sleep(interval)
        interval = min(1.5 * interval, longest)


def _checked(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def bind_mount(source, target):
    """Mount a file over another; OSError where the kernel refuses."""
    _checked(_libc.mount(os.fsencode(source), os.fsencode(target), b"none", _MS_BIND, None))


def unmount(target):
    """Take a mount away, now for new users and later for present ones; OSError where refused."""
    _checked(_libc.umount2(os.fsencode(target), _MNT_DETACH))


def init_module(image, parameters):
    """Load a module from its bytes; return the errno, 0 for success."""
    failed = _libc.syscall(_SYS_INIT_MODULE, image, ctypes.c_ulong(len(image)), parameters.encode())
    return ctypes.get_errno() if failed else 0


def delete_module(name):
    """Unload a module, without waiting for its users; return the errno, 0 for success."""
    failed = _libc.syscall(_SYS_DELETE_MODULE, name.encode(), os.O_NONBLOCK)
    return ctypes.get_errno() if failed else 0


@contextlib.contextmanager
def kernel_command_line(more):
    """Have /proc/cmdline end with `more`, as after a boot with it: modprobe reads it there."""
    copy = Path("/tmp/cmdline")
    copy.write_text(Path("/proc/cmdline").read_text().strip() + f" {more}\n")
    bind_mount(copy, "/proc/cmdline")
    try:
        yield
    finally:
        unmount("/proc/cmdline")
