"""The slots of pools in a Redis or Valkey, where several processes share them.

Each step is one script, `shared.lua`, so it is atomic whoever else takes one. What a step means for
others they are told by publish and subscribe; as that may be lost, they also look every `BEAT_S`. A
process that is not heard of for `LEASE_S` is taken for dead, and its slots are free again. All keys of a
store have one hash tag, so that a cluster keeps them together. Needs the extra `redis`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from importlib.resources import files
from itertools import count
from secrets import token_hex
from typing import Any

import msgspec

from ..errors import ConfigFault
from .fair import MAX_NODES, OLDEST_EVERY, RATE, USUAL_HOLD_S, Share

log = logging.getLogger(__name__)

LEASE_S = 10.0
BEAT_S = 2.0
RETRY_S = 0.5
TUNER_S = 60.0
"""For how long the looks of one process alone tune a pool after its last one, lest all do it at once."""
KEPT_S = 7 * 86_400
"""How long it is kept what everybody has had, once no process is left."""
SEPARATOR = "\x1f"
_SILENCE_S = 5.0
_CONSTANTS = {
    "OLDEST_EVERY": OLDEST_EVERY,
    "MAX_NODES": MAX_NODES,
    "RATE": RATE,
    "USUAL_HOLD_S": USUAL_HOLD_S,
    "TUNER_S": TUNER_S,
    "KEPT_S": KEPT_S,
}

Said = Sequence[object]
"""A word of `shared.lua`'s table `step`, and what goes with it."""


class StoreAway(Exception):  # noqa: N818 - the store's state, told to the pool
    """The store did not answer."""


class Numbers(msgspec.Struct, frozen=True):
    """A pool as it is after a step, of all processes; `hold_s` is how long a slot is usually kept.

    `news` are this process' requests that run now or have to go: a word, the request's name, and for the
    latter its place and how many wait. `mine` is how many requests of this process the store knows, of
    which so many are `running` or `queued`. It `is_known` unless it was given up; `is_whole` once all that
    shared the store before it was away are back. It `is_stale` when a later step was taken before.
    """

    pool: str = ""
    step: int = 0
    slots: int = 0
    in_use: int = 0
    waiting: int = 0
    processes: int = 0
    hold_s: float = USUAL_HOLD_S
    news: list[list[str | int]] = []
    is_known: bool = True
    is_whole: bool = True
    is_stale: bool = False
    mine: int = 0
    running: int = 0
    queued: int = 0


_read = msgspec.json.Decoder(Numbers).decode


def script() -> str:
    """Return the text of the script, with the numbers that are the same where nothing is shared."""
    constants = "".join(f"local {name} = {value}\n" for name, value in _CONSTANTS.items())
    return constants + files(__package__).joinpath("shared.lua").read_text("utf-8")


class PoolStore:
    """The Redis at `url`, which may take `timeout_s` to answer. `name` is what it calls this process.

    `processes` is how many there are as long as it has not said.
    """

    def __init__(
        self, url: str, *, prefix: str = "ai-gateway", timeout_s: float = 1.0, processes: int = 1
    ) -> None:
        try:
            from redis import asyncio as redis
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff
            from redis.exceptions import RedisError
        except ImportError:
            hint = "pip install 'jupyterhub-ai-gateway[redis]'"
            raise ConfigFault("store.url", f"needs a package that is not installed: {hint}") from None
        self.name = token_hex(8)
        self.processes = processes
        self.lease_s = LEASE_S
        self._errors = (RedisError, OSError, asyncio.TimeoutError, msgspec.DecodeError)
        self._numbers = count(1)
        self._timeout_s = timeout_s
        self._root = f"{{{prefix}}}:p:"
        self._channels = f"{{{prefix}}}:told"
        self._redis: Any = redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            socket_keepalive=True,
            decode_responses=True,
            retry=Retry(NoBackoff(), 0),  # a step that is late is given up and put right by the next one
        )
        self._script = self._redis.register_script(script())
        self._hearers: dict[str, tuple[Callable[[Numbers], None], Callable[[], None]]] = {}
        self._listening: asyncio.Task[None] | None = None
        self._has_tried = asyncio.Event()

    async def listen(self, pool: str, hear: Callable[[Numbers], None], nudge: Callable[[], None]) -> None:
        """Have `hear` called with what is told of a pool; `nudge` when something may have been missed.

        Returns once that is so, or did not succeed.
        """
        self._hearers[pool] = (hear, nudge)
        if self._listening is None:
            self._listening = asyncio.ensure_future(self._listen())
        await self._has_tried.wait()

    def forget(self, pool: str) -> None:
        """Tell nothing of a pool any more."""
        self._hearers.pop(pool, None)

    async def step(self, pool: str, says: Sequence[Said], now: float | None = None) -> Numbers:
        """Say something of a pool. `now` is the store's time unless given."""
        keys = [f"{self._root}{pool}"]
        time = "" if now is None else repr(now)
        number = next(self._numbers)
        arguments: list[str | int | float] = [
            self.name,
            number,
            self.lease_s,
            time,
            self._channels,
            pool,
            json.dumps(says),
        ]
        try:
            return _read(await self._script(keys, arguments))
        except self._errors as error:
            raise StoreAway(f"{type(error).__name__}: {error}") from error

    async def shares(self, pool: str) -> list[Share]:
        """Return who has what of a pool, in all processes."""
        root = f"{self._root}{pool}"
        try:
            async with self._redis.pipeline(transaction=True) as asking:
                asking.hmget(f"{root}:s", "faded", "clock", "half_life")
                asking.time()
                asking.zrange(f"{root}:u", 0, -1, withscores=True)
                asking.zrange(f"{root}:most", 0, -1, withscores=True)
                asking.hgetall(f"{root}:w")
                asking.hgetall(f"{root}:r")
                (faded, clock, half_life), (s, us), used, waiting, weights, running = await asking.execute()
        except self._errors as error:
            raise StoreAway(f"{type(error).__name__}: {error}") from error
        now = float(faded or 0) + max(0.0, s + us / 1e6 - float(clock or 0)) / float(half_life or 1)
        tokens = {path: 2.0 ** min(1000.0, level - now) for path, level in used}
        return _shares(tokens, dict(waiting), weights, running)

    async def close(self) -> None:
        """Let go of the connections."""
        if self._listening is not None:
            await ended(self._listening)
        await self._redis.aclose()

    async def _listen(self) -> None:
        while True:
            try:
                async with self._redis.pubsub() as ear:
                    await ear.subscribe(self._channels, f"{self._channels}:{self.name}")
                    for _ in range(2):
                        if await ear.get_message(timeout=self._timeout_s) is None:
                            raise asyncio.TimeoutError
                    self._has_tried.set()
                    for _, nudge in self._hearers.values():
                        nudge()
                    while True:
                        message = await ear.get_message(True, timeout=_SILENCE_S)
                        if message is not None:
                            self._tell(message["data"])
            except self._errors as error:
                log.info("The store of pools tells nothing: %s", type(error).__name__)
            self._has_tried.set()
            await asyncio.sleep(RETRY_S)

    def _tell(self, text: str) -> None:
        told = _read(text)
        found = self._hearers.get(told.pool)
        if found is not None:
            found[0](told)


async def ended(task: asyncio.Task[None]) -> None:
    """Cancel it until it is, as a library below may take the word for one of its own."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=RETRY_S)


def _shares(
    tokens: dict[str, float],
    waiting: dict[str, float],
    weights: dict[str, str],
    running: dict[str, str],
) -> list[Share]:
    """Join what is known of paths: all groups, and the users who do something."""
    groups: dict[str, int] = {}
    shares: list[Share] = []
    for path in {*tokens, *waiting, *running}:
        group, *below = path.split(SEPARATOR)
        groups.setdefault(group, 0)
        if len(below) == 1:
            number = int(waiting.get(path, 0))
            groups[group] += number
            if number or path in running:
                shares.append((group, below[0], *_of(path, tokens, weights, running), number))
    shares += [
        (group, None, *_of(group, tokens, weights, running), number) for group, number in groups.items()
    ]
    return shares


def _of(
    path: str, tokens: dict[str, float], weights: dict[str, str], running: dict[str, str]
) -> tuple[float, float, int]:
    return float(weights.get(path, 1)), tokens.get(path, 0.0), int(running.get(path, 0))
