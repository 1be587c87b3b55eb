"""The channels that leave this machine, as this installation has them."""

from importlib.util import find_spec

from holdfast.config import Settings, signing_secret
from holdfast.postgres.pool import Database
from holdfast.systems.providers.outward import Outward
from holdfast.systems.providers.push import PushChannel, Sender
from holdfast.systems.providers.webhooks import WebhookChannel


def outward(settings: Settings) -> Outward:
    """Return the way out that `settings` allow. The caller closes it."""
    return Outward(allow_private=settings.webhook_allow_private)


def sender(settings: Settings) -> Sender | None:
    """Return who sends Web Push; None without the extra `push`."""
    if find_spec("pywebpush") is None:
        return None
    return Sender.of(settings.vapid_private_key, signing_secret(settings), settings.vapid_subject)


def channels(
    settings: Settings, db: Database, way: Outward
) -> dict[str, PushChannel | WebhookChannel]:
    """Return the channels by name, those whose extra is installed.

    What is for another waits in its stream until there is one.
    """
    made: dict[str, PushChannel | WebhookChannel] = {}
    if find_spec("standardwebhooks") is not None:
        made["webhook"] = WebhookChannel(db, way)
    if (sends := sender(settings)) is not None:
        made["push"] = PushChannel(db, way, sends)
    return made
