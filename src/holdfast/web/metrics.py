"""Figures for Prometheus, prefix `holdfast_`. Labels name kinds and routes, never an id."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from holdfast.postgres.pool import Database, Row
from holdfast.systems import orders

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})


class Metrics:
    """The figures of one server process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "holdfast_http_requests",
            "Requests answered.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "holdfast_http_request_seconds",
            "Time to answer, by route; of an event stream its whole life.",
            ("method", "route"),
            registry=self.registry,
            buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )
        self.streams = Gauge(
            "holdfast_event_streams", "Event streams that are open.", registry=self.registry
        )
        self._up = Gauge(
            "holdfast_database_up", "Whether the database answers.", registry=self.registry
        )
        self._round_trips = Gauge(
            "holdfast_database_round_trips", "Statements sent for verbs.", registry=self.registry
        )

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        method = method if method in _METHODS else "OTHER"
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def page(
        self, db: Database, depth: list[Row] | None, desks: Sequence[orders.Depth] = ()
    ) -> bytes:
        """Return the page that Prometheus scrapes; `depth` is None while the database is away."""
        self._up.set(depth is not None)
        self._round_trips.set(db.round_trips)
        asked = CollectorRegistry()
        asked.register(_Queue(depth or []))
        asked.register(_Desks(desks))
        parts = (self.registry, orders.meters.REGISTRY, asked)
        return b"".join(generate_latest(part) for part in parts)


class _Desks(Collector):
    """The order desks as they were asked for this scrape, all together: desks have no end."""

    def __init__(self, depth: Sequence[orders.Depth]) -> None:
        self._depth = depth

    def collect(self) -> Iterator[Metric]:
        """Give a figure per open status, and the age of the order that waits longest."""
        count = GaugeMetricFamily("holdfast_orders_open", "Open orders.", labels=("status",))
        late = GaugeMetricFamily(
            "holdfast_orders_late", "Open orders past their time.", labels=("status",)
        )
        for status in ("PENDING", "PROCESSING"):
            rows = [row for row in self._depth if row.status == status]
            count.add_metric((status,), sum(row.orders for row in rows))
            late.add_metric((status,), sum(row.late for row in rows))
        waiting = [d.oldest.timestamp() for d in self._depth if d.oldest and d.status == "PENDING"]
        age = GaugeMetricFamily(
            "holdfast_orders_oldest_seconds",
            "Age of the order that waits longest.",
            value=max(0.0, time.time() - min(waiting)) if waiting else 0.0,
        )
        return iter((count, late, age))


class _Queue(Collector):
    """The queue as it was asked for this scrape."""

    def __init__(self, depth: list[Row]) -> None:
        self._depth = depth

    def collect(self) -> Iterator[Metric]:
        """Give a figure per kind of job."""
        jobs = GaugeMetricFamily(
            "holdfast_queue_jobs", "Jobs that wait or are worked on.", labels=("kind", "state")
        )
        age = GaugeMetricFamily(
            "holdfast_queue_oldest_seconds", "Age of the oldest waiting job.", labels=("kind",)
        )
        paused = GaugeMetricFamily(
            "holdfast_queue_paused", "Whether a kind is paused by its provider.", labels=("kind",)
        )
        now = time.time()
        for row in self._depth:
            kind, oldest = row["kind"], row["oldest"]
            jobs.add_metric((kind, "waiting"), row["waiting"])
            jobs.add_metric((kind, "leased"), row["leased"])
            age.add_metric((kind,), max(0.0, now - oldest.timestamp()) if oldest else 0.0)
            paused.add_metric((kind,), row["pause_reason"] is not None)
        return iter((jobs, age, paused))
