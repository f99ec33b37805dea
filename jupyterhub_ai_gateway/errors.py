"""Every failure that a person can cause, as one tree. Rendering lives in `handlers` and `dialects`.

    Fault
    ├── RequestFault 400        the request cannot be served as it stands
    │   ├── NotFound 404        no such path, or no such model for this caller
    │   ├── MethodNotAllowed 405
    │   ├── BodyTooLarge 413
    │   └── Untranslatable      it means nothing in the format of a deployment
    ├── AuthFault
    │   ├── Unauthenticated 401
    │   ├── Forbidden 403
    │   └── HubUnavailable 503  the Hub cannot be asked who this is
    ├── LimitFault 429          the caller has used what they may
    ├── LimitsUnavailable 503   nobody can say what the caller has used, or write it down
    ├── QueueFull 503           the model's own machines are busy, and too many wait
    ├── Maintenance 503         the operator works on all places where the model runs
    ├── UpstreamFault 502       the provider is at fault, or cannot be reached
    │   ├── UpstreamRefused     it answered with an error status
    │   ├── UpstreamUnreachable no connection, or none of its bytes arrived
    │   ├── UpstreamTimeout 504
    │   └── UpstreamBroken      it sent what is not an answer, or stopped in the middle
    ├── DeadlineExceeded 504    it took longer than the operator lets a request take
    ├── Draining 503            this process is about to stop
    ├── Stopped 403             somebody who looks after the gateway stopped the request
    └── ConfigFault             the operator's configuration; never rendered to a caller

A fault's text is written for the person who reads it; prompts, answers and keys never enter one.
A bug is not a fault: it stays an ordinary exception, a traceback in the log and a plain 500.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

NEVER = "never"
LATER = "later"
ELSEWHERE = "elsewhere"

TOO_LONG = "upstream_context_too_long"
"""The slug of a request that is longer than the model's context."""


class Fault(Exception):  # noqa: N818 - a fault need not be an error of ours
    """A failure with a voice for the caller, one for the log, and advice on trying again.

    `public` is a sentence for the caller; `detail` is for the log alone. `slug` is stable and one of
    few: a metric label, a log key, and the `code` of the OpenAI error object unless `code` says
    otherwise (what a provider calls its own failure). `kind` is that object's `type`.
    `retry` is NEVER (the same request fails again), LATER (the same place, after `retry_after_s`
    seconds when known) or ELSEWHERE (another deployment may serve it). `headers` are extra response
    headers, `more` extra fields of the error object.
    """

    status = 500
    slug = "internal_error"
    kind = "api_error"
    retry = NEVER

    def __init__(
        self,
        public: str,
        *,
        slug: str | None = None,
        code: str | None = None,
        status: int | None = None,
        kind: str | None = None,
        param: str | None = None,
        detail: str | None = None,
        retry: str | None = None,
        retry_after_s: float | None = None,
        headers: Sequence[tuple[str, str]] = (),
        more: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(public)
        self.public = public
        self.param = param
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.headers = tuple(headers)
        self.more = more or {}
        if slug is not None:
            self.slug = slug
        self.code = code if code is not None else self.slug
        if status is not None:
            self.status = status
        if kind is not None:
            self.kind = kind
        if retry is not None:
            self.retry = retry


class RequestFault(Fault):
    """The request is wrong; the caller must change it."""

    status = 400
    slug = "invalid_request"
    kind = "invalid_request_error"


class NotFound(RequestFault):
    """There is no such path, or no such model for this caller."""

    status = 404
    slug = "not_found"


class MethodNotAllowed(RequestFault):
    """The path exists, with another method."""

    status = 405
    slug = "method_not_allowed"


class BodyTooLarge(RequestFault):
    """The body is longer than this path accepts."""

    status = 413
    slug = "request_too_large"


class Untranslatable(RequestFault):
    """A field of the request means nothing in the format that a deployment speaks; another may know it."""

    slug = "cannot_translate"
    retry = ELSEWHERE


class AuthFault(Fault):
    """Who the caller is, or what they may do, stands in the way."""

    status = 401
    slug = "invalid_api_key"
    kind = "authentication_error"


class Unauthenticated(AuthFault):
    """No token, or one that the Hub does not know."""

    kind = "invalid_request_error"


class Forbidden(AuthFault):
    """The Hub knows the caller, who lacks a scope."""

    status = 403
    slug = "insufficient_scope"
    kind = "permission_error"


class HubUnavailable(AuthFault):
    """The Hub did not say who the caller is."""

    status = 503
    slug = "hub_unavailable"
    kind = "api_error"
    retry = LATER


class LimitFault(Fault):
    """The caller has used what they may, for now."""

    status = 429
    slug = "rate_limit_exceeded"
    kind = "requests"
    retry = LATER


class LimitsUnavailable(Fault):
    """The store of limits does not answer, or the ledger cannot be written, and the rules say wait."""

    status = 503
    slug = "limits_unavailable"
    retry = LATER


class QueueFull(Fault):
    """All slots of the model's own machines are taken, and too many wait, or this one has for too long."""

    status = 503
    slug = "queue_full"
    retry = LATER


class Maintenance(Fault):
    """All places where the model runs are under maintenance."""

    status = 503
    slug = "maintenance"
    retry = LATER


class UpstreamFault(Fault):
    """The provider is at fault, or out of reach."""

    status = 502
    slug = "upstream_error"
    kind = "upstream_error"
    retry = ELSEWHERE


class UpstreamRefused(UpstreamFault):
    """The provider answered with an error status."""


class UpstreamUnreachable(UpstreamFault):
    """No connection to the provider, or it closed before any byte of an answer."""

    slug = "upstream_unreachable"


class UpstreamTimeout(UpstreamFault):
    """The provider took longer than the endpoint's configuration allows."""

    status = 504
    slug = "upstream_timeout"


class UpstreamBroken(UpstreamFault):
    """The provider sent what is not an answer, or stopped in the middle of one."""

    slug = "upstream_broken"


class DeadlineExceeded(Fault):
    """The time is over that the operator gives a request as a whole."""

    status = 504
    slug = "deadline_exceeded"
    retry = LATER


class Draining(Fault):
    """This process is about to stop and takes no new requests."""

    status = 503
    slug = "draining"
    retry = LATER


class Stopped(Fault):
    """Somebody who looks after the gateway stopped the request while it ran."""

    status = 403
    slug = "stopped_by_staff"
    kind = "permission_error"


class ConfigFault(Fault):
    """The operator's configuration is wrong at `path`, such as `endpoints[3].limit.calls`.

    `files` are those that were read or looked for: a change of one may put it right.
    """

    slug = "configuration"

    def __init__(self, path: str, problem: str, *, files: Sequence[Path] = ()) -> None:
        super().__init__(f"{path}: {problem}" if path else problem)
        self.path = path
        self.problem = problem
        self.files = tuple(files)
