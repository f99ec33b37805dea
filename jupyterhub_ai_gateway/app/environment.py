"""What the Hub, or an operator in its place, says by environment variables. Nothing else reads them.

Source: JupyterHub's documentation of services, and `jupyterhub/services/service.py` (read 2026-11).
"""

from __future__ import annotations

import os
import secrets
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from jupyterhub.utils import make_ssl_context

from ..auth import access_scopes_from_env
from ..errors import ConfigFault
from .options import HubOptions

SERVICE_NAME = "ai-gateway"
_SSL = ("JUPYTERHUB_SSL_KEYFILE", "JUPYTERHUB_SSL_CERTFILE", "JUPYTERHUB_SSL_CLIENT_CA")


def environ() -> Mapping[str, str]:
    """Return the process's environment."""
    return os.environ


def mlflow_config_file(env: Mapping[str, str]) -> str:
    """Return what MLflow's own variables say of the configuration; "" for nothing."""
    ours = env.get("JUPYTERHUB_AI_GATEWAY_CONFIG", "")
    return ours or env.get("MLFLOW_DEPLOYMENTS_CONFIG", "") or env.get("MLFLOW_GATEWAY_CONFIG", "")


def listen_address(env: Mapping[str, str]) -> tuple[str, int]:
    """Return where the Hub expects its managed service; localhost and 5000 for any other."""
    parts = urlsplit(env.get("JUPYTERHUB_SERVICE_URL", ""))
    if not parts.hostname:
        return "localhost", 5000
    return parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme, 5000)


def internal_ssl(env: Mapping[str, str]) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """Return the contexts for listening and for asking the Hub, where the Hub uses TLS inside."""
    key, cert, authority = (env.get(name, "") for name in _SSL)
    if not (key and cert and authority):
        return None, None
    return (
        make_ssl_context(key, cert, cafile=authority, purpose=ssl.Purpose.CLIENT_AUTH),
        make_ssl_context(key, cert, cafile=authority, purpose=ssl.Purpose.SERVER_AUTH),
    )


def service_prefix(text: str) -> str:
    """Return a prefix with one slash at each end."""
    inner = text.strip("/")
    return f"/{inner}/" if inner else "/"


def hub_options(
    env: Mapping[str, str],
    *,
    service_name: str,
    prefix: str,
    api_url: str,
    api_token: str,
    public_url: str,
    public_hub_url: str,
    ssl_context: ssl.SSLContext | None,
    needs_hub: bool = True,
) -> HubOptions:
    """Join what was set with what can be derived. `ConfigFault` where the service could not be safe.

    Without `needs_hub` and without a token there is no Hub, and the token is one of this process alone:
    what is derived from it, such as cookies and pseudonyms, is nobody else's.
    """
    has_hub = needs_hub or bool(api_token)
    if not has_hub:
        api_token = secrets.token_hex(32)
    if not api_token:
        raise ConfigFault(
            "JUPYTERHUB_API_TOKEN",
            "is not set; it is the service's api_token in jupyterhub_config.py, and a managed service gets "
            "it from the Hub",
        )
    parts = urlsplit(api_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigFault(
            "JUPYTERHUB_API_URL", "must be an http or https address, such as http://hub:8081/hub/api"
        )
    client_id = env.get("JUPYTERHUB_CLIENT_ID") or f"service-{service_name}"
    redirect = (
        env.get("JUPYTERHUB_OAUTH_CALLBACK_URL")
        or f"{public_url.rstrip('/') or prefix.rstrip('/')}/oauth_callback"
    )
    return HubOptions(
        service_name=service_name,
        prefix=prefix,
        api_url=api_url.rstrip("/"),
        api_token=api_token,
        client_id=client_id,
        redirect_uri=redirect,
        public_hub_url=_slash_at_end(
            public_hub_url or env.get("JUPYTERHUB_BASE_URL", "/").rstrip("/") + "/hub/"
        ),
        public_url=public_url and _slash_at_end(public_url),
        access_scopes=access_scopes_from_env(env, service_name),
        ssl_context=ssl_context,
        is_there=has_hub,
    )


def _slash_at_end(url: str) -> str:
    return url.rstrip("/") + "/"
