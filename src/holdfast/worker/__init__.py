"""The worker door: jobs in, results, refunds and effects out. Holds no SQL and no rules."""

from holdfast.worker.relay import Channel, LogChannel, Relay
from holdfast.worker.worker import Worker

__all__ = ["Channel", "LogChannel", "Relay", "Worker"]
