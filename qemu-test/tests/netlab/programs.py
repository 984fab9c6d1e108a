# SPDX-License-Identifier: GPL-2.0
"""Servers and clients that are programs: dnsmasq, dig, nginx, curl."""

import os

from .namespace import Namespace
from .system import SLOWER, wait_until


class Programs(Namespace):
    """The network programs of a namespace."""

    def _serve_by(self, command, protocol, port):
        """Start a server; return its Popen when it listens at the port."""
        process = self.start(command)
        wait_until(lambda: process.poll() is not None or self.listens(protocol, port), 20)
        assert process.poll() is None, process.log.read_text()
        return process

    def dnsmasq(self, *options, port=53):
        """Start a DNS server that answers *.test with 192.0.2.1 and 2001:db8::1; return its Popen."""
        command = [
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
        return self._serve_by(command, "udp", port)

    def dig(self, server, name="www.test", kind="A", options=f"+tries=1 +timeout={3 * SLOWER}"):
        """Ask a DNS server by dig; return the answer, or None where there was none."""
        done = self.run(f"dig +short {options} @{server} {name} {kind}", check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    def nginx(self, port=80, size=65536):
        """Start a web server of both families with one file, /file; return its Popen."""
        top = self.lab.new_path(f"{self.name}-nginx")
        top.mkdir()
        (top / "file").write_bytes(os.urandom(size))
        (top / "conf").write_text(f"""daemon off; user root; worker_processes 1; pid {top}/pid;
            error_log stderr; events {{ }}
            http {{ access_log off; server {{ listen {port}; listen [::]:{port}; root {top}; }} }}""")
        return self._serve_by(f"nginx -e stderr -p {top} -c {top}/conf", "tcp", port)

    def curl(self, address, path="/file", port=80, options=""):
        """Fetch a file by curl; return the number of bytes, None where it failed."""
        host = f"[{address}]" if ":" in address else address
        done = self.run(
            f"curl -s -f -o /dev/null -w %{{size_download}} --max-time 20 {options} "
            f"http://{host}:{port}{path}",
            check=False,
        )
        return int(done.stdout) if done.returncode == 0 else None
