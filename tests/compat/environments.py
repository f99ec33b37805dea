"""Python environments for clients that cannot share ours: made once, kept in the user's cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest


def cache() -> Path:
    """Return the folder of the environments, outside of the repository."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "jupyterhub-ai-gateway" / "compat"


def environment(requirements: Sequence[str]) -> Path:
    """Return the Python of an environment with these packages; made where it is not there yet.

    Its name is a digest of what is in it, so that other requirements make another one.
    """
    text = "\n".join([sys.version, *requirements])
    folder = cache() / hashlib.sha256(text.encode()).hexdigest()[:16]
    python, ready = folder / "bin" / "python", folder / "ready"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists():
            shutil.rmtree(folder, ignore_errors=True)
            run([sys.executable, "-m", "venv", str(folder)])
            run([str(python), "-m", "pip", "install", "--quiet", *requirements])
            ready.touch()
    return python


def run(command: Sequence[str], environ: Mapping[str, str] | None = None) -> str:
    """Run a program to its end and return what it printed; its errors are the test's failure."""
    env = None if environ is None else {**_kept(), **environ}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        pytest.fail(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def _kept() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
