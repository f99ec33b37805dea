"""Commands for notebooks: `%ai_models`, `%ai_usage`, `%ai_limits`. The standard library only.

    %load_ext jupyterhub_ai_gateway

They ask the gateway as the notebook server does, by OPENAI_BASE_URL and its token, or the Hub's own
variables where it has another name for them. What they return shows as a table in a notebook and as text
elsewhere; `.data` has what the gateway said.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from decimal import Decimal
from html import escape
from typing import TYPE_CHECKING, Any, Protocol
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from .vocabulary import money_text

if TYPE_CHECKING:
    from typing_extensions import override
else:  # in the standard library from Python 3.12 on

    def override(method: object) -> object:
        return method


TIMEOUT_S = 30.0
MAX_BYTES = 8 * 1024 * 1024
BAR = 20
_BASES = ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL")
_KEYS = ("OPENAI_API_KEY", "ANTHROPIC_AUTH_TOKEN", "JUPYTERHUB_API_TOKEN")
_NUMBERS = ("requests", "input tokens", "output tokens", "cost")
_LOW = 0.8
"""The part of a budget from which it is said to run out."""
_UNITS = {"input_tokens": "input tokens", "output_tokens": "output tokens", "concurrency": "requests"}


class Shell(Protocol):
    """What IPython offers to an extension."""

    def register_magic_function(
        self, func: Callable[[str], Any], magic_kind: str = "line", magic_name: str | None = None
    ) -> None:
        """Make a command of a function."""


def load(shell: Shell) -> None:
    """Give a shell the commands."""
    for function in (ai_models, ai_usage, ai_limits):
        shell.register_magic_function(function, "line", function.__name__)


class Shown:
    """A title and rows: a table in a notebook, text elsewhere. `data` is what the gateway said.

    Columns of numbers are those whose head is one of `_NUMBERS`; they stand to the right.
    """

    def __init__(
        self, title: str, heads: Sequence[str], rows: Iterable[Sequence[str]], data: Any, note: str = ""
    ) -> None:
        self.title, self.heads, self.note, self.data = title, tuple(heads), note, data
        self.rows = [tuple(row) for row in rows]
        self._sides = ["right" if head in _NUMBERS else "left" for head in heads]

    @override
    def __repr__(self) -> str:
        lines = [self.heads, *self.rows]
        widths = [max(len(line[index]) for line in lines) for index in range(len(self.heads))]
        table = [
            "  ".join(
                text.rjust(width) if side == "right" else text.ljust(width)
                for text, width, side in zip(line, widths, self._sides, strict=True)
            )
            for line in lines
        ]
        rows = [line.rstrip() for line in table] if self.rows else []
        return "\n".join(line for line in (self.title, *rows, self.note) if line)

    def _repr_html_(self) -> str:
        cells = "".join(self._cells("th", self.heads))
        body = "".join(f"<tr>{''.join(self._cells('td', row))}</tr>" for row in self.rows)
        table = f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>" if self.rows else ""
        note = f"<p>{_text(self.note)}</p>" if self.note else ""
        return f"<p><strong>{_text(self.title)}</strong></p>{table}{note}"

    def _cells(self, tag: str, texts: Sequence[str]) -> Iterator[str]:
        for text, side in zip(texts, self._sides, strict=True):
            yield f'<{tag} style="text-align:{side}">{_text(text)}</{tag}>'


def _text(text: str) -> str:
    """Write a text as HTML; between two dollars in one piece of it, JupyterLab would see a formula."""
    return escape(text).replace("$", "<span>$</span>")


def ai_models(line: str = "") -> Shown:
    """Show the models that you may use; a word shows those whose name or description has it."""
    found = _ask("models")
    word = line.strip().lower()
    models = [
        each for each in found["models"] if word in f"{each['id']} {each.get('description') or ''}".lower()
    ]
    rows = [
        (
            each["id"],
            str(each["endpoint_type"]).rpartition("/")[2],
            str(each["state"]),
            _price(each["price"]),
            ", ".join(each["rules"]) or "none",
            each.get("description") or "",
        )
        for each in models
    ]
    heads = ("model", "type", "state", "price per million tokens", "limits", "description")
    return Shown("Your models", heads, rows, found, "" if rows else "There is none.")


def ai_usage(line: str = "") -> Shown:
    """Show what you used: today, this week, this month, and this month by model and by who pays."""
    del line
    found = _ask("summary")
    usage = found["usage"]
    if usage is None:
        return Shown("Your usage", (), (), found, "This gateway writes nothing down.")
    names = {"today": "today", "week": "this week", "month": "this month"}
    rows = [_sums(text, usage["periods"][name]["total"]) for name, text in names.items()]
    month = usage["periods"]["month"]
    rows += [_sums(f"this month, {each['endpoint']}", each) for each in month["by_model"]]
    rows += [
        _sums(f"this month, paid by {each['group']}", each) for each in month["by_group"] if each["group"]
    ]
    return Shown("Your usage", ("", "requests", "input tokens", "output tokens", "cost"), rows, found)


def ai_limits(line: str = "") -> Shown:
    """Show your limits: what is left of each, and when it resets."""
    del line
    found = _ask("summary")
    limits = sorted(
        (each for each in found["limits"] if not each["shadow"]),
        key=lambda each: (each["is_budget"], _part(each) or 0),
        reverse=True,
    )
    rows = [
        (
            each["rule"],
            each["counts"],
            _bar(_part(each)),
            f"{_amount(each, 'remaining')} of {_amount(each, 'limit')}{_unit(each)}",
            ", ".join(each["endpoints"] or ()) or "all models",
            _until(each["resets_at"]) if each["resets_at"] and each["resource"] != "concurrency" else "",
        )
        for each in limits
    ]
    heads = ("limit", "for", "used", "left", "on", "resets")
    low = [each for each in limits if each["is_budget"] and (_part(each) or 0) >= _LOW]
    note = " ".join(map(_warning, low)) if rows else "No limit counts for you here."
    return Shown("Your limits", heads, rows, found, note)


# Words


def _sums(name: str, sums: Mapping[str, Any]) -> tuple[str, ...]:
    numbers = (f"{sums[each]:,}" for each in ("requests", "input_tokens", "output_tokens"))
    return (
        name,
        *numbers,
        "no price" if sums["unpriced"] and not sums["cost_usd"] else money_text(sums["cost_usd"]),
    )


def _price(price: Mapping[str, Any] | None) -> str:
    if price is None:
        return "unknown"
    rates = price["input_per_mtok"], price["output_per_mtok"]
    out = f", {_rate(rates[1])} out" if rates[1] else ""
    more = f"{_rate(price['per_request'])} a request" if price["per_request"] else ""
    return " and ".join(filter(None, (f"{_rate(rates[0])} in{out}" if any(rates) else "", more))) or "free"


def _rate(dollars: float) -> str:
    """Write a price exactly, in cents at least."""
    text = f"{Decimal(str(dollars)):,.9f}".rstrip("0")
    whole, _, part = text.partition(".")
    return f"${whole}.{part.ljust(2, '0')}"


def _amount(limit: Mapping[str, Any], name: str) -> str:
    value = limit[name]
    if value is None:
        return "unknown"
    return money_text(value) if limit["resource"] == "cost_usd" else f"{value:,}"


def _unit(limit: Mapping[str, Any]) -> str:
    resource = limit["resource"]
    unit = "" if resource == "cost_usd" else f" {_UNITS.get(resource, resource)}"
    return f"{unit} {limit['window'] if resource == 'concurrency' else 'per ' + limit['window']}"


def _part(limit: Mapping[str, Any]) -> float | None:
    """Return which part of a limit is used, from 0 to 1; None where nobody can say."""
    if limit["used"] is None:
        return None
    return min(1.0, limit["used"] / limit["limit"]) if limit["limit"] else 1.0


def _bar(part: float | None) -> str:
    if part is None:
        return "unknown"
    full = round(part * BAR)
    return f"{'█' * full}{'░' * (BAR - full)}\N{NO-BREAK SPACE}{part:.0%}"


def _warning(limit: Mapping[str, Any]) -> str:
    part = _part(limit) or 0
    what = "is used up" if part >= 1 else f"is used to {int(part * 100)}%"
    when = f" and resets {_until(limit['resets_at'])}" if limit["resets_at"] else ""
    return f"Your budget {limit['rule']} ({limit['counts']}) {what}{when}."


def _until(text: str) -> str:
    at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    minutes = max(0, round((at - datetime.now(timezone.utc)).total_seconds() / 60))
    if minutes < 60:
        return f"in {minutes} min"
    return f"in {minutes // 60} h" if minutes < 48 * 60 else f"on {at.astimezone():%d %b}"


# Asking the gateway


class GatewayError(Exception):
    """What the gateway said, or that it could not be asked; shown without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


class _NoRedirect(HTTPRedirectHandler):
    """The token goes to the gateway alone, wherever it points to."""

    @override
    def redirect_request(self, *_: Any) -> None:
        return None


def _ask(path: str) -> dict[str, Any]:
    """Ask the gateway's API; `GatewayError` says what to do."""
    url, key = _address()
    request = Request(f"{url}/api/{path}", headers={"Authorization": f"Bearer {key}"})  # noqa: S310 - checked
    try:
        with build_opener(_NoRedirect).open(request, timeout=TIMEOUT_S) as answer:
            found: dict[str, Any] = json.loads(answer.read(MAX_BYTES))
    except HTTPError as error:
        with error:
            raise GatewayError(_said(error.code, error.read(MAX_BYTES))) from None
    except (URLError, TimeoutError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise GatewayError(f"The AI gateway at {url} cannot be asked: {reason}") from None
    return found


def _said(status: int, body: bytes) -> str:
    try:
        text = json.loads(body)["detail"]
    except (ValueError, KeyError, TypeError):
        text = "that is no AI gateway of JupyterHub, or something between changed its answer"
    return f"The AI gateway answered {status}: {text}"


def _address() -> tuple[str, str]:
    """Return where the gateway is, without `/v1`, and the token for it."""
    base = next((os.environ[name] for name in _BASES if os.environ.get(name)), "")
    key = next((os.environ[name] for name in _KEYS if os.environ.get(name)), "")
    if not base or not key:
        raise GatewayError(
            "There is no OPENAI_BASE_URL and OPENAI_API_KEY in this server's environment. They come with a "
            "new start of the server, where the Hub has the AI gateway."
        )
    if not base.startswith(("http://", "https://")):
        raise GatewayError("OPENAI_BASE_URL must begin with http:// or https://.")
    return base.rstrip("/").removesuffix("/v1"), key
