# SPDX-License-Identifier: GPL-2.0
"""A network namespace with all that a test can do in it."""

from .clients import Clients
from .conntrack import Conntrack
from .frames import Frames
from .programs import Programs
from .servers import Servers


class Netns(Programs, Clients, Servers, Frames, Conntrack):
    """A network namespace: each subject is a class of its own, over one Namespace."""
