"""JupyterHub's browser login on our resolver, right with several worker processes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

from jupyterhub.services.auth import HubOAuth
from typing_extensions import override

from ..errors import Forbidden, HubUnavailable
from .headers import has_credentials, token_from_headers
from .hub import HubReply
from .resolver import TokenResolver

log = logging.getLogger(__name__)


def cookie_secret_from(api_token: str) -> bytes:
    """Derive the key that signs cookies from the service's own token.

    Every worker process gets the same one without a file, and it changes when the token does.
    """
    return hmac.digest(api_token.encode(), b"jupyterhub-ai-gateway cookies", "sha256")


class GatewayHubOAuth(HubOAuth):  # type: ignore[misc]  # the Hub's library has no types
    """JupyterHub's browser login on our resolver, with nothing kept in this process between two requests.

    The OAuth state carries the page to return to, signed; the PKCE verifier is derived from a nonce in it
    and `secret`, which worker processes share. So the callback may reach another worker, or this one after
    a restart. Every method that would block the loop refuses instead.
    """

    def __init__(
        self,
        resolver: TokenResolver,
        secret: bytes,
        *,
        now: Callable[[], float] = time.time,
        **traits: Any,
    ) -> None:
        super().__init__(access_scopes=set(resolver.rules.access_scopes), **traits)
        self.resolver = resolver
        self._secret = secret
        self._now = now

    @override
    def user_for_token(
        self, token: str, use_cache: bool = True, session_id: str = "", *, sync: bool = True
    ) -> Awaitable[dict[str, Any] | None]:
        """Return the awaitable of the resolver's model; the session makes no difference to a token."""
        _refuse_sync(sync)
        return self.resolver.model(token)

    @override
    def get_user(self, handler: Any, *, sync: bool = True) -> Awaitable[dict[str, Any] | None]:
        """Identify a handler's request by its token header, or without any by its cookie."""
        _refuse_sync(sync)
        return self._identify(handler)

    async def _identify(self, handler: Any) -> dict[str, Any] | None:
        """A bad token never falls through to the cookie, as it would in the library."""
        if not hasattr(handler, "_cached_hub_user"):
            handler._cached_hub_user = None
            headers = handler.request.headers
            token = token_from_headers(headers)
            if token is not None:
                handler._cached_hub_user = await self.resolver.model(token)
                handler._token_authenticated = handler._cached_hub_user is not None
            elif not has_credentials(headers):
                handler._cached_hub_user = await self._get_user_cookie(handler)
        model: dict[str, Any] | None = handler._cached_hub_user
        return model

    @override
    def get_token(self, handler: Any, in_cookie: bool = True) -> str | None:
        """Return the token of the request's headers, or of its cookie; the URL is not looked at."""
        token = token_from_headers(handler.request.headers)
        if token is None and in_cookie:
            cookie: str | None = self._get_token_cookie(handler)
            return cookie
        return token

    @override
    def token_for_code(
        self, code: str, *, code_verifier: str | None = None, sync: bool = True
    ) -> Awaitable[str]:
        """Return the awaitable of the browser's token, asked for over the resolver's connections."""
        _refuse_sync(sync)
        return self._exchange(code, code_verifier)

    async def _exchange(self, code: str, code_verifier: str | None) -> str:
        form = {
            "client_id": self.oauth_client_id,
            "client_secret": self.api_token,
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.oauth_redirect_uri,
        }
        if code_verifier:
            form["code_verifier"] = code_verifier
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        reply = await self.resolver.client.ask("POST", "oauth2/token", headers, urlencode(form).encode())
        token = (reply.document or {}).get("access_token")
        if reply.status == 200 and isinstance(token, str):
            return token
        raise _login_fault(reply)

    @override
    def generate_pkce_code_challenge(self, method: str = "S256") -> tuple[str, str, str]:
        """Return verifier, challenge and method; the verifier is `NONCE.MAC`, so its nonce remakes it."""
        if method != "S256":
            raise ValueError(f"Only method='S256' is supported, not {method!r}")
        verifier = self._verifier(secrets.token_urlsafe(32))
        return verifier, _base64(hashlib.sha256(verifier.encode()).digest()), method

    @override
    def generate_state(self, next_url: str | None = None, **extra_state: Any) -> str:
        """Return the signed state. An address that is too long for a cookie is left out."""
        verifier = extra_state.get("code_verifier")
        state = {
            "nonce": verifier.partition(".")[0] if verifier else secrets.token_urlsafe(16),
            "pkce": verifier is not None,
            "time": int(self._now()),
            "cookie": extra_state.get("cookie_name"),
            "next": next_url if next_url is not None and len(next_url) <= 1024 else None,
        }
        payload = _base64(json.dumps(state, separators=(",", ":")).encode())
        return f"{payload}.{self._mac('state', payload)}"

    @override
    def clear_oauth_state(self, state_id: str) -> None:
        """Nothing to clear: the state is in the browser."""

    @override
    def _decode_state(self, state_id: str, /) -> dict[str, Any]:
        """Return what `generate_state` put in; nothing when it is not ours or too old."""
        payload, _, mac = state_id.partition(".")
        if not hmac.compare_digest(mac.encode(), self._mac("state", payload).encode()):
            return {}
        state = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        if not 0 <= self._now() - state["time"] <= self.oauth_state_max_age:
            return {}
        found = {"next_url": self._local(state["next"]), "cookie_name": state["cookie"]}
        if state["pkce"]:
            found["code_verifier"] = self._verifier(state["nonce"])
        return found

    def _local(self, url: str | None) -> str | None:
        """Pass only addresses below our own prefix: a login never sends the browser elsewhere."""
        if url is None or not url.startswith(self.base_url) or url[1:2] in ("/", "\\"):
            return None
        return url

    def _verifier(self, nonce: str) -> str:
        return f"{nonce}.{self._mac('pkce', nonce)}"

    def _mac(self, purpose: str, text: str) -> str:
        return _base64(hmac.digest(self._secret, f"{purpose}:{text}".encode(), "sha256"))


def _refuse_sync(sync: bool) -> None:
    if sync:
        raise RuntimeError("this would block the event loop; pass sync=False")


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _login_fault(reply: HubReply) -> Forbidden | HubUnavailable:
    """Tell a login that came too late from a service that the Hub does not accept."""
    error = str((reply.document or {}).get("error", ""))
    if error == "invalid_grant":
        return Forbidden("This login is not valid any more. Open the page again.", slug="login_failed")
    known = error if re.fullmatch(r"[a-z_]{1,40}", error) else "no OAuth error"
    log.error(
        "Browser login fails: the Hub answered %d (%s). "
        "Is this service's JUPYTERHUB_API_TOKEN the one that the Hub was started with?",
        reply.status,
        known,
    )
    text = "The JupyterHub did not complete the login."
    return HubUnavailable(text, slug="login_failed", retry_after_s=30.0)
