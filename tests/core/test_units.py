"""Durations and sizes: every accepted spelling, every refusal with its value and fix, and the way back."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionsweep.units import (
    MAX_DURATION,
    MAX_SIZE,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("900", 900.0),
        ("0", 0.0),
        ("0.5", 0.5),
        ("15m", 900.0),
        ("1h", 3600.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        (" 5 m ", 300.0),
        ("1.5h", 5400.0),
        ("500ms", 0.5),
        ("1s500ms", 1.5),
        ("1w2d3h4m5s6ms", 788645.006),
        (900, 900.0),
        (2.5, 2.5),
        (timedelta(minutes=31), 1860.0),
    ],
)
def test_durations_in_every_spelling(value: object, seconds: float) -> None:
    parsed = parse_duration(value)
    assert parsed == pytest.approx(seconds)
    assert type(parsed) is float


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "m",
        "15M",
        "15x",
        "1m1h",
        "1h1h",
        "-1",
        "1e3",
        "nan",
        "inf",
        "1_000",
        "٣",
        "1..5h",
        "15m!",
        "5mm",
    ],
)
def test_a_text_that_is_no_duration_is_named_with_the_fix(value: str) -> None:
    with pytest.raises(ValueError, match="15m, 1h30m") as caught:
        parse_duration(value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        -1,
        -0.001,
        float("nan"),
        float("inf"),
        MAX_DURATION + 1,
        "3651d",
        True,
        None,
        [900],
        timedelta(seconds=-1),
    ],
)
def test_an_impossible_duration_is_named(value: object) -> None:
    with pytest.raises(ValueError, match="15m") as caught:
        parse_duration(value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("0", 0),
        ("1048576", 2**20),
        (17, 17),
        ("12B", 12),
        ("1kB", 1000),
        ("100MB", 10**8),
        ("100 mb", 10**8),
        ("2GB", 2 * 10**9),
        ("1TB", 10**12),
        ("1KiB", 1024),
        ("1MiB", 2**20),
        ("1.5GiB", 3 * 2**29),
        ("1TiB", 2**40),
        ("0.001kB", 1),
    ],
)
def test_sizes_in_every_spelling(value: object, size: int) -> None:
    parsed = parse_size(value)
    assert parsed == size
    assert type(parsed) is int


@pytest.mark.parametrize(
    "value", ["", "MB", "100M", "1G", "-5", "1e6", "1_000", "5 XB", "1.5", "0.0001kB", "1,5MB", "٣MB"]
)
def test_a_text_that_is_no_size_is_named(value: str) -> None:
    with pytest.raises(ValueError, match=r"kB, MB|round it") as caught:
        parse_size(value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("value", [-1, MAX_SIZE + 1, "9007199254740992", "10000TB", True, 1.5, None])
def test_an_impossible_size_is_named(value: object) -> None:
    with pytest.raises(ValueError, match=r"100MB, 1\.5GiB") as caught:
        parse_size(value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.5, "500ms"),
        (2.5, "2.5s"),
        (900, "15m"),
        (5400, "1h30m"),
        (90061.25, "1d1h1m1.25s"),
        (60, "1m"),
    ],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (999_994, "999.99 kB"),
        (999_999, "1 MB"),
        (10**8, "100 MB"),
        (3 * 2**29, "1.61 GB"),
    ],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert format_size(size) == text


def test_what_is_no_duration_or_size_is_not_formatted() -> None:
    for seconds in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="0 or more"):
            format_duration(seconds)
    with pytest.raises(ValueError, match="0 or more"):
        format_size(-1)


@given(st.floats(min_value=0, max_value=MAX_DURATION))
def test_a_formatted_duration_reads_back_to_the_millisecond(seconds: float) -> None:
    assert abs(parse_duration(format_duration(seconds)) - seconds) <= 0.000501


@given(st.integers(min_value=0, max_value=10**15))
def test_a_formatted_size_reads_back_to_half_a_percent(size: int) -> None:
    assert abs(parse_size(format_size(size)) - size) <= size * 0.005 + 0.5


@given(st.text())
def test_any_text_is_parsed_or_refused_with_a_value_error(text: str) -> None:
    for parse, top in ((parse_duration, MAX_DURATION), (parse_size, MAX_SIZE)):
        try:
            parsed = parse(text)
        except ValueError as error:
            message = str(error)
        else:
            assert 0 <= parsed <= top
            continue
        assert repr(text) in message
