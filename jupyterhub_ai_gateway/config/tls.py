"""Whose certificates count for a provider, and with which one the gateway shows who it is."""

from __future__ import annotations

import ssl
from pathlib import Path

from .model import TlsConfig
from .report import Block
from .secrets import Resolver


def read_tls(block: Block, resolver: Resolver) -> TlsConfig | None:
    """Read `tls`, and look whether its files hold what they should."""
    value = block.get("tls")
    if value is None:
        return None
    inner = Block(value, block.at("tls"), block.report)
    ca, cert, key = (_file(inner, name, resolver) for name in ("ca_file", "cert_file", "key_file"))
    if key is not None and cert is None and "cert_file" not in inner:
        inner.missing("cert_file", "is required beside key_file")
    if "ca_file" not in inner and "cert_file" not in inner:
        inner.missing("ca_file", "is required, or a cert_file")
    inner.refuse_unknown()
    changed = tuple(path.stat().st_mtime_ns for path in (ca, cert, key) if path is not None)
    names = [None if path is None else str(path) for path in (ca, cert, key)]
    tls = TlsConfig(names[0], names[1], names[2], changed)
    _try(inner, tls)
    return tls


def _file(block: Block, name: str, resolver: Resolver) -> Path | None:
    text = block.text(name)
    if not text:
        return None
    path = resolver.find_file(text)
    if path is None:
        block.error(name, "names no file that can be found")
    return path


def _try(block: Block, tls: TlsConfig) -> None:
    """Load the files as the connection will; errors name no content."""
    context = ssl.create_default_context()
    try:
        if tls.ca_file is not None:
            context.load_verify_locations(tls.ca_file)
    except (ssl.SSLError, OSError):
        block.error("ca_file", "holds no certificates in PEM that can be read")
    try:
        if tls.cert_file is not None:
            context.load_cert_chain(tls.cert_file, tls.key_file, password=_no_password)
    except (ssl.SSLError, OSError, ValueError):
        block.error("cert_file", "and key_file are no certificate and key in PEM that can be read and fit")


def _no_password() -> str:
    """Keep OpenSSL from asking the terminal."""
    return ""
