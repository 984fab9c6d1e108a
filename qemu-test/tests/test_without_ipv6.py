# SPDX-License-Identifier: GPL-2.0
"""A kernel where IPv6 is switched off, in a guest of its own: `make test` starts it, too.

    qemu-test/run.py test --boot=ipv6.disable=1 test_without_ipv6.py

Only the initial namespace is used: the others of the lab have IPv6. What is nowhere asked for: a frame of
a bridge, which br_netfilter drops ahead of the hooks then.
"""

from pathlib import Path

import pytest
from netlab import V4

pytestmark = pytest.mark.skipif(
    Path("/proc/net/if_inet6").exists(), reason="needs --boot=ipv6.disable=1"
)


def test_all_of_it_with_rules_of_both_families(ctskip, lab):
    """What asks for a namespace's settings, its addresses and its NAT, of either family."""
    init = lab.init
    init.track()
    init.udp_sink(53, family=V4)
    ctskip.commit("udp dport=53 local=dst", "any ip6 dev=eth0", "udp dport=54 nat=ok dev=eth0")
    for _ in range(3):
        init.udp_send("127.0.0.1", 53)
    assert ctskip.counters()[0]["packets"] == 3
    assert init.count() == 0
    for name in ("rules", "counters", "tags", "netns", "stats"):
        assert ctskip.read(name)
    ctskip.commit("purge")
