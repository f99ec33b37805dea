"""Where the gateway listens and notebook servers find it, as far as the Hub's configuration tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from .plan import Plan, fault
from .sections import value_of

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
WILDCARD = frozenset({"", "*", "0.0.0.0", "::"})


@dataclass(frozen=True, slots=True)
class Address:
    """URLs without a slash at the end: `service_url` has no path, `server_url` all of it but /v1.

    `prefix` is the path of the service behind the Hub's proxy, with slashes at both ends.
    """

    service_url: str
    server_url: str
    prefix: str


def find(c: Any, plan: Plan) -> Address:
    """Work out both addresses. `ConfigFault` where only the operator can know, or where none would work."""
    kind = _spawner_kind(c)
    if plan.url is None:
        _check_managed(c, plan, kind)
        service_url = f"http://{_bracketed(plan.host)}:{plan.port}"
    else:
        service_url = plan.url.rstrip("/")
    prefix = f"{_base_url(c)}services/{plan.name}/"
    if plan.server_url is not None:
        server_url = plan.server_url.rstrip("/").removesuffix("/v1")
    else:
        server_url = _host_for_servers(c, kind, service_url) + prefix
    return Address(service_url, server_url.rstrip("/"), prefix)


def _check_managed(c: Any, plan: Plan, kind: str) -> None:
    if value_of(c, "JupyterHub", "internal_ssl"):
        problem = "is needed with c.JupyterHub.internal_ssl: JupyterHub 6 cannot start such services itself"
        raise fault("url", f"{problem}, so run the gateway by itself")
    if plan.host in WILDCARD:
        raise fault("host", "must be a name or an address, as the Hub's proxy connects to it")
    if kind == "kubernetes" and plan.host in LOOPBACK:
        problem = "is needed on Kubernetes, where the Hub's proxy is in another pod"
        raise fault("url", f"{problem}: run the gateway as a deployment of its own")


def _spawner_kind(c: Any) -> str:
    """Return "kubernetes", "docker", or "local" for all others."""
    spawner = value_of(c, "JupyterHub", "spawner_class") or ""
    names = spawner if isinstance(spawner, str) else " ".join(base.__name__ for base in spawner.__mro__)
    if "kube" in names.lower():
        return "kubernetes"
    return "docker" if any(word in names.lower() for word in ("docker", "swarm")) else "local"


def _host_for_servers(c: Any, kind: str, service_url: str) -> str:
    """Return the first half of a URL: the proxy's inside Docker and Kubernetes, else the gateway's own."""
    if kind == "kubernetes":
        return "http://proxy-public"  # the name that the Hub's Helm chart gives to its proxy
    if kind == "local" or (urlsplit(service_url).hostname or "") not in LOOPBACK:
        return service_url
    for name in (value_of(c, "JupyterHub", "hub_connect_ip"), value_of(c, "JupyterHub", "hub_ip")):
        if name and name not in LOOPBACK | WILDCARD:
            return f"http://{_bracketed(name)}:{_proxy_port(c)}"
    raise fault(
        "server_url",
        "is needed: where servers in containers reach the gateway, such as "
        "http://CONTAINER-OF-THE-HUB:8000/services/NAME (or set c.JupyterHub.hub_connect_ip before)",
    )


def _proxy_port(c: Any) -> int:
    bind_url = value_of(c, "JupyterHub", "bind_url")
    port = urlsplit(bind_url).port if bind_url else value_of(c, "JupyterHub", "port")
    return int(port or 8000)


def _base_url(c: Any) -> str:
    """Return the path below which all of the Hub is, with slashes at both ends."""
    bind_url = value_of(c, "JupyterHub", "bind_url")
    base = value_of(c, "JupyterHub", "base_url") or (urlsplit(bind_url).path if bind_url else "")
    return f"/{base.strip('/')}/" if base.strip("/") else "/"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
