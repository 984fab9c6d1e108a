# SPDX-License-Identifier: GPL-2.0
"""Network namespaces, packets and ctskip itself, for the tests.

Emulation makes starting a process cost 30-80 ms, half a second on a debug kernel, and a thousand Python
instructions nearly nothing, so all that can be done in this process is: sockets, netlink, namespaces, files,
nft's rules. What users use (conntrack, iptables, dig) is started as a program where the test is about it.

    def test_dns(ctskip, lab, family):
        client, server = lab.pair()                     # two namespaces, a veth between them
        watch = server.watch("udp dport 53")            # turns conntrack on, counts behind it
        server.udp_echo(53)
        ctskip.add(f"udp dst={server.addr(family)} dport=53")
        assert client.udp(server.addr(family), 53) == b"ping"
        assert watch.read("prerouting") == {"untracked": 1}
        assert server.entries() == []

In `lab` (a fixture, all of it goes after the test):
    lab.ns()                            one namespace
    lab.pair()                          client -- server
    lab.routed()                        client -- router -- server, the router forwards
    lab.bridged()                       client -- bridge -- server, the bridge's frames pass the IP hooks
    lab.host()                          client -- the initial namespace
    lab.link(a, b)                      one more veth between two; a Link
    lab.init                            the initial namespace, with all that other ones have

ctskip looks in every namespace, so in a pair each packet is seen twice: at the sender's LOCAL_OUT and
at the receiver's PRE_ROUTING; through a router, three times. A rule's counters are the sum;
ctskip.netns(ns) tells them apart.

In a namespace (Netns): addr() nft() run() start() watch() track() entries() count() flush() udp() tcp()
sctp() ping() udp_echo() tcp_echo() sctp_echo() dnsmasq() dig() nginx() curl() socket() send_ip()
capture() sysctl() inside() ...

One file of tests, with a module that is built already:
    qemu-test/run.py test --module build/7.3/ctskip.ko test_smoke.py -k raw

scapy: `from scapy.layers.inet import IP, UDP`, not scapy.all (2 s of emulation).
"""

import contextlib
import ctypes
import errno
import ipaddress
import itertools
import json
import os
import re
import select
import selectors
import shlex
import socket
import struct
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from nftables import Nftables
from pyroute2 import IPRoute, NFCTSocket

NETNS = Path("/run/netns")
SYSFS = Path("/sys/kernel/ctskip")
MODULE = Path("/root/ctskip.ko")
OUT = Path("/host/out")
SLOWER = int(os.environ.get("SLOWER", 1))  # how many times longer all may take: a debug kernel's

_libc = ctypes.CDLL(None, use_errno=True)
_INIT = os.open("/proc/1/ns/net", os.O_RDONLY | os.O_CLOEXEC)
_MS_BIND, _MNT_DETACH = 4096, 2
_SYS_INIT_MODULE, _SYS_DELETE_MODULE = 175, 176
_IPV6_HDRINCL, _SO_MARK, _IFA_F_NODAD, _NUD_PERMANENT = 36, 36, 2, 0x80
IPPROTO_SCTP = 132


class Family:
    """IPv4 or IPv6: the words for it in the various languages."""

    def __init__(self, version):
        v4 = version == 4
        self.version = version
        self.af = socket.AF_INET if v4 else socket.AF_INET6
        self.ip = "ip" if v4 else "ip6"  # ctskip and nft
        self.icmp = "icmp" if v4 else "icmp6"  # ctskip
        self.nft_icmp = "icmp" if v4 else "icmpv6"  # nft
        self.conntrack = "ipv4" if v4 else "ipv6"  # conntrack -f, nf_conntrack
        self.iptables = "iptables" if v4 else "ip6tables"
        self.bits = 32 if v4 else 128
        self.ethertype = 0x0800 if v4 else 0x86DD
        self.echo_request, self.echo_reply = (8, 0) if v4 else (128, 129)

    def pick(self, v4, v6):
        """The first with IPv4, the second with IPv6."""
        return v4 if self.version == 4 else v6

    def __repr__(self):
        return f"ipv{self.version}"


V4, V6 = Family(4), Family(6)


def family_of(address):
    return V6 if ":" in address else V4


def wait_until(condition, timeout=5.0, interval=0.01):
    """Wait until condition() is true and return what it returned; AssertionError after the timeout.

    It looks every `interval` seconds at first, and less often as time goes: to look costs processor time,
    which what is waited for may need.
    """
    end = time.monotonic() + timeout * SLOWER
    longest = max(interval, 0.1)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(
                f"not within {timeout * SLOWER} s: {getattr(condition, '__name__', condition)}"
            )
        time.sleep(interval)
        interval = min(1.5 * interval, longest)


def steady(read):
    """Call read() until nothing overtakes it: it fails with ESTALE no more."""
    while True:
        try:
            return read()
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise


def _checked(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


# --- namespaces --------------------------------------------------------------------------------------


class Netns:
    """A network namespace. Named in /run/netns, so `ip netns exec NAME` works by hand too."""

    def __init__(self, lab, name, fd=None):
        self.lab, self.name = lab, name
        self.links = []
        self.addresses = {4: [], 6: []}
        self.processes = []
        self.sockets = []
        self.rules_made = False
        self._ip = None
        self.is_init = fd is not None
        if self.is_init:
            self.fd = fd
            return
        path = NETNS / name
        path.touch(exist_ok=False)
        try:
            os.unshare(os.CLONE_NEWNET)
            _checked(
                _libc.mount(b"/proc/thread-self/ns/net", os.fsencode(path), b"none", _MS_BIND, None)
            )
            self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            # No packets but those of the test: addresses are used at once, routers not asked for.
            for key, value in (
                ("accept_dad", 0),
                ("router_solicitations", 0),
                ("addr_gen_mode", 1),
            ):
                Path(f"/proc/sys/net/ipv6/conf/default/{key}").write_text(f"{value}\n")
            # A closed connection whose other end answers no more keeps its namespace, and the modules
            # that this one's rules use: for a second, not for minutes.
            Path("/proc/sys/net/ipv4/tcp_orphan_retries").write_text("1\n")
        finally:
            os.setns(_INIT, os.CLONE_NEWNET)
        self.ip.link("set", index=1, state="up")

    @property
    def inode(self):
        """The number that `lsns -t net` and ctskip's `netns=` use."""
        return os.fstat(self.fd).st_ino

    @contextlib.contextmanager
    def inside(self):
        """This thread is in the namespace: sockets and processes made here belong to it.

        Not inside another: at the end it is in the initial namespace.
        """
        os.setns(self.fd, os.CLONE_NEWNET)
        try:
            yield self
        finally:
            os.setns(_INIT, os.CLONE_NEWNET)

    @property
    def ip(self):
        """pyroute2's IPRoute in the namespace."""
        if self._ip is None:
            with self.inside():
                self._ip = IPRoute()
        return self._ip

    def index(self, device):
        """The index of a device."""
        with self.inside():
            return socket.if_nametoindex(device)

    def addr(self, family=V4, number=0):
        """One of its addresses, as text; the first unless said."""
        return self.addresses[family.version][number]

    def add_address(self, device, address, prefix):
        """Add an address, usable at once."""
        self.ip.addr(
            "add",
            index=self.index(device),
            address=address,
            prefixlen=prefix,
            flags=_IFA_F_NODAD if ":" in address else 0,
        )
        self.addresses[family_of(address).version].append(address)

    def add_neighbour(self, device, address, mac):
        """Enter where an address is found, so that nobody asks, and no error comes where nobody answers."""
        self.ip.neigh(
            "replace",
            dst=address,
            lladdr=mac,
            ifindex=self.index(device),
            state=_NUD_PERMANENT,
        )

    def sysctl(self, name, value=None):
        """Read (no value) or write a sysctl: ns.sysctl("net.ipv4.ip_forward", 1)."""
        path = Path("/proc/sys") / name.replace(".", "/")
        with self.inside():
            if value is None:
                return path.read_text().strip()
            path.write_text(f"{value}\n")

    def device_sysctl(self, family, device, key, value):
        """The same for a device, whose name may hold a dot."""
        with self.inside():
            name = family.pick("ipv4", "ipv6")
            Path(f"/proc/sys/net/{name}/conf/{device}/{key}").write_text(f"{value}\n")

    def forward(self):
        """Make a router of it."""
        self.sysctl("net.ipv4.ip_forward", 1)
        self.sysctl("net.ipv6.conf.all.forwarding", 1)

    def silent(self):
        """Take in nothing, so answer nothing: no echo, no reset, no ICMP error. Forwards and sends."""
        self.nft(
            "table inet lab_silent { chain c { type filter hook input priority 400; drop; }; }"
        )

    def route(self, destination, via=None, device=None):
        """Add a route: destination is "default" with a `via`, or a prefix."""
        how = {"gateway": via} if via else {}
        if device:
            how["oif"] = self.index(device)
        if destination == "default":
            self.ip.route("add", dst=V6.pick("", "::/0") if ":" in via else "0.0.0.0/0", **how)
        else:
            self.ip.route("add", dst=destination, **how)

    # programs

    def run(self, command, stdin=None, check=True, timeout=60, **kwargs):
        """Run a program to its end: a CompletedProcess with text. A string is split as a shell would."""
        argv = shlex.split(command) if isinstance(command, str) else [str(w) for w in command]
        with self.inside():
            done = subprocess.run(
                argv,
                input=stdin,
                text=True,
                capture_output=True,
                timeout=timeout * SLOWER,
                check=False,
                **kwargs,
            )
        if check and done.returncode:
            raise AssertionError(
                f"{shlex.join(argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def start(self, command, **kwargs):
        """Start a program that stays (a Popen); it is ended with the namespace. Output: .log (a path)."""
        argv = shlex.split(command) if isinstance(command, str) else [str(w) for w in command]
        log = self.lab.new_path(f"{self.name}-{Path(argv[0]).name}.log")
        with self.inside(), open(log, "wb") as out:
            kwargs = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": out} | kwargs
            process = subprocess.Popen(argv, **kwargs)
        process.log = log
        self.processes.append(process)
        return process

    def listens(self, protocol, port):
        """Whether a socket is bound to that port: protocol is "udp" or "tcp"."""
        state = {"udp": "07", "tcp": "0A"}[protocol]
        with self.inside():
            for name in (protocol, protocol + "6"):
                for line in Path(f"/proc/thread-self/net/{name}").read_text().splitlines()[1:]:
                    fields = line.split()
                    if fields[3] == state and int(fields[1].rpartition(":")[2], 16) == port:
                        return True
        return False

    def dnsmasq(self, *options, port=53):
        """A DNS server that answers *.test with 192.0.2.1 and 2001:db8::1; returns when it listens."""
        process = self.start(
            [
                "dnsmasq",
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--no-resolv",
                "--no-hosts",
                "--user=root",
                "--pid-file=",
                "--log-facility=-",
                f"--port={port}",
                "--address=/test/192.0.2.1",
                "--address=/test/2001:db8::1",
                *options,
            ]
        )
        wait_until(lambda: process.poll() is not None or self.listens("udp", port), 20)
        assert process.poll() is None, process.log.read_text()
        return process

    def dig(self, server, name="www.test", kind="A", options=f"+tries=1 +timeout={3 * SLOWER}"):
        """Ask a DNS server by dig: the answer, or None where none came."""
        done = self.run(f"dig +short {options} @{server} {name} {kind}", check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    def nginx(self, port=80, size=65536):
        """A web server of both families with one file, /file; returns when it listens."""
        top = self.lab.new_path(f"{self.name}-nginx")
        top.mkdir()
        (top / "file").write_bytes(os.urandom(size))
        (top / "conf").write_text(f"""daemon off; user root; worker_processes 1; pid {top}/pid;
            error_log stderr; events {{ }}
            http {{ access_log off; server {{ listen {port}; listen [::]:{port}; root {top}; }} }}""")
        process = self.start(f"nginx -e stderr -p {top} -c {top}/conf")
        wait_until(lambda: process.poll() is not None or self.listens("tcp", port), 20)
        assert process.poll() is None, process.log.read_text()
        return process

    def curl(self, address, path="/file", port=80, options=""):
        """Fetch a file by curl; how many bytes came, None where it failed."""
        host = f"[{address}]" if ":" in address else address
        done = self.run(
            f"curl -s -f -o /dev/null -w %{{size_download}} --max-time 20 {options} "
            f"http://{host}:{port}{path}",
            check=False,
        )
        return int(done.stdout) if done.returncode == 0 else None

    def nft(self, text, as_json=False):
        """What `nft -f -` does with that text, and with as_json `nft -j -f -`; what it prints.

        In one thread at a time: libnftables keeps the devices that it has seen for the whole process.
        """
        self.rules_made |= not text.startswith("list ")
        with self.inside():
            # It goes before we return: its socket keeps the namespace, and where that is closed the kernel
            # waits until it has let go of what deleted rules used.
            nft = Nftables()
            try:
                nft.set_json_output(as_json)
                failed, printed, error = nft.cmd(text)
            finally:
                del nft
        assert not failed, f"nft: {text}\n{error}"
        return printed

    def iptables(self, family, arguments, legacy=False, check=True):
        """iptables or ip6tables (by family), the nft one unless `legacy`."""
        self.rules_made = True
        kind = "-legacy" if legacy else "-nft"
        return self.run(f"{family.iptables}{kind} {arguments}", check=check)

    # conntrack

    def track(self):
        """Turn conntrack on (a rule that looks at `ct state`); it stays on."""
        self.nft(
            "table inet lab_track { chain c { type filter hook input priority 300; ct state new; }; }"
        )

    def entries(self, family=None, protocol=None):
        """What `conntrack -L` lists, as Entry; of both families unless one is given. Conntrack is loaded."""
        with self.inside():
            text = Path("/proc/thread-self/net/nf_conntrack").read_text()
        wanted = {"ipv4", "ipv6"} if family is None else {family.conntrack}
        return [
            entry
            for entry in map(Entry, text.splitlines())
            if entry.family in wanted and protocol in (None, entry.protocol)
        ]

    def count(self):
        """What `conntrack -C` says: the number of entries. Conntrack is loaded."""
        return int(self.sysctl("net.netfilter.nf_conntrack_count"))

    def flush(self):
        """What `conntrack -F` does, without starting it: no entries."""
        with self.inside():
            netlink = NFCTSocket()
        try:
            netlink.flush()
        finally:
            netlink.close()

    def watch(self, match="", name="lab_watch", family="inet"):
        """Count packets behind conntrack by their `ct state`; `match` (nft) narrows. Turns it on."""
        return Watch(self, match, name, family)

    # packets

    def socket(self, *arguments):
        """A socket in the namespace; closed with it."""
        with self.inside():
            made = socket.socket(*arguments)
        self.sockets.append(made)
        return made

    def _client(self, address, kind, protocol, source, sport, mark):
        made = self.socket(family_of(address).af, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if mark is not None:
            made.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark)
        if source or sport:
            made.bind((source or "", sport))
        return made

    def udp(
        self,
        address,
        port,
        data=b"ping",
        sport=0,
        timeout=2.0 * SLOWER,
        count=1,
        source=None,
        mark=None,
    ):
        """Send datagrams from one socket, each after the last one's answer; the last answer, or None."""
        with self._client(address, socket.SOCK_DGRAM, 0, source, sport, mark) as s:
            s.connect((address, port))
            answer = None
            for _ in range(count):
                try:
                    s.send(data)
                    if timeout:
                        s.settimeout(timeout)
                        answer = s.recv(65535)
                except (TimeoutError, ConnectionRefusedError):
                    answer = None
            return answer

    def udp_send(self, address, port, data=b"ping", sport=0, count=1, source=None, mark=None):
        """Send datagrams, wait for nothing."""
        with self._client(address, socket.SOCK_DGRAM, 0, source, sport, mark) as s:
            for _ in range(count):
                s.sendto(data, (address, port))

    def tcp(
        self,
        address,
        port,
        data=b"ping",
        sport=0,
        timeout=5.0 * SLOWER,
        source=None,
        mark=None,
        protocol=0,
    ):
        """Connect, send, end, read to the end: what came back; None if there is no connection."""
        with self._client(address, socket.SOCK_STREAM, protocol, source, sport, mark) as s:
            s.settimeout(timeout)
            try:
                s.connect((address, port))
                s.sendall(data)
                if protocol != IPPROTO_SCTP:
                    s.shutdown(socket.SHUT_WR)
                    return b"".join(iter(lambda: s.recv(65536), b""))
                return s.recv(65536)
            except OSError as error:
                if isinstance(error, (TimeoutError, ConnectionError)) or error.errno in (
                    errno.EHOSTUNREACH,
                    errno.ENETUNREACH,
                    errno.ENOTCONN,  # of shutdown(), where the other end has reset it
                ):
                    return None
                raise

    def sctp(self, address, port, **kwargs):
        """The same over SCTP, one message and its answer."""
        return self.tcp(address, port, protocol=IPPROTO_SCTP, **kwargs)

    def ping(self, address, count=1, timeout=2.0 * SLOWER, ident=0x1234, mark=None, data=b"ctskip"):
        """Echo requests from a raw socket; how many were answered."""
        family = family_of(address)
        answered = 0
        protocol = family.pick(socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6)
        with self.socket(family.af, socket.SOCK_RAW, protocol) as s:
            if mark is not None:
                s.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark)
            for sequence in range(count):
                body = struct.pack("!BBHHH", family.echo_request, 0, 0, ident, sequence) + data
                if family.version == 4:
                    body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
                s.sendto(body, (address, 0))
                end = time.monotonic() + timeout
                while (left := end - time.monotonic()) > 0:
                    s.settimeout(left)
                    try:
                        got = s.recv(65535)
                    except TimeoutError:
                        break
                    if family.version == 4:
                        got = got[(got[0] & 15) * 4 :]
                    # Empty, where an IP header is all that came.
                    if got[:1] == bytes([family.echo_reply]) and got[4:8] == body[4:8]:
                        answered += 1
                        break
        return answered

    def udp_echo(self, port, address=None, family=None):
        """A server that sends each datagram back; of both families unless address or family is given."""
        return self._serve(port, socket.SOCK_DGRAM, 0, address, family)

    def tcp_echo(self, port, address=None, family=None):
        """A server that sends back what comes on a connection."""
        return self._serve(port, socket.SOCK_STREAM, 0, address, family)

    def sctp_echo(self, port, address=None, family=None):
        """The same over SCTP."""
        return self._serve(port, socket.SOCK_STREAM, IPPROTO_SCTP, address, family)

    def _serve(self, port, kind, protocol, address, family):
        families = [family_of(address)] if address else [family] if family else [V4, V6]
        for one in families:
            s = self.socket(one.af, kind, protocol)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if one.version == 6:
                s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            s.bind((address or "", port))
            if kind == socket.SOCK_STREAM:
                s.listen(128)
            self.lab.reactor.add(s, kind)

    def send_ip(self, packet, mark=None):
        """Send a whole IP packet (bytes or scapy) as this host's own: through LOCAL_OUT and routing."""
        data = bytes(packet)
        v4 = data[0] >> 4 == 4
        with self.socket(V4.af if v4 else V6.af, socket.SOCK_RAW, socket.IPPROTO_RAW) as s:
            if mark is not None:
                s.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark)
            if v4:
                s.sendto(data, (socket.inet_ntop(socket.AF_INET, data[16:20]), 0))
            else:
                s.setsockopt(socket.IPPROTO_IPV6, _IPV6_HDRINCL, 1)
                s.sendto(data, (socket.inet_ntop(socket.AF_INET6, data[24:40]), 0))

    def send_frame(self, device, frame):
        """Send a whole Ethernet frame out of a device, past every hook of this namespace."""
        with self.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as s:
            s.bind((device, 0))
            s.send(bytes(frame))

    def capture(self, device=None):
        """Record what comes in on a device from now on: a Capture."""
        return Capture(self, device)

    def close(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for made in self.sockets:
            made.close()
        if self._ip is not None:
            self._ip.close()
        if self.is_init:
            return
        os.close(self.fd)
        path = NETNS / self.name
        _checked(_libc.umount2(os.fsencode(path), _MNT_DETACH))
        path.unlink()

    def __repr__(self):
        return f"Netns({self.name})"


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
    # The kernel's own neighbour and multicast messages are untracked always: not counted.
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
        """{hook: {state: packets}} without zeros, or of one hook {state: packets}."""
        listed = self.ns.nft(f"list counters table {self.family} {self.table}", as_json=True)
        found = {}
        for item in json.loads(listed)["nftables"]:
            if "counter" in item and item["counter"]["packets"]:
                name, _, state = item["counter"]["name"].partition("-")
                found.setdefault(name, {})[state] = item["counter"]["packets"]
        return found.get(hook, {}) if hook else found

    def more(self, hook, packets, timeout=5.0 * SLOWER):
        """Wait until a hook has counted that many packets since the last call: {state: packets}."""
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
        """All zero."""
        self.last = {}
        self.ns.nft(f"reset counters table {self.family} {self.table}")


class Capture:
    """Packets that came in on a device: AF_PACKET, so before any hook."""

    def __init__(self, ns, device):
        self.socket = ns.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        if device:
            self.socket.bind((device, 3))

    def packets(self, timeout=0.2 * SLOWER):
        """Each frame (bytes, from the Ethernet header on) until none comes for `timeout` seconds."""
        while select.select([self.socket], [], [], timeout)[0]:
            data, (_, _, kind, _, _) = self.socket.recvfrom(65535)
            if kind != socket.PACKET_OUTGOING:
                yield data

    def wait(self, condition, timeout=2.0 * SLOWER):
        """The first frame for which condition(bytes) is true, or None after the timeout."""
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            for data in self.packets(left):
                if condition(data):
                    return data
                if time.monotonic() > end:
                    return None
        return None


class Link:
    """A veth pair: a and b (Netns), a_dev and b_dev (names), a_mac and b_mac."""

    def __init__(self, a, b, a_dev, b_dev, number):
        self.a, self.b, self.a_dev, self.b_dev, self.number = a, b, a_dev, b_dev, number
        self.a_mac, self.b_mac = (f"02:00:00:00:{number:02x}:{end:02x}" for end in (1, 2))

    def send(self, ns, packet):
        """Put an IP packet (bytes or scapy) on the wire from the end in `ns`: the other end receives it,
        and no hook of `ns` sees it."""
        data = bytes(packet)
        src, dst, device = (
            (self.a_mac, self.b_mac, self.a_dev)
            if ns is self.a
            else (self.b_mac, self.a_mac, self.b_dev)
        )
        ethertype = V4.ethertype if data[0] >> 4 == 4 else V6.ethertype
        header = bytes.fromhex((dst + src).replace(":", "")) + struct.pack("!H", ethertype)
        ns.send_frame(device, header + data)


class Lab:
    """The namespaces of one test."""

    def __init__(self):
        self.numbers = itertools.count()
        self.subnets = itertools.count(1)
        self.folder = Path(tempfile.mkdtemp(prefix="lab-"))
        self.namespaces = []
        self.init = Netns(self, "init", _INIT)
        self.reactor = Reactor()

    def new_path(self, name):
        """A path for a file of this test's; nothing is there yet."""
        return self.folder / f"{next(self.numbers)}-{name}"

    def ns(self, name=None):
        """A new namespace."""
        made = Netns(self, name or f"ns{next(self.numbers)}")
        self.namespaces.append(made)
        return made

    def link(self, a, b, a_dev=None, b_dev=None, addresses=True, mtu=None):
        """A veth between two: 10.0.N.1 and fd00:N::1 at a, .2 and ::2 at b, N = 1, 2, ...

        Devices are eth0, eth1, ... in a namespace, lab0, lab1, ... in init. The neighbours are
        entered, so no ARP or neighbour discovery runs.
        """
        number = next(self.subnets)
        names = [
            given or f"{'lab' if ns.is_init else 'eth'}{len(ns.links)}"
            for ns, given in ((a, a_dev), (b, b_dev))
        ]
        link = Link(a, b, *names, number)
        more = {"mtu": mtu} if mtu else {}
        a.ip.link(
            "add",
            ifname=link.a_dev,
            kind="veth",
            address=link.a_mac,
            **more,
            peer={"ifname": link.b_dev, "address": link.b_mac, "net_ns_fd": b.fd, **more},
        )
        for ns, device in ((a, link.a_dev), (b, link.b_dev)):
            if ns.is_init:
                for key in ("accept_dad", "router_solicitations"):
                    ns.device_sysctl(V6, device, key, 0)
            ns.links.append(link)
            ns.ip.link("set", index=ns.index(device), state="up")
        if addresses:
            ends = [(a, link.a_dev, 1, link.b_mac), (b, link.b_dev, 2, link.a_mac)]
            for ns, device, own, peer_mac in ends:
                for prefix, length in ((f"10.0.{number}.", 24), (f"fd00:{number}::", 64)):
                    ns.add_address(device, f"{prefix}{own}", length)
                    ns.add_neighbour(device, f"{prefix}{3 - own}", peer_mac)
        return link

    def pair(self):
        """client -- server."""
        client, server = self.ns("client"), self.ns("server")
        self.link(client, server)
        return client, server

    def host(self):
        """client -- init: (client, init)."""
        client = self.ns("client")
        self.link(client, self.init)
        return client, self.init

    def routed(self):
        """client -- router -- server, with default routes and forwarding: (client, router, server)."""
        client, router, server = self.ns("client"), self.ns("router"), self.ns("server")
        self.link(client, router)
        self.link(router, server)
        router.forward()
        for family in (V4, V6):
            client.route("default", router.addr(family, 0))
            server.route("default", router.addr(family, 1))
        return client, router, server

    def bridged(self, names=("client", "bridge", "server")):
        """Two hosts on two ports of a bridge whose frames pass the IP hooks: (client, bridge, server)."""
        client, bridge, server = (self.ns(name) for name in names)
        links = [self.link(end, bridge, addresses=False) for end in (client, server)]
        bridge.ip.link("add", ifname="br0", kind="bridge")
        for link in links:
            bridge.ip.link("set", index=bridge.index(link.b_dev), master=bridge.index("br0"))
        bridge.ip.link("set", index=bridge.index("br0"), state="up")
        for number, (end, peer) in enumerate(zip((client, server), links[::-1]), 1):
            for prefix, length in (("10.9.0.", 24), ("fd00:9::", 64)):
                end.add_address("eth0", f"{prefix}{number}", length)
                end.add_neighbour("eth0", f"{prefix}{3 - number}", peer.a_mac)
        self.init.run("modprobe br_netfilter")
        for key in ("iptables", "ip6tables"):
            bridge.sysctl(f"net.bridge.bridge-nf-call-{key}", 1)
        return client, bridge, server

    def report(self):
        """What the namespaces hold, for the log of a failed test; of the first few, as it takes time."""
        for ns in [self.init, *self.namespaces[:6]]:
            yield f"--- {ns.name} (inode {ns.inode})"
            for command in (
                "ip -br addr",
                "nft list ruleset",
                "conntrack -L -f ipv4",
                "conntrack -L -f ipv6",
            ):
                done = ns.run(command, check=False)
                yield f"$ {command}\n{done.stdout}"
            for process in ns.processes:
                yield f"$ {shlex.join(process.args)}\n{process.log.read_text(errors='replace')}"

    def close(self):
        """All of it goes. What a test made in init goes too: devices, rules, entries."""
        self.reactor.close()
        for link in self.init.links:
            device = link.a_dev if link.a is self.init else link.b_dev
            for index in self.init.ip.link_lookup(ifname=device):
                self.init.ip.link("del", index=index)
        for ns in self.namespaces:
            ns.close()
        if self.init.rules_made:
            for family in (V4, V6):
                for table in ("raw", "mangle", "nat", "filter"):
                    names = Path(f"/proc/net/{family.pick('ip', 'ip6')}_tables_names")
                    if names.exists() and table in names.read_text().split():
                        for what in ("-F", "-X"):
                            self.init.iptables(family, f"-t {table} {what}", legacy=True)
            self.init.nft("flush ruleset")
            self.init.flush()
        self.init.close()


class Reactor(threading.Thread):
    """One thread that serves all echo servers of a lab."""

    def __init__(self):
        super().__init__(daemon=True)
        self.selector = selectors.DefaultSelector()
        self.wake, self.woken = socket.socketpair()
        self.selector.register(self.woken, selectors.EVENT_READ, None)

    def add(self, s, kind):
        s.setblocking(False)
        self.selector.register(
            s, selectors.EVENT_READ, self.accept if kind == socket.SOCK_STREAM else self.datagram
        )
        if not self.is_alive():
            self.start()

    def run(self):
        while True:
            for key, _ in self.selector.select():
                if key.data is None:
                    return
                with contextlib.suppress(OSError):
                    key.data(key.fileobj)

    def datagram(self, s):
        s.sendto(*s.recvfrom(65535))

    def accept(self, s):
        connection, _ = s.accept()
        self.selector.register(connection, selectors.EVENT_READ, self.stream)

    def stream(self, s):
        try:
            data = s.recv(65536)
            if data:
                s.setblocking(True)
                s.sendall(data)
                s.setblocking(False)
                return
        except ConnectionError:
            pass
        self.selector.unregister(s)
        s.close()

    def close(self):
        self.wake.send(b".")
        if self.is_alive():
            self.join()
        for key in list(self.selector.get_map().values()):
            if key.data == self.stream:
                key.fileobj.close()
        self.selector.close()
        self.wake.close()
        self.woken.close()


def checksum(data):
    """The Internet checksum of bytes."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def icmp_message(source, destination, kind, code=0, rest=0, body=b""):
    """An IP packet (scapy's) with an ICMP or ICMPv6 message: `rest` is the second word, an error's
    body is the packet that it quotes."""
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6

    message = struct.pack("!BBHI", kind, code, 0, rest) + bytes(body)
    if ":" not in source:
        message = message[:2] + struct.pack("!H", checksum(message)) + message[4:]
        return IP(src=source, dst=destination, proto=socket.IPPROTO_ICMP) / message
    ends = b"".join(socket.inet_pton(socket.AF_INET6, end) for end in (source, destination))
    pseudo = ends + struct.pack("!II", len(message), socket.IPPROTO_ICMPV6)
    message = message[:2] + struct.pack("!H", checksum(pseudo + message)) + message[4:]
    return IPv6(src=source, dst=destination, nh=socket.IPPROTO_ICMPV6) / message


def dns_question(name="www.test", ident=1):
    """The bytes of a question for an A record, to be sent by ns.udp(server, 53, ...)."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return struct.pack("!6H", ident, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", 1, 1)


@contextlib.contextmanager
def kernel_command_line(more):
    """/proc/cmdline shows `more` at its end, as after a boot with it: for modprobe."""
    copy = Path("/tmp/cmdline")
    copy.write_text(Path("/proc/cmdline").read_text().strip() + f" {more}\n")
    _checked(_libc.mount(os.fsencode(copy), b"/proc/cmdline", b"none", _MS_BIND, None))
    try:
        yield
    finally:
        _checked(_libc.umount2(b"/proc/cmdline", _MNT_DETACH))


def subnet(address, prefix):
    """The network of an address: subnet("10.0.1.2", 24) == "10.0.1.0/24"."""
    return str(ipaddress.ip_network(f"{address}/{prefix}", strict=False))


# --- the kernel's log --------------------------------------------------------------------------------


class Kmsg:
    """The kernel's log from the moment this is made."""

    def __init__(self):
        self.fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(self.fd, 0, os.SEEK_END)
        self.seen = []

    def lines(self):
        """All messages since, without their prefix."""
        while True:
            try:
                record = os.read(self.fd, 8192)
            except BlockingIOError:
                return list(self.seen)
            except BrokenPipeError:  # overwritten meanwhile: go on with what is there
                continue
            text = record.decode(errors="replace").split("\n", 1)[0]
            self.seen.append(text.partition(";")[2])

    def text(self):
        return "\n".join(self.lines())

    def clear(self):
        """Forget what came so far."""
        self.lines()
        self.seen.clear()

    def wait(self, pattern, timeout=5.0):
        """Wait for a message that the regular expression finds; its match."""
        return wait_until(lambda: re.search(pattern, self.text()), timeout)

    def close(self):
        os.close(self.fd)


# --- ctskip ------------------------------------------------------------------------------------------


def fields(line):
    """`key=value key="a value"` as a dict; words without = are left out."""
    found = re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)', line)
    return {key: value[1:-1] if value.startswith('"') else value for key, value in found}


def numbers(line):
    """The same with numbers as int."""
    return {
        key: int(value) if re.fullmatch(r"-?\d+", value) else value
        for key, value in fields(line).items()
    }


class Refused(AssertionError):
    """A write that was refused and should not have been."""


class OpenFile:
    """One open file of ctskip's, for what spans several writes or reads."""

    def __init__(self, name="rules", flags=os.O_RDONLY):
        self.fd = os.open(SYSFS / name, flags | os.O_CLOEXEC)

    def write(self, text):
        """One write(2), of a page at most; errno, 0 if it was taken whole."""
        data = text if isinstance(text, bytes) else text.encode()
        try:
            done = os.write(self.fd, data)
        except OSError as error:
            return error.errno
        assert done == len(data), f"write took {done} of {len(data)} bytes"
        return 0

    def read(self, size=65536):
        """One read(2): text; OSError as the kernel gives it."""
        return os.read(self.fd, size).decode()

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Ctskip:
    """The module and its files in /sys/kernel/ctskip."""

    # the module

    @staticmethod
    def loaded():
        return Path("/sys/module/ctskip").exists()

    @classmethod
    def load(cls, **parameters):
        """Load it with parameters as given (rules="a b"; mode=...); errno, 0 if it is in.

        Straight to the kernel: what insmod and modprobe make of a command line is theirs to test.
        """
        return cls.load_image(MODULE.read_bytes(), **parameters)

    @staticmethod
    def load_image(image, **parameters):
        """The same with what its file holds."""
        text = " ".join(
            f'{k}="{v}"' if re.search(r"\s", str(v)) else f"{k}={v}" for k, v in parameters.items()
        )
        failed = _libc.syscall(_SYS_INIT_MODULE, image, ctypes.c_ulong(len(image)), text.encode())
        return ctypes.get_errno() if failed else 0

    @staticmethod
    def unload(timeout=5.0 * SLOWER):
        """Unload it; errno, 0 if it is out. Waits while the kernel's own users of a moment hold it."""
        end = time.monotonic() + timeout
        while _libc.syscall(_SYS_DELETE_MODULE, b"ctskip", os.O_NONBLOCK):
            number = ctypes.get_errno()
            if number not in (errno.EAGAIN, errno.EWOULDBLOCK) or time.monotonic() > end:
                return number
            time.sleep(0.02)
        return 0

    # its files

    @staticmethod
    def read(name):
        """A whole file; OSError as the kernel gives it (ESTALE if a commit overtook the read)."""
        fd = os.open(SYSFS / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return b"".join(iter(lambda: os.read(fd, 65536), b"")).decode()
        finally:
            os.close(fd)

    @staticmethod
    def write(text, name="rules"):
        """One write(2); errno, 0 if it was taken whole."""
        fd = os.open(SYSFS / name, os.O_WRONLY | os.O_CLOEXEC)
        data = text if isinstance(text, bytes) else text.encode()
        try:
            done = os.write(fd, data)
            assert done == len(data), f"write took {done} of {len(data)} bytes"
            return 0
        except OSError as error:
            return error.errno
        finally:
            os.close(fd)

    def snapshot(self):
        """All that a refused write must leave as it was."""
        return {name: self.read(name) for name in ("rules", "counters", "mode", "generation")}

    def refused(self, text, name="rules"):
        """A write that must fail and leave everything as it was: the name of its errno."""
        before = self.snapshot()
        number = self.write(text, name)
        assert number, f"taken: {text!r}"
        assert self.snapshot() == before
        return errno.errorcode[number]

    def commit(self, *lines):
        """Write commands, one a line, in one write that must be taken."""
        number = self.write("".join(f"{line}\n" for line in lines))
        if number:
            raise Refused(f"{errno.errorcode[number]} for {lines!r}\n{self.read('last_error')}")

    def add(self, *rules):
        """Add rules at the end; the id of the last."""
        self.commit(*(f"add {rule}" for rule in rules))
        return self.counters()[-1]["id"]

    def load_table(self, text, piece=4096):
        """`load` ... `commit` around the text, in writes of at most `piece` bytes, as cat does."""
        data = f"load\n{text.rstrip()}\ncommit\n".encode()
        fd = os.open(SYSFS / "rules", os.O_WRONLY | os.O_CLOEXEC)
        try:
            for start in range(0, len(data), piece):
                os.write(fd, data[start : start + piece])
        finally:
            os.close(fd)

    def reset(self):
        """No rules, mode skip, no `load` under way."""
        self.write("abort\n")
        self.commit("flush")
        self.mode = "skip"

    @property
    def mode(self):
        return self.read("mode").strip()

    @mode.setter
    def mode(self, value):
        number = self.write(f"{value}\n", "mode")
        assert number == 0, errno.errorcode[number]

    @property
    def generation(self):
        return int(self.read("generation"))

    def text(self, name):
        """A whole file, read again where a commit, or a namespace that came or went, overtook it."""
        return steady(lambda: self.read(name))

    def header(self):
        """The first line of `rules`, as a dict."""
        return numbers(self.text("rules").split("\n", 1)[0])

    def rules(self):
        """The canonical rules, in order, as text."""
        return [line for line in self.text("rules").splitlines() if not line.startswith("#")]

    def counters(self):
        """A dict a rule, in order: id, packets, bytes, held, tag, rule."""
        return [numbers(line) for line in self.text("counters").splitlines()]

    def counter(self, rule_id):
        """The counters of one rule."""
        return next(c for c in self.counters() if c["id"] == rule_id)

    def netns(self, ns=None):
        """A dict a namespace, or that of one (a Netns)."""
        found = [numbers(line) for line in self.text("netns").splitlines()]
        if ns is None:
            return found
        names = ("init", ns.inode) if ns.is_init else (ns.inode,)
        return next(line for line in found if line["netns"] in names)

    def stats(self):
        """The totals as one dict."""
        return numbers(self.text("stats"))

    def last_error(self):
        """The last refused write, a field a line, as a dict; the whole under "text", the line that it
        is about (`text=`) under "excerpt". Empty before the first."""
        text = self.read("last_error")
        found = dict(line.split("=", 1) for line in text.splitlines())
        for key in ("line", "column", "generation"):
            if key in found:
                found[key] = int(found[key])
        return {**found, "excerpt": found.get("text", ""), "text": text} if found else {}
