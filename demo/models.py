"""Which models this machine can reach: OpenAI's by a key, those of a server that runs here, or an echo."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SERVERS = {
    "Ollama": "http://127.0.0.1:11434/v1",
    "vLLM": "http://127.0.0.1:8000/v1",
    "llama.cpp": "http://127.0.0.1:8080/v1",
    "LM Studio": "http://127.0.0.1:1234/v1",
}
"""Where servers that speak OpenAI's API usually listen."""
PATIENCE_S = 1.0


@dataclass(frozen=True)
class Choice:
    """What the demonstration talks to; `about` is for the person who started it."""

    about: str
    endpoints: list[dict[str, Any]]


def choose(environ: Mapping[str, str], servers: Mapping[str, str] = SERVERS) -> Choice:
    """Take the first that is there."""
    if environ.get("OPENAI_API_KEY"):
        return openai()
    for name, base in servers.items():
        models = listed(base)
        if models:
            return local(name, base, models[0])
    return echo()


def openai() -> Choice:
    config = {"openai_api_key": "$OPENAI_API_KEY"}
    return Choice(
        "OpenAI, with the key in OPENAI_API_KEY",
        [
            _endpoint("chat", "chat", "openai", "gpt-4o-mini", config),
            _endpoint("embeddings", "embeddings", "openai", "text-embedding-3-small", config),
        ],
    )


def local(name: str, base: str, model: str) -> Choice:
    config = {"api_base": base}
    about = f"{model} of {name}, which runs on this machine at {base}"
    return Choice(about, [_endpoint("chat", "chat", "openai-compatible", model, config)])


def echo() -> Choice:
    about = "an echo, which is no model: set OPENAI_API_KEY, or start Ollama, and try again"
    kinds = {"chat": "chat", "text": "completions", "embeddings": "embeddings"}
    return Choice(about, [_endpoint(name, kind, "echo", None, {}) for name, kind in kinds.items()])


def listed(base: str) -> list[str]:
    """Ask a server for its models; none when it does not answer as one would."""
    try:
        with urllib.request.urlopen(f"{base}/models", timeout=PATIENCE_S) as answer:
            document = json.load(answer)
        return [str(model["id"]) for model in document["data"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _endpoint(
    name: str, kind: str, provider: str, model: str | None, config: dict[str, str]
) -> dict[str, Any]:
    served = {"provider": provider, "config": config} | ({"name": model} if model else {})
    limit = {"renewal_period": "minute", "calls": 60}
    return {"name": name, "endpoint_type": f"llm/v1/{kind}", "model": served, "limit": limit}
