"""The voice: what comes out is sound that somebody speaks, whole, or a reason."""

import asyncio
import io
import time
import wave
from array import array
from itertools import pairwise

import pytest

from holdfast.systems.providers.story import Overloaded, Rejected
from holdfast.systems.providers.voice import VOICES, EspeakVoice, Sound, language_of

SENTENCES = {
    "en": "A fox learned to read, and read the wind first.",
    "ru": "Лиса научилась читать и сначала прочла ветер.",
    "uk": "Лисиця навчилася читати й спершу прочитала вітер.",
}


def samples(sound: Sound) -> tuple[int, array]:
    with wave.open(io.BytesIO(sound.data)) as read:
        assert (read.getnchannels(), read.getsampwidth()) == (1, 2)
        return read.getframerate(), array("h", read.readframes(read.getnframes()))


def loud(values: array) -> float:
    return (sum(value * value for value in values) / len(values)) ** 0.5


@pytest.mark.parametrize(("voice", "text"), SENTENCES.items())
async def test_it_speaks(voice, text):
    sound = await EspeakVoice().speak(text, "", deadline=30)
    rate, heard = samples(sound)
    assert sound.seconds == pytest.approx(len(heard) / rate)
    assert 0.2 < sound.seconds / len(text.split()) < 1.2, "as fast as somebody reads"
    # Speech swells and pauses, a tone or noise does not; and it lives well below 4 kHz.
    steps = [
        loud(heard[at : at + rate // 50]) for at in range(0, len(heard) - rate // 50, rate // 50)
    ]
    assert max(steps) > 1000
    assert max(steps) > 5 * sorted(steps)[len(steps) // 10]
    crossings = sum(1 for a, b in pairwise(heard) if (a < 0) != (b < 0))
    assert 100 < crossings / sound.seconds / 2 < 4000
    named = await EspeakVoice().speak(text, voice, deadline=30)
    assert named.seconds == pytest.approx(sound.seconds, rel=0.1), "the language was heard"


async def test_every_voice_that_is_offered_is_there():
    provider = EspeakVoice()
    sounds = await asyncio.gather(*(provider.speak("one two", v, deadline=60) for v in VOICES))
    assert all(sound.seconds > 0.3 for sound in sounds)


async def test_more_text_is_more_sound_and_another_text_another():
    provider = EspeakVoice()
    short, long = [await provider.speak("a fox " * n, "en", deadline=30) for n in (5, 50)]
    assert 6 < long.seconds / short.seconds < 14


@pytest.mark.parametrize("text", ["...", "—", " "])
async def test_nothing_to_hear_is_refused_for_good(text):
    with pytest.raises(Rejected) as told:
        await EspeakVoice().speak(text, "en", deadline=30)
    assert told.value.code == "voice_silent"


async def test_what_is_too_long_to_keep_is_refused_for_good():
    with pytest.raises(Rejected) as told:
        await EspeakVoice().speak("9999999999 " * 220, "en", deadline=60)
    assert told.value.code == "voice_too_long"


async def test_a_voice_that_is_not_there():
    with pytest.raises(Rejected) as told:
        await EspeakVoice().speak("hello", "zz", deadline=30)
    assert told.value.code == "voice_refused"


async def test_commands_are_obeyed_in_development_and_spoken_elsewhere():
    with pytest.raises(Rejected):
        await EspeakVoice(dev=True).speak("!fail a fox", "en", deadline=30)
    assert (await EspeakVoice().speak("!fail a fox", "en", deadline=30)).seconds > 0.5
    with pytest.raises(Overloaded):
        await EspeakVoice(dev=True).speak("!slow 60 a fox", "en", deadline=0.2)


async def test_a_cancelled_speaker_leaves_no_process(monkeypatch):
    made = []
    begin = asyncio.create_subprocess_exec

    async def noted(*command, **options):
        made.append(await begin(*command, **options))
        return made[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noted)
    task = asyncio.create_task(EspeakVoice().speak("a fox " * 400, "en", deadline=30))
    end = time.monotonic() + 10
    while not made and time.monotonic() < end:
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert made[0].returncode is not None


@pytest.mark.parametrize(
    ("text", "voice"),
    [("A fox", "en"), ("Лиса", "ru"), ("Її", "uk"), ("Привіт", "uk"), ("12", "en")],
)
def test_languages_are_told_apart(text, voice):
    assert language_of(text) == voice
