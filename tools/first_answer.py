"""How long it takes from a fresh clone to the first answer, by what the README says: `make first-answer`.

Clones this repository, types `make demo` in the clone, opens the address that it prints, logs in with its
password, starts a server, and runs the first cell of the notebook that opens, in a real kernel.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import requests
import websocket

ROOT = Path(__file__).parent.parent
LONGEST_S = 300.0
USER = "somebody"


def main() -> int:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "jupyterhub-ai-gateway"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        environ = {**os.environ, "PORT": "0", "HOME": folder}
        environ.pop("VIRTUAL_ENV", None)
        demo = subprocess.Popen(
            ["make", "demo"],
            cwd=clone,
            env=environ,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            url, password = told(demo)
            print(f"make demo was ready after {time.monotonic() - began:.0f} s")
            notebook = json.loads((clone / "demo" / "first-call.ipynb").read_text())
            cells = [each for each in notebook["cells"] if each["cell_type"] == "code"]
            answer = first_cell(url, password, "".join(cells[0]["source"]))
        finally:
            os.killpg(demo.pid, signal.SIGINT)
            demo.wait(60)
    took_s = time.monotonic() - began
    print(f"The first answer came after {took_s:.0f} s: {answer.strip()[:200]}")
    return 0 if answer.strip() and took_s < LONGEST_S else 1


def told(demo: subprocess.Popen[str]) -> tuple[str, str]:
    """Read what the README's reader reads: where to go, and the password."""
    url = password = None
    assert demo.stdout is not None
    for line in demo.stdout:
        url = (re.findall(r"Open\s+(http\S+/)", line) or [url])[0]
        password = (re.findall(r"password\s+(\S+)", line) or [password])[0]
        if url and password:
            return url, password
    raise SystemExit("make demo ended without saying where it is")


def first_cell(url: str, password: str, cell: str) -> str:
    """Log in, start a server, run a cell in a kernel of it, and return what it printed."""
    browser = requests.Session()
    browser.get(f"{url}hub/login").raise_for_status()
    xsrf = browser.cookies.get("_xsrf", path="/hub/")
    login = {"username": USER, "password": password, "_xsrf": xsrf}
    browser.post(f"{url}hub/login", data=login, headers={"Referer": f"{url}hub/login"}).raise_for_status()
    server = f"{url}user/{USER}/"
    deadline = time.monotonic() + 120
    while not browser.get(f"{server}api/status").ok:
        if time.monotonic() > deadline:
            raise SystemExit("the server did not start")
        browser.get(f"{url}hub/spawn/{USER}")
        time.sleep(1)
    browser.get(f"{url}hub/token").raise_for_status()
    headers = {
        "X-XSRFToken": str(browser.cookies.get("_xsrf", path="/hub/")),  # another one since the login
        "Referer": f"{url}hub/token",
    }
    asked = {"note": "first answer", "expires_in": 600}
    made = browser.post(f"{url}hub/api/users/{USER}/tokens", json=asked, headers=headers)
    made.raise_for_status()
    token = {"Authorization": f"token {made.json()['token']}"}
    kernel = requests.post(f"{server}api/kernels", json={}, headers=token, timeout=60)
    kernel.raise_for_status()
    address = f"{server}api/kernels/{kernel.json()['id']}/channels".replace("http", "ws", 1)
    channel = websocket.create_connection(address, header=token, timeout=60)
    try:
        return _run(channel, cell)
    finally:
        channel.close()


def _run(channel: websocket.WebSocket, code: str) -> str:
    """Run a cell, and return what it printed."""
    header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "session": "s", "version": "5.3"}
    content = {"code": code, "silent": False}
    message = {
        "header": {**header, "username": USER},
        "parent_header": {},
        "metadata": {},
        "content": content,
        "channel": "shell",
    }
    channel.send(json.dumps(message))
    printed = ""
    while True:
        found = json.loads(channel.recv())
        if found.get("parent_header", {}).get("msg_id") != header["msg_id"]:
            continue
        if found["msg_type"] == "stream":
            printed += found["content"]["text"]
        elif found["msg_type"] == "error":
            raise SystemExit("\n".join(found["content"]["traceback"]))
        elif found["msg_type"] == "execute_reply":
            return printed


if __name__ == "__main__":
    sys.exit(main())
