"""A configuration of ours while it is made of another one: endpoints, keys by reference, and notes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Entry = dict[str, Any]

CHAT, COMPLETIONS, EMBEDDINGS = "llm/v1/chat", "llm/v1/completions", "llm/v1/embeddings"
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_.\-]+")
_NOT_IN_A_VARIABLE = re.compile(r"[^A-Z0-9]+")
_NOT_IN_A_SCOPE = re.compile(r"[^a-z0-9]+")
_NAMED = re.compile(r"(?:\$\{?|os\.environ/)([A-Za-z_][A-Za-z0-9_]*)")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PATH_STARTS = ("/", "./", "../", "~/")


class NotThisFormat(Exception):  # noqa: N818 - told to the operator as it is
    """The document is not of the system that it is said to come from."""


@dataclass(frozen=True, slots=True)
class Migration:
    """What became of a configuration.

    `notes` say what was not carried, or needs a look; `variables` are the environment variables that the
    new configuration reads.
    """

    document: Mapping[str, Any]
    notes: tuple[str, ...]
    variables: tuple[str, ...]


@dataclass(slots=True)
class Draft:
    """Collects endpoints under names that URLs can have.

    `theirs` are the environment variables that the other configuration reads; keys of its own get others.
    """

    theirs: frozenset[str] = frozenset()
    endpoints: dict[str, Entry] = field(default_factory=dict)
    top: Entry = field(default_factory=dict)
    policies: list[Entry] = field(default_factory=list)
    splits: list[Entry] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    """The name that each of the other system's names has here."""
    _keys: dict[str, str] = field(default_factory=dict, repr=False)
    """Variables by the key that stood in the file. Nothing writes these keys."""
    _variables: dict[str, None] = field(default_factory=dict)

    def note(self, text: str) -> None:
        """Say once what an operator should know."""
        if text not in self.notes:
            self.notes.append(text)

    def add(self, theirs: str, entry: Entry) -> Entry:
        """Add an endpoint. The other system's name becomes an alias where URLs cannot have it."""
        name = self._free(slug(theirs))
        aliases = [*([theirs] if name != theirs else []), *entry.pop("aliases", [])]
        self.names[theirs] = name
        found = {"name": name, **entry, **({"aliases": aliases} if aliases else {})}
        self.endpoints[name] = found
        return found

    def alias(self, alias: str, theirs: str) -> bool:
        """Give an endpoint another name; False when there is no such endpoint."""
        name = self.names.get(theirs)
        if name is None:
            return False
        entry = self.endpoints[name]
        if alias != name and alias not in entry.get("aliases", ()):
            entry.setdefault("aliases", []).append(alias)
        return True

    def key(self, value: object, hint: str, where: str) -> Any:
        """Return where a key is to be found. One that stands in the file itself gets a variable."""
        if value is None:
            return self.variable(variable_name(hint, "API_KEY"))
        if isinstance(value, Mapping):
            return dict(value)
        text = str(value).strip()
        if text.startswith("$"):
            return self.variable(text.strip("${}"))
        if text.startswith(_PATH_STARTS):
            return {"file": text}
        if text not in self._keys:
            self._keys[text] = self._unused(variable_name(hint, "KEY"))
        name = self._keys[text]
        self.note(f"{where}: the key stood in the file; put it into the environment variable {name}.")
        return f"${name}"

    def variable(self, name: str) -> str:
        """Return a reference to an environment variable."""
        if not _VARIABLE.fullmatch(name):
            raise NotThisFormat("A reference to the environment is not the name of a variable.")
        self._variables[name] = None
        return f"${name}"

    def migration(self) -> Migration:
        """Return what has come together."""
        document: Entry = {**self.top, "endpoints": list(self.endpoints.values())}
        if self.splits:
            document["routes"] = self.splits
        if self.policies:
            document["policies"] = self.policies
        return Migration(document, tuple(self.notes), tuple(self._variables))

    def _free(self, wanted: str) -> str:
        name, number = wanted, 2
        while name in self.endpoints:
            name, number = f"{wanted}-{number}", number + 1
        return name

    def _unused(self, wanted: str) -> str:
        name, number = wanted, 2
        while name in self._variables or name in self.theirs:
            name, number = f"{wanted}_{number}", number + 1
        self._variables[name] = None
        return name


def slug(name: str) -> str:
    """Return a name that URLs can have; a pattern that ends in * stays one."""
    if name.endswith("*"):
        return name
    return _NOT_IN_A_NAME.sub("-", name).strip("-.") or "model"


def variable_name(hint: str, ending: str) -> str:
    """Return the name of an environment variable for a key."""
    name = _NOT_IN_A_VARIABLE.sub("_", hint.upper()).strip("_")
    return f"{name if name[:1].isalpha() else 'PROVIDER' + name}_{ending}"


def named_variables(value: object) -> Iterator[str]:
    """Find the environment variables that any text of a document names, however deep."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from named_variables(each)
    elif isinstance(value, str):
        yield from _NAMED.findall(value)


def scope_name(text: str) -> str:
    """Return a name that a scope can have."""
    return _NOT_IN_A_SCOPE.sub("-", text.lower()).strip("-") or "restricted"


def mapping(value: object, what: str) -> Mapping[str, Any]:
    """Return a mapping, an empty one for nothing; `NotThisFormat` for anything else."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise NotThisFormat(f"{what} must be a mapping.")
    return value


def entries(value: object, what: str) -> Sequence[Any]:
    """Return a list, an empty one for nothing; `NotThisFormat` for anything else."""
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise NotThisFormat(f"{what} must be a list.")
    return value


def kind_by_name(model: str) -> str:
    """Guess what a model is for, where nothing else says it."""
    return EMBEDDINGS if "embed" in model.lower() else CHAT


def unused(found: Mapping[str, Any], known: Iterable[str]) -> list[str]:
    """Return the keys that nothing here reads; never their values."""
    known = set(known)
    return sorted(str(key) for key, value in found.items() if key not in known and value is not None)
