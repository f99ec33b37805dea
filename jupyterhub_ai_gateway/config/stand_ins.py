"""Which endpoints stand in for others: where they have failed, and where a budget is used up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .model import DATA_CLASSES, DataClass, EndpointConfig
from .report import Block, Report
from .routing import read_names
from .words import hint, kind_of, shown


def read_at_limit(block: Block) -> tuple[str, ...]:
    """Read who serves the requests for which a budget has too little left."""
    value = block.get("at_limit")
    if value is None:
        return ()
    if not isinstance(value, Mapping):
        block.error("at_limit", f"must be a mapping such as {{use: local}}, found {kind_of(value)}")
        return ()
    inner = Block(value, block.at("at_limit"), block.report)
    names = read_names(inner, "use")
    if not names and value.get("use") in (None, "", [], ()):
        inner.missing(
            "use", "is required: the name of an endpoint, or several of which the first that can does"
        )
    inner.refuse_unknown()
    return names


def check_stand_ins(endpoints: Sequence[EndpointConfig | None], report: Report) -> None:
    """Check that each is another endpoint of the same type; for a budget's sake, no lower class of data."""
    known = {each.name: each for each in endpoints if each is not None}
    for each in known.values():
        for index, name in enumerate(each.fallbacks):
            _check(each, name, known, f"{each.path}.fallbacks[{index}]", report)
        for index, name in enumerate(each.at_limit):
            path = f"{each.path}.at_limit.use[{index}]"
            if _check(each, name, known, path, report) and _best(known[name]) < _floor(each):
                report.error(path, f"{shown(name)} is for data of a lower class than {shown(each.name)}")


def _check(
    endpoint: EndpointConfig, name: str, known: Mapping[str, EndpointConfig], path: str, report: Report
) -> bool:
    other = known.get(name)
    if other is None or other is endpoint or other.is_pattern:
        report.error(path, f"{shown(name)} is no other endpoint{hint(name, known)}")
    elif other.endpoint_type != endpoint.endpoint_type:
        report.error(path, f"{shown(name)} is of another type, {other.endpoint_type}")
    else:
        return True
    return False


def _floor(endpoint: EndpointConfig) -> int:
    """Return the class of data that its callers can count on, as a number."""
    classes = [_rank(each.offer.data_class) for each in endpoint.deployments]
    return min(classes, default=0) if endpoint.data_class is None else _rank(endpoint.data_class)


def _best(endpoint: EndpointConfig) -> int:
    return max((_rank(each.offer.data_class) for each in endpoint.deployments), default=0)


def _rank(data_class: DataClass | None) -> int:
    return 0 if data_class is None else DATA_CLASSES.index(data_class)
