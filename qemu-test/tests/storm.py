# SPDX-License-Identifier: GPL-2.0
"""The parts of test_storm.py's storm: the places where it rages, the actors, and what memory is left.

An Actor is a process that repeats one step until told to end. It counts what it did, and `LEAST` says
how much of that a minute of storm must bring: one in which nothing was replaced or no packet went has
shown nothing. What a step may not see, it raises, and the storm ends.

One flow, the witness's, is skipped by each table of the storm, and no rule tracks it. So it must never
have an entry, but while the module is away or its mode is another: `Actor.calm` keeps the two apart.
"""

import collections
import contextlib
import errno
import fcntl
import ipaddress
import itertools
import multiprocessing
import os
import random
import re
import socket
import struct
import time
import traceback
from pathlib import Path

import netlab
from netlab import V4, V6, Ctskip, OpenFile
from test_headers import Wire, mutated, seeds

ECHO, CLOSED, WITNESS = 7, 9, 7777
# What an ICMP error makes of a socket's next call, the frames' too: icmp_err_convert, icmpv6_err_convert().
ICMP_ERRORS = {
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.ENOPROTOOPT,
    errno.ECONNREFUSED,
    errno.EMSGSIZE,
    errno.EOPNOTSUPP,
    errno.EHOSTDOWN,
    errno.ENONET,
    errno.EPROTO,
    errno.EACCES,
}
TAGS = ("a", "b", "c", "d")
# What a file may say that goes with the module.
AWAY = {errno.ENOENT, errno.ENODEV}
MODES = ("observe", "off")

# What an actor's process is at.
BEGIN, READY, GO, END = range(4)

_fork = multiprocessing.get_context("fork")


# --- places ------------------------------------------------------------------------------------------


class Places:
    """client -- router -- server, left -- bridge -- right, guest -- init, asker -- answerer: all track."""

    def __init__(self, lab):
        self.init = lab.init
        self.client, self.router, self.server = lab.routed()
        self.left, self.bridge, self.right = lab.bridged(("left", "bridge", "right"))
        self.guest, self.asker, self.answerer = map(lab.ns, ("guest", "asker", "answerer"))
        lab.link(self.guest, lab.init)
        lab.link(self.asker, self.answerer)
        self.every = [lab.init, *lab.namespaces]
        for ns in self.every:
            ns.track()
        self.witnessed = [
            f"udp dst={self.answerer.addr(family)} dport={WITNESS} id={number}"
            for number, family in enumerate((V4, V6), 1)
        ]

        to_router, to_init = self.client.links[0], self.guest.links[0]
        self.ways = [
            Way(self.client, to_router, to_router.b_mac, self.server),
            Way(self.client, to_router, to_router.b_mac, self.router),
            Way(self.left, self.left.links[0], self.right.links[0].a_mac, self.right),
            Way(self.guest, to_init, to_init.b_mac, self.init),
        ]


class Way:
    """From a namespace, over the link it is one end of, to the last that it reaches."""

    def __init__(self, ns, link, peer_mac, last):
        self.ns, self.device, self.own_mac, self.peer_mac = ns, link.a_dev, link.a_mac, peer_mac
        self.last = last
        self.packets = {f: seeds(Ends(ns.addr(f), last.addr(f), f), f) for f in (V4, V6)}


class Ends(Wire):
    """Packets from one address to another, with no wire of their own."""

    def __init__(self, source, here, family):
        self.source, self.here, self.family = source, here, family


# --- rules -------------------------------------------------------------------------------------------


def some(rand, low, high, most=2):
    """A list of ports or types, or of ranges."""
    chosen = sorted(rand.sample(range(low, high), 2 * rand.randint(1, most)))
    return ",".join(
        f"{a}-{b}" if rand.random() < 0.4 else str(a) for a, b in itertools.batched(chosen, 2)
    )


def prefix(rand, family):
    bits = rand.choice(family.pick((8, 16, 24, 32), (16, 48, 64, 128)))
    base = family.pick(0x0A000000, 0xFD00 << 112)
    address = base | rand.getrandbits(family.bits - family.pick(8, 16))
    text = family.pick(ipaddress.IPv4Address, ipaddress.IPv6Address)(address)
    subnet = netlab.subnet(text, bits)
    if rand.random() < 0.2:
        network = ipaddress.ip_network(subnet)
        return f"{network[0]}-{network[-1]}"
    return subnet


def rule(rand, tag=""):
    """Any rule that the language has, without a namespace; none that tracks the witness's flow."""
    family, terms, narrow = rand.choice((V4, V6)), [], False
    skip = rand.random() < 0.8
    kind = rand.random()
    if kind < 0.7:
        protocols = rand.sample(("tcp", "udp", "sctp"), rand.randint(1, 3))
        terms.append(",".join(protocols))
        terms.append(f"dport={some(rand, 1, 5000)}")
        narrow = True
        if rand.random() < 0.3:
            terms.append(f"sport={some(rand, 1024, 65535)}")
    elif kind < 0.85:
        terms += [family.icmp, f"type={some(rand, 0, 255)}"]
        narrow = True
    else:
        terms.append(rand.choice(("gre", "esp", "gre,esp", "proto=4,253", "ipip", "vrrp,ospf")))
    for key in rand.sample(("src", "dst"), rand.choice((0, 1, 1, 2))):
        terms.append(f"{key}={prefix(rand, family)}")
        narrow = True
    for chance, term in (
        (0.2, rand.choice(("local=dst", "local=src"))),
        (0.2, rand.choice(("dev=eth*", "dev=lo,lab0", "dev=br0"))),
        (0.2, f"mark={rand.randrange(16):#x}/0xff"),
        (
            0.2 if terms[0] == "tcp" else 0,
            rand.choice(("flags=syn", "flags=ack", "flags=syn+ack/syn+ack")),
        ),
        (0.5 if skip else 0, "nat=ok"),
        (0.2, "oneway"),
        (0.2, rand.choice(("netns=init", "netns!=init"))),
    ):
        if rand.random() < chance:
            terms.append(term)
    if not narrow and not any(term.startswith("mark") for term in terms):
        terms.append("any")
    rand.shuffle(terms)
    return " ".join(["skip" if skip else "track", *terms, *([f"tag={tag}"] if tag else [])])


def put(text, piece):
    """Write to `rules` in pieces of that size through one file: errno, 0 if all was taken."""
    try:
        with OpenFile(flags=os.O_WRONLY) as file:
            for start in range(0, len(text), piece):
                number = file.write(text[start : start + piece])
                if number:
                    return number
    except FileNotFoundError:
        return errno.ENOENT
    return 0


# --- actors ------------------------------------------------------------------------------------------


class Actor:
    """One process of the storm."""

    LEAST = {}  # what it counts: how often in a minute at least

    def __init__(self, name, seed, places, lock):
        self.name, self.places, self.lock = name, places, lock
        self.random = random.Random(f"{seed} {name}")
        self.counts = _fork.RawArray("Q", len(self.LEAST))
        self.stage = _fork.RawValue("b", BEGIN)
        self.raised = _fork.RawArray("c", 4096)  # what ended it, as text
        self.process = None

    def start(self):
        """Have it begin, in a process of its own; it is READY when it has, and waits to be told to GO."""
        self.process = _fork.Process(target=self.run, name=self.name, daemon=True)
        self.process.start()

    def run(self):
        try:
            self.begin()
            if self.stage.value == BEGIN:
                self.stage.value = READY
            while self.stage.value == READY:
                time.sleep(0.05)
            while self.stage.value == GO:
                self.step()
        except BaseException:
            # Not left to its standard error: under pytest that is memory of this process's own.
            self.raised.value = traceback.format_exc().encode()[-4000:]
            raise

    def is_ready(self):
        """Whether it waits to be told to go, or has ended already."""
        return self.stage.value == READY or not self.alive()

    def alive(self):
        return self.process.exitcode is None

    def ended(self):
        """Wait for its end; say what was wrong with it."""
        self.process.join(180 * netlab.SLOWER)
        if self.alive():
            stack = Path(f"/proc/{self.process.pid}/stack").read_text()
            self.process.kill()
            self.process.join()
            yield f"{self.name} did not end; it was in\n{stack}"
        elif self.process.exitcode:
            raised = self.raised.value.decode(errors="replace")
            yield f"{self.name} ended with {self.process.exitcode}\n{raised}"

    def begin(self):
        """In its process, before the first step."""

    def did(self, what, times=1):
        self.counts[list(self.LEAST).index(what)] += times

    def done(self):
        """What it did: {what: times}."""
        return dict(zip(self.LEAST, self.counts))

    def choose(self, weights):
        """One of these by its weight; every other time, what was never done yet: a short storm has all."""
        never = [what for what in weights if not self.done()[what]]
        if never and self.random.random() < 0.5:
            return self.random.choice(never)
        return self.random.choices(list(weights), list(weights.values()))[0]

    def pause(self, longest):
        time.sleep(self.random.uniform(0, longest * netlab.SLOWER))

    @contextlib.contextmanager
    def calm(self, how):
        """Shared: ctskip skips from here to the end. Exclusive: this makes that it may not."""
        with open(self.lock) as file:
            fcntl.flock(file, how)
            yield

    def taken(self, number, *allowed):
        """Whether a write was taken; an error that it may not give is raised."""
        if number and number not in AWAY | set(allowed):
            try:
                said = Ctskip.read("last_error")
            except OSError:
                said = ""
            raise AssertionError(f"{self.name}: {errno.errorcode[number]}\n{said}")
        return not number


class Tables(Actor):
    """Replaces the whole table, or a tag's rules, by few and by many."""

    LEAST = {"tables": 20, "rules": 200, "tags": 5, "aborted": 2}
    # Such rules take some time to compile, for which all writers wait.
    SIZES = (0, 1, 5, 20, 100) if netlab.SLOWER == 1 else (0, 1, 2, 5, 20)

    def begin(self):
        self.rules = [rule(self.random) for _ in range(200)]

    def step(self):
        rand = self.random
        size = rand.choice(self.SIZES)
        lines = rand.choices(self.rules, k=size)
        piece = rand.choice((100, 900, 4096))
        start = time.monotonic()
        match what := self.choose({"tables": 70, "tags": 20, "aborted": 10}):
            case "tables":
                text = ["load", *self.places.witnessed, *lines, "commit"]
            case "tags":
                text = [f"load tag={rand.choice(TAGS)}", *lines, "commit"]
            case "aborted":
                text = ["load", *lines, *rand.choice((["abort"], []))]
        number = put("".join(f"{line}\n" for line in text), piece)
        # One that took long may have been taken over.
        late = [errno.EINVAL] if time.monotonic() - start > 9 else []
        if self.taken(number, errno.EBUSY, *late):
            self.did(what)
            self.did("rules", len(lines))
        self.pause(0.02)


class Writer(Actor):
    """Adds, inserts and deletes rules, several in a transaction or one, and some that are refused."""

    LEAST = {"added": 50, "inserted": 5, "deleted": 5, "tags": 5, "flushed": 2, "refused": 2}
    WEIGHTS = {"added": 40, "inserted": 15, "deleted": 20, "tags": 15, "flushed": 5, "refused": 5}

    def begin(self):
        self.ids = []
        self.rules = [rule(self.random, tag) for tag in ("", *TAGS) for _ in range(20)]

    def look(self):
        """Some ids that are there, at least for now."""
        self.ids = []
        with contextlib.suppress(OSError), OpenFile() as file:
            found = map(int, re.findall(r" id=(\d+)", file.read(4096)))
            self.ids = [number for number in found if number > len(self.places.witnessed)]

    def step(self):
        rand, count = self.random, self.random.choice((1, 1, 3, 10))
        lines = rand.choices(self.rules, k=count)
        what, may = self.choose(self.WEIGHTS), ()
        # An old id is mostly gone with its table: fine, but for what was never done yet.
        if not self.ids or not self.done()[what] or rand.random() < 0.1:
            self.look()
        where = rand.choice(self.ids or [5])
        match what:
            case "added":
                text = lines
            case "inserted":
                place = rand.choice(("", f"before={where} "))
                text = [f"insert {place}{line}" for line in lines]
            case "deleted":
                text = [f"delete {where}"]
                self.ids = [number for number in self.ids if number != where]
            case "tags":
                text = [f"delete tag={rand.choice(TAGS)}", *lines[:2]]
            case "flushed":
                text = ["flush", *self.places.witnessed, *lines]
            case "refused":
                wrong = ("nonsense", "udp dport=0-70000", "udp dst=10.0.0.1/8", "load x")
                text, may = ["flush", *lines, rand.choice(wrong)], [errno.EINVAL]
        number = put("".join(f"{line}\n" for line in text), 1 << 20)
        if self.taken(number, *may):
            assert what != "refused", text
        if number in (0, *may):
            self.did(what, len(lines) if what in ("added", "inserted") else 1)
        self.pause(0.02)


class Reader(Actor):
    """Reads every file in steps of any size."""

    LEAST = {"files": 100, "overtaken": 2}

    def step(self):
        rand = self.random
        try:
            names = sorted(os.listdir(netlab.SYSFS))
        except FileNotFoundError:
            return self.pause(0.05)
        for name in names:
            try:
                text = self.read(name)
            except OSError as error:
                if error.errno == errno.ESTALE:
                    self.did("overtaken")
                elif error.errno not in AWAY:
                    raise
                continue
            if name == "rules":
                head, *rules = text.splitlines()
                assert len(rules) == netlab.numbers(head)["rules"], text
            self.did("files")
            if rand.random() < 0.3:
                self.pause(0.01)
        return None

    def read(self, name):
        with OpenFile(name) as file:
            return "".join(iter(lambda: file.read(self.random.choice((100, 700, 4096, 65536))), ""))


class Settings(Actor):
    """Changes the mode, and reads what the kernel shows of the module."""

    LEAST = {"modes": 8, "refused": 2, "read": 50}

    def step(self):
        rand = self.random
        with self.calm(fcntl.LOCK_EX):
            for mode in [*rand.sample(MODES, rand.randint(1, 2)), "skip"]:
                number = Ctskip.write(f"{mode}\n", "mode")
                assert number == 0, errno.errorcode[number]
                self.did("modes")
                self.pause(0.05)
        with contextlib.suppress(FileNotFoundError):
            number = Ctskip.write("sleep\n", "mode")
            assert not self.taken(number, errno.EINVAL)
            if number == errno.EINVAL:
                self.did("refused")
        for _ in range(20):
            self.pause(0.1)
            for path in Path("/sys/module/ctskip").glob("**/*"):
                try:
                    if path.is_file() and os.access(path, os.R_OK):
                        path.read_bytes()
                        self.did("read")
                except OSError as error:
                    if error.errno not in (*AWAY, errno.EACCES, errno.EIO):
                        raise


class Purger(Actor):
    """Purges, by all rules and by those of a tag. Seldom: all writers wait for a walk of conntrack's hash."""

    LEAST = {"purged": 4}

    def step(self):
        self.pause(4)
        purge = self.random.choice(("purge\n", f"purge tag={self.random.choice(TAGS)}\n"))
        # No rule acts in this mode, or the mode changes meanwhile; no rule has the tag; the hash is resized.
        may = errno.EINVAL, errno.ECANCELED, errno.ENOENT, errno.EAGAIN
        if self.taken(put(purge, 1 << 20), *may):
            self.did("purged")


class Module(Actor):
    """Unloads the module and loads it, with any parameters; it is there for most of the time."""

    LEAST = {"unloaded": 5, "loaded": 5, "refused": 1}

    def begin(self):
        self.away = 0

    def step(self):
        rand = self.random
        end = time.monotonic() + max(rand.uniform(0.2, 2) * netlab.SLOWER, 4 * self.away)
        while time.monotonic() < end:
            if self.stage.value == END:
                return
            time.sleep(0.1)
        with self.calm(fcntl.LOCK_EX):
            start = time.monotonic()
            number = Ctskip.unload()
            assert number == 0, errno.errorcode[number]
            self.did("unloaded")
            self.pause(0.1)
            if not self.done()["refused"] or rand.random() < 0.4:
                number = Ctskip.load(rules=f"{'; '.join(self.places.witnessed)}; nonsense")
                assert number == errno.EINVAL, errno.errorcode[number]
                self.did("refused")
            rules = [rule(rand, rand.choice(TAGS)) for _ in range(rand.choice((0, 1, 20)))]
            number = Ctskip.load(
                rules="; ".join([*self.places.witnessed, *rules]), icmp_errors=rand.randrange(2)
            )
            assert number == 0, errno.errorcode[number]
            self.away = time.monotonic() - start
            self.did("loaded")


def loopback_up():
    """The device lo of this process's namespace is up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        request = struct.pack("16sH14x", b"lo", 1)  # SIOCSIFFLAGS, IFF_UP
        fcntl.ioctl(s, 0x8914, request)


class Spaces(Actor):
    """Namespaces without conntrack that are there for a moment, most with rules of their own."""

    LEAST = {"namespaces": 40, "bound": 20, "packets": 500}

    def step(self):
        rand = self.random
        os.unshare(os.CLONE_NEWNET)
        fd = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            loopback_up()
            number = os.fstat(fd).st_ino
            name = f"pid:{self.inhabitant()}" if rand.random() < 0.2 else str(number)
            os.setns(self.places.init.fd, os.CLONE_NEWNET)
            if rand.random() < 0.8:
                ports = rand.sample(range(1, 60), rand.randint(1, 5))
                text = "".join(f"udp dport={port} netns={name} tag=bound\n" for port in ports)
                # A process that is gone has no namespace.
                may = [errno.ESRCH] if name.startswith("pid") else []
                if self.taken(put(text, 4096), *may):
                    self.did("bound")
            os.setns(fd, os.CLONE_NEWNET)
            for family in (V4, V6):
                with socket.socket(family.af, socket.SOCK_DGRAM) as s:
                    for _ in range(rand.randint(1, 20)):
                        s.sendto(b"ping", (family.pick("127.0.0.1", "::1"), rand.randrange(1, 60)))
                        self.did("packets")
        finally:
            os.close(fd)
            os.setns(self.places.init.fd, os.CLONE_NEWNET)
        self.did("namespaces")
        self.pause(0.05)

    def inhabitant(self):
        """A process that is in the namespace for a moment; it is waited for with the next one."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)
        child = os.fork()
        if not child:
            time.sleep(0.2 * netlab.SLOWER)
            os._exit(0)
        return child


class Labs(Actor):
    """Pairs of namespaces with conntrack and NAT; they go while packets are under way between them."""

    LEAST = {"pairs": 6, "bound": 4, "packets": 500}
    numbers = itertools.count()

    def step(self):
        rand = self.random
        lab = netlab.Lab()
        try:
            a, b = (lab.ns(f"{self.name}-{next(self.numbers)}") for _ in range(2))
            lab.link(a, b)
            a.track()
            hook = rand.choice(("prerouting", "postrouting"))
            b.nft(f"table inet n {{ chain c {{ type nat hook {hook} priority 100; }}; }}")
            rules = [
                f"udp dport={rand.randrange(1, 60)} netns={ns.inode} tag=bound nat=ok"
                for ns in (a, b)
                for _ in range(rand.randint(1, 5))
            ]
            if self.taken(put("".join(f"{line}\n" for line in rules), 4096)):
                self.did("bound")
            for _ in range(4):
                family = rand.choice((V4, V6))
                one, other = rand.sample((a, b), 2)
                one.udp_send(other.addr(family), rand.randrange(1, 60), count=50)
                self.did("packets", 50)
        finally:
            lab.close()
        self.did("pairs")


class Firewall(Actor):
    """In the router, NAT comes and goes and conntrack forgets; in the server, the raw table skips."""

    LEAST = {"nat": 6, "raw": 2, "forgotten": 10}

    def begin(self):
        self.has = {"nat": False, "raw": False}
        # The modules that this takes are there from the first storm on, however short.
        for what in (*self.has, *self.has):
            self.turn(what)

    def turn(self, what):
        """Put it there, or take it away."""
        places = self.places
        ns = places.router if what == "nat" else places.server
        if self.has[what]:
            ns.nft(f"delete table inet storm_{what}")
        elif what == "raw":
            chain = "type filter hook prerouting priority -300; udp dport 1-999 notrack;"
            ns.nft(f"table inet storm_raw {{ chain c {{ {chain} }}; }}")
        else:
            to = "".join(
                f"{family.ip} daddr {ns.addr(family)} th dport {ECHO} "
                f"dnat {family.ip} to {places.server.addr(family)}; "
                for family in (V4, V6)
            )
            ns.nft(
                "table inet storm_nat {"
                "chain o { type nat hook postrouting priority 100; oifname eth1 masquerade; };"
                "chain i { type nat hook prerouting priority -100; "
                f"meta l4proto {{ tcp, udp, sctp }} {to} }}; }}"
            )
        self.has[what] = not self.has[what]

    def step(self):
        what = self.choose(dict.fromkeys(self.has, 1))
        self.turn(what)
        self.did(what)
        for ns in self.random.sample(self.places.every, 3):
            ns.flush()
            self.did("forgotten")
        self.pause(0.3)


class Frames(Actor):
    """Packets of every kind, many with something wrong: from a wire to here, on to others, over a bridge."""

    LEAST = {"frames": 1000}
    BURST = 20

    def begin(self):
        self.senders = [
            (family, packets, self.sender(way, family))
            for way in self.places.ways
            for family, packets in way.packets.items()
        ]

    def sender(self, way, family):
        header = bytes.fromhex((way.peer_mac + way.own_mac).replace(":", ""))
        header += struct.pack("!H", family.ethertype)
        s = way.ns.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        s.bind((way.device, 0))
        return lambda packet: s.send(header + packet)

    def step(self):
        family, packets, send = self.random.choice(self.senders)
        for _ in range(self.BURST):
            with contextlib.suppress(OSError):  # too long, or no room
                send(mutated(self.random, packets, family))
                self.did("frames")
        self.pause(0.1)


class Raw(Frames):
    """The same, sent by the hosts themselves."""

    def sender(self, way, family):
        s = way.ns.socket(family.af, socket.SOCK_RAW, socket.IPPROTO_RAW)
        if family is V6:
            s.setsockopt(socket.IPPROTO_IPV6, 36, 1)  # IPV6_HDRINCL
        return lambda packet: s.sendto(packet, (way.last.addr(family), 0))


class Servers(Actor):
    """Answers, at all that others ask."""

    def begin(self):
        places = self.places
        for ns in (places.server, places.right, places.init):
            for serve in (ns.udp_echo, ns.tcp_echo, ns.sctp_echo):
                serve(ECHO)
        places.answerer.udp_echo(WITNESS)

    def step(self):
        time.sleep(0.1)


class Flows(Actor):
    """What hosts do: asks and is answered, by each protocol, or told by an ICMP error that it is not."""

    LEAST = {"udp": 6, "tcp": 6, "sctp": 6, "ping": 6, "fragments": 6, "closed": 6, "expired": 2}
    if netlab.SLOWER > 1:
        # An ABORT for a busy socket makes a debug kernel complain of SCTP itself, which walks a list
        # in net/sctp/bind_addr.c without RCU. SCTP packets come as frames all the same.
        del LEAST["sctp"]

    def step(self):
        what = self.choose(dict.fromkeys(self.LEAST, 1))
        try:
            done = self.ask(what)
        except OSError as error:
            if error.errno not in ICMP_ERRORS:
                raise
            done = False
        self.did(what, bool(done))
        self.pause(0.02)

    def ask(self, what):
        """One exchange; whether it came to its end."""
        rand, family = self.random, self.random.choice((V4, V6))
        way = rand.choice(self.places.ways)
        ns, address, timeout = way.ns, way.last.addr(family), 0.3 * netlab.SLOWER
        match what:
            case "udp" | "fragments":
                data = b"ping" if what == "udp" else bytes(4000)
                return ns.udp(address, ECHO, data, timeout=timeout, count=rand.randint(1, 5))
            case "tcp":
                return ns.tcp(address, ECHO, timeout=timeout)
            case "sctp":
                return ns.sctp(address, ECHO, timeout=timeout)
            case "ping":
                return ns.ping(address, timeout=timeout)
            case "closed":
                return self.error(ns, family, address, 64) == errno.ECONNREFUSED
            case "expired":
                address = self.places.server.addr(family)
                return self.error(self.places.client, family, address, 1) == errno.EHOSTUNREACH

    def error(self, ns, family, address, hops):
        """The errno that a datagram to a closed port comes back as."""
        with ns.socket(family.af, socket.SOCK_DGRAM) as s:
            level = family.pick(socket.IPPROTO_IP, socket.IPPROTO_IPV6)
            s.setsockopt(level, family.pick(11, 25), 1)  # IP_RECVERR, IPV6_RECVERR
            s.setsockopt(level, family.pick(socket.IP_TTL, socket.IPV6_UNICAST_HOPS), hops)
            s.settimeout(0.3 * netlab.SLOWER)
            s.connect((address, CLOSED))
            try:
                s.send(b"ping")
                s.recv(100)
            except OSError as error:
                return error.errno


class Witness(Actor):
    """Asks by the flow that each table skips, and sees that it never has an entry."""

    LEAST = {"answers": 100, "looks": 20}

    def step(self):
        places = self.places
        family = self.random.choice((V4, V6))
        with self.calm(fcntl.LOCK_SH), places.asker.socket(family.af, socket.SOCK_DGRAM) as s:
            s.settimeout(5 * netlab.SLOWER)  # longer than any packet is under way
            s.connect((places.answerer.addr(family), WITNESS))
            for _ in range(10):
                s.send(b"ping")
                with contextlib.suppress(TimeoutError):
                    assert s.recv(100) == b"ping"
                    self.did("answers")
            for ns in (places.asker, places.answerer):
                assert ns.count() == 0, ns.entries()
                self.did("looks")
        self.pause(0.03)


def too_little(actors, seconds):
    """What was done too little of in that time, by all actors of a kind together."""
    done, kinds = collections.Counter(), {type(actor) for actor in actors}
    for actor in actors:
        done.update({(type(actor), what): times for what, times in actor.done().items()})
    for kind in kinds:
        for what, often in kind.LEAST.items():
            yield from fewer(f"{kind.__name__} {what}", done[kind, what], often, seconds)


def fewer(what, times, often, seconds):
    """Say so where something was not done as often as `often` in a minute asks for."""
    least = max(1, int(often * seconds / 60 / netlab.SLOWER))
    if times < least:
        yield f"{what}: {times}, not even {least}"


def crew(seed, places, lock):
    """All actors, in the order that they begin in."""
    kinds = {
        Servers: 1,
        Tables: 1,
        Writer: 2,
        Reader: 1,
        Settings: 1,
        Purger: 1,
        Module: 1,
        Spaces: 1,
        Labs: 1,
        Firewall: 1,
        Frames: 1,
        Raw: 1,
        Flows: 1,
        Witness: 1,
    }
    return [
        kind(f"{kind.__name__.lower()}{number}", seed, places, lock)
        for kind, times in kinds.items()
        for number in range(times)
    ]


# --- what is left ------------------------------------------------------------------------------------

SLAB = Path("/sys/kernel/slab")


def slabs(*names):
    """The objects in use and the size of one, by cache; without what CPUs keep for the next to ask.

    To look at some caches only saves seconds.
    """
    folders = [SLAB / name for name in names] or [p for p in SLAB.iterdir() if not p.is_symlink()]
    for folder in folders:
        (folder / "shrink").write_text("1\n")
    found = {}
    for line in Path("/proc/slabinfo").read_text().splitlines()[2:]:
        name, active, _, size, *_ = line.split()
        found[name] = (int(active), int(size))
    return found


def namespaces_go():
    """Whether the kernel is taking network namespaces down: its worker's name ends with `+netns` then."""
    for comm in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if comm.read_text().endswith("+netns\n"):
                return True
    return False


def only_initial_namespace():
    """Whether the kernel holds no network namespace any more but the initial one.

    It frees those that it has taken down when it takes down the next: so one is made here, when none is
    going, and it alone may be left, some time after it went.
    """
    if namespaces_go():
        return False
    child = _fork.Process(target=os.unshare, args=(os.CLONE_NEWNET,))
    child.start()
    child.join()
    quiet = time.monotonic()
    while (left := slabs("net_namespace")["net_namespace"][0]) > 1:
        if namespaces_go():
            quiet = time.monotonic()
        elif time.monotonic() > quiet + 2 * netlab.SLOWER:
            break
        time.sleep(0.1 * netlab.SLOWER)
    return left <= 1


def vmalloc():
    """The bytes of vmalloc, but for the stacks of processes, per-CPU memory, and what is mapped only."""
    total = 0
    for line in Path("/proc/vmallocinfo").read_text().splitlines():
        if not re.search(r"kernel_clone|fork_idle|pcpu|ioremap|vmap|unpurged", line):
            total += int(line.split()[1])
    return total


def memory():
    """Bytes in use, by kind; `kmalloc-*` holds what was asked for by size alone."""
    Path("/proc/sys/vm/drop_caches").write_text("3\n")
    per_cpu = re.search(r"Percpu: +(\d+) kB", Path("/proc/meminfo").read_text())
    found = slabs()
    return {
        "vmalloc": vmalloc(),
        "per CPU": int(per_cpu[1]) * 1024,
        **{name: active * size for name, (active, size) in found.items()},
    }
