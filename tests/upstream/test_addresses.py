"""Which addresses are public, as a table."""

from __future__ import annotations

import pytest

from jupyterhub_ai_gateway.upstream.addresses import why_not_public

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2a00:1450:4001:81b::200e",
    "2001:4860:4860::8888",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:808:808::1",
]
NOT_PUBLIC = [
    ("0.0.0.0", "this network"),
    ("0.1.2.3", "this network"),
    ("10.0.0.1", "private"),
    ("10.255.255.255", "private"),
    ("100.64.0.0", "carrier"),
    ("100.127.255.255", "carrier"),
    ("127.0.0.1", "this machine"),
    ("127.255.255.255", "this machine"),
    ("169.254.0.1", "link-local"),
    ("169.254.169.254", "metadata"),
    ("172.16.0.1", "private"),
    ("172.31.255.255", "private"),
    ("192.0.0.8", "protocols"),
    ("192.0.2.1", "documentation"),
    ("192.88.99.1", "6to4"),
    ("192.168.0.1", "private"),
    ("192.168.255.255", "private"),
    ("198.18.0.1", "benchmarks"),
    ("198.19.255.255", "benchmarks"),
    ("198.51.100.1", "documentation"),
    ("203.0.113.1", "documentation"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.255", "multicast"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.255", "broadcast"),
    ("::", "no address"),
    ("::1", "this machine"),
    ("::7f00:1", "no use"),
    ("::ffff:127.0.0.1", "this machine, within"),
    ("::ffff:10.0.0.1", "private, within"),
    ("::ffff:169.254.169.254", "metadata, within"),
    ("::ffff:0:127.0.0.1", "no use"),
    ("64:ff9b::10.0.0.1", "private, within"),
    ("64:ff9b::169.254.169.254", "metadata, within"),
    ("64:ff9b:1::808:808", "NAT64"),
    ("100::1", "no use"),
    ("2001::1", "protocols"),
    ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "Teredo"),
    ("2001:db8::1", "documentation"),
    ("2002:a00:1::1", "private, within"),
    ("2002:7f00:1::", "this machine, within"),
    ("2002:a9fe:a9fe::1", "metadata, within"),
    ("3fff::1", "documentation"),
    ("5f00::1", "no use"),
    ("fc00::1", "unique local"),
    ("fd00:ec2::254", "unique local"),
    ("fe80::1", "link-local"),
    ("fe80::1%eth0", "link-local"),
    ("fec0::1", "site-local"),
    ("ff02::1", "multicast"),
    ("127.1", "usual form"),
    ("2130706433", "usual form"),
    ("0x7f.0.0.1", "usual form"),
    ("127.0.0.01", "usual form"),
    ("localhost", "usual form"),
    ("", "usual form"),
]


@pytest.mark.parametrize("address", PUBLIC)
def test_what_the_world_routes_is_public(address: str) -> None:
    assert why_not_public(address) is None


@pytest.mark.parametrize(("address", "why"), NOT_PUBLIC)
def test_what_is_special_is_not_and_it_is_said_why(address: str, why: str) -> None:
    found = why_not_public(address)
    assert found is not None
    assert why in found
