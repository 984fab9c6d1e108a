# SPDX-License-Identifier: GPL-2.0
"""The Debian chroot that has the kernel's own toolchain; kernels.toml says what is in it.

It is made by mmdebstrap and works for root and, in a user namespace, for anybody with
subordinate uids. Commands run in it with chosen folders and files of the host bound to places of
the chroot, in the order in which they are given.

    chroot.get("trixie").run(["make", "-C", "/usr/src/linux"], binds={tree: "/usr/src/linux"})
"""

import os
import re
import subprocess
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cache
import host

CHECKOUT = Path(__file__).resolve().parent.parent
CONFIG = tomllib.loads((CHECKOUT / "scripts/kernels.toml").read_text())

# Places in a chroot: a kernel's source tree, the checkout, a folder for what is built.
TREE = "/usr/src/linux"
MODULE = "/usr/src/ctskip"
OUTPUT = "/usr/src/build"

# The host's files that a run sees in their own place: name resolution, certificates, pip's settings.
HOST_FILES = (
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pip.conf",
)

# The host's environment that a run sees: how to reach the network, and how to show things.
HOST_ENVIRONMENT = re.compile(
    r"(?i)(http|https|ftp|all|no)_proxy|(PIP|CARGO_(HTTP|NET|REG|SOU))_.*"
)

# Makes the mounts and starts the command: ROOT (HOST INSIDE)... -- COMMAND...
# A new pid namespace goes with it, so that nothing it starts outlives it.
ENTER = r"""
set -eu
root=$1; shift
mount -t proc proc "$root/proc" 2>/dev/null || mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
while [ "$1" != -- ]; do
    if [ -d "$1" ]; then
        mkdir -p "$root$2"
    else
        mkdir -p "$root${2%/*}"
        [ -e "$root$2" ] || : >"$root$2"
    fi
    mount --rbind "$1" "$root$2"
    shift 2
done
shift
exec chroot "$root" "$@"
"""


@dataclass(frozen=True)
class Chroot:
    """A Debian root file system on the host."""

    root: Path

    def command(
        self,
        cmd: Sequence[str | Path],
        binds: Mapping[Path, str] | None = None,
        cwd: str = "/",
        env: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Return the host command that runs `cmd` in the chroot."""
        places = [(name, name) for name in HOST_FILES if Path(name).is_file()]
        places += [(str(path), inside) for path, inside in (binds or {}).items()]
        variables = {k: v for k, v in os.environ.items() if HOST_ENVIRONMENT.fullmatch(k)}
        variables |= {
            "HOME": "/tmp",
            "LANG": "C.UTF-8",
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "TERM": os.environ.get("TERM", "dumb"),
            **(env or {}),
        }
        return [
            *unshare("--pid", "--fork", "--kill-child"),
            *("sh", "-c", ENTER, "enter", str(self.root)),
            *(word for place in places for word in place),
            *("--", "env", "-i", f"--chdir={cwd}"),
            *(f"{name}={value}" for name, value in variables.items()),
            *(str(word) for word in cmd),
        ]

    def run(self, cmd: Sequence[str | Path], log: str | None = None, **where) -> None:
        """Run a command in the chroot; `where` is as for `command`.

        With `log`, its output goes to that log and is shown only if it fails.
        """
        full = self.command(cmd, **where)
        if log:
            cache.run(full, log=log, env=sbin_environment())
            return
        code = subprocess.run(full, env=sbin_environment(), check=False).returncode
        if code:
            raise cache.Failed(f"{cmd[0]} failed ({code})")

    def output(self, cmd: Sequence[str | Path], **where) -> str:
        """Return the output of a command in the chroot."""
        full = self.command(cmd, **where)
        done = subprocess.run(
            full,
            env=sbin_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise cache.Failed(f"{cmd[0]} failed ({done.returncode}): {done.stderr.strip()}")
        return done.stdout


def sbin_environment() -> dict[str, str]:
    """Return the environment with a PATH that has chroot(8) and its like."""
    return {**os.environ, "PATH": host.PATH}


def unshare(*options: str) -> list[str]:
    """Return the command that gives a mount namespace, and to a user without root a user's too."""
    user = () if os.geteuid() == 0 else cache.AS_ROOT_OF_USER_NAMESPACE[1:]
    return ["unshare", *user, "--mount", "--propagation", "private", *options, "--"]


def get(name: str) -> Chroot:
    """Return the chroot of that name in kernels.toml; make it first where it is not there."""
    config = CONFIG["chroot"][name]
    suites = [config["suite"], *config["extra_suites"]]
    source = debian_mirror()
    options = apt_options() + config.get("apt_options", [])

    def make(new: Path) -> None:
        bootstrap(new, suites, config["packages"], source, options)

    where = cache.entry(f"chroot-{name}", suites, config["packages"], source, options, make=make)
    return Chroot(where / "root")


def bootstrap(
    new: Path,
    suites: Sequence[str],
    packages: Sequence[str],
    mirror: str | None,
    options: Sequence[str],
) -> None:
    """Make a Debian root file system in NEW/root."""
    need_chroot_tools()
    # The first line that mmdebstrap writes names its mirror, also where that is its own default.
    more_suites = "".join(
        f'sed -n "1s/ {suites[0]} / {suite} /p" "$1/etc/apt/sources.list" >>"$1/tmp/more"; '
        for suite in suites[1:]
    )
    hook = f'{more_suites}cat "$1/tmp/more" >>"$1/etc/apt/sources.list"; rm "$1/tmp/more"'
    no_documentation = [
        f"--dpkgopt=path-exclude=/usr/share/{folder}/*"
        for folder in ("doc", "info", "locale", "man")
    ]
    # In the user namespace we are root already; mmdebstrap's own unshare mode would map the
    # folder's owner to nobody.
    cmd = [
        *unshare(),
        *("mmdebstrap", "--mode=root", "--variant=apt", "--format=directory"),
        *("--keyring=/usr/share/keyrings/debian-archive-keyring.gpg",),
        *(f"--aptopt={option}" for option in options),
        '--aptopt=APT::Install-Recommends "false"',
        *no_documentation,
        *(f"--include={','.join(packages)}",),
        *((f"--essential-hook={hook}",) if suites[1:] else ()),
        '--customize-hook=chroot "$1" apt-get -q update',
        # The package lists stay: the newest kernel is looked up in them.
        "--skip=cleanup/apt/lists",
        *(suites[0], str(new / "root"), *([mirror] if mirror else [])),
    ]
    cache.run(cmd, log="chroot", env=sbin_environment())


def need_chroot_tools() -> None:
    """See to it that the host can make and enter a chroot."""
    host.need("/usr/share/keyrings/debian-archive-keyring.gpg", "mmdebstrap", "unshare")
    if os.geteuid() != 0:
        host.need("newuidmap")
        entered = [*unshare(), "true"]
        if subprocess.run(entered, capture_output=True, check=False).returncode:
            raise cache.Failed(
                "this user cannot make a user namespace with subordinate uids (see /etc/subuid "
                "and user_namespaces(7)); run as root instead"
            )


def debian_mirror() -> str | None:
    """Return the Debian mirror of the host's apt configuration, if it has one."""
    release = Path("/etc/os-release").read_text() if Path("/etc/os-release").exists() else ""
    if not re.search(r"^ID=debian$", release, re.MULTILINE):
        return None
    places = [*Path("/etc/apt").glob("sources.list"), *Path("/etc/apt").glob("sources.list.d/*")]
    text = "\n".join(place.read_text() for place in places if place.is_file())
    uris = re.findall(r"^(?:URIs:|deb(?:\s+\[[^]]*\])?)\s+(https?://\S+)", text, re.MULTILINE)
    return next((uri for uri in uris if re.search(r"/debian/?$", uri)), None)


def apt_options() -> list[str]:
    """Return what of the host's apt configuration says how to reach a mirror and to judge its age."""
    dump = host.run_quiet("apt-config", "dump")
    wanted = r"^(Acquire::(?:Check-|Retries|[Hh]ttps?::)\S* .*);$"
    return re.findall(wanted, dump, re.MULTILINE)
