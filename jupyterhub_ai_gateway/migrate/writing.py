"""A migrated configuration as a file that people read: the notes as comments, then the document."""

from __future__ import annotations

import textwrap

import yaml

from .draft import Migration

_WIDTH = 100


def as_text(migration: Migration, source: str) -> str:
    """Return YAML. The comments at its top say what to do before it is used."""
    lines = [f"# Made from a configuration of {source} by `jupyterhub-ai-gateway import`."]
    if migration.variables:
        lines.append("#\n# Environment variables that must be set:")
        lines += [f"#   {name}" for name in migration.variables]
    if migration.notes:
        lines.append("#\n# What was not carried, or needs a look:")
        lines += [_comment(note) for note in migration.notes]
    body = yaml.safe_dump(
        migration.document, sort_keys=False, allow_unicode=True, width=_WIDTH, default_flow_style=False
    )
    return "\n".join([*lines, "", body])


def _comment(note: str) -> str:
    flat = "".join(letter if letter.isprintable() else " " for letter in note)
    return textwrap.fill(flat, _WIDTH, initial_indent="#   - ", subsequent_indent="#     ")
