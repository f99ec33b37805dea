"""The page on the command line: every command with its options, as their parsers have them."""

from __future__ import annotations

import argparse
import importlib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from jupyterhub_ai_gateway.app.gateway_app import AIGateway
from jupyterhub_ai_gateway.commands import auth, bench

_HEAD = """# Command line

<!-- Written by `python -m tools.reference`; a test checks that it is current. -->

    jupyterhub-ai-gateway --config config.yaml

starts the gateway. A process that the Hub starts needs no other option: the Hub tells it the rest by
its environment. By hand, `JUPYTERHUB_API_URL` and `JUPYTERHUB_API_TOKEN` say where the Hub is and who
the service is; see [](../howto/external-service.md). SIGHUP reads the configuration anew, SIGTERM and
SIGINT end the process once running requests are over.

One process is enough for thousands of requests at once. `start --workers N` runs N of them on one port.
They share limits and pools by `store.url` (Redis) and need a ledger on PostgreSQL, or `ledger: false`;
`/metrics` of any of them is of all. A worker that dies is replaced.

Without a command, and with `check`, `models`, `start`, `db upgrade`, `import`, `keys` and
`openai-gateway`:
"""
_SETTINGS_ROW = ("`--AIGateway.NAME=VALUE`", "Any of the [settings](settings.md).")
_WORDS = {"auth": auth.parser_of_words, "bench": bench.parser_of_words}
_FORMS = {
    "auth": "jupyterhub-ai-gateway auth login --hub https://hub.example.org",
    "bench": "jupyterhub-ai-gateway bench --base-url URL --model NAME",
}
Row = tuple[str, str]


def page() -> str:
    """Return the page."""
    parts = [_HEAD, *_table([*_traits_options(AIGateway, None), _SETTINGS_ROW])]
    for name, command in commands():
        parts += ["", f"## {name}", "", *_about(name, command)]
    return "\n".join(parts).rstrip("\n") + "\n"


def commands(of: Any = AIGateway, before: str = "") -> Iterator[tuple[str, Any]]:
    """Walk through the commands, by their whole name; one with commands below stands for these."""
    for name, (found, _) in sorted(of.subcommands.items()):
        command = _class(found)
        below = getattr(command, "subcommands", {})
        if isinstance(below, dict) and below and below is not AIGateway.subcommands:
            yield from commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def _class(found: Any) -> Any:
    if not isinstance(found, str):
        return found
    module, _, name = found.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _about(name: str, command: Any) -> Iterable[str]:
    text, _, form = inspect.cleandoc(command.__doc__ or "").rpartition("\n\n")
    if name in _WORDS:
        yield from [inspect.cleandoc(command.__doc__ or ""), "", *_form(_FORMS[name]), ""]
        yield from _parsers_rows(_WORDS[name]())
        return
    yield from [text, "", *_form(form.strip())]
    rows = list(_traits_options(command, AIGateway))
    if rows:
        yield from ["", *_table(rows)]


def _form(text: str) -> list[str]:
    """Show how a command is written: a synopsis, and no code to be run as it is."""
    return ["```{parsed-literal}", text, "```"]


def _traits_options(command: Any, base: Any) -> Iterator[Row]:
    """Yield the options of a traitlets application; those that `base` has too are left out."""
    known = {**base.aliases, **base.flags} if base is not None else {}
    for names, target in command.aliases.items():
        if names not in known and names not in ("log-level",):
            owner, _, trait = str(target).partition(".")
            found = command.class_traits().get(trait)
            yield _dashed(names), getattr(found, "help", "") if owner else ""
    for names, (_, text) in command.flags.items():
        if names not in known:
            yield _dashed(names), str(text)


def _dashed(names: Any) -> str:
    words = sorted((names,) if isinstance(names, str) else names, key=len)
    return ", ".join(f"`-{word}`" if len(word) == 1 else f"`--{word}`" for word in words)


def _parsers_rows(parser: argparse.ArgumentParser) -> Iterable[str]:
    inner = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    if not inner:
        return _table(_words_rows(parser))
    rows: list[Row] = []
    for action in inner:
        abouts: Mapping[str, Any] = {each.dest: each.help for each in action._choices_actions}
        for name, each in action.choices.items():
            if name in abouts:
                rows += [(f"**`{name}`**", str(abouts[name])), *_words_rows(each)]
    return _table(rows)


def _words_rows(parser: argparse.ArgumentParser) -> Iterator[Row]:
    for action in parser._actions:
        if action.option_strings and not isinstance(action, argparse._HelpAction):
            names = ", ".join(f"`{name}`" for name in action.option_strings)
            yield names, _with_default(action)


def _with_default(action: argparse.Action) -> str:
    text = (action.help or "").strip()
    if action.choices is not None:
        choices = ", ".join(f"`{each}`" for each in action.choices)
        text = f"{text}; {choices}" if text else choices
    if action.default in (None, False, argparse.SUPPRESS) or "default" in text:
        return text
    return f"{text}; `{action.default}` by default" if text else f"`{action.default}` by default"


def _table(rows: Iterable[Row]) -> list[str]:
    lines = [f"| {name} | {text.replace('|', chr(92) + '|')} |" for name, text in rows]
    return ["| option | |", "| --- | --- |", *lines]
