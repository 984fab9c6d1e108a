# SPDX-License-Identifier: GPL-2.0
"""A namespace's packet filter: nft and iptables."""

from nftables import Nftables

from .namespace import Namespace


class Firewall(Namespace):
    """The packet filter of a namespace."""

    rules_made = False  # whether the test may have left rules

    def nft(self, text, as_json=False):
        """Run a text as `nft -f -` does, with as_json `nft -j -f -`; return the output.

        One thread at a time: libnftables remembers devices for the whole process.
        """
        self.rules_made |= not text.startswith("list ")
        with self.inside():
            # It goes before we return: its socket keeps the namespace, and to close that the kernel
            # waits until nothing uses deleted rules any more.
            nft = Nftables()
            try:
                nft.set_json_output(as_json)
                failed, printed, error = nft.cmd(text)
            finally:
                del nft
        assert not failed, f"nft: {text}\n{error}"
        return printed

    def iptables(self, family, arguments, legacy=False, check=True):
        """Run iptables or ip6tables (by family), the nft kind or the legacy one."""
        self.rules_made = True
        kind = "-legacy" if legacy else "-nft"
        return self.run(f"{family.iptables}{kind} {arguments}", check=check)

    def silent(self):
        """Drop all input, so that nothing answers: no echo, reset or ICMP error. It still forwards and sends."""
        self.nft(
            "table inet lab_silent { chain c { type filter hook input priority 400; drop; }; }"
        )
