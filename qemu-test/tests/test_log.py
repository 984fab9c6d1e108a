# SPDX-License-Identifier: GPL-2.0
"""The kernel's log: rules that do not act, or not as their author expects, are told of once."""

import pytest
from netlab import V4

NAT = "table {ip} nat {{ chain c {{ type nat hook prerouting priority -100; }}; }}"
# As OpenStack and VRFs have it: a zone, set ahead of conntrack.
ZONE = """table inet zones { chain c { type filter hook prerouting priority raw; ct zone set 7; };
    chain o { type filter hook output priority raw; ct zone set 7; }; }"""


def held_from_now_on(dmesg, ns):
    """How often the log says that rules begin to be held in a namespace."""
    line = f"ctskip: rules are held in netns {ns.inode} from now on: NAT is in use there"
    return dmesg.text().count(line)


def test_rules_begin_to_be_held(ctskip, lab, family, dmesg):
    client, server = lab.pair()
    address = server.addr(family)
    server.udp_echo(53)
    server.track()

    def ask():
        for _ in range(3):
            assert client.udp(address, 53) == b"ping"

    ctskip.add("udp dport=53 id=9")
    ask()
    assert held_from_now_on(dmesg, server) == 0
    # NAT comes: an empty chain is enough.
    server.nft(NAT.format(ip=family.ip))
    ask()
    assert held_from_now_on(dmesg, server) == 1
    assert held_from_now_on(dmesg, client) == 0
    # A commit says so itself, of the rules: nothing more behind it.
    ctskip.add("udp dport=54 id=10")
    assert f"ctskip: rules 9,10 are held in netns {server.inode}: NAT is in use" in dmesg.text()
    ask()
    assert held_from_now_on(dmesg, server) == 1
    # It goes, the rules change, and it comes again.
    server.run(f"nft delete table {family.ip} nat")
    ctskip.commit("delete 10")
    ask()
    server.nft(NAT.format(ip=family.ip))
    ask()
    assert held_from_now_on(dmesg, server) == 2


def test_the_initial_namespace_has_its_name(ctskip, lab, family, dmesg):
    """As everywhere else: by its number, nobody knows it."""
    client, init = lab.host()
    init.udp_echo(1053)
    init.track()
    ctskip.add("udp dport=1053 id=9")
    init.nft(NAT.format(ip=family.ip))
    assert client.udp(init.addr(family), 1053) == b"ping"
    assert "ctskip: rules are held in netns init from now on: NAT is in use" in dmesg.text()
    ctskip.add("udp dport=54 id=10")
    assert "ctskip: rules 9,10 are held in netns init: NAT is in use" in dmesg.text()
    assert f"netns {init.inode}" not in dmesg.text()


def test_listing_by_iptables_legacy(ctskip, lab, dmesg):
    """To look at the legacy table is to have NAT in use, for good."""
    client, server = lab.pair()
    server.udp_echo(53)
    server.track()
    ctskip.add("udp dport=53")
    assert client.udp(server.addr(V4), 53) == b"ping"
    server.run("iptables-legacy -t nat -L -n")
    assert client.udp(server.addr(V4), 53) == b"ping"
    assert held_from_now_on(dmesg, server) == 1


def test_namespace_made_later(ctskip, lab, family, dmesg):
    ctskip.add("udp dport=53")
    client, server = lab.pair()
    server.nft(NAT.format(ip=family.ip))
    server.udp_echo(53)
    assert client.udp(server.addr(family), 53) == b"ping"
    assert held_from_now_on(dmesg, server) == 1


def test_templates(ctskip, lab, family, dmesg):
    client, server = lab.pair()
    server.nft(ZONE)
    server.udp_echo(53)
    ctskip.add("udp dport=53")
    for _ in range(3):
        assert client.udp(server.addr(family), 53) == b"ping"
    line = f"ctskip: no rule acts on some packets in netns {server.inode}: they have a template"
    assert dmesg.text().count(line) == 1
    assert f"in netns {client.inode}" not in dmesg.text()


def test_nat_ok(ctskip, lab, family, dmesg):
    client, server = lab.pair()
    server.nft(NAT.format(ip=family.ip))
    line = f"ctskip: rules 3,5 say nat=ok, and NAT is in use in netns {server.inode}: "
    ctskip.commit(
        "add udp dport=1 nat=ok id=3",
        "add track udp dport=2 id=4",
        f"add {family.ip} udp dport=3 nat=ok id=5",
    )
    assert line in dmesg.text()
    assert f"in netns {client.inode}" not in dmesg.text()
    dmesg.clear()
    ctskip.commit("flush", f"add udp dport=1 nat=ok netns={client.inode}")
    assert "say nat=ok" not in dmesg.text()


@pytest.mark.parametrize(
    "devices, warned",
    [("dev=eth0", True), ("dev=eth0 oneway", False), ("dev=eth0,eth1", False), ("dev=eth*", False)],
)
def test_one_device(ctskip, lab, devices, warned, dmesg):
    client, router, server = lab.routed()
    ctskip.add(f"udp dport=53 {devices} id=9")
    line = f"ctskip: rules 9 name one device in netns {router.inode}, which forwards: "
    assert (line in dmesg.text()) == warned
    for ns in (client, server):
        assert f"in netns {ns.inode}" not in dmesg.text()


def test_shadowed_rules(ctskip, dmesg):
    """Told once, at the commit that made it so: of new rules, and of those that a new one leaves nothing."""
    line = "ctskip: rules {} never act: a rule ahead matches all that each of them does"
    ctskip.commit("track udp src=10.0.0.0/8 dport=53 id=3", "udp src=10.1.0.0/16 dport=53 id=4")
    assert line.format("4") in dmesg.text()
    dmesg.clear()
    # The same again, and a rule of its own.
    ctskip.commit("add udp src=10.1.0.0/16 dport=53 id=5", "add tcp dport=53 id=6")
    assert line.format("5") in dmesg.text()
    dmesg.clear()
    ctskip.commit("add udp dport=54 id=7")
    assert "never act" not in dmesg.text()
    ctskip.commit("insert tcp any id=8")
    assert line.format("6") in dmesg.text()
    dmesg.clear()
    # Half of it is left.
    ctskip.commit("insert udp dport=54 netns=init id=9")
    assert "never act" not in dmesg.text()
    # A load of many is told of as a whole, and names 16.
    rules = "".join(f"udp dport={n} id={n}\n" for n in range(1, 301))
    ctskip.load_table(f"udp any id=1000\n{rules}")
    sixteen = ",".join(str(n) for n in range(1, 17))
    assert line.format(f"{sixteen} and 284 more") in dmesg.text()
