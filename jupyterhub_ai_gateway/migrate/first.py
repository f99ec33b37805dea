"""FIRST's fixtures: endpoints, clusters and federated endpoints, as Django writes them.

Source: github.com/auroraGPT-ANL/inference-gateway, fixtures/, resource_server_async/ (read 2026-11).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .draft import (
    Draft,
    Entry,
    Migration,
    NotThisFormat,
    entries,
    kind_by_name,
    mapping,
    named_variables,
    scope_name,
    slug,
    unused,
)

_PATHS = ("/chat/completions", "/completions", "/embeddings", "/responses", "/messages")
_KNOWN = (
    *("endpoint_slug", "slug", "cluster", "framework", "model", "endpoint_adapter", "config"),
    *("allowed_globus_groups", "allowed_domains", "tpm_model", "tpm_user"),
    *("api_port", "endpoint_uuid", "function_uuid", "batch_endpoint_uuid", "batch_function_uuid"),
)


def from_first(document: object) -> Migration:
    """Turn fixtures into ours: models by their full name, each with the places that can be called directly.

    Whoever was restricted to Globus groups or domains needs a scope here, so that nothing opens by itself.
    """
    records = [mapping(each, "A record") for each in entries(document, "The fixtures")]
    if not any("fields" in record for record in records):
        raise NotThisFormat("It must be a list of Django's records, each with a model and fields.")
    draft = Draft(frozenset(named_variables(records)))
    found: dict[str, list[tuple[Mapping[str, Any], Entry]]] = {}
    federated: list[Mapping[str, Any]] = []
    clusters = _clusters(records)
    for record in records:
        fields = mapping(record.get("fields"), "fields")
        kind = str(record.get("model", "")).lower().rpartition(".")[2]
        if kind == "endpoint":
            model = _model(draft, fields)
            if model is not None:
                found.setdefault(str(fields.get("model")), []).append((fields, model))
        elif kind == "federatedendpoint":
            federated.append(fields)
        elif kind != "cluster":
            draft.note(f"Records of {record.get('model')} are not carried.")
    for name, places in found.items():
        _endpoint(draft, name, places, clusters)
    for fields in federated:
        _federated(draft, fields)
    return draft.migration()


class _Cluster(NamedTuple):
    """What counts for all models of a cluster: where it tells their state, and whom it was for."""

    status_url: str | None = None
    allowed: tuple[str, ...] = ()


def _clusters(records: list[Mapping[str, Any]]) -> dict[str, _Cluster]:
    found: dict[str, _Cluster] = {}
    for record in records:
        fields = mapping(record.get("fields"), "fields")
        if str(record.get("model", "")).lower().endswith(".cluster"):
            url = mapping(fields.get("config"), "The config of a cluster").get("status_url")
            found[str(fields.get("cluster_name"))] = _Cluster(url and str(url), _allowed(fields))
    return found


def _allowed(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the groups and domains to which a place, or a cluster, was restricted."""
    keys = ("allowed_globus_groups", "allowed_domains")
    return tuple(str(each) for key in keys for each in _listed(fields.get(key)))


def _place(fields: Mapping[str, Any]) -> str:
    return f"{fields.get('cluster')}-{fields.get('framework')}"


def _model(draft: Draft, fields: Mapping[str, Any]) -> Entry | None:
    """Return the model of a place that has an address; None for one that only Globus Compute reaches."""
    where = f"{fields.get('model')} at {_place(fields)}"
    config = mapping(fields.get("config"), f"{where}: config")
    url = config.get("api_url")
    if not url:
        port = config.get("api_port") or fields.get("api_port") or "PORT"
        draft.note(
            f"{where}: left out: it is reached by Globus Compute. Where its server has an address, add an "
            f"endpoint of the provider vllm with api_base http://HOST:{port}/v1."
        )
        return None
    ours: Entry = {"api_base": _base(str(url))}
    if config.get("api_key_env_name"):
        ours["api_key"] = draft.variable(str(config["api_key_env_name"]))
    for key in unused(fields, _KNOWN):
        draft.note(f"{where}: {key} has no counterpart here.")
    provider = "vllm" if str(fields.get("framework")).lower() == "vllm" else "openai-compatible"
    return {"provider": provider, "name": fields.get("model"), "config": ours}


def _base(url: str) -> str:
    """Return the address without the path of an operation, which older fixtures have in it."""
    url = url.rstrip("/")
    for path in _PATHS:
        url = url.removesuffix(path)
    return url


def _deployment(fields: Mapping[str, Any], model: Entry, clusters: Mapping[str, _Cluster]) -> Entry:
    """Say where a model runs: in the words of FIRST's paths, and who tells whether it does."""
    cluster, framework = str(fields.get("cluster")), str(fields.get("framework"))
    found: Entry = {"cluster": slug(cluster), "framework": slug(framework), "model": model}
    url = clusters.get(cluster, _Cluster()).status_url
    if url is not None:
        found["probe"] = {"kind": "first", "url": url}
    return found


def _endpoint(
    draft: Draft,
    name: str,
    places: list[tuple[Mapping[str, Any], Entry]],
    clusters: Mapping[str, _Cluster],
) -> None:
    first = places[0][0]
    entry: Entry = {"endpoint_type": kind_by_name(name)}
    deployments = [_deployment(fields, model, clusters) for fields, model in places]
    if len(deployments) == 1:
        entry |= deployments[0]
    else:
        names = [slug(_place(fields)) for fields, _ in places]
        entry["deployments"] = [{"name": own, **each} for own, each in zip(names, deployments, strict=True)]
    timeouts = [mapping(fields.get("config"), "config").get("api_request_timeout") for fields, _ in places]
    longest = max((each for each in timeouts if isinstance(each, (int, float))), default=None)
    if longest is not None:
        entry["timeouts"] = {"first_byte_s": longest, "idle_s": longest}
    _restrict(draft, name, entry, [fields for fields, _ in places], clusters)
    ours = draft.add(name, entry)
    _tokens(draft, ours["name"], first)


def _restrict(
    draft: Draft,
    name: str,
    entry: Entry,
    places: list[Mapping[str, Any]],
    clusters: Mapping[str, _Cluster],
) -> None:
    """Put a scope before a model that not everybody may use."""
    allowed = {each for fields in places for each in _allowed(fields)}
    for fields in places:
        allowed.update(clusters.get(str(fields.get("cluster")), _Cluster()).allowed)
    if allowed:
        entry["scope"], entry["hidden"] = scope_name(name), True
        draft.note(
            f"{name}: was for {', '.join(sorted(allowed))} alone. It needs the scope "
            f"custom:SERVICE:{entry['scope']} now: grant that to a group of the Hub."
        )


def _listed(value: object) -> list[Any]:
    if isinstance(value, str):
        return [each.strip() for each in value.split(",") if each.strip()]
    return list(value) if isinstance(value, list) else []


def _tokens(draft: Draft, name: str, fields: Mapping[str, Any]) -> None:
    """Turn limits of tokens per minute into policies; 0 is none."""
    for key, count in (("tpm_model", "all"), ("tpm_user", "user")):
        limit = fields.get(key)
        if isinstance(limit, int) and limit > 0:
            policy = {"name": f"{name} {key}", "resource": "tokens", "limit": limit, "window": "minute"}
            draft.policies.append({**policy, "count": count, "endpoints": [name]})


def _federated(draft: Draft, fields: Mapping[str, Any]) -> None:
    """Say whether the places of a federated model are there; the model's endpoint has them already."""
    target = str(fields.get("target_model_name"))
    if target not in draft.names:
        draft.note(
            f"{target}: the federated model was left out, as none of its places can be called directly."
        )
        return
    if fields.get("description"):
        draft.endpoints[draft.names[target]]["description"] = str(fields["description"])
