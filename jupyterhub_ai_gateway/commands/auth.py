"""`jupyterhub-ai-gateway auth`: get a token of the Hub, print it, say how long it counts, forget it.

The Hub's token page takes no parameters (JupyterHub 5 and 6, read 2026-11), so a person cannot be sent to a
form that is filled in already. But a token that may make tokens can make a small one: that is what is kept.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import re
import sys
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from ..auth.hub import HubClient, HubReply
from ..errors import HubUnavailable
from .token_file import Login, Trouble, forget_login, place_of, read_login, write_login

USUAL_S = 48 * 3600
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
SHOWN_UNITS_S = {"seconds": 1, "minutes": 60, "hours": 3600}
NOTE = "jupyterhub-ai-gateway auth login"
_TIMEOUT_S = 20.0
_WORDS = {
    "authenticate": "login",
    "get_access_token": "token",
    "get-access-token": "token",
    "get_time_until_token_expiration": "expires",
    "get-token-expiration": "expires",
}
"""What FIRST's helpers call the same."""


class Auth:
    """The commands. `ask` reads a secret from a person, `browse` opens a page and says whether it could."""

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        ask: Callable[[str], str] = getpass.getpass,
        browse: Callable[[str], bool] = webbrowser.open,
    ) -> None:
        self._environ = environ
        self._path: Path = place_of(environ)
        self._ask = ask
        self._browse = browse

    def run(self, words: Sequence[str]) -> int:
        """Do what the command line says; the program's exit status."""
        if words and words[0] in _WORDS:
            words = [_WORDS[words[0]], *words[1:]]
        arguments = parser_of_words().parse_args(words)
        try:
            command: Callable[[argparse.Namespace], None] = getattr(self, arguments.command)
            command(arguments)
        except (Trouble, HubUnavailable) as trouble:
            reason = trouble.detail if isinstance(trouble, HubUnavailable) else None
            _say(f"{trouble} ({reason})" if reason else str(trouble))
            return 1
        except KeyboardInterrupt:
            return 130
        return 0

    def login(self, arguments: argparse.Namespace) -> None:
        """Keep a token of the Hub that can do no more than call the gateway."""
        known = None if arguments.force else read_login(self._path)
        if known is not None and not known.is_over and arguments.hub in (None, known.hub):
            _say(
                f"There is a token for {known.user} already{_for(known.left_s)}; --force gets another one."
            )
            return
        hub = _hub_url(arguments.hub or (known.hub if known else None))
        pasted = self._pasted(hub, arguments)
        login = asyncio.run(_log_in(hub, pasted, arguments))
        write_login(self._path, login)
        _say(f"Logged in as {login.user}{_for(login.left_s)}. The base URL is {login.base_url}")

    def token(self, arguments: argparse.Namespace) -> None:
        """Print the token alone."""
        print(self._current().token)

    def expires(self, arguments: argparse.Namespace) -> None:
        """Print how long the token still counts."""
        left_s = self._current().left_s
        if left_s is None:
            raise Trouble("Only the Hub's token page knows when this token expires.")
        print(f"{left_s / SHOWN_UNITS_S[arguments.units]:.2f}")

    def url(self, arguments: argparse.Namespace) -> None:
        """Print the base URL."""
        print(self._current().base_url)

    def logout(self, arguments: argparse.Namespace) -> None:
        """Revoke the token where it may do that, and forget it."""
        try:
            login = read_login(self._path)
        except Trouble:
            login = None
        is_revoked = login is not None and asyncio.run(_revoke(login))
        if not forget_login(self._path):
            _say("There was no token.")
        elif is_revoked or login is None:
            _say("The token is revoked and forgotten." if is_revoked else "The token is forgotten.")
        else:
            _say(f"The token is forgotten. To end it at once, revoke {NOTE!r} at {login.hub}/token")

    def _current(self) -> Login:
        login = read_login(self._path)
        if login is None:
            return self._of_the_server()
        if login.is_over:
            raise Trouble(f"The token for {login.user} has expired: jupyterhub-ai-gateway auth login")
        return login

    def _of_the_server(self) -> Login:
        """Return what a notebook server has in its environment."""
        token, base_url = (
            self._environ.get("JUPYTERHUB_API_TOKEN"),
            self._environ.get("OPENAI_BASE_URL", ""),
        )
        match = re.fullmatch(r"(.+)/services/([^/]+)/v1/?", base_url)
        if not token:
            raise Trouble("There is no token: jupyterhub-ai-gateway auth login --hub https://HUB")
        hub, service = (f"{match[1]}/hub", match[2]) if match else ("", "ai-gateway")
        return Login(hub, service, self._environ.get("JUPYTERHUB_USER", ""), token)

    def _pasted(self, hub: str, arguments: argparse.Namespace) -> str:
        if arguments.stdin:
            token = sys.stdin.readline().strip()
        else:
            page = f"{hub}/token"
            if arguments.no_browser or not self._browse(page):
                _say(f"Open {page}")
            scopes = " ".join(_wanted(arguments))
            _say(
                "Request a token there, and paste it here. Leave Permissions empty: the token is then used"
            )
            _say("once, to make a smaller one, and revoked. Or limit it yourself, with these Permissions:")
            _say(f"    {scopes}")
            token = self._ask("Token: ").strip()
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise Trouble("That is not a token of a Hub.")
        return token


async def _log_in(hub: str, pasted: str, arguments: argparse.Namespace) -> Login:
    client = _client(hub)
    try:
        reply = await client.ask("GET", "user", _as(pasted))
        model = reply.document or {}
        if reply.status in (401, 403):
            raise Trouble(f"The Hub at {hub} does not know this token.")
        if reply.status != 200 or model.get("kind") != "user":
            raise Trouble(f"{hub} does not answer as a Hub does (status {reply.status}).")
        name, scopes = str(model["name"]), set(model.get("scopes") or ())
        if scopes & {"tokens", f"tokens!user={name}", "tokens!user"}:
            return await _smaller(client, hub, pasted, model, arguments)
        _require(scopes, arguments)
        return Login(hub, arguments.service, name, pasted, model.get("token_id"))
    finally:
        await client.close()


async def _smaller(
    client: HubClient, hub: str, pasted: str, model: Mapping[str, Any], arguments: argparse.Namespace
) -> Login:
    """Make a token that can do no more than it has to, and revoke the one that could do more."""
    name = str(model["name"])
    path = f"users/{quote(name, safe='')}/tokens"
    body = {"note": NOTE, "expires_in": arguments.expires_in, "scopes": _wanted(arguments)}
    headers = {**_as(pasted), "Content-Type": "application/json"}
    made = await client.ask("POST", path, headers, json.dumps(body).encode())
    document = made.document or {}
    if made.status not in (200, 201) or not isinstance(document.get("token"), str):
        raise Trouble(f"The Hub made no token: {_reason(made)}")
    token_id = model.get("token_id")
    if isinstance(token_id, str):
        gone = await client.ask("DELETE", f"{path}/{token_id}", _as(pasted))
        if gone.status != 204:
            _say(f"The token that was pasted still counts: revoke it at {hub}/token")
    return Login(
        hub,
        arguments.service,
        name,
        document["token"],
        document.get("id"),
        _time(document.get("expires_at")),
    )


async def _revoke(login: Login) -> bool:
    client = _client(login.hub)
    try:
        path = f"users/{quote(login.user, safe='')}/tokens/{login.token_id}"
        return (await client.ask("DELETE", path, _as(login.token))).status == 204
    except HubUnavailable:
        return False
    finally:
        await client.close()


def _client(hub: str) -> HubClient:
    return HubClient(f"{hub}/api", timeout_s=_TIMEOUT_S, connections=2, ssl_context=None)


def _as(token: str) -> dict[str, str]:
    return {"Authorization": f"token {token}"}


def _wanted(arguments: argparse.Namespace) -> list[str]:
    names = arguments.scope or ["full-access"]
    service = arguments.service
    own = [each if each.startswith("custom:") else f"custom:{service}:{each}" for each in names]
    return [f"access:services!service={service}", *own]


def _require(scopes: set[str], arguments: argparse.Namespace) -> None:
    """Raise `Trouble` for a limited token that cannot reach the gateway."""
    access, *_ = _wanted(arguments)
    if not scopes & {access, "access:services"}:
        raise Trouble(
            f"This token cannot reach the gateway: it lacks {access}. Leave Permissions empty on the Hub's "
            f"token page, or write: {' '.join(_wanted(arguments))}"
        )


def _reason(reply: HubReply) -> str:
    message = (reply.document or {}).get("message")
    return message if isinstance(message, str) and message else f"status {reply.status}"


def _time(text: object) -> float | None:
    if not isinstance(text, str):
        return None
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None


def _hub_url(text: str | None) -> str:
    if text is None:
        raise Trouble("Which Hub? Say it once: jupyterhub-ai-gateway auth login --hub https://HUB")
    parts = urlsplit(text if "://" in text else f"https://{text}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Trouble(f"{text!r} is not the address of a Hub, such as https://hub.example.org")
    if parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        _say("Careful: over http the token can be read on its way.")
    path = parts.path.rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path if path.endswith('/hub') else f'{path}/hub'}"


def _for(left_s: float | None) -> str:
    return "" if left_s is None else f", for {left_s / 3600:.1f} hours"


def _seconds(text: str) -> int:
    match = re.fullmatch(r"([1-9][0-9]{0,8})([smhd]?)", text)
    if match is None:
        raise argparse.ArgumentTypeError("must be such as 48h, 7d or 3600")
    return int(match[1]) * UNITS_S[match[2] or "s"]


def parser_of_words() -> argparse.ArgumentParser:
    """Return what reads the words after the command."""
    parser = argparse.ArgumentParser(
        prog="jupyterhub-ai-gateway auth",
        description="A token of the Hub, for those who are outside of it.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    login = commands.add_parser("login", help="get a token and keep it")
    login.add_argument("--hub", help="the Hub, such as https://hub.example.org")
    login.add_argument("--service", default="ai-gateway", help="the gateway's name on the Hub")
    login.add_argument(
        "--expires-in",
        type=_seconds,
        default=USUAL_S,
        metavar="TIME",
        help="such as 48h (the default) or 7d",
    )
    login.add_argument("--scope", action="append", help="such as chat:create; full-access by default")
    login.add_argument("--force", action="store_true", help="even if there is a token that counts")
    login.add_argument("--no-browser", action="store_true", help="print the page's address instead")
    login.add_argument("--stdin", action="store_true", help="read the token from the standard input")
    commands.add_parser("token", help="print the token")
    expires = commands.add_parser("expires", help="print how long it still counts")
    expires.add_argument("--units", choices=SHOWN_UNITS_S, default="seconds")
    commands.add_parser("url", help="print the base URL for OpenAI's clients")
    commands.add_parser("logout", help="revoke the token where possible, and forget it")
    return parser


def _say(text: str) -> None:
    print(text, file=sys.stderr)
