"""What is counted about takes. No ids and no desks in labels: both grow without end."""

from prometheus_client import CollectorRegistry, Counter, Histogram

REGISTRY = CollectorRegistry()

_TAKES = Counter("holdfast_order_takes", "Orders taken.", registry=REGISTRY)
_REFUSALS = Counter(
    "holdfast_order_take_refusals",
    "Takes that were refused, by code.",
    ["code"],
    registry=REGISTRY,
)
_SECONDS = Histogram(
    "holdfast_order_take_seconds",
    "Time of one take or take-next, as the caller of the verb sees it.",
    registry=REGISTRY,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)


def took(code: str, seconds: float | None = None) -> None:
    """Count the outcome of a take, and how many seconds it took where that was measured."""
    if code == "ok":
        _TAKES.inc()
    else:
        _REFUSALS.labels(code).inc()
    if seconds is not None:
        _SECONDS.observe(seconds)
