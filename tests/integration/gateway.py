"""A gateway in a process of its own, as the external service of a real Hub."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import requests

from .hub import GatewayHub, wait_until


class RunningGateway:
    """The process, and where it listens."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self.log = log

    def is_up(self) -> bool | None:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return True if requests.get(f"{self.url}health", timeout=5).ok else None
        except requests.ConnectionError:
            return None


@contextlib.contextmanager
def running_gateway(
    hub: GatewayHub,
    folder: Path,
    endpoints: Sequence[dict[str, Any]],
    *settings: str,
    config: Mapping[str, Any] | None = None,
) -> Iterator[RunningGateway]:
    """Run the command where the Hub expects its service; it has to end with 0.

    `config` is what else stands in its configuration.
    """
    file, log = folder / "gateway.yaml", folder / "gateway.log"
    file.write_text(json.dumps({"endpoints": list(endpoints), **(config or {})}))
    environment = {
        **{name: os.environ[name] for name in ("PATH", "PYTHONPATH", "HOME", "LANG") if name in os.environ},
        "JUPYTERHUB_API_URL": hub.hub.api_url,
        "JUPYTERHUB_API_TOKEN": hub.service_token,
        "JUPYTERHUB_SERVICE_NAME": hub.service_name,
        "JUPYTERHUB_SERVICE_PREFIX": hub.prefix,
    }
    command = [sys.executable, "-m", "jupyterhub_ai_gateway", "-c", str(file), "-H", "127.0.0.1"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "-p", str(hub.service_port), *settings],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=output,
        )
    running = RunningGateway(process, f"http://127.0.0.1:{hub.service_port}{hub.prefix}", log)
    try:
        wait_until("gateway", running.is_up, 30)
        yield running
    finally:
        process.terminate()
        assert process.wait(30) == 0, log.read_text()
    assert "Traceback" not in log.read_text(), log.read_text()
