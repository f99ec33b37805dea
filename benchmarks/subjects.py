"""What is measured: the upstream itself, nginx as a plain proxy, and the gateway in its variants.

Each runs alone on the first core. Behind them, on the other core, stand a second copy of the upstream
and a Hub that knows every token.
"""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .build import compiled
from .hub import SERVICE
from .machine import Cores, family, free_port, running, wait_for_port

DIRECT, NGINX, GATEWAY, STOCK = "upstream", "nginx", "gateway", "stock"

PACED = "paced-20-50"
"""The model of 50 tokens a second: the upstream reads the pace from the name."""
HELD = "paced-200-600"
"""The model whose streams stay open for two minutes."""
ENDPOINTS = ("chat", PACED, HELD)


@dataclass(frozen=True, slots=True)
class Variant:
    """The gateway with some arguments; `trait` must be known to it, else the variant is left out."""

    name: str
    arguments: tuple[str, ...] = ()
    trait: str | None = None
    keeps_ledger: bool = True
    policies: tuple[Mapping[str, object], ...] = ()


POLICIES: tuple[Mapping[str, object], ...] = (
    {"resource": "requests", "limit": 10**12, "window": "minute"},
    {"resource": "tokens", "limit": 10**12, "window": "day"},
    {"resource": "cost_usd", "limit": 10**6, "window": "month"},
    {"resource": "concurrency", "limit": 10**6},
)

VARIANTS = (
    Variant(GATEWAY),
    Variant("no ledger", keeps_ledger=False),
    Variant("policies", policies=POLICIES),
    Variant(STOCK, ("--AIGateway.http_server=tornado", "--AIGateway.http_client=aiohttp"), "http_server"),
)


@dataclass(frozen=True, slots=True)
class Subject:
    """Something that listens, and the first of its processes."""

    name: str
    port: int
    pid: int

    @property
    def processes(self) -> list[int]:
        return family(self.pid)


class LeftOutError(Exception):
    """Why a subject is left out of the comparison."""


@dataclass(frozen=True, slots=True)
class Ground:
    """Where the subjects stand: the cores, a folder for their files, and what is behind them."""

    cores: Cores
    folder: Path
    stack: contextlib.ExitStack
    upstream_port: int
    hub_port: int

    @classmethod
    def lay(cls, cores: Cores, folder: Path, stack: contextlib.ExitStack) -> Ground:
        """Start what stands behind the subjects."""
        _, upstream_port = _printed_port(stack, [str(compiled("upstream"))], cores.rest)
        _, hub_port = _printed_port(stack, [sys.executable, "-m", "benchmarks.hub"], cores.rest)
        return cls(cores, folder, stack, upstream_port, hub_port)

    def direct(self) -> Subject:
        """Start the upstream where it is measured itself."""
        process, port = _printed_port(self.stack, [str(compiled("upstream"))], self.cores.subject)
        return Subject(DIRECT, port, process.pid)

    def nginx(self) -> Subject:
        """Start nginx with one worker; `LeftOutError` when it is not installed."""
        program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if program is None:
            raise LeftOutError("nginx is not installed, so the gateway is compared with the upstream alone")
        port = free_port()
        file = self.folder / "nginx.conf"
        file.write_text(nginx_config(self.folder, port, self.upstream_port))
        command = [program, "-p", str(self.folder), "-c", str(file), "-e", str(self.folder / "nginx.log")]
        return self._serve(NGINX, command, port, None)

    def gateway(self, variant: Variant, endpoints: Sequence[str] = ENDPOINTS, name: str = "") -> Subject:
        """Start the gateway; `LeftOutError` when it does not know the variant's trait."""
        if variant.trait is not None and not _is_trait(variant.trait):
            raise LeftOutError(f"{variant.name}: this gateway has no trait {variant.trait}")
        name, port = name or variant.name, free_port()
        command = self.gateway_command(variant, endpoints, port, name)
        return self._serve(name, command, port, self.gateway_environ())

    def gateway_command(
        self, variant: Variant, endpoints: Sequence[str], port: int, name: str
    ) -> list[str]:
        """Write a configuration with these endpoints, and return what starts the gateway on it."""
        file = self.folder / f"{name}.yaml"
        ledger: object = {"url": f"sqlite:///{self.ledger_file(name)}"} if variant.keeps_ledger else False
        config = {"endpoints": [self._endpoint(endpoint) for endpoint in endpoints], "ledger": ledger}
        file.write_text(json.dumps({**config, "policies": list(variant.policies)}))
        where = ["--config", str(file), "--host", "127.0.0.1", "--port", str(port), "--metrics"]
        return [sys.executable, "-m", "jupyterhub_ai_gateway", *where, *variant.arguments]

    def ledger_file(self, name: str) -> Path:
        """Return where the ledger is of a gateway of this name."""
        return self.folder / f"{name}.sqlite"

    def gateway_environ(self) -> dict[str, str]:
        """Return the environment that a Hub gives its service, and nothing of ours."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        hub = {
            "JUPYTERHUB_API_URL": f"http://127.0.0.1:{self.hub_port}/hub/api",
            "JUPYTERHUB_API_TOKEN": "t-service",
            "JUPYTERHUB_SERVICE_NAME": SERVICE,
            "PYTHONHASHSEED": "0",
        }
        return {**kept, **hub}

    def _endpoint(self, name: str) -> dict[str, object]:
        base = f"http://127.0.0.1:{self.upstream_port}/v1"
        model = {
            "provider": "openai",
            "name": name if name.startswith("paced-") else "gpt-4o-mini",
            "config": {"openai_api_key": "sk-bench", "openai_api_base": base},
        }
        limit = {"renewal_period": "minute", "calls": 100_000_000}
        price = {"input_per_mtok": 0.15, "output_per_mtok": 0.6}
        kind = "llm/v1/chat"
        return {"name": name, "endpoint_type": kind, "model": model, "limit": limit, "price": price}

    def _serve(
        self, name: str, command: Sequence[str], port: int, environ: dict[str, str] | None
    ) -> Subject:
        log = self.folder / f"{name}.out"
        process = self.stack.enter_context(running(command, self.cores.subject, environ=environ, log=log))
        try:
            wait_for_port(port, process, name)
        except RuntimeError as error:
            raise RuntimeError(f"{error}; it wrote:\n{log.read_text()[-2000:]}") from None
        return Subject(name, port, process.pid)


def _printed_port(
    stack: contextlib.ExitStack, command: Sequence[str], core: int
) -> tuple[subprocess.Popen[str], int]:
    process = stack.enter_context(running(command, core))
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def _is_trait(name: str) -> bool:
    command = [sys.executable, "-m", "jupyterhub_ai_gateway", "--help-all"]
    helped = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return f"AIGateway.{name}" in helped.stdout


def nginx_config(folder: Path, port: int, upstream_port: int) -> str:
    """Make the configuration of a plain proxy: one worker, keep-alive, no buffering, no files, no log."""
    me = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    user = f"user {me[0]} {me[1]};" if os.getuid() == 0 else ""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "\n  ".join(f"{kind}_temp_path {folder}/nginx-{kind};" for kind in kinds)
    return f"""
{user}
daemon off;
worker_processes 1;
worker_rlimit_nofile 8192;
pid {folder}/nginx.pid;
events {{ worker_connections 8192; }}
http {{
  {paths}
  access_log off;
  keepalive_requests 1000000000;
  client_body_buffer_size 1m;
  client_max_body_size 64m;
  upstream model {{
    server 127.0.0.1:{upstream_port};
    keepalive 1024;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://model;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""
