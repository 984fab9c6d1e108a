# SPDX-License-Identifier: GPL-2.0
"""DNS questions that are asked all the time, for tests in which none may be lost."""

import collections
import contextlib
import selectors
import socket
import threading
import time

from .family import family_of
from .packets import dns_question
from .system import SLOWER, wait_until

PAUSE = 0.05 * SLOWER  # between two questions
LATE = 0.15 * SLOWER  # how long a server thinks
PATIENCE = 10.0 * SLOWER  # how long an answer may take, on a busy host

Waiting = collections.namedtuple("Waiting", "until during socket stays")


class Questions(threading.Thread):
    """Asks 20 questions a second, and takes the answers.

    Every second question is from a new socket, the others from one that stays. A server answers after
    0.15 s: so there are always some on their way, whatever changes.
    """

    def __init__(self, *asked):
        """What is asked: (namespace, address, source address or None)."""
        super().__init__(daemon=True)
        self.asked = asked
        self.during = "nothing"  # what the test does
        self.sent, self.answered, self.lost = 0, 0, []
        self.ended = False
        self.owed = collections.deque()
        self.waiting, self.stay = {}, {}
        self.selector = selectors.DefaultSelector()

    def serve(self, ns, address, port=53):
        """Answer questions at an address, late; send back all else at once."""
        s = ns.socket(family_of(address).af, socket.SOCK_DGRAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((address, port))
        ns.lab.reactor.serve(s, self.take)

    def take(self, s):
        """Take a question, or something else."""
        data, peer = s.recvfrom(65535)
        if len(data) < len(dns_question()):
            s.sendto(data, peer)
        else:
            self.owed.append((time.monotonic() + LATE, s, data, peer))

    def run(self):
        """Ask until end(), then wait for the last answers."""
        due = time.monotonic()
        while self.waiting or self.owed or not self.ended:
            now = time.monotonic()
            while self.owed and self.owed[0][0] <= now:
                _, s, data, peer = self.owed.popleft()
                with contextlib.suppress(OSError):  # its firewall
                    s.sendto(data, peer)
            for ident in [i for i, waiting in self.waiting.items() if waiting.until <= now]:
                self.lost.append(self.done(ident).during)
            if self.asked and not self.ended and due <= now:
                self.ask()
                due = max(due + PAUSE, now - 5 * PAUSE)
            for key, _ in self.selector.select(PAUSE / 4):
                self.read(key.fileobj)

    def ask(self):
        """Send a question."""
        ns, address, source = self.asked[self.sent // 2 % len(self.asked)]
        stays = self.sent % 2 == 0
        s = self.stay.get((ns, address)) if stays else None
        if s is None:
            s = ns.socket(family_of(address).af, socket.SOCK_DGRAM)
            if source:
                s.bind((source, 0))
            s.connect((address, 53))
            s.setblocking(False)
            self.selector.register(s, selectors.EVENT_READ)
            if stays:
                self.stay[ns, address] = s
        self.sent += 1
        ident = self.sent % 65536
        during = f"{ns}, {address}: {self.during}"
        self.waiting[ident] = Waiting(time.monotonic() + PATIENCE, during, s, stays)
        with contextlib.suppress(OSError):  # it will have no answer
            s.send(dns_question(ident=ident))

    def read(self, s):
        """Take an answer."""
        with contextlib.suppress(OSError):  # an ICMP error
            ident = int.from_bytes(s.recv(65535)[:2])
            if ident in self.waiting:
                self.done(ident)
                self.answered += 1

    def done(self, ident):
        """Wait for a question no longer."""
        waiting = self.waiting.pop(ident)
        if not waiting.stays:
            self.selector.unregister(waiting.socket)
            waiting.socket.close()
        return waiting

    def more(self):
        """Wait until some more questions have been asked."""
        if self.is_alive() and self.asked:
            before = self.sent
            wait_until(lambda: self.sent > before + 3 or not self.is_alive(), 10)

    def end(self):
        """Ask no more; all must have been answered."""
        self.ended = True
        self.join()
        if self.asked:
            lost = dict(collections.Counter(self.lost))
            assert not lost, f"{sum(lost.values())} of {self.sent} questions are lost: {lost}"
            assert self.answered == self.sent > 0
