"""Counters and buckets in a Redis or Valkey that several processes share.

Every step is one script, so it is atomic whoever else runs one. A process that dies leaves reservations
behind; they are given back `LEASE_MS` after it last renewed them. All keys have one hash tag, so that a
cluster keeps them together. Needs the extra `redis`.

    {PREFIX}:c:KEY    a counter: u<slot> what was used, r<slot> what is reserved
    {PREFIX}:o:NAME   a request that runs, and what it has reserved
    {PREFIX}:open     the requests that run, by when they are given up
    {PREFIX}:s:NAME   a request that was settled
    {PREFIX}:b:KEY    a bucket: when it will be full
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any

from typing_extensions import override

from ..errors import ConfigFault
from .base import Store, StoreUnavailable
from .bucket import Rule, Verdict
from .counters import CounterStore, Reserved, Take

LEASE_MS = 90_000
_SETTLED_MS = 3_600_000

_SHARED = """
local function release(prefix, record)
  for line in string.gmatch(record, '[^\\n]+') do
    local slot, amount, key = string.match(line, '^(%-?%d+) (%d+) (.*)$')
    local counter = prefix .. ':c:' .. key
    if redis.call('HEXISTS', counter, 'r' .. slot) == 1 then
      if redis.call('HINCRBY', counter, 'r' .. slot, -tonumber(amount)) <= 0 then
        redis.call('HDEL', counter, 'r' .. slot)
      end
    end
  end
end
local function give_up(prefix, now)
  local late = redis.call('ZRANGEBYSCORE', prefix .. ':open', '-inf', now, 'LIMIT', 0, 100)
  for _, name in ipairs(late) do
    local record = redis.call('GET', prefix .. ':o:' .. name)
    if record then release(prefix, record) end
    redis.call('DEL', prefix .. ':o:' .. name)
    redis.call('ZREM', prefix .. ':open', name)
  end
end
local function standing(counter, first)
  local total, slots = 0, {}
  local fields = redis.call('HGETALL', counter)
  for i = 1, #fields, 2 do
    local slot = tonumber(string.sub(fields[i], 2))
    if slot < first then
      redis.call('HDEL', counter, fields[i])
    else
      total = total + tonumber(fields[i + 1])
      slots[#slots + 1] = {slot, tonumber(fields[i + 1])}
    end
  end
  return total, slots
end
local function freed(total, slots, amount, limit)
  if amount > limit then return '' end
  table.sort(slots, function(a, b) return a[1] < b[1] end)
  for i, entry in ipairs(slots) do
    total = total - entry[2]
    local is_last = i == #slots or slots[i + 1][1] ~= entry[1]
    if is_last and total + amount <= limit then return string.format('%.0f', entry[1]) end
  end
  return ''
end
"""

_RESERVE = (
    _SHARED
    + """
local prefix, name, now, lease = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
give_up(prefix, now)
local used, refused, back = {}, -1, ''
for i = 0, #KEYS - 2 do
  local base = 5 + i * 6
  local first, limit, amount = tonumber(ARGV[base + 1]), tonumber(ARGV[base + 3]), tonumber(ARGV[base + 4])
  local total, slots = standing(KEYS[i + 2], first)
  used[#used + 1] = string.format('%.0f', total)
  if refused < 0 and ARGV[base + 5] == '0' and total + amount > limit then
    refused, back = i, freed(total, slots, amount, limit)
  end
end
if refused >= 0 then return {refused, back, unpack(used)} end
local record = {}
for i = 0, #KEYS - 2 do
  local base = 5 + i * 6
  local slot, expires, amount = ARGV[base], tonumber(ARGV[base + 2]), tonumber(ARGV[base + 4])
  if amount > 0 then
    redis.call('HINCRBY', KEYS[i + 2], 'r' .. slot, amount)
    record[#record + 1] = slot .. ' ' .. ARGV[base + 4] .. ' ' .. string.sub(KEYS[i + 2], #prefix + 4)
  end
  redis.call('PEXPIRE', KEYS[i + 2], math.max(expires - now, 0) + 86400000)
end
redis.call('SET', prefix .. ':o:' .. name, table.concat(record, '\\n'), 'PX', 604800000)
redis.call('ZADD', KEYS[1], now + lease, name)
return {-1, '', unpack(used)}
"""
)

_SETTLE = (
    _SHARED
    + """
local prefix, name, now = ARGV[1], ARGV[2], tonumber(ARGV[3])
if not redis.call('SET', prefix .. ':s:' .. name, '1', 'NX', 'PX', ARGV[4]) then return 0 end
local record = redis.call('GET', prefix .. ':o:' .. name)
if record then release(prefix, record) end
redis.call('DEL', prefix .. ':o:' .. name)
redis.call('ZREM', KEYS[1], name)
for i = 0, #KEYS - 2 do
  local slot, expires, amount = ARGV[5 + i * 3], tonumber(ARGV[6 + i * 3]), tonumber(ARGV[7 + i * 3])
  if amount > 0 and expires > now then
    redis.call('HINCRBY', KEYS[i + 2], 'u' .. slot, amount)
    redis.call('PEXPIRE', KEYS[i + 2], expires - now + 86400000)
  end
end
return 1
"""
)

_USED = (
    _SHARED
    + """
give_up(ARGV[1], tonumber(ARGV[2]))
local used = {}
for i = 1, #KEYS do used[i] = string.format('%.0f', (standing(KEYS[i], tonumber(ARGV[i + 2])))) end
return used
"""
)

_TAKE = """
local interval, period = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local full = tonumber(redis.call('GET', KEYS[1]) or now)
local start = math.min(math.max(full, now), now + period)
local after = start + interval
local wait = after - now - period
if wait > interval * 5e-7 then
  return {0, string.format('%.6f', start - now), string.format('%.6f', wait)}
end
redis.call('SET', KEYS[1], string.format('%.6f', after), 'PX', math.ceil((after - now) * 1000) + 1)
return {1, string.format('%.6f', after - now), '0'}
"""


class RedisStore(CounterStore):
    """Counters in a Redis at `url`, which may take `timeout_s` to answer. `buckets` are kept there too.

    Methods raise `StoreUnavailable` when it does not answer.
    """

    def __init__(self, url: str, *, prefix: str = "ai-gateway", timeout_s: float = 1.0) -> None:
        try:
            from redis import asyncio as redis
            from redis.exceptions import RedisError
        except ImportError:
            hint = "pip install 'jupyterhub-ai-gateway[redis]'"
            raise ConfigFault("store.url", f"needs a package that is not installed: {hint}") from None
        self._errors = (RedisError, OSError, asyncio.TimeoutError)
        self._prefix = f"{{{prefix}}}"
        self._timeout_s = timeout_s
        self._open: set[str] = set()
        self._background: set[asyncio.Task[None]] = set()
        self._redis: Any = redis.from_url(
            url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, decode_responses=True
        )
        self._reserve = self._redis.register_script(_RESERVE)
        self._settle = self._redis.register_script(_SETTLE)
        self._used = self._redis.register_script(_USED)
        self._take = self._redis.register_script(_TAKE)
        self.buckets = RedisBuckets(self)

    @override
    async def reserve(self, name: str, takes: Sequence[Take], now_ms: int) -> Reserved:
        arguments: list[str | int] = [self._prefix, name, now_ms, LEASE_MS]
        for take in takes:
            arguments += (
                take.slot,
                take.first,
                take.expires_ms,
                take.limit,
                take.amount,
                int(take.is_soft),
            )
        keys = [f"{self._prefix}:open", *map(self._counter, takes)]
        try:
            refused, back, *used = await self._ask(self._reserve(keys, arguments))
        except asyncio.CancelledError:
            self._later(self._settled(name, (), (), now_ms))
            raise
        if refused >= 0:
            return Reserved(refused, tuple(map(int, used)), int(back) if back else None)
        self._open.add(name)
        return Reserved(None, tuple(map(int, used)))

    @override
    def settle(
        self, name: str, takes: Sequence[Take], amounts: Sequence[int], now_ms: int
    ) -> Awaitable[None]:
        self._open.discard(name)
        return self._settled(name, takes, amounts, now_ms)

    async def _settled(self, name: str, takes: Sequence[Take], amounts: Sequence[int], now_ms: int) -> None:
        arguments: list[str | int] = [self._prefix, name, now_ms, _SETTLED_MS]
        for take, amount in zip(takes, amounts, strict=True):
            arguments += [take.slot, take.expires_ms, amount]
        keys = [f"{self._prefix}:open", *map(self._counter, takes)]
        await self._ask(self._settle(keys, arguments))

    @override
    async def used(self, takes: Sequence[Take], now_ms: int) -> tuple[int, ...]:
        if not takes:
            return ()
        firsts = [take.first for take in takes]
        found = await self._ask(
            self._used(list(map(self._counter, takes)), [self._prefix, now_ms, *firsts])
        )
        return tuple(map(int, found))

    @override
    async def seed(self, key: str, slot: int, amount: int, expires_ms: int) -> None:
        counter = f"{self._prefix}:c:{key}"
        if await self._ask(self._redis.hsetnx(counter, f"u{slot}", amount)):
            await self._ask(self._redis.pexpireat(counter, expires_ms + 86_400_000, gt=False))

    @override
    async def renew(self, now_ms: int) -> None:
        if self._open:
            lease = dict.fromkeys(self._open, now_ms + LEASE_MS)
            await self._ask(self._redis.zadd(f"{self._prefix}:open", lease, xx=True))

    @override
    async def close(self) -> None:
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._redis.aclose()

    async def take(self, key: str, rule: Rule) -> Verdict:
        """Take one call from a bucket; the server's clock counts."""
        keys, arguments = [f"{self._prefix}:b:{key}"], [rule.interval_s, rule.period_s]
        is_allowed, reset, wait = await self._ask(self._take(keys, arguments))
        reset_s = float(reset)
        if not is_allowed:
            return Verdict(False, rule.calls, 0, reset_s, float(wait))
        remaining = int((rule.period_s - reset_s) / rule.interval_s + 1e-6)
        return Verdict(True, rule.calls, max(0, remaining), reset_s, 0.0)

    def _counter(self, take: Take) -> str:
        return f"{self._prefix}:c:{take.key}"

    async def _ask(self, question: Awaitable[Any]) -> Any:
        try:
            return await question
        except self._errors as error:
            raise StoreUnavailable(f"{type(error).__name__}: {error}") from error

    def _later(self, work: Coroutine[None, None, None]) -> None:
        """Do something although whoever wanted it is gone."""
        task = asyncio.ensure_future(_quietly(work))
        self._background.add(task)
        task.add_done_callback(self._background.discard)


class RedisBuckets(Store):
    """The endpoints' buckets of a `RedisStore`."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store

    @override
    def take(self, key: str, rule: Rule, now: float) -> Awaitable[Verdict]:
        return self._store.take(key, rule)


async def _quietly(work: Awaitable[None]) -> None:
    try:
        await work
    except StoreUnavailable:
        return  # the lease ends by itself
