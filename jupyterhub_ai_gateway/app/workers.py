"""Several processes on one port: a parent that starts, replaces and stops them, and serves nothing itself.

Each worker listens by itself (SO_REUSEPORT), and the system spreads connections over them. SIGHUP, SIGTERM
and SIGINT go to all. A worker that dies is replaced; one that cannot start ends all.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import replace
from pathlib import Path

from ..config import GatewayConfig
from ..errors import ConfigFault
from .gateway_app import run_service
from .options import Options
from .service import Service, bind_to

log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_ENDS = (signal.SIGTERM, signal.SIGINT)
_WAIT_S = 2.0
_PAUSE_S = 1.0
"""Before a worker is replaced, so that one that dies at once does not keep the machine busy."""


def run_workers(options: Options, number: int, *, exit_with_parent: bool) -> None:
    """Serve with `number` processes, until a signal ends them.

    `ConfigFault` where they would share nothing, or cannot listen. Exits with 1 when one cannot start.
    """
    if not hasattr(os, "fork") or not hasattr(signal, "sigtimedwait"):
        raise ConfigFault("workers", "must be 1 on this system")
    require_shared(options.load())
    sockets = bind_to(options.host, options.port)  # says whether the port is free, and which one 0 means
    port = sockets[0].getsockname()[1]
    for each in sockets:
        each.close()
    folder = Path(tempfile.mkdtemp(prefix="ai-gateway-"))
    crew = _Crew(replace(options, port=port, reuse_port=True), number, folder)
    try:
        crew.run(exit_with_parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if crew.has_failed:
        sys.exit(1)


def require_shared(config: GatewayConfig) -> None:
    """Refuse a configuration with which several processes would count apart, or disturb each other."""
    if config.store.url is None:
        raise ConfigFault(
            "store.url",
            "is needed by several workers: a Redis, in which all of them count limits and slots together",
        )
    if config.ledger.url is not None and config.ledger.url.startswith("sqlite"):
        raise ConfigFault(
            "ledger.url", "must be a PostgreSQL for several workers, or ledger: false; SQLite is for one"
        )


class _Crew:
    """The workers by process id, each with its number. `has_failed` is true when one could not start."""

    def __init__(self, options: Options, number: int, folder: Path) -> None:
        self._options = options
        self._sockets = [folder / f"{index}.sock" for index in range(number)]
        self._workers: dict[int, int] = {}
        self._is_ending = False
        self.has_failed = False

    def run(self, exit_with_parent: bool) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        parent = os.getppid()
        for index in range(len(self._sockets)):
            self._start(index)
        while self._workers:
            seen = signal.sigtimedwait(_SIGNALS, _WAIT_S)
            if seen is not None and seen.si_signo == signal.SIGHUP:
                self._tell(signal.SIGHUP)
            elif seen is not None and seen.si_signo in _ENDS:
                self._end()
            if exit_with_parent and os.getppid() != parent:
                self._end()
            self._reap()

    def _start(self, index: int) -> None:
        self._sockets[index].unlink(missing_ok=True)
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._serve(index)
        self._workers[pid] = index

    def _serve(self, index: int) -> None:
        """Be a worker; never returns."""
        code = 1
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            others = tuple(path for path in self._sockets if path is not self._sockets[index])
            options = replace(self._options, own_socket=self._sockets[index], peer_sockets=others)
            run_service(Service(options), exit_with_parent=True)
            code = 0
        except ConfigFault as fault:
            print(f"worker {index + 1}: {fault}", file=sys.stderr)  # noqa: T201 - the operator's terminal
        except Exception:  # noqa: BLE001 - the end of this process: nothing of the parent's may run on
            traceback.print_exc()
        finally:
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _tell(self, number: signal.Signals) -> None:
        for pid in self._workers:
            os.kill(pid, number)

    def _end(self) -> None:
        self._is_ending = True
        self._tell(signal.SIGTERM)

    def _reap(self) -> None:
        while self._workers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            index = self._workers.pop(pid, None)
            if index is not None and not self._is_ending:
                self._replace(index, os.waitstatus_to_exitcode(status))

    def _replace(self, index: int, code: int) -> None:
        if not self._sockets[index].exists():
            self.has_failed = True
            self._end()
            return
        log.warning("Worker %d ended by itself (%d) and is replaced", index + 1, code)
        time.sleep(_PAUSE_S)
        self._start(index)
