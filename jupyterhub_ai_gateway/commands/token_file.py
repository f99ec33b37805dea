"""The token of a person outside the Hub: one file, which nobody else can read."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

FOLDER = "jupyterhub-ai-gateway"
FILE = "token.json"


class Trouble(Exception):  # noqa: N818 - told to the person, in one line
    """Why a command cannot do what it should."""


@dataclass(frozen=True, slots=True)
class Login:
    """A token, and what is known of it. `expires` is in seconds of Unix time, None where nobody said."""

    hub: str
    service: str
    user: str
    token: str = field(repr=False)
    token_id: str | None = None
    expires: float | None = None

    @property
    def left_s(self) -> float | None:
        """Return how long it still counts."""
        return None if self.expires is None else self.expires - time.time()

    @property
    def is_over(self) -> bool:
        """Say whether its time is over, as far as is known."""
        return self.left_s is not None and self.left_s <= 0

    @property
    def base_url(self) -> str:
        """Return what OpenAI's clients are given."""
        return f"{self.hub.removesuffix('/hub')}/services/{self.service}/v1"


def place_of(environ: Mapping[str, str]) -> Path:
    """Return where the file is: below `XDG_CONFIG_HOME`, `APPDATA` on Windows, or `~/.config`."""
    given = environ.get("XDG_CONFIG_HOME") or (environ.get("APPDATA") if os.name == "nt" else None)
    home = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
    return (Path(given) if given else home / ".config") / FOLDER / FILE


def write_login(path: Path, login: Login) -> None:
    """Keep a login, in the place of the one that is there."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f"{FILE}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(login), file)
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def read_login(path: Path) -> Login | None:
    """Return the login that is kept; None when there is none. `Trouble` when others can read it."""
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Trouble(f"{path} cannot be read: {error.strerror}") from None
    if os.name != "nt" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise Trouble(f"{path} can be read by others: revoke that token on the Hub, then log in again")
    try:
        return Login(**json.loads(text))
    except (ValueError, TypeError):
        raise Trouble(f"{path} is not what this program wrote: delete it, and log in again") from None


def forget_login(path: Path) -> bool:
    """Delete the file; False when there was none."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True
