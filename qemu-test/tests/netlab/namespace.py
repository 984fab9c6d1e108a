# SPDX-License-Identifier: GPL-2.0
"""A network namespace: how to be in it, its addresses and settings, programs and sockets of it."""

import contextlib
import os
import shlex
import socket
import subprocess
from pathlib import Path

from pyroute2 import IPRoute

from .family import V4, V6, family_of
from .system import INIT, SLOWER, bind_mount, unmount

NETNS = Path("/run/netns")
_IFA_F_NODAD, _NUD_PERMANENT = 2, 0x80


class Namespace:
    """A network namespace. It has a name in /run/netns, so `ip netns exec NAME` works by hand too."""

    def __init__(self, lab, name, fd=None):
        self.lab, self.name = lab, name
        self.links = []
        self.addresses = {4: [], 6: []}
        self.processes = []
        self.sockets = []
        self._ip = None
        self.is_init = fd is not None
        if self.is_init:
            self.fd = fd
            return
        path = NETNS / name
        path.touch(exist_ok=False)
        try:
            os.unshare(os.CLONE_NEWNET)
            bind_mount("/proc/thread-self/ns/net", path)
            self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            # The test's packets only: addresses are used at once, no router is asked for.
            for key, value in (
                ("accept_dad", 0),
                ("router_solicitations", 0),
                ("addr_gen_mode", 1),
            ):
                Path(f"/proc/sys/net/ipv6/conf/default/{key}").write_text(f"{value}\n")
            # A closed connection whose peer is gone keeps its namespace, and the modules that its
            # rules use: for a second, not for minutes.
            Path("/proc/sys/net/ipv4/tcp_orphan_retries").write_text("1\n")
        finally:
            os.setns(INIT, os.CLONE_NEWNET)
        self.ip.link("set", index=1, state="up")

    @property
    def inode(self):
        """The number that `lsns -t net` and ctskip's `netns=` use."""
        return os.fstat(self.fd).st_ino

    @contextlib.contextmanager
    def inside(self):
        """Put this thread in the namespace: its new sockets and processes belong to it.

        Do not nest: the end puts the thread in the initial namespace.
        """
        os.setns(self.fd, os.CLONE_NEWNET)
        try:
            yield self
        finally:
            os.setns(INIT, os.CLONE_NEWNET)

    def close(self):
        """End its processes, close its sockets, take it out of /run/netns."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for made in self.sockets:
            made.close()
        if self._ip is not None:
            self._ip.close()
        if self.is_init:
            return
        os.close(self.fd)
        path = NETNS / self.name
        unmount(path)
        path.unlink()

    def __repr__(self):
        return f"Netns({self.name})"

    # addresses, routes, settings

    @property
    def ip(self):
        """pyroute2's IPRoute in the namespace."""
        if self._ip is None:
            with self.inside():
                self._ip = IPRoute()
        return self._ip

    def index(self, device):
        """Return the index of a device."""
        with self.inside():
            return socket.if_nametoindex(device)

    def addr(self, family=V4, number=0):
        """Return one of its addresses as text, by default the first."""
        return self.addresses[family.version][number]

    def add_address(self, device, address, prefix):
        """Add an address that is usable at once."""
        self.ip.addr(
            "add",
            index=self.index(device),
            address=address,
            prefixlen=prefix,
            flags=_IFA_F_NODAD if ":" in address else 0,
        )
        self.addresses[family_of(address).version].append(address)

    def add_neighbour(self, device, address, mac):
        """Add a permanent neighbour: no ARP, and no error where the address does not answer."""
        self.ip.neigh(
            "replace",
            dst=address,
            lladdr=mac,
            ifindex=self.index(device),
            state=_NUD_PERMANENT,
        )

    def route(self, destination, via=None, device=None):
        """Add a route: destination is "default" with a `via`, or a prefix."""
        how = {"gateway": via} if via else {}
        if device:
            how["oif"] = self.index(device)
        if destination == "default":
            self.ip.route("add", dst=V6.pick("", "::/0") if ":" in via else "0.0.0.0/0", **how)
        else:
            self.ip.route("add", dst=destination, **how)

    def sysctl(self, name, value=None):
        """Read (no value) or write a sysctl: ns.sysctl("net.ipv4.ip_forward", 1)."""
        path = Path("/proc/sys") / name.replace(".", "/")
        with self.inside():
            if value is None:
                return path.read_text().strip()
            path.write_text(f"{value}\n")

    def device_sysctl(self, family, device, key, value):
        """Write a sysctl of a device, whose name may hold a dot."""
        with self.inside():
            name = family.pick("ipv4", "ipv6")
            Path(f"/proc/sys/net/{name}/conf/{device}/{key}").write_text(f"{value}\n")

    def forward(self):
        """Make it a router."""
        self.sysctl("net.ipv4.ip_forward", 1)
        self.sysctl("net.ipv6.conf.all.forwarding", 1)

    # programs and sockets

    def run(self, command, stdin=None, check=True, timeout=60, **kwargs):
        """Run a program to its end; return a CompletedProcess with text.

        A command that is a string is split as a shell would.
        """
        argv = shlex.split(command) if isinstance(command, str) else [str(w) for w in command]
        with self.inside():
            done = subprocess.run(
                argv,
                input=stdin,
                text=True,
                capture_output=True,
                timeout=timeout * SLOWER,
                check=False,
                **kwargs,
            )
        if check and done.returncode:
            raise AssertionError(
                f"{shlex.join(argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def start(self, command, **kwargs):
        """Start a program that stays; return a Popen whose .log is the path of its output.

        The program is ended with the namespace.
        """
        argv = shlex.split(command) if isinstance(command, str) else [str(w) for w in command]
        log = self.lab.new_path(f"{self.name}-{Path(argv[0]).name}.log")
        with self.inside(), open(log, "wb") as out:
            kwargs = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": out} | kwargs
            process = subprocess.Popen(argv, **kwargs)
        process.log = log
        self.processes.append(process)
        return process

    def socket(self, *arguments):
        """Return a new socket of the namespace; it is closed with the namespace."""
        with self.inside():
            made = socket.socket(*arguments)
        self.sockets.append(made)
        return made

    def listens(self, protocol, port):
        """Tell whether a socket is bound to that port: protocol is "udp" or "tcp"."""
        state = {"udp": "07", "tcp": "0A"}[protocol]
        with self.inside():
            for name in (protocol, protocol + "6"):
                for line in Path(f"/proc/thread-self/net/{name}").read_text().splitlines()[1:]:
                    fields = line.split()
                    if fields[3] == state and int(fields[1].rpartition(":")[2], 16) == port:
                        return True
        return False
