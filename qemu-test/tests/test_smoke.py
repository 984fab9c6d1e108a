# SPDX-License-Identifier: GPL-2.0
"""The guest and the tests' own tools: what all other tests stand on."""

import errno
import os
import shutil
import socket
from pathlib import Path

import netlab
import pytest

pytestmark = pytest.mark.not_quick

TOOLS = (
    "bash busybox nft iptables-nft iptables-legacy ip6tables-nft ip6tables-legacy ipset conntrack ip "
    "insmod modprobe dnsmasq dig dnsperf nginx curl wrk iperf3 ping socat ethtool capsh setpriv "
    "/opt/kmod30/insmod /opt/kmod30/modprobe"
).split()


@pytest.mark.parametrize("tool", TOOLS)
def test_tool_is_there(tool):
    assert shutil.which(tool)


def test_kernel():
    assert os.cpu_count() == 2
    assert Path("/proc/sys/kernel/panic_on_warn").read_text() == "1\n"
    assert "Debian" in Path("/proc/version").read_text()


def test_kmod_versions(lab):
    assert "version 30" in lab.init.run("/opt/kmod30/modprobe --version").stdout
    newer = lab.init.run("modprobe --version").stdout.split()[2]
    assert float(newer) >= 34


def test_pair_passes_traffic(lab, family):
    client, server = lab.pair()
    address = server.addr(family)
    for start in (server.udp_echo, server.tcp_echo, server.sctp_echo):
        start(7)
    assert client.udp(address, 7, b"datagram") == b"datagram"
    assert client.tcp(address, 7, b"stream") == b"stream"
    assert client.sctp(address, 7, data=b"message") == b"message"
    assert client.ping(address, count=2) == 2
    assert client.udp(address, 8, timeout=0.3) is None
    assert client.tcp(address, 8, timeout=0.3) is None


def test_host(lab, family):
    client, init = lab.host()
    init.udp_echo(7)
    client.udp_echo(7)
    assert client.udp(init.addr(family), 7) == b"ping"
    assert init.udp(client.addr(family), 7) == b"ping"


def test_routed_and_conntrack_counts(lab, family):
    client, router, server = lab.routed()
    server.udp_echo(53)
    watch = router.watch("udp dport 53")
    assert client.udp(server.addr(family), 53, count=2) == b"ping"
    assert watch.read() == {
        hook: {"new": 1, "established": 1} for hook in ("prerouting", "forward", "postrouting")
    }
    assert router.count() == 1
    (entry,) = router.entries(family, "udp")
    assert entry.original["src"] == client.addr(family)
    assert entry.reply["src"] == server.addr(family)
    assert entry.original["dport"] == "53"
    assert client.entries() == [] and client.count() == 0  # conntrack is off there
    client.track()
    assert client.udp(server.addr(family), 53) == b"ping"
    assert client.count() == 1
    router.flush()
    watch.reset()
    assert router.entries() == [] and watch.read() == {}


def test_notrack_is_seen(lab, family):
    client, server = lab.pair()
    watch = server.watch("udp dport 7")
    server.nft("table inet raw { chain c { type filter hook prerouting priority raw; notrack; }; }")
    client.udp_send(server.addr(family), 7, count=3)
    netlab.wait_until(lambda: watch.read("prerouting") == {"untracked": 3})


def test_raw_packets(lab, family):
    from scapy.layers.inet import IP, UDP
    from scapy.layers.inet6 import IPv6

    client, server = lab.pair()
    (link,) = client.links
    network = family.pick(IP, IPv6)
    packet = (
        network(src=client.addr(family), dst=server.addr(family)) / UDP(sport=9, dport=7) / b"raw"
    )
    listening = server.socket(family.af, socket.SOCK_DGRAM)
    listening.bind(("", 7))
    listening.settimeout(2 * netlab.SLOWER)
    out, back = client.watch("udp dport 7"), client.capture(link.a_dev)
    link.send(client, packet)
    assert listening.recvfrom(100)[0] == b"raw"
    assert out.read() == {}
    client.send_ip(packet)
    data, peer = listening.recvfrom(100)
    assert data == b"raw"
    assert out.read("output") == {"new": 1}
    listening.sendto(b"answer", peer)
    assert back.wait(lambda frame: frame.endswith(b"answer"))


def test_servers(lab, family):
    client, server = lab.pair()
    address = server.addr(family)
    server.dnsmasq()
    server.nginx()
    assert client.dig(address) == "192.0.2.1"
    assert client.udp(address, 53, netlab.dns_question()).endswith(bytes([192, 0, 2, 1]))
    assert client.curl(address) == 65536
    assert client.curl(address, port=81) is None


def test_module_tree_takes_a_module(lab):
    release = os.uname().release
    assert lab.init.run("modprobe -D xt_CT").stdout
    Path(f"/lib/modules/{release}/updates").mkdir(exist_ok=True)
    with netlab.kernel_command_line("nf_conntrack.hashsize=4096"):
        assert "hashsize=4096" in lab.init.run("modprobe -c").stdout


def test_many_namespaces(lab):
    spaces = [lab.ns() for _ in range(20)]
    assert len({ns.inode for ns in spaces}) == 20


def test_kernel_log(dmesg):
    with open("/dev/kmsg", "w") as log:
        log.write("lab: hello\n")
    dmesg.wait("lab: hello")


def test_module_loads_and_goes(ctskip):
    assert ctskip.rules() == []
    first = ctskip.add("udp dport=53")
    assert ctskip.counter(first)["packets"] == 0
    assert ctskip.write("add nonsense\n") == errno.EINVAL
    assert ctskip.last_error()["errno"]
    assert len(ctskip.netns()) >= 1
    assert ctskip.header()["rules"] == 1
    assert ctskip.unload() == 0
    assert not netlab.SYSFS.exists()


@pytest.mark.own_module
def test_own_module(ctskip, dmesg):
    assert not ctskip.loaded()
    assert ctskip.load(rules="udp dport=53", mode="observe") == 0
    assert ctskip.mode == "observe" and len(ctskip.rules()) == 1
    ctskip.unload()
    assert ctskip.load(rules="nonsense") == errno.EINVAL
    dmesg.wait("ctskip: ")
    assert not ctskip.loaded()
