"""For `jupyterhub_config.py`: one call that makes the service, scopes, roles and spawn environment.

    from jupyterhub_ai_gateway.hub_config import configure
    configure(c, config_file="config.yaml")

Call it last, so that it sees what the rest of the file says and adds to that. The Hub's process imports
this room: standard library only. What the call stands for, written out, is in
docs/howto/configure-by-hand.md.

`plan` checks the arguments and knows what they mean, `address` finds the URLs, `writing` adds it all to the
Hub's configuration, `sections` reads that configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..vocabulary import FULL_ACCESS
from .plan import CLIENTS, Plan, command, descriptions, environment_of, server_token
from .writing import HubSetup, write

__all__ = ["CLIENTS", "HubSetup", "configure", "server_token"]


def configure(
    c: Any,
    *,
    config_file: str | Path | None = None,
    name: str = "ai-gateway",
    host: str = "127.0.0.1",
    port: int = 5000,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    url: str | None = None,
    api_token: str | None = None,
    server_url: str | None = None,
    users: Iterable[str] | None = None,
    groups: Iterable[str] | None = None,
    scopes: Iterable[str] = (FULL_ACCESS,),
    endpoint_scopes: Iterable[str] | Mapping[str, str] = (),
    clients: Iterable[str] = ("openai",),
    directory: bool = False,
) -> HubSetup:
    """Add the AI gateway to the Hub's configuration `c`, beside what is there. Twice is as good as once.

    The Hub starts the gateway on `host` and `port` with `config_file`, further `arguments` and, as the
    Hub's own environment is not passed on, `environment`. With `url` the gateway runs by itself and the
    Hub's proxy finds it there; `api_token` is the secret that both know.

    `server_url` is where notebook servers reach the gateway, without /v1. By default that is the gateway's
    own address when they run on the Hub's machine, and the Hub's proxy in Docker and Kubernetes.

    All users get `scopes`, short names such as `full-access` or `chat:create`, unless `users` or `groups`
    say who; with no scopes, roles of your own must. `endpoint_scopes` are those which endpoints of the
    configuration ask for (`scope: premium`), in a mapping with a description each; they are granted where
    `scopes` names them, or by roles of your own. `clients`, of `CLIENTS`, are those whose variables a
    notebook server finds in its environment. With `directory` the gateway may read the properties and
    roles of groups, and users' roles, as policies for them need it.

    `ConfigFault` says what cannot be; `c` is as it was then.
    """
    plan = Plan(
        name=name,
        command=command(config_file, arguments),
        host=host,
        port=port,
        environment=environment_of(environment),
        url=url,
        api_token=api_token,
        server_url=server_url,
        users=None if users is None else tuple(users),
        groups=None if groups is None else tuple(groups),
        scopes=tuple(scopes),
        endpoint_scopes=descriptions(endpoint_scopes),
        clients=tuple(clients),
        directory=directory,
    )
    return write(c, plan)
