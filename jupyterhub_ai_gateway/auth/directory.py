"""What the Hub says of groups and roles, asked with the service's own token.

It needs scopes of its own: `list:groups` and `read:groups` for the groups' properties, and
`read:roles:users` and `read:roles:groups` for roles (`hub_config.configure(…, directory=True)`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, urlencode

from ..errors import HubUnavailable
from ..vocabulary import Caller
from .hub import HubClient

PAGE = 200
MAX_GROUPS = 10_000


@dataclass(frozen=True, slots=True)
class Group:
    """A group of the Hub. `properties` are what admins wrote there."""

    name: str
    properties: Mapping[str, Any]
    roles: tuple[str, ...]


class Directory:
    """Asks the Hub about groups and roles. What it learned of groups is kept until the next `groups`."""

    def __init__(self, client: HubClient, api_token: str) -> None:
        self._client = client
        self._headers = {"Authorization": f"token {api_token}"}
        self._group_roles: dict[str, tuple[str, ...]] = {}

    async def groups(self) -> list[Group]:
        """Return all groups. `HubUnavailable` when the Hub does not say, or does not let us ask."""
        found: list[Group] = []
        while len(found) < MAX_GROUPS:
            query = urlencode({"offset": len(found), "limit": PAGE})
            document = await self._ask(
                f"groups?{query}", {"Accept": "application/jupyterhub-pagination+json"}
            )
            items = document.get("items")
            page = [_group(each) for each in items] if isinstance(items, list) else []
            found += page
            if len(page) < PAGE:
                break
        self._group_roles = {group.name: group.roles for group in found if group.roles}
        return found

    async def roles(self, caller: Caller) -> tuple[str, ...]:
        """Return the roles of a user or service, those of their groups included."""
        kind = "users" if caller.kind == "user" else "services"
        document = await self._ask(f"{kind}/{quote(caller.name, safe='')}", {})
        own = document.get("roles")
        names = {role for role in own if isinstance(role, str)} if isinstance(own, list) else set()
        for group in caller.groups:
            names.update(self._group_roles.get(group, ()))
        return tuple(sorted(names))

    async def current(self, caller: Caller) -> Caller | None:
        """Return a caller with the groups that they are in now; None once the Hub knows them no longer.

        Without a scope that lets us ask, the caller as they were. `HubUnavailable` when the Hub is away.
        """
        kind = "users" if caller.kind == "user" else "services"
        reply = await self._client.ask("GET", f"{kind}/{quote(caller.name, safe='')}", self._headers)
        if reply.document is not None and reply.status == 404:
            return None
        groups = (reply.document or {}).get("groups") if reply.status == 200 else None
        if not isinstance(groups, list):
            return caller
        return replace(caller, groups=tuple(group for group in groups if isinstance(group, str)))

    async def _ask(self, path: str, headers: Mapping[str, str]) -> dict[str, Any]:
        reply = await self._client.ask("GET", path, {**self._headers, **headers})
        if reply.status != 200 or reply.document is None:
            text = "The Hub does not say who is in which group, or has which role."
            detail = f"status {reply.status} for {path.partition('?')[0].partition('/')[0]}"
            if reply.status == 403:
                detail += ": the service lacks a scope (hub_config.configure(…, directory=True))"
            raise HubUnavailable(text, detail=detail)
        return reply.document


def _group(document: Any) -> Group:
    model = document if isinstance(document, dict) else {}
    properties, roles = model.get("properties"), model.get("roles")
    return Group(
        str(model.get("name", "")),
        properties if isinstance(properties, dict) else {},
        tuple(role for role in roles if isinstance(role, str)) if isinstance(roles, list) else (),
    )
