# SPDX-License-Identifier: GPL-2.0
"""The namespaces of a test, and the links between them."""

import itertools
import json
import shlex
import struct
import tempfile
from pathlib import Path

from .family import V4, V6
from .netns import Netns
from .servers import Reactor
from .system import INIT, wait_until


class Link:
    """A veth pair: a and b (Netns), a_dev and b_dev (names), a_mac and b_mac."""

    def __init__(self, a, b, a_dev, b_dev, number):
        self.a, self.b, self.a_dev, self.b_dev, self.number = a, b, a_dev, b_dev, number
        self.a_mac, self.b_mac = (f"02:00:00:00:{number:02x}:{end:02x}" for end in (1, 2))

    def send(self, ns, packet):
        """Put an IP packet (bytes or scapy) on the wire at the end in `ns`.

        The other end receives it; no hook of `ns` sees it.
        """
        data = bytes(packet)
        src, dst, device = (
            (self.a_mac, self.b_mac, self.a_dev)
            if ns is self.a
            else (self.b_mac, self.a_mac, self.b_dev)
        )
        ethertype = V4.ethertype if data[0] >> 4 == 4 else V6.ethertype
        header = bytes.fromhex((dst + src).replace(":", "")) + struct.pack("!H", ethertype)
        ns.send_frame(device, header + data)


class Lab:
    """The namespaces of one test."""

    def __init__(self):
        self.numbers = itertools.count()
        self.subnets = itertools.count(1)
        self.folder = Path(tempfile.mkdtemp(prefix="lab-"))
        self.namespaces = []
        self.init = Netns(self, "init", INIT)
        self.reactor = Reactor()

    def new_path(self, name):
        """Return a new path for a file of this test; nothing is there yet."""
        return self.folder / f"{next(self.numbers)}-{name}"

    def ns(self, name=None):
        """Return a new namespace."""
        made = Netns(self, name or f"ns{next(self.numbers)}")
        self.namespaces.append(made)
        return made

    def link(self, a, b, a_dev=None, b_dev=None, addresses=True, mtu=None):
        """Return a new veth between two: 10.0.N.1 and fd00:N::1 at a, .2 and ::2 at b, N = 1, 2, ...

        Devices are eth0, eth1, ... in a namespace, lab0, lab1, ... in init. The neighbours are
        permanent, so no ARP or neighbour discovery runs.
        """
        number = next(self.subnets)
        names = [
            given or f"{'lab' if ns.is_init else 'eth'}{len(ns.links)}"
            for ns, given in ((a, a_dev), (b, b_dev))
        ]
        link = Link(a, b, *names, number)
        more = {"mtu": mtu} if mtu else {}
        a.ip.link(
            "add",
            ifname=link.a_dev,
            kind="veth",
            address=link.a_mac,
            **more,
            peer={"ifname": link.b_dev, "address": link.b_mac, "net_ns_fd": b.fd, **more},
        )
        for ns, device in ((a, link.a_dev), (b, link.b_dev)):
            if ns.is_init:
                for key in ("accept_dad", "router_solicitations"):
                    ns.device_sysctl(V6, device, key, 0)
            ns.links.append(link)
            ns.ip.link("set", index=ns.index(device), state="up")
        if addresses:
            ends = [(a, link.a_dev, 1, link.b_mac), (b, link.b_dev, 2, link.a_mac)]
            for ns, device, own, peer_mac in ends:
                for prefix, length in ((f"10.0.{number}.", 24), (f"fd00:{number}::", 64)):
                    ns.add_address(device, f"{prefix}{own}", length)
                    ns.add_neighbour(device, f"{prefix}{3 - own}", peer_mac)
        return link

    def pair(self):
        """Return two new namespaces, client -- server."""
        client, server = self.ns("client"), self.ns("server")
        self.link(client, server)
        return client, server

    def host(self):
        """Return a new namespace and the initial one, client -- init."""
        client = self.ns("client")
        self.link(client, self.init)
        return client, self.init

    def routed(self):
        """Return client -- router -- server, with default routes and forwarding."""
        client, router, server = self.ns("client"), self.ns("router"), self.ns("server")
        self.link(client, router)
        self.link(router, server)
        router.forward()
        for family in (V4, V6):
            client.route("default", router.addr(family, 0))
            server.route("default", router.addr(family, 1))
        return client, router, server

    def bridged(self, names=("client", "bridge", "server")):
        """Return client -- bridge -- server; the bridge's frames pass the IP hooks."""
        client, bridge, server = (self.ns(name) for name in names)
        links = [self.link(end, bridge, addresses=False) for end in (client, server)]
        bridge.ip.link("add", ifname="br0", kind="bridge")
        for link in links:
            bridge.ip.link("set", index=bridge.index(link.b_dev), master=bridge.index("br0"))
        bridge.ip.link("set", index=bridge.index("br0"), state="up")
        for number, (end, peer) in enumerate(zip((client, server), links[::-1]), 1):
            for prefix, length in (("10.9.0.", 24), ("fd00:9::", 64)):
                end.add_address("eth0", f"{prefix}{number}", length)
                end.add_neighbour("eth0", f"{prefix}{3 - number}", peer.a_mac)
        self.init.run("modprobe br_netfilter")
        for key in ("iptables", "ip6tables"):
            bridge.sysctl(f"net.bridge.bridge-nf-call-{key}", 1)

        def ports_forward():
            ports = json.loads(bridge.run("bridge -json link").stdout)
            return [port["state"] for port in ports] == ["forwarding"] * 2

        # A port that hears late of its carrier drops the frames until then.
        wait_until(ports_forward)
        return client, bridge, server

    def report(self):
        """Yield the state of the first few namespaces, for the log of a failed test; more would take long."""
        for ns in [self.init, *self.namespaces[:6]]:
            yield f"--- {ns.name} (inode {ns.inode})"
            for command in (
                "ip -br addr",
                "nft list ruleset",
                "conntrack -L -f ipv4",
                "conntrack -L -f ipv6",
            ):
                done = ns.run(command, check=False)
                yield f"$ {command}\n{done.stdout}"
            for process in ns.processes:
                yield f"$ {shlex.join(process.args)}\n{process.log.read_text(errors='replace')}"

    def close(self):
        """Remove all of it, also the devices, rules and entries that a test made in init."""
        self.reactor.close()
        for link in self.init.links:
            device = link.a_dev if link.a is self.init else link.b_dev
            for index in self.init.ip.link_lookup(ifname=device):
                self.init.ip.link("del", index=index)
        for ns in self.namespaces:
            ns.close()
        if self.init.rules_made:
            for family in (V4, V6):
                for table in ("raw", "mangle", "nat", "filter"):
                    names = Path(f"/proc/net/{family.pick('ip', 'ip6')}_tables_names")
                    if names.exists() and table in names.read_text().split():
                        for what in ("-F", "-X"):
                            self.init.iptables(family, f"-t {table} {what}", legacy=True)
            self.init.nft("flush ruleset")
            self.init.flush()
        self.init.close()
