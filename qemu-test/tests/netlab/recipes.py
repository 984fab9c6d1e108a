# SPDX-License-Identifier: GPL-2.0
"""The recipes of the documents, run as they are written.

A recipe is all blocks of the documents that begin with ```sh recipe=NAME, in order. Its commands run
one by one in bash, in the initial namespace. Before the first one and after each one, the recipe's traffic must pass
through a firewall that drops by default. Meanwhile, questions are asked all the time (questions.py). After that, the
rules are taken back, and given again in the mode observe first, by the documents' commands (RecipeHost.again()).

    server -- init -- client        init forwards, and has the firewall
"""

import contextlib
import re
from pathlib import Path

from .ctskip import Ctskip
from .family import family_of
from .questions import Questions

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


# The same, with nothing new but what a test lets in, and in `output` as well.
STRICT = """
    flush chain inet filter {chain}
    table inet filter {{
        chain {chain} {{
            type filter hook {chain} priority filter; policy drop;
            {loopback}
            ct state {{ established, related }} accept
            icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
            {new}
        }}
    }}
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


def recipe(name):
    """The commands of a recipe."""
    found = [command for known, text in blocks() if known == name for command in commands(text)]
    assert found, "no such recipe"
    return found


class RecipeHost:
    """The initial namespace as the host that a recipe is for, and its neighbours."""

    def __init__(self, lab):
        self.init, self.client, self.server = lab.init, lab.ns("client"), lab.ns("server")
        self.watches = []
        self.questions = Questions()
        for other in (self.client, self.server):
            self.join(other)

    def join(self, ns):
        """Have a namespace reach all others by way of the host."""
        link = ns.lab.link(ns, self.init)
        for end in (f"10.0.{link.number}.2", f"fd00:{link.number}::2"):
            ns.route("default", end)

    def own(self, *addresses):
        """Give the host addresses."""
        for address in addresses:
            self.init.add_address("lab0", address, 128 if ":" in address else 32)

    def reach(self, ns, *addresses):
        """Give a neighbour addresses that the host reaches it by."""
        for address in addresses:
            family = family_of(address)
            ns.add_address("eth0", address, family.bits)
            self.init.route(f"{address}/{family.bits}", ns.addr(family))

    def strict(self, **new):
        """Have the firewall drop by default in all chains. `new` is what it lets in there, in nft's words."""
        for chain, loopback in (("input", "iif lo"), ("output", "oif lo"), ("forward", "")):
            self.init.nft(
                STRICT.format(
                    chain=chain,
                    loopback=f"{loopback} accept" if loopback else "",
                    new=f"{new[chain]} ct state new accept" if chain in new else "",
                )
            )

    def answer(self, ns, *addresses):
        """Answer questions at these addresses, by UDP (late) and TCP."""
        for address in addresses:
            self.questions.serve(ns, address)
            ns.tcp_echo(53, address)

    @contextlib.contextmanager
    def asked(self, *asked):
        """Have questions asked: (namespace, address) or (namespace, address, source). None may be lost."""
        self.questions.asked = [(*one, None)[:3] for one in asked]
        self.questions.start()
        try:
            yield self.questions
        except BaseException:
            self.questions.ended = True
            raise
        self.questions.end()

    def watch(self, match, ns=None):
        """Watch packets of the host (or another one), from the end of the recipe on."""
        watch = (ns or self.init).watch(match, name=f"watch{len(self.watches)}")
        self.watches.append(watch)
        return watch

    def do(self, command, flows=()):
        """Run a command; return what it printed. After it, all flows must pass."""
        self.questions.during = command
        printed = self.init.run(["bash", "-c", command], cwd="/root").stdout
        self.questions.more()
        self.check(flows, command)
        return printed

    def steps(self, name, *flows):
        """Run a recipe; each command, and what it printed. After each, all flows must pass."""
        self.questions.more()
        self.check(flows, "nothing")
        for command in recipe(name):
            yield command, self.do(command, flows)
        self.reset()
        self.check(flows, "all of it")

    def reset(self):
        """Watch from here on."""
        for watch in self.watches:
            watch.reset()

    def run(self, name, *flows):
        """Run a recipe; after it, what was watched has counted its traffic once."""
        for _ in self.steps(name, *flows):
            pass

    def again(self, name, *flows, back="take-back"):
        """Take the rules of a recipe back, and give them again: in the mode observe first, as "Look first" says.

        `back` is the recipe for taking them back. The mode off is tried only where that is as good.
        """
        observe, look, skip, purge = (
            c for c in recipe("look-first") if not re.match('nft|echo "', c)
        )
        assert "observe" in observe and "counters" in look and "skip" in skip and "purge" in purge
        off = f"echo off {skip.partition(' skip ')[2]}"
        assert off in (DOCUMENTS / "README.md").read_text()
        self.take_back(flows, back)
        self.do(observe, flows)
        for command in recipe(name):
            if "ctskip/rules" in command and command != purge:
                self.do(command, flows)
        self.do(look, flows)
        for counter in Ctskip().counters():
            assert counter["observed"] and not counter["packets"], counter
        self.do(skip, flows)
        self.do(purge, flows)
        self.reset()
        self.check(flows, "the second time")
        assert not self.watches or states(*self.watches) == {"untracked"}
        if back == "take-back":
            self.do(off, flows)
            self.reset()
            self.check(flows, off)
            assert not self.watches or "untracked" not in states(*self.watches)
            self.do(skip, flows)
        self.take_back(flows, back)

    def take_back(self, flows=(), name="take-back"):
        """Take the rules of a recipe back, as the documents say."""
        (tag,) = {counter["tag"] for counter in Ctskip().counters()}
        for command in recipe(name):
            self.do(command.replace("tag=dns", f"tag={tag}"), flows)
        assert Ctskip().rules() == []
        self.reset()
        self.check(flows, "the way back")
        assert not self.watches or "untracked" not in states(*self.watches)

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
    watches = [
        host.init.watch(match, name=f"other_{number}_{end}")
        for end, match in enumerate(port(number))
    ]
    RecipeHost.check(flows, "the recipe")
    return "untracked" not in states(*watches)
