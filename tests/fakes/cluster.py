"""A cluster that can vanish: model servers in a process and a network of their own, cut off at will.

Needs root and `ip` of iproute2; elsewhere `cluster` raises `NotPermitted` with the reason.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parent.parent

_SERVER = """
import sys
from fakes.upstream import FakeUpstream
host, key = sys.argv[1:]
with FakeUpstream(key=key, host=host) as a, FakeUpstream(key=key, host=host) as b:
    print(a.port, b.port, flush=True)
    sys.stdin.read()
"""


class NotPermitted(Exception):  # noqa: N818 - nobody's error
    """This machine gives us no network of our own."""


class Cluster:
    """Two model servers, at `urls`."""

    def __init__(self, name: str, here: str, there: str, ports: list[str]) -> None:
        self._name, self._here = name, here
        self.urls = [f"http://{there}:{port}" for port in ports]

    def vanish(self) -> None:
        """Drop every packet that leaves it: nothing is refused, nothing is closed, nothing answers."""
        _ip("-n", self._name, "route", "add", "blackhole", f"{self._here}/32")

    def come_back(self) -> None:
        """Let packets through again."""
        _ip("-n", self._name, "route", "del", "blackhole", f"{self._here}/32")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=30)


@contextlib.contextmanager
def cluster(key: str) -> Iterator[Cluster]:
    """Run one, for requests with this key."""
    number = os.getpid() % 60_000
    name, outer, inner = f"aigw{number}", f"aigw{number}o", f"aigw{number}i"
    network = f"10.213.{number % 250}"
    here, there = f"{network}.1", f"{network}.2"
    if shutil.which("ip") is None:
        raise NotPermitted("there is no ip command")
    try:
        _ip("netns", "add", name)
    except (subprocess.CalledProcessError, OSError) as error:
        raise NotPermitted("network namespaces are not permitted here") from error
    try:
        try:
            _ip("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", name)
            _ip("addr", "add", f"{here}/24", "dev", outer)
            _ip("link", "set", outer, "up")
            _ip("-n", name, "addr", "add", f"{there}/24", "dev", inner)
            _ip("-n", name, "link", "set", inner, "up")
        except subprocess.CalledProcessError as error:
            raise NotPermitted("virtual network devices are not permitted here") from error
        command = ["ip", "netns", "exec", name, sys.executable, "-c", _SERVER, there, key]
        with subprocess.Popen(
            command, cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout is not None
                ports = process.stdout.readline().split()
                assert len(ports) == 2, "the servers did not start"
                yield Cluster(name, here, there, ports)
            finally:
                process.kill()
    finally:
        _ip("netns", "del", name)
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("link", "del", outer)
