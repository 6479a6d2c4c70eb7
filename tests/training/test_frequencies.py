"""How common names are, from invented data files of the packages that say it."""

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from charrnn.training import name_counts, name_packages
from charrnn.training.corpus import build_table, load_corpus, write_table
from charrnn.training.frequencies import USUAL, filled_frequencies
from charrnn.training.label_files import LabelFile, Source, content_digest
from charrnn.training.name_counts import READERS, read_counts
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
        name = READERS[package][1] if package in READERS else "soyisimler.txt"
        (tmp_path / Path(name).name).write_bytes(content)

    return write


def lists_of(package: str) -> dict[tuple[str | None, str], dict[str, float]]:
    return {
        (f.label, f.part): dict(zip(f.content.decode().splitlines(), f.frequencies, strict=True))
        for f in read_counts(Source(package))
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


def test_a_name_is_left_out_where_few_of_its_bearers_are_expected(put: Put) -> None:
    people = {f"K{i:03} Ovska": ["Russian"] for i in range(100)}
    people |= {f"N{i:03} Miro": ["Norwegian"] for i in range(98)}
    people |= {f"N{i:03} Ovska": ["Norwegian"] for i in (98, 99)}
    put("name2nat", pickle.dumps(people))
    lists = lists_of("name2nat")
    assert list(lists["Norwegian", "surname"]) == ["Miro"]
    assert list(lists["Russian", "surname"]) == ["Ovska"]


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


def test_names_without_a_frequency_get_one_where_others_have_it() -> None:
    rows = [
        ("a", "surname", "Danish", 0.01),
        ("a", "surname", "Danish", np.nan),  # on another list
        ("b", "surname", "Danish", 0.002),
        ("c", "surname", "Danish", np.nan),  # rarer than the rarest known one
        ("a", "surname", "Swedish", np.nan),  # no frequencies
        ("d", "surname", "Swedish", np.nan),
        ("a", "given", "Danish", np.nan),
        ("a", "other", None, np.nan),
    ]
    keys, parts, labels, shares = zip(*rows, strict=True)
    texts = [pa.array(column) for column in (keys, parts, labels)]
    filled = filled_frequencies(*texts, np.array(shares))
    between = pytest.approx(2_000_000**0.5)
    assert filled.tolist() == [10_000, 10_000, 2000, 1000, between, USUAL, USUAL, USUAL]
    nothing = np.full(len(rows), np.nan)
    assert set(filled_frequencies(pa.array(keys), pa.array(parts), pa.array(labels), nothing)) == {
        1
    }


def test_the_table_has_the_frequencies_and_its_digest_knows_them(tmp_path: Path) -> None:
    def files(share: float) -> list[LabelFile]:
        counted = LabelFile("Alpha", "a", b"Karo\n", source=Source("counts"), frequencies=(share,))
        plain = [LabelFile(a, f"{a}.txt", b"Karo\nMiro\n") for a in ("Alpha", "Beta")]
        return [*plain, counted]

    write_table(build_table(files(0.5)), tmp_path / "names.parquet")
    corpus = load_corpus(tmp_path / "names.parquet")
    assert corpus.weights.tolist() == [500_000, 250_000, pytest.approx(10_000), USUAL, 500_000]
    split = honest_split(corpus)
    weights = [w for part in (split.train, split.validation, split.test) for w in part.weights]
    assert sorted(weights) == pytest.approx([USUAL, 10_000, 250_000, 500_000])
    assert content_digest(files(0.5)) != content_digest(files(0.25))
