"""Provider keys: where they come from, and a type that keeps them from being seen."""

from __future__ import annotations

import hmac
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, SupportsIndex

from typing_extensions import override

from ..errors import ConfigFault
from .words import kind_of

_HIDDEN = "<secret>"
_VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})")
_INNER_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PATH_STARTS = ("/", "./", "../", "~/")
_PATH_ENDS = (".txt", ".key", ".pem", ".secret", ".token", ".json")
_FILE_BYTES = 65_536


class Secret:
    """Text that nothing prints: `repr`, `str` and `format` say `<secret>`, pickle and JSON refuse it.

    Equal texts are equal, compared in constant time. Only `reveal` gives the text away.
    """

    __slots__ = ("__text",)

    def __init__(self, text: str) -> None:
        self.__text = text

    def reveal(self) -> str:
        """Return the text, for the one header or URL that needs it."""
        return self.__text

    @override
    def __repr__(self) -> str:
        return _HIDDEN

    @override
    def __format__(self, spec: str) -> str:
        return _HIDDEN

    @override
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.__text.encode(), other.__text.encode())

    @override
    def __hash__(self) -> int:
        return hash((Secret, self.__text))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    @override
    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a secret cannot be pickled")


@dataclass(slots=True)
class Resolver:
    """Finds the values that a configuration only points to.

    Relative paths of files count from `base_dir`, else from the working directory. `files` collects the
    files that were asked for, those that could not be read included.
    """

    environ: Mapping[str, str] = field(repr=False)
    base_dir: Path | None = None
    files: list[Path] = field(default_factory=list)

    def secret(self, value: object, path: str) -> Secret:
        """Read a key: `$NAME`, `${NAME}`, a file's path, the key itself, `{env: NAME}` or `{file: PATH}`.

        `ConfigFault` at `path`, without the value, when there is no such variable or file, or when what is
        found there cannot be a key.
        """
        return _key(self._pointed(value, path), path)

    def document(self, value: object, path: str) -> str:
        """Read a text of any length and any characters, from where `secret` reads keys."""
        return self._pointed(value, path)

    def header(self, value: object, path: str) -> Secret:
        """Read a header's value: text in which `${NAME}` may stand anywhere, or what `secret` takes.

        A text that happens to be a file's path stays what it is.
        """
        if isinstance(value, str) and not _VARIABLE.fullmatch(value.strip()):
            return _header_value(_INNER_VARIABLE.sub(lambda m: self._variable(m[1], path), value), path)
        return _header_value(self._pointed(value, path), path)

    def text(self, value: str, path: str) -> str:
        """Read a text that is no secret: itself, or `$NAME` and `${NAME}` as a whole."""
        text = value.strip()
        if text.startswith("$"):
            return self._named_variable(text, path).strip()
        return text

    def find_file(self, text: str) -> Path | None:
        """Find a file that a text names, and count it among those that were asked for; None without one."""
        found = self._file(text)
        if found is not None and found not in self.files:
            self.files.append(found)
        return found

    def _pointed(self, value: object, path: str) -> str:
        if isinstance(value, Mapping):
            return self._from_mapping(value, path)
        if not isinstance(value, str):
            raise ConfigFault(path, f"must be text, found {kind_of(value)}; put a key in quotes")
        text = value.strip()
        if text.startswith("$"):
            return self._named_variable(text, path)
        file = self._file(text)
        if file is not None:
            return self._content(file, path)
        if text.startswith(_PATH_STARTS) or text.endswith(_PATH_ENDS):
            raise ConfigFault(
                path,
                "looks like the path of a file, and there is no such file; "
                "a key that really looks like that can come from {env: NAME} or {file: PATH}",
            )
        return text

    def _from_mapping(self, value: Mapping[object, object], path: str) -> str:
        forms = {key: name for key, name in value.items() if key in ("env", "file")}
        if len(value) != 1 or len(forms) != 1:
            raise ConfigFault(path, "must be text, {env: NAME} or {file: PATH}, found another mapping")
        ((form, name),) = forms.items()
        if not isinstance(name, str) or not name.strip():
            raise ConfigFault(f"{path}.{form}", f"must be text, found {kind_of(name)}")
        if form == "file":
            return self._content(self._candidates(name.strip())[0], f"{path}.file")
        if not _VARIABLE_NAME.fullmatch(name.strip()):
            raise ConfigFault(
                f"{path}.env", "is not the name of an environment variable, such as OPENAI_API_KEY"
            )
        return self._variable(name.strip(), f"{path}.env")

    def _named_variable(self, text: str, path: str) -> str:
        match = _VARIABLE.fullmatch(text)
        if match is None:
            raise ConfigFault(
                path, "begins with $, which must be followed by the name of an environment variable alone"
            )
        return self._variable(match[1] or match[2], path)

    def _variable(self, name: str, path: str) -> str:
        value = self.environ.get(name)
        if value is None:
            raise ConfigFault(path, f"the environment variable {name} is not set")
        if not value.strip():
            raise ConfigFault(path, f"the environment variable {name} is empty")
        return value

    def _candidates(self, text: str) -> list[Path]:
        asked = Path(text)
        if text.startswith("~"):
            asked = asked.expanduser()
        return [Path(directory, asked).absolute() for directory in (self.base_dir, Path()) if directory]

    def _file(self, text: str) -> Path | None:
        if not text:
            return None
        try:
            return next((file for file in self._candidates(text) if stat.S_ISREG(_mode(file))), None)
        except (RuntimeError, ValueError):  # no home directory; a character that no path can have
            return None

    def _content(self, file: Path, path: str) -> str:
        if file not in self.files:
            self.files.append(file)
        try:
            with file.open("rb") as stream:
                content = stream.read(_FILE_BYTES + 1)
        except OSError as error:
            raise ConfigFault(path, f"its file cannot be read: {error.strerror}") from None
        if len(content) > _FILE_BYTES:
            raise ConfigFault(path, f"its file is longer than {_FILE_BYTES} bytes, so it is no key")
        try:
            text = content.decode("utf-8-sig").strip()
        except UnicodeDecodeError:
            raise ConfigFault(path, "its file is not UTF-8 text") from None
        if not text:
            raise ConfigFault(path, "its file is empty")
        return text


def resolve_secret(value: object, path: str, environ: Mapping[str, str]) -> Secret:
    """Read a key as `Resolver.secret` does, relative files from the working directory."""
    return Resolver(environ).secret(value, path)


def _mode(file: Path) -> int:
    try:
        return os.stat(file).st_mode  # noqa: PTH116 - Path.is_file raises on a name that is too long
    except OSError:
        return 0


def _key(text: str, path: str) -> Secret:
    key = text.strip()
    if not key:
        raise ConfigFault(path, "is empty")
    if not all("!" <= letter <= "~" for letter in key):
        raise ConfigFault(
            path, "holds a blank, a line break or a character that is not ASCII, so it is no key"
        )
    return Secret(key)


def _header_value(text: str, path: str) -> Secret:
    value = text.strip()
    if not value:
        raise ConfigFault(path, "is empty")
    if not all(" " <= letter <= "~" for letter in value):
        raise ConfigFault(path, "holds a line break or a character that is not ASCII, which no header may")
    return Secret(value)
