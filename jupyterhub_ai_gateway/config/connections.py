"""How the names of providers become addresses, and to which addresses the gateway connects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from .report import Block
from .words import hint, listed, shown

Schema = dict[str, object]
Rows = list[tuple[str, str, str]]

Family = Literal["any", "ipv4", "ipv6"]
FAMILIES: tuple[Family, ...] = ("any", "ipv4", "ipv6")
ADDRESSES = ("any", "public")


@dataclass(frozen=True, slots=True)
class DnsConfig:
    """How names are resolved.

    The addresses of a name are used for `ttl_s`, and a connection for `connection_age_s` at most, None for
    as long as it holds. `family` says which addresses count.
    """

    ttl_s: float = 30.0
    family: Family = "any"
    connection_age_s: float | None = 600.0


def read_dns(block: Block) -> DnsConfig:
    """Read `dns`."""
    value, usual = block.get("dns"), DnsConfig()
    if value is None:
        return usual
    inner = Block(value, "dns", block.report)
    family = inner.text("family")
    if family and family not in FAMILIES:
        inner.error("family", f"must be {listed(FAMILIES)}, found {shown(family)}{hint(family, FAMILIES)}")
    age_s = _seconds(inner, "connection_age_s", usual.connection_age_s, 1.0)
    found = DnsConfig(
        ttl_s=cast(float, _seconds(inner, "ttl_s", usual.ttl_s, 0.0)),
        family=cast(Family, family or usual.family),
        connection_age_s=None
        if inner.has("connection_age_s") and "connection_age_s" not in inner
        else age_s,
    )
    inner.refuse_unknown()
    return found


def _seconds(block: Block, key: str, usual: float | None, least: float) -> float | None:
    value = block.get(key)
    if value is None:
        return usual
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= 86_400:
        block.error(key, f"must be a number of seconds from {least:g} to 86400, found {shown(value)}")
        return usual
    return float(value)


def read_addresses(model: Block) -> bool:
    """Read a model's `addresses`: True where its provider has to be at a public one."""
    text = model.text("addresses")
    if text and text not in ADDRESSES:
        model.error("addresses", f"must be {listed(ADDRESSES)}, found {shown(text)}{hint(text, ADDRESSES)}")
    return text == "public"


def dns_schema() -> Schema:
    """Return the schema of `dns`."""
    return {
        "type": ["object", "null"],
        "properties": {
            "ttl_s": {"type": ["number", "null"], "minimum": 0, "maximum": 86_400},
            "family": {"enum": [*FAMILIES, None]},
            "connection_age_s": {"type": ["number", "null"], "minimum": 1, "maximum": 86_400},
        },
        "additionalProperties": False,
    }


def dns_rows() -> Rows:
    """Return the keys of `dns`."""
    usual = DnsConfig()
    return [
        ("ttl_s", f"{usual.ttl_s:g}", "For how many seconds the addresses of a name are used."),
        (
            "family",
            f"`{usual.family}`",
            f"Which addresses count: {', '.join(f'`{each}`' for each in FAMILIES)}.",
        ),
        (
            "connection_age_s",
            f"{usual.connection_age_s:g}",
            "For how many seconds a connection is used, so that a name that moves is followed; `null` for "
            "as long as it holds.",
        ),
    ]


CONNECTIONS = """
## Connections

An address that begins with `http+unix://` is a socket on this machine: its path, with `%2F` for each
slash, stands where a host would: `http+unix://%2Frun%2Fvllm.sock/v1`.

`model.tls` has `ca_file` (certificates that count in place of the system's), `cert_file` and `key_file`
(what the gateway shows of itself). Like keys, the files are watched, and relative ones count from the
configuration's folder.

With `model.addresses: public` the provider has to be at a public address: a connection to one that is
private, of this machine, or special in another way is refused before anything is sent, whatever the name
resolves to. [The security model](../explanation/security.md#where-requests-go) says which these are.

`proxy_from_environment: true` at the top of the file sends requests to providers through the proxies of
`HTTPS_PROXY` and `HTTP_PROXY`, but for the hosts of `NO_PROXY`; it counts after a restart, and makes
aiohttp ask the providers. Without it these variables are not looked at. No other place decides where a
request goes: callers cannot name an address, and a redirect of a provider's is not followed. A proxy finds
addresses by itself, so it cannot stand beside `addresses: public`.

`dns` at the top of the file says how names become addresses. They are those of the system's resolver; all
of them are tried within `connect_s`, the next one a quarter of a second after the one before, and those of
IPv6 and IPv4 in turn.

"""
