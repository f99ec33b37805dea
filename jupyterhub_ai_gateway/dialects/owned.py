"""Responses that a provider keeps, under ids that only the caller who made them can use.

Everybody shares the provider's account, so its own ids are no secret between callers. An id of ours is the
provider's, the deployment and a code that only this gateway can make for this caller: `resp_…~NAME~CODE`.
Nothing is written down; ids are good for as long as the service has its token of the Hub.
"""

from __future__ import annotations

import hmac
import re
from typing import NamedTuple

import msgspec

from ..errors import RequestFault
from .opening import STORED, Asked

_ID = re.compile(rb'(?<!\\)"(resp_[A-Za-z0-9_\-]{1,200})"')
_OWN = re.compile(r"(resp_[A-Za-z0-9_\-]{1,200})~([A-Za-z0-9._\-]{1,100})~([0-9a-f]{32})")
_encode = msgspec.json.Encoder().encode


class Kept(NamedTuple):
    """A response at its provider."""

    deployment: str
    id: str


class OwnedIds:
    """The ids of one caller at one endpoint."""

    __slots__ = ("_scope", "_secret")

    def __init__(self, secret: bytes, caller: str, endpoint: str) -> None:
        self._secret = secret
        self._scope = f"response\n{caller}\n{endpoint}\n"

    def seal(self, kept: Kept) -> str:
        """Return the id that the caller is given."""
        return f"{kept.id}~{kept.deployment}~{self._code(kept)}"

    def open(self, given: str) -> Kept | None:
        """Return what an id of this caller stands for; None for any other."""
        found = _OWN.fullmatch(given)
        if found is None:
            return None
        kept = Kept(found[2], found[1])
        return kept if hmac.compare_digest(self._code(kept), found[3]) else None

    def rewrite(self, data: bytes, deployment: str) -> bytes:
        """Put the caller's ids in the place of the provider's, wherever one stands alone."""

        def own(found: re.Match[bytes]) -> bytes:
            return b'"%b"' % self.seal(Kept(deployment, found[1].decode())).encode()

        return _ID.sub(own, data)

    def adopt(self, asked: Asked) -> str | None:
        """Let a request be kept, and go on from what its caller has; return where that is, or None.

        `RequestFault` for a `previous_response_id` that is not the caller's.
        """
        asked.format = STORED
        raw = asked.fields.get("previous_response_id")
        if raw is None or bytes(raw) == b"null":
            return None
        try:
            kept = self.open(msgspec.json.decode(raw, type=str))
        except (msgspec.DecodeError, UnicodeDecodeError):
            kept = None
        if kept is None:
            raise not_theirs()
        asked.fields["previous_response_id"] = msgspec.Raw(_encode(kept.id))
        return kept.deployment

    def _code(self, kept: Kept) -> str:
        text = f"{self._scope}{kept.deployment}\n{kept.id}"
        return hmac.digest(self._secret, text.encode(), "sha256").hex()[:32]


def not_theirs() -> RequestFault:
    """Return the fault of an id that is nobody's, or somebody else's."""
    return RequestFault(
        "previous_response_id is of no response that is kept for you at this model. Send the conversation "
        "as input.",
        slug="previous_response_not_found",
        param="previous_response_id",
    )
