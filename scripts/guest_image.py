# SPDX-License-Identifier: GPL-2.0
"""The images of the guest that runs the QEMU suite, the demo and `make shell`.

Three cached parts, each rebuilt only when what it is made from changes:

root file system   Debian with the tools that the tests use, one uncompressed squashfs, read-only; the
                   guest lays a tmpfs over it. Keyed by suite, package list and how it is made.
modules            the stock kernel's own modules that the tests may want, decompressed, a second
                   squashfs laid over the first. Keyed by the kernel's release.
initramfs          busybox and the few modules that mount the two. Keyed by both.

What changes from run to run (ctskip.ko, the tests) is in none of them: see qemu-test/run.py.
"""

import lzma
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import cache
import chroot
import host

SUITE = "trixie"
OLD_SUITE = "bookworm"  # its kmod 30 does not quote parameter values that hold spaces

PACKAGES = """
    bash busybox-static coreutils libcap2-bin mount procps util-linux
    kmod iproute2 iputils-ping ethtool
    nftables iptables ipset conntrack firewalld ufw ipvsadm
    dnsmasq-base bind9-dnsutils dnsperf nginx-light curl wrk iperf3 socat
    python3 python3-pytest python3-pytest-timeout python3-scapy python3-pyroute2
    python3-nftables
""".split()

# Run in the new root file system: a kmod that insmod and modprobe of older Debian are.
OLD_KMOD = f"""
set -eu
cd /tmp
apt-get -q download kmod/{OLD_SUITE}
dpkg-deb -x kmod_*.deb .
mkdir -p /opt/kmod30
cp bin/kmod /opt/kmod30
for name in depmod insmod lsmod modinfo modprobe rmmod; do ln -s kmod /opt/kmod30/$name; done
"""

# Run in it at the end: what only apt needs goes, what the guest mounts over is there.
FINISH = """
set -eu
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/log/* /boot/*
mkdir -p /host /usr/lib/modules /var/log/nginx
echo ctskip >/etc/hostname
"""

# The kernel's modules that go into the module image, with all that they depend on. Ciphers are
# asked for by name, so no dependency tells of them.
MODULES = re.compile(
    r"kernel/(arch/x86/crypto|crypto|lib"
    r"|net/(802|8021q|9p|bridge|core|ipv4|ipv6|key|l3mdev|llc|mpls|netfilter|openvswitch|packet"
    r"|sched|sctp|xfrm)"
    r"|drivers/net/(bonding|dummy|geneve|gre|ifb|ipvlan|macvlan|macvtap|tap|tun|veth|vrf|vxlan"
    r"|wireguard)"
    r"|drivers/block/virtio_blk|fs/(9p|overlayfs|squashfs))[./]"
)
INITRAMFS_MODULES = ["virtio_blk", "squashfs", "overlay", "9pnet_virtio", "9p"]


def squashfs(out, source, *options):
    """Make an uncompressed squashfs: it is read through the host's page cache, and never unpacked."""
    plain = ["-noI", "-noD", "-noF", "-noX", "-no-progress", "-quiet"]
    cmd = [*chroot.unshare(), "mksquashfs", source, out, *plain, *options]
    cache.run(cmd, env=chroot.sbin_environment())


def root_fs():
    """Return the folder with root.squashfs and busybox."""
    suites, mirror = [SUITE, OLD_SUITE], chroot.debian_mirror()

    def make(new):
        chroot.bootstrap(new, suites, PACKAGES, mirror, chroot.apt_options())
        root = chroot.Chroot(new / "root")
        for script in (OLD_KMOD, FINISH):
            root.run(["sh", "-c", script], log="guest")
        shutil.copy(root.root / "bin/busybox", new / "busybox")
        squashfs(new / "root.squashfs", root.root)
        cache.remove(root.root)

    return cache.entry("guest-root", suites, PACKAGES, OLD_KMOD, FINISH, mirror, make=make)


def dependencies(tree):
    """Return modules.dep as a dict: path of a module -> paths it needs, in the order to load them."""
    deps = {}
    for line in (tree / "modules.dep").read_text().splitlines():
        name, _, needs = line.partition(":")
        deps[name] = needs.split()[::-1]
    return deps


def unpack_module(src, dst):
    """Copy a module, decompressed."""
    dst.parent.mkdir(parents=True, exist_ok=True)
    if src.suffix == ".xz":
        with lzma.open(src) as packed, open(dst, "wb") as out:
            shutil.copyfileobj(packed, out)
    elif src.suffix == ".zst":
        cache.run(["zstd", "-q", "-d", src, "-o", dst])
    else:
        shutil.copyfile(src, dst)


def stem(path):
    """Return the kernel's name for a module: kernel/net/ipv4/ah4.ko.xz -> ah4."""
    return Path(path).name.split(".ko")[0].replace("-", "_")


def modules(release, tree):
    """Return the folder with modules.squashfs and, for the initramfs, early/NN-name.ko."""

    def make(new):
        deps = dependencies(tree)
        chosen = [m for m in deps if MODULES.match(m)]
        wanted = sorted({n for m in chosen for n in [m, *deps[m]]})
        with tempfile.TemporaryDirectory(dir=new) as work:
            out = Path(work) / "usr/lib/modules" / release
            for module in wanted:
                name = module.removesuffix(".xz").removesuffix(".zst")
                unpack_module(tree / module, out / name)
            for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
                shutil.copyfile(tree / name, out / name)
            cache.run(["depmod", "-b", Path(work) / "usr", release], env=chroot.sbin_environment())
            squashfs(new / "modules.squashfs", Path(work), "-all-root")
            early = []
            for name in INITRAMFS_MODULES:
                module = next((m for m in deps if stem(m) == name), None)
                if module:  # else built in
                    early += [m for m in [*deps[module], module] if m not in early]
            (new / "early").mkdir()
            for number, module in enumerate(early):
                name = module.removesuffix(".xz").removesuffix(".zst")
                shutil.copyfile(out / name, new / "early" / f"{number:02}-{stem(module)}.ko")

    key = (release, str(tree), MODULES.pattern, INITRAMFS_MODULES)
    return cache.entry("guest-modules", *key, make=make)


def cpio(folder, out):
    """Make a newc archive of the content of `folder`, owned by root."""
    names = "\n".join(sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))) + "\n"
    with open(out, "wb") as stream:
        cmd = ["cpio", "-o", "-H", "newc", "-R", "0:0", "--quiet"]
        done = subprocess.run(cmd, cwd=folder, input=names.encode(), stdout=stream)
    if done.returncode:
        raise cache.Failed(f"cpio failed ({done.returncode})")


def initramfs(root, mods):
    """Return the folder with base.cpio: busybox and the modules that mount the images."""

    def make(new):
        with tempfile.TemporaryDirectory(dir=new) as work:
            top = Path(work)
            for name in ("bin", "proc", "sys", "dev", "mnt", "run", "modules"):
                (top / name).mkdir()
            shutil.copy2(root / "busybox", top / "bin/busybox")
            for module in (mods / "early").iterdir():
                shutil.copyfile(module, top / "modules" / module.name)
            cpio(top, new / "base.cpio")

    return cache.entry("guest-initramfs", root.name, mods.name, make=make)


def get(release, tree):
    """Return root.squashfs, modules.squashfs and base.cpio; make what is missing."""
    host.need("cpio", "depmod", "mksquashfs")
    root, mods = root_fs(), modules(release, Path(tree))
    return root / "root.squashfs", mods / "modules.squashfs", initramfs(root, mods) / "base.cpio"
