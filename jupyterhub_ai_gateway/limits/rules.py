"""Which rules count for a request: from the operator's policies, for this caller, group and endpoint.

Policies about the same resource, window, endpoints and kind of counter are one quota: of those that are for
a caller, `combine` says which amount counts (the largest, the smallest, the sum, or the one of the highest
priority). Different quotas all hold at once. Shadow policies make quotas of their own.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from fnmatch import fnmatchcase

from ..config import Combine, PolicyConfig
from ..config.model import Resource
from ..vocabulary import Caller
from .headers import policy_text
from .window import Window, span_ms, window_of

MAX_REMEMBERED = 50_000
_PERSISTED_MS = 3_600_000
_FOREVER = 1 << 62


@dataclass(frozen=True, slots=True)
class Override:
    """`amount` more than a rule's limit, or less, from `starts_ms` until `ends_ms`.

    `who` is such as `user:alice` or `group:physics`; `policy` the name of a rule, None for all of the
    resource.
    """

    who: str
    resource: str
    amount: int
    starts_ms: int
    ends_ms: int
    policy: str | None = None


@dataclass(frozen=True, slots=True)
class QuotaRule:
    """One limit that counts for a request. `key` names its counter, `whose` whom it counts, for people.

    `is_kept` is true where the counter outlives a restart. `is_long` is true where waiting is no help to
    somebody who sits before a notebook. `endpoints` are its patterns, empty for all. `policy` is what the
    IETF's header says of it.
    """

    name: str
    resource: Resource
    limit: int
    window: Window
    window_text: str
    key: str
    whose: str
    is_soft: bool
    denies_unpriced: bool
    fails_open: bool
    endpoints: tuple[str, ...]
    is_kept: bool = field(init=False)
    is_long: bool = field(init=False)
    policy: str = field(init=False)

    def __post_init__(self) -> None:
        length_ms = self.window.length_ms
        set_ = object.__setattr__
        set_(self, "is_kept", length_ms >= _PERSISTED_MS)
        set_(self, "is_long", length_ms > _PERSISTED_MS or self.resource == "cost_usd")
        window_s = length_ms / 1000 if length_ms else None
        set_(self, "policy", policy_text(self.name, self.resource, self.limit, window_s))

    @property
    def subject(self) -> str:
        """Return whose counter it is, such as `user:alice`, `group:physics`, `group:physics user:bob`."""
        return self.key.partition("#")[2]

    def covers(self, endpoint: str) -> bool:
        """Say whether an endpoint is under this rule."""
        return _matches(self.endpoints, endpoint)


Found = tuple[str | None, tuple[QuotaRule, ...]]
"""The group that pays, and the rules that count."""


class RuleBook:
    """All policies, and the rules that they make. `now_ms` is the time of day.

    `policies` are the operator's; those of Hub groups and overrides come and go by `use_groups` and
    `use_overrides`. What was worked out for a caller is remembered, at most `MAX_REMEMBERED` times.
    """

    def __init__(
        self,
        policies: Sequence[PolicyConfig],
        combine: Combine,
        zone: tzinfo,
        *,
        now_ms: Callable[[], int],
    ) -> None:
        self._own = tuple(policies)
        self._combine = combine
        self._zone = zone
        self._now_ms = now_ms
        self._groups: tuple[PolicyConfig, ...] = ()
        self._overrides: tuple[Override, ...] = ()
        self._windows: dict[tuple[object, ...], Window] = {}
        self._known: OrderedDict[tuple[object, ...], tuple[str | None, tuple[QuotaRule, ...]]] = (
            OrderedDict()
        )
        self._fresh_until_ms = 0
        self._valid: tuple[PolicyConfig, ...] = ()
        self._made: dict[str, QuotaRule] = {}
        self.is_empty = not self._own
        """True where there is no policy at all."""

    def __len__(self) -> int:
        return len(self._known)

    @property
    def zone(self) -> tzinfo:
        """Return the time zone of the calendar's windows."""
        return self._zone

    @property
    def names_roles(self) -> bool:
        """Say whether a policy is for a role of the Hub."""
        return any(policy.scope.roles for policy in self._own)

    @property
    def overrides(self) -> tuple[Override, ...]:
        """Return those in use."""
        return self._overrides

    def use_groups(self, policies: Iterable[PolicyConfig]) -> None:
        """Take the policies that stand in the properties of Hub groups."""
        self._groups = tuple(policies)
        self.is_empty = not self._own and not self._groups
        self._fresh_until_ms = 0

    def use_overrides(self, overrides: Iterable[Override]) -> None:
        """Take the overrides that count now or will."""
        self._overrides = tuple(overrides)
        self._fresh_until_ms = 0

    def rules(self, caller: Caller, endpoint: str, project: str | None = None) -> Found:
        """Return the group that pays, and the rules for a request of the caller's.

        `project` is the group that the caller chose, one of theirs. Without one the first of the policies
        for members of a group says which pays, None where none does.
        """
        if self._now_ms() >= self._fresh_until_ms:
            self._begin_anew()
        key = (caller.key, caller.groups, caller.roles, endpoint, project)
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= MAX_REMEMBERED:
                self._known.popitem(last=False)
            known = self._known[key] = self._worked_out(caller, endpoint, project)
        return known

    def made(self) -> list[QuotaRule]:
        """Return every rule that somebody has come under since the policies changed, a counter's once."""
        return list(self._made.values())

    def _begin_anew(self) -> None:
        """Choose the policies that are valid now, and forget what was made of others."""
        now_ms = self._now_ms()
        ends = [_FOREVER]
        valid: list[PolicyConfig] = []
        for policy in (*self._own, *self._groups):
            start, end = self._validity(policy)
            ends += [edge for edge in (start, end) if edge > now_ms]
            if start <= now_ms < end:
                valid.append(policy)
        for override in self._overrides:
            ends += [edge for edge in (override.starts_ms, override.ends_ms) if edge > now_ms]
        self._valid = tuple(valid)
        self._fresh_until_ms = min(ends)
        self._known.clear()
        self._made.clear()

    def _validity(self, policy: PolicyConfig) -> tuple[int, int]:
        start = 0 if policy.starts is None else span_ms(policy.starts, policy.starts, self._zone)[0]
        end = _FOREVER if policy.ends is None else span_ms(policy.ends, policy.ends, self._zone)[1]
        return start, end

    def _worked_out(self, caller: Caller, endpoint: str, project: str | None) -> Found:
        covering = [policy for policy in self._valid if _matches(policy.endpoints, endpoint)]
        payer = project if project is not None else _payer(covering, caller)
        groups = caller.groups if project is None else (project,)
        quotas: dict[str, list[PolicyConfig]] = {}
        for policy in covering:
            subject = _subject(policy, caller, groups, payer)
            if subject is not None:
                quotas.setdefault(f"{_identity(policy)}#{subject}", []).append(policy)
        rules = [self._rule(key, policies, caller, payer) for key, policies in quotas.items()]
        if len(self._made) < MAX_REMEMBERED:
            self._made.update((rule.key, rule) for rule in rules)
        return payer, tuple(rules)

    def _rule(self, key: str, policies: list[PolicyConfig], caller: Caller, payer: str | None) -> QuotaRule:
        limit, deciding = _combined(policies, self._combine)
        first = deciding[0]
        name = "+".join(policy.name for policy in deciding)
        window = self._window(first)
        return QuotaRule(
            name=name,
            resource=first.resource,
            limit=max(0, limit + self._extra(policies, caller, payer)),
            window=window,
            window_text="at a time" if first.window is None else f"per {first.window.text}",
            key=key,
            whose=_whose(first, payer),
            is_soft=first.shadow,
            denies_unpriced=first.resource == "cost_usd" and first.unpriced == "deny",
            fails_open=all(policy.when_store_fails == "open" for policy in deciding),
            endpoints=first.endpoints,
        )

    def _window(self, policy: PolicyConfig) -> Window:
        """Return the one window of its kind, which remembers where it is."""
        dates = (policy.starts, policy.ends)
        key = (policy.window, dates if policy.window and policy.window.unit == "term" else None)
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = window_of(policy.window, self._zone, dates)
        return window

    def _extra(self, policies: Sequence[PolicyConfig], caller: Caller, payer: str | None) -> int:
        """Add up the overrides that count now for a quota of the caller's."""
        now_ms = self._now_ms()
        first = policies[0]
        subjects = {caller.key} if first.count in ("user", "member") else set()
        if payer is not None and first.count in ("member", "group"):
            subjects.add(f"group:{payer}")
        elif first.count == "user":
            subjects.update(f"group:{group}" for group in caller.groups if _is_for_group(policies, group))
        names = {policy.name for policy in policies}
        return sum(
            each.amount
            for each in self._overrides
            if each.who in subjects
            and each.resource == first.resource
            and (each.policy is None or each.policy in names)
            and each.starts_ms <= now_ms < each.ends_ms
        )


def _is_for_group(policies: Sequence[PolicyConfig], group: str) -> bool:
    return any(_matches(policy.scope.groups, group) for policy in policies if policy.scope.groups)


def _matches(patterns: Sequence[str], name: str) -> bool:
    """Say whether a name fits one of some patterns; no patterns are for all."""
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)


def _payer(policies: Iterable[PolicyConfig], caller: Caller) -> str | None:
    """Return the caller's group that pays unless they say otherwise: the first policy's first."""
    for policy in policies:
        if policy.count in ("member", "group"):
            for group in sorted(caller.groups):
                if _matches(policy.scope.groups, group):
                    return group
    return None


def _subject(policy: PolicyConfig, caller: Caller, groups: Sequence[str], payer: str | None) -> str | None:
    """Return whose counter it is; None for a policy that is not for this caller."""
    if policy.count in ("member", "group"):
        if payer is None or not _matches(policy.scope.groups, payer):
            return None
        return f"group:{payer}" if policy.count == "group" else f"group:{payer} {caller.key}"
    if not _is_for(policy, caller, groups):
        return None
    return caller.key if policy.count == "user" else f"policy:{policy.name}"


def _is_for(policy: PolicyConfig, caller: Caller, groups: Sequence[str]) -> bool:
    scope = policy.scope
    if scope.is_everyone:
        return True
    names = {"user": scope.users, "key": scope.keys}.get(caller.kind, scope.services)
    return (
        any(fnmatchcase(caller.name, pattern) for pattern in names)
        or any(fnmatchcase(group, pattern) for pattern in scope.groups for group in groups)
        or any(fnmatchcase(role, pattern) for pattern in scope.roles for role in caller.roles)
    )


def _identity(policy: PolicyConfig) -> str:
    """Return what makes policies one quota, and what a counter is called through changes of amounts."""
    window = policy.window
    time = "now"
    if window is not None:
        time = f"{window.number} {window.unit}{' rolling' if window.is_rolling else ''}"
        if window.unit == "term":
            time = f"{policy.starts} {policy.ends}"
    where = ",".join(sorted(policy.endpoints))
    if len(where) > 80:
        where = hashlib.sha256(where.encode()).hexdigest()[:16]
    shadow = "~" if policy.shadow else ""
    return f"{shadow}{policy.resource}/{time}/{where}/{policy.count}"


def _combined(policies: list[PolicyConfig], combine: Combine) -> tuple[int, list[PolicyConfig]]:
    """Return the amount that counts, and the policies that say so."""
    if combine == "sum":
        return sum(policy.limit for policy in policies), policies
    if combine == "min":
        chosen = min(policies, key=lambda policy: policy.limit)
    elif combine == "priority":
        chosen = max(policies, key=lambda policy: (policy.priority, policy.limit))
    else:
        chosen = max(policies, key=lambda policy: policy.limit)
    return chosen.limit, [chosen]


def _whose(policy: PolicyConfig, payer: str | None) -> str:
    if policy.count == "user":
        return "each user"
    if policy.count == "all":
        return "all of them together"
    return f"the group {payer} as a whole" if policy.count == "group" else f"each member of {payer}"
