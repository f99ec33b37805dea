"""The page on log messages: their levels, what they mean, what to do. A test checks that all are there."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

import yaml

PACKAGE = Path(__file__).parent.parent / "jupyterhub_ai_gateway"
_LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
_LOGS = {"log", "gen_log", "app_log"}

MEANINGS: Mapping[str, str] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
_HEAD = """# What the log says

<!-- Written by `python -m tools.reference`; a test checks that it is current. -->

`%s`, `%d` and the like stand for what changes. No message holds a prompt, an answer, a key or a token. The
name of a request is the `x-request-id` of its answer.

"""


def found() -> dict[str, set[str]]:
    """Return every message of the package, as its code has it, with its levels."""
    messages: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            level, words = _message(node)
            if level is not None:
                messages.setdefault(words, set()).add(level)
    return messages


def _message(node: ast.AST) -> tuple[str | None, str]:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return None, ""
    base = node.func.value
    name = base.id if isinstance(base, ast.Name) else getattr(base, "attr", "")
    if name not in _LOGS or node.func.attr not in _LEVELS:
        return None, ""
    level = node.func.attr
    given = node.args[1:] if level == "log" else node.args
    words = given[0].value if given and isinstance(given[0], ast.Constant) else ast.unparse(given[0])
    return {"exception": "ERROR", "log": "INFO or WARNING"}.get(level, level.upper()), str(words)


def page() -> str:
    """Return the page."""
    levels = found()
    parts = [_HEAD]
    for words in sorted(MEANINGS):
        parts.append(f"`{words}`\n: {', '.join(sorted(levels.get(words, {'?'})))}. {MEANINGS[words]}\n\n")
    return "".join(parts).rstrip("\n") + "\n"
