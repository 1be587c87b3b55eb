"""Voices: a text becomes sound. One protocol, and espeak-ng, which needs no key and no network.

In development a text may begin with `!fail` (it fails for good) or `!slow SECONDS` (it takes that
long), for demonstrations and tests; what follows is what is spoken.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import io
import json
import os
import re
import sys
import tempfile
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from holdfast.systems.providers.story import OutOfService, Overloaded, Rejected

VOICES = ("en", "en-us", "ru", "uk", "de", "es", "fr", "it", "pl", "pt")
MOST_BYTES = 8_388_608  # of one sound

_PROGRAM = Path(__file__).with_name("espeak.py")
_COMMAND = re.compile(r"\s*!(?:(?P<fail>fail)|slow\s+(?P<seconds>\d{1,4}(?:\.\d{1,3})?))(?:\s+|$)")
_NO_SUCH_VOICE, _REFUSED = 2, 3
_LEAST_SECONDS = 0.05  # espeak answers a text without words with a few samples of silence


@dataclass(frozen=True, slots=True)
class Sound:
    """A whole WAV file, and how long it lasts."""

    data: bytes
    seconds: float


class VoiceProvider(Protocol):
    """Somebody who can speak."""

    name: str

    async def speak(self, text: str, voice: str, *, deadline: float) -> Sound:
        """Speak one text (up to 2,500 characters) within `deadline` seconds.

        `voice` is one of VOICES, or "" for the language that the text seems to be in.

        Raises:
            Rejected: this text will never be spoken.
            Overloaded: not this time.
            OutOfService: nothing can be spoken before somebody has put the installation right.
        """
        ...


class EspeakVoice:
    """Speaks with espeak-ng, each text in a process of its own (0.3 s): see `espeak.py`."""

    name = "espeak-ng"

    def __init__(self, *, dev: bool = False) -> None:
        """Make one; `dev` has it obey the commands in texts."""
        self._dev = dev
        self._room = asyncio.Semaphore(os.cpu_count() or 2)

    async def speak(self, text: str, voice: str, *, deadline: float) -> Sound:
        """Speak one text; see `VoiceProvider.speak`."""
        if importlib.util.find_spec("espeakng_loader") is None:
            raise OutOfService("voice_missing", reason="espeakng-loader is not installed")
        try:
            async with asyncio.timeout(deadline):
                if self._dev:
                    text = await _obey(text)
                async with self._room:
                    data = await _run(text, voice or language_of(text))
        except TimeoutError:
            raise Overloaded("voice_failed", reason=f"over {deadline:g} s") from None
        return _checked(data)


def language_of(text: str) -> str:
    """Return the voice for a text: uk by its own letters, ru for other Cyrillic, else en."""
    if re.search("[\u0456\u0457\u0454\u0491\u0406\u0407\u0404\u0490]", text):
        return "uk"
    return "ru" if re.search("[\u0400-\u04ff]", text) else "en"


async def _obey(text: str) -> str:
    while found := _COMMAND.match(text):
        if found["fail"]:
            raise Rejected("voice_refused", reason="!fail")
        await asyncio.sleep(float(found["seconds"]))
        text = text[found.end() :]
    return text


async def _run(text: str, voice: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="holdfast-voice-") as folder:
        target = Path(folder) / "speech.wav"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            str(_PROGRAM),
            str(target),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            asked = json.dumps({"voice": voice, "text": text})
            _, said = await process.communicate(asked.encode())
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        if process.returncode in (_NO_SUCH_VOICE, _REFUSED):
            raise Rejected("voice_refused", reason=f"espeak-ng: {process.returncode}, {voice}")
        if process.returncode != 0:
            reason = f"espeak-ng ended with {process.returncode}: {said.decode(errors='replace')}"
            raise Overloaded("voice_failed", reason=reason)
        if target.stat().st_size > MOST_BYTES:
            raise Rejected("voice_too_long", reason=f"{target.stat().st_size} bytes of sound")
        return target.read_bytes()


def _checked(data: bytes) -> Sound:
    """Read the sound back: what is no WAV, too short or nothing but silence is no speech."""
    with wave.open(io.BytesIO(data)) as sound:
        seconds = sound.getnframes() / sound.getframerate()
        if seconds < _LEAST_SECONDS or not any(sound.readframes(sound.getnframes())):
            raise Rejected("voice_silent", reason=f"{seconds:.3f} s")
    return Sound(data, seconds)
