"""Names of several words are split by rules; nothing of a name is lost. All names are invented."""

import random
from collections import Counter

import pyarrow as pa
import pytest

from charrnn.scoring import name_parts
from charrnn.scoring.name_parts import SEPARATOR, NameParts, join_parts, split_names
from charrnn.scoring.options import NameOrder

Part = str | None


def split(names: list[str], order: NameOrder = "auto") -> list[tuple[Part, Part]]:
    given, surname = split_names(pa.array(names, pa.large_string()), order)
    assert len(given) == len(surname) == len(names)
    return list(zip(given.to_pylist(), surname.to_pylist(), strict=True))


@pytest.mark.parametrize(
    ("name", "given", "surname"),
    [
        ("Katoro", None, "Katoro"),
        ("  Katoro ", None, "Katoro"),
        ("", None, ""),
        (" , ", None, ""),
        ("Mirela Katoro", "Mirela", "Katoro"),
        ("Mirela\u00a0Katoro", "Mirela", "Katoro"),
        ("Mirela\t Katoro", "Mirela", "Katoro"),
        ("Kat\0oro", None, "Kat\0oro"),
        ("Mirela Tova Katoro", "Mirela Tova", "Katoro"),
        ("Mira-Tova Katoro-Burg", "Mira-Tova", "Katoro-Burg"),
        # A comma
        ("Katoro, Mirela", "Mirela", "Katoro"),
        ("Katoro,Mirela Tova", "Mirela Tova", "Katoro"),
        ("Katoro Burg, Mirela", "Mirela", "Katoro Burg"),
        ("Katoro，Mirela", "Mirela", "Katoro"),
        ("Katoro,", None, "Katoro"),
        (", Mirela", None, "Mirela"),
        ("Katoro, Mirela, Tova", "Mirela Tova", "Katoro"),
        # Titles and suffixes
        ("Dr. Mirela Katoro", "Mirela", "Katoro"),
        ("PROF. DR. MED. MIRELA KATORO", "MIRELA", "KATORO"),
        ("Frau Katoro", None, "Katoro"),
        ("Sra. Mirela Katoro", "Mirela", "Katoro"),
        ("Katoro, Dr. Mirela", "Mirela", "Katoro"),
        ("Mirela Katoro Jr.", "Mirela", "Katoro"),
        ("Mirela Katoro, Jr.", "Mirela", "Katoro"),
        ("Mirela Katoro, PhD, M.D.", "Mirela", "Katoro"),
        ("Katoro, Mirela, III", "Mirela", "Katoro"),
        ("Katoro III, Mirela", "Mirela", "Katoro"),
        ("Sr. Mirek Katoro Sr.", "Mirek", "Katoro"),
        ("Mirek Herr", "Mirek", "Herr"),
        ("Herr, Mirek", "Mirek", "Herr"),
        ("Gen Katoro", "Gen", "Katoro"),
        ("Gen. Katoro", None, "Katoro"),
        ("Dr.", None, "Dr."),
        ("Dr. Jr.", "Dr.", "Jr."),
        # Initials and nicknames
        ("M. R. R. Katoro", None, "Katoro"),
        ("M.R.R. Katoro", None, "Katoro"),
        ("M.-R. Katoro", None, "Katoro"),
        ("Yu. Katoro", None, "Katoro"),
        ("Mirela J. Katoro", "Mirela", "Katoro"),
        ("Mirela J Katoro", "Mirela", "Katoro"),
        ("Katoro, M. R.", None, "Katoro"),
        ("Katoro M.", None, "Katoro"),
        ("А. Каторо", None, "Каторо"),
        ("Mirela (Mimi) Katoro", "Mirela", "Katoro"),
        ('Mirela "Mimi" Katoro', "Mirela", "Katoro"),
        ("M. K.", "M.", "K."),
        # Particles
        ("Mirek van der Katoro", "Mirek", "van der Katoro"),
        ("Mirek Van Der Katoro", "Mirek", "Van Der Katoro"),
        ("Mirek von und zu Burgstein", "Mirek", "von und zu Burgstein"),
        ("Mirela de la Katoro", "Mirela", "de la Katoro"),
        ("Mirek bin Katoro", "Mirek", "bin Katoro"),
        ("Mirek al-Katoro", "Mirek", "al-Katoro"),
        ("Mirek O'Katoro", "Mirek", "O'Katoro"),
        ("Mirek O’ Katoro", "Mirek", "O’ Katoro"),
        ("Mirek Ó Katoro", "Mirek", "Ó Katoro"),
        ("Mirela dos Katoro", "Mirela", "dos Katoro"),
        ("Mirek le Katoro", "Mirek", "le Katoro"),
        ("Mirek Mac Katoro", "Mirek", "Mac Katoro"),
        ("Mirek ter Katoro", "Mirek", "ter Katoro"),
        ("van der Katoro", None, "van der Katoro"),
        ("de Katoro, Mirela", "Mirela", "de Katoro"),
        ("Mirela del Tova Katoro", "Mirela del Tova", "Katoro"),
        ("Al Katoro", "Al", "Katoro"),
        # Two halves of a surname
        ("Mirek Katoro y Burg", "Mirek", "Katoro y Burg"),
        ("Mirek Katoro y de la Burg", "Mirek", "Katoro y de la Burg"),
        ("Katoro e Burg", None, "Katoro e Burg"),
        ("Mirela E Katoro", "Mirela", "Katoro"),
        ("MIRELA E KATORO", "MIRELA", "KATORO"),
        # Scripts in which the surname is first
        ("文 夢文", "夢文", "文"),
        ("문 몽문", "몽문", "문"),
        ("ぶん むぶ", "むぶ", "ぶん"),
        # A patronymic
        ("Каторов Мирек Товович", "Мирек Товович", "Каторов"),
        ("КАТОРОВА МИРЕЛА ТОВОВНА", "МИРЕЛА ТОВОВНА", "КАТОРОВА"),
        ("Katorova Mirela Tovovna", "Mirela Tovovna", "Katorova"),
        ("Мирела Товівна Каторова", "Мирела Товівна", "Каторова"),
        ("Мирек Товович Каторович", "Мирек Товович", "Каторович"),
        ("Mirek Katorovich", "Mirek", "Katorovich"),
        # Two columns
        (f"Katoro{SEPARATOR}Mirela", "Mirela", "Katoro"),
        (f"de la Katoro Burg{SEPARATOR}Mirela Tova", "Mirela Tova", "de la Katoro Burg"),
        (f"Katoro{SEPARATOR}", None, "Katoro"),
        (f"{SEPARATOR}Mirela Tova", "Mirela Tova", None),
        (f"Katoro Jr.{SEPARATOR}Dr. Mirek J.", "Mirek", "Katoro"),
        (f"Katoro{SEPARATOR}M.", None, "Katoro"),
        (f"{SEPARATOR}M.", "M.", None),
        (f" {SEPARATOR} ", None, ""),
    ],
)  # fmt: skip
def test_auto_finds_the_parts_of_a_name(name: str, given: Part, surname: Part) -> None:
    assert split([name]) == [(given, surname)]
    neighbours = ["Burg", name, "Tova van Burg", name, ""]
    assert split(neighbours)[1::2] == [(given, surname)] * 2


@pytest.mark.parametrize(
    ("order", "name", "given", "surname"),
    [
        ("surname", "Dr. Mirela van Katoro", None, "Dr. Mirela van Katoro"),
        ("surname", "Katoro, Mirela", None, "Katoro, Mirela"),
        ("surname", f"Katoro{SEPARATOR}Mirela", "Mirela", "Katoro"),
        ("comma", "Katoro Burg, Mirela Tova", "Mirela Tova", "Katoro Burg"),
        ("comma", "Dr. Katoro Burg", None, "Katoro Burg"),
        ("given-surname", "Mirela Katoro Burg", "Mirela Katoro", "Burg"),
        ("given-surname", "Katoro, Mirela", "Mirela", "Katoro"),
        ("given-surname", "文 夢文", "文", "夢文"),
        ("surname-given", "Katoro Mirela Tova", "Mirela Tova", "Katoro"),
        ("surname-given", "Katoro Burg, Mirela", "Mirela", "Katoro Burg"),
        ("surname-given", "van der Katoro Mirela", "Mirela", "van der Katoro"),
        ("surname-given", "Katoro y de la Burg Mirela", "Mirela", "Katoro y de la Burg"),
        ("surname-given", "KATORO Mirela Jr.", "Mirela", "KATORO"),
        ("surname-given", "Al Katoro Mirela", "Mirela", "Al Katoro"),
        ("surname-given", "van Katoro", None, "van Katoro"),
        ("surname-given", "文 夢文", "夢文", "文"),
    ],
)
def test_order_decides_where_the_surname_is(
    order: NameOrder, name: str, given: Part, surname: Part
) -> None:
    assert split([name], order) == [(given, surname)]


# --- properties ---------------------------------------------------------------------------------

GIVEN_WORDS = ["Mirela", "Tova", "Mira-Tova", "Émile", "Мира", "Oro", "O'Mira", "tova"]
SURNAME_WORDS = ["Katoro", "Burg", "Katoro-Burg", "Švarc", "Каторо", "O’Toro", "BURG", "al-Kato"]
LEFT_OUT = {
    *name_parts.TITLES, *name_parts.TITLES_WITH_STOP, *name_parts.SUFFIXES, "m", "j.k", "(mimi)",
}  # fmt: skip


def person(draw: random.Random) -> tuple[list[str], list[str]]:
    """Return the words of an invented given name and surname."""
    given = draw.choices(GIVEN_WORDS, k=draw.choice([1, 1, 1, 2, 3]))
    surname = [draw.choice(SURNAME_WORDS)]
    if draw.random() < 0.4:
        surname = [*draw.choices(["van", "der", "de", "la", "dos", "Mac", "bin"], k=2), *surname]
    if draw.random() < 0.2:
        surname += ["y", draw.choice(SURNAME_WORDS)]
    return given, surname


def written(draw: random.Random, given: list[str], surname: list[str]) -> str:
    """Return a name as somebody may have written it, with titles and the like."""
    before = draw.choices(["Dr.", "Prof", "Herr", "Sra."], k=draw.choice([0, 0, 0, 1, 2]))
    behind = draw.choices(["Jr.", "III", "PhD"], k=draw.choice([0, 0, 0, 1, 2]))
    initials = draw.choices(["M.", "J.K.", "(Mimi)"], k=draw.choice([0, 0, 0, 1]))
    space = draw.choice([" ", " ", "  ", "\t"])
    if draw.random() < 0.3:
        last = space.join([*before, *surname, *behind])
        return f"{last},{draw.choice(['', ' '])}{space.join([*given, *initials])}"
    return space.join([*before, *given, *initials, *surname, *behind])


def people(seed: int, count: int) -> list[tuple[list[str], list[str]]]:
    draw = random.Random(seed)
    return [person(draw) for _ in range(count)]


def test_every_shape_gives_back_the_given_name_and_the_surname() -> None:
    draw = random.Random(1)
    everybody = people(2, 3_000)
    names = [written(draw, *parts) for parts in everybody]
    expected = [(" ".join(given), " ".join(surname)) for given, surname in everybody]
    assert split(names) == expected


def test_surname_first_mirrors_given_name_first() -> None:
    everybody = people(3, 3_000)
    forwards = split([" ".join([*g, *s]) for g, s in everybody], "given-surname")
    backwards = split([" ".join([*s, *g]) for g, s in everybody], "surname-given")
    assert forwards == backwards


@pytest.mark.parametrize("order", ["auto", "given-surname", "surname-given", "comma", "surname"])
def test_no_word_is_lost_but_titles_suffixes_and_initials(order: NameOrder) -> None:
    draw = random.Random(4)
    words = [*GIVEN_WORDS, *SURNAME_WORDS, "van", "de", "y", "Dr.", "Jr.", "M.", "J.K.", "(Mimi)",
             "sr", "ing.", "Al", "夢文", ",", ",", SEPARATOR, "", " "]  # fmt: skip
    names = [" ".join(draw.choices(words, k=draw.randint(0, 7))) for _ in range(20_000)]
    for name, (given, surname) in zip(names, split(names, order), strict=True):
        there = Counter(name.replace(",", " ").replace(SEPARATOR, " ").split())
        found = Counter(f"{given or ''} {surname or ''}".replace(",", " ").split())
        assert found <= there, name
        missing = [word.lower() for word in (there - found).elements()]
        assert {word.rstrip(".") for word in missing} <= {w.rstrip(".") for w in LEFT_OUT}, name
        assert found or not there, name
        assert given != ""


def test_neighbours_change_nothing() -> None:
    draw = random.Random(5)
    words = [*GIVEN_WORDS, *SURNAME_WORDS, "van", "y", "Dr.", "Jr.", "M.", ",", SEPARATOR, ""]
    names = [" ".join(draw.choices(words, k=draw.randint(0, 6))) for _ in range(300)]
    assert split(names) == [split([name])[0] for name in names]


def test_long_runs_of_particles_end_the_work() -> None:
    (given, surname) = split(["de " * 100_000 + "Katoro"])[0]
    assert surname == "de " * 8 + "Katoro"
    assert given is not None
    assert len(given) == 3 * (100_000 - 8) - 1
    assert split(["Katoro " + "y Burg " * 100_000], "surname-given")[0][1] is not None


# --- columns of parts ---------------------------------------------------------------------------


def text(*values: Part) -> pa.Array:
    return pa.array(values, pa.large_string())


def test_two_columns_are_joined_into_one_name_per_row() -> None:
    surnames = text("Katoro", "Katoro", None, None, "", f"Kat{SEPARATOR}oro")
    givens = text("Mirela", None, "Mirela", None, "", "Mirela")
    assert join_parts(surnames, givens).to_pylist() == [
        "Katoro\x1fMirela", "Katoro\x1f", "\x1fMirela", None, "\x1f", "Kat oro\x1fMirela",
    ]  # fmt: skip
    assert join_parts(surnames, None).to_pylist()[:3] == ["Katoro\x1f", "Katoro\x1f", None]
    assert join_parts(None, givens).to_pylist()[:2] == ["\x1fMirela", None]
    chunked = pa.chunked_array([surnames[:1], surnames[1:]])
    assert join_parts(chunked, pa.chunked_array([givens])).to_pylist()[2] == "\x1fMirela"
    assert join_parts(text(), text()).type == pa.large_string()


def test_distinct_parts_are_listed_once_and_lone_surnames_stay_in_order() -> None:
    names = ["Mirela Katoro", "Burg", "Tova Katoro", "Burg, Mirela", "", f"{SEPARATOR}Tova"]
    parts = NameParts.of(text(*names), "auto", knows_given=True)
    texts = parts.texts.to_pylist()
    assert texts == ["Burg", "", "Katoro", "Burg", "Mirela", "Tova"]
    assert parts.first_given == 4
    assert parts.surname is not None
    assert parts.given is not None
    assert parts.surname.tolist() == [2, 0, 2, 3, 1, -1]
    assert parts.given.tolist() == [4, -1, 5, 4, -1, 5]


def test_names_of_one_word_are_the_texts_themselves() -> None:
    names = text("Katoro", "Burg", "")
    parts = NameParts.of(names, "auto", knows_given=True)
    assert parts.texts is names
    assert (parts.first_given, parts.surname, parts.given) == (3, None, None)


@pytest.mark.parametrize(
    ("order", "texts"),
    [
        ("auto", ["Mirela Katoro", "Burg", ""]),
        ("given-surname", ["Katoro", "Burg", ""]),
        ("surname", ["Mirela Katoro", "Burg", ""]),
    ],
)
def test_without_given_names_only_an_order_takes_the_surname_out(
    order: NameOrder, texts: list[str]
) -> None:
    names = text("Mirela Katoro", f"Burg{SEPARATOR}Tova", f"{SEPARATOR}Tova")
    parts = NameParts.of(names, order, knows_given=False)
    assert parts.texts.to_pylist() == texts
    assert parts.given is None
