"""When a deployment counts as sick, or as slow, by its traffic; and how long a request may take."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from .report import Block
from .words import shown

Schema = dict[str, object]
Rows = list[tuple[str, str, str]]
MOST_S = 86_400.0


@dataclass(frozen=True, slots=True)
class HealthConfig:
    """By which rules a deployment rests.

    Of the requests of the last `window_s`, once there are `min_requests`, fewer than `max_error_rate` may
    fail, or it rests for `rest_s`, each time in a row twice as long, up to `longest_rest_s`. One whose
    answers take more than `slow_factor` times as long to begin as is usual is asked after the others of its
    tier. None for no such rule.
    """

    window_s: float = 60.0
    min_requests: int = 10
    max_error_rate: float | None = 0.5
    rest_s: float = 10.0
    longest_rest_s: float = 300.0
    slow_factor: float | None = 3.0


def read_health(block: Block, usual: HealthConfig) -> HealthConfig:
    """Read `health`; what it does not say is as usual."""
    value = block.get("health")
    if value is None:
        return usual
    inner = Block(value, block.at("health"), block.report)
    found = replace(
        usual,
        window_s=_number(inner, "window_s", usual.window_s, 1.0, 3600.0) or usual.window_s,
        min_requests=_whole(inner, "min_requests", usual.min_requests),
        max_error_rate=_number(inner, "max_error_rate", usual.max_error_rate, 0.01, 1.0, may_be_off=True),
        rest_s=_number(inner, "rest_s", usual.rest_s, 1.0, MOST_S) or usual.rest_s,
        longest_rest_s=_number(inner, "longest_rest_s", usual.longest_rest_s, 1.0, MOST_S)
        or usual.longest_rest_s,
        slow_factor=_number(inner, "slow_factor", usual.slow_factor, 1.1, 1000.0, may_be_off=True),
    )
    if found.longest_rest_s < found.rest_s:
        key = "longest_rest_s" if "longest_rest_s" in inner else "rest_s"
        inner.error(key, "makes longest_rest_s shorter than rest_s")
    inner.refuse_unknown()
    return found


def read_deadline(block: Block, usual: float | None) -> float | None:
    """Read `deadline_s`; null is for none."""
    return _number(block, "deadline_s", usual, 0.1, MOST_S, may_be_off=True)


def _number(
    block: Block, key: str, usual: float | None, least: float, most: float, *, may_be_off: bool = False
) -> float | None:
    value = block.get(key)
    if value is None:
        return None if may_be_off and block.has(key) else usual
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and isinstance(value, (int, float)) and math.isfinite(value) and least <= value <= most:
        return float(value)
    off = ", or null for no such rule" if may_be_off else ""
    block.error(key, f"must be a number from {least:g} to {most:g}{off}, found {shown(value)}")
    return usual


def _whole(block: Block, key: str, usual: int) -> int:
    value = block.get(key)
    if value is None:
        return usual
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 100_000:
        return value
    block.error(key, f"must be a whole number from 1 to 100000, found {shown(value)}")
    return usual


def health_schema() -> Schema:
    """Return the schema of `health`."""

    def number(least: float, most: float, *, may_be_off: bool = False) -> Schema:
        off = "; null for no such rule" if may_be_off else ""
        return {
            "type": ["number", "null"],
            "minimum": least,
            "maximum": most,
            "description": f"From {least:g} to {most:g}{off}.",
        }

    return {
        "type": ["object", "null"],
        "properties": {
            "window_s": number(1, 3600),
            "min_requests": {"type": ["integer", "null"], "minimum": 1, "maximum": 100_000},
            "max_error_rate": number(0.01, 1, may_be_off=True),
            "rest_s": number(1, MOST_S),
            "longest_rest_s": number(1, MOST_S),
            "slow_factor": number(1.1, 1000, may_be_off=True),
        },
        "additionalProperties": False,
    }


def deadline_schema() -> Schema:
    """Return the schema of `deadline_s`."""
    return {
        "type": ["number", "null"],
        "minimum": 0.1,
        "maximum": MOST_S,
        "description": "How long a request may take as a whole, in seconds.",
    }


HEALTH = """An endpoint's `health`, or that at the top of the file for all, says when one of its deployments
is sick or slow. [How a deployment is chosen](../explanation/routing.md#who-rests) says what follows.

```yaml
endpoints:
  - name: llama
    endpoint_type: llm/v1/chat
    deadline_s: 120
    health: {max_error_rate: 0.2, min_requests: 20}
    model: {provider: vllm, name: llama, config: {api_base: "http://gpu1:8000/v1"}}
```

"""


def health_rows() -> Rows:
    """Return the keys of `health`."""
    usual = HealthConfig()
    return [
        ("window_s", f"{usual.window_s:g}", "The requests of how many seconds count."),
        ("min_requests", f"{usual.min_requests}", "How many there must be before a rate counts."),
        (
            "max_error_rate",
            f"{usual.max_error_rate:g}",
            "Which part of them may fail, from 0.01 to 1, before the deployment rests for long; `null` for "
            "any.",
        ),
        (
            "rest_s",
            f"{usual.rest_s:g}",
            "How long it rests then, in seconds; each time in a row twice as long.",
        ),
        ("longest_rest_s", f"{usual.longest_rest_s:g}", "The longest of these rests, in seconds."),
        (
            "slow_factor",
            f"{usual.slow_factor:g}",
            "How many times as long as usual, or as at the others of its tier, answers may take to begin "
            "before the deployment is asked after those others; `null` for any.",
        ),
    ]
