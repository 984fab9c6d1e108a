# SPDX-License-Identifier: GPL-2.0
"""ctskip and what else can keep packets from conntrack, each told a set of rules its own way."""

from collections.abc import Sequence

from machine import Orders
from rules import PORT, SETS, TRACES, Rule, written

MOST = 131072  # of any system
LINEAR = 1000  # and of those that try rule by rule


class System:
    """One way to skip conntrack."""

    name = ""
    cases: tuple[str, ...] = ()  # the sets of rules that it can hold
    most = MOST  # rules
    # What is done before and after, in the shell of the guest.
    prepare: Sequence[str] = ()
    undo: Sequence[str] = ()
    # One rule more, and one less, in the table.
    add = ""
    delete = ""

    def begin(self) -> list[str]:
        """Return the commands that come before a table is loaded."""
        return [f"must {command}" for command in self.prepare]

    def end(self) -> list[str]:
        """Return the commands that leave nothing of it behind."""
        return [f"must {command}" for command in self.undo]

    def text(self, rules: Sequence[Rule]) -> str:
        """Return the file that it loads the rules from."""
        raise NotImplementedError

    def command(self, path: str) -> str:
        """Return the command that loads that file."""
        raise NotImplementedError

    def takes(self, case: str, count: int) -> bool:
        """Tell whether it can hold that many rules of a set."""
        return case in self.cases and count <= self.most

    def load(self, orders: Orders, case: str, rules: Sequence[Rule]) -> str:
        """Add the file to the orders; return the command that loads it."""
        return self.command(orders.file(f"{self.name}.{case}-{len(rules)}", self.text(rules)))


ONE = Rule("udp", src=(0x0AFF0001, 32), dport=(PORT, PORT))  # what the updates add and delete


class Ctskip(System):
    """The module, by its file `rules`."""

    name = "ctskip"
    # Some of the tables are made to cost more than the module takes by itself.
    prepare = ("insmod /bench/ctskip.ko worst_lookup=0",)
    undo = ("rmmod ctskip",)
    add = f'ctskip_write "add {ONE} id=4000000"'
    delete = 'ctskip_write "delete 4000000"'

    def takes(self, case, count):
        return True

    def text(self, rules):
        return "\n".join(["load", *map(str, rules), "commit", ""])

    def command(self, path):
        return f"ctskip_load {path}"


class Floor(System):
    """A hook in C with a hash of exactly these keys, filled when it is loaded."""

    name = "floor"
    cases = ("empty", "all", "exact")
    undo = ("rmmod floor",)

    def load(self, orders, case, rules):
        return f"insmod /bench/floor.ko mode={self.cases.index(case)} n={len(rules)}"


class Nft(System):
    """What nft's systems have in common; tables are deleted as a whole."""

    prepare = ("modprobe -a nf_tables nft_ct",)
    undo = ("nft delete table ip bench",)
    set_type = ""
    matches: Sequence[str] = ()

    def command(self, path):
        return f"nft -f {path}"

    def table(self, content: str, rules: str) -> str:
        chain = f"chain c {{ type filter hook prerouting priority raw; policy accept;\n{rules}}}\n"
        return f"table ip bench {{\n{content}{chain}}}\n"

    def text(self, rules):
        elements = ",\n".join(self.element(rule) for rule in rules)
        holds = self.set_type.format(size=len(rules) + 1)
        members = "".join(f"{match} @s notrack accept\n" for match in self.matches)
        return self.table(f"set s {{ {holds}\nelements = {{ {elements} }}\n}}\n", members)

    def element(self, rule: Rule) -> str:
        return f"{written(rule.src, '/')} . {written(rule.dport, '-')}"

    def update(self, verb: str) -> str:
        return f"nft {verb} element ip bench s '{{ {self.element(ONE)} }}'"

    @property
    def add(self):
        return self.update("add")

    @property
    def delete(self):
        return self.update("delete")


class NftLinear(Nft):
    """One rule after the other."""

    name = "nft-linear"
    cases = ("empty", "all", *SETS, *TRACES)
    most = LINEAR
    add = f"nft add rule ip bench c {ONE.nft()}"
    delete = "nft_delete_last"

    def text(self, rules):
        return self.table("", "".join(f"{r.nft()}\n" for rule in rules for r in rule.both()))


class NftHash(Nft):
    """A set of addresses and ports; with a size given, nft takes its hash of fixed size."""

    name = "nft-hash"
    cases = ("exact",)
    set_type = "type ipv4_addr . inet_service; size {size};"
    matches = ("ip saddr . udp dport", "ip daddr . udp sport")


class NftInterval(Nft):
    """A set of networks, behind a comparison of the one port that all rules have."""

    name = "nft-interval"
    cases = ("exact", "networks", "lengths")
    set_type = "type ipv4_addr; flags interval;"
    matches = (f"udp dport {PORT} ip saddr", f"udp sport {PORT} ip daddr")

    def element(self, rule):
        return written(rule.src, "/")


class NftPipapo(Nft):
    """A set of networks and ranges of ports."""

    name = "nft-pipapo"
    cases = ("networks", "lengths", "ranges")
    most = 16384
    set_type = "type ipv4_addr . inet_service; flags interval;"
    matches = ("ip saddr . udp dport", "ip daddr . udp sport")


class Legacy(System):
    """iptables-legacy, one rule after the other."""

    name = "iptables-legacy"
    cases = ("empty", "all", *SETS, *TRACES)
    most = LINEAR
    prepare = ("modprobe -a iptable_raw xt_CT xt_tcpudp",)
    undo = ("iptables-legacy -t raw -F", "rmmod iptable_raw")
    add = f"iptables-legacy -t raw {ONE.iptables()}"
    delete = f"iptables-legacy -t raw {ONE.iptables().replace('-A', '-D', 1)}"

    def text(self, rules):
        lines = [r.iptables() for rule in rules for r in rule.both()]
        return "\n".join(["*raw", *lines, "COMMIT", ""])

    def command(self, path):
        return f"iptables-legacy-restore {path}"


class IpSet(System):
    """A set of ipset, asked by two rules of iptables-legacy."""

    prepare = (
        "modprobe -a iptable_raw xt_CT xt_set ip_set_hash_netport ip_set_hash_ipport",
        "iptables-legacy -t raw -S >/run/ignored",
    )
    undo = (
        "iptables-legacy -t raw -F",
        "iptables-legacy -t raw -X",
        "rmmod iptable_raw",
        "sleep 0.2",
        "ipset destroy s",
    )
    kind = ""

    def element(self, rule: Rule) -> str:
        return f"{written(rule.src, '/')},udp:{PORT}"

    @property
    def add(self):
        return f"ipset add s {self.element(ONE)}"

    @property
    def delete(self):
        return f"ipset del s {self.element(ONE)}"

    def text(self, rules):
        head = f"create s {self.kind} hashsize 1024 maxelem {MOST}"
        return "\n".join([head, *(f"add s {self.element(rule)}" for rule in rules), ""])

    def command(self, path):
        return f"ipset_load {path}"


class IpSetNet(IpSet):
    """By network and port."""

    name = "ipset-net-port"
    cases = ("exact", "networks", "lengths")
    kind = "hash:net,port"


class IpSetIp(IpSet):
    """By address and port."""

    name = "ipset-ip-port"
    cases = ("exact",)
    kind = "hash:ip,port"


ALL = [
    Ctskip(),
    Floor(),
    NftHash(),
    NftInterval(),
    NftPipapo(),
    NftLinear(),
    IpSetIp(),
    IpSetNet(),
    Legacy(),
]
