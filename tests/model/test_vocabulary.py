"""The fast encoder against its one-name reference, and the shapes it hands to the model."""

import json
import unicodedata
from dataclasses import asdict
from itertools import product

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from charrnn.errors import ConfigError
from charrnn.model.normalise import ACCENTS, LATIN, SEED, Normalisation, normalise
from charrnn.model.vocabulary import (
    GIVEN,
    LATIN_VOCABULARY,
    MAX_IDS,
    PAD,
    SEED_VOCABULARY,
    UNKNOWN,
    Encoded,
    Vocabulary,
    batches,
)

VOCABULARIES = {
    "latin": LATIN_VOCABULARY,
    "seed": SEED_VOCABULARY,
    "no space": Vocabulary("_abcdef'", SEED, boundaries=True),
    "not ascii": Vocabulary("éaяb _", LATIN),
    "accents": Vocabulary(
        f" '-_abosyzßéêřσかきе{GIVEN}\u1112\u1161\u11ab", ACCENTS, boundaries=True
    ),
    "vowel signs": Vocabulary(
        "_aAékকাোิุ้์한하ᄒ", Normalisation("NFKC", False, "plain", jamo=False, vowel_signs=True)
    ),
}
every_vocabulary = pytest.mark.parametrize("vocabulary", VOCABULARIES.values(), ids=VOCABULARIES)
named_vocabularies = pytest.mark.parametrize(
    "vocabulary", [LATIN_VOCABULARY, SEED_VOCABULARY], ids=["latin", "seed"]
)
characters = st.sampled_from(
    "abzAZ  '-.,;_`0\t\n\x1c\x1f\x7f\0éßŁ’\u00a0\u200b\u0301я名"
    f"\u1ffd{GIVEN}ễŘΣς한\u1112\u1161\u11abガか\u3099ё\u0327\u0338=\u09c7\u09beกิุ้ÉЁ"
) | st.characters(codec="utf-8")
name_lists = st.lists(st.none() | st.text(characters, max_size=12), max_size=12)


def rows_of(encoded: Encoded) -> list[list[int]]:
    spans = zip(encoded.starts.tolist(), encoded.lengths.tolist(), strict=True)
    return [encoded.flat[start : start + length].tolist() for start, length in spans]


def assert_equals_reference(
    vocabulary: Vocabulary, array: pa.Array, texts: list[str | None]
) -> None:
    encoded = vocabulary.encode(array)
    expected = [vocabulary.encode_one(text or "") for text in texts]
    unknown = vocabulary.encode_one("☃")[0]
    letters = {i for i, symbol in enumerate(vocabulary.symbols, start=1) if symbol.isalpha()}
    assert rows_of(encoded) == expected
    assert encoded.lengths.tolist() == [len(ids) for ids in expected]
    assert encoded.unknown.tolist() == [ids.count(unknown) for ids in expected]
    assert encoded.letters.tolist() == [sum(i in letters for i in ids) for ids in expected]
    assert len(encoded) == len(texts)
    assert encoded.vocabulary is vocabulary
    assert encoded.flat.dtype == np.uint8
    counts = (encoded.starts, encoded.lengths, encoded.unknown, encoded.letters)
    assert {column.dtype for column in counts} == {np.dtype(np.int64)}


@pytest.mark.parametrize(
    ("vocabulary", "kind"),
    [*product(VOCABULARIES.values(), [pa.string()]),
     *product([LATIN_VOCABULARY], [pa.large_string(), pa.string_view()])],
    ids=[*VOCABULARIES, "large", "view"],
)  # fmt: skip
@example(texts=[" a", "a ", "a", " ", "", None, "a  b", "b"])
@example(texts=["a ", " b"])
@example(texts=["", "", " "])
@example(texts=[None, "é"])
@given(texts=name_lists)
@settings(deadline=None, database=None, derandomize=True, max_examples=80)
def test_encoding_a_column_equals_encoding_each_name(
    vocabulary: Vocabulary, kind: pa.DataType, texts: list[str | None]
) -> None:
    assert_equals_reference(vocabulary, pa.array(texts, kind), texts)


@named_vocabularies
@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view()], ids=["string", "large", "view"]
)
@given(texts=name_lists, before=name_lists, after=name_lists)
@settings(deadline=None, database=None, derandomize=True, max_examples=60)
def test_a_slice_encodes_like_a_column_of_its_own(
    vocabulary: Vocabulary,
    kind: pa.DataType,
    texts: list[str | None],
    before: list[str | None],
    after: list[str | None],
) -> None:
    whole = pa.array(["x", *before, *texts, *after, " é "], kind)
    array = whole.slice(1 + len(before), len(texts))
    assert array.offset == 1 + len(before)
    assert_equals_reference(vocabulary, array, texts)


@named_vocabularies
@pytest.mark.parametrize("large", [False, True], ids=["string", "large"])
@given(
    texts=st.lists(st.text(characters, min_size=1, max_size=6), min_size=2, max_size=8),
    null=st.lists(st.booleans(), min_size=8, max_size=8),
    start=st.integers(0, 2),
    garbage=st.sampled_from([b"xy", b"\xff "]),
)
@settings(deadline=None, database=None, derandomize=True, max_examples=60)
def test_bytes_underneath_a_null_are_not_read(
    vocabulary: Vocabulary,
    large: bool,
    texts: list[str],
    null: list[bool],
    start: int,
    garbage: bytes,
) -> None:
    # Arrow allows a null's span to hold anything, here even bytes that are not UTF-8.
    pieces = [garbage if is_null else t.encode() for t, is_null in zip(texts, null, strict=False)]
    offsets = np.cumsum([0, *map(len, pieces)]).astype(np.int64 if large else np.int32)
    valid = np.packbits([not n for n in null[: len(texts)]], bitorder="little")
    buffers = (pa.py_buffer(offsets), pa.py_buffer(b"".join(pieces)), pa.py_buffer(valid))
    kind = pa.LargeStringArray if large else pa.StringArray
    array = kind.from_buffers(len(texts), *buffers).slice(start)
    expected = [None if n else t for t, n in zip(texts, null, strict=False)][start:]
    assert_equals_reference(vocabulary, array, expected)


@every_vocabulary
@pytest.mark.parametrize(
    "array",
    [
        pa.array([], pa.string()),
        pa.array([], pa.string_view()),
        pa.array(["a", "b"], pa.large_string()).slice(2),
        pa.array([None, None], pa.string()),
        pa.array(["", ""], pa.string()),
    ],
    ids=["empty", "empty view", "empty slice", "nulls", "empties"],
)
def test_columns_without_a_character_encode_to_padding(
    vocabulary: Vocabulary, array: pa.Array
) -> None:
    assert_equals_reference(vocabulary, array, array.to_pylist())
    ids, lengths = vocabulary.encode(array).padded()
    marks = 2 * vocabulary.boundaries
    assert ids.shape == (len(array), max(1, marks))
    assert ids.dtype == np.uint8
    assert lengths.tolist() == [marks] * len(array)
    expected = [vocabulary.begin, vocabulary.end] if marks else [PAD]
    assert ids.tolist() == [expected] * len(array)


def test_padding_follows_each_name() -> None:
    ids, lengths = Vocabulary("ab_").encode(pa.array(["ab", None, "bab"])).padded()
    assert ids.tolist() == [[1, 2, PAD], [PAD, PAD, PAD], [2, 1, 2]]
    assert lengths.tolist() == [2, 0, 3]
    assert ids.dtype == np.uint8
    assert lengths.dtype == np.int64


def test_boundaries_stand_around_each_name() -> None:
    vocabulary = Vocabulary("ab_", boundaries=True)
    begin, end = vocabulary.begin, vocabulary.end
    ids, lengths = vocabulary.encode(pa.array(["ab", None, "b"])).padded()
    assert (begin, end, vocabulary.size) == (4, 5, 5)
    assert ids.tolist() == [[begin, 1, 2, end], [begin, end, PAD, PAD], [begin, 2, end, PAD]]
    assert lengths.tolist() == [4, 2, 3]


@named_vocabularies
def test_chosen_rows_are_padded_to_the_longest_of_them(vocabulary: Vocabulary) -> None:
    names = ["Katoro", "Li", "é" * 40, None, "O’Hara"]
    encoded = vocabulary.encode(pa.array(names))
    marks = 2 * vocabulary.boundaries
    ids, lengths = encoded.padded(np.array([4, 1, 1]))
    assert ids.shape == (3, 6 + marks)
    assert lengths.tolist() == [6 + marks, 2 + marks, 2 + marks]
    assert [vocabulary.decode(row) for row in ids] == [
        vocabulary.decode(vocabulary.encode_one(names[row])) for row in (4, 1, 1)
    ]
    assert encoded.padded(np.array([], np.int64))[0].shape == (0, max(1, marks))


@every_vocabulary
@given(texts=name_lists.filter(bool))
@settings(deadline=None, database=None, derandomize=True, max_examples=60)
def test_padded_rows_hold_the_ids_and_nothing_else(
    vocabulary: Vocabulary, texts: list[str | None]
) -> None:
    ids, lengths = vocabulary.encode(pa.array(texts, pa.string())).padded()
    marks = 1 * vocabulary.boundaries
    for row, length, text in zip(ids.tolist(), lengths.tolist(), texts, strict=True):
        expected = vocabulary.encode_one(text or "")
        assert row[marks : length - marks] == expected
        assert row[length:] == [PAD] * (len(row) - length)
        assert PAD not in row[:length]


@every_vocabulary
@given(symbols=st.data())
@settings(deadline=None, database=None, derandomize=True, max_examples=60)
def test_decoding_returns_text_made_of_the_symbols(
    vocabulary: Vocabulary, symbols: st.DataObject
) -> None:
    ids = symbols.draw(st.lists(st.integers(1, len(vocabulary.symbols)), max_size=20))
    text = vocabulary.decode(ids)
    assert [vocabulary.symbols.index(c) + 1 for c in text] == ids
    marked = [vocabulary.begin, *ids, vocabulary.end, PAD, PAD] if vocabulary.boundaries else ids
    assert vocabulary.decode(np.array(marked, np.uint8)) == text


@named_vocabularies
def test_known_names_survive_encoding_and_decoding(vocabulary: Vocabulary) -> None:
    for name in ("katoro", "o'hara", "van der berg", "a.b.c"):
        assert vocabulary.decode(vocabulary.encode_one(name)) == name


@named_vocabularies
def test_unknown_character_encodes_to_unknown_id(vocabulary: Vocabulary) -> None:
    assert vocabulary.decode(vocabulary.encode_one("a5名")) == f"a{UNKNOWN}{UNKNOWN}"
    encoded = vocabulary.encode(pa.array(["a5名", "5", "ab"]))
    assert encoded.unknown.tolist() == [2, 1, 0]
    assert encoded.letters.tolist() == [1, 0, 2]


def test_symbols_of_the_two_named_vocabularies_do_not_move() -> None:
    assert SEED_VOCABULARY.symbols == ("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,;'_")
    assert SEED_VOCABULARY.size == 58
    assert LATIN_VOCABULARY.symbols == "abcdefghijklmnopqrstuvwxyz '-._"
    assert LATIN_VOCABULARY.size == 33


def test_characters_that_occur_often_enough_become_symbols() -> None:
    names = ["Čáp", "Čech", "Číž", "Ñu", "ñu", "Ñ5", f"{GIVEN}Eva", "a_b_c"]
    label_ids = [0, 0, 0, 1, 1, 1, 0, 1]
    vocabulary = Vocabulary.of_names(names, label_ids)
    assert vocabulary == Vocabulary(f"_ñč{GIVEN}", ACCENTS, boundaries=True)
    few = Vocabulary.of_names(names[:6], np.array(label_ids[:6]), LATIN, boundaries=False)
    assert few == Vocabulary("_cn", LATIN)
    assert Vocabulary.of_names([], []).symbols == "_"


def test_a_script_of_one_label_has_one_symbol() -> None:
    shared = ["Иван", "Вова", "Кирил", "Лили"]
    names, label_ids = [*shared, *shared, "สม", "สา", "王"], [*4 * [0], *4 * [1], 2, 2, 3]
    assert Vocabulary.of_names(names, label_ids, least=2).symbols == "_авиклнорส"


def test_a_mark_that_stands_for_a_script_counts_as_a_letter() -> None:
    names = ["கிதி", "மிசி", "னிலி", "Katoro", "Mirela"]  # invented
    rules = Normalisation("NFKC", fold="plain", vowel_signs=True)
    vocabulary = Vocabulary.of_names(names, [0, 0, 0, 1, 1], rules, least=1)
    assert "\u0bbf" in vocabulary.symbols  # the vowel sign, more frequent than any letter
    encoded = vocabulary.encode(pa.array(names))
    assert encoded.unknown.tolist() == [0] * 5
    assert (encoded.letters == encoded.lengths).all()  # else scoring refuses them: no_letters


def test_a_script_of_very_many_labels_has_all_of_its_letters() -> None:
    names = ["иван", "вова"] * 600
    assert Vocabulary.of_names(names, [i // 2 for i in range(1200)]).symbols == "_авино"


def test_ideographs_share_a_symbol_but_for_those_that_tell_labels_apart() -> None:
    names = ["Li", "山田", "山本", "中田", "王中", "李山", "王明", "李明", *["明石"] * 3]
    vocabulary = Vocabulary.of_names(names, [0, 1, 1, 1, 2, 2, 2, 2, 1, 1, 1], least=2)
    assert set(vocabulary.symbols) == set("_一山田明王李石中")
    assert vocabulary.decode(vocabulary.encode_one("山城")) == "山一"
    ids, names = 255 - 2 - 5, [chr(0x4E00 + i) for i in range(1, 300)]  # marks; i, _, 一, 们, 込
    vocabulary = Vocabulary.of_names(
        ["i", *names, *names, *names[:9]], [0] * 300 + [1] * 308, least=1
    )
    assert vocabulary.size == 255
    assert set(names[9:ids]) < set(vocabulary.symbols)
    names = ["王伟", "王沢", "山", "们"]
    vocabulary = Vocabulary.of_names(names, [0, 1, 1, 0], least=1)
    decoded = [vocabulary.decode(vocabulary.encode_one(name)) for name in ("张伟", "辺沢", "辻山")]
    assert decoded == ["们伟", "込沢", "込山"]


def test_the_rarest_characters_of_the_less_used_script_give_way_where_ids_run_out() -> None:
    letters = [c for c in map(chr, range(0x4E00)) if c.isalpha() and c == normalise(c, ACCENTS)]
    cyrillic = [c for c in letters if "CYRILLIC" in unicodedata.name(c)][:100]
    latin = [c for c in letters if "LATIN" in unicodedata.name(c)][:200]
    names = [GIVEN, *3 * latin, *4 * cyrillic[50:], *3 * cyrillic[:50]]
    label_ids = [0, *[0, 1, 2] * 200, *[0, 1] * 175]
    vocabulary = Vocabulary.of_names(names, label_ids)
    assert vocabulary.size == 255
    expected = {UNKNOWN, GIVEN, *latin, *cyrillic[50:], cyrillic[0]}
    assert set(vocabulary.symbols) == expected
    assert vocabulary.symbols == "".join(sorted(expected))


def test_jamo_spell_the_hangul_syllables_that_have_no_id() -> None:
    syllables = [chr(0xAC00 + 29 * i) for i in range(300)]  # the first ones are the most frequent
    names = [s for i, s in enumerate(syllables) for _ in range(2 + 2 * (i < 200))]
    label_ids = [i % 2 for i in range(len(names))]
    rules = Normalisation("NFKC", fold="plain", jamo=False)
    vocabulary = Vocabulary.of_names(names, label_ids, rules, coverage=0.999)
    assert vocabulary.size == MAX_IDS
    lengths = vocabulary.encode(pa.array(syllables)).lengths
    assert set(lengths[:100]) == {1}
    assert set(lengths[-50:]) <= {2, 3}
    for syllable in syllables:
        spelled = vocabulary.decode(vocabulary.encode_one(syllable))
        assert unicodedata.normalize("NFC", spelled) == syllable


def test_the_only_symbol_of_a_script_stands_for_all_of_its_letters() -> None:
    vocabulary = Vocabulary("_abส山'", ACCENTS)
    cases = {"สมชาย": "ส" * 5, "山田": "山山", "Abc": "ab_", "я5": "__"}
    encoded = vocabulary.encode(pa.array(cases))
    assert [vocabulary.decode(row) for row in rows_of(encoded)] == list(cases.values())
    assert encoded.unknown.tolist() == [0, 0, 1, 2]
    assert Vocabulary("_ส山", LATIN).decode(Vocabulary("_ส山", LATIN).encode_one("ม")) == "_"


def test_a_letter_whose_accents_are_no_symbol_is_known_without_them() -> None:
    vocabulary = Vocabulary("_adelosuêー", ACCENTS)
    cases = {
        "ễ": "ê",  # without the last accent
        "ệ": "e",
        "ǖ": "u",
        "ø": "o",  # by the rules of LATIN
        "ß": "ss",
        "đ": "d",
        "Æ": "ae",
        "þ": "__",  # there is no t and no h
        "я": "_",
        "ガ": "_",
    }
    for name, expected in cases.items():
        assert vocabulary.decode(vocabulary.encode_one(name)) == expected
    names = pa.array(cases)
    assert rows_of(vocabulary.encode(names)) == [vocabulary.encode_one(name) for name in cases]
    assert vocabulary.encode(names).unknown.tolist() == [0, 0, 0, 0, 0, 0, 0, 2, 1, 1]


@named_vocabularies
def test_rules_without_accents_know_no_other_letter_for_one(vocabulary: Vocabulary) -> None:
    texts = [chr(point) for point in range(0x3000)]
    ids = {symbol: i for i, symbol in enumerate(vocabulary.symbols, start=1)}
    for text in texts:
        normalised = normalise(text, vocabulary.normalisation)
        expected = [ids.get(c, ids[UNKNOWN]) for c in normalised]
        assert vocabulary.encode_one(text) == expected


def test_the_mark_of_given_names_survives_transliteration() -> None:
    vocabulary = Vocabulary(f"_abdeinorv{GIVEN}", ACCENTS)
    for latin, expected in ((True, f"{GIVEN}ivan"), (False, f"{GIVEN}____")):
        encoded = vocabulary.encode(pa.array([f"{GIVEN}Иван"]), latin=latin)
        assert [vocabulary.decode(row) for row in rows_of(encoded)] == [expected]


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKD"])
@pytest.mark.parametrize("latin", [False, True])
def test_a_name_has_the_same_ids_in_every_form_of_unicode(form: str, latin: bool) -> None:
    names = ["Dvořák", "Йосиф", "한글", "ガラス", "Nguyễn", "x\u0301", "a  b"]
    vocabulary = Vocabulary(f"_abdefghijklmnoprstuvwyzáéř {GIVEN}", ACCENTS)
    encoded = vocabulary.encode(
        pa.array([unicodedata.normalize(form, n) for n in names]), latin=latin
    )
    assert rows_of(encoded) == [vocabulary.encode_one(n, latin=latin) for n in names]


def test_only_names_whose_characters_depend_on_each_other_are_encoded_in_python(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [
        "Dvořák",
        f"{GIVEN}Łucja",
        "Παπάς",
        "ΠΑΠΑΣ",
        "İnci",
        "ガラス",
        "한글",
        "สมชาย",
        "O’Neill",
    ]
    vocabulary = Vocabulary.of_names(names, range(len(names)), least=1)
    expected = [vocabulary.encode_one(name) for name in names]
    monkeypatch.setattr(Vocabulary, "encode_one", None)
    encoded = vocabulary.encode(pa.array(names))
    assert rows_of(encoded) == expected
    assert not encoded.unknown.any()


@pytest.mark.parametrize(
    ("symbols", "message"),
    [
        ("_\ue001", "printable or the mark of given names, got '\\\\ue001'"),
        ("_\n", "must be printable"),
        ("_\u200b", "must be printable"),
        ("_\ud800", "must be printable"),
        ("aab_", "must be distinct"),
        ("__", "must be distinct"),
        ("abc", "must contain '_'"),
        ("", "must contain '_'"),
        ("_" + "".join(map(chr, range(256, 256 + 255))), "must have ≤ 255 ids"),
    ],
)
def test_impossible_symbols_are_refused(symbols: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Vocabulary(symbols)


def test_boundary_ids_count_towards_the_limit_of_one_byte() -> None:
    symbols = "_" + "".join(map(chr, range(0x4E00, 0x4E00 + 253)))
    largest = Vocabulary(symbols[:-1], boundaries=True)
    assert largest.size == 255
    assert largest.encode(pa.array(["一" * 2])).padded()[0].tolist() == [[254, 2, 2, 255]]
    with pytest.raises(ConfigError, match="got 256"):
        Vocabulary(symbols, boundaries=True)


@every_vocabulary
def test_json_gives_the_same_vocabulary_back(vocabulary: Vocabulary) -> None:
    text = json.dumps(asdict(vocabulary))
    assert msgspec.json.decode(text, type=Vocabulary) == vocabulary


def test_json_of_the_seed_vocabulary_is_stable() -> None:
    rules = {"form": "NFD", "lowercase": False, "fold": "none", "jamo": True, "vowel_signs": False}
    assert asdict(SEED_VOCABULARY) == {
        "symbols": SEED_VOCABULARY.symbols,
        "normalisation": rules,
        "boundaries": False,
    }


# --- batches


@given(
    lengths=st.lists(st.integers(0, 6), max_size=60),
    batch_size=st.integers(1, 20),
)
@settings(deadline=None, database=None, derandomize=True, max_examples=200)
def test_batches_hold_every_row_once_and_one_length_each(
    lengths: list[int], batch_size: int
) -> None:
    array = np.array(lengths, np.int64)
    found = list(batches(array, batch_size))
    assert sorted(row for rows in found for row in rows.tolist()) == list(range(len(lengths)))
    assert all(1 <= len(rows) <= batch_size for rows in found)
    assert all(len(set(array[rows].tolist())) == 1 for rows in found)
    assert [array[rows[0]] for rows in found] == sorted(array[rows[0]] for rows in found)
    assert all(rows.dtype == np.int64 for rows in found)


def test_batches_are_as_few_as_the_size_allows() -> None:
    assert [rows.tolist() for rows in batches(np.array([2, 1, 2, 2, 1]), 2)] == [
        [1, 4], [0, 2], [3],
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["ｺﾞﾄｳ", "コﾞ", "Ač č", "A b", "コ ト"], ids=ascii)
def test_arrays_are_encoded_as_single_names_where_marks_and_spaces_are_no_symbols(
    name: str,
) -> None:
    names = ["ゴトウ", "コトリ", "トウコ", "Ač", "Bč"]
    vocabulary = Vocabulary.of_names(names, [0, 1, 2, 0, 1], least=1)
    encoded = vocabulary.encode(pa.array([name, "Ač", "ト"]))
    own = encoded.flat[encoded.starts[0] : encoded.starts[0] + encoded.lengths[0]]
    assert own.tolist() == vocabulary.encode_one(name)
