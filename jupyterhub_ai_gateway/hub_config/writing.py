"""Adding the gateway to the Hub's configuration: everything is worked out first, then written."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pprint import pformat
from textwrap import indent
from typing import Any

from ..errors import ConfigFault
from .address import Address, find
from .plan import DIRECTORY_SCOPES, Plan, fault, server_token, variables
from .sections import as_dict, as_list, having, is_lazy, union, value_of

SERVER_SCOPES = ("users:activity!user", "access:servers!server")
"""What the Hub's own role `server` holds; a role of that name takes its place."""

SERVERS_OWN = "lambda spawner: spawner.api_token"
"""How `server_token` reads in an explanation."""

INDENT = "    "

Role = dict[str, Any]


@dataclass(frozen=True, slots=True)
class HubSetup:
    """What `configure` did. `service_url` is where the gateway listens, `server_url` where servers find it.

    `changes` are pairs of a place, such as `c.JupyterHub.services`, and what was added there, in Python and
    without secrets; there are none the second time. `notes` are sentences for the operator.
    """

    name: str
    service_url: str
    server_url: str
    changes: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]

    def explain(self) -> str:
        """Return the long form, as the operator could have written it."""
        head = f"# {self.name} listens at {self.service_url}; servers reach it at {self.server_url}/v1"
        added = [f"{place}.{_method(text)}(\n{indent(text, INDENT)}\n)" for place, text in self.changes]
        return "\n".join([head, *added, *(f"# {note}" for note in self.notes)])


def _method(added: str) -> str:
    return "extend" if added.startswith("[") else "update"


def write(c: Any, plan: Plan) -> HubSetup:
    """Add all that `plan` asks for to `c`, or nothing when a part of it cannot be."""
    changes = _Changes(c)
    address = find(c, plan)
    _add_service(c, plan, address, changes)
    _add_custom_scopes(c, plan, changes)
    _add_roles(c, plan, changes)
    _add_spawn_environment(c, plan, address, changes)
    if not plan.is_managed:
        changes.note(f"The gateway's own environment needs JUPYTERHUB_SERVICE_NAME={plan.name},")
        changes.note(f"JUPYTERHUB_SERVICE_PREFIX={address.prefix}, JUPYTERHUB_API_URL and _API_TOKEN.")
    changes.note("A running notebook server keeps the scopes and variables that it was started with.")
    changes.apply()
    setup = HubSetup(
        plan.name, address.service_url, address.server_url, tuple(changes.said), tuple(changes.notes)
    )
    logging.getLogger(__name__).info("%s", setup.explain())
    return setup


class _Changes:
    """What is to be written to `c`, and how it reads."""

    def __init__(self, c: Any) -> None:
        self._c = c
        self._writes: list[Callable[[], None]] = []
        self.said: list[tuple[str, str]] = []
        self.notes: list[str] = []

    def set(self, section: str, key: str, value: Any, added: Any) -> None:
        """Give `key` the value, which is the old one and what was `added`."""

        def assign() -> None:
            self._c[section][key] = value

        self._writes.append(assign)
        self._say(section, key, added)

    def update(self, section: str, key: str, more: Mapping[str, Any], shown: Mapping[str, Any]) -> None:
        """Add to a mapping. One that is lazy stays so: made whole here, it would hide another section's."""
        there = value_of(self._c, section, key)
        if is_lazy(there):
            self._writes.append(lambda: there.update(more))
            self._say(section, key, shown)
        else:
            self.set(section, key, {**(there or {}), **more}, shown)

    def _say(self, section: str, key: str, added: Any) -> None:
        text = pformat(added, width=100, sort_dicts=False)
        self.said.append((f"c.{section}.{key}", text.replace(repr(SERVERS_OWN), SERVERS_OWN)))

    def note(self, text: str) -> None:
        self.notes.append(text)

    def apply(self) -> None:
        for each in self._writes:
            each()


# The service


def _add_service(c: Any, plan: Plan, address: Address, changes: _Changes) -> None:
    services = as_list(value_of(c, "JupyterHub", "services"))
    index = next((i for i, each in enumerate(services) if each.get("name") == plan.name), len(services))
    there = services[index] if index < len(services) else {}
    ours = _service(plan, address)
    for key in ("url", "command", "api_token", "environment"):
        if key in ours and there.get(key, ours[key]) != ours[key]:
            problem = "was set before, and not to the same: leave it to one of the two places"
            raise ConfigFault(f"c.JupyterHub.services, {plan.name}: {key}", problem)
    if not plan.is_managed and not ours.get("api_token", there.get("api_token")):
        raise fault("api_token", "is needed with url: the secret that the gateway and the Hub share")
    asked = union(there.get("oauth_client_allowed_scopes", ()), plan.asked_by_pages())
    entry = {**ours, **there, "oauth_client_allowed_scopes": asked}
    if entry != there:
        services[index : index + 1] = [entry]
        changes.set("JupyterHub", "services", services, [_without_secrets(entry)])


def _service(plan: Plan, address: Address) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": plan.name, "url": address.service_url}
    if plan.is_managed:
        entry["command"] = list(plan.command)
        if plan.environment:
            entry["environment"] = dict(plan.environment)
    elif plan.api_token is not None:
        entry["api_token"] = plan.api_token
    return {**entry, "oauth_no_confirm": True}


def _without_secrets(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Show a service as it may be read by others: `...` stands for its token and its variables' values."""
    return {key: _shown(key, value) for key, value in entry.items()}


def _shown(key: str, value: Any) -> Any:
    if key == "environment":
        return dict.fromkeys(value, "...")
    return "..." if key == "api_token" else value


# Scopes and roles


def _add_custom_scopes(c: Any, plan: Plan, changes: _Changes) -> None:
    there = as_dict(value_of(c, "JupyterHub", "custom_scopes"))
    merged = {**there}
    for scope, ours in plan.custom_scopes().items():
        theirs = there.get(scope, {})
        merged[scope] = {**ours, **theirs}
        if "subscopes" in ours:
            merged[scope]["subscopes"] = union(theirs.get("subscopes", ()), ours["subscopes"])
    new = {scope: entry for scope, entry in merged.items() if there.get(scope) != entry}
    if new:
        changes.set("JupyterHub", "custom_scopes", merged, new)


def _add_roles(c: Any, plan: Plan, changes: _Changes) -> None:
    roles: list[Role] = copy.deepcopy(as_list(value_of(c, "JupyterHub", "load_roles")))
    before = copy.deepcopy(roles)
    if plan.granted():
        _grant_to_users(c, plan, roles, changes)
    _grant_to_servers(c, plan, roles, changes)
    if plan.directory:
        role = _extend(roles, f"{plan.name}-directory", (), DIRECTORY_SCOPES)
        role["services"] = union(role.get("services", ()), [plan.name])
    new = [role for role in roles if role not in before]
    if new:
        changes.set("JupyterHub", "load_roles", roles, new)


def _grant_to_users(c: Any, plan: Plan, roles: list[Role], changes: _Changes) -> None:
    if plan.users is not None or plan.groups is not None:
        _grant_to_some(c, plan, roles)
    elif value_of(c, "JupyterHub", "extra_user_scopes") is None or _named(roles, "user"):
        _extend(roles, "user", ("self",), plan.granted())
    else:
        # JupyterHub 6's own way to give something to everybody; a role `user` would silence it
        there = as_list(value_of(c, "JupyterHub", "extra_user_scopes"))
        merged = union(there, plan.granted())
        if merged != there:
            changes.set("JupyterHub", "extra_user_scopes", set(merged), set(plan.granted()))


def _grant_to_some(c: Any, plan: Plan, roles: list[Role]) -> None:
    managing = [name for name in having(c, "Authenticator", "manage_roles") if c[name]["manage_roles"]]
    if managing:
        argument = "users" if plan.users is not None else "groups"
        problem = (
            f"cannot be used with c.{managing[0]}.manage_roles: the authenticator alone says who has a role"
        )
        raise fault(argument, problem)
    role = _extend(roles, f"{plan.name}-user", (), plan.granted())
    for kind, names in (("users", plan.users), ("groups", plan.groups)):
        if names:
            role[kind] = union(role.get(kind, ()), names)


def _grant_to_servers(c: Any, plan: Plan, roles: list[Role], changes: _Changes) -> None:
    """Let servers' tokens ask for our scopes, where the operator says what they ask for."""
    asked = plan.asked_by_servers()
    sections = having(c, "Spawner", "server_token_scopes")
    if not sections or _named(roles, "server"):
        _extend(roles, "server", SERVER_SCOPES, asked)
    for section in sections:
        there = c[section]["server_token_scopes"]
        wider = _Wider(there, tuple(asked)) if callable(there) else union(as_list(there), asked)
        if wider != there and not (isinstance(there, _Wider) and set(asked) <= set(there.more)):
            changes.set(section, "server_token_scopes", wider, asked)


@dataclass(frozen=True, slots=True)
class _Wider:
    """What the operator's function asks for, and `more`."""

    asked: Callable[[Any], Iterable[str]]
    more: tuple[str, ...]

    def __call__(self, spawner: Any) -> list[str]:
        return union(self.asked(spawner), self.more)


def _named(roles: Sequence[Role], name: str) -> Role | None:
    return next((role for role in roles if role.get("name") == name), None)


def _extend(roles: list[Role], name: str, default: Iterable[str], scopes: Iterable[str]) -> Role:
    """Add scopes to a role; one that is new, or says nothing of scopes, has the default ones as well."""
    role = _named(roles, name)
    if role is None:
        role = {"name": name}
        roles.append(role)
    role["scopes"] = union(role.get("scopes", default), scopes)
    return role


# What a notebook server finds


def _add_spawn_environment(c: Any, plan: Plan, address: Address, changes: _Changes) -> None:
    for section in union(["Spawner"], having(c, "Spawner", "environment")):
        there = as_dict(value_of(c, section, "environment"))
        new: dict[str, Any] = {}
        for client in plan.clients:
            ours = variables(client, address.server_url)
            theirs = [name for name, value in ours.items() if there.get(name, value) != value]
            if theirs:
                # Nor the rest: the operator's key must not go to our address, nor our token to theirs
                changes.note(f"c.{section}.environment sets {theirs[0]}: nothing was added for {client}.")
            else:
                new.update({name: value for name, value in ours.items() if name not in there})
        if new:
            shown = {name: SERVERS_OWN if value is server_token else value for name, value in new.items()}
            changes.update(section, "environment", new, shown)
