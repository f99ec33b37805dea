"""The counts of several processes as one: counts are added; of states, the worst is shown."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from typing_extensions import override

_LARGEST = (
    *("build_info", "_resting", "_away", "process_max_fds"),
    *("pool_slots", "pool_all_slots_in_use", "pool_all_waiting_requests", "pool_apart"),
    *("deployment_slow", "deployment_error_rate", "deployment_latency_seconds"),
)
_SMALLEST = (
    *("_last_load_successful", "_loaded_timestamp_seconds", "configuration_endpoints"),
    "process_start_time_seconds",
)


def merged(texts: Iterable[str], accept: str = "") -> tuple[bytes, str]:
    """Join texts in Prometheus' format. Return one in the format of the Accept header, and its type."""
    families: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for text in texts:
        for metric in text_string_to_metric_families(text):
            families.setdefault(metric.name, metric)
            known = values.setdefault(metric.name, {})
            for sample in metric.samples:
                key = (sample.name, tuple(sorted(sample.labels.items())))
                known[key] = _joined(metric.name, known.get(key), sample.value)
    return _render(families, values, accept)


def _joined(name: str, known: float | None, value: float) -> float:
    if known is None:
        return value
    if name.endswith(_LARGEST):
        return max(known, value)
    return min(known, value) if name.endswith(_SMALLEST) else known + value


class _Joined(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    @override
    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _render(
    families: dict[str, Metric],
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]],
    accept: str,
) -> tuple[bytes, str]:
    metrics = []
    for name, first in families.items():
        metric = Metric(name, first.documentation, first.type)
        for (sample, labels), value in values[name].items():
            metric.add_sample(sample, dict(labels), value)
        metrics.append(metric)
    encode, content_type = choose_encoder(accept)
    return encode(_Joined(metrics)), content_type
