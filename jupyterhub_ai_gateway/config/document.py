"""The operator's file: YAML to a document, and from a path in it back to a line. Errors hold no content."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from typing_extensions import override

from ..errors import ConfigFault
from .model import GatewayConfig, ProviderSchema
from .parse import parse_with
from .report import Locate
from .secrets import Resolver
from .words import shown_key

_STEP = re.compile(r"([^.\[\]]+)|\[([0-9]+)\]")
_QUOTED = re.compile(r"""'(?:<[a-z ]+>|[^'\\])'""")
_TIMESTAMP = "tag:yaml.org,2002:timestamp"


def load(path: Path, providers: Mapping[str, ProviderSchema], environ: Mapping[str, str]) -> GatewayConfig:
    """Read a configuration file. `ConfigFault` names the file, or the path inside it and the line.

    Relative files of secrets count from the file's directory.
    """
    path = path.expanduser().absolute()
    resolver = Resolver(environ, path.parent, [path])
    try:
        document, locate = _read(path)
    except ConfigFault as fault:
        raise ConfigFault(fault.path, fault.problem, files=(path,)) from None
    return parse_with(document, providers, resolver, locate)


def read_document(path: Path) -> object:
    """Read a YAML or JSON file as it is, whatever it means. `ConfigFault` names the place, no content."""
    return _read(path.expanduser().absolute())[0]


def _read(path: Path) -> tuple[object, Locate]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigFault(str(path), f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigFault(str(path), f"is not UTF-8 text (byte {error.start})") from None
    try:
        return _document(text, str(path))
    except yaml.MarkedYAMLError as error:
        raise _syntax_fault(error, str(path)) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigFault(
            f"{path}:{line}", "holds a control character, which YAML does not allow"
        ) from None
    except RecursionError:
        raise ConfigFault(str(path), "is nested too deeply") from None
    except ValueError:  # Python reads no numbers of more than 4300 digits
        raise ConfigFault(str(path), "holds a number that cannot be read") from None


def _document(text: str, file: str) -> tuple[object, Locate]:
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if loader.refused:
            (where, first), *others = [(f"{file}:{line}", problem) for line, problem in loader.refused]
            raise ConfigFault(where, "\n".join([first, *(f"{at}: {problem}" for at, problem in others)]))
        if root is None:
            raise ConfigFault(file, "is empty: it must list at least one endpoint, under endpoints")
        return loader.construct_document(root), lambda path: _line_of(root, path)
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """Plain YAML, safe, without its surprises: no key twice, no tags, and dates stay texts.

    `refused` has what was found against that, each with its line.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 - as PyYAML has it
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.refused: list[tuple[int, str]] = []

    @override
    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None) is not None:
            self.refused.append((event.start_mark.line + 1, "has a tag (!), which means nothing here"))
        return super().compose_node(parent, index)

    @override
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        first_lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                line = key.start_mark.line + 1
                first = first_lines.setdefault((key.tag, key.value), line)
                if first_lines[key.tag, key.value] != line or first is not line:
                    self.refused.append(
                        (line, f"{shown_key(key.value)} is there twice, first on line {first}")
                    )
        return node


def _syntax_fault(error: yaml.MarkedYAMLError, file: str) -> ConfigFault:
    """Say where YAML gave up and why, without the text that YAML quotes: it may be a key."""
    mark = error.problem_mark or error.context_mark
    where = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else file
    reasons = [_without_quotes(text) for text in (error.context, error.problem) if text]
    return ConfigFault(where, f"is not valid YAML: {', '.join(reasons)}")


def _without_quotes(text: str) -> str:
    kept = _QUOTED.sub(lambda match: match[0].replace("'", "\0"), text)
    return kept.partition("'")[0].partition('"')[0].strip().replace("\0", "'")


def _line_of(root: yaml.Node, path: str) -> int | None:
    """Return the line of a path, or of the nearest thing above it that is there."""
    node, line = root, None
    for key, index in _STEP.findall(path):
        below = _item(node, int(index)) if index else _value(node, key)
        if below is None:
            break
        line, node = below
    return line


def _item(node: yaml.Node, index: int) -> tuple[int, yaml.Node] | None:
    if not isinstance(node, yaml.SequenceNode) or index >= len(node.value):
        return None
    item = node.value[index]
    return item.start_mark.line + 1, item


def _value(node: yaml.Node, name: str) -> tuple[int, yaml.Node] | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    found = ((key.start_mark.line + 1, value) for key, value in node.value if key.value == name)
    return next(found, None)
