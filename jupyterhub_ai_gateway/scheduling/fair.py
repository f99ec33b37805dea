"""Fair share: who gets the next slot. Pure: times come in as arguments, and nothing waits here.

What everybody has had of late is kept as tokens that halve with time, for each group, in it for each user,
in it for each session. The next slot goes to the group that has had least for its weight, in it to the
user, in it to the session, and there to whoever came first. Interactive requests come before batch ones.

One slot in `OLDEST_EVERY` goes instead to the user who has waited longest, of either kind, counted from
when they were last served. So a user who had much yesterday, or a batch, waits at most as long as
`OLDEST_EVERY` times everybody takes once, however many newcomers there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import NamedTuple

from ..config import PoolConfig
from ..errors import RequestFault
from ..vocabulary import Caller, Wishes

OLDEST_EVERY = 16
MAX_NODES = 20_000
"""How many users and sessions are remembered that have nothing to do; those that had least go first."""
MAX_SESSION_CHARS = 200
INTERACTIVE, BATCH = 0, 1
PRIORITIES = {"interactive": INTERACTIVE, "batch": BATCH}
_OTHERS = ""
_NEGLIGIBLE_TOKENS = 1.0
USUAL_HOLD_S = 5.0
RATE = 0.1

Share = tuple[str, str | None, float, float, int, int]
"""Group, user (None for the group itself), weight, faded tokens, running, waiting."""


class Who(NamedTuple):
    """Whose request it is; `session` is "" where they name none. `priority` is INTERACTIVE or BATCH."""

    group: str
    user: str
    session: str = ""
    priority: int = INTERACTIVE


class Ticket:
    """One request's place. `tokens` is what it was charged when it got its slot.

    It `is_waiting`, then `is_running`, then neither. `name` is what other processes call it, where slots
    are shared with some.
    """

    __slots__ = ("arrived", "is_running", "is_waiting", "leaf", "name", "started", "tokens", "who")

    def __init__(self, who: Who, tokens: float, now: float, leaf: _Node) -> None:
        self.who = who
        self.tokens = tokens
        self.arrived = self.started = now
        self.leaf = leaf
        self.name = ""
        self.is_waiting = False
        self.is_running = False


class _Node:
    """The whole, a group, a user, or a session, which alone has tickets."""

    __slots__ = (
        "_at",
        "_used",
        "active",
        "children",
        "key",
        "parent",
        "running",
        "since",
        "tickets",
        "weight",
    )

    def __init__(self, key: str, parent: _Node | None, weight: float) -> None:
        self.key = key
        self.parent = parent
        self.weight = weight
        self.children: dict[str, _Node] = {}
        self.active: tuple[dict[str, _Node], ...] = ({}, {})  # of the children, by priority
        self.tickets: tuple[deque[Ticket], ...] = (deque(), deque())
        self.running = 0
        self.since = 0.0  # for a user who waits: when they began to, or were last served
        self._used = self._at = 0.0

    def used(self, now: float, half_life_s: float) -> float:
        """Return the tokens that it has had, faded."""
        return float(self._used * 0.5 ** ((now - self._at) / half_life_s))

    def charge(self, tokens: float, now: float, half_life_s: float) -> None:
        """Count tokens, for this and all above it."""
        node: _Node | None = self
        while node is not None:
            node._used, node._at = max(0.0, node.used(now, half_life_s) + tokens), now
            node = node.parent

    def counts(self, by: int) -> None:
        """Count what runs, for this and all above it."""
        node: _Node | None = self
        while node is not None:
            node.running += by
            node = node.parent

    @property
    def is_idle(self) -> bool:
        """Say whether nothing of it runs or waits."""
        return not self.running and not any(self.active) and not any(self.tickets)

    @property
    def waiting(self) -> int:
        """Return how many wait below it."""
        if not self.children:
            return sum(map(len, self.tickets))
        nodes = {id(each): each for active in self.active for each in active.values()}
        return sum(each.waiting for each in nodes.values())


class FairShare:
    """The slots of one pool, and who waits for one.

    `slots` may be changed at any time, and so may `config`, by `use`, and how many may wait, `queue`.
    Whoever gets a slot is returned by the call that made room. Where slots are given out elsewhere there
    are none here: requests `join`, and `begin` when they are told to.
    """

    def __init__(self, config: PoolConfig) -> None:
        self.config = config
        self.slots = config.slots
        self.queue = config.queue
        self.in_use = 0
        self.waiting = 0
        self.hold_s = USUAL_HOLD_S
        """How long a slot is usually kept."""
        self._root = _Node("", None, 1.0)
        self._nodes = 0
        self._turn = 0

    def use(self, config: PoolConfig, now: float) -> list[Ticket]:
        """Take other slots, weights and bounds. What everybody has had stays."""
        self.weigh(config)
        self.slots = max(config.slots, min(self.slots, config.most_slots or config.slots))
        return self.fill(now)

    def weigh(self, config: PoolConfig) -> None:
        """Take other weights and bounds, and leave the slots as they are."""
        self.config = config
        self.queue = config.queue
        for group in self._root.children.values():
            group.weight = self._group_weight(group.key)
            for user in group.children.values():
                user.weight = _weight(config.users, user.key, 1.0)

    @property
    def has_room(self) -> bool:
        """Say whether a request would get a slot at once."""
        return self.in_use < self.slots and not self.waiting

    def ask(self, who: Who, tokens: float, now: float) -> tuple[Ticket, Ticket | None]:
        """Take a request, of about so many tokens: it runs at once, or waits.

        When too many wait, the newest of the user with the most has to go: it is returned as well, and may
        be the new one itself.
        """
        ticket = Ticket(who, tokens, now, self._leaf(who))
        if self.has_room:
            self._start(ticket, now)
            return ticket, None
        self._enqueue(ticket, now)
        gone = self._newest_of_longest(ticket) if self.waiting > self.queue else None
        if gone is not None:
            self.quit(gone)
        return ticket, gone

    def join(self, who: Who, tokens: float, now: float) -> Ticket:
        """Take a request that waits, whatever slots there are: whether it may is decided elsewhere."""
        ticket = Ticket(who, tokens, now, self._leaf(who))
        self._enqueue(ticket, now)
        return ticket

    def begin(self, ticket: Ticket, now: float) -> None:
        """Give a slot to one that waits, as was decided elsewhere."""
        self.quit(ticket)
        self._start(ticket, now)

    def leave(self, ticket: Ticket, tokens: float | None, now: float) -> list[Ticket]:
        """Give a slot back, or a place among those who wait; `tokens` is what it was, None if unknown."""
        if ticket.is_waiting:
            self.quit(ticket)
            return []
        if not ticket.is_running:
            return []
        ticket.is_running = False
        self.in_use -= 1
        self.hold_s += RATE * (now - ticket.started - self.hold_s)
        ticket.leaf.counts(-1)
        if tokens is not None:
            ticket.leaf.charge(tokens - ticket.tokens, now, self.config.half_life_s)
        return self.fill(now)

    def quit(self, ticket: Ticket) -> None:
        """Wait no longer."""
        if ticket.is_waiting:
            ticket.leaf.tickets[ticket.who.priority].remove(ticket)
            self._dequeued(ticket)

    def fill(self, now: float) -> list[Ticket]:
        """Give out the slots that are free."""
        started = []
        while self.waiting and self.in_use < self.slots:
            ticket = self._next(now)
            self._dequeued(ticket)
            self._start(ticket, now)
            started.append(ticket)
        return started

    def place(self, ticket: Ticket) -> int:
        """Return about how many will have been served with it: everybody's as many as its user's, so far.

        It counts from 1, as if all weights were the same.
        """
        user = ticket.leaf.parent
        assert user is not None  # noqa: S101 - a leaf is a session
        mine = 1 + sum(
            each is not ticket and each.arrived <= ticket.arrived
            for leaf in user.children.values()
            for tickets in leaf.tickets
            for each in tickets
        )
        return mine + sum(min(mine, each.waiting) for each in self._waiting_users() if each is not user)

    def wait_s(self, place: int) -> float:
        """Return about how long it takes until that place has its turn."""
        return place * self.hold_s / self.slots

    def shares(self, now: float) -> Iterator[Share]:
        """Give each group, and after it each of its users who does something, with what they have."""
        half_life_s = self.config.half_life_s
        for group in self._root.children.values():
            used = group.used(now, half_life_s)
            yield group.key, None, group.weight, used, group.running, group.waiting
            for user in group.children.values():
                if not user.is_idle:
                    used = user.used(now, half_life_s)
                    yield group.key, user.key, user.weight, used, user.running, user.waiting

    # The tree

    def _leaf(self, who: Who) -> _Node:
        group = self._child(self._root, who.group)
        user = self._child(group, who.user)
        return self._child(user, who.session)

    def _child(self, parent: _Node, key: str) -> _Node:
        found = parent.children.get(key)
        if found is not None:
            return found
        weight = 1.0
        if parent is self._root:
            weight = self._group_weight(key)
        elif parent.parent is self._root:
            weight = _weight(self.config.users, key, 1.0)
        self._nodes += 1
        made = parent.children[key] = _Node(key, parent, weight)
        return made

    def _group_weight(self, key: str) -> float:
        config = self.config
        return config.others if key == _OTHERS else _weight(config.groups, key, config.others)

    def forget(self, now: float) -> None:
        """Let go of those that do nothing and had next to nothing, and of more where there are too many."""
        if self._nodes <= MAX_NODES:
            return
        half_life_s = self.config.half_life_s
        idle = [
            (node.used(now, half_life_s), id(node), node)
            for group in self._root.children.values()
            for user in group.children.values()
            for node in ((user,) if user.is_idle else tuple(user.children.values()))
            if node.is_idle
        ]
        idle.sort()
        for used, _, node in idle:
            if used > _NEGLIGIBLE_TOKENS and self._nodes <= MAX_NODES // 2:
                break
            assert node.parent is not None  # noqa: S101 - a group or a user
            del node.parent.children[node.key]
            self._nodes -= 1 + len(node.children)

    # Waiting

    def _enqueue(self, ticket: Ticket, now: float) -> None:
        priority, node = ticket.who.priority, ticket.leaf
        user = node.parent
        assert user is not None  # noqa: S101 - a leaf is a session
        if not any(user.active):
            user.since = now
        ticket.is_waiting = True
        self.waiting += 1
        node.tickets[priority].append(ticket)
        while node.parent is not None:
            node.parent.active[priority][node.key] = node
            node = node.parent

    def _dequeued(self, ticket: Ticket) -> None:
        """Take a ticket that is gone from its deque out of everything above."""
        priority, node = ticket.who.priority, ticket.leaf
        ticket.is_waiting = False
        self.waiting -= 1
        while node.parent is not None and not node.tickets[priority] and not node.active[priority]:
            node.parent.active[priority].pop(node.key, None)
            node = node.parent

    def _start(self, ticket: Ticket, now: float) -> None:
        ticket.is_running, ticket.started = True, now
        self.in_use += 1
        leaf = ticket.leaf
        leaf.counts(1)
        leaf.charge(ticket.tokens, now, self.config.half_life_s)
        assert leaf.parent is not None  # noqa: S101 - a leaf is a session
        leaf.parent.since = now
        self.forget(now)

    def _next(self, now: float) -> Ticket:
        self._turn = (self._turn + 1) % OLDEST_EVERY
        if not self._turn:
            return self._first_of(min(self._waiting_users(), key=lambda user: user.since), now)
        return self._least(self._root, INTERACTIVE if self._root.active[INTERACTIVE] else BATCH, now)

    def _first_of(self, user: _Node, now: float) -> Ticket:
        return self._least(user, INTERACTIVE if user.active[INTERACTIVE] else BATCH, now)

    def _least(self, node: _Node, priority: int, now: float) -> Ticket:
        """Go down to the one that has had least for its weight; of equals, to the one that came first."""
        half_life_s = self.config.half_life_s
        while node.active[priority]:
            node = min(
                node.active[priority].values(), key=lambda each: each.used(now, half_life_s) / each.weight
            )
        return node.tickets[priority].popleft()

    def _waiting_users(self) -> list[_Node]:
        found = {}
        for by_priority in self._root.active:
            for group in by_priority.values():
                for active in group.active:
                    found.update({id(user): user for user in active.values()})
        return list(found.values())

    def _newest_of_longest(self, new: Ticket) -> Ticket:
        """Return who has to go: of the user with the most, batch before interactive, the newest."""
        own = new.leaf.parent
        longest = max(self._waiting_users(), key=lambda user: (user.waiting, user is own))
        tickets = [each for leaf in longest.children.values() for queue in leaf.tickets for each in queue]
        return max(tickets, key=lambda each: (each.who.priority, each.arrived, each is new))


def who_asks(caller: Caller, payer: str | None, wishes: Wishes, config: PoolConfig) -> Who:
    """Say whose request it is. `RequestFault` for a priority that is none."""
    priority = PRIORITIES.get((wishes.priority or "interactive").strip().lower())
    if priority is None:
        raise RequestFault(
            f"The header x-ai-gateway-priority must be {' or '.join(PRIORITIES)}.",
            param="x-ai-gateway-priority",
        )
    session = (wishes.session or "")[:MAX_SESSION_CHARS]
    return Who(group_of(caller, payer, config), caller.key, session, priority)


def group_of(caller: Caller, payer: str | None, config: PoolConfig) -> str:
    """Return the group whose share a caller uses: who pays, else the first of the configuration.

    It is "" for those who are in none that has a weight.
    """
    if payer is not None and any(fnmatchcase(payer, pattern) for pattern, _ in config.groups):
        return payer
    for pattern, _ in config.groups:
        for group in sorted(caller.groups):
            if fnmatchcase(group, pattern):
                return group
    return _OTHERS


def tuned(slots: int, *, least: int, most: int, waiting: int, is_full: bool) -> int:
    """Return how many slots there should be, after a look at how many wait inside the model's server.

    Some wait there: an eighth fewer, so that they wait here, where shares count. None wait, and all slots
    are in use: an eighth more.
    """
    step = max(1, slots // 8)
    if waiting > 0:
        return max(least, slots - step)
    return min(most, slots + step) if is_full else slots


def _weight(weights: tuple[tuple[str, float], ...], name: str, default: float) -> float:
    return next((weight for pattern, weight in weights if fnmatchcase(name, pattern)), default)
