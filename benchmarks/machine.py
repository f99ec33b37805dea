"""The machine: which cores, which processes, how much memory, and programs that end when we do."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PR_SET_PDEATHSIG = 1
PATIENCE_S = 15.0


@dataclass(frozen=True, slots=True)
class Cores:
    """Where things run: what is measured on `subject`, what surrounds it on `rest`."""

    subject: int
    rest: int

    @property
    def apart(self) -> bool:
        return self.subject != self.rest


def choose_cores() -> Cores:
    """Take the first and the last core that this process may use."""
    usable = sorted(os.sched_getaffinity(0))
    return Cores(usable[0], usable[-1])


def describe() -> str:
    """Say what machine this is, in one line."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), model)
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores, Linux {platform.release()}, Python {platform.python_version()}"


@contextlib.contextmanager
def running(
    command: Sequence[str], core: int, *, environ: Mapping[str, str] | None = None, log: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run a program on one core for as long as the block.

    What it writes goes to `log`; without one, its standard output is a pipe to read. The whole process
    group ends with the block, and the program itself with this process however that ends.
    """
    with contextlib.ExitStack() as files:
        written = files.enter_context(log.open("wb")) if log else None
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=written or subprocess.PIPE,
            stderr=written,
            text=True,
            env=None if environ is None else dict(environ),
            preexec_fn=lambda: _settle(core),
            start_new_session=True,
        )
        try:
            yield process
        finally:
            _end(process)


def _settle(core: int) -> None:
    """Run in the child before its program: pin it, give it files, tie its life to ours."""
    os.sched_setaffinity(0, {core})
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(process: subprocess.Popen[str]) -> None:
    for how, patience_s in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        try:
            process.wait(patience_s)
            break
        except subprocess.TimeoutExpired:
            continue
    if process.stdout is not None:
        process.stdout.close()


def free_port() -> int:
    """Return a port on 127.0.0.1 that nothing listens on just now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_for_port(port: int, process: subprocess.Popen[str], name: str) -> None:
    """Return once the process takes connections; RuntimeError when it ends or takes too long."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{name} ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.002)
    raise RuntimeError(f"{name} does not listen after {PATIENCE_S:g} s")


def family(pid: int) -> list[int]:
    """Return the process and all that it started."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def resident_mb(pid: int) -> float:
    """Return the memory that the process and all that it started hold, in megabytes (10⁶ bytes)."""
    page = os.sysconf("SC_PAGE_SIZE")
    total = 0
    for member in family(pid):
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{member}/statm").read_text().split()[1]) * page
    return total / 1e6


def load_average() -> float:
    """Return how many processes wanted to run in the last minute."""
    return os.getloadavg()[0]


def is_supported() -> bool:
    return sys.platform == "linux"
