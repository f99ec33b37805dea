"""Writes AWS's binary event stream, as AWS does.

Source: https://smithy.io/2.0/aws/amazon-eventstream.html (read 2026-11).
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Sized(int):
    """A whole number in so many bytes: 1, 2, 4 or 8."""

    def __new__(cls, value: int, size: int) -> Sized:
        made = super().__new__(cls, value)
        made.size = size
        return made

    size: int


def header(name: str, value: Any) -> bytes:
    """Write one header, of the type that its value has."""
    start = bytes([len(name.encode())]) + name.encode()
    if value is True or value is False:
        return start + (b"\0" if value else b"\1")
    if isinstance(value, Sized):
        kind = {1: 2, 2: 3, 4: 4, 8: 5}[value.size]
        return start + bytes([kind]) + int(value).to_bytes(value.size, "big", signed=True)
    if isinstance(value, bytes):
        return start + b"\6" + struct.pack(">H", len(value)) + value
    if isinstance(value, str):
        data = value.encode()
        return start + b"\7" + struct.pack(">H", len(data)) + data
    if isinstance(value, datetime):
        return start + b"\x08" + struct.pack(">q", (value - _EPOCH) // timedelta(milliseconds=1))
    assert isinstance(value, UUID)
    return start + b"\x09" + value.bytes


def message(headers: Mapping[str, Any], payload: bytes) -> bytes:
    """Write one message."""
    return framed(b"".join(header(name, value) for name, value in headers.items()), payload)


def framed(headers: bytes, payload: bytes) -> bytes:
    """Write one message of headers that are written already."""
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    prelude += struct.pack(">I", zlib.crc32(prelude))
    whole = prelude + headers + payload
    return whole + struct.pack(">I", zlib.crc32(whole))


def event(name: str, document: Any) -> bytes:
    """Write an event with a JSON document."""
    headers = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    return message(headers, json.dumps(document).encode())


def exception(name: str, document: Any) -> bytes:
    """Write what a stream fails with."""
    headers = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    return message(headers, json.dumps(document).encode())
