#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""See conntrack overflow in one network namespace, and with ctskip not. `make demo` runs it in the guest.

Two servers and a client have a network namespace each; nf_conntrack_max is small. The client floods the
DNS server with queries, each a new UDP flow: without a rule of ctskip's, with one, with `mode` off, and on
again. What is shown is also checked: exit status 1 where a step did not come out as it says.

Lines behind `# ` are what a user would type, and run as they stand, with their real output.
"""

import collections
import contextlib
import itertools
import re
import resource
import select
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "tests"))

import netlab  # noqa: E402

MAX = 1000  # nf_conntrack_max
QUERIES = 3000
WINDOW = 64  # queries under way at once
PATIENCE = 0.2  # seconds until a query without an answer makes room for the next
GRACE = 3.0  # seconds without an answer until those that are missing count as lost
QUEUE = 4 << 20  # the receive queue of a socket, in bytes: all queries fit, so none is lost there
FIRST_PORT = 10000
ANSWER = bytes([192, 0, 2, 1])  # what dnsmasq is told to answer

FIREWALL = """\
table inet filter {
    chain input {
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        udp dport 53 ct state { new, untracked } accept
        tcp dport 80 ct state new accept
        meta l4proto { icmp, ipv6-icmp } accept
    }
}
"""

WORKING_FOLDER = Path("/root")  # where insmod finds ctskip.ko

failures = []
headings = []
ports = itertools.count(FIRST_PORT)  # no flow of one flood is one of an earlier

# How a flood went: `drops` are those of its time, all else as it was at its end.
Row = collections.namedtuple("Row", "step netns sent answered lost entries drops chain")


def say(text=""):
    print(textwrap.fill(" ".join(text.split()), 98), flush=True)


def heading(text):
    headings.append(text)
    print(f"\n=== {len(headings)}. {text}\n", flush=True)


def shell(command):
    """Show a command as typed at a root prompt, run it, show its output, and return that."""
    print(f"# {command}", flush=True)
    done = subprocess.run(
        ["bash", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=WORKING_FOLDER,
        timeout=60,
    )
    print(done.stdout, end="", flush=True)
    if done.returncode:
        sys.exit(f"demo: FAILED: {command}: exit status {done.returncode}")
    return done.stdout


def check(holds, text):
    """Say whether something that the demo wants to show holds."""
    print(f"  [{'ok' if holds else 'FAILED'}] {text}", flush=True)
    if not holds:
        failures.append(f"in step {len(headings)}: {text}")


class Flood:
    """DNS queries from as many source ports: .sent, .answered, .lost, .seconds."""

    def __init__(self, client, server):
        self.client, self.address = client, (server.addr(), 53)
        self.sent = self.answered = 0
        self.unanswered = {}  # by file descriptor: the socket, and its query's identifier
        self.window = {}  # by file descriptor, oldest first: when it was sent
        self.poll = select.epoll()
        start = time.monotonic()
        for _ in range(QUERIES):
            self.collect(0)
            self.wait_for_room()
            self.ask()
        while self.unanswered and self.collect(GRACE):
            pass
        self.lost = self.sent - self.answered
        self.seconds = time.monotonic() - start
        for asked, _ in self.unanswered.values():
            asked.close()
        self.poll.close()

    def ask(self):
        """Send one query from a port of its own."""
        with self.client.inside():
            asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        asking.bind(("", next(ports)))
        asking.connect(self.address)
        self.unanswered[asking.fileno()] = asking, self.sent
        self.window[asking.fileno()] = time.monotonic()
        self.poll.register(asking, select.EPOLLIN)
        asking.send(netlab.dns_question(f"name{self.sent}.test", self.sent))
        self.sent += 1

    def wait_for_room(self):
        while len(self.window) >= WINDOW:
            oldest = next(iter(self.window))
            left = self.window[oldest] + PATIENCE - time.monotonic()
            if left > 0:
                self.collect(left)
            else:
                del self.window[oldest]

    def collect(self, timeout):
        """Take the answers that are there; how many there were."""
        found = self.poll.poll(timeout)
        for descriptor, _ in found:
            asked, identifier = self.unanswered.pop(descriptor)
            self.window.pop(descriptor, None)
            with asked, contextlib.suppress(ConnectionError):
                answer = asked.recv(512)
                right = answer.startswith(identifier.to_bytes(2)) and answer.endswith(ANSWER)
                self.answered += right
        return len(found)


def flood(client, server):
    """Flood, and say how it went."""
    say(f"The client asks {QUERIES} names of {server.addr()}, each from another source port:")
    done = Flood(client, server)
    print(
        f"  sent {done.sent}, answered {done.answered}, lost {done.lost} in {done.seconds:.1f} s",
        flush=True,
    )
    return done


def measured(step, ctskip, client, server, log):
    """Flood with ctskip loaded: a Row, and the kernel's lines of that time."""
    before = ctskip.netns(server)
    log.clear()
    done = flood(client, server)
    after = ctskip.netns(server)
    shell(f"grep netns={server.inode} /sys/kernel/ctskip/netns | tr -s ' '")
    shell("grep -E '^(buckets|entries|average_chain)=' /sys/kernel/ctskip/stats")
    row = Row(
        step,
        server.name,
        done.sent,
        done.answered,
        done.lost,
        after["entries"],
        after["drop"] - before["drop"],
        float(ctskip.stats()["average_chain"]),
    )
    return row, log.text()


def full(text, server):
    """Whether the kernel's log says that the server's table is full."""
    return f"nf_conntrack: table full in netns {server.inode}, dropping packet" in text


def check_overflow(row, text, server):
    check(full(text, server), f"the kernel says that the table of {server.name} is full")
    check(row.entries > MAX / 2, f"it holds {row.entries} entries")
    check(row.drops > 0, f"drop grew, by {row.drops}")
    check(row.lost > row.sent / 10, f"{row.lost} of {row.sent} queries are lost")


def check_cured(row, text, server):
    check(row.entries == 0, "the flood made no entry")
    check(row.drops == 0, "drop did not grow")
    check(not full(text, server), "the kernel does not complain")
    check(row.lost == 0, f"all of {row.sent} queries are answered")


def print_table(rows):
    titles = "", "namespace", "sent", "answered", "lost", "entries", "drops", "average chain"
    lines = [titles, *((*row[:-1], f"{row.chain:.2f}") for row in rows)]
    widths = [max(len(str(cell)) for cell in column) for column in zip(*lines)]
    for line in lines:
        cells = [
            str(cell).ljust(width) if number < 2 else str(cell).rjust(width)
            for number, (cell, width) in enumerate(zip(line, widths))
        ]
        print("  ".join(cells).rstrip(), flush=True)


def set_up(lab):
    """The namespaces, their firewalls and servers: (client, dns, web)."""
    client, dns, web = lab.ns("client"), lab.ns("dns"), lab.ns("web")
    for server in (dns, web):
        lab.link(client, server)
    lab.init.sysctl("net.core.rmem_default", QUEUE)
    dns.dnsmasq()
    web.nginx()
    firewall = WORKING_FOLDER / "firewall.nft"
    firewall.write_text(FIREWALL)
    shell("uname -r")
    shell(f"cat {firewall.name}")
    shell(f"for n in dns web; do ip netns exec $n nft -f {firewall.name}; done")
    return client, dns, web


def demo(lab, ctskip, log):
    heading("A stock kernel, and three network namespaces: a client, a DNS server, a web server")
    client, dns, web = set_up(lab)
    say(
        "nf_conntrack_max is one number for all namespaces, set in the initial one; here a small one."
    )
    shell(f"sysctl -w net.netfilter.nf_conntrack_max={MAX}")
    shell(f"ip netns exec client dig +short @{dns.addr()} www.test")

    heading("Without ctskip: the table of one namespace overflows")
    log.clear()
    done = flood(client, dns)
    told = shell("dmesg | grep 'table full' | tail -n 1")
    match = re.search(r"table full in netns (\d+), dropping packet", told)
    check(match and int(match[1]) == dns.inode, "the kernel says that a table is full")
    check(done.lost > done.sent / 10, f"{done.lost} of {done.sent} queries are lost")

    heading("ctskip, without a rule, says which namespace it is")
    shell("insmod ctskip.ko")
    shell("tr -s ' ' </sys/kernel/ctskip/netns")
    say(
        "drop: packets lost to the full table. early_drop: entries removed to make room for others."
    )
    shell("lsns -t net -o NS,PID,COMMAND | cut -c -72")
    lines = ctskip.netns()
    worst = max(lines, key=lambda line: line["drop"])
    check(worst["netns"] == dns.inode, f"the one that drops is {dns.inode}, where dnsmasq runs")
    check([line for line in lines if line["drop"]] == [worst], "no other one drops")
    say("The web server has the same limit and entries of its own:")
    url = f"http://{web.addr()}/file"
    code = shell(f"ip netns exec client curl -s -o /dev/null -w '%{{http_code}}\\n' {url}")
    check(code == "200\n", "it answers")
    say("Once more, now counted, and beginning with an empty table:")
    shell("ip netns exec dns conntrack -F")
    row, text = measured("without a rule", ctskip, client, dns, log)
    check_overflow(row, text, dns)
    check(row.chain > 0, f"the average chain of the hash that all namespaces share is {row.chain}")
    rows = [row]

    heading("One rule")
    shell(f"echo 'udp dst={dns.addr()} dport=53' >/sys/kernel/ctskip/rules")
    shell("cat /sys/kernel/ctskip/rules")
    say("""A rule is about packets to come. Entries that exist stay until they time out, for UDP half a
        minute or two. So wait, or delete them:""")
    shell("ip netns exec dns conntrack -F")
    row, text = measured("with the rule", ctskip, client, dns, log)
    check_cured(row, text, dns)
    rows.append(row)
    counters = shell("cat /sys/kernel/ctskip/counters")
    # Each query and each answer, at the client's and at the server's end.
    packets = netlab.numbers(counters)["packets"]
    check(packets == 4 * QUERIES, f"the rule skipped {packets} packets: 4 for each query")

    heading("The same without it: mode off")
    shell("echo off >/sys/kernel/ctskip/mode")
    row, text = measured("mode off", ctskip, client, dns, log)
    check_overflow(row, text, dns)
    rows.append(row)

    heading("And with it again: mode skip")
    shell("echo skip >/sys/kernel/ctskip/mode")
    say("The entries of meanwhile stay again:")
    shell("ip netns exec dns conntrack -F")
    row, text = measured("mode on", ctskip, client, dns, log)
    check_cured(row, text, dns)
    rows.append(row)

    heading("Before and after")
    print_table(rows)
    print()
    check(ctskip.netns(web)["drop"] == 0, "the web server's namespace never dropped a packet")
    shell("rmmod ctskip")


def main():
    start = time.monotonic()
    resource.setrlimit(resource.RLIMIT_NOFILE, (QUERIES + 1000, QUERIES + 1000))
    lab, log = netlab.Lab(), netlab.Kmsg()
    try:
        demo(lab, netlab.Ctskip(), log)
    finally:
        lab.close()
        log.close()
    for text in failures:
        print(f"demo: FAILED: {text}")
    if not failures:
        print(f"demo: all of it came out as it says, in {time.monotonic() - start:.0f} s")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
