"""Sound as WAV, with nothing but the standard library: checked, converted to 16-bit mono at 8 kHz, made from text."""

from __future__ import annotations

import math
import sys
import wave
from array import array
from collections.abc import Iterator
from itertools import pairwise
from typing import BinaryIO

RATE = 8000  # samples per second of what comes out
RATES = range(1000, 192_001)  # samples per second of what may come in
MAX_CHANNELS = 8
MAX_TEXT = 120  # characters: about 11 s and 2 MB

_SIGNED = bytes(value ^ 0x80 for value in range(256))  # 8-bit samples have no sign in WAV, all others have
_SCALE = [
    220 * 2 ** (step / 12) for octave in (0, 12) for step in (octave, octave + 3, octave + 5, octave + 7, octave + 10)
]


class UnsuitableError(ValueError):
    """This can't be converted; the message says why, for people."""


def open_wav(file: BinaryIO) -> wave.Wave_read:
    """The recording in a file at its beginning.

    Raises:
        UnsuitableError: it is no uncompressed WAV, or has nothing in it that can be converted.
    """
    try:
        opened = wave.open(file, "rb")  # noqa: SIM115 - the caller's
    except (wave.Error, EOFError, RuntimeError) as error:
        raise UnsuitableError("That is no uncompressed WAV file.") from error
    if opened.getframerate() not in RATES or not 0 < opened.getnchannels() <= MAX_CHANNELS:
        raise UnsuitableError(
            f"It must have {RATES[0]} to {RATES[-1]} samples per second, on up to {MAX_CHANNELS} channels."
        )
    if not opened.getnframes():
        raise UnsuitableError("There is no sound in it.")
    return opened


def converted(source: wave.Wave_read) -> Iterator[bytes]:
    """Each second of a recording as 16-bit mono at 8 kHz; the last may be shorter."""
    rate, channels, width = source.getframerate(), source.getnchannels(), source.getsampwidth()
    while raw := source.readframes(rate):
        whole = len(raw) - len(raw) % (width * channels)  # a file that was cut off
        mono = _mono(_top_16_bits(raw[:whole], width), channels)
        # Each new sample is the mean of the old ones in its time: crude, but without the whistle of leaving some out.
        ends = [at * rate // RATE for at in range(len(mono) * RATE // rate + 1)]
        means = (_mean(mono[begin : max(end, begin + 1)]) for begin, end in pairwise(ends))
        yield _little_endian(array("h", means)).tobytes()


def write_header(out: wave.Wave_write, *, channels: int = 1, rate: int = RATE) -> None:
    """16 bits a sample."""
    out.setnchannels(channels)
    out.setsampwidth(2)
    out.setframerate(rate)


def whistle(text: str, file: BinaryIO) -> None:
    """Writes `text` as a melody into `file`, a letter a note: 44.1 kHz in stereo, so that there is much to convert.

    Raises:
        UnsuitableError: there is nothing to whistle, or more than `MAX_TEXT` characters.
    """
    letters = text.strip().casefold()
    if not 0 < len(letters) <= MAX_TEXT:
        raise UnsuitableError(f"Write 1 to {MAX_TEXT} characters.")
    rate, length = 44_100, 3_969  # a note takes 0.09 s
    with wave.open(file, "wb") as out:
        write_header(out, channels=2, rate=rate)
        for letter in letters:
            loud, hertz = 9000 * letter.isalnum(), _SCALE[ord(letter) % len(_SCALE)]
            note = array("h")
            for at in range(length):
                value = round(loud * math.sin(math.pi * at / length) * math.sin(2 * math.pi * hertz * at / rate))
                note.extend((value, value))
            out.writeframesraw(_little_endian(note).tobytes())


def _top_16_bits(raw: bytes, width: int) -> array[int]:
    both = bytearray(2 * (len(raw) // width))
    if width == 1:
        both[1::2] = raw.translate(_SIGNED)
    else:
        both[::2], both[1::2] = raw[width - 2 :: width], raw[width - 1 :: width]
    return _little_endian(array("h", bytes(both)))


def _mono(samples: array[int], channels: int) -> array[int]:
    if channels == 1:
        return samples
    return array("h", (sum(frame) // channels for frame in zip(*[iter(samples)] * channels, strict=True)))


def _mean(samples: array[int]) -> int:
    return sum(samples) // len(samples)


def _little_endian(samples: array[int]) -> array[int]:
    """To WAV's byte order, or back from it."""
    if sys.byteorder == "big":
        samples.byteswap()
    return samples
