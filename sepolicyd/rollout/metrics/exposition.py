"""The Prometheus text exposition format (version 0.0.4), as node_exporter's textfile collector reads it.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum


class MetricKind(str, Enum):
    """The type of a metric. A counter's name ends in _total."""

    COUNTER = "counter"
    GAUGE = "gauge"


@dataclass(frozen=True)
class Sample:
    """One value and its labels."""

    value: float
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Metric:
    """One metric with its samples."""

    name: str
    kind: MetricKind
    help: str
    samples: tuple[Sample, ...]


def gauge(name: str, text: str, *samples: Sample) -> Metric:
    """Return a metric that may fall; its name gets the prefix of this program."""
    return Metric(f"sepolicyd_{name}", MetricKind.GAUGE, text, samples)


def counter(name: str, text: str, *samples: Sample) -> Metric:
    """Return a metric that only grows, until its source begins anew; its name gets prefix and suffix."""
    return Metric(f"sepolicyd_{name}_total", MetricKind.COUNTER, text, samples)


def render(metrics: Iterable[Metric]) -> str:
    """Return the text of all metrics that have a sample."""
    lines: list[str] = []
    for metric in metrics:
        if metric.samples:
            lines += [f"# HELP {metric.name} {_escape(metric.help)}", f"# TYPE {metric.name} {metric.kind.value}"]
            lines += [f"{metric.name}{_labels(sample.labels)} {_number(sample.value)}" for sample in metric.samples]
    return "".join(line + "\n" for line in lines)


def _labels(labels: Mapping[str, str]) -> str:
    shown = ",".join(f'{name}="{_escape(value, quoted=True)}"' for name, value in labels.items())
    return f"{{{shown}}}" if shown else ""


def _escape(text: str, *, quoted: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quoted else text


def _number(value: float) -> str:
    if math.isnan(value) or math.isinf(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(round(value, 3))
