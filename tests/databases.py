"""Real servers for tests: PostgreSQL and Redis, each of the test session's own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import psycopg
import pytest


@dataclass
class PostgreSQL:
    """A server that runs as long as the test session; `stop` and `start` are for those who want it away."""

    folder: Path
    bin: Path
    port: int

    def url(self, database: str) -> str:
        return f"postgresql://gateway@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """Make a database and return its URL."""
        name = f"t{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.folder} -c fsync=off"
        self._run("pg_ctl", "-D", "data", "-w", "-o", options, "-l", "log", "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", "data", "-w", "-m", "immediate", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.bin / program), *arguments]
        subprocess.run(command, cwd=self.folder, check=True, stdout=subprocess.DEVNULL, **as_user())


def as_user() -> dict[str, Any]:
    """PostgreSQL refuses to run as root; then it runs as the account that its package made."""
    return {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}


def programs() -> Path | None:
    """Find PostgreSQL's server programs, which Debian keeps out of the PATH."""
    found = shutil.which("initdb")
    folders = [
        *Path("/usr/lib/postgresql").glob("*/bin"),
        *([Path(found).resolve().parent] if found else []),
    ]
    return next((folder for folder in sorted(folders, reverse=True) if (folder / "initdb").exists()), None)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def postgresql() -> Iterator[PostgreSQL]:
    """Run a server; the test is skipped where it is not installed, and fails there in CI."""
    bin_ = programs()
    if bin_ is None:
        if os.environ.get("CI"):
            pytest.fail("PostgreSQL is not installed")
        pytest.skip("PostgreSQL is not installed")
    with tempfile.TemporaryDirectory(prefix="gateway-pg-") as name:
        folder = Path(name)
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        server = PostgreSQL(folder, bin_, free_port())
        server._run("initdb", "-D", "data", "-U", "gateway", "-A", "trust", "-E", "UTF8", "-N")
        server.start()
        try:
            yield server
        finally:
            with contextlib.suppress(subprocess.CalledProcessError):
                server.stop()


@dataclass
class Redis:
    """A Redis server of the test's own."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"


@contextlib.contextmanager
def redis(port: int | None = None) -> Iterator[Redis]:
    """Run a server that keeps nothing on disk; skipped where it is not installed, but not in CI."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("Redis is not installed")
        pytest.skip("Redis is not installed")
    port = port or free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if b"eady to accept connections" in line:
                break
        yield Redis(port, process)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def utc_day(at_ms: int) -> str:
    """Name the day of a time in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, timezone.utc).strftime("%Y-%m-%d")
