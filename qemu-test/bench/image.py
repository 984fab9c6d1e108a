# SPDX-License-Identifier: GPL-2.0
"""What the benchmark's guests are made of, all of it cached.

kernel      the stock kernel as an ELF file, taken out of its vmlinuz: QEMU starts it without the time
            that the kernel would take to unpack itself
modules     inject.ko and floor.ko, built from modules/ here
initramfs   the tools, their libraries and the stock kernel's modules, and nothing else: no disk, so
            that no waiting for one gets into what is measured
"""

import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "scripts"))

import cache  # noqa: E402
import chroot  # noqa: E402
import guest_image  # noqa: E402
import host  # noqa: E402
import kernel  # noqa: E402
import stock_kernel  # noqa: E402

# Commands, and the names in /usr/sbin that some of them go by as well.
COMMANDS = {
    "/usr/bin/bash": [],
    "/usr/bin/busybox": [],
    "/usr/bin/cat": [],
    "/usr/bin/kmod": ["insmod", "modprobe", "rmmod"],
    "/usr/bin/ip": [],
    "/usr/sbin/conntrack": [],
    "/usr/sbin/ipset": [],
    "/usr/sbin/nft": [],
    "/usr/sbin/xtables-legacy-multi": ["iptables-legacy", "iptables-legacy-restore"],
}
# Libraries that are opened by name, and tables that the tools read.
FILES = ["usr/lib/x86_64-linux-gnu/xtables", "etc/protocols", "etc/services"]

MODULES = """
    dummy pktgen
    nf_conntrack nf_conntrack_netlink nf_tables nft_ct
    ip_tables iptable_raw xt_CT xt_tcpudp xt_set ip_set_hash_netport ip_set_hash_ipport
""".split()


@dataclass(frozen=True)
class Image:
    """The files that QEMU starts a guest from, and the modules that go in by the run."""

    vmlinux: Path
    base: Path
    modules: list[Path]


def get(line: str | None) -> Image:
    """Return the image for a kernel line; what is missing of it is made."""
    host.need("cpio", "depmod", "mksquashfs", "qemu-system-x86_64", "unsquashfs", "zstd")
    stock = kernel.get(line)
    return Image(vmlinux(stock), initramfs(stock), modules(stock))


def vmlinux(stock: stock_kernel.Kernel) -> Path:
    """Return the stock kernel as an ELF file."""

    def make(new: Path) -> None:
        extract = [stock.tree() / "scripts/extract-vmlinux", stock.vmlinuz, new / "vmlinux"]
        cache.run(["sh", "-c", 'sh "$1" "$2" >"$3" && test -s "$3"', "extract", *extract])

    return (
        cache.entry("bench-kernel", stock.release, stock.version, stock.tree().name, make=make)
        / "vmlinux"
    )


def modules(stock: stock_kernel.Kernel) -> list[Path]:
    """Return inject.ko and floor.ko, built for the stock kernel."""
    sources = sorted((HERE / "modules").iterdir())

    def make(new: Path) -> None:
        binds = {stock.tree(): chroot.TREE, HERE / "modules": chroot.MODULE, new: chroot.OUTPUT}
        command = ["make", "-s", "-C", chroot.TREE, f"M={chroot.MODULE}", f"MO={chroot.OUTPUT}"]
        command += [*stock.make_arguments(), "CONFIG_DEBUG_INFO_BTF_MODULES=", "modules"]
        stock.chroot.run(command, log="bench", binds=binds)

    key = (stock.release, stock.tree().name, cache.file_digest(*sources))
    return sorted(cache.entry("bench-modules", *key, make=make).glob("*.ko"))


def initramfs(stock: stock_kernel.Kernel) -> Path:
    """Return the archive with tools, libraries and the stock kernel's modules."""
    root = guest_image.root_fs()

    def make(new: Path) -> None:
        with tempfile.TemporaryDirectory(dir=new) as work:
            full, top = Path(work) / "full", Path(work) / "top"
            unsquashfs = [
                "unsquashfs",
                "-no-progress",
                "-quiet",
                "-d",
                full,
                root / "root.squashfs",
            ]
            cache.run([*chroot.unshare(), *unsquashfs], env=chroot.sbin_environment())
            copy_tools(chroot.Chroot(full), top)
            copy_modules(stock, top)
            guest_image.cpio(top, new / "base.cpio")
            cache.remove(full)

    key = (root.name, stock.release, str(stock.modules), COMMANDS, FILES, MODULES)
    return cache.entry("bench-initramfs", *key, make=make) / "base.cpio"


def copy_tools(full: chroot.Chroot, top: Path) -> None:
    """Copy the commands and all that they need from a root file system."""
    for name in ("usr/bin", "usr/sbin", "usr/lib64", "proc", "sys", "dev", "run", "tmp", "etc"):
        (top / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (top / name).symlink_to(f"usr/{name}")
    for name in FILES:
        source = full.root / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, top / name)
    plugins = [f"/{path.relative_to(top)}" for path in top.glob("usr/lib/**/*.so")]
    listed = full.output(["sh", "-c", 'ldd "$@" || :', "ldd", *COMMANDS, *plugins])
    libraries = set(re.findall(r"(/\S+\.so\S*) \(", listed))
    for name in [*COMMANDS, *libraries]:
        path = top / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(full.root / name.lstrip("/"), path)
    for name, others in COMMANDS.items():
        for other in others:
            (top / "usr/sbin" / other).symlink_to(name)
    for applet in "mount dmesg poweroff uname mkdir sleep grep awk".split():
        (top / "usr/bin" / applet).symlink_to("busybox")


def copy_modules(stock: stock_kernel.Kernel, top: Path) -> None:
    """Copy the stock kernel's modules that the benchmark wants, decompressed."""
    deps = guest_image.dependencies(stock.modules)
    out = top / "usr/lib/modules" / stock.release
    by_name = {guest_image.stem(path): path for path in deps}
    for module in {n for name in MODULES for n in [by_name[name], *deps[by_name[name]]]}:
        guest_image.unpack_module(stock.modules / module, out / module.removesuffix(".xz"))
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        shutil.copyfile(stock.modules / name, out / name)
    depmod = ["depmod", "-b", top / "usr", stock.release]
    cache.run(depmod, env=chroot.sbin_environment())
