"""A process that speaks one text with espeak-ng, and ends.

Run by `voice.py` as a file of its own, without the package: the library keeps one state a process
and is written in C, so what it does to its process it does not do to a worker. It reads
`{voice, text}` as JSON from standard input and writes 16-bit mono sound to the path it is given;
the sample rate, in Hz, goes to standard output.
"""

import ctypes
import json
import os
import sys
import wave
from pathlib import Path
from typing import Any

import espeakng_loader

_RETRIEVAL = 1  # sound is handed to the callback, in the order of the text
_CHARS_UTF8 = 1
_POSITION_CHARACTER = 1
_RATE, _WORDS_PER_MINUTE = 1, 160

_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


def main() -> int:
    """Speak; the exit code is 0, 2 for a voice that is not there, 3 for a text it refuses."""
    asked = json.load(sys.stdin)
    # The path is relative: the library cuts one of more than 160 bytes.
    target = Path(sys.argv[1]).resolve()
    os.chdir(Path(espeakng_loader.get_data_path()).parent)
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = library.espeak_Initialize(_RETRIEVAL, 0, b"espeak-ng-data", 0)
    if rate <= 0:
        return 1
    if library.espeak_SetVoiceByName(asked["voice"].encode()) != 0:
        return 2
    library.espeak_SetParameter(_RATE, _WORDS_PER_MINUTE, 0)
    with wave.open(str(target), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate)

        def hear(samples: Any, count: int, _: object) -> int:
            if samples and count > 0:
                sound.writeframesraw(ctypes.string_at(samples, count * 2))
            return 0

        heard = _Callback(hear)  # kept by name until the end: the library holds only its address
        library.espeak_SetSynthCallback(heard)
        text = asked["text"].encode() + b"\0"
        if library.espeak_Synth(
            text, len(text), 0, _POSITION_CHARACTER, 0, _CHARS_UTF8, None, None
        ):
            return 3
        library.espeak_Synchronize()
    library.espeak_Terminate()
    sys.stdout.write(str(rate))
    return 0


if __name__ == "__main__":
    sys.exit(main())
