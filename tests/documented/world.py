"""What the documentation's examples talk to: every host under one address of this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cohere
import yaml
from fakes.anthropic import Claude
from fakes.strictly import as_arguments
from fakes.upstream import FakeUpstream, Raw, Reply, Request
from fakes.vendor import BASES
from matrix.vendors import CohereVendor, GeminiVendor
from served import KEY
from typing_extensions import override

CLOUDS = ("bedrock", "vertex_ai", "databricks")
"""Who asks for an identity of theirs before anything else."""
_BASES = {
    "openai": ("openai_api_base", "/v1"),
    "anthropic": ("anthropic_api_base", "/v1"),
    "azure": ("api_base", ""),
    "gemini": ("gemini_api_base", "/v1beta"),
    "cohere": ("cohere_api_base", "/v2"),
    "mistral": ("api_base", "/v1"),
}
SECRETS: Mapping[str, str] = dict.fromkeys(
    (
        "OPENAI_API_KEY",
        "VLLM_API_KEY",
        "CAMPUS_KEY",
        "ANTHROPIC_API_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AZURE_CLIENT_SECRET",
        "AZURE_OPENAI_API_KEY",
        "DATABRICKS_CLIENT_SECRET",
        "GEMINI_API_KEY",
        "COHERE_API_KEY",
        "MISTRAL_API_KEY",
    ),
    KEY,
)
"""The variables that the pages name."""


class World(FakeUpstream):
    """Hosts that speak OpenAI's API, Anthropic, Gemini, Cohere, and a ranker, each as strict as it is."""

    def __init__(self) -> None:
        super().__init__(key=KEY, bases=f"{BASES}|/v1beta/openai")
        self._gemini = GeminiVendor(self)
        self._cohere = CohereVendor(self)
        self.always(None)
        self._claude = Claude(KEY)

    @override
    def answer(self, request: Request) -> Reply | Raw:
        if request.path.startswith("/v1/messages"):
            return self._claude(request)
        if request.path.startswith("/v1beta/models/"):
            self._gemini.model = re.split("[/:]", request.path)[3]
            return self._gemini(request)
        if request.path == "/v2/chat":
            return self._cohere(request)
        if request.path == "/v2/embed":
            return _vectors(request)
        if request.path == "/rerank":
            scores = [(-index, len(text)) for index, text in enumerate(request.document["texts"])]
            return Reply.json([{"index": -number, "score": score / 100} for number, score in scores])
        if request.method == "GET" and request.path in ("/health", "/metrics"):
            return Reply(200, [("Content-Type", "text/plain")], b"")
        return super().answer(request)


def _vectors(request: Request) -> Reply:
    """Answer as Cohere does, with a vector for each text."""
    document = request.document
    wrong = as_arguments(document, cohere.ClientV2.embed, set())
    if wrong is not None or request.header("authorization") != f"Bearer {KEY}":
        return Reply.json({"id": "e-1", "message": wrong or "invalid api token"}, 400)
    found = {"float": [[0.5, -1.0] for _ in document["texts"]]}
    meta = {"billed_units": {"input_tokens": 4}}
    answer = {"id": "e", "embeddings": found, "texts": document["texts"], "meta": meta}
    return Reply.json({**answer, "response_type": "embeddings_by_type"})


def configuration(text: str, world: World, folder: Path) -> dict[str, Any]:
    """Read a block of YAML, with this machine in the place of its hosts and folders."""
    (folder / "srv" / "jupyterhub").mkdir(parents=True, exist_ok=True)
    key = folder / "key"
    key.write_text(KEY)
    for there in ("/srv/jupyterhub/openai.key", "/opt/tljh/config/openai.key"):
        text = text.replace(there, str(key))
    text = text.replace("/srv/", f"{folder}/srv/").replace("/var/lib/jupyterhub-ai-gateway", str(folder))
    text = text.replace("sqlite:////opt/tljh/state", f"sqlite:///{folder}")
    document: dict[str, Any] = yaml.safe_load(re.sub(rf"\$({'|'.join(SECRETS)})\b", KEY, text))
    document.setdefault("ledger", {"url": f"sqlite:///{folder}/ledger.sqlite"})
    for endpoint in document["endpoints"]:
        for place in [endpoint, *endpoint.get("deployments", [])]:
            if "model" in place:
                _move(place["model"], world)
    return document


def is_reachable(model: Mapping[str, Any]) -> bool:
    """Say whether this machine can stand in for the model's host."""
    config = model.get("config") or {}
    return model["provider"] not in CLOUDS and "azure_tenant_id" not in config


def _move(model: dict[str, Any], world: World) -> None:
    if model["provider"] == "echo" or not is_reachable(model):
        return
    name, path = _BASES.get(model["provider"], ("api_base", "/v1"))
    config = model.setdefault("config", {})
    if name == "api_base" and model["provider"] not in _BASES and "api_key" not in config:
        config["api_key"] = KEY
    config[name] = f"{world.url}{path}"
    if model["provider"] == "openai":
        config.setdefault("openai_api_key", KEY)
