"""Which addresses are public: those that the world routes, and nothing behind them that is not.

Pure. What is special is taken from IANA's registries, and not from `ipaddress`, whose idea of it changes
with Python's versions. Forms that carry an IPv4 address within them are judged by that.

Source: https://www.iana.org/assignments/iana-ipv4-special-registry and iana-ipv6-special-registry;
RFC 6890, RFC 6052 (NAT64), RFC 3056 (6to4) (read 2026-11).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

_V4: tuple[tuple[IPv4Network, str], ...] = tuple(
    (IPv4Network(network), what)
    for network, what in (
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by a carrier's customers"),
        ("127.0.0.0/8", "this machine"),
        ("169.254.0.0/16", "link-local, where clouds keep their metadata"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "kept for protocols"),
        ("192.0.2.0/24", "for documentation"),
        ("192.88.99.0/24", "a relay of 6to4"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved, or broadcast"),
    )
)
_V6: tuple[tuple[IPv6Network, str], ...] = tuple(
    (IPv6Network(network), what)
    for network, what in (
        ("::/128", "no address"),
        ("::1/128", "this machine"),
        ("fc00::/7", "private (unique local)"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
        ("64:ff9b:1::/48", "a NAT64 of somebody's own"),
        ("2001::/23", "kept for protocols, Teredo among them"),
        ("2001:db8::/32", "for documentation"),
        ("3fff::/20", "for documentation"),
    )
)
_GLOBAL = IPv6Network("2000::/3")
"""All that is assigned to the world, so far."""
_SIXTO4 = IPv6Network("2002::/16")
_NAT64 = IPv6Network("64:ff9b::/96")


def why_not_public(address: str) -> str | None:
    """Say what kind of an address it is, when it is not public; None when it is."""
    try:
        found = ip_address(address)
    except ValueError:
        return "not an address in the usual form"
    return _why_not_v4(found) if isinstance(found, IPv4Address) else _why_not_v6(found)


def _why_not_v4(address: IPv4Address) -> str | None:
    return next((what for network, what in _V4 if address in network), None)


def _why_not_v6(address: IPv6Address) -> str | None:
    within = _v4_within(address)
    if within is not None:
        what = _why_not_v4(within)
        return None if what is None else f"{what}, within an address of IPv6"
    for network, what in _V6:
        if address in network:
            return what
    return None if address in _GLOBAL else "of no use in the world"


def _v4_within(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that one of IPv6 stands for: mapped, NAT64, 6to4; None for any other."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _SIXTO4:
        return IPv4Address((int(address) >> 80) & 0xFFFFFFFF)
    return None
