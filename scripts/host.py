# SPDX-License-Identifier: GPL-2.0
"""What the host itself must have: a few commands, installed by apt where they are missing.

All else (compilers, linters, kernels, the guest) is in the cache, see cache.py. A host needs
make and python3 (3.11 or newer) to start with.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import cache

# The command (or file), and the Debian package that has it.
PACKAGES = {
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
    "cpio": "cpio",
    "depmod": "kmod",
    "mmdebstrap": "mmdebstrap",
    "mksquashfs": "squashfs-tools",
    "newuidmap": "uidmap",
    "qemu-system-x86_64": "qemu-system-x86",
    "unshare": "util-linux",
    "unsquashfs": "squashfs-tools",
    "zstd": "zstd",
}

# Where commands are that an ordinary user's PATH may lack.
PATH = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"


def missing(needs: Sequence[str]) -> list[str]:
    """Return the packages of those commands and files that are not there."""
    return sorted(
        {
            PACKAGES[need]
            for need in needs
            if not (Path(need).exists() if need[0] == "/" else shutil.which(need, path=PATH))
        }
    )


def need(*needs: str) -> None:
    """Install what is missing of `needs` (keys of PACKAGES), or say what is to be installed."""
    packages = missing(needs)
    if not packages:
        return
    if not shutil.which("apt-get"):
        commands = [name for name in needs if PACKAGES[name] in packages]
        raise cache.Failed(
            f"missing: {' '.join(commands)}; please install them (Debian's packages of them are: "
            f"{' '.join(packages)})"
        )
    sudo = []
    if os.geteuid() != 0:
        if not shutil.which("sudo"):
            raise cache.Failed(f"as root, please: apt-get install {' '.join(packages)}")
        sudo = ["sudo"]
    apt = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-y"]
    with cache.lock(cache.ROOT / "host" / "lock"):
        packages = missing(needs)
        if packages:
            with cache.step(f"installing on the host: {' '.join(packages)}"):
                # sudo may have to ask for a password, so the input stays the user's.
                cache.run([*apt, "update"], log="apt", stdin=None)
                install = [*apt, "install", "--no-install-recommends", *packages]
                cache.run(install, log="apt", stdin=None)
    left = missing(needs)
    if left:
        raise cache.Failed(f"installed, but still not found: {' '.join(left)}")


def run_quiet(*cmd: str) -> str:
    """Return a host command's output, or nothing where it fails."""
    done = subprocess.run(cmd, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""
