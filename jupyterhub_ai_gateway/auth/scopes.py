"""What the Hub's scopes mean to this gateway. Pure: models in, callers and faults out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigFault, Forbidden
from ..vocabulary import FULL_ACCESS, GROUP_USAGE, OPERATIONS, Caller

Model = Mapping[str, Any]
"""What the Hub's `GET /user` says of a token's owner."""


def access_scopes_from_env(environ: Mapping[str, str], service_name: str) -> frozenset[str]:
    """Read which scopes open this service, from the variables that the Hub sets.

    Without them the scope is `access:services!service=NAME`. `ConfigFault` when there would be none, or
    one that is not access to this service: JupyterHub's own classes would then let everybody in.
    """
    if not service_name:
        raise ConfigFault("JUPYTERHUB_SERVICE_NAME", "is not set, so no scope could guard this service")
    own = {"access:services", f"access:services!service={service_name}"}
    for variable in ("JUPYTERHUB_OAUTH_ACCESS_SCOPES", "JUPYTERHUB_OAUTH_SCOPES"):
        text = environ.get(variable)
        if text:
            return _parse_access_scopes(variable, text, own)
    return frozenset({f"access:services!service={service_name}"})


def _parse_access_scopes(variable: str, text: str, own: set[str]) -> frozenset[str]:
    try:
        scopes = json.loads(text)
    except ValueError:
        raise ConfigFault(variable, "is not a JSON list of scopes") from None
    if not isinstance(scopes, list) or not scopes:
        raise ConfigFault(variable, "is not a JSON list with at least one scope: no one would be refused")
    strange = [scope for scope in scopes if not isinstance(scope, str) or scope not in own]
    if strange:
        raise ConfigFault(variable, f"holds {strange[0]!r}; access is by {' or '.join(sorted(own))}")
    return frozenset(scopes)


@dataclass(frozen=True, slots=True)
class ScopeRules:
    """What scopes mean to the gateway named `service_name`.

    A request needs one of `access_scopes` and the scope of its operation, and where an endpoint names
    a scope, that one as well.
    """

    service_name: str
    access_scopes: frozenset[str]
    _opens: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.access_scopes:
            raise ConfigFault("", "the service has no access scope, so everybody would be let in")
        # A scope without its filter covers the filtered one
        whole = {scope.partition("!")[0] for scope in self.access_scopes}
        object.__setattr__(self, "_opens", self.access_scopes | whole)

    def scope(self, name: str) -> str:
        """Return the full name of a scope of this gateway: `chat:create`, `premium`, …"""
        return f"custom:{self.service_name}:{name}"

    def caller(self, model: Model) -> Caller:
        """Read the Hub's model of a user or a service. KeyError, TypeError when it is not one."""
        kind, name = model.get("kind", "user"), model["name"]
        if kind not in ("user", "service") or not isinstance(name, str) or not name:
            raise TypeError("neither a user nor a service")
        groups = tuple(model.get("groups") or ())
        held = frozenset(model.get("scopes") or ())
        watch = f"{self.scope(GROUP_USAGE)}!"
        acting = frozenset(scope for scope in held if scope.startswith(watch))
        scopes = frozenset(_without_filters(held - acting, self._filters(kind, name, groups)))
        has_access = not self._opens.isdisjoint(held)
        token_id = model.get("token_id")
        return Caller(
            kind=kind,
            name=name,
            is_admin=bool(model.get("admin")),
            groups=groups,
            scopes=scopes,
            operations=self._operations(scopes) if has_access else frozenset(),
            has_access=has_access,
            token_id=token_id if isinstance(token_id, str) else None,
            server_name=_server_name(held, name) if kind == "user" else None,
            watched_groups=frozenset(_named_groups(acting)),
        )

    def require(self, caller: Caller, operation: str) -> None:
        """Raise `Forbidden`, naming the missing scope, unless the caller may do `operation`."""
        if operation in caller.operations:
            return
        if not caller.has_access:
            raise self._forbidden(caller, f"access:services!service={self.service_name}", operation)
        raise self._forbidden(caller, self.scope(operation), operation)

    def require_scope(self, caller: Caller, scope: str, *, access: bool = True) -> None:
        """Raise `Forbidden` unless the caller holds `scope`, a full name, and access to the service.

        `access=False` is for a scope that suffices alone, such as the Hub's `read:metrics`.
        """
        if access and not caller.has_access:
            raise self._forbidden(caller, f"access:services!service={self.service_name}", None)
        if scope not in caller.scopes:
            raise self._forbidden(caller, scope, None)

    def _filters(self, kind: str, name: str, groups: Iterable[str]) -> frozenset[str]:
        mine = {f"{kind}={name}", f"service={self.service_name}"}
        return frozenset(mine.union(f"group={group}" for group in groups))

    def _operations(self, scopes: frozenset[str]) -> frozenset[str]:
        if self.scope(FULL_ACCESS) in scopes:
            return frozenset(OPERATIONS)
        return frozenset(operation for operation in OPERATIONS if self.scope(operation) in scopes)

    def _forbidden(self, caller: Caller, missing: str, operation: str | None) -> Forbidden:
        if caller.kind == "key":
            short = missing.removeprefix(f"custom:{self.service_name}:")
            return Forbidden(
                f"This needs the scope {short}, which the gateway key {caller.name} lacks. "
                "Whoever made the key can make one with this scope."
            )
        text = f"This needs the scope {missing}, which this token of {caller.kind} {caller.name} lacks. "
        if caller.server_name is not None:
            text += (
                "A notebook server's token keeps the scopes that it was started with: "
                "after a new grant, stop the server and start it again."
            )
        elif operation is not None:
            both = f"access:services!service={self.service_name} {self.scope(operation)}"
            text += f"A token made for this on the Hub's token page has the permissions: {both}"
        else:
            text += "An administrator of the Hub can grant it."
        return Forbidden(text)


def _without_filters(held: Iterable[str], mine: frozenset[str]) -> Iterable[str]:
    """Give custom scopes without a filter that fits the caller; drop them with one that does not.

    Scopes of the Hub's own stay as they are: their filters say on what they act, not for whom they count.
    """
    for scope in held:
        base, separator, filter_ = scope.partition("!")
        if not separator or not base.startswith("custom:"):
            yield scope
        elif filter_ in mine:
            yield base


def _named_groups(scopes: Iterable[str]) -> Iterable[str]:
    """Return the groups that scopes with a filter name; other filters say nothing here."""
    for scope in scopes:
        kind, _, group = scope.partition("!")[2].partition("=")
        if kind == "group" and group:
            yield group


def _server_name(held: frozenset[str], owner: str) -> str | None:
    """Read the server's name from a scope that only a server's token has alone.

    For accounting only: people can make a token with this scope themselves.
    """
    if held & {"access:servers", f"access:servers!user={owner}"}:
        return None
    start = f"access:servers!server={owner}/"
    names = [scope[len(start) :] for scope in held if scope.startswith(start)]
    return names[0] if len(names) == 1 else None
