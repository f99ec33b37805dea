"""Where requests are written down, where limits count, and whether the gateway makes keys."""

from __future__ import annotations

from .model import KeysConfig, LedgerConfig, StoreConfig
from .report import Block, Report
from .secrets import Resolver
from .words import shown


def read_ledger(value: object, resolver: Resolver, report: Report) -> LedgerConfig:
    """Read `ledger`; `false` is none at all."""
    if value is None:
        return LedgerConfig()
    if value is False:
        return LedgerConfig(url=None)
    block = Block(value, "ledger", report)
    usual = LedgerConfig()
    ledger = LedgerConfig(
        url=_url(block, resolver) if "url" in block else usual.url,
        journal=block.text("journal"),
        flush_s=_seconds(block, "flush_s", usual.flush_s, 0.01, 60.0) or usual.flush_s,
        fail_open_s=_seconds(block, "fail_open_s", usual.fail_open_s, 0.0, 1e9),
        retention_days=_days(block, usual.retention_days),
    )
    block.refuse_unknown()
    return ledger


def read_store(value: object, resolver: Resolver, report: Report) -> StoreConfig:
    """Read `store`; without one, limits count in the process."""
    if value is None:
        return StoreConfig()
    block = Block(value, "store", report)
    usual = StoreConfig()
    url = _url(block, resolver)
    if url is None:
        block.missing("url", "is required, such as redis://localhost:6379/0")
    elif not url.startswith(("redis://", "rediss://", "unix://")):
        block.error("url", "must begin with redis://, rediss:// or unix://")
    store = StoreConfig(
        url=url,
        prefix=block.text("prefix") or usual.prefix,
        timeout_s=_seconds(block, "timeout_s", usual.timeout_s, 0.01, 60.0) or usual.timeout_s,
    )
    block.refuse_unknown()
    return store


def read_keys(value: object, ledger: LedgerConfig, report: Report) -> KeysConfig:
    """Read `keys`. They are kept in the ledger's database, so there has to be one."""
    if value is None:
        return KeysConfig()
    block = Block(value, "keys", report)
    enabled = block.get("enabled")
    if enabled is not None and not isinstance(enabled, bool):
        block.error("enabled", f"must be true or false, found {shown(enabled)}")
    if enabled is True and ledger.url is None:
        block.error("enabled", "needs the ledger's database, and ledger is false")
    block.refuse_unknown()
    return KeysConfig(enabled is True)


def _url(block: Block, resolver: Resolver) -> str | None:
    """Read a URL, which may hold a password and so may be named like a key."""
    value = block.get("url")
    if value is None:
        return None
    return block.report.collect(lambda: resolver.secret(value, block.at("url")).reveal(), None)


def _seconds(block: Block, key: str, default: float | None, least: float, most: float) -> float | None:
    value = block.get(key)
    if value is None:
        return None if block.has(key) else default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        block.error(key, f"must be a number of seconds from {least:g} to {most:g}, found {shown(value)}")
        return default
    return float(value)


def _days(block: Block, default: int | None) -> int | None:
    value = block.get("retention_days")
    if value is None:
        return None if block.has("retention_days") else default
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 100_000:
        block.error("retention_days", f"must be a whole number of days above 0, found {shown(value)}")
        return default
    return value
