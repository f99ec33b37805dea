"""Start a real JupyterHub in a folder of its own, and do with it what people and their browsers do."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import psutil
import requests
import websocket

PASSWORD = "a password for everybody"
HERE = Path(__file__).parent
VENV = Path(sys.prefix)

BASE_CONFIG = """
import os, sys
c = get_config()  # noqa
folder = os.getcwd()
PORT = {port}
c.JupyterHub.bind_url = "http://127.0.0.1:{port}/"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{hub_port}"
c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = {password!r}
c.Authenticator.allow_all = True
c.Authenticator.allowed_users = {{"alice", "bob", "admin"}}
c.Authenticator.admin_users = {{"admin"}}
c.JupyterHub.load_groups = {{"ai": {{"users": ["alice"]}}}}
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = os.path.join(folder, "home", "{{username}}")
c.Spawner.cmd = [os.path.join(os.path.dirname(sys.executable), "jupyterhub-singleuser")]
c.Spawner.args = ["--allow-root"]
c.Spawner.poll_interval = 5
c.JupyterHub.allow_named_servers = True
c.JupyterHub.concurrent_spawn_limit = 0
c.JupyterHub.services = [{{"name": "test-admin", "api_token": {admin_token!r}}}]
c.JupyterHub.load_roles = [
    {{
        "name": "test-admin",
        "scopes": ["admin:users", "admin:servers", "admin:groups", "tokens", "read:hub", "proxy"],
        "services": ["test-admin"],
    }}
]
"""

MINI_PROXY_CONFIG = """
sys.path.insert(0, {here!r})
from mini_proxy import MiniProxy
c.JupyterHub.proxy_class = MiniProxy
"""

CHP_CONFIG = """
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{api_port}"
c.ConfigurableHTTPProxy.command = [{command!r}]
"""

T = TypeVar("T")


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def find_chp() -> Path | None:
    """Find configurable-http-proxy: installed beside the virtual environment's programs, else on PATH."""
    inside = VENV / "node" / "node_modules" / ".bin" / "configurable-http-proxy"
    if inside.exists():
        return inside
    found = shutil.which("configurable-http-proxy")
    return Path(found) if found else None


def wait_until(what: str, found: Callable[[], T | None], timeout_s: float = 60.0) -> T:
    """Ask again until there is an answer; fail with `what` when the time is over."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = found()
        if answer is not None:
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {what} within {timeout_s:g} s")
        time.sleep(0.05)


class _Ok(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


@contextmanager
def answering(ports: Sequence[int]) -> Iterator[None]:
    """Answer on the ports where nobody does yet: a starting Hub waits 30 s for each of its services."""
    with ExitStack() as stack:
        for port in ports:
            try:
                server = ThreadingHTTPServer(("127.0.0.1", port), _Ok)
            except OSError:
                continue
            stack.callback(server.server_close)
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
            stack.callback(server.shutdown)
        yield


class RunningHub:
    """A Hub in a process of its own, with users alice (group ai), bob (no group) and admin.

    `url` ends in a slash. The folder keeps the Hub's database, so tokens outlive `restart` and `kill`.
    """

    def __init__(
        self, folder: Path, port: int, hub_port: int, admin_token: str, argv: Sequence[str]
    ) -> None:
        self.folder = folder
        self.port = port
        self.hub_port = hub_port
        self.url = f"http://127.0.0.1:{port}/"
        self.api_url = f"http://127.0.0.1:{hub_port}/hub/api"
        self.admin_token = admin_token
        self.environment: dict[str, str] = {}
        self.external_ports: tuple[int, ...] = ()
        self._argv = list(argv)
        self._process: subprocess.Popen[bytes] | None = None
        self._children: list[psutil.Process] = []

    # Its life

    def start(self) -> None:
        """Start the process and return once it serves."""
        start_at = self._log_path.stat().st_size if self._log_path.exists() else 0
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv,
                cwd=self.folder,
                env=self._environ(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            with answering(self.external_ports):
                wait_until("running JupyterHub", lambda: self._is_up(start_at))
        except Exception:
            self.kill()
            raise

    def _is_up(self, start_at: int) -> bool | None:
        assert self._process is not None
        text = self._log_path.read_bytes()[start_at:].decode(errors="replace")
        if self._process.poll() is not None:
            raise RuntimeError(f"JupyterHub exited with {self._process.returncode}:\n{text[-8000:]}")
        # Not before this line: a signal that comes earlier leaves its children behind
        if "JupyterHub is now running" not in text:
            return None
        try:
            return True if requests.get(f"{self.url}hub/api", timeout=5).ok else None
        except requests.ConnectionError:
            return None

    def stop(self) -> None:
        """End it politely, then whatever it left behind."""
        if self._process is None:
            return
        self._note_children()
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        self._kill_children()

    def kill(self) -> None:
        """End it as a power cut would, its children too."""
        if self._process is None:
            return
        self._note_children()
        self._process.kill()
        self._process.wait()
        self._process = None
        self._kill_children()

    def restart(self) -> None:
        self.stop()
        self.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop the Hub's process from running: it accepts connections and never answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def children(self) -> list[psutil.Process]:
        """Return the processes that the Hub started: services, servers, a proxy."""
        self._note_children()
        return [child for child in self._children if child.is_running()]

    def _note_children(self) -> None:
        if self._process is not None and self._process.poll() is None:
            found = psutil.Process(self._process.pid).children(recursive=True)
            self._children += [child for child in found if child not in self._children]

    def _kill_children(self) -> None:
        for child in self._children:
            try:
                child.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(self._children, timeout=10)
        self._children = []

    def _environ(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TMPDIR") if name in os.environ}
        programs = [str(Path(self._argv[0]).parent), str(VENV / "bin"), os.environ["PATH"]]
        return {**kept, "PATH": os.pathsep.join(programs), "HOME": str(self.folder), **self.environment}

    @property
    def _log_path(self) -> Path:
        return self.folder / "hub.log"

    def log_text(self) -> str:
        """Return what the Hub, and what it started, wrote so far."""
        return self._log_path.read_text(errors="replace")

    # Its API, with all rights

    def api(self, method: str, path: str, body: Any = None) -> requests.Response:
        """Ask the Hub's API as its administrator; HTTPError when it refuses."""
        response = requests.request(
            method,
            f"{self.api_url}/{path}",
            json=body,
            headers={"Authorization": f"token {self.admin_token}"},
            timeout=60,
        )
        if not response.ok:
            raise requests.HTTPError(f"{method} {path}: {response.status_code} {response.text}")
        return response

    def mint(
        self,
        user: str,
        scopes: Sequence[str] | None = None,
        note: str | None = None,
        expires_in: int | None = None,
    ) -> dict[str, Any]:
        """Make a token as on the token page; the model has `token` and `id`. No scopes: all of them."""
        body = {"note": note or "a test", "scopes": scopes, "expires_in": expires_in}
        wanted = {name: value for name, value in body.items() if value is not None}
        model: dict[str, Any] = self.api("POST", f"users/{user}/tokens", wanted).json()
        return model

    def token(
        self,
        user: str,
        scopes: Sequence[str] | None = None,
        note: str | None = None,
        expires_in: int | None = None,
    ) -> str:
        """Make a token and return its secret."""
        secret: str = self.mint(user, scopes, note, expires_in)["token"]
        return secret

    def revoke(self, user: str, token_id: str) -> None:
        self.api("DELETE", f"users/{user}/tokens/{token_id}")

    def spawn(self, user: str, server_name: str = "") -> None:
        """Start a notebook server and return once it is ready."""
        path = f"users/{user}/servers/{server_name}" if server_name else f"users/{user}/server"
        self.api("POST", path)
        wait_until(f"server {user}/{server_name}", lambda: self._server_is_ready(user, server_name))

    def _server_is_ready(self, user: str, server_name: str) -> bool | None:
        servers = self.api("GET", f"users/{user}").json()["servers"]
        return True if servers.get(server_name, {}).get("ready") else None

    def stop_server(self, user: str, server_name: str = "") -> None:
        """Stop a notebook server and return once it is gone."""
        path = f"users/{user}/servers/{server_name}" if server_name else f"users/{user}/server"
        self.api("DELETE", path)
        wait_until("end of the server", lambda: self._server_is_gone(user, server_name))

    def _server_is_gone(self, user: str, server_name: str) -> bool | None:
        server = self.api("GET", f"users/{user}").json()["servers"].get(server_name)
        return True if server is None or server.get("stopped") else None

    def server_environment(self, user: str, server_name: str = "") -> Mapping[str, str]:
        """Return the environment that a running notebook server was started with."""
        for child in self.children():
            try:
                environment = child.environ()
            except psutil.Error:
                continue
            if (environment.get("JUPYTERHUB_USER"), environment.get("JUPYTERHUB_SERVER_NAME", "")) == (
                user,
                server_name,
            ):
                return environment
        raise LookupError(f"no running server {user}/{server_name}")

    # What people do

    def login(self, user: str) -> requests.Session:
        """Log in as a browser does. Send Sec-Fetch-Mode: navigate (the default here) on page loads only."""
        browser = requests.Session()
        browser.headers.update(
            {"Sec-Fetch-Mode": "navigate", "Accept": "text/html", "User-Agent": "browser"}
        )
        browser.get(f"{self.url}hub/login", timeout=30)
        form = {"username": user, "password": PASSWORD, "_xsrf": self.xsrf_cookie(browser, "/hub/")}
        answer = browser.post(f"{self.url}hub/login", data=form, allow_redirects=False, timeout=30)
        if answer.status_code != 302:
            raise RuntimeError(f"login of {user}: {answer.status_code} {answer.text}")
        return browser

    @staticmethod
    def xsrf_cookie(browser: requests.Session, path: str) -> str:
        """Return the XSRF token of the pages below `path`; each of the Hub's parts has its own."""
        values = [
            cookie.value for cookie in browser.cookies if (cookie.name, cookie.path) == ("_xsrf", path)
        ]
        assert values and values[0] is not None, f"no XSRF cookie for {path}"
        return values[0]

    def run_in_kernel(self, user: str, code: str, server_name: str = "", timeout_s: float = 120.0) -> str:
        """Run code in a fresh kernel of a running server, as a notebook does; return all that it prints.

        An exception in the code raises RuntimeError with its traceback.
        """
        token = self.token(user)
        headers = {"Authorization": f"token {token}"}
        base = f"{self.url}user/{user}/" + (f"{quote(server_name)}/" if server_name else "")
        kernel = requests.post(f"{base}api/kernels", json={"name": "python3"}, headers=headers, timeout=60)
        kernel.raise_for_status()
        address = f"{base}api/kernels/{kernel.json()['id']}"
        channel = websocket.create_connection(
            address.replace("http://", "ws://") + "/channels",
            header=[f"Authorization: token {token}"],
            timeout=timeout_s,
        )
        try:
            return _execute(channel, code)
        finally:
            channel.close()
            requests.delete(address, headers=headers, timeout=60)


def _execute(channel: websocket.WebSocket, code: str) -> str:
    message_id = uuid.uuid4().hex
    header = {
        "msg_id": message_id,
        "msg_type": "execute_request",
        "username": "",
        "session": uuid.uuid4().hex,
        "version": "5.3",
    }
    content = {"code": code, "silent": False, "store_history": False, "stop_on_error": True}
    request = {
        "header": header,
        "parent_header": {},
        "metadata": {},
        "content": content,
        "channel": "shell",
    }
    channel.send(json.dumps(request))
    printed: list[str] = []
    while True:
        message = json.loads(channel.recv())
        if message["parent_header"].get("msg_id") != message_id:
            continue
        kind, content = message["header"]["msg_type"], message["content"]
        if kind == "stream":
            printed.append(content["text"])
        elif kind == "error":
            raise RuntimeError(re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(content["traceback"])))
        elif kind == "status" and content["execution_state"] == "idle":
            return "".join(printed)


def start_hub(
    folder: Path,
    *,
    config_text: str = "",
    proxy: str = "mini",
    python: str = sys.executable,
    environment: Mapping[str, str] | None = None,
    external_ports: Sequence[int] = (),
) -> RunningHub:
    """Write a configuration into `folder` and start the Hub with it. `stop` it afterwards.

    `config_text` is appended: it knows `c`, `PORT` and `folder`, and adds to `c.JupyterHub.services` and
    `c.JupyterHub.load_roles`, which are lists already. `proxy` is "mini" or "chp". `python` may be another
    environment's, with another JupyterHub in it. `environment` is added to the Hub's own.
    `external_ports` are those of external services that are not up yet.
    """
    port, hub_port, api_port = free_ports(3)
    admin_token = secrets.token_hex(16)
    text = BASE_CONFIG.format(port=port, hub_port=hub_port, password=PASSWORD, admin_token=admin_token)
    text += _proxy_config(proxy, api_port) + config_text
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "jupyterhub_config.py").write_text(text)
    argv = [python, "-m", "jupyterhub", "-f", "jupyterhub_config.py"]
    hub = RunningHub(folder, port, hub_port, admin_token, argv)
    hub.environment.update(environment or {})
    hub.external_ports = tuple(external_ports)
    hub.start()
    return hub


def _proxy_config(proxy: str, api_port: int) -> str:
    if proxy == "mini":
        return MINI_PROXY_CONFIG.format(here=str(HERE))
    command = find_chp()
    if command is None:
        raise FileNotFoundError("configurable-http-proxy is not installed")
    return CHP_CONFIG.format(api_port=api_port, command=str(command))


SERVICE_TOKEN = "the-token-of-the-service-ai-gateway"
OTHER_SERVICE_TOKEN = "the-token-of-another-service"

GATEWAY_CONFIG = """
NAME = "ai-gateway"
ACCESS = "access:services!service=" + NAME
FULL = "custom:" + NAME + ":full-access"
OPERATIONS = ["models:list", "chat:create", "completions:create", "embeddings:create", "images:create",
              "audio:create", "moderations:create", "rerank:create", "batches:create", "docs:read"]
OPERATIONS = ["custom:" + NAME + ":" + operation for operation in OPERATIONS]
CHAT = "custom:" + NAME + ":chat:create"
c.JupyterHub.custom_scopes = {{
    FULL: {{"description": "Use every operation of the AI gateway", "subscopes": OPERATIONS}},
    "custom:" + NAME + ":premium": {{"description": "Use the expensive models"}},
    "custom:" + NAME + ":admin": {{"description": "Look after the gateway"}},
    **{{scope: {{"description": scope}} for scope in OPERATIONS}},
}}
c.JupyterHub.load_roles += [
    {{"name": "ai-gateway-user", "scopes": [ACCESS, FULL], "groups": ["ai"]}},
    {{"name": "ai-gateway-bot", "scopes": [ACCESS, CHAT], "services": ["bot"]}},
]
c.Spawner.server_token_scopes = ["users:activity!user", "access:servers!server", ACCESS, FULL]
c.JupyterHub.services += [
    {{
        "name": NAME,
        "url": "http://127.0.0.1:{service_port}",
        "api_token": {service_token!r},
        "oauth_no_confirm": True,
        "oauth_client_allowed_scopes": OPERATIONS,
    }},
    {{"name": "bot", "api_token": {other_token!r}}},
]
"""


class GatewayHub:
    """A Hub that knows an external service ai-gateway, whose process is the test's own.

    What listens on `service_port` of 127.0.0.1 is what the Hub's proxy shows at `service_url`.
    """

    service_name = "ai-gateway"
    service_token = SERVICE_TOKEN
    bot_token = OTHER_SERVICE_TOKEN

    def __init__(self, hub: RunningHub, service_port: int) -> None:
        self.hub = hub
        self.service_port = service_port
        self.prefix = "/services/ai-gateway/"
        self.service_url = f"{hub.url}services/ai-gateway/"


def start_gateway_hub(folder: Path, *, proxy: str = "mini", more: str = "") -> GatewayHub:
    """Start a Hub that waits for the test's own service; `.hub.stop()` it afterwards.

    `more` is added to its configuration.
    """
    (service_port,) = free_ports(1)
    text = GATEWAY_CONFIG.format(
        service_port=service_port, service_token=SERVICE_TOKEN, other_token=OTHER_SERVICE_TOKEN
    )
    hub = start_hub(folder, config_text=text + more, proxy=proxy, external_ports=[service_port])
    return GatewayHub(hub, service_port)
