"""May this caller, now? One bucket per user and endpoint, whatever path the request took.

`bucket` is the rule, `memory` where buckets live by default, `gate` what the gateway asks.
"""

from __future__ import annotations

from .base import Store
from .bucket import Rule, Verdict
from .gate import Gate
from .headers import anthropic_headers, rate_limit_headers
from .memory import MemoryStore

__all__ = ["Gate", "MemoryStore", "Rule", "Store", "Verdict", "anthropic_headers", "rate_limit_headers"]
