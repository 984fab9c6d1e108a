# SPDX-License-Identifier: GPL-2.0
"""What nobody would send or write: mutated packets, and random writes to every file.

An ordinary run has some thousands of each; `--frames=1000000 --seed=...` is what `make fuzz` asks for. They
come in parts, each from a seed of its own that is its name. Whether the kernel has anything to say of
them, the harness sees on its console; here it is asked whether ctskip still answers, and adds up.
"""

import contextlib
import errno
import itertools
import mmap
import os
import random
import socket
import struct
import time

import netlab
import pytest
from netlab import V6, wait_until
from test_headers import RULES, UDP, Wire, mutated, ports, seeds

# The frames of one part, and the writes: so many that a part takes some seconds on an idle host.
PART, WRITES = 5000, 500

SPLATS = "WARNING:", "BUG:", "Oops", "UBSAN", "KASAN", "rust_kernel: panicked"


def pytest_generate_tests(metafunc):
    frames = metafunc.config.getoption("frames")
    parts = {"part": 4, "skipping": 20, "writing": 20}
    for name, share in parts.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, range(max(1, frames // (share * PART))))


class Ring:
    """An AF_PACKET ring: hundreds of frames a call. The device gets them with their Ethernet header alone
    in the linear part."""

    SIZE, FRAMES, BLOCK = 2048, 256, 1 << 16
    HEADER = struct.Struct("LIIHHII")
    SEND_REQUEST, PACKET_TX_RING, PACKET_QDISC_BYPASS = 1, 13, 20

    def __init__(self, link, ns, family):
        header = bytes.fromhex((link.b_mac + link.a_mac).replace(":", ""))
        self.ethernet = header + struct.pack("!H", family.ethertype)
        self.socket = ns.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        blocks = self.SIZE * self.FRAMES // self.BLOCK
        request = struct.pack("4I", self.BLOCK, blocks, self.SIZE, self.FRAMES)
        self.socket.setsockopt(263, self.PACKET_TX_RING, request)
        self.socket.setsockopt(263, self.PACKET_QDISC_BYPASS, 1)
        self.ring = mmap.mmap(self.socket.fileno(), self.SIZE * self.FRAMES)
        self.socket.bind((link.a_dev, 0))

    def send(self, packets):
        """Send up to FRAMES packets; all have left when this returns."""
        for number, packet in enumerate(packets):
            at, frame = number * self.SIZE, self.ethernet + packet
            self.ring[at + 32 : at + 32 + len(frame)] = frame
            self.HEADER.pack_into(self.ring, at, self.SEND_REQUEST, len(frame), 0, 0, 0, 0, 0)
        self.socket.send(b"")
        # A slot that was not reached: the socket begins where it stopped.
        assert all(
            self.HEADER.unpack_from(self.ring, n * self.SIZE)[0] != self.SEND_REQUEST
            for n in range(len(packets))
        )

    def close(self):
        self.ring.close()
        self.socket.close()


class Raw:
    """A raw socket whose packets bring their IP header along: they leave through LOCAL_OUT."""

    def __init__(self, link, ns, family):
        self.socket = ns.socket(family.af, socket.SOCK_RAW, socket.IPPROTO_RAW)
        if family is V6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, 36, 1)
        self.socket.connect((link.b.addr(family), 0))

    def send(self, packets):
        for packet in packets:
            # IPv4's makes sure that the header's length is one.
            with contextlib.suppress(OSError):
                self.socket.send(packet)

    def close(self):
        self.socket.close()


NAMES = "seen skipped observed held tracked left_entry left_template left_untracked".split()


def settled(ctskip):
    """`stats`, and `counters` added up, of one moment: all rules' packets and held, `track` rules'."""
    while True:
        before, counters, after = ctskip.stats(), ctskip.counters(), ctskip.stats()
        if before == after:
            break
    tracks = [c["packets"] for c in counters if c["rule"].startswith("track")]
    sums = {key: sum(c[key] for c in counters) for key in ("packets", "held", "observed")}
    return {name: after[name] for name in NAMES}, sums | {"tracks": sum(tracks)}


def check_sums(ctskip, before):
    """What the files say of the same packets is the same; by how much `stats` has grown since."""
    stats, rules = (
        {name: now[name] - then[name] for name in now}
        for now, then in zip(settled(ctskip), before, strict=True)
    )
    assert rules["held"] == stats["held"]
    assert rules["packets"] == stats["skipped"] + stats["tracked"]
    assert rules["observed"] == stats["observed"]
    assert rules["tracks"] == stats["tracked"]
    assert stats["seen"] >= sum(stats.values()) - stats["seen"]
    return stats


@pytest.mark.every_variant
@pytest.mark.parametrize("way", [Ring, Raw], ids=["pre_routing", "local_out"])
def test_frames(ctskip, lab, family, way, part, request, dmesg):
    wire = Wire(lab, family)
    sender = way(wire.link, wire.client, family)
    # With conntrack, without, and with NAT, where most is held.
    kind = (part + (way is Raw) + (family is V6)) % 3
    looks = wire.server if way is Ring else wire.client
    match kind:
        case 1:
            looks.track()
        case 2:
            looks.track()
            hook = "prerouting" if way is Ring else "output"
            chain = f"chain c {{ type nat hook {hook} priority -100; }};"
            looks.nft(f"table {family.ip} lab_nat {{ {chain} }}")
    words = {
        "here": wire.here,
        "source": wire.source,
        "icmp": family.icmp,
        "proto": family.pick(1, 58),
        "ip": family.ip,
        "wide": family.pick("0.0.0.0/1", "8000::/1"),
    }
    rules = filter(None, map(str.strip, RULES.format(**words).splitlines()))
    ctskip.commit(*rules)
    before = settled(ctskip)

    generator = random.Random(f"{request.config.getoption('seed')} {request.node.name}")
    base = [packet for packet in seeds(wire, family) if len(packet) < Ring.SIZE // 2]
    for _ in range(0, PART, Ring.FRAMES):
        sender.send([mutated(generator, base, family) for _ in range(Ring.FRAMES)])
    sender.close()

    grown = check_sums(ctskip, before)
    assert grown["seen"] > PART // 2
    assert grown["held" if kind == 2 else "skipped"] > PART // 10
    last = ctskip.counters()[2]["packets"]
    looks.udp_send(wire.here, 53, sport=99) if way is Raw else wire.send(
        wire.packet(UDP, ports(99, 53))
    )
    if kind != 2:
        wait_until(lambda: ctskip.counters()[2]["packets"] > last)
    assert not [line for line in dmesg.lines() if any(splat in line for splat in SPLATS)]


@pytest.mark.not_quick
@pytest.mark.parametrize("way", [Ring, Raw], ids=["pre_routing", "local_out"])
def test_none_tracked(ctskip, lab, family, way, skipping, request):
    """Where all is skipped, none has an entry: nothing that conntrack takes for a packet is overlooked."""
    wire = Wire(lab, family, silent=False)
    sender = way(wire.link, wire.client, family)
    looks = wire.server if way is Ring else wire.client
    watch = looks.watch()
    generator = random.Random(f"{request.config.getoption('seed')} {request.node.name}")
    base = [packet for packet in seeds(wire, family) if len(packet) < Ring.SIZE // 2]
    full = range(Ring.FRAMES)
    frames = [[mutated(generator, base, family) for _ in full] for _ in range(0, PART, len(full))]

    def states():
        """The states in which frames are behind conntrack: {state}."""
        watch.reset()
        for some in frames:
            sender.send(some)
        before, now = None, watch.read()
        while now != before:  # what the softirq has not come to yet
            time.sleep(0.2 * netlab.SLOWER)
            before, now = now, watch.read()
        return {state for counts in now.values() for state in counts}

    # Frames that conntrack takes in are among them.
    ctskip.commit("track ip any", "track ip6 any")
    assert states() >= {"new", "invalid"}
    assert ctskip.netns(looks)["skipped"] == 0
    assert looks.entries() != []
    ctskip.commit("flush", "ip any", "ip6 any")
    looks.flush()
    # An ICMP error about nothing that was sent is left to conntrack, which takes none of these in.
    assert states() == {"untracked", "invalid"}
    assert ctskip.netns(looks)["skipped"] > PART // 2
    assert looks.entries() == []
    sender.close()


# --- writes ----------------------------------------------------------------------------------------

# Of what a write may be made: whole lines, and what they are made of.
LINES = """
udp dport=53
track tcp dst=10.0.0.0/8 dport=80,443 tag=a
add icmp type=8 any id=7
insert before=7 udp src=2001:db8::/32 sport=1-1023
insert udp any netns=init
delete 7
delete tag=a
flush
load
load tag=a
commit
abort
skip
observe
off
udp+dport=53++tcp+dport=53+tag=a
""".strip().splitlines()
PIECES = [
    "\n",
    ";",
    "#",
    " ",
    "+",
    "++",
    "=",
    ",",
    "-",
    "/",
    "\0",
    "\t",
    "any",
    "id=",
    "4294967295",
]


def text(generator):
    """Bytes to write: of the language more or less, or any."""
    kind = generator.random()
    if kind < 0.1:
        return generator.randbytes(generator.choice((0, 1, 2, 100, 4095, 4096, 4097, 9000)))
    lines = [generator.choice(LINES) for _ in range(generator.choice((1, 1, 1, 2, 3, 60)))]
    data = "\n".join(lines) + "\n"
    for _ in range(generator.choice((0, 0, 0, 1, 2, 5))):
        at = generator.randrange(len(data) + 1)
        piece = generator.choice(PIECES) if kind < 0.6 else chr(generator.randrange(256))
        data = data[:at] + piece + data[at + generator.randrange(3) :]
    return data.encode("latin-1")


# What a write may fail with.
ERRORS = {
    getattr(errno, f"E{name}") for name in "INVAL EXIST NOENT SRCH NOSPC BUSY NOMEM FBIG".split()
}


@pytest.mark.every_variant
def test_writes(ctskip, writing, request, dmesg):
    """Whatever is written to whichever file: the table stays one, and the errors are those that are said."""
    generator = random.Random(f"{request.config.getoption('seed')} {request.node.name}")
    ways = os.O_RDWR, os.O_WRONLY, os.O_RDONLY
    files = {}
    for key in itertools.product(sorted(os.listdir(netlab.SYSFS)), ways):
        with contextlib.suppress(PermissionError):
            files[key] = os.open(netlab.SYSFS / key[0], key[1])
    done = refused = 0
    for _ in range(WRITES):
        # Mostly `rules`; a file that is open for reading only, too.
        key = generator.choice(sorted(files))
        if generator.random() < 0.7:
            key = "rules", generator.choice((os.O_RDWR, os.O_WRONLY))
        # Through one of which a write was refused, nothing goes any more.
        if generator.random() < 0.7:
            os.close(files[key])
            files[key] = os.open(netlab.SYSFS / key[0], key[1])
        offset = generator.choice((0, 0, 0, 1, 4096, 1 << 31))
        try:
            os.pwrite(files[key], text(generator), offset)
            done += 1
        except OSError as error:
            allowed = ERRORS if key[1] != os.O_RDONLY else {errno.EBADF, errno.ESPIPE}
            assert error.errno in allowed, (key, error)
            refused += 1
        key = generator.choice(sorted(files))
        with contextlib.suppress(OSError):
            size = generator.choice((0, 1, 7, 4096, 1 << 17))
            os.pread(files[key], size, generator.choice((0, 0, 1, 100, 4095, 1 << 40)))
    for fd in files.values():
        os.close(fd)
    assert min(done, refused) >= WRITES // 20, (done, refused)

    header, rules = ctskip.header(), ctskip.rules()
    assert header["rules"] == len(rules) == len(ctskip.counters())
    assert header["generation"] == ctskip.generation
    # What is there can be written back, and is the same.
    ctskip.write("abort\n")
    ctskip.load_table("\n".join(rules))
    assert ctskip.rules() == rules and ctskip.generation == header["generation"]
    ctskip.reset()
    ctskip.commit("udp dport=53")
    assert len(ctskip.rules()) == 1
    assert not [line for line in dmesg.lines() if any(splat in line for splat in SPLATS)]
