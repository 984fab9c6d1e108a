# SPDX-License-Identifier: GPL-2.0
"""The recipes of the documents, run as they are written.

A recipe is all blocks of the documents that begin with ```sh recipe=NAME, in order. Its commands run
one by one in bash, in the initial namespace. Before the first one and after each one, the recipe's traffic must pass
through a firewall that drops by default.

    server -- init -- client        init forwards, and has the firewall
"""

import contextlib
import re
from pathlib import Path

from .family import V4, V6

DOCUMENTS = Path("/root/documents")
BLOCK = re.compile(r"^```sh(?: recipe=(\S+))?\n(.*?)^```$", re.M | re.S)
HERE_DOCUMENT = re.compile(r"<<'(\w+)'")

# As an admin has it who knows of no untracked packets.
FIREWALL = """
    table inet filter {
        chain input {
            type filter hook input priority filter; policy drop;
            iif lo accept
            ct state { new, established, related } accept
            icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
        }
        chain forward {
            type filter hook forward priority filter; policy drop;
            ct state { new, established, related } accept
        }
        chain output { type filter hook output priority filter; policy accept; }
    }
"""


def blocks():
    """Each block of shell commands in the documents: the name of its recipe, its text."""
    for document in sorted(DOCUMENTS.rglob("*.md")):
        yield from BLOCK.findall(document.read_text())


def commands(text):
    """The commands of a block: lines, each with its here-document."""
    lines = iter(text.splitlines())
    for line in lines:
        end = HERE_DOCUMENT.search(line)
        while end and not line.endswith(f"\n{end[1]}"):
            line += f"\n{next(lines)}"
        yield line


class RecipeHost:
    """The initial namespace as the host that a recipe is for, and its neighbours."""

    def __init__(self, lab):
        self.init, self.client, self.server = lab.init, lab.ns("client"), lab.ns("server")
        self.watches = []
        for other in (self.client, self.server):
            link = lab.link(other, self.init)
            for family, end in ((V4, f"10.0.{link.number}.2"), (V6, f"fd00:{link.number}::2")):
                other.route("default", end)

    def own(self, *addresses):
        """Give the host addresses."""
        for address in addresses:
            self.init.add_address("lab0", address, 128 if ":" in address else 32)

    def reach(self, ns, *addresses):
        """Give a neighbour addresses that the host reaches it by."""
        for address in addresses:
            ns.add_address("eth0", address, 32)
            self.init.route(f"{address}/32", ns.addr(V4))

    def watch(self, match):
        """Watch packets of the host, from the end of the recipe on."""
        watch = self.init.watch(match, name=f"watch{len(self.watches)}")
        self.watches.append(watch)
        return watch

    def steps(self, name, *flows):
        """Run a recipe; each command, and what it printed. After each, all flows must pass."""
        done = ["nothing"]
        self.check(flows, done[-1])
        for recipe, text in blocks():
            if recipe == name:
                for command in commands(text):
                    printed = self.init.run(["bash", "-c", command], cwd="/root").stdout
                    done.append(command)
                    self.check(flows, command)
                    yield command, printed
        assert len(done) > 1, "no such recipe"
        for watch in self.watches:
            watch.reset()
        self.check(flows, "all of it")

    def run(self, name, *flows):
        """Run a recipe; after it, what was watched has counted its traffic once."""
        for _ in self.steps(name, *flows):
            pass

    @staticmethod
    def check(flows, command):
        for number, flow in enumerate(flows):
            assert flow(), f"flow {number} does not pass after: {command}"

    def entries(self, number):
        """The host's entries for a port."""
        return [e for e in self.init.entries() if e.original.get("dport") == str(number)]


@contextlib.contextmanager
def gone_afterwards(*paths):
    """Delete files that a recipe makes."""
    try:
        yield
    finally:
        for path in paths:
            Path(path).unlink(missing_ok=True)


def udp(ns, address, port, **kwargs):
    """A flow: a datagram and its answer."""
    return lambda: ns.udp(address, port, **kwargs) == b"ping"


def tcp(ns, address, port, **kwargs):
    """A flow: a connection."""
    return lambda: ns.tcp(address, port, **kwargs) == b"ping"


def echo(ns, port, *addresses):
    """Serve a port on these addresses, by UDP and TCP."""
    for address in addresses:
        ns.udp_echo(port, address)
        ns.tcp_echo(port, address)


def states(*watches):
    """The states of all packets that were counted."""
    found = {state for watch in watches for hook in watch.read().values() for state in hook}
    assert found, "nothing was seen"
    return found


def port(number):
    """What to watch for packets to a port, and from it."""
    return [f"meta l4proto {{ tcp, udp }} th {end} {number}" for end in ("dport", "sport")]


def is_tracked(host, number, *flows):
    """Tell whether other flows, to a port, pass and are tracked."""
    watches = [host.watch(match) for match in port(number)]
    RecipeHost.check(flows, "the recipe")
    return "untracked" not in states(*watches)
