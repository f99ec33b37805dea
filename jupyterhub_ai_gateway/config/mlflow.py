"""MLflow's own: how its paths are answered, and traffic splits, which MLflow 3.8 calls routes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from .model import (
    ENDPOINT_TYPES,
    MLFLOW_ANSWERS,
    EndpointConfig,
    MlflowAnswers,
    MlflowConfig,
    SplitConfig,
)
from .report import Block, Report
from .words import hint, kind_of, listed, shown

STRATEGY = "TRAFFIC_SPLIT"
SPLIT_MARKS = ("destinations", "task_type")
"""What only a split has (T-3)."""
SPLIT_TYPE_KEYS = ("task_type", "endpoint_type", "route_type", "type")
_MODEL_IN_BODY = ("refuse", "ignore")


def read_mlflow(block: Block, default: MlflowConfig) -> MlflowConfig:
    """Read `mlflow`, of an endpoint or of the whole file."""
    value = block.get("mlflow")
    if value is None:
        return default
    inner = Block(value, block.at("mlflow"), block.report)
    found = replace(
        default,
        answers=cast(MlflowAnswers, _choice(inner, "answers", MLFLOW_ANSWERS, default.answers)),
        scales_temperature=_flag(inner, "scale_temperature", default.scales_temperature),
        takes_model=_choice(inner, "model_in_body", _MODEL_IN_BODY, _MODEL_IN_BODY[default.takes_model])
        == "ignore",
        default_temperature=_temperature(inner, default.default_temperature),
    )
    inner.refuse_unknown()
    return found


def _choice(block: Block, key: str, choices: Sequence[str], default: str) -> str:
    text = block.text(key)
    if text and text not in choices:
        block.error(key, f"must be {listed(choices)}, found {shown(text)}{hint(text, choices)}")
    return text if text is not None and text in choices else default


def _flag(block: Block, key: str, default: bool) -> bool:
    value = block.get(key)
    if value is not None and not isinstance(value, bool):
        block.error(key, f"must be true or false, found {shown(value)}")
    return value if isinstance(value, bool) else default


def _temperature(block: Block, default: float | None) -> float | None:
    value = block.get("default_temperature")
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 2:
        block.error("default_temperature", f"must be a number from 0 to 2, found {shown(value)}")
        return default
    return float(value)


def is_split(block: Block) -> bool:
    """Say whether an entry is a traffic split; one that is an endpoint as well is an error."""
    mark = next((key for key in SPLIT_MARKS if key in block), None)
    if mark is not None and ("model" in block or "deployments" in block):
        problem = "belongs to a traffic split, but this entry has a model too: take one of them out"
        block.error(mark, problem)
    return mark is not None


def read_split(block: Block, name: str) -> SplitConfig:
    """Read a split; what its destinations are, `check_splits` looks at."""
    for key in ("model", "deployments"):
        block.get(key)  # known, and refused already
    strategy = block.text("routing_strategy")
    if strategy and strategy.upper() != STRATEGY:
        block.error("routing_strategy", f"must be {STRATEGY}, found {shown(strategy)}")
    split = SplitConfig(name, _type(block), _destinations(block), block.path)
    block.warn_unknown()
    return split


def _type(block: Block) -> str:
    given = {key: text for key in SPLIT_TYPE_KEYS if (text := block.text(key)) is not None}
    if not given:
        block.missing("task_type", f"is required: {listed(ENDPOINT_TYPES)}")
        return ""
    key, kind = next(iter(given.items()))
    if kind not in ENDPOINT_TYPES:
        block.error(key, f"must be {listed(ENDPOINT_TYPES)}, found {shown(kind)}")
    elif len(set(given.values())) > 1:
        block.error(key, f"disagrees with {' and '.join(list(given)[1:])}; they mean the same, so keep one")
    return kind


def _destinations(block: Block) -> tuple[tuple[str, int], ...]:
    value = block.get("destinations")
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        block.error("destinations", f"must be a list of destinations, found {kind_of(value)}")
        return ()
    before = len(block.report.errors)
    found = tuple(
        _destination(Block(entry, f"{block.at('destinations')}[{index}]", block.report))
        for index, entry in enumerate(value)
    )
    total = sum(share for _, share in found)
    if len(block.report.errors) == before and total != 100:
        block.error("destinations", f"must add up to a traffic_percentage of 100, they add up to {total}")
    return found


def _destination(block: Block) -> tuple[str, int]:
    name = block.required_text("name")
    share = block.get("traffic_percentage")
    if isinstance(share, bool) or not isinstance(share, int) or not 0 <= share <= 100:
        if block.is_mapping:
            block.error("traffic_percentage", f"must be a whole number from 0 to 100, found {shown(share)}")
        share = 0
    block.warn_unknown()
    return name, share


def check_splits(
    splits: Sequence[SplitConfig], endpoints: Mapping[str, EndpointConfig], report: Report
) -> None:
    """Note destinations that are no endpoints, are of another type, or stand there twice."""
    for split in splits:
        seen: set[str] = set()
        for index, (name, _) in enumerate(split.destinations):
            path = f"{split.path}.destinations[{index}].name"
            endpoint = endpoints.get(name)
            if not name:
                continue
            if endpoint is None:
                report.error(path, f"{shown(name)} is no endpoint{hint(name, endpoints)}")
            elif endpoint.endpoint_type != split.endpoint_type:
                report.error(path, f"{shown(name)} is of another type, {endpoint.endpoint_type}")
            elif name in seen:
                report.error(path, f"{shown(name)} is there twice")
            seen.add(name)
