# SPDX-License-Identifier: GPL-2.0
"""A namespace's conntrack: its entries, and the state that it gives to packets."""

import ipaddress
import json
import re
import time
from pathlib import Path

from pyroute2 import NFCTSocket

from .firewall import Firewall
from .system import SLOWER


class Entry:
    """An entry: .family ("ipv4"), .protocol, .number (of it), .original and .reply (dicts), .text."""

    def __init__(self, line):
        self.text = line
        self.family, _, self.protocol, number = line.split()[:4]
        self.number = int(number)
        keys = ("src", "dst", "sport", "dport", "type", "code", "id", "packets", "bytes")
        halves = []
        for key, value in re.findall(r"(\w+)=(\S+)", line):
            if key == "src":
                halves.append({})
            if key in ("src", "dst"):
                value = str(ipaddress.ip_address(value))
            if halves and key in keys:
                halves[-1][key] = value
        self.original, self.reply = halves

    def __repr__(self):
        return f"<{self.text}>"


class Watch:
    """Counters behind conntrack, by hook and `ct state`."""

    HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
    STATES = ("untracked", "new", "established", "related", "invalid")
    # The kernel's own neighbour and multicast messages are always untracked: not counted.
    NOISE = (
        "icmpv6 type { mld-listener-query, mld-listener-report, mld-listener-done, "
        "mld2-listener-report, nd-router-solicit, nd-router-advert, nd-neighbor-solicit, "
        "nd-neighbor-advert } return"
    )

    def __init__(self, ns, match, name, family):
        self.ns, self.table, self.family = ns, name, family
        self.last = {}
        counters = "".join(f"counter {h}-{s} {{ }}\n" for h in self.HOOKS for s in self.STATES)
        chains = ""
        for hook in self.HOOKS:
            rules = "".join(f"{match} ct state {s} counter name {hook}-{s}\n" for s in self.STATES)
            chains += (
                f"chain {hook} {{ type filter hook {hook} priority -150;\n"
                f"{self.NOISE}\n{rules} }}\n"
            )
        ns.nft(f"table {family} {name} {{\n{counters}{chains}}}\n")

    def read(self, hook=None):
        """Return {hook: {state: packets}} without zeros, or {state: packets} of one hook."""
        listed = self.ns.nft(f"list counters table {self.family} {self.table}", as_json=True)
        found = {}
        for item in json.loads(listed)["nftables"]:
            if "counter" in item and item["counter"]["packets"]:
                name, _, state = item["counter"]["name"].partition("-")
                found.setdefault(name, {})[state] = item["counter"]["packets"]
        return found.get(hook, {}) if hook else found

    def more(self, hook, packets, timeout=5.0 * SLOWER):
        """Wait until a hook has counted that many packets since the last call; return {state: packets}."""
        end = time.monotonic() + timeout
        while True:
            now, last = self.read(hook), self.last.get(hook, {})
            new = {state: n - last.get(state, 0) for state, n in now.items()}
            if sum(new.values()) >= packets or time.monotonic() > end:
                break
            time.sleep(0.01)
        self.last[hook] = now
        return {state: n for state, n in new.items() if n}

    def reset(self):
        """Set all counters to zero."""
        self.last = {}
        self.ns.nft(f"reset counters table {self.family} {self.table}")


class Conntrack(Firewall):
    """The conntrack of a namespace. All but track() and watch() need the module nf_conntrack."""

    def track(self):
        """Turn conntrack on, by a rule that looks at `ct state`; it stays on."""
        self.nft(
            "table inet lab_track { chain c { type filter hook input priority 300; ct state new; }; }"
        )

    def watch(self, match="", name="lab_watch", family="inet"):
        """Turn conntrack on and count packets behind it by `ct state`: a Watch. `match` (nft) narrows."""
        return Watch(self, match, name, family)

    def entries(self, family=None, protocol=None):
        """Return a list of Entry, as `conntrack -L` does; of both families unless one is given."""
        with self.inside():
            text = Path("/proc/thread-self/net/nf_conntrack").read_text()
        wanted = {"ipv4", "ipv6"} if family is None else {family.conntrack}
        return [
            entry
            for entry in map(Entry, text.splitlines())
            if entry.family in wanted and protocol in (None, entry.protocol)
        ]

    def count(self):
        """Return the number of entries, as `conntrack -C` does."""
        return int(self.sysctl("net.netfilter.nf_conntrack_count"))

    def flush(self):
        """Delete all entries, as `conntrack -F` does, without a new process."""
        with self.inside():
            netlink = NFCTSocket()
        try:
            netlink.flush()
        finally:
            netlink.close()
