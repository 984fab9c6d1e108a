# SPDX-License-Identifier: GPL-2.0
"""Debian's stock kernels, and the tree that a Rust module for them is built against.

Debian's header packages lack the Rust metadata, so it is remade from the matching source package
with the image's own .config and compilers. MODVERSIONS is off in these kernels: nothing but the
comparisons made here and in module.py stops a module that was built with another .config.

    stock_kernel.get("7.3")             the newest kernel of a line in kernels.toml
    stock_kernel.get("7.3").tree()      its prepared source tree
"""

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cache
import chroot

LINES = chroot.CONFIG["line"]
DEFAULT = list(LINES)[-1]

# How long the package lists are taken to be new.
LISTS_FRESH = 24 * 3600

# Differences between the image's .config and the one used that change no structure: the compiler's
# name in the text of its version; what follows the build host's openssl; and what Debian takes out
# of the image's copy of its .config, all about signing, and the salt of the build id.
HARMLESS = re.compile(
    r"CONFIG_(CC_VERSION_TEXT|OPENSSL_SUPPORTS_ML_DSA|MODULE_SIG_KEY_TYPE_\w+"
    r"|BUILD_SALT|MODULE_SIG_ALL|MODULE_SIG_KEY|SYSTEM_TRUSTED_KEYS)"
)


@dataclass(frozen=True)
class Kernel:
    """A stock kernel of Debian, its packages unpacked and unmodified."""

    line: str  # as in kernels.toml
    release: str  # as uname -r prints it
    version: str  # of the Debian packages
    folder: Path  # holds its packages' files

    @property
    def is_debug(self) -> bool:
        """Whether it is a debug kernel."""
        return False

    @property
    def vmlinuz(self) -> Path:
        """The kernel image."""
        return self.modules / "vmlinuz"

    @property
    def config(self) -> Path:
        """The .config it was built with."""
        return self.modules / "config"

    @property
    def modules(self) -> Path:
        """Its modules: what belongs at /lib/modules/RELEASE, with modules.dep made."""
        return self.folder / f"usr/lib/modules/{self.release}"

    @property
    def headers(self) -> Path:
        """What the headers package has at /usr/src/linux-headers-RELEASE."""
        return self.folder / f"usr/src/linux-headers-{self.release}"

    @property
    def chroot(self) -> chroot.Chroot:
        """The chroot with its toolchain."""
        return chroot.get(LINES[self.line]["chroot"])

    def make_arguments(self) -> list[str]:
        """Return the make arguments that make a build agree with the image."""
        cc = LINES[self.line]["cc"]
        return [
            *(f"CC={cc}", f"HOSTCC={cc}", "LOCALVERSION=", f"KERNELRELEASE={self.release}"),
            f"-j{os.cpu_count()}",
        ]

    def tree(self) -> Path:
        """Return the prepared source tree; make it first where it is not there."""
        return cache.entry(
            f"kernel-tree-{self.line}",
            *(self.release, self.version, self.make_arguments()[:-1]),
            self.chroot.root.parent.name,
            make=self._make_tree,
        )

    def vermagic(self) -> str:
        """Return the vermagic of the image's own modules."""
        stock = next(self.modules.glob("kernel/net/netfilter/*.ko*"))
        return vermagic(self.chroot, stock)

    def _make_tree(self, new: Path) -> None:
        unpack_source(self, self.chroot, new)
        run = self.chroot.run
        binds = {new: chroot.TREE}
        (new / ".config").write_bytes((self.headers / ".config").read_bytes())
        (new / "Module.symvers").write_bytes((self.headers / "Module.symvers").read_bytes())
        make = ["make", "-C", chroot.TREE, *self.make_arguments()]
        with cache.step("making the kernel's Rust metadata"):
            run([*make, "olddefconfig"], log="kernel-tree", binds=binds)
            compare_configs(self.config, new / ".config")
            run([*make, "prepare", "modules_prepare"], log="kernel-tree", binds=binds)
        compare_configs(self.config, new / ".config")


def unpack_source(stock: Kernel, where: chroot.Chroot, new: Path) -> None:
    """Fetch the source package of a stock kernel and unpack it in the folder `new`."""
    source = LINES[stock.line]["source"]
    with cache.step("fetching the kernel's source"):
        download(where, new, [f"{source}={stock.version}"])
    with cache.step("unpacking the kernel's source"):
        tar = ["tar", "-C", chroot.TREE, "--strip-components=1", "-xf"]
        archive = f"{chroot.TREE}/package/usr/src/{source}.tar.xz"
        where.run([*tar, archive], log="kernel-tree", binds={new: chroot.TREE})
        cache.remove(new / "package")


def compare_configs(image: Path, used: Path) -> None:
    """Stop where the .config used is not the image's, but for what is harmless."""
    differing = sorted(
        name for name, _ in options(image) ^ options(used) if not HARMLESS.fullmatch(name)
    )
    if differing:
        raise cache.Failed(
            f"the .config differs from the image's in {', '.join(dict.fromkeys(differing))}; "
            f"a module built so could crash it (are the compilers the kernel's own? {image})"
        )


def options(config: Path) -> set[tuple[str, str]]:
    """Return the options that a .config sets; one that is not set is absent."""
    return set(re.findall(r"^(CONFIG_\w+)=(.*)$", config.read_text(), re.MULTILINE))


def vermagic(where: chroot.Chroot, module: Path) -> str:
    """Return the vermagic of a module."""
    inside = f"/tmp/module/{module.name}"
    text = where.output(["modinfo", "-F", "vermagic", inside], binds={module.parent: "/tmp/module"})
    return text.strip()


def download(where: chroot.Chroot, new: Path, packages: Sequence[str]) -> None:
    """Fetch packages and unpack them in NEW/package, without installing them."""
    script = 'cd "$1" && mkdir -p deb package && cd deb && shift && apt-get -q download "$@"'
    inside = "/usr/src/new"
    cmd = ["sh", "-c", script, "download", inside, *packages]
    where.run(cmd, log="download", binds={new: inside})
    script = f'cd {inside} && for deb in deb/*.deb; do dpkg-deb -x "$deb" package; done'
    where.run(["sh", "-euc", script], log="download", binds={new: inside})
    cache.remove(new / "deb")


def get(line: str) -> Kernel:
    """Return the newest kernel of a line; fetch it first if need be."""
    if line not in LINES:
        raise cache.Failed(f"no kernel line {line}; there are: {' '.join(LINES)}")
    return fetch(line, *newest(line))


def fetch(line: str, release: str, version: str) -> Kernel:
    """Return a certain kernel of a line; fetch its packages where they are not there."""
    where = chroot.get(LINES[line]["chroot"])

    def make(new: Path) -> None:
        # The running kernel may be newer than the lists.
        with cache.lock(cache.ROOT / "newest" / "lock"):
            if version not in where.output(["apt-cache", "madison", f"{packages[0]}{release}"]):
                update_lists(where)
        with cache.step(f"fetching Linux {release}"):
            download(where, new, [f"{name}{release}={version}" for name in packages])
        inside = "/usr/src/new"
        depmod = ["depmod", "-b", f"{inside}/package", "-m", "/usr/lib/modules", release]
        where.run(depmod, log="download", binds={new: inside})

    packages = LINES[line]["packages"]
    folder = cache.entry(f"kernel-{line}", release, version, packages, make=make)
    return Kernel(line, release, version, folder / "package")


def newest(line: str) -> tuple[str, str]:
    """Return release and version of a line's newest image that has its headers and source.

    The answer is kept for a day; where the package lists cannot be fetched, for longer.
    """
    where = chroot.get(LINES[line]["chroot"])
    answer = cache.ROOT / "newest" / f"{line}-{where.root.parent.name}"
    with cache.lock(answer.parent / "lock"):
        known = answer.read_text().split() if answer.exists() else []
        if known and time.time() - answer.stat().st_mtime < LISTS_FRESH:
            return known[0], known[1]
        if known:  # else the chroot is new, and so are its lists
            try:
                update_lists(where)
            except cache.Failed as error:
                cache.say(f"ctskip: {error}; going on with {known[0]}")
                answer.touch()
                return known[0], known[1]
        release, version = look_up_newest(where, line)
        answer.write_text(f"{release} {version}\n")
    return release, version


def update_lists(where: chroot.Chroot) -> None:
    """Have apt in the chroot fetch the package lists anew; the caller holds newest/lock."""
    with cache.step("looking for newer kernel packages"):
        where.run(["apt-get", "-q", "update"], log="apt")


def look_up_newest(where: chroot.Chroot, line: str) -> tuple[str, str]:
    """Ask apt in the chroot for the newest kernel of a line."""
    pattern, source = LINES[line]["image"], LINES[line]["source"]
    names = where.output(["apt-cache", "pkgnames", "linux-image-"]).split()
    releases = [match[1] for name in names if (match := re.fullmatch(pattern, name))]
    kinds = ["linux-image-", *LINES[line]["packages"]]
    packages = [f"{kind}{release}" for release in releases for kind in kinds]
    table = where.output(["apt-cache", "madison", source, *packages])
    known = {tuple(map(str.strip, row.split("|")[:2])) for row in table.splitlines()}
    found = [
        (release, version)
        for release in releases
        for name, version in known
        if name == f"linux-image-{release}"
        and {(source, version), *((f"{kind}{release}", version) for kind in kinds)} <= known
    ]
    if not found:
        raise cache.Failed(f"apt knows no kernel of line {line}: {pattern}, with {source}")
    return max(found, key=lambda pair: [int(number) for number in re.findall(r"\d+", pair[1])])
