"""The spellings that training shows beside a name's own."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charrnn.model.normalise import ACCENTS, LATIN, SEED, normalise
from charrnn.model.vocabulary import GIVEN
from charrnn.training.spellings import JOINED, joined_names, other_spellings


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Dvořák", ["dvorak"]),
        ("DVOR\u030cA\u0301K", ["dvorak"]),
        ("Müller-Lüdenscheidt", ["muller-ludenscheidt", "mueller-luedenscheidt"]),
        ("Groß", ["gross"]),
        ("Ångström", ["angstrom", "aangstroem"]),
        ("Bjørnsæther", ["bjornsaether", "bjoernsaether"]),
        ("Þórðarson", ["thordarson"]),
        ("Łuczyński", ["luczynski"]),
        ("Đorđević", ["dordevic", "djordjevic"]),
        ("Niță", ["nita", "niţă"]),
        ("Yıldız", ["yildiz"]),
        ("Işık Yıldırım", ["isik yildirim", "işik yildirim"]),
        ("Nguyễn", ["nguyen"]),
        ("d’Été", ["d'ete"]),
        ("Παπάς", ["παπασ"]),
        ("Королёв Йот", ["королев йот"]),
        ("がとう", []),
        ("김민수", []),
        (f"{GIVEN}Jürgen", [f"{GIVEN}jurgen", f"{GIVEN}juergen"]),
        ("van der Berg", []),
        ("", []),
    ],
)
def test_a_name_has_the_spellings_that_tables_hold(name: str, expected: list[str]) -> None:
    assert other_spellings(name) == expected


@pytest.mark.parametrize("rules", [LATIN, SEED], ids=["LATIN", "SEED"])
def test_rules_that_drop_accents_have_one_spelling(rules: object) -> None:
    assert other_spellings("Müller", rules) == []  # type: ignore[arg-type]


@given(name=st.text(st.sampled_from("aßäøđșıΆё' -\u0301") | st.characters(codec="utf-8")))
@settings(deadline=None, database=None, derandomize=True, max_examples=300)
def test_spellings_are_normalised_distinct_and_none_of_them_the_name(name: str) -> None:
    own, others = normalise(name, ACCENTS), other_spellings(name)
    assert len({own, *others}) == len(others) + 1
    assert other_spellings(own) == others
    assert [normalise(text, ACCENTS) for text in others] == others


@given(name=st.text(st.characters(max_codepoint=0x24F), max_size=20))
@settings(deadline=None, database=None, derandomize=True, max_examples=300)
def test_the_first_spelling_of_a_latin_name_is_the_one_by_latin_rules(name: str) -> None:
    own = normalise(name, ACCENTS)
    assert [own, *other_spellings(name)][own != normalise(own, LATIN)] == normalise(own, LATIN)


def test_names_written_without_spaces_are_joined_within_a_label() -> None:
    names = ["김", "박", GIVEN + "민수", "Kim", GIVEN + "Minsu", "山", GIVEN + "Taro", "かな"]
    columns = pa.array(names, pa.large_string()), np.array([0, 0, 0, 0, 0, 1, 1, 1])
    joined = joined_names(*columns, np.ones(8, np.float32))
    assert len(joined) == JOINED
    assert set(joined) == {("김민수", 0), ("박민수", 0)}
    assert joined == joined_names(*columns, np.ones(8, np.float32))
    often = Counter(joined_names(*columns, np.array([9, *[1] * 7], np.float32)))
    assert 0.85 * JOINED < often["김민수", 0] < 0.95 * JOINED
