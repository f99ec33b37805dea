"""A token becomes a Caller. The only room that asks the Hub who somebody is.

`token_from_headers` finds the token, `TokenResolver` asks the Hub and remembers the answer, `ScopeRules`
says what the answer allows, and `GatewayHubOAuth` is JupyterHub's browser login standing on the same
resolver. No request is read and no answer is written here: that is `handlers`.
"""

from __future__ import annotations

from .headers import Headers, has_credentials, project_from_headers, token_from_headers
from .key_book import KeyBook, Wish
from .keys import KeyProblem, KeyRing
from .oauth import GatewayHubOAuth, cookie_secret_from
from .resolver import TokenResolver
from .scopes import ScopeRules, access_scopes_from_env

__all__ = [
    "GatewayHubOAuth",
    "Headers",
    "KeyBook",
    "KeyProblem",
    "KeyRing",
    "ScopeRules",
    "TokenResolver",
    "Wish",
    "access_scopes_from_env",
    "cookie_secret_from",
    "has_credentials",
    "project_from_headers",
    "token_from_headers",
]
