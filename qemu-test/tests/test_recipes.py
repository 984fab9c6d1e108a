# SPDX-License-Identifier: GPL-2.0
"""The recipes of the documents; see netlab/recipes.py for how they are run.

In the end of each, the traffic is skipped, and other traffic is tracked.
"""

import concurrent.futures
import contextlib
import re
import shlex
import socket
import subprocess
from pathlib import Path

import netlab
import pytest
from netlab import V4
from netlab.recipes import (
    DOCUMENTS,
    RecipeHost,
    blocks,
    echo,
    gone_afterwards,
    is_tracked,
    port,
    recipe,
    states,
    tcp,
    udp,
)

# What documents say is seen on the stock kernel.
pytestmark = pytest.mark.not_quick

DNS = "192.0.2.53"
DNS6 = "2001:db8::53"
EITHER = "meta l4proto { udp, tcp }"


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
    host.answer(host.init, DNS, DNS6)
    echo(host.init, 54, DNS, DNS6)
    host.strict(input=f"{EITHER} th dport 53-54")
    flows = [kind(host.client, address, 53) for kind in (udp, tcp) for address in (DNS, DNS6)]
    watches = [host.watch(match) for match in port(53)]
    with host.asked((host.client, DNS), (host.client, DNS6)):
        host.run("dns-server", *flows)
        assert states(*watches) == {"untracked"}
        assert host.entries(53) == []
        assert is_tracked(host, 54, udp(host.client, DNS, 54), tcp(host.client, DNS6, 54))
        host.again("dns-server", *flows)


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


@pytest.fixture
def node(lab, host):
    """The host as a Kubernetes node with NAT for services, and a mesh's pod beside.

    Give the flows, the watches, the pod, and what is asked.
    """
    local, dns, service = "169.254.20.10", "10.96.0.10", "10.96.0.1"
    own, pod, backend = (ns.addr(V4) for ns in (host.init, host.client, host.server))
    host.own(local, dns)
    host.answer(host.init, local, dns, own)
    host.answer(host.server, backend)  # the DNS pods, where kube-proxy sends those to dns
    echo(host.init, 4789, own)
    host.init.tcp_echo(8080, local)
    host.server.tcp_echo(443)
    services = f"ip daddr {service} dnat to {backend}; ip daddr {dns} dnat to {backend}"
    host.init.nft(f"""
        table ip services {{
            chain pre {{ type nat hook prerouting priority dstnat; {services}; }}
            chain out {{ type nat hook output priority dstnat; {services}; }}
            chain post {{
                type nat hook postrouting priority srcnat;
                ip saddr {pod} ip daddr {backend} masquerade
            }}
        }}""")
    mesh = lab.ns("mesh")
    host.join(mesh)
    mesh.nft(f"""
        table ip mesh {{
            chain out {{ type nat hook output priority dstnat; {EITHER} th dport 53 redirect to :15053; }}
        }}""")
    host.questions.serve(mesh, "127.0.0.1", 15053)
    mesh.tcp_echo(15053, "127.0.0.1")
    flows = [kind(host.client, end, 53) for kind in (udp, tcp) for end in (local, dns)]
    flows += [tcp(host.init, local, 8080), udp(host.client, own, 4789)]
    flows += [tcp(host.client, service, 443)]
    watches = [host.watch(match) for number in (53, 4789, 8080) for match in port(number)]
    return flows, watches, mesh, [(host.client, local), (host.client, dns), (mesh, local)]


def test_kubernetes_node(ctskip, host, node):
    """Beside a service's flow, which must stay translated."""
    flows, watches, mesh, asked = node
    passing = host.init.watch(f"ip saddr {mesh.addr(V4)}", name="mesh")
    with host.asked(*asked):
        host.run("kubernetes-node", *flows)
        assert states(*watches) == {"untracked"}
        assert not any("forward" in watch.read() for watch in watches)
        assert all(counter["packets"] and not counter["held"] for counter in ctskip.counters())
        assert is_tracked(host, 443, flows[-1])
        assert udp(host.client, host.init.addr(V4), 53)()
        assert host.init.addr(V4) in [entry.original["dst"] for entry in host.entries(53)]

    # What netns=init is for: the mesh's proxy has had all questions of its pod.
    def talk():
        before = len(mesh.entries())
        assert udp(mesh, "169.254.20.10", 53)() and tcp(mesh, "169.254.20.10", 53)()
        return len(mesh.entries()) - before

    assert talk() == 2
    assert passing.read() == {}
    ctskip.add("udp,tcp dst=169.254.20.10 dport=53 nat=ok")
    assert talk() == 0
    assert passing.read() != {}


def test_take_back_from_nat(ctskip, host, node):
    """Under questions to the service's address alone: a new one goes out before the last one's answer is there."""
    flows, _, _, asked = node
    with host.asked(asked[1]):
        host.run("kubernetes-node", *flows)
        host.again("kubernetes-node", *flows, back="take-back-from-nat")


@pytest.fixture
def docker(host):
    """The client as a container of a user-defined network, and what it asks: the server itself, and Docker's."""
    stub, container, server = "127.0.0.11", host.client, host.server
    host.reach(server, DNS)
    server.ip.route("del", dst="0.0.0.0/0")  # nobody knows the container's network
    host.init.nft(
        "table ip out { chain c { type nat hook postrouting priority srcnat; oif lab1 masquerade; }; }"
    )
    container.nft(f"""
        table ip docker {{
            chain out {{
                type nat hook output priority dstnat;
                ip daddr {stub} udp dport 53 dnat to {stub}:4000
                ip daddr {stub} tcp dport 53 dnat to {stub}:4001
            }}
            chain post {{
                type nat hook postrouting priority srcnat;
                ip saddr {stub} udp sport 4000 snat to :53
                ip saddr {stub} tcp sport 4001 snat to :53
            }}
        }}""")
    host.answer(server, DNS)
    host.questions.serve(container, stub, 4000)
    container.tcp_echo(4001, stub)
    return container, [DNS, stub]


def test_docker_host(ctskip, host, docker):
    container, servers = docker
    flows = [kind(container, address, 53) for kind in (udp, tcp) for address in servers]
    watches = [host.watch(f"ip {end} {DNS}", container) for end in ("saddr", "daddr")]
    outside = host.init.watch(f"ip daddr {DNS}", name="outside")
    with host.asked(*((container, address) for address in servers)):
        host.run("docker-host", *flows)
        assert states(*watches) == {"untracked"}
        assert {entry.original["dst"] for entry in container.entries()} == {"127.0.0.11"}
        assert "untracked" not in states(outside)
        assert {entry.reply["dst"] for entry in host.entries(53)} == {host.init.addr(V4, 1)}
        host.again("docker-host", *flows)


def test_other_rules_on_a_docker_host(ctskip, host, docker):
    """The table below the recipe."""
    container, servers = docker
    text = (DOCUMENTS / "docs/recipes.md").read_text()
    rows = re.search(r"(?ms)^## A Docker host$.*?^\| --- \| --- \|\n(.*?)^$", text)[1].splitlines()
    watch = container.watch(f"ip daddr {DNS}", name="own")
    outcomes = []
    for row in rows:
        rules, comes = row.strip("| ").split(" | ")
        ctskip.commit("flush", *re.findall("`([^`]*)`", rules))
        passed = [
            all(kind(container, end, 53, timeout=0.5 * netlab.SLOWER)() for kind in (udp, tcp))
            for end in servers
        ]
        skipped = "untracked" in states(watch)
        watch.reset()
        outcomes.append((*passed, skipped))
        assert ("no answers" in comes) == (not all(passed)), row
        assert ("held" in comes) != skipped, row
    assert outcomes == [
        (True, True, False),
        (False, True, True),
        (False, False, True),
        (True, False, True),
        (True, True, True),
    ]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_health_checks(ctskip, host, address):
    """The table is full of connections that conntrack would not give up for others."""
    host.init.tcp_echo(7)
    host.init.tcp_echo(10248, address)
    others = [host.client.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(60)]
    host.init.flush()
    for other in others:
        other.connect((host.init.addr(V4), 7))

    def healthy():
        def check(_):
            return tcp(host.init, address, 10248, timeout=netlab.SLOWER)()

        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            return sum(pool.map(check, range(20)))

    most = host.init.sysctl("net.netfilter.nf_conntrack_max")
    host.init.sysctl("net.netfilter.nf_conntrack_max", 40)
    try:
        assert healthy() == 0
        drop = ctskip.netns(host.init)["drop"]
        assert drop >= 20
        host.run("health-checks")
        drop, entries = (ctskip.netns(host.init)[key] for key in ("drop", "entries"))
        assert healthy() == 20
        assert (drop, entries) == tuple(ctskip.netns(host.init)[key] for key in ("drop", "entries"))
        assert entries >= 60
        oneway = [f"{rule.replace(' tag=', ' oneway tag=')}" for rule in ctskip.rules()]
        ctskip.commit("flush", *(re.sub(r" id=\d+", "", rule) for rule in oneway))
        assert healthy() == 0
        assert ctskip.netns(host.init)["drop"] > drop
        host.take_back()
    finally:
        host.init.sysctl("net.netfilter.nf_conntrack_max", most)
    assert healthy() == 20


def test_find_the_flows(ctskip, host):
    host.own(DNS)
    host.answer(host.init, DNS)
    for _ in range(3):
        host.client.udp(DNS, 53)
    with host.asked((host.client, DNS)):
        (_, netns), (_, flows) = host.steps("find-the-flows", tcp(host.client, DNS, 53))
    assert re.search(r"(?m)^netns=init ct=on entries=\d+ max=\d+ drop=\d+ ", netns)
    assert [line.split()[1:] for line in flows.splitlines()] == [
        ["udp", "dport=53"],
        ["tcp", "dport=53"],
    ]


def test_look_first(ctskip, host):
    host.own(DNS)
    host.answer(host.init, DNS)
    host.strict(input="udp dport 53")
    watches = [host.watch(match) for match in port(53)]
    with host.asked((host.client, DNS)):
        for command, printed in host.steps("look-first", udp(host.client, DNS, 53)):
            if command.startswith("cat"):
                assert "untracked" not in states(*watches)
                (counter,) = [netlab.numbers(line) for line in printed.splitlines()]
                assert counter["observed"] and not counter["packets"]
        assert states(*watches) == {"untracked"}
        assert host.entries(53) == []


def test_icmp_errors(ctskip, lab, host, family):
    """Path-MTU discovery of this host's flow, and of one that it forwards."""
    far = lab.ns("far")
    link = lab.link(host.client, far)
    host.client.forward()
    address = f"10.0.{link.number}.2" if family is V4 else f"fd00:{link.number}::2"
    far.route("default", host.client.addr(family, 1))
    host.init.route(f"{address}/{family.bits}", host.client.addr(family))
    host.client.run(f"ip -{family.version} route add {address}/{family.bits} dev eth1 mtu 1300")
    new = "tcp dport 7"
    host.strict(
        input=f"{new} ct state untracked accept; {new}",
        output=f"tcp sport 7 ct state untracked accept; {new}",
        forward=f"tcp sport 7 ct state untracked accept; {new} ct state untracked accept; {new}",
    )
    data = bytes(20000)
    flows = []
    # What the host has learned for its own flow, it says itself to those whom it forwards for: its flow is tried
    # last, and not before the recipe, as what it could not send then is sent again.
    for ns in (host.server, host.init):
        ns.tcp_echo(7)
        flows.append(
            lambda to=ns.addr(family): far.tcp(to, 7, data, timeout=2.0 * netlab.SLOWER) == data
        )
    for ns in (host.init, host.server):
        ctskip.add(f"tcp dst={ns.addr(family)} dport=7")
    assert not flows[0]()
    for command in recipe("icmp-errors"):
        host.do(command)
    host.check(flows, "the recipe")


def test_dns_forwarder(ctskip, host):
    upstream = {DNS: "198.51.100.1", DNS6: "2001:db8:1::1"}
    host.own(*upstream)
    host.reach(host.server, *upstream.values())
    host.reach(host.client, "198.51.100.9")
    host.answer(host.server, *upstream.values())
    echo(host.client, 53, "198.51.100.9")
    host.strict(output=f"{EITHER} th dport 53")
    flows = [
        kind(host.init, address, 53, source=own)
        for kind in (udp, tcp)
        for own, address in upstream.items()
    ]
    watches = [host.watch(match) for match in port(53)]
    with host.asked(*((host.init, address, own) for own, address in upstream.items())):
        host.run("dns-forwarder", *flows)
        assert states(*watches) == {"untracked"}
        other = host.init.watch("ip daddr 198.51.100.9", name="other")
        assert udp(host.init, "198.51.100.9", 53, source=DNS)()
        assert "untracked" not in states(other)
        host.again("dns-forwarder", *flows)


def test_router(ctskip, host):
    host.reach(host.server, DNS, DNS6, "192.0.2.54")
    host.answer(host.server, DNS, DNS6, "192.0.2.54")
    host.strict(forward=f"{EITHER} th dport 53")
    watches = [host.watch(match) for match in port(53)]
    flows = [kind(host.client, address, 53) for kind in (udp, tcp) for address in (DNS, DNS6)]
    with host.asked((host.client, DNS), (host.client, DNS6)):
        host.run("router", *flows)
        assert states(*watches) == {"untracked"}
        other = host.init.watch("ip daddr 192.0.2.54", name="other")
        assert udp(host.client, "192.0.2.54", 53)()
        assert "untracked" not in states(other)
        host.again("router", *flows)


def test_exception(ctskip, host):
    host.own(DNS)
    host.reach(host.client, "198.51.100.7")
    host.answer(host.init, DNS)
    excepted = udp(host.client, DNS, 53, source="198.51.100.7")
    one, other = (host.watch(f"udp dport 53 ip saddr {end}198.51.100.7") for end in ("", "!= "))
    flows = [udp(host.client, DNS, 53), excepted]
    with host.asked((host.client, DNS), (host.client, DNS, "198.51.100.7")):
        host.run("exception", *flows)
        assert "untracked" not in states(one)
        assert states(other) == {"untracked"}
        host.take_back(flows)


def test_one_namespace(ctskip, lab, host):
    web, peer = lab.ns("web"), lab.ns("peer")
    lab.link(web, peer)
    host.answer(peer, peer.addr(V4))
    peer.udp_echo(54)
    watches = [ns.watch("udp dport 53") for ns in (web, peer)]
    flow = udp(web, peer.addr(V4), 53)
    with host.asked((web, peer.addr(V4))):
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
    host.answer(host.init, DNS)
    host.init.nft("add rule inet filter input ct state untracked accept")
    ctskip.add("udp dport=99")
    watches = [host.watch(match) for match in port(53)]
    with gone_afterwards("/etc/ctskip.rules"), host.asked((host.client, DNS)):
        host.run("rules-in-a-file", tcp(host.client, DNS, 53))
        generation, counters = ctskip.generation, ctskip.counters()
        host.run("rules-in-a-file")
    assert [line["tag"] for line in ctskip.counters()[1:]] == ["site", "site"]
    assert (ctskip.generation, len(ctskip.counters())) == (generation, len(counters))
    assert ctskip.counters()[1]["packets"] >= counters[1]["packets"] > 0
    assert tcp(host.client, DNS, 53)()
    assert states(*watches) == {"untracked"}


def test_replace_a_rule(ctskip, host):
    host.own(DNS)
    host.answer(host.init, DNS)
    host.init.nft("add rule inet filter input ct state untracked accept")
    ctskip.commit(f"udp,tcp dst={DNS} dport=53 tag=dns id=1", f"tcp dst={DNS} dport=80 id=2")
    watches = [host.watch(match) for match in port(53)]
    with host.asked((host.client, DNS)):
        assert tcp(host.client, DNS, 53)()
        generation = ctskip.generation
        host.run("replace-a-rule", udp(host.client, DNS, 53))
        assert states(*watches) == {"untracked"}
    new, old = ctskip.counters()
    assert ctskip.generation == generation + 1
    assert new["rule"] == f"skip tcp,udp dst={DNS} dport=53,853 tag=dns"
    assert new["id"] > old["id"] == 2


def test_the_unit(ctskip, host):
    """The guest has no systemd: what its unit runs."""
    text = (DOCUMENTS / "docs/recipes.md").read_text()
    (unit,) = re.findall(r"^```ini\n(.*?)^```$", text, re.M | re.S)
    commands = [shlex.split(value) for value in re.findall(r"(?m)^Exec\w+=(.*)$", unit)]
    assert [Path(command[0]).name for command in commands] == ["modprobe", "sh"]
    assert all(Path(command[0]).exists() for command in commands)
    rules = Path("/etc/ctskip.rules")
    load = commands[1]
    ctskip.add("udp dport=99")
    with gone_afterwards(rules):
        assert host.init.run(load, check=False).returncode
        rules.write_text(f"udp dst={DNS} dport=53 # DNS\n")
        host.init.run(load)
        expected = ["skip udp dport=99", f"skip udp dst={DNS} dport=53 tag=site"]
        assert [line["rule"] for line in ctskip.counters()] == expected
        rules.write_text("udp frob\n")
        assert host.init.run(load, check=False).returncode
        assert [line["rule"] for line in ctskip.counters()] == expected


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
    host.answer(host.init, DNS)
    host.init.nft(f"add rule inet filter input {EITHER} th dport 53 ct state untracked accept")
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

    def connections():
        return [entry for entry in host.entries(53) if entry.protocol == "tcp"]

    with host.asked((host.client, DNS)):
        assert goes_on()
        ctskip.add(f"udp,tcp dst={DNS} dport=53 tag=dns")
        for _ in range(20):
            assert goes_on()
        assert len(connections()) == 1
        host.run("take-back", goes_on)
        assert ctskip.rules() == []
        assert len(connections()) == 1


@contextlib.contextmanager
def installed(lab):
    """Have the module where modprobe finds it."""
    release = lab.init.run("uname -r").stdout.strip()
    place = Path(f"/lib/modules/{release}/updates/ctskip.ko")
    place.parent.mkdir(exist_ok=True)
    with gone_afterwards(place):
        place.write_bytes(netlab.MODULE.read_bytes())
        subprocess.run(["depmod"], check=True)
        yield
    subprocess.run(["depmod"], check=True)


@pytest.mark.own_module
def test_upgrade(ctskip, lab, host):
    host.own(DNS)
    host.answer(host.init, DNS)
    host.strict(input=f"{EITHER} th dport 53")
    for command in recipe("dns-server"):
        if command.startswith("nft"):
            host.do(command)
    assert ctskip.load() == 0
    ctskip.commit(f"add udp,tcp dst={DNS} dport=53 tag=dns id=7", "purge")
    rules = ctskip.rules()
    watches = [host.watch(match) for match in port(53)]
    flows = udp(host.client, DNS, 53), tcp(host.client, DNS, 53)
    with installed(lab), gone_afterwards("/root/ctskip.saved"), host.asked((host.client, DNS)):
        host.run("upgrade", *flows)
        assert ctskip.rules() == rules
        assert states(*watches) == {"untracked"}
        assert host.entries(53) == []
        host.take_back(flows)


@pytest.mark.own_module
def test_load_at_boot(ctskip, lab):
    host = RecipeHost(lab)
    host.own(DNS)
    host.answer(host.init, DNS)
    echo(host.init, 54, DNS)
    Path("/etc/modules-load.d").mkdir(exist_ok=True)  # where systemd is, it is there
    files = "/etc/modules-load.d/ctskip.conf", "/etc/modprobe.d/ctskip.conf"
    watches = [host.watch(match) for match in port(53)]
    with installed(lab), gone_afterwards(*files), host.asked((host.client, DNS)):
        host.run("load-at-boot", udp(host.client, DNS, 53), tcp(host.client, DNS, 53))
        assert Path(files[0]).read_text() == "ctskip\n"
        assert states(*watches) == {"untracked"}
        assert is_tracked(host, 54, udp(host.client, DNS, 54), tcp(host.client, DNS, 54))
