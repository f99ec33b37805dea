"""Start the Hub of `jupyterhub_config.example.py` with the best model that is there, until Ctrl-C."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from .models import choose

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / ".demo"
NOTEBOOK = "first-call.ipynb"
PATIENCE_S = 120.0


def main() -> int:
    choice = choose(os.environ)
    folder = prepare(choice.endpoints)
    password = os.environ.get("DEMO_PASSWORD") or secrets.token_urlsafe(6)
    port, *ports = free_ports(4, int(os.environ.get("PORT", "8000")))
    environment = {
        **os.environ,
        "AI_GATEWAY_CONFIG": str(folder / "config.yaml"),
        "AI_GATEWAY_PORT": str(ports[0]),
        "DEMO_FOLDER": str(folder),
        "DEMO_NOTEBOOKS": str(folder / "notebooks"),
        "DEMO_PASSWORD": password,
        "DEMO_URL": f"/lab/tree/{NOTEBOOK}",
    }
    log = folder / "hub.log"
    with log.open("wb") as output:
        hub = subprocess.Popen(
            command(port, ports[1], ports[2]), cwd=folder, env=environment, stdout=output, stderr=output
        )
    try:
        url = f"http://127.0.0.1:{port}/"
        wait(hub, f"{url}services/ai-gateway/health", log)
        print(
            f"\nThe model behind it: {choice.about}\n\n"
            f"  Open     {url}\n"
            f"  Log in   with any name, and the password  {password}\n"
            f"  Then     run the first cell of {NOTEBOOK}\n\n"
            f"The gateway's page is {url}services/ai-gateway/, the log {log}. Ctrl-C stops everything.",
            flush=True,
        )
        return hub.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        stop(hub)


def prepare(endpoints: list[dict[str, object]]) -> Path:
    """Make a fresh folder with the configuration and the notebook."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    (FOLDER / "notebooks").mkdir(parents=True)
    (FOLDER / "config.yaml").write_text(json.dumps({"endpoints": endpoints}, indent=1))
    shutil.copy(Path(__file__).with_name(NOTEBOOK), FOLDER / "notebooks")
    return FOLDER


def command(port: int, hub_port: int, proxy_port: int) -> list[str]:
    """Return what starts the Hub on these ports."""
    proxy = find_proxy()
    return [
        sys.executable,
        "-m",
        "jupyterhub",
        f"--config={ROOT / 'jupyterhub_config.example.py'}",
        f"--JupyterHub.bind_url=http://127.0.0.1:{port}",
        f"--JupyterHub.hub_port={hub_port}",
        f"--ConfigurableHTTPProxy.api_url=http://127.0.0.1:{proxy_port}",
        *([f"--ConfigurableHTTPProxy.command={proxy}"] if proxy else []),
    ]


def find_proxy() -> Path | None:
    """Find the Hub's proxy where the Makefile installs it; None leaves it to PATH."""
    inside = Path(sys.prefix) / "node" / "node_modules" / ".bin" / "configurable-http-proxy"
    return inside if inside.exists() else None


def free_ports(count: int, wanted: int) -> list[int]:
    """Return ports that are free; the first is `wanted` if it is."""
    found: list[socket.socket] = []
    for number in (wanted, *[0] * count):
        try:
            found.append(socket.create_server(("127.0.0.1", number)))
        except OSError:
            continue
    ports = [each.getsockname()[1] for each in found]
    for each in found:
        each.close()
    return ports[:count]


def wait(hub: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Return once the gateway answers through the Hub's proxy."""
    print("Starting a JupyterHub …", flush=True)
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if hub.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    sys.exit(f"The Hub did not start. Its log, {log}, ends with:\n{log.read_text()[-3000:]}")


def stop(hub: subprocess.Popen[bytes]) -> None:
    """Let the Hub end its proxy, its service and its servers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hub.poll() is None:
        hub.send_signal(signal.SIGTERM)
        try:
            hub.wait(30)
        except subprocess.TimeoutExpired:
            hub.kill()


def leave(number: int, frame: object) -> None:
    """End by way of every `finally`."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, leave)
    sys.exit(main())
