"""The last step of every migration: our own rules, and nothing in the result that they refuse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from typing_extensions import override

from ..config import ProviderSchema, parse
from ..errors import ConfigFault
from .draft import Migration

_STAND_IN = "https://stand-in.invalid"


class _AnyVariable(Mapping[str, str]):
    """An environment in which everything is set to what could be an address and could be a key."""

    @override
    def __getitem__(self, name: str) -> str:
        return _STAND_IN

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(())

    @override
    def __len__(self) -> int:
        return 0


def checked(migration: Migration, providers: Mapping[str, ProviderSchema]) -> Migration:
    """Return what our configuration takes; what it does not take is left out, with a note that says why.

    Environment variables and files need not be there: whoever starts the gateway will be told.
    """
    document = dict(migration.document)
    notes = list(migration.notes)
    kept = []
    for entry in document["endpoints"]:
        problem = _problem({"endpoints": [_alone(entry)]}, providers)
        if problem is None:
            kept.append(dict(entry))
        else:
            notes.append(f"{entry['name']}: left out: {problem}.")
    names = {entry["name"]: entry["endpoint_type"] for entry in kept}
    for entry in kept:
        _keep_fallbacks(entry, names, notes)
    _keep_aliases(kept, notes)
    document["endpoints"] = kept
    if "policies" in document and kept:
        document["policies"] = [each for each in document["policies"] if _is_of_use(each, names)]
    if "routes" in document:
        document["routes"] = _splits(document, providers, notes)
    document = {key: value for key, value in document.items() if value or key == "endpoints"}
    problem = _problem(document, providers) if kept else None
    if problem is not None:
        notes.append(f"The result still has to be put right: {problem}.")
    variables = tuple(name for name in migration.variables if f"${name}" in str(document))
    return replace(migration, document=document, notes=tuple(notes), variables=variables)


def _alone(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != "fallbacks"}


def _problem(document: Mapping[str, Any], providers: Mapping[str, ProviderSchema]) -> str | None:
    """Return what is wrong with a document; None when nothing is."""
    documents = frozenset(
        setting.name for each in providers.values() for setting in each.settings if setting.kind == "json"
    )
    try:
        parse(_as_if_set(document, documents), providers, _AnyVariable())
    except ConfigFault as fault:
        return str(fault).replace("\n", "; ").replace("endpoints[0].", "")
    return None


def _as_if_set(value: Any, documents: frozenset[str]) -> Any:
    """Return a document whose files and variables need not be there.

    `documents` are settings that are whole JSON documents, for which nothing can stand in.
    """
    if isinstance(value, Mapping):
        if set(value) == {"file"}:
            return "$FILE"
        kept = {key: each for key, each in value.items() if key not in documents or not _is_elsewhere(each)}
        return {key: _as_if_set(each, documents) for key, each in kept.items()}
    return [_as_if_set(each, documents) for each in value] if isinstance(value, list) else value


def _is_elsewhere(value: Any) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, str) and value.startswith("$"))


def _keep_fallbacks(entry: dict[str, Any], names: Mapping[str, str], notes: list[str]) -> None:
    wanted = entry.pop("fallbacks", [])
    kept = [name for name in wanted if names.get(name) == entry["endpoint_type"] and name != entry["name"]]
    for name in wanted:
        if name not in kept:
            notes.append(
                f"{entry['name']}: cannot fall back to {name}, which is no other endpoint like it."
            )
    if kept:
        entry["fallbacks"] = list(dict.fromkeys(kept))


def _keep_aliases(kept: list[dict[str, Any]], notes: list[str]) -> None:
    taken = {entry["name"] for entry in kept}
    for entry in kept:
        aliases = []
        for alias in entry.pop("aliases", []):
            if alias in taken:
                notes.append(f"{entry['name']}: the alias {alias} was left out, as the name is taken.")
            else:
                taken.add(alias)
                aliases.append(alias)
        if aliases:
            entry["aliases"] = aliases


def _is_of_use(policy: Mapping[str, Any], names: Mapping[str, str]) -> bool:
    endpoints = policy.get("endpoints")
    return endpoints is None or any(name in names for name in endpoints)


def _splits(
    document: Mapping[str, Any], providers: Mapping[str, ProviderSchema], notes: list[str]
) -> list[Any]:
    found = []
    for split in document["routes"]:
        problem = _problem({"endpoints": document["endpoints"], "routes": [split]}, providers)
        if problem is None:
            found.append(split)
        else:
            notes.append(f"{split.get('name', 'a route')}: left out: {problem}.")
    return found
