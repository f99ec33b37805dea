"""MLflow's configuration. The gateway reads it as it is; this takes keys out, and writes it in new words.

Source: mlflow/gateway/config.py of 2.5.0 to 3.18.0 (read 2026-11).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .draft import Draft, Entry, Migration, NotThisFormat, entries, mapping, named_variables, unused

_TYPE_KEYS = ("endpoint_type", "route_type", "type", "task_type")
_SECRETS = (
    *("api_key", "token", "client_secret", "aws_secret_access_key", "aws_session_token"),
    *("aws_access_key_id", "aws_bearer_token", "vertex_credentials"),
)


def from_mlflow(document: object) -> Migration:
    """Turn a configuration of MLflow's AI Gateway or Deployments Server, of any version, into ours."""
    top = mapping(document, "MLflow's configuration")
    found = [*entries(top.get("endpoints"), "endpoints"), *entries(top.get("routes"), "routes")]
    if not found:
        raise NotThisFormat("There are neither endpoints nor routes in it, as MLflow's configuration has.")
    draft = Draft(frozenset(named_variables(top)))
    for entry in found:
        _entry(draft, mapping(entry, "An endpoint"))
    for key in unused(top, ("endpoints", "routes")):
        draft.note(f"{key}: is no key of MLflow's that is known here, and was left out.")
    return draft.migration()


def _entry(draft: Draft, theirs: Mapping[str, Any]) -> None:
    name = str(theirs.get("name", "")).strip()
    kind = next((theirs[key] for key in _TYPE_KEYS if theirs.get(key)), "")
    if "destinations" in theirs:
        draft.splits.append({"name": name, "task_type": kind, "destinations": theirs["destinations"]})
        return
    model = mapping(theirs.get("model"), f"{name}: model")
    provider = str(model.get("provider", ""))
    config = {
        key: _setting(draft, key, value, provider, name)
        for key, value in mapping(model.get("config"), f"{name}: model.config").items()
    }
    ours: Entry = {"endpoint_type": kind, "model": {"provider": provider}}
    if model.get("name") is not None:
        ours["model"]["name"] = model["name"]
    if config:
        ours["model"]["config"] = config
    if theirs.get("limit") is not None:
        ours["limit"] = _limit(draft, mapping(theirs["limit"], f"{name}: limit"), name)
    draft.add(name, ours)
    for key in unused(theirs, ("name", "model", "limit", *_TYPE_KEYS)):
        draft.note(f"{name}: {key} is no key of MLflow's that is known here, and was left out.")


def _setting(draft: Draft, key: str, value: Any, provider: str, name: str) -> Any:
    if isinstance(value, Mapping):
        return {inner: _setting(draft, inner, each, provider, name) for inner, each in value.items()}
    if isinstance(value, str) and any(key.endswith(secret) for secret in _SECRETS):
        hint = provider if key.endswith("api_key") else f"{provider} {key}"
        return draft.key(value, hint, f"{name}: model.config.{key}")
    return value


def _limit(draft: Draft, limit: Mapping[str, Any], name: str) -> Entry:
    """MLflow counts by the caller's address, which is nobody behind a Hub's proxy: here it is by user."""
    found = {key: limit[key] for key in ("calls", "renewal_period", "key") if limit.get(key) is not None}
    if "key" not in found:
        draft.note(f"{name}: the limit counts for each user of the Hub; in MLflow it was by address.")
    return found
