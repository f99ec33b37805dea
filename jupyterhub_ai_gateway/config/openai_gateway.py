"""The configuration of LucienShui's openai-gateway, of both generations, as a document of our own.

`{"config": {NAMESPACE: [ENTRY]}}` or `{NAMESPACE: [ENTRY]}`, or both beside each other. An entry has
`models`, a key and an address; several entries with the same model are several deployments of it.

Source: LucienShui/openai-gateway, README and `openai_gateway/config.py` (1.2 to 1.4, read 2026-11).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import ConfigFault
from .model import GatewayConfig, KeysConfig, ProviderSchema
from .parse import parse_aliased
from .secrets import Secret
from .words import kind_of, shown

DEFAULT = "default"
TYPES = ("openai", "azure", "alias")
_KNOWN = frozenset(
    {
        *("type", "models", "model_list", "api_key", "base_url", "azure_endpoint", "api_version"),
        *("is_azure", "azure_deployment", "alias", "endpoint_type"),
    }
)
_PLACE = re.compile(r"endpoints\[(\d+)\](?:\.deployments\[(\d+)\])?")
_SETTINGS = {
    ".model.config.openai_api_key": ".api_key",
    ".model.config.api_key": ".api_key",
    ".model.config.openai_api_base": ".base_url",
    ".model.config.api_base": ".base_url",
    ".model.config.openai_api_version": ".api_version",
    ".model.name": ".models",
    ".name": ".models",
    ".aliases": ".models",
}
"""What our parser calls a setting, and what it is in their file."""


@dataclass(slots=True)
class _Model:
    """A model of a namespace, and where its entries stand."""

    name: str
    endpoint_type: str
    aliases: list[str]
    deployments: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


def read_openai_gateway(
    text: str, api_keys: str, providers: Mapping[str, ProviderSchema], environ: Mapping[str, str]
) -> GatewayConfig:
    """Read `CONFIG` and `API_KEYS`. `ConfigFault` names a path of theirs, such as `default[0].api_key`."""
    reading = _Reading()
    models = reading.models(_document(text))
    if reading.problems:
        (path, first), *others = reading.problems
        raise ConfigFault(path, "\n".join([first, *(f"{at}: {problem}" for at, problem in others)]))
    document = {"endpoints": [_endpoint(model) for model in models], "ledger": False}
    try:
        config = parse_aliased(document, providers, environ)
    except ConfigFault as fault:
        path, problem = _their_words(fault.path, models), _their_words(fault.problem, models)
        raise ConfigFault(path, problem, files=fault.files) from None
    keys = KeysConfig(fixed=read_api_keys(api_keys))
    warnings = (*reading.warnings, *(_their_words(each, models) for each in config.warnings))
    return replace(config, keys=keys, warnings=warnings)


def read_api_keys(text: str) -> tuple[tuple[str, Secret], ...]:
    """Read `API_KEYS`: keys with commas between them. The callers are `key:api-key-1` and so on."""
    keys = [key.strip() for key in re.split(r"[,\s]+", text) if key.strip()]
    if not keys:
        problem = "is empty, so nobody could come in: give the keys that callers may have, as key1,key2"
        raise ConfigFault("API_KEYS", problem)
    return tuple((f"api-key-{number}", Secret(key)) for number, key in enumerate(dict.fromkeys(keys), 1))


def text_of(value: str, what: str) -> str:
    """Return a variable's text, or what is in the file that it names."""
    if not names_file(value):
        return value
    try:
        return Path(value.strip()).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigFault(what, f"its file cannot be read: {type(error).__name__}") from None


def names_file(value: str) -> bool:
    """Say whether a variable's text is the path of a file."""
    path = value.strip()
    is_path = bool(path) and path[0] not in "{[" and "\n" not in path and len(path) < 1000
    try:
        return is_path and Path(path).is_file()
    except (OSError, ValueError):
        return False


def _document(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigFault("CONFIG", f"is not valid JSON: line {error.lineno} is wrong") from None
    except (ValueError, RecursionError):
        raise ConfigFault("CONFIG", "is not valid JSON") from None
    if not isinstance(found, Mapping):
        raise ConfigFault("CONFIG", f"must be a mapping of namespaces, found {kind_of(found)}")
    return found


class _Reading:
    """Reads the namespaces; `problems` are what is wrong, each with its path."""

    def __init__(self) -> None:
        self.problems: list[tuple[str, str]] = []
        self.warnings: list[str] = []
        self._models: dict[tuple[str, str], _Model] = {}
        self._aliases: list[tuple[str, str, str, str]] = []

    def models(self, document: Mapping[str, Any]) -> list[_Model]:
        """Read all namespaces, those beside `config` as well as those in it."""
        inner = document.get("config")
        if isinstance(inner, Mapping):
            for name, entries in inner.items():
                self._namespace(name, entries, f"config.{name}")
        for name, entries in document.items():
            if entries is not inner or not isinstance(inner, Mapping):
                self._namespace(name, entries, name)
        for alias in self._aliases:
            self._alias(*alias)
        if not self._models and not self.problems:
            self.problems.append(("CONFIG", "has no model"))
        return list(self._models.values())

    def _namespace(self, name: str, entries: object, path: str) -> None:
        if isinstance(entries, str) or not isinstance(entries, Sequence):
            self.problems.append((path, f"must be a list of entries, found {kind_of(entries)}"))
            return
        for index, entry in enumerate(entries):
            where = f"{path}[{index}]"
            if isinstance(entry, Mapping):
                self._entry(name, entry, where)
            else:
                self.problems.append((where, f"must be a mapping, found {kind_of(entry)}"))

    def _entry(self, namespace: str, entry: Mapping[str, Any], path: str) -> None:
        self._warn(entry, path)
        is_azure = entry.get("is_azure") is True or entry.get("type") == "azure"
        kind = entry.get("type") or "openai"
        if kind not in TYPES:
            self.problems.append((f"{path}.type", f"must be openai, azure or alias, found {shown(kind)}"))
        elif kind == "alias":
            self._entry_of_aliases(namespace, entry, path)
        else:
            for name in self._names(entry, path):
                model = self._model(namespace, name, entry)
                model.deployments.append({"model": _provider(entry, name, is_azure=is_azure)})
                model.paths.append(path)

    def _warn(self, entry: Mapping[str, Any], path: str) -> None:
        if not _KNOWN.issuperset(entry):
            self.warnings.append(f"{path}: has a key that means nothing here, and is ignored")
        if entry.get("azure_deployment"):
            text = "is ignored, as openai-gateway did: the deployment is called like the model"
            self.warnings.append(f"{path}.azure_deployment: {text}")

    def _names(self, entry: Mapping[str, Any], path: str) -> list[str]:
        names = entry.get("models", entry.get("model_list"))
        if not isinstance(names, list) or not names or not all(isinstance(n, str) and n for n in names):
            self.problems.append((f"{path}.models", f"must be a list of names, found {kind_of(names)}"))
            return []
        return list(dict.fromkeys(names))

    def _model(self, namespace: str, name: str, entry: Mapping[str, Any]) -> _Model:
        model = self._models.get((namespace, name))
        if model is None:
            is_default = namespace == DEFAULT
            model = _Model(
                name if is_default else f"{namespace}/{name}",
                str(entry.get("endpoint_type") or guessed_type(name)),
                [f"{DEFAULT}/{name}"] if is_default else [],
            )
            self._models[namespace, name] = model
        return model

    def _entry_of_aliases(self, namespace: str, entry: Mapping[str, Any], path: str) -> None:
        names = entry.get("alias")
        if not isinstance(names, Mapping):
            self.problems.append((f"{path}.alias", f"must be a mapping, found {kind_of(names)}"))
            return
        for short, target in names.items():
            self._aliases.append((namespace, str(short), str(target), f"{path}.alias"))

    def _alias(self, namespace: str, short: str, target: str, path: str) -> None:
        space, _, rest = target.partition("/")
        found = self._models.get((DEFAULT, target)) or self._models.get((space, rest))
        if found is None:
            self.problems.append((path, f"{shown(target)} is no model of this configuration"))
            return
        found.aliases.append(short if namespace == DEFAULT else f"{namespace}/{short}")


def _provider(entry: Mapping[str, Any], model: str, *, is_azure: bool) -> dict[str, Any]:
    key, base = entry.get("api_key"), entry.get("base_url")
    if is_azure:
        version = entry.get("api_version")
        config = {
            "openai_api_type": "azure",
            "openai_api_key": key,
            "openai_api_base": entry.get("azure_endpoint") or base,
            "openai_api_version": version,
            "openai_deployment_name": model if version else None,
        }
        return {"provider": "openai", "name": model, "config": config}
    if base is None or "//api.openai.com" in str(base):
        return {
            "provider": "openai",
            "name": model,
            "config": {"openai_api_key": key, "openai_api_base": base},
        }
    return {"provider": "openai-compatible", "name": model, "config": {"api_key": key, "api_base": base}}


def guessed_type(model: str) -> str:
    """Guess by a model's name what it does; an entry's `endpoint_type` says it for sure."""
    name = model.rpartition("/")[2].lower()
    if "embed" in name or name.startswith(("bge-", "e5-", "gte-")):
        return "llm/v1/embeddings"
    is_old = name in ("davinci-002", "babbage-002") or name.startswith("gpt-3.5-turbo-instruct")
    return "llm/v1/completions" if is_old else "llm/v1/chat"


def _endpoint(model: _Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "endpoint_type": model.endpoint_type,
        "aliases": model.aliases or None,
        "deployments": model.deployments,
    }


def _their_words(text: str, models: Sequence[_Model]) -> str:
    """Say in the words of their file what is said in those of ours."""
    found = _PLACE.sub(lambda match: models[int(match[1])].paths[int(match[2] or 0)], text)
    for ours, theirs in _SETTINGS.items():
        found = found.replace(ours, theirs)
    return found
