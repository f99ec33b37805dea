"""The page on scopes: what each opens comes from the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator

from jupyterhub_ai_gateway.handlers.openapi import document
from jupyterhub_ai_gateway.vocabulary import OPERATIONS

_HEAD = """# Scopes

<!-- Written by `python -m tools.reference`; a test checks that it is current. -->

A request needs three things of the token that it carries:

1. **Access to the service**: `access:services!service=ai-gateway`.
2. **The operation's scope**, or `custom:ai-gateway:full-access`, which holds all of these:

"""
_TAIL = """
3. **The endpoint's scope**, where the configuration names one: `scope: premium` wants
   `custom:ai-gateway:premium`. Full access does not hold it.

`/api/usage`, `/api/summary`, `/api/models`, `/api/requests` and `/api/export` show callers what is their
own; access to the service is enough.

`custom:ai-gateway:admin` is apart: full access does not hold it either. It opens the use of everybody
(`user=` and `group=` on these paths), `/api/overrides`, `/api/standing`, `/api/deployments`,
`/api/pools`, `/api/inflight`, `/api/configuration`, `/api/audit`, and MLflow's `/api/2.0/gateway/limits`.
`/metrics` wants the Hub's own `read:metrics`, and nothing else.

`custom:ai-gateway:group-usage!group=NAME` is for instructors: it opens what the group NAME pays for
(`group=NAME` on these paths, and its limits in `/api/standing`), and changes nothing. Without a filter it
opens the use of everybody.

[Gateway keys](../howto/gateway-keys.md) are made by holders of the admin scope at `/api/keys`, and never
hold it.

`ai-gateway` is the service's name on the Hub; under another name the scopes change with it.

## What the service itself needs

With `policies_from_groups`, or a policy for a `role`, the gateway asks the Hub for groups and roles with
its own token, which needs a role of its own: `configure(…, directory=True)` makes one with `list:groups`,
`read:groups`, `read:roles:groups`, `read:roles:users` and `read:roles:services`. With these it also
notices that the owner of a batch is gone from the Hub.

## Filters

A scope that was granted with a filter (`!user=`, `!group=`, `!service=`) counts for those whom the filter
names. The one exception is `group-usage`, whose filter `!group=` says what is seen.

## A token of one's own, for less

On the Hub's page "Token", a person makes a token that can do less than they can: under "Permissions",
write `access:services!service=ai-gateway custom:ai-gateway:chat:create`.

## After a new grant

The token of a running notebook server keeps the scopes that it was started with. Stop the server and
start it again.
"""
_MORE = {
    "docs:read": "the pages: `/`, `/playground`, `/usage`, `/docs`, and with one of the scopes below "
    "`/staff`",
    "batches:create": "; each line needs its own operation's scope besides",
}


def page() -> str:
    """Return the page."""
    return _HEAD + "\n".join(_table()) + "\n" + _TAIL


def _table() -> Iterator[str]:
    found = document(title="", description="", version="", prefix="/")
    opened: dict[str, list[str]] = {name: [] for name in OPERATIONS}
    for path, methods in found["paths"].items():
        for about in methods.values():
            name = str(about["x-required-scope"]).removeprefix("custom:ai-gateway:")
            if name in opened and path not in opened[name]:
                opened[name].append(path)
    yield from ("   | scope | | opens |", "   | --- | --- | --- |")
    for name, paths in opened.items():
        shown = ", ".join(f"`{path}`" for path in _shortest(paths)).replace("{model}", "MODEL")
        about = OPERATIONS[name]
        yield f"   | `custom:ai-gateway:{name}` | {about} | {shown}{_MORE.get(name, '')} |"


def _shortest(paths: list[str]) -> list[str]:
    """Leave out what stands below another path."""
    return [
        path for path in paths if not any(path.startswith(f"{other}/") for other in paths if other != path)
    ]
