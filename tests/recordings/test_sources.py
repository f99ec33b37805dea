"""Where the recordings come from is said, and none of them holds a key."""

from __future__ import annotations

import re
import tarfile
from pathlib import PurePosixPath

import pytest

from .cassettes import HERE, archive, pinned, recordings, shapes

README = (HERE / "README.md").read_text(encoding="utf-8")
LICENCES = {"Apache-2.0": "Apache License", "MIT": "MIT License"}
SECRET = re.compile(
    rb"\b(?:sk|pk|gsk|xai)-[A-Za-z0-9_-]{20,}|\bAIza[A-Za-z0-9_-]{30,}|"
    rb"\bAKIA[A-Z0-9]{16}\b|Bearer [A-Za-z0-9]{16,}"
)


def licence_of(package: str) -> str:
    """Read what a package says of itself, in the words of SPDX."""
    with tarfile.open(archive(package)) as members:
        for member in members:
            path = PurePosixPath(member.name)
            if len(path.parts) == 2 and path.name in ("PKG-INFO", "LICENSE"):
                content = members.extractfile(member)
                assert content is not None
                text = content.read().decode()
                for name, title in LICENCES.items():
                    if (
                        re.search(rf"^License(?:-Expression)?: {name}$", text, re.MULTILINE)
                        or title in text[:400]
                    ):
                        return name
    raise AssertionError(f"{package} does not say its licence")


def row(package: str) -> str:
    """Return what stands about a package in README.md."""
    held = [each for each in recordings() if each.package == package]
    hosts = {each.host for each in held if each.operation is not None and each.host}
    said = {each.operation.name for each in held if each.operation is not None}
    months = sorted(f"{each.when:%Y-%m}" for each in held if each.when is not None)
    when = f"{months[0]} to {months[-1]}" if months else "not told"
    return (
        f"| {package} {pinned()[package]} | {licence_of(package)} | {when} | "
        f"{', '.join(sorted(said))} | {', '.join(sorted(hosts)) or 'not told'} |"
    )


@pytest.mark.parametrize("package", pinned())
def test_source_is_described(package: str) -> None:
    assert row(package) in README.splitlines()


def test_nothing_else_is_described() -> None:
    assert len(re.findall(r"^\| [a-z0-9-]+ [0-9.a-z]+ \|", README, re.MULTILINE)) == len(pinned())


def test_every_source_adds_something() -> None:
    assert {each.package for each in shapes()} >= set(pinned())


def test_most_recordings_say_when_they_were_made() -> None:
    every = recordings()
    assert sum(each.when is not None for each in every) > 0.9 * len(every)


def test_no_recording_of_ours_holds_a_key() -> None:
    for path in (HERE / "own").iterdir():
        assert SECRET.search(path.read_bytes()) is None, path.name
