"""A small voice-like synthesizer: text to 16-bit mono WAV at 8 kHz, with nothing but the standard library.

Each glottal pulse rings the resonances (formants) of the vowel that its letter names; voiceless letters are noise.
It can't be mistaken for a person, but it rises at a question mark and falls at a full stop.
"""

from __future__ import annotations

import math
import random
import struct
import unicodedata
import wave
from collections.abc import Iterator
from functools import lru_cache
from typing import BinaryIO

RATE = 8000  # samples per second
MAX_TEXT = 280  # characters: at most about 25 s and 400 kB

#: Formants (Hz) of spoken vowels, after Peterson and Barney (1952), men's averages.
VOWELS = {
    "a": (730, 1090, 2440),
    "e": (530, 1840, 2480),
    "i": (270, 2290, 3010),
    "o": (570, 840, 2410),
    "u": (300, 870, 2240),
    "y": (390, 1990, 2550),
}
CLOSED = (250, 1200, 2200)  # a nasal's: lips closed, the voice goes on
BANDWIDTHS = (70, 90, 140)  # Hz
GAINS = (1.0, 0.5, 0.25)
HISSES = "fhkpqstcx"

VOWEL, CONSONANT, HISS, WORD_GAP, SENTENCE_GAP = 0.11, 0.05, 0.05, 0.07, 0.22  # seconds


def speak(text: str, file: BinaryIO) -> None:
    """Writes `text` as a WAV file into `file`, which must be open for writing and able to seek.

    Raises:
        ValueError: there is nothing to say, or more than `MAX_TEXT` characters.
    """
    letters = _letters(check(text))
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        for sentence, end in _sentences(letters):
            out.writeframesraw(b"".join(_sound(sentence, rising=end == "?")))


def check(text: str) -> str:
    """`text` without white space around it, if it can be spoken. Raises ValueError, see `speak`."""
    text = text.strip()
    if not text:
        raise ValueError("Write something to say.")
    if len(text) > MAX_TEXT:
        raise ValueError(f"That is {len(text)} characters; at most {MAX_TEXT} can be spoken at once.")
    return text


def _letters(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in plain if not unicodedata.combining(c))[: 2 * MAX_TEXT]


def _sentences(letters: str) -> Iterator[tuple[str, str]]:
    start = 0
    for at, letter in enumerate(letters):
        if letter in ".!?\n;:":
            yield letters[start:at], letter
            start = at + 1
    yield letters[start:], "."


def _sound(sentence: str, *, rising: bool) -> Iterator[bytes]:
    """A sentence's samples, letter by letter, under one melody."""
    for at, letter in enumerate(sentence):
        place = at / max(1, len(sentence) - 1)
        pitch = 120 * (1 + (0.35 * place if rising else -0.22 * place)) + 6 * math.sin(at * 1.3)
        if letter in VOWELS:
            yield from _voiced(VOWELS[letter], VOWEL, pitch, 1.0)
        elif letter in HISSES:
            yield _noise(letter)
        elif letter.isalpha() and letter.isascii():
            yield from _voiced(CLOSED, CONSONANT, pitch, 0.5)
        elif letter.isalnum():  # a digit or another script: some vowel, always the same one
            yield from _voiced(VOWELS["aeiouy"[ord(letter) % 6]], VOWEL, pitch, 1.0)
        elif letter.isspace():
            yield _silence(WORD_GAP)
    yield _silence(SENTENCE_GAP)


def _voiced(formants: tuple[int, int, int], seconds: float, pitch: float, loudness: float) -> Iterator[bytes]:
    period = round(RATE / pitch)
    pulses = max(2, round(seconds * pitch))
    for number in range(pulses):
        swell = math.sin(math.pi * (number + 0.5) / pulses)
        yield _pulse(formants, period, round(8 * loudness * (0.35 + 0.65 * swell)))


@lru_cache(maxsize=4096)
def _pulse(formants: tuple[int, int, int], period: int, level: int) -> bytes:
    """One glottal period: damped sines, with the tails of the two periods before. `level` is 0 to 8."""
    peak = sum(GAINS)
    samples = []
    for n in range(period):
        value = sum(
            gain * math.exp(-math.pi * band * t / RATE) * math.sin(2 * math.pi * hertz * t / RATE)
            for t in (n, n + period, n + 2 * period)
            for hertz, band, gain in zip(formants, BANDWIDTHS, GAINS, strict=True)
        )
        samples.append(max(-32767, min(32767, round(24000 * level / 8 * value / peak))))
    return struct.pack(f"<{period}h", *samples)


@lru_cache(maxsize=len(HISSES))
def _noise(letter: str) -> bytes:
    source = random.Random(letter)  # noqa: S311 - a sound, not a secret
    count = round(RATE * HISS)
    burst = 3000 if letter in "sx" else 1600
    return struct.pack(
        f"<{count}h", *(round(source.gauss(0, burst) * math.sin(math.pi * n / count)) for n in range(count))
    )


def _silence(seconds: float) -> bytes:
    return bytes(2 * round(RATE * seconds))
