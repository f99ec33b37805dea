"""What a process needs to know, as plain values; the traits of `AIGateway` end up here."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..config import GatewayConfig

CONTENT_LIMIT_BYTES = 100 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class HubOptions:
    """The Hub, as this service is known to it.

    `prefix` begins and ends with a slash. `public_hub_url` is the Hub as browsers reach it, ending with
    a slash, be it only a path. `redirect_uri` is where the login comes back to, an address or a path.
    Where `is_there` is False there is no Hub: keys of the gateway's own are all that opens it.
    """

    service_name: str
    prefix: str
    api_url: str
    api_token: str = field(repr=False)
    client_id: str
    redirect_uri: str
    public_hub_url: str
    public_url: str
    access_scopes: frozenset[str]
    ssl_context: ssl.SSLContext | None = None
    is_there: bool = True


@dataclass(frozen=True, slots=True)
class Options:
    """Everything else. `load` reads the configuration, anew for each reload, in a thread; `files` are
    those that it begins with.

    With `reuse_port` other processes listen on the same port; `own_socket` is then where this one tells the
    others its counts, `peer_sockets` where they tell theirs.

    `http_server` is "fast" or "tornado", `http_client` "lean" or "aiohttp". Times are in seconds.
    """

    hub: HubOptions
    load: Callable[[], GatewayConfig]
    files: tuple[Path, ...] = ()
    host: str = "localhost"
    port: int = 5000
    ssl_context: ssl.SSLContext | None = None
    metrics_enabled: bool = True
    metrics_namespace: str = "jupyterhub_ai_gateway"
    authenticate_prometheus: bool = True
    docs_title: str = "JupyterHub AI Gateway"
    docs_description: str = ""
    auth_ttl_s: float = 60.0
    auth_grace_s: float = 300.0
    keepalive_s: float = 15.0
    drain_timeout_s: float = 8.0
    drain_delay_s: float = 0.0
    reload_poll_s: float = 2.0
    max_body_bytes: int = CONTENT_LIMIT_BYTES
    http_server: str = "fast"
    http_client: str = "lean"
    admin_port: str = ""
    fast_lane: bool = True
    log_requests: bool = False
    xheaders: bool = False
    exit_with_parent: bool = False
    reuse_port: bool = False
    own_socket: Path | None = None
    peer_sockets: tuple[Path, ...] = ()
