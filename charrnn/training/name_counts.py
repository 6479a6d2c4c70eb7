"""Lists of names that say how common each name is, from the data files of published packages:
name2nat, gender-guesser and dacy.

Their frequencies tell what lists alone cannot: that Petrov is on the lists of Russian, Bulgarian
and Macedonian names, but is many times as frequent in Russia. Only the data file of a package is
read, none of its code is run, so a package may be installed without what it depends on.

A name is on the list of a label where at least ``_LEAST_SHARE`` of its bearers are expected, were
all countries of one size: others are mostly people whose family came from elsewhere. Further names
of the label are on no list, but their frequencies are known for lists that have them: Anna is a
frequent name in twenty countries, none of which has a tenth of all.
"""

import pickle
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import polars as pl

from charrnn.training.label_files import LabelFile, Part, Source
from charrnn.training.name_keys import name_keys
from charrnn.training.name_sources import NATIONALITIES

_LEAST_SHARE = 0.1
_LEAST_PEOPLE = 300  # of a nationality: fewer say little; and the weight of "no one has this name"
_LEAST_BEARERS = 2  # of a name in name2nat
MOST: Mapping[Part, int] = {"surname": 2500, "given": 1500}  # names of a label, of a package

# Nationalities that write the surname first, as most of their people are listed
_SURNAME_FIRST = ("Chinese", "Korean", "Taiwanese", "Vietnamese")
_LEAST_FIRST = 8  # people whose first word tells that it is a surname, for these
_SUFFIXES = ("Jr.", "Jr", "Sr.", "Sr", "II", "III", "IV")

# The columns of gender-guesser's file, by label, "" for countries of several languages
_COUNTRIES = (  # noqa: SIM905 - a list would take 55 lines
    "English,Irish,,Italian,,Portuguese,Spanish,French,,,Dutch,,German,German,,Icelandic,Danish,"
    "Norwegian,Swedish,Finnish,Estonian,Latvian,Lithuanian,Polish,Czech,Slovak,Hungarian,Romanian,"
    "Bulgarian,,Croatian,,Macedonian,,,Slovene,,Greek,Russian,,,Ukrainian,Armenian,Azerbaijani,"
    "Georgian,,Turkish,,Hebrew,Chinese,Hindi,Japanese,Korean,Vietnamese,"
).split(",")
_FIRST_COUNTRY = 30  # position in a line
_TWICE = 29  # position of the mark of a line that repeats another one with its umlauts expanded


def read_counts(source: Source) -> list[LabelFile]:
    """Return the lists of an installed package, one of ``COUNT_READERS``, with the frequencies of
    their names."""
    read, file_name = COUNT_READERS[source.name]
    names = read(data_file(source.name, file_name))
    of_list = ("label", "part", "listed")
    lists = names.group_by(*of_list, maintain_order=True).agg("name", "frequency")
    title = Path(file_name).name
    return [
        LabelFile.of(label, title, part, source, texts, frequencies, listed)
        for label, part, listed, texts, frequencies in lists.sort(of_list).rows()
    ]


def data_file(package: str, name: str) -> Path:
    """Return the path of a file of an installed package, without importing it."""
    return Path(str(distribution(package).locate_file(name)))


def _name2nat(path: Path) -> pl.DataFrame:
    """Return the surnames and given names of the people of Wikipedia by nationality."""
    with path.open("rb") as file:
        people: Mapping[str, list[str]] = _OnlyData(file).load()
    words = [
        (parts, nations[0])
        for name, nations in people.items()
        if len(nations) == 1 and "," not in name and len(parts := _without_suffix(name)) > 1
    ]
    first = Counter((parts[0], nation) for parts, nation in words if nation in _SURNAME_FIRST)
    rows = list[tuple[str, Part, str]]()
    for parts, nation in words:
        surname, given = _split(parts, first[parts[0], nation] >= _LEAST_FIRST)
        rows += [(surname, "surname", nation), (given, "given", nation)]
    frame = pl.DataFrame(rows, schema=["name", "part", "nation"], orient="row")
    frame = frame.filter(pl.col("name").str.strip_chars(".").str.len_chars() > 1)
    label_of = {nation: k for k, v in NATIONALITIES.items() for nation in v}
    frame = frame.with_columns(label=pl.col("nation").replace_strict(label_of, default=None))
    return _counted(frame.with_columns(n=1.0), least=_LEAST_BEARERS)


def _without_suffix(name: str) -> list[str]:
    parts = name.split()
    return parts[:-1] if parts and parts[-1] in _SUFFIXES else parts


def _split(parts: list[str], surname_first: bool) -> tuple[str, str]:
    """Return surname and first given name of a full name; particles belong to the surname."""
    if surname_first:
        return parts[0], " ".join(parts[1:])
    start = len(parts) - 1
    while start > 1 and parts[start - 1][0].islower():
        start -= 1
    return " ".join(parts[start:]), parts[0]


class _OnlyData(pickle.Unpickler):
    """Reads built-in containers and texts; a pickle that names anything else is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"the file names {module}.{name}; expected plain data")


def _gender_guesser(path: Path) -> pl.DataFrame:
    """Return given names by country. A digit d stands for about 2 % · 2**(d - 10) of its people, as
    the file says; sums of powers of two are exact in any order."""
    rows = list[tuple[str, str, str | None, str, float]]()
    for line in path.read_text(encoding="utf-8").splitlines():
        if line[:1] in ("#", "=") or line[_TWICE : _TWICE + 1] == "+":
            continue
        for name in _joined(line[2:_TWICE].strip()):
            for i, label in enumerate(_COUNTRIES):
                digit = line[_FIRST_COUNTRY + i : _FIRST_COUNTRY + i + 1].strip()
                if digit:
                    rows.append((name, "given", label or None, str(i), 2.0 ** int(digit, 16)))
    schema = ["name", "part", "label", "nation", "n"]
    return _counted(pl.DataFrame(rows, schema=schema, orient="row"), smoothing=0.0)


def _joined(name: str) -> list[str]:
    """Return how a name is written whose "+" stands for a hyphen or nothing."""
    return [name.replace("+", "-"), name.replace("+", "").capitalize()] if "+" in name else [name]


def _dacy(path: Path) -> pl.DataFrame:
    """Return Danish surnames and given names with the numbers of their bearers."""
    danish = pl.read_csv(path, schema_overrides={"first_name": pl.String}).filter(
        pl.col("ethnicity") == "danish"
    )
    part = (
        pl.when(pl.col("first_name") == "True").then(pl.lit("given")).otherwise(pl.lit("surname"))
    )
    label = pl.lit("Danish")
    n = pl.col("count").cast(pl.Float64)
    return _counted(danish.select("name", part=part, n=n, label=label, nation=label))


def _counted(
    frame: pl.DataFrame, least: float = 0, smoothing: float = _LEAST_PEOPLE
) -> pl.DataFrame:
    """Return names with label, frequency, and whether they are on its list: the most frequent ones
    of each label and part.

    Args:
        frame: ``name``, ``part``, ``label`` (null for nations of no label), ``nation``, and ``n``,
            the number of bearers or what is proportional to it.
        least: bearers that a name of a label must have.
        smoothing: people added to each label, so that few bearers in a small one say little.
    """
    distinct = frame["name"].unique()
    keys = name_keys(distinct.to_arrow())
    frame = frame.join(pl.DataFrame({"name": distinct, "key": pl.Series(keys)}), on="name")
    frame = frame.with_columns(pl.coalesce("label", "nation").alias("group"))
    frame = frame.group_by("name", "key", "part", "label", "group").agg(pl.col("n").sum())
    of_group = pl.col("n").sum().over("part", "group")
    of_name = ("part", "key")
    spelling = pl.col("name").sort_by("n", "name", descending=[True, False]).first()
    names = (
        frame.with_columns(of_group.alias("people"))
        .filter(pl.col("people") >= (_LEAST_PEOPLE if smoothing else 0))
        .group_by(*of_name, "label", "group")
        .agg(spelling, pl.col("n").sum(), pl.col("people").first())
        .with_columns((pl.col("n") / (pl.col("people") + smoothing)).alias("rate"))
        .with_columns((pl.col("rate") / pl.col("rate").sum().over(*of_name)).alias("share"))
        .filter(
            pl.col("label").is_not_null() & (pl.col("key") != ""),
            pl.col("n") >= least,
        )
        .with_columns(
            (pl.col("n") / pl.col("people")).alias("frequency"),
            (pl.col("share") >= _LEAST_SHARE).alias("own"),
        )
        .sort("own", "frequency", "name", descending=[True, True, False])
    )
    most = pl.col("part").replace_strict(MOST, return_dtype=pl.Int64)
    listed = pl.col("own") & (pl.int_range(pl.len()).over("part", "label") < most)
    return names.select("label", "part", "name", "frequency", listed.alias("listed"))


# Package → the function that reads its data file, and the file
COUNT_READERS = {
    "name2nat": (_name2nat, "name2nat/name2nats.pkl"),
    "gender-guesser": (_gender_guesser, "gender_guesser/data/nam_dict.txt"),
    "dacy": (_dacy, "dacy/resources/lookup_tables/names.csv"),
}
