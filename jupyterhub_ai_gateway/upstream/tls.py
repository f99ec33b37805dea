"""TLS as an origin wants it: whose certificates count, and who we show that we are."""

from __future__ import annotations

import ssl

from .base import Origin


def context_of(origin: Origin, usual: ssl.SSLContext | None = None) -> ssl.SSLContext:
    """Make the context of an origin. `usual` stands in for the system's certificates."""
    tls = origin.tls
    if tls is None and origin.verify_tls and usual is not None:
        return usual
    context = ssl.create_default_context(cafile=None if tls is None else tls.ca_file)
    if tls is not None and tls.cert_file is not None:
        context.load_cert_chain(tls.cert_file, tls.key_file)
    if not origin.verify_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
