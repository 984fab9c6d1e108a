# SPDX-License-Identifier: GPL-2.0
"""The recipes of the documents; see netlab/recipes.py for how they are run.

In the end of each, the traffic is skipped, and other traffic is tracked.
"""

import re
import socket
import subprocess
from pathlib import Path

import netlab
import pytest
from netlab import V4
from netlab.recipes import (
    RecipeHost,
    blocks,
    echo,
    gone_afterwards,
    is_tracked,
    port,
    states,
    tcp,
    udp,
)

DNS = "192.0.2.53"
DNS6 = "2001:db8::53"


def test_each_recipe_is_run():
    """No block without a name, no recipe without a test."""
    names = [name for name, _ in blocks()]
    assert names and all(names)
    files = Path(__file__).parent.glob("test_recipes*.py")
    tests = {
        name for file in files for name in re.findall(r"^def (test_\w+)", file.read_text(), re.M)
    }
    assert {f"test_{name.replace('-', '_')}" for name in names} <= tests


def test_dns_server(ctskip, host):
    host.own(DNS, DNS6)
    for number in (53, 54):
        echo(host.init, number, DNS, DNS6)
    flows = [kind(host.client, address, 53) for kind in (udp, tcp) for address in (DNS, DNS6)]
    watches = [host.watch(match) for match in port(53)]
    host.run("dns-server", *flows)
    assert states(*watches) == {"untracked"}
    assert host.entries(53) == []
    assert is_tracked(host, 54, udp(host.client, DNS, 54), tcp(host.client, DNS6, 54))


@pytest.mark.parametrize("address", [DNS, DNS6])
def test_dns_server_hears_icmp_errors(ctskip, host, address):
    """About skipped flows, they are untracked: the recipe's firewall accepts them."""
    host.own(DNS, DNS6)
    echo(host.init, 53, DNS, DNS6)
    flow = [kind(host.client, one, 53) for kind in (udp, tcp) for one in (DNS, DNS6)]
    host.run("dns-server", *flow)
    family = netlab.family_of(address)
    error = f"{family.nft_icmp} type destination-unreachable"
    before = host.watch(error)
    # Behind the chain that the recipe adds to.
    behind = "chain c {{ type filter hook input priority filter + 1; {} counter name heard; }}"
    host.init.nft(f"table inet behind {{ counter heard {{ }}; {behind.format(error)}; }}")

    def is_heard():
        host.client.udp_send(address, 53)  # mostly, it is gone when the answer comes
        return "packets 0 " not in host.init.nft("list counter inet behind heard")

    netlab.wait_until(is_heard)
    assert set(before.read("input")) == {"untracked"}


def test_kubernetes_node(ctskip, host):
    """On a node with NAT in use, and beside a service's flow, which must stay translated."""
    local, service = "169.254.20.10", "10.96.0.1"
    node, other = host.init.addr(V4), host.client.addr(V4)
    host.own(local)
    echo(host.init, 53, local, node)
    echo(host.init, 4789, node)
    host.server.tcp_echo(443)
    host.init.nft(f"""
        table ip services {{
            chain pre {{
                type nat hook prerouting priority dstnat;
                ip daddr {service} dnat to {host.server.addr(V4)}
            }}
            chain post {{
                type nat hook postrouting priority srcnat;
                ip saddr {other} ip daddr {host.server.addr(V4)} masquerade
            }}
        }}""")
    cached = [kind(host.client, local, 53) for kind in (udp, tcp)]
    overlay = udp(host.client, node, 4789)
    watches = [host.watch(match) for number in (53, 4789) for match in port(number)]
    host.run("kubernetes-node", *cached, overlay, tcp(host.client, service, 443))
    assert states(*watches) == {"untracked"}
    assert all(counter["packets"] and not counter["held"] for counter in ctskip.counters())
    assert is_tracked(host, 443, tcp(host.client, service, 443))
    assert udp(host.client, node, 53)()
    assert node in [entry.original["dst"] for entry in host.entries(53)]


def test_find_the_flows(ctskip, host):
    host.own(DNS)
    echo(host.init, 53, DNS)
    for _ in range(3):
        host.client.udp(DNS, 53)
    (_, netns), (_, flows) = host.steps("find-the-flows", tcp(host.client, DNS, 53))
    assert re.search(r"(?m)^netns=init ct=on entries=\d+ max=\d+ drop=0 ", netns)
    assert [line.split()[1:] for line in flows.splitlines()] == [
        ["udp", "dport=53"],
        ["tcp", "dport=53"],
    ]


def test_look_first(ctskip, host):
    host.own(DNS)
    echo(host.init, 53, DNS)
    watches = [host.watch(match) for match in port(53)]
    for command, printed in host.steps("look-first", udp(host.client, DNS, 53)):
        if command.startswith("cat"):
            assert "untracked" not in states(*watches)
            (counter,) = [netlab.numbers(line) for line in printed.splitlines()]
            assert counter["observed"] and not counter["packets"]
    assert states(*watches) == {"untracked"}
    assert host.entries(53) == []


def test_dns_forwarder(ctskip, host):
    host.own(DNS)
    host.reach(host.server, "198.51.100.1")
    host.reach(host.client, "198.51.100.9")
    echo(host.server, 53, "198.51.100.1")
    echo(host.client, 53, "198.51.100.9")
    flows = [kind(host.init, "198.51.100.1", 53, source=DNS) for kind in (udp, tcp)]
    watches = [host.watch(match) for match in port(53)]
    host.run("dns-forwarder", *flows)
    assert states(*watches) == {"untracked"}
    for watch in watches:
        watch.reset()
    assert udp(host.init, "198.51.100.9", 53, source=DNS)()
    assert "untracked" not in states(*watches)


def test_router(ctskip, host):
    host.reach(host.server, DNS, "192.0.2.54")
    for address in (DNS, "192.0.2.54"):
        echo(host.server, 53, address)
    watches = [host.watch(match) for match in port(53)]
    host.run("router", udp(host.client, DNS, 53), tcp(host.client, DNS, 53))
    assert states(*watches) == {"untracked"}
    for watch in watches:
        watch.reset()
    assert udp(host.client, "192.0.2.54", 53)()
    assert "untracked" not in states(*watches)


def test_exception(ctskip, host):
    host.own(DNS)
    host.reach(host.client, "198.51.100.7")
    echo(host.init, 53, DNS)
    excepted = udp(host.client, DNS, 53, source="198.51.100.7")
    one, other = (host.watch(f"udp dport 53 ip saddr {end}198.51.100.7") for end in ("", "!= "))
    host.run("exception", udp(host.client, DNS, 53), excepted)
    assert "untracked" not in states(one)
    assert states(other) == {"untracked"}


def test_one_namespace(ctskip, lab, host):
    web, peer = lab.ns("web"), lab.ns("peer")
    lab.link(web, peer)
    peer.udp_echo(53)
    peer.udp_echo(54)
    watches = [ns.watch("udp dport 53") for ns in (web, peer)]
    flow = udp(web, peer.addr(V4), 53)
    host.run("one-namespace", flow)
    for watch in watches:
        watch.reset()
    assert flow()
    assert [states(watch) for watch in watches] == [{"untracked"}, {"new"}]
    other = web.watch("udp dport 54", name="other")
    assert udp(web, peer.addr(V4), 54)()
    assert states(other) == {"new"}


def test_rules_in_a_file(ctskip, host):
    """Twice, as a program runs it each minute."""
    host.own(DNS)
    echo(host.init, 53, DNS)
    host.init.nft("add rule inet filter input ct state untracked accept")
    ctskip.add("udp dport=99")
    watches = [host.watch(match) for match in port(53)]
    with gone_afterwards("/etc/ctskip.rules"):
        host.run("rules-in-a-file", tcp(host.client, DNS, 53))
        generation, counters = ctskip.generation, ctskip.counters()
        host.run("rules-in-a-file")
    assert [line["tag"] for line in ctskip.counters()[1:]] == ["site", "site"]
    assert (ctskip.generation, len(ctskip.counters())) == (generation, len(counters))
    assert ctskip.counters()[1]["packets"] >= counters[1]["packets"] > 0
    assert tcp(host.client, DNS, 53)()
    assert states(*watches) == {"untracked"}


def test_save_and_restore(ctskip, host):
    ctskip.commit("udp dport=53 tag=dns id=7", "insert track udp src=10.0.0.0/8 dport=53 id=3")
    ctskip.commit("tcp dport=53 netns!=init", "any netns=init nat=ok")
    rules = ctskip.rules()
    with gone_afterwards("/root/ctskip.saved"):
        for command, _ in host.steps("save-and-restore"):
            if command.startswith("cat"):
                ctskip.commit("flush")
    assert len(rules) == 4
    assert ctskip.rules() == rules


def test_take_back(ctskip, host):
    """With a connection whose entry is older than the rule: it goes on."""
    host.own(DNS)
    host.init.tcp_echo(53, DNS)
    host.init.nft("add rule inet filter input tcp dport 53 ct state untracked accept")
    connection = host.client.socket(socket.AF_INET, socket.SOCK_STREAM)
    connection.settimeout(5 * netlab.SLOWER)
    connection.connect((DNS, 53))

    def goes_on():
        data = bytes(20000)
        connection.sendall(data)
        left = len(data)
        while left:
            left -= len(connection.recv(left))
        return True

    assert goes_on()
    ctskip.add(f"tcp dst={DNS} dport=53 tag=dns")
    for _ in range(20):
        assert goes_on()
    assert len(host.entries(53)) == 1
    host.run("take-back", goes_on)
    assert ctskip.rules() == []
    assert len(host.entries(53)) == 1


@pytest.mark.own_module
def test_load_at_boot(ctskip, lab):
    host = RecipeHost(lab)
    host.own(DNS)
    for number in (53, 54):
        echo(host.init, number, DNS)
    release = lab.init.run("uname -r").stdout.strip()
    place = Path(f"/lib/modules/{release}/updates/ctskip.ko")
    for folder in (place.parent, Path("/etc/modules-load.d")):  # where systemd is, it is there
        folder.mkdir(exist_ok=True)
    files = "/etc/modules-load.d/ctskip.conf", "/etc/modprobe.d/ctskip.conf", place
    with gone_afterwards(*files):
        place.write_bytes(netlab.MODULE.read_bytes())
        subprocess.run(["depmod"], check=True)
        watches = [host.watch(match) for match in port(53)]
        host.run("load-at-boot", udp(host.client, DNS, 53), tcp(host.client, DNS, 53))
        assert Path(files[0]).read_text() == "ctskip\n"
    subprocess.run(["depmod"], check=True)
    assert states(*watches) == {"untracked"}
    assert is_tracked(host, 54, udp(host.client, DNS, 54), tcp(host.client, DNS, 54))
