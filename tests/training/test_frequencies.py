"""How common names are, from invented data files of the packages that say it."""

import pickle
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from charrnn.training import name_counts, name_packages
from charrnn.training.corpus import build_table, load_corpus, write_table
from charrnn.training.frequencies import USUAL, filled_frequencies
from charrnn.training.label_files import LabelFile, Source, content_digest
from charrnn.training.name_counts import COUNT_READERS, read_counts
from charrnn.training.splits import honest_split

Put = Callable[[str, bytes], None]


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Install an invented data file as the one of a package."""

    class Installed:
        def locate_file(self, name: str) -> Path:
            return tmp_path / Path(name).name

    monkeypatch.setattr(name_counts, "distribution", lambda name: Installed())
    monkeypatch.setattr(name_counts, "_LEAST_PEOPLE", 3)

    def write(package: str, content: bytes) -> None:
        others = {"turkish-name-generator": "soyisimler.txt", "ipadic": "sys.dic"}
        name = others[package] if package in others else Path(COUNT_READERS[package][1]).name
        (tmp_path / name).write_bytes(content)

    return write


def lists_of(
    package: str, *, listed: bool = True
) -> dict[tuple[str | None, str], dict[str, float]]:
    return {
        (f.label, f.part): dict(zip(f.content.decode().splitlines(), f.frequencies, strict=True))
        for f in read_counts(Source(package))
        if f.listed == listed
    }


def test_people_of_a_nationality_give_surnames_and_given_names_with_their_shares(put: Put) -> None:
    people: dict[str, list[str]] = {f"Karo{i} Míro": ["Norwegian"] for i in "abc"}
    people |= {f"Karo{i} Miro": ["Norwegian"] for i in "d"}  # another spelling of the same
    people |= {f"Karoa van der Ovsk{i} Jr.": ["Norwegian"] for i in ("", "a", "b", "c")}
    people |= {"Karoa van der Ovsk": ["Norwegian"]}
    people |= {f"Rota{i} Ovskan": ["American"] for i in "abcdefghij"}
    people |= {
        "Lo, Kato": ["Norwegian"],
        "Solo": ["Norwegian"],
        "Two Nation": ["Norwegian", "Dutch"],
    }
    people |= {f"Mi Ka{i}": ["Korean"] for i in "abcdefgh"} | {"Jon Mi": ["Korean"]}
    put("name2nat", pickle.dumps(people))
    lists = lists_of("name2nat")
    assert lists["Norwegian", "surname"] == pytest.approx({"Míro": 4 / 9, "van der Ovsk": 2 / 9})
    assert list(lists["Norwegian", "given"]) == ["Karoa"]
    assert lists["Korean", "surname"] == pytest.approx({"Mi": 1.0})  # first or last, as it is usual


def test_a_name_is_on_no_list_where_few_of_its_bearers_are_expected(put: Put) -> None:
    people = {f"K{i:03} Ovska": ["Russian"] for i in range(100)}
    people |= {f"N{i:03} Miro": ["Norwegian"] for i in range(98)}
    people |= {f"N{i:03} Ovska": ["Norwegian"] for i in (98, 99)}
    put("name2nat", pickle.dumps(people))
    lists = lists_of("name2nat")
    assert list(lists["Norwegian", "surname"]) == ["Miro"]
    assert list(lists["Russian", "surname"]) == ["Ovska"]
    further = lists_of("name2nat", listed=False)
    assert further == {("Norwegian", "surname"): {"Ovska": pytest.approx(2 / 100)}}


def test_a_pickle_that_names_a_function_is_refused(put: Put) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return re.compile, ("",)

    put("name2nat", pickle.dumps(Evil()))
    with pytest.raises(pickle.UnpicklingError, match="expected plain data"):
        read_counts(Source("name2nat"))


def test_given_names_by_country_have_frequencies_in_steps_of_two(put: Put) -> None:
    def line(name: str, **digits: str) -> str:
        at = dict(zip(digits, (name_counts._COUNTRIES.index(k) for k in digits), strict=True))
        cells = [" "] * len(name_counts._COUNTRIES)
        for label, digit in digits.items():
            cells[at[label]] = digit
        return f"M  {name:26} {''.join(cells)}$"

    twice = line("Ämiro", German="9")
    lines = [
        "# a comment",
        line("Miro", German="3", Danish="2"),
        line("Karo", German="2", Danish="A"),
        twice[:29] + "+" + twice[30:],
        line("Mi+Ka", Chinese="1"),
    ]
    put("gender-guesser", "\n".join(lines).encode())
    lists = lists_of("gender-guesser")
    assert lists["German", "given"] == pytest.approx({"Miro": 2 / 3, "Karo": 1 / 3})
    assert lists["Danish", "given"] == pytest.approx({"Karo": 256 / 257})  # Miro is German
    further = lists_of("gender-guesser", listed=False)
    assert further == {("Danish", "given"): {"Miro": pytest.approx(1 / 257)}}
    assert sorted(lists["Chinese", "given"]) == ["Mi-Ka", "Mika"]


def test_danish_names_have_their_bearers_and_turkish_ones_turkish_letters(put: Put) -> None:
    rows = "count,name,ethnicity,gender,first_name\n30,Miro,danish,male,True\n"
    rows += "10,Ovsk,danish,both,False\n30,Karo,danish,both,False\n5,Zami,other,both,False\n"
    put("dacy", rows.encode())
    lists = lists_of("dacy")
    assert lists["Danish", "surname"] == pytest.approx({"Karo": 0.75, "Ovsk": 0.25})
    assert lists["Danish", "given"] == pytest.approx({"Miro": 1.0})
    put("turkish-name-generator", "KIRİMO\nOVSKI\n".encode())
    assert [list(names) for *_, names in name_packages._turkish_surnames()] == [["Kırimo", "Ovskı"]]


def test_japanese_names_are_those_of_the_lowest_cost_with_an_ideograph(
    put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [
        ("人名,姓", "禾禾", 9),
        ("人名,姓", "カロ", 1),
        ("人名,姓", "禾末", 2),
        ("人名,名", "末子", 3),
        ("人名,姓", "禾末", 5),
        ("一般,*", "禾本", 1),
    ]
    features, tokens = b"", b""
    for kind, word, cost in words:
        tokens += struct.pack("<3HhII", 0, 0, 0, cost, len(features), 0)
        features += f"名詞,固有名詞,{kind},*,*,{word},カロ,カロ".encode() + b"\0"
    header = struct.pack("<10I32s", 0, 0, 0, 0, 0, 0, 8, len(tokens), len(features), 0, b"utf8")
    put("ipadic", header + bytes(8) + tokens + features)
    lists = {part: names for _, part, _, names in name_packages._japanese_names()}
    assert lists == {"surname": ["禾末", "禾禾"], "given": ["末子"]}
    monkeypatch.setattr(name_packages, "MOST", {"surname": 1, "given": 1})
    assert next(name_packages._japanese_names())[-1] == ["禾末"]


def test_names_without_a_frequency_get_one_where_others_have_it() -> None:
    rows = [
        ("a", "surname", "Danish", 0.01),
        ("a", "surname", "Danish", None),  # on another list
        ("b", "surname", "Danish", 0.002),
        ("c", "surname", "Danish", None),  # rarer than the rarest known one
        *[(key, "surname", "Swedish", None) for key in map(str, range(500))],  # no frequencies
        ("d", "surname", "Zulu", None),
        ("a", "given", "Danish", None),
        ("a", "other", None, None),
    ]
    names = pl.DataFrame(rows, ["key", "part", "language", "share"], orient="row")
    half_of_all = 500 * [500_000 / 500]
    filled = filled_frequencies(names)
    assert filled.to_list() == [10_000, 10_000, 2000, 1000, *half_of_all, 2000, 2000, USUAL]
    assert set(filled_frequencies(names.with_columns(pl.lit(None).alias("share")))) == {1}


def test_the_table_has_the_frequencies_and_its_digest_knows_them(tmp_path: Path) -> None:
    def files(share: float, further: float = 0.1) -> list[LabelFile]:
        source = Source("counts")
        counted = LabelFile("Alpha", "a", b"Karo\n", source=source, frequencies=(share,))
        only = LabelFile(
            "Alpha", "a", b"Miro\nZado\n", "surname", source, (further, further), listed=False
        )
        plain = [LabelFile(a, f"{a}.txt", b"Karo\nMiro\n") for a in ("Alpha", "Beta")]
        return [only, *plain, counted]

    write_table(build_table(files(0.5)), tmp_path / "names.parquet")
    corpus = load_corpus(tmp_path / "names.parquet")
    assert corpus.names.to_pylist() == ["Karo", "Miro", "Karo", "Miro", "Karo"]
    assert corpus.weights.tolist() == pytest.approx([500_000, 100_000, 2000, 2000, 500_000])
    split = honest_split(corpus)
    weights = [w for part in (split.train, split.validation, split.test) for w in part.weights]
    assert sorted(weights) == pytest.approx([2000, 2000, 100_000, 500_000])
    digests = {content_digest(files(*shares)) for shares in ((0.5,), (0.25,), (0.5, 0.2))}
    assert len(digests) == 3
    as_list = [replace(file, listed=True) for file in files(0.5)]
    assert content_digest(as_list) not in digests


def test_frequent_names_are_in_no_fold_that_is_held_out(tmp_path: Path) -> None:
    names = [f"ka{chr(97 + i)}{chr(97 + j)}" for i in range(20) for j in range(20)]
    text = "".join(f"{name}\n" for name in names).encode()
    shares = tuple(0.01 if i < 200 else 1e-5 for i in range(400))
    lists = [
        LabelFile("Alpha", "a", text, source=Source("counts"), frequencies=shares),
        LabelFile("Beta", "b", text.upper()),  # another spelling of each
    ]
    write_table(build_table(lists), tmp_path / "names.parquet")
    folds = load_corpus(tmp_path / "names.parquet").folds
    assert folds[:400].tolist() == folds[400:].tolist()
    assert set(folds[:200].tolist()) == set(range(8))
    assert set(folds[200:400].tolist()) == set(range(10))
