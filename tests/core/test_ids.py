"""Ids: what is made matches its pattern, and nothing that could be more than a name does."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionsweep.model import ids

PATTERNS = (ids.SESSION_ID, ids.RESOURCE_ID, ids.VOLUME_ID, ids.SUFFIX, ids.NAME)
SUFFIXES = st.from_regex(r"(?:\.[a-z0-9]{1,8})?", fullmatch=True)

HOSTILE = (
    "..", ".", "/", "../x", "a/b", "a\\b", "a\0b", "a\n", "\n", " a", "a ", "-rf", "é", "İ", "ⅷ", "%2e%2e",
    "*", "~",
)  # fmt: skip


@given(st.integers(min_value=0, max_value=255))
def test_a_made_session_id_matches_and_names_its_partition(number: int) -> None:
    partition = f"{number:02x}"
    made = ids.new_session_id(partition)
    assert ids.is_session_id(made)
    assert ids.partition_of(made) == partition
    assert len(made) == 20


@given(SUFFIXES)
def test_a_made_resource_id_matches_and_ends_with_its_suffix(suffix: str) -> None:
    made = ids.new_resource_id(suffix)
    assert ids.is_resource_id(made)
    assert made[16:] == suffix


def test_a_made_volume_id_matches() -> None:
    assert ids.VOLUME_ID.match(ids.new_volume_id())


@given(st.text().filter(lambda text: not ids.SUFFIX.match(text)))
def test_no_other_suffix_is_taken(suffix: str) -> None:
    with pytest.raises(ValueError, match="suffix") as caught:
        ids.new_resource_id(suffix)
    assert repr(suffix) in str(caught.value)


@pytest.mark.parametrize("suffix", [".", "..", ".WAV", "wav", ".tar.gz", "./x", ".a\n", ".123456789", ".é", ".٣", ". "])
def test_hostile_suffixes_are_refused(suffix: str) -> None:
    with pytest.raises(ValueError, match="suffix"):
        ids.new_resource_id(suffix)


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.pattern)
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_strings_match_no_pattern(pattern: re.Pattern[str], text: str) -> None:
    assert pattern.match(text) is None


@given(st.sampled_from(HOSTILE), st.integers(min_value=0, max_value=20))
def test_a_hostile_piece_anywhere_spoils_an_id(piece: str, where: int) -> None:
    for made, accepts in (
        (ids.new_session_id("00"), ids.is_session_id),
        (ids.new_resource_id(".wav"), ids.is_resource_id),
        (ids.new_volume_id(), lambda text: ids.VOLUME_ID.match(text) is not None),
    ):
        spoilt = made[:where] + piece + made[where + len(piece) :]
        if spoilt != made:  # replacing the suffix's dot by a dot changes nothing
            assert not accepts(made[:where] + piece + made[where:])
            assert not accepts(spoilt)


@given(st.text(alphabet=st.characters(max_codepoint=0x2FF), max_size=24))
def test_what_matches_holds_only_our_alphabet(text: str) -> None:
    allowed = set(ids.ALPHABET)
    if ids.is_session_id(text):
        assert len(text) == 20
        assert set(text) <= allowed
    if ids.is_resource_id(text):
        stem, _, suffix = text.partition(".")
        assert len(stem) == 16
        assert set(stem) <= allowed
        assert re.fullmatch(r"[a-z0-9]{0,8}", suffix, re.ASCII)
    if ids.NAME.match(text):
        assert not set(text) & set("/\\\0\n ")
        assert text not in (".", "..")


@given(st.from_regex(ids.RESOURCE_ID, fullmatch=True), st.from_regex(ids.SESSION_ID, fullmatch=True))
def test_an_id_is_one_component_of_a_path(resource: str, session: str) -> None:
    for text in (resource, session):
        assert "/" not in text
        assert ".." not in text
        assert text == text.lower()
        assert text.isascii()


def test_ids_are_not_used_twice() -> None:
    made = [ids.new_resource_id() for _ in range(2000)]
    assert len(set(made)) == len(made)


def test_every_letter_is_drawn() -> None:
    drawn = "".join(ids.random_text(18) for _ in range(500))
    assert set(drawn) == set(ids.ALPHABET)  # a missing letter: (31/32)**9000, never by chance
