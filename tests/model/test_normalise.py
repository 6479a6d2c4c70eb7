"""Text rules: a table of cases, and what must hold for any text at all."""

import re
import unicodedata
from unittest import mock

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from charrnn.model.normalise import (
    ACCENTS,
    LATIN,
    SEED,
    Normalisation,
    normalise,
    normalise_array,
    transliterate,
    transliterate_array,
)

OWN = Normalisation("NFKC", False, "plain", jamo=False, vowel_signs=True)
# Characters that rules stumble over: marks of several classes, joiners, spaces, case, look-alikes.
AWKWARD = (
    "aA zß\u0130ıſẞŁøΣςéǅﬁ½Ａ\u3000\u00a0\u2028\u200b\u200d\ufeff\u00ad\0\t\n\x1c\x7f\x85´`’‐—"
)
AWKWARD += (
    "กุ้कि्\u0301\u0308\u0323\u20dd\u302e\u302f\u1b44\u093e\ud55c\u1100\u1161\u11a8\U0001f600\u1ffd"
)
texts = st.text(st.sampled_from(AWKWARD) | st.characters(codec="utf-8"), max_size=30)
every_rules = pytest.mark.parametrize(
    "rules", [LATIN, SEED, ACCENTS, OWN], ids=["LATIN", "SEED", "ACCENTS", "OWN"]
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ślusàrski", "Slusarski"),
        ("O'Néàl", "O'Neal"),
        ("Łódź", "Łodz"),  # ł has no decomposition
        ("Straße", "Straße"),
        ("O’Neill", "O’Neill"),
        ("Béringer,  de ", "Beringer, de"),
        ("Ｔａｎａｋａ", "Ｔａｎａｋａ"),  # NFD leaves compatibility forms alone
        ("İstanbul", "Istanbul"),
        ("", ""),
    ],
)
def test_seed_rules_do_what_the_notebook_does(text: str, expected: str) -> None:
    assert normalise(text, SEED) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ślusàrski", "slusarski"),
        ("Straße", "strasse"),
        ("STRAẞE", "strasse"),
        ("O’Neill", "o'neill"),
        ("O´Neill", "o'neill"),
        ("OʼNeill", "o'neill"),
        ("ŁÓDŹ", "lodz"),
        ("İstanbul", "istanbul"),
        ("ıstanbul", "istanbul"),
        ("Ｔａｎａｋａ", "tanaka"),
        ("ﬁnn", "finn"),
        ("ĲSSEL", "ijssel"),
        ("Æthelflæd Ðórr Þór", "aethelflaed dorr thor"),
        ("Œuvrard Ørsted Đoković Ħal", "oeuvrard orsted dokovic hal"),
        ("Jean—Luc‐Marie", "jean-luc-marie"),
        ("de\u00a0la\u2003Cruz", "de la cruz"),
        ("\u3000 Ito \t\r\n", "ito"),
        ("Ka\u200bto\ufeff", "kato"),
        ("Ka\u00adto", "kato"),
        ("Ka\0to\x7f", "kato"),
        ("e\u0323\u0301", "e"),
        ("e\u0301\u0323", "e"),
        ("\u0301", ""),
        (" \u200b ", ""),
        ("a \u200b b", "a b"),
        ("Катя", "катя"),
        ("Йосиф", "иосиф"),
        ("Παπαδόπουλος", "παπαδοπουλος"),
        ("", ""),
    ],
)
def test_latin_rules_fold_to_plain_letters(text: str, expected: str) -> None:
    assert normalise(text, LATIN) == expected
    assert normalise(text) == expected  # the default rules


@pytest.mark.parametrize(
    "spellings",
    [
        ("Zoë", "Zoe\u0308", "ZOË", "zoe"),
        ("o\u0323\u0302", "o\u0302\u0323", "ộ", "Ộ"),
        ("D’Angelo", "D'Angelo", "D‘ANGELO", "d`angelo", "D´Angelo"),
        ("Ludwig  Groß", "ludwig gross", "LUDWIG\u00a0GROẞ"),
    ],
)
def test_spellings_of_one_name_become_one_text(spellings: tuple[str, ...]) -> None:
    assert len({normalise(text) for text in spellings}) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dvořák", "dvořák"),
        ("DVOR\u030cA\u0301K", "dvořák"),
        ("Straße STRAẞE", "straße straße"),
        ("ŁÓDŹ Ørsted Þór", "łódź ørsted þór"),
        ("O’Neill Jean—Luc", "o'neill jean-luc"),
        ("O´Neill", "o'neill"),
        ("İstanbul", "istanbul"),
        ("Işık", "işık"),
        ("Nguyễn", "nguyễn"),
        ("o\u0323\u0302", "ộ"),
        ("J\u030c", "ǰ"),  # has no composed capital
        ("x\u0301", "x"),  # composes with nothing
        ("e\u200d\u0301", "e"),  # kept apart from its letter
        ("Ｔａｎａｋａ ﬁnn", "tanaka finn"),
        ("ΠΑΠΑΣ Παπάς", "παπασ παπάσ"),
        ("Йосиф", "йосиф"),
        ("한글", "\u1112\u1161\u11ab\u1100\u1173\u11af"),
        ("\u1112\u1161\u11ab", "\u1112\u1161\u11ab"),
        ("ガラス ｶﾞﾗｽ がらす", "がらす がらす がらす"),
        ("ワ\u3099ヷ", "わわ"),
        ("Ka\u200bto\ufeff", "kato"),
        ("\u0301", ""),
        ("", ""),
    ],
)
def test_accents_rules_keep_what_unicode_composes(text: str, expected: str) -> None:
    assert normalise(text, ACCENTS) == expected
    for form in ("NFC", "NFD"):
        assert normalise(unicodedata.normalize(form, text), ACCENTS) == expected


@every_rules
def test_ten_thousand_characters_keep_their_length(rules: Normalisation) -> None:
    letter = normalise("é", rules)
    assert normalise("é" * 10_000, rules) == letter * 10_000
    assert normalise("e" + "\u0301" * 10_000, rules) == letter
    assert normalise(" " * 10_000, rules) == ""


def test_rules_can_be_mixed() -> None:
    assert normalise("ŁÓß", Normalisation("NFD", lowercase=True, fold="none")) == "łoß"
    assert normalise("łóß", Normalisation("NFD", lowercase=False, fold="ascii")) == "loss"
    assert normalise("ŁÓß Ёж Ώρα", OWN) == "LOss Еж Ωρα"
    assert normalise("\u1112\u1161\u11ab글", OWN) == "한글"
    assert normalise("สมชา\u0e22 गु\u200bप्ता é\u0323", OWN) == "สมชาย गुप्ता e"


@every_rules
def test_every_single_character_is_stable_once_normalised(rules: Normalisation) -> None:
    characters = [chr(i) for i in range(0x20000) if not 0xD800 <= i < 0xE000]
    once = [normalise(c, rules) for c in characters]
    assert [
        c for c, text in zip(characters, once, strict=True) if normalise(text, rules) != text
    ] == []


@every_rules
@example(text="\u302e\u200c\u1b44")  # a joiner between two spacing marks of different classes
@example(text="a\u1ffdb`c´")
@given(text=texts)
@settings(deadline=None, database=None, derandomize=True, max_examples=300)
def test_normalising_twice_changes_nothing(rules: Normalisation, text: str) -> None:
    once = normalise(text, rules)
    assert normalise(once, rules) == once


@every_rules
@given(text=texts)
@settings(deadline=None, database=None, derandomize=True, max_examples=300)
def test_no_stray_space_and_no_invisible_character_is_left(rules: Normalisation, text: str) -> None:
    result = normalise(text, rules)
    assert result == " ".join(result.split())
    if rules.vowel_signs:
        result = re.sub("[\u0900-\u109f\u1780-\u17ff]", "", result)
    assert not {unicodedata.category(c) for c in result} & {"Mn", "Me", "Cc", "Cf"}


FOLD = str.maketrans(
    dict(zip("øłđðħıĸŋŧəƒɓɗƙƴ", "olddhikntafbdky", strict=True))
    | {"ß": "ss", "æ": "ae", "œ": "oe", "þ": "th"}
    | dict.fromkeys("‘’‚‛ʻʼʽʾʿ′`´ꞌ＇", "'")
    | dict.fromkeys("‐‑‒–—―−﹣－", "-")
)


def without_accents(text: str, rules: Normalisation) -> str:
    """What SEED and LATIN gave before there were rules that keep accents; models rely on it."""
    text = unicodedata.normalize(rules.form, text.translate(FOLD) if rules.lowercase else text)
    text = text.lower() if rules.lowercase else text
    invisible = ("Mn", "Me", "Cf", "Cc")
    shown = [c for c in text if c.isspace() or unicodedata.category(c) not in invisible]
    text = "".join(" " if c.isspace() else c for c in shown)
    text = text.translate(FOLD) if rules.lowercase else text
    return " ".join(unicodedata.normalize(rules.form, text).split())


@pytest.mark.parametrize("rules", [LATIN, SEED], ids=["LATIN", "SEED"])
@given(text=texts)
@settings(deadline=None, database=None, derandomize=True, max_examples=300)
def test_rules_without_accents_give_what_they_always_gave(rules: Normalisation, text: str) -> None:
    assert normalise(text, rules) == without_accents(text, rules)


@pytest.mark.parametrize("rules", [LATIN, SEED], ids=["LATIN", "SEED"])
def test_rules_without_accents_give_every_character_what_they_always_gave(
    rules: Normalisation,
) -> None:
    texts = (f"a{chr(point)}" for point in range(0x20000) if not 0xD800 <= point < 0xE000)
    assert [t for t in texts if normalise(t, rules) != without_accents(t, rules)] == []


@pytest.mark.parametrize("rules", [SEED, ACCENTS, OWN], ids=["SEED", "ACCENTS", "OWN"])
@example(text="a\u1ffdb")
@given(text=texts)
@settings(deadline=None, database=None, derandomize=True, max_examples=200)
def test_composed_and_decomposed_input_normalise_alike(rules: Normalisation, text: str) -> None:
    decomposed = normalise(unicodedata.normalize("NFD", text), rules)
    assert normalise(unicodedata.normalize("NFC", text), rules) == decomposed
    assert normalise(text, rules) == decomposed


@every_rules
@given(st.lists(texts, max_size=20))
@settings(max_examples=30, deadline=None)
def test_an_array_is_normalised_as_its_texts_are(rules: Normalisation, some: list[str]) -> None:
    array = pa.array(["Σ", *some], pa.large_string()).slice(1)
    with mock.patch("charrnn.model.normalise._BLOCK", 4):
        normalised = normalise_array(array, rules)
    assert normalised.to_pylist() == [normalise(text, rules) for text in some]
    assert transliterate_array(array).to_pylist() == [transliterate(text) for text in some]
