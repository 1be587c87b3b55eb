"""The outside world that writes stories: one protocol, one file for each generator."""

from __future__ import annotations

from holdfast.systems.providers.offline import OfflineProvider
from holdfast.systems.providers.story import (
    OnText,
    OutOfService,
    Overloaded,
    ProviderError,
    Rejected,
    Signs,
    Story,
    StoryProvider,
    StoryRequest,
    Usage,
    count_words,
)

__all__ = [
    "OfflineProvider",
    "OnText",
    "OutOfService",
    "Overloaded",
    "ProviderError",
    "Rejected",
    "Signs",
    "Story",
    "StoryProvider",
    "StoryRequest",
    "Usage",
    "count_words",
    "story_provider",
]


def story_provider(
    name: str,
    *,
    dev: bool = False,
    api_key: str | None = None,
    base_url: str | None = None,
    model: str | None = None,
    silence: float = 20.0,
) -> StoryProvider:
    """Make the story generator of this name: `offline` or `anthropic`.

    `dev` lets the offline one obey commands in prompts. The others are for `anthropic`: `silence`
    is how many seconds without a byte end an attempt; six times as long with nothing but pings
    (the model may be thinking) ends it too.

    Raises:
        ValueError: no generator has this name, or `base_url` is not a URL.
    """
    match name:
        case "offline":
            return OfflineProvider(dev=dev)
        case "anthropic":
            # The SDK takes half a second to import: only those who use it pay that.
            from holdfast.systems.providers.anthropic import DEFAULT_MODEL, AnthropicProvider

            return AnthropicProvider(
                api_key=api_key,
                base_url=base_url,
                model=model or DEFAULT_MODEL,
                silence=silence,
                patience=6 * silence,
            )
        case _:
            raise ValueError(f"no story generator is called {name!r}: offline or anthropic")
