"""May this caller, now? An endpoint's own bucket, and the operator's policies.

`bucket`, `base`, `memory`: MLflow's `limit`, a bucket per user and endpoint whatever path a request took.
`rules`, `window`: which policies count for a request, and for how long. `counters`, `memory_counters`: what
has been used and is reserved. `estimate`: how large a request will be. `gate` is what the gateway asks,
`admission` what it gets, and settles.
"""

from __future__ import annotations

from .admission import Admission, Estimate
from .base import Store, StoreUnavailable
from .bucket import Rule, Verdict
from .counters import CounterStore, Reserved, Take
from .estimate import Estimator
from .gate import BUDGET_USED_UP, Demand, Gate
from .memory import MemoryStore
from .memory_counters import MemoryCounters
from .rules import Override, QuotaRule, RuleBook

__all__ = [
    "BUDGET_USED_UP",
    "Admission",
    "CounterStore",
    "Demand",
    "Estimate",
    "Estimator",
    "Gate",
    "MemoryCounters",
    "MemoryStore",
    "Override",
    "QuotaRule",
    "Reserved",
    "Rule",
    "RuleBook",
    "Store",
    "StoreUnavailable",
    "Take",
    "Verdict",
]
