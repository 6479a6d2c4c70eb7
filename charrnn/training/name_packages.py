"""Lists of names, and of words that are no names, from the installed packages Faker and mimesis,
words from wordfreq, and further lists from packages that say how common a name is.

Faker and mimesis are made to invent data for tests; their lists are of real, common names, by
locale. Lists are read from the installed package, never copied into this one, and only of the
version that ``name_sources`` knows.

Names of a locale are the union of its lists (male, female, romanised, kana …). A name in another
script than Latin is there twice: as it is and transliterated, in a file of its own.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from importlib.resources import files as package_files
from itertools import chain
from pkgutil import iter_modules
from typing import Any

import numpy as np

from charrnn.model.normalise import LATIN, normalise, transliterate
from charrnn.training.frequencies import COVERED
from charrnn.training.label_files import LabelFile, Part
from charrnn.training.name_counts import COUNT_READERS, MOST, data_file, read_counts
from charrnn.training.name_keys import IDEOGRAPHS
from charrnn.training.name_sources import (
    COMMON_WORDS,
    COMPANIES,
    FAKER_LOCALES,
    MIMESIS_LOCALES,
    MOST_WORDS,
    WEIGHTED,
    installed,
)

# Locale → the ending of a man's surname → those of women's, where a list lacks most of them
_FEMININE = {
    "bg_BG": {"ов": ["ова"], "ев": ["ева"], "ски": ["ска"]},
    "lt_LT": {
        "as": ["aitė", "ienė"], "is": ["ytė", "ienė"], "ys": ["ytė", "ienė"], "us": ["utė", "ienė"],
    },
    "pl_PL": {"ski": ["ska"], "cki": ["cka"], "dzki": ["dzka"]},
}  # fmt: skip
# Kind of words → the lists of its providers, in every locale
_FAKER_WORDS = {
    "lorem": ("word_list", "common_words"),
    "company": ("large_companies", "companies", "company_names", "catch_phrase_words", "bsWords"),
    "job": ("jobs", "jobs_male", "jobs_female"),
    "address": ("cities", "city_names", "real_city_names", "countries"),
}
_COMPANY_PROVIDERS = [f"faker.providers.{k}" for k in ("person", "company", "address", "lorem")]

_MECAB_HEADER = 72  # bytes: ten numbers, of which [6:8] are the bytes of index and tokens, and text
_MECAB_TOKEN = np.dtype([("context", "<u2", 3), ("cost", "<i2"), ("feature", "<u4"), ("", "<u4")])


def read_package(name: str) -> list[LabelFile]:
    """Return the lists of an installed package, a key of ``VERSIONS``: those of names by label,
    then those of words that are no names. No list of a label and part repeats a name.

    Raises:
        ConfigError: the package is not installed, or in another version.
    """
    source = installed(name)
    if name in COUNT_READERS:
        return read_counts(source)
    seen: dict[tuple[str | None, Part], set[str]] = {}
    files = list[LabelFile]()
    for label, part, title, found in chain.from_iterable(read() for read in _READERS[name]):
        before = seen.setdefault((label, part), {""})
        shares = _shares(found)
        new = [name for name in shares if name not in before]
        again = [name for name in shares if name in before and name and shares[name] > 0]
        before.update(new)
        latin = [transliterate(n) for n in new if _has_transliteration(n, label)]
        for suffix, names, listed in (
            ("", new, True), (", transliterated", latin, True), (", again", again, False),
        ):  # fmt: skip
            known = [shares.get(name, math.nan) for name in names]
            if names:
                files.append(
                    LabelFile.of(label, title + suffix, part, source, names, known, listed)
                )
    return files


def _shares(found: Iterable[str]) -> dict[str, float]:
    """Return the names without needless spaces, and the share of each among the people of its
    label: NaN where ``found`` has no weights, which are of any unit."""
    if not isinstance(found, Mapping):
        return dict.fromkeys((" ".join(name.split()) for name in found), math.nan)
    total = float(np.nansum(list(found.values())))
    return {" ".join(name.split()): COVERED * w / total for name, w in found.items()}


def _has_transliteration(name: str, label: str | None) -> bool:
    """Return whether ``transliterate`` writes a name in Latin letters as its bearers may: a name in
    another script, but for ideographs of other labels than Chinese, which it reads as Mandarin."""
    mandarin = label in (None, "Chinese")
    return not normalise(name, LATIN).isascii() and (mandarin or not re.search(IDEOGRAPHS, name))


_Lists = Iterator[tuple[str | None, Part, str, Iterable[str]]]
"""Label, part, name of the file, and its lines; with the weights of some of them, a mapping."""


def _faker_names() -> _Lists:
    for label, locales in FAKER_LOCALES.items():
        for locale in locales:
            names = _faker_surnames(locale)
            weights = _faker_weights(locale) if locale in WEIGHTED else {}
            weighted = {name: weights.get(name, math.nan) for name in names}
            yield label, "surname", f"person/{locale}", weighted if weights else names
            yield label, "given", f"person/{locale}", _faker_lists(locale, "first")


def _faker_weights(locale: str) -> dict[str, float]:
    """Return the weights of the surnames of a locale, the highest one of several lists."""
    provider = import_module(f"faker.providers.person.{locale}").Provider
    weights: dict[str, float] = {}
    for title, names in vars(provider).items():
        is_list = {"last", "names"} <= set(title.split("_")) or title == "last_name_pairs"
        if is_list and isinstance(names, Mapping):
            for name, weight in names.items():
                for text in _texts(name):  # of a pair: in several scripts
                    weights[text] = max(weight, weights.get(text, 0.0))
    return weights


def _faker_surnames(locale: str) -> list[str]:
    """Return the surnames of a locale as its provider makes them, women's forms among them."""
    if locale == "is_IS":
        stems = _own_lists("person", locale)["last_names_without_suffix"]
        return [stem + suffix for stem in stems for suffix in ("son", "dóttir")]
    names = _faker_lists(locale, "last")
    feminine = [
        name.removesuffix(ending) + form
        for name in names
        for ending, forms in _FEMININE.get(locale, {}).items()
        if name.endswith(ending)
        for form in forms
    ]
    return names + feminine


def _faker_lists(locale: str, kind: str) -> list[str]:
    """Return the names on all lists of a locale of a kind, such as ``last_names_female``,
    ``last_kana_names`` or ``male_last_names``."""
    return [
        name
        for title, names in _own_lists("person", locale).items()
        if kind in title.split("_") and "names" in title.split("_")
        if locale != "et_EE" or title.endswith("_est")  # others are Russian
        for name in names
    ]


def _faker_words() -> _Lists:
    for kind, titles in _FAKER_WORDS.items():
        for module in iter_modules(import_module(f"faker.providers.{kind}").__path__):
            locale = module.name
            lists = _own_lists(kind, locale)
            words = _spaced([word for title in titles for word in lists.get(title, ())])
            yield None, "other", f"{kind}/{locale}", words
            if kind == "company":
                yield None, "other", f"invented company/{locale}", _invented_companies(locale)


def _spaced(words: Iterable[str]) -> list[str]:
    """Return at most ``MOST_WORDS`` distinct ones in their order as text, evenly spaced."""
    distinct = sorted(set(words))  # a list of a package may be made of a set
    return distinct[:: max(1, -(-len(distinct) // MOST_WORDS))]


def _invented_companies(locale: str) -> list[str]:
    """Return names of companies that the package invents, of surnames for the most part: the same
    ones every time."""
    faker = import_module("faker").Faker(locale, providers=_COMPANY_PROVIDERS)
    faker.seed_instance(0)
    return sorted({faker.company() for _ in range(COMPANIES)})


def _own_lists(kind: str, locale: str) -> dict[str, list[str]]:
    """Return the lists of text of a locale's provider by name, without those that it inherits from
    the provider of another language."""
    provider: Any = import_module(f"faker.providers.{kind}.{locale}").Provider
    return {
        title: list(_texts(value))
        for title, value in vars(provider).items()
        if isinstance(value, Mapping | list | tuple)
    }


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts of nested lists; of a mapping, whose values are frequencies, the keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for item in value:
            yield from _texts(item)


def _mimesis_names() -> _Lists:
    for label, locales in MIMESIS_LOCALES.items():
        for locale in locales:
            person = _mimesis(locale, "person")
            yield label, "surname", f"person/{locale}", _values(person.get("surnames", ()))
            yield label, "given", f"person/{locale}", _values(person.get("names", ()))


def _mimesis_words() -> _Lists:
    for locales in MIMESIS_LOCALES.values():
        for locale in locales:
            words = _mimesis(locale, "text").get("words", ())
            yield None, "other", f"text/{locale}", _spaced(words)
            company = _mimesis(locale, "finance").get("company", {})
            yield None, "other", f"company/{locale}", company.get("name", ())


def _common_words() -> _Lists:
    wordfreq: Any = import_module("wordfreq")
    for language in sorted(wordfreq.available_languages()):
        words = wordfreq.top_n_list(language, 3 * COMMON_WORDS)
        words = [w for w in words if w.isalpha() and (len(w) > 2 or not w.isascii())]
        yield None, "other", f"words/{language}", words[:COMMON_WORDS]


def _turkish_surnames() -> _Lists:
    path = data_file("turkish-name-generator", "trnamegen/data/soyisimler.txt")
    capitals = path.read_text(encoding="utf-8").translate({0x130: "i", ord("I"): "ı"})
    yield "Turkish", "surname", "soyisimler.txt", capitals.lower().title().splitlines()


def _japanese_names() -> _Lists:
    """Yield the names of MeCab's dictionary with an ideograph, those of the lowest cost: its file
    has a header, an index, a token of 16 bytes for each word, and features, ended by NUL."""
    content = data_file("ipadic", "ipadic/dicdir/sys.dic").read_bytes()
    index, tokens = np.frombuffer(content, "<u4", 10)[6:8].tolist()
    start = _MECAB_HEADER + index
    fields = np.frombuffer(content, _MECAB_TOKEN, tokens // _MECAB_TOKEN.itemsize, start)
    features = start + tokens + fields["feature"].astype(np.int64)
    by_cost = features[np.argsort(fields["cost"], kind="stable")].tolist()
    kinds: dict[Part, str] = {"surname": "姓", "given": "名"}
    for part, kind in kinds.items():
        prefix = f"名詞,固有名詞,人名,{kind},".encode()
        of_kind = [i for i in by_cost if content.startswith(prefix, i)]
        words = [content[i : content.index(b"\0", i)].decode().split(",")[6] for i in of_kind]
        names = list(dict.fromkeys(word for word in words if re.search(IDEOGRAPHS, word)))
        yield "Japanese", part, "sys.dic", names[: MOST[part]]


def _mimesis(locale: str, kind: str) -> dict[str, Any]:
    """Return one data set of a locale."""
    path = package_files("mimesis") / "datasets" / locale / f"{kind}.json"
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _values(names: Any) -> Iterator[str]:
    """Yield names that are in one list, or in one for each sex."""
    for value in names.values() if isinstance(names, Mapping) else (names,):
        yield from value


# Package → the functions that read its lists
_READERS = {
    "faker": (_faker_names, _faker_words),
    "mimesis": (_mimesis_names, _mimesis_words),
    "wordfreq": (_common_words,),
    "turkish-name-generator": (_turkish_surnames,),
    "ipadic": (_japanese_names,),
}
