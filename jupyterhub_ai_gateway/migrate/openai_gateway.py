"""LucienShui/openai-gateway: the JSON of its CONFIG, of both generations.

Source: github.com/LucienShui/openai-gateway, README.md and openai_gateway/config.py (read 2026-11).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .draft import (
    Draft,
    Entry,
    Migration,
    NotThisFormat,
    entries,
    kind_by_name,
    mapping,
    named_variables,
    unused,
)

DEFAULT = "default"
_OPENAI = "https://api.openai.com/v1"
_KNOWN = (
    *("type", "models", "model_list", "api_key", "base_url", "azure_endpoint", "is_azure", "alias"),
    *("api_version", "azure_deployment"),
)


def from_openai_gateway(document: object) -> Migration:
    """Turn CONFIG into ours. A model that several entries of a namespace have is balanced among them."""
    top = mapping(document, "CONFIG")
    if isinstance(top.get("config"), Mapping):  # the first generation; what stands beside counts too
        top = {**{key: value for key, value in top.items() if key != "config"}, **top["config"]}
    if not top or not all(isinstance(value, list) for value in top.values()):
        raise NotThisFormat("It must map namespaces to lists, each with models and an api_key.")
    draft = Draft(frozenset(named_variables(top)))
    found: dict[str, list[Entry]] = {}
    aliases: dict[str, str] = {}
    for namespace, items in top.items():
        for item in items:
            _item(draft, namespace, mapping(item, f"An entry of {namespace}"), found, aliases)
    for theirs, models in found.items():
        _endpoint(draft, theirs, models)
    for alias, target in aliases.items():
        if not draft.alias(alias, target) and not draft.alias(alias, target.removeprefix(f"{DEFAULT}/")):
            draft.note(f"{alias}: is an alias of {target}, which is not there; it was left out.")
    draft.note("API_KEYS are not carried: callers use their tokens of the Hub.")
    return draft.migration()


def _item(
    draft: Draft,
    namespace: str,
    item: Mapping[str, Any],
    found: dict[str, list[Entry]],
    aliases: dict[str, str],
) -> None:
    kind = str(item.get("type") or ("azure" if item.get("is_azure") else "openai")).lower()
    for key in unused(item, _KNOWN):
        draft.note(f"{namespace}: {key} has no counterpart here.")
    if kind == "alias":
        for alias, target in mapping(item.get("alias"), f"{namespace}: alias").items():
            aliases[_full(namespace, str(alias))] = str(target)
        return
    models = entries(item.get("models") or item.get("model_list"), f"{namespace}: models")
    for model in dict.fromkeys(map(str, models)):
        found.setdefault(_full(namespace, model), []).append(_model(draft, namespace, kind, model, item))


def _full(namespace: str, model: str) -> str:
    return model if namespace == DEFAULT else f"{namespace}/{model}"


def _model(draft: Draft, namespace: str, kind: str, model: str, item: Mapping[str, Any]) -> Entry:
    where = f"{namespace}: api_key"
    base = str(item.get("base_url") or "").rstrip("/")
    if kind == "azure":
        config: Entry = {
            "openai_api_type": "azure",
            "openai_api_key": draft.key(item.get("api_key"), f"{namespace} azure", where),
            "openai_api_base": str(item.get("azure_endpoint") or base).rstrip("/"),
        }
        if item.get("api_version"):
            deployment = str(item.get("azure_deployment") or model)
            config |= {"openai_api_version": item["api_version"], "openai_deployment_name": deployment}
        return {"provider": "openai", "name": model, "config": config}
    if base in ("", _OPENAI):
        key = draft.key(item.get("api_key"), "openai", where)
        return {"provider": "openai", "name": model, "config": {"openai_api_key": key}}
    config = {"api_base": base}
    if item.get("api_key"):
        config["api_key"] = draft.key(item["api_key"], namespace, where)
    return {"provider": "openai-compatible", "name": model, "config": config}


def _endpoint(draft: Draft, theirs: str, models: list[Entry]) -> None:
    kind = kind_by_name(theirs)
    entry: Entry = {"endpoint_type": kind}
    if len(models) == 1:
        entry["model"] = models[0]
    else:
        entry["deployments"] = [{"model": model} for model in models]
        draft.note(f"{theirs}: stood there {len(models)} times; requests are spread over all of them.")
    if "/" not in theirs:
        entry["aliases"] = [f"{DEFAULT}/{theirs}"]
    draft.add(theirs, entry)
    if kind == "llm/v1/chat":
        draft.note(
            "Every model became one of chats (or of embeddings, by its name); one that is called at "
            "/v1/completions needs an endpoint of the type llm/v1/completions."
        )
