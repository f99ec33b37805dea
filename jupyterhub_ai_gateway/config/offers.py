"""What a deployment can serve and for which data, and whose requests need what of that."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date

from .model import DATA_CLASSES, DataClass, DataRuleConfig, OfferConfig
from .policies import read_patterns, read_scope
from .report import Block, Report
from .routing import read_names, read_whole
from .words import hint, kind_of, listed, shown

MOST_TOKENS = 1_000_000_000
MOST_RULES = 1000
_WORD = re.compile(r"[a-z0-9][a-z0-9_\-]{0,62}")


def read_offer(block: Block, usual: OfferConfig | None = None) -> OfferConfig:
    """Read what can be served; what is not said is as `usual` has it."""
    usual = usual or OfferConfig()
    return OfferConfig(
        context_length=read_whole(block, "context_length", 0, 1, MOST_TOKENS) or usual.context_length,
        capabilities=_capabilities(block, usual.capabilities),
        region=_region(block) or usual.region,
        data_class=_class_of_deployment(block, usual.data_class),
        deprecation_date=_day(block) or usual.deprecation_date,
    )


def _capabilities(block: Block, usual: frozenset[str] | None) -> frozenset[str] | None:
    value = block.get("capabilities")
    if value is None:
        return usual
    if isinstance(value, str) or not isinstance(value, Sequence):
        block.error("capabilities", f"must be a list of words, found {kind_of(value)}")
        return usual
    for word in value:
        if not isinstance(word, str) or not _WORD.fullmatch(word):
            block.error("capabilities", f"must be words such as vision, in lower case; found {shown(word)}")
            return usual
    return frozenset(value)


def _region(block: Block) -> str | None:
    text = block.text("region")
    if text and not _WORD.fullmatch(text):
        block.error("region", f"must be a word such as eu or eu-central-1, found {shown(text)}")
    return text


def read_data_class(block: Block) -> DataClass | None:
    """Read a class of data."""
    text = block.text("data_class")
    for known in DATA_CLASSES:
        if text == known:
            return known
    if text:
        near = hint(text, DATA_CLASSES)
        block.error("data_class", f"must be {listed(DATA_CLASSES)}, found {shown(text)}{near}")
    return None


def _class_of_deployment(block: Block, usual: DataClass | None) -> DataClass | None:
    own = read_data_class(block)
    if own is None or usual is None:
        return own or usual
    if DATA_CLASSES.index(own) < DATA_CLASSES.index(usual):
        block.error("data_class", f"must not be lower than the endpoint's, which is {usual}")
    return own


def _day(block: Block) -> date | None:
    text = block.text("deprecation_date")
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        block.error("deprecation_date", f"must be a day such as 2026-10-01, found {shown(text)}")
        return None


def read_data_rules(value: object, path: str, report: Report) -> tuple[DataRuleConfig, ...]:
    """Read the list of whose requests need which class of data, or region."""
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, Sequence):
        report.error(path, f"must be a list, found {kind_of(value)}")
        return ()
    if len(value) > MOST_RULES:
        report.error(path, f"must have {MOST_RULES} entries at most, found {len(value)}")
        return ()
    return tuple(_rule(Block(entry, f"{path}[{index}]", report)) for index, entry in enumerate(value))


def _rule(block: Block) -> DataRuleConfig:
    regions = read_names(block, "region")
    for region in regions:
        if not _WORD.fullmatch(region):
            block.error("region", f"must be words such as eu or eu-central-1, found {shown(region)}")
    rule = DataRuleConfig(
        read_scope(block), read_patterns(block, "endpoints"), read_data_class(block), regions
    )
    if rule.data_class is None and not rule.regions:
        block.missing("data_class", "is required, or a region")
    block.refuse_unknown()
    return rule
