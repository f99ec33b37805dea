"""What becomes of each field on the way from one format to another, and reading fields with their place.

Each object of a format has a table with a verb per field:

    MAPPED         means the same on the other side
    DROPPED        only tunes the answer: left out, and named in the header x-ai-gateway-dropped-params
    Refused(why)   the answer would be of another kind: a 400 that names the field

A field without a verb is newer than the table; it is dropped, and named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

from ..errors import RequestFault, Untranslatable
from .canonical import Json, Request

MAPPED: Final = "mapped"
DROPPED: Final = "dropped"
IGNORED: Final = "ignored"
"""For what says nothing to a model, such as an id or a status that the format gave out itself."""

MAX_NAMES = 32
"""How many dropped fields are named."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a field cannot be served: the end of a sentence that begins with its name."""

    why: str


Verb = str | Refused
Table = Mapping[str, Verb]


class Loss:
    """What one translation leaves out. `dropped` are the caller's names of fields, each once.

    `where` names the deployment. `has_cache` is set once something asks to be remembered.
    """

    __slots__ = ("_where", "dropped", "has_cache")

    def __init__(self, where: str) -> None:
        self.has_cache = False
        self._where = where
        self.dropped: dict[str, None] = {}

    def drop(self, name: str) -> None:
        """Leave out a field."""
        if len(self.dropped) < MAX_NAMES:
            self.dropped[name] = None

    def refuse(self, name: str, why: str) -> NoReturn:
        """Give up: with this field the answer would be of another kind."""
        text = f"{name} {why}. It cannot be translated for {self._where}."
        raise Untranslatable(text, param=name)

    def lose(self, request: Request, lacks: Mapping[str, Verb]) -> None:
        """Part with the attributes of a request that a format lacks, where they were given."""
        for attribute, verb in lacks.items():
            value = getattr(request, attribute)
            if value is None or value is False or value == []:
                continue
            name = request.names.get(attribute, attribute)
            if isinstance(verb, Refused):
                self.refuse(name, verb.why)
            self.drop(name)


class Reader:
    """One JSON object of a request: its fields by name, read as what they must be.

    Made with the table of its verbs, which are followed at once. A value of null is like none.
    """

    __slots__ = ("_given", "loss", "path")

    def __init__(self, value: Json, path: str, table: Table, loss: Loss) -> None:
        if not isinstance(value, dict):
            raise wrong(path, "must be an object")
        self.path = path
        self.loss = loss
        self._given: dict[str, Json] = {name: item for name, item in value.items() if item is not None}
        for name, item in self._given.items():
            verb = table.get(name, DROPPED)
            if verb is DROPPED:
                loss.drop(_plain(self.place(name)))
            elif isinstance(verb, Refused) and item not in (False, [], {}, ""):
                loss.refuse(self.place(name), verb.why)

    def __contains__(self, name: str) -> bool:
        return name in self._given

    def place(self, name: str) -> str:
        """Return the full name of a field, such as `messages[1].content`."""
        return f"{self.path}.{name}" if self.path else name

    def any(self, name: str) -> Json:
        """Return a value as it is; None when it is not there."""
        return self._given.get(name)

    def text(self, name: str) -> str | None:
        """Return text."""
        value = self._given.get(name)
        if value is not None and not isinstance(value, str):
            raise wrong(self.place(name), "must be text")
        return value

    def required(self, name: str) -> str:
        """Return text that must be there."""
        value = self.text(name)
        if value is None:
            raise wrong(self.place(name), "is missing")
        return value

    def integer(self, name: str) -> int | None:
        """Return a whole number."""
        value = self._given.get(name)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise wrong(self.place(name), "must be a whole number")
        return value

    def number(self, name: str) -> float | None:
        """Return a number."""
        value = self._given.get(name)
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise wrong(self.place(name), "must be a number")
        return value

    def flag(self, name: str) -> bool | None:
        """Return true or false."""
        value = self._given.get(name)
        if value is not None and not isinstance(value, bool):
            raise wrong(self.place(name), "must be true or false")
        return value

    def object(self, name: str) -> dict[str, Json] | None:
        """Return an object as it is."""
        value = self._given.get(name)
        if value is not None and not isinstance(value, dict):
            raise wrong(self.place(name), "must be an object")
        return value

    def items(self, name: str) -> Iterator[tuple[str, Json]]:
        """Yield the values of a list, with their places."""
        value = self._given.get(name)
        if value is None:
            return
        if not isinstance(value, list):
            raise wrong(self.place(name), "must be a list")
        for index, item in enumerate(value):
            yield f"{self.place(name)}[{index}]", item

    def texts(self, name: str) -> list[str]:
        """Return a list of texts, or one text as a list."""
        value = self._given.get(name)
        if isinstance(value, str):
            return [value]
        found = []
        for place, item in self.items(name):
            if not isinstance(item, str):
                raise wrong(place, "must be text")
            found.append(item)
        return found

    def child(self, name: str, table: Table) -> Reader | None:
        """Return an object within; None when it is not there."""
        value = self._given.get(name)
        return None if value is None else Reader(value, self.place(name), table, self.loss)

    def names_of(self, attributes: Mapping[str, str]) -> dict[str, str]:
        """Return, for each attribute that was given, what the caller calls it."""
        return {attributes[name]: name for name in self._given if name in attributes}


def kind_of(value: Json, path: str, default: str | None = None) -> str:
    """Return the `type` of an object."""
    if not isinstance(value, dict):
        raise wrong(path, "must be an object")
    kind = value.get("type", default)
    if not isinstance(kind, str):
        raise wrong(f"{path}.type", "must be text")
    return kind


def wrong(path: str, why: str) -> RequestFault:
    """Return the fault of a field that is not what it must be."""
    return RequestFault(f"{path} {why}.", param=path)


def _plain(place: str) -> str:
    """Leave out the numbers, so that a hundred messages make one name."""
    return "".join(part.partition("]")[2] if index else part for index, part in enumerate(place.split("[")))
