"""The fake Hub in a thread, for tests that run programs."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator

from .hub import ACCESS, FakeHub, user_model


@contextlib.contextmanager
def hub_in_thread(
    scopes: tuple[str, ...] = ("custom:ai-gateway:full-access",), **others: tuple[str, ...]
) -> Iterator[str]:
    """Run a Hub that knows alice's token `t-alice`, and return its API's address.

    `others` are further names with their scopes; the token of one is `t-NAME`.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    hub = FakeHub()
    hub.models["t-alice"] = user_model("alice", ACCESS, *scopes)
    for name, held in others.items():
        hub.models[f"t-{name}"] = user_model(name, *held)
    try:
        asyncio.run_coroutine_threadsafe(hub.start(), loop).result(10)
        yield hub.url
    finally:
        asyncio.run_coroutine_threadsafe(hub.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
