"""Compiles the C programs, once per change."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
BUILT = HERE / "_build"


class NoCompilerError(Exception):
    """There is no C compiler here."""


def compiled(name: str, folder: Path = BUILT) -> Path:
    """Return the program made of NAME.c, compiling it when it is missing or older than its source."""
    source, program = HERE / f"{name}.c", folder / name
    if program.exists() and program.stat().st_mtime >= source.stat().st_mtime:
        return program
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise NoCompilerError("a C compiler is needed: cc, or what the variable CC names")
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f"{name}.{os.getpid()}"
    options = ["-O2", "-Wall", "-Wextra", "-Wno-stringop-truncation"]
    subprocess.run([compiler, *options, "-o", str(fresh), str(source)], check=True)
    fresh.replace(program)
    return program
