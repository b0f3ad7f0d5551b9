"""The synthesizer: real WAV, small, quick, different for different texts, and refusing what it can't say."""

from __future__ import annotations

import io
import itertools
import time
import wave
from array import array

import pytest

from voice_notes.voice import MAX_TEXT, RATE, speak


def samples(text: str) -> array[int]:
    file = io.BytesIO()
    speak(text, file)
    file.seek(0)
    with wave.open(file) as wav:
        assert (wav.getnchannels(), wav.getsampwidth(), wav.getframerate()) == (1, 2, RATE)
        return array("h", wav.readframes(wav.getnframes()))


@pytest.mark.parametrize("text", ["Hello.", "ünïcødé", "東京 42", "?!", "s", "\N{WAVING HAND SIGN} hi"])
def test_any_text_becomes_a_wav_file(text: str) -> None:
    assert len(samples(text)) >= RATE // 10


def test_a_vowel_is_voiced_at_a_speakers_pitch() -> None:
    sound = samples("aaaaaaaa")[: RATE // 2]

    def likeness(lag: int) -> int:
        return sum(a * b for a, b in itertools.islice(zip(sound, sound[lag:], strict=False), 3000))

    best = max(range(RATE // 300, RATE // 60), key=likeness)
    assert 100 <= RATE / best <= 140, "the strongest period is a voice's"


def test_it_is_loud_enough_and_does_not_clip() -> None:
    sound = samples("The train to Lisbon leaves at nine.")
    assert 8000 < max(map(abs, sound)) < 32767


def test_a_question_sounds_unlike_a_statement() -> None:
    assert samples("you are here?") != samples("you are here.")
    assert samples("ma") != samples("mi")
    assert samples("same") == samples("same")


def test_the_longest_text_is_still_small_and_quick() -> None:
    began = time.process_time()
    sound = samples("aeiou " * (MAX_TEXT // 6))
    assert 2 * len(sound) < 600_000
    assert time.process_time() - began < 2


@pytest.mark.parametrize("text", ["", "  \n", "x" * (MAX_TEXT + 1)])
def test_nothing_and_too_much_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"Write something|at most 280"):
        speak(text, io.BytesIO())
