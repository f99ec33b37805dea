"""Write the price table that the package ships, from the data of the genai-prices package (MIT).

    pip install genai-prices      # needs Python 3.11
    python -m tools.prices

Kept is what a bill needs: which names a model has, and what a token of each kind costs, from which day and
at which hours. Prices that a later one has replaced by now are left out.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

TARGET = Path("jupyterhub_ai_gateway/usage/prices.json")

PROVIDERS = {
    "openai": "openai",
    "azure": "azure",
    "anthropic": "anthropic",
    "gemini": "google",
    "vertex_ai": "google",
    "bedrock": "aws",
    "mistral": "mistral",
    "cohere": "cohere",
    "groq": "groq",
    "togetherai": "together",
    "fireworks": "fireworks",
    "deepseek": "deepseek",
    "xai": "x-ai",
    "perplexity": "perplexity",
    "cerebras": "cerebras",
    "moonshot": "moonshotai",
}
"""Ours, and what the data calls them. OpenRouter is not there: it tells what each request costs."""

KINDS = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "input_audio",
    "output_audio_mtok": "output_audio",
    "input_image_mtok": "input_image",
}


def main() -> None:
    from genai_prices.data import providers

    known = {provider.id: provider for provider in providers}
    today = datetime.now(timezone.utc).date()
    table = {
        "source": "https://github.com/pydantic/genai-prices (MIT, Pydantic Services Inc.)",
        "version": importlib.metadata.version("genai-prices"),
        "date": today.isoformat(),
        "providers": {
            ours: {
                "models": [_model(model, today) for model in known[theirs].models],
                "others": [
                    name
                    for name, other in PROVIDERS.items()
                    if other in (known[theirs].fallback_model_providers or ()) and name != "vertex_ai"
                ],
            }
            for ours, theirs in PROVIDERS.items()
            if ours != "vertex_ai"
        },
    }
    table["providers"]["vertex_ai"] = {"models": [], "others": ["gemini", "anthropic"]}
    text = json.dumps(table, separators=(",", ":"), sort_keys=True)
    TARGET.write_text(text.replace('{"id"', '\n{"id"') + "\n", encoding="utf-8")
    print(f"{TARGET}: {sum(len(each['models']) for each in table['providers'].values())} models")


def _model(model: Any, today: Any) -> dict[str, Any]:
    prices = model.prices if isinstance(model.prices, list) else [None]
    found: list[dict[str, Any]] = []
    for each in prices:
        constraint = getattr(each, "constraint", None)
        entry = _price(model.prices if each is None else each.prices)
        start = getattr(constraint, "start_date", None)
        if start is not None and start > today:
            entry["from"] = start.isoformat()
        elif getattr(constraint, "start_time", None) is not None:
            entry["hours"] = [
                constraint.start_time.strftime("%H:%M"),
                constraint.end_time.strftime("%H:%M"),
            ]
        elif start is not None:
            found.clear()
        found.append(entry)
    return {"id": model.id, "match": _pattern(model.match), "prices": found}


def _price(price: Any) -> dict[str, Any]:
    values = {ours: getattr(price, theirs, None) for theirs, ours in KINDS.items()}
    entry: dict[str, Any] = {
        kind: str(getattr(value, "base", value)) for kind, value in values.items() if value is not None
    }
    request = getattr(price, "requests_kcount", None)
    if request is not None:
        entry["thousand_requests"] = str(getattr(request, "base", request))
    starts = sorted({tier.start for value in values.values() for tier in getattr(value, "tiers", ())})
    if starts:
        entry["above"] = [
            [start, {kind: str(_at(value, start)) for kind, value in values.items() if value is not None}]
            for start in starts
        ]
    return entry


def _at(value: Any, start: int) -> Any:
    price = getattr(value, "base", value)
    for tier in getattr(value, "tiers", ()):
        if tier.start <= start:
            price = tier.price
    return price


def _pattern(match: Any) -> str:
    """Write a matching rule as a regular expression for `re.match` on a lower-case name."""
    kind = type(match).__name__
    if kind == "ClauseOr":
        return "(?:" + "|".join(map(_pattern, match.or_)) + ")"
    if kind == "ClauseAnd":
        return "".join(f"(?={_pattern(each)})" for each in match.and_)
    if kind == "ClauseRegex":
        return f".*?(?:{match.regex})"
    forms = {
        "ClauseEquals": ("equals", "{}\\Z"),
        "ClauseStartsWith": ("starts_with", "{}"),
        "ClauseContains": ("contains", ".*{}"),
        "ClauseEndsWith": ("ends_with", ".*{}\\Z"),
    }
    name, form = forms[kind]
    return form.format(re.escape(getattr(match, name).lower()))


if __name__ == "__main__":
    main()
