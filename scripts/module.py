# SPDX-License-Identifier: GPL-2.0
"""ctskip.ko: built for a kernel, and installed.

    module.build("7.3")         build/7.3/ctskip.ko, ready to load into the newest kernel of that line
    module.build("7.3-debug")   the same for its debug kernel

usage: module.py build LINE | running | install
"""

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import cache
import chroot
import host
import kernel
import stock_kernel


def build(name: str | None) -> Path:
    """Build the module for the kernel of that name, in build/NAME of the checkout; return its path."""
    target = kernel.get(name)
    return build_for(target, chroot.CHECKOUT / "build" / target.line)


def build_for(target: stock_kernel.Kernel, output: Path, arguments: Sequence[str] = ()) -> Path:
    """Build the module for a kernel in the folder `output`; return its path. `arguments` go to make."""
    with cache.lock(output.parent / f"{output.name}.lock"):
        return _build_for(target, output, arguments)


def _build_for(target: stock_kernel.Kernel, output: Path, arguments: Sequence[str]) -> Path:
    output.mkdir(parents=True, exist_ok=True)
    made_for = f"{target.release} {target.version} {target.tree().relative_to(cache.ROOT)}\n"
    stamp = output / "made-for"
    if stamp.exists() and stamp.read_text() != made_for:
        cache.remove(output)
        output.mkdir()
    stamp.write_text(made_for)
    make = ["make", "-s", "-C", chroot.TREE, f"M={chroot.MODULE}", f"MO={chroot.OUTPUT}"]
    make += target.make_arguments()
    # Type information for bpf would need the image's vmlinux; without it, nothing is lost but that.
    make.append("CONFIG_DEBUG_INFO_BTF_MODULES=")
    binds = {
        target.tree(): chroot.TREE,
        chroot.CHECKOUT: chroot.MODULE,
        output: chroot.OUTPUT,
    }
    with cache.step(f"building ctskip.ko for {target.release}"):
        target.chroot.run([*make, *arguments, "modules"], binds=binds)
    module = output / "ctskip.ko"
    ours, image = stock_kernel.vermagic(target.chroot, module), target.vermagic()
    if ours != image:
        module.unlink()
        raise cache.Failed(f"the module's vermagic is not the image's: {ours!r}, not {image!r}")
    return module


def running() -> tuple[Path, str]:
    """Build the module for the running kernel; return its path and the kernel's release."""
    release = platform.release()
    output = chroot.CHECKOUT / "build" / release
    if kdir := os.environ.get("KDIR"):
        return build_with_host_tools(Path(kdir), output), release
    package = f"linux-image-{release}"
    for line, how in stock_kernel.LINES.items():
        if re.fullmatch(how["image"], package):
            version = host.run_quiet("dpkg-query", "-Wf${Version}", package)
            version = version or stock_kernel.newest(line)[1]
            return build_for(stock_kernel.fetch(line, release, version), output), release
    prepared = Path(f"/lib/modules/{release}/build")
    if any(prepared.glob("rust/libkernel.rmeta")):
        return build_with_host_tools(prepared, output), release
    raise cache.Failed(
        f"the running kernel, {release}, is none of scripts/kernels.toml, and what is at {prepared} "
        f"has no Rust metadata (CONFIG_RUST): make KERNEL={stock_kernel.DEFAULT} builds for "
        "Debian's kernel, make KDIR=TREE against a prepared tree of the running one"
    )


def build_with_host_tools(tree: Path, output: Path) -> Path:
    """Build the module against a tree that has its Rust metadata, with the host's own tools."""
    if not (tree / "rust/libkernel.rmeta").exists():
        raise cache.Failed(f"{tree} has no Rust metadata (CONFIG_RUST=y and make modules_prepare)")
    output.mkdir(parents=True, exist_ok=True)
    make = ["make", "-s", "-C", str(tree), f"M={chroot.CHECKOUT}", f"MO={output}"]
    if subprocess.run([*make, f"-j{os.cpu_count()}", "modules"], check=False).returncode:
        raise cache.Failed(f"no module was built against {tree}")
    return output / "ctskip.ko"


def install() -> Path:
    """Build the module for the running kernel, put it where modprobe finds it; return its path."""
    module, release = running()
    sudo = [] if os.geteuid() == 0 else ["sudo"]
    place = f"/lib/modules/{release}/updates/ctskip.ko"
    for cmd in (["install", "-D", "-m", "644", module, place], ["depmod", release]):
        if subprocess.run([*sudo, *cmd], env=chroot.sbin_environment(), check=False).returncode:
            raise cache.Failed(f"{cmd[0]} failed")
    cache.say(f"ctskip: installed as {place}; load it by: modprobe ctskip")
    return module


def main(argv: Sequence[str]) -> None:
    """Do as the usage says."""
    match list(argv):
        case ["build", line]:
            built = build(line)
        case ["running"]:
            built, _ = running()
        case ["install"]:
            built = install()
        case _:
            raise cache.Failed("usage: module.py build LINE | running | install")
    cache.say(f"ctskip: {built.relative_to(chroot.CHECKOUT)}")


if __name__ == "__main__":
    cache.entry_point(main)
