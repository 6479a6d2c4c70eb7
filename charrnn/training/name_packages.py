"""Lists of names, and of words that are no names, from the installed packages Faker and mimesis,
words from wordfreq, and further lists from packages that say how common a name is.

Faker and mimesis are made to invent data for tests; their lists are of real, common names, by
locale. A table here says which locale speaks which language. Lists are read from the installed
package, never copied into this one, and only of the version that the table was made for.

Names of a locale are the union of its lists (male, female, romanised, kana …). A name in another
script than Latin is there twice: as it is and transliterated, in a file of its own.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, metadata
from importlib.resources import files as package_files
from itertools import chain
from pkgutil import iter_modules
from typing import Any

import numpy as np

from charrnn.errors import ConfigError, missing_package
from charrnn.model.normalise import LATIN, normalise, transliterate
from charrnn.training.frequencies import COVERED
from charrnn.training.label_files import LabelFile, Part, Source
from charrnn.training.name_counts import MOST, READERS, data_file, read_counts
from charrnn.training.name_keys import IDEOGRAPHS

# The first three as pinned by the extra ``corpus``; of the others only a data file is read, so they
# are installed without what they depend on.
_EXTRA = ("faker", "mimesis", "wordfreq")
VERSIONS = {
    "faker": "40.63.0",
    "mimesis": "22.2.0",
    "wordfreq": "3.1.1",
    "name2nat": "0.5.1",
    "gender-guesser": "0.4.0",
    "dacy": "2.9.0",
    "turkish-name-generator": "1.0.6",
    "ipadic": "1.0.0",
}

# Label → locales of faker.providers.person. For those left out see ``NOTES``.
FAKER_LOCALES = {
    "Akan": "tw_GH",
    "Arabic": "ar_AA ar_DZ ar_PS ar_SA fr_DZ",
    "Armenian": "hy_AM",
    "Azerbaijani": "az_AZ",
    "Bengali": "bn_BD",
    "Bulgarian": "bg_BG",
    "Chinese": "zh_CN zh_TW",
    "Croatian": "hr_HR",
    "Czech": "cs_CZ",
    "Danish": "da_DK",
    "Dutch": "nl_NL nl_BE",
    "English": "en_GB en_NZ",
    "Estonian": "et_EE",
    "Finnish": "fi_FI",
    "French": "fr_FR fr_CA fr_CH",
    "Georgian": "ka_GE",
    "German": "de_DE de_AT de_CH de_LI",
    "Greek": "el_GR",
    "Hebrew": "he_IL",
    "Hindi": "hi_IN en_IN",
    "Hungarian": "hu_HU",
    "Icelandic": "is_IS",
    "Indonesian": "id_ID",
    "Irish": "en_IE ga_IE",
    "Italian": "it_IT",
    "Japanese": "ja_JP",
    "Korean": "ko_KR",
    "Latvian": "lv_LV",
    "Lithuanian": "lt_LT",
    "Macedonian": "mk_MK",
    "Marathi": "mr_IN",
    "Nepali": "ne_NP",
    "Norwegian": "no_NO",
    "Odia": "or_IN",
    "Persian": "fa_IR",
    "Polish": "pl_PL",
    "Portuguese": "pt_PT pt_BR",
    "Romanian": "ro_RO",
    "Russian": "ru_RU",
    "Sinhala": "si_LK",
    "Slovak": "sk_SK",
    "Slovene": "sl_SI",
    "Spanish": "es_ES es_AR es_CL es_CO es_MX",
    "Swahili": "sw",
    "Swedish": "sv_SE",
    "Tamil": "ta_IN",
    "Thai": "th_TH en_TH",
    "Turkish": "tr_TR",
    "Ukrainian": "uk_UA",
    "Urdu": "en_PK",
    "Uzbek": "uz_UZ",
    "Vietnamese": "vi_VN",
    "Yoruba": "yo_NG",
    "Zulu": "zu_ZA",
}
# Locales whose lists tell how common a surname is, among the people of their label as well
_WEIGHTED = frozenset({
    "en_GB", "es_AR", "es_CL", "es_CO", "fi_FI", "he_IL", "hu_HU", "ja_JP", "ko_KR", "nl_BE",
    "sv_SE", "zh_CN", "zh_TW",
})  # fmt: skip
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
_MOST_WORDS = 400  # of a kind and locale, evenly spaced over the lists
_COMPANIES = 300  # names of companies that a locale's provider invents
_COMPANY_PROVIDERS = [f"faker.providers.{k}" for k in ("person", "company", "address", "lorem")]

_COMMON_WORDS = 1500  # of a language
_MECAB_HEADER = 72  # bytes: ten numbers, of which [6:8] are the bytes of index and tokens, and text
_MECAB_TOKEN = np.dtype([("context", "<u2", 3), ("cost", "<i2"), ("feature", "<u4"), ("", "<u4")])

# Label → locales of mimesis/datasets
MIMESIS_LOCALES = {
    "Arabic": "ar ar-ae ar-dz ar-eg ar-jo ar-kw ar-ma ar-om ar-qa ar-sa ar-sy ar-tn ar-ye",
    "Azerbaijani": "az",
    "Chinese": "zh",
    "Croatian": "hr",
    "Czech": "cs",
    "Danish": "da",
    "Dutch": "nl nl-be",
    "English": "en en-au en-ca en-gb",
    "Estonian": "et",
    "Finnish": "fi",
    "French": "fr",
    "German": "de de-at de-ch",
    "Greek": "el",
    "Hungarian": "hu",
    "Icelandic": "is",
    "Italian": "it",
    "Japanese": "ja",
    "Kazakh": "kk",
    "Korean": "ko",
    "Norwegian": "no",
    "Persian": "fa",
    "Polish": "pl",
    "Portuguese": "pt pt-br",
    "Russian": "ru",
    "Slovak": "sk",
    "Spanish": "es es-mx",
    "Swedish": "sv",
    "Turkish": "tr",
    "Ukrainian": "uk",
}

# What a data card says about each package
NOTES = {
    "faker": (
        "Hindi holds the names of India at large (en_IN), Urdu those of Pakistan, French-written "
        "names of Algeria are Arabic; Tamil, Urdu and Thai use given names as surnames.",
        "Polish surnames are a list of 3,690 for both sexes, none of which ends in -ski or -cki, "
        "and 200 of men, half of which do. Women's forms of Polish, Lithuanian and Bulgarian "
        "surnames are made by their endings.",
        "Irish holds the names of Ireland as they are written in English (en_IE), a quarter of "
        "them English names, beside the Irish ones; most given names of Akan are English; Serbian "
        "has no list at all.",
        "Surnames of " + ", ".join(sorted(_WEIGHTED)) + " have weights: half of the people of the "
        "label are taken to have one of them. Other weights are not used: those of given names, "
        "which gender-guesser has for more countries, and of de_LI and en_NZ.",
        "Icelandic surnames are made as the package makes them: of every given name of a man, "
        "with -son and with -dóttir.",
        "Transliterations are made character by character, not as passports have them: those from "
        "Arabic and Hebrew lack the vowels that are not written, and Indian ones look unusual. "
        "Ideographs are read as Mandarin, so those of Japanese names are not transliterated.",
        "Left out: en_US, en, en_KE, en_NG and de_LU (several languages under one locale), "
        "fr_BE (the surnames of nl_BE), the Russian lists of et_EE, es_CA (given names "
        "only), and gu_IN, ha_NG, ig_NG (20 surnames or fewer).",
        f"Words that are no names: texts, companies, job titles, cities and countries of all "
        f"locales, up to {_MOST_WORDS} of a kind and locale, and {_COMPANIES} companies a locale "
        "that the package invents, of surnames for the most part.",
    ),
    "mimesis": (
        "English is the most frequent surnames of the United States, so Spanish names are among "
        "them; German (de-ch) is what is found in Switzerland, French and Italian names included.",
        f"Words that are no names: up to {_MOST_WORDS} words of texts a locale, and companies.",
    ),
    "wordfreq": (
        f"The {_COMMON_WORDS:,} most frequent words of each of the package's languages, of three "
        "letters or more; those on a list of names are left out, but names on no list are there. "
        "Its data are under CC BY-SA 4.0.",
    ),
    "name2nat": (
        "People with a page in the English Wikipedia of 2020, by nationality: sportsmen above all, "
        "few women, in Latin letters. A name is taken from two people on, under a label where a "
        "tenth of its bearers or more are expected. Hardly anyone is Danish, Finnish, Polish, "
        "Spanish, Swedish or Turkish there; Spanish holds the nations of Latin America.",
    ),
    "gender-guesser": (
        "Given names of 2008 by country, with frequencies in steps of two. Its file is under the "
        "GNU Free Documentation License.",
    ),
    "dacy": ("The most frequent Danish names of the University of Copenhagen, with bearers.",),
    "turkish-name-generator": ("Surnames, without frequencies.",),
    "ipadic": (
        "The most frequent Japanese surnames and given names with an ideograph in MeCab's "
        "dictionary of 2007, without frequencies. Under the licence of the Nara Institute of "
        "Science and Technology, which its file COPYING holds.",
    ),
}


def read_package(name: str) -> list[LabelFile]:
    """Return the lists of an installed package, a key of ``VERSIONS``: those of names by label,
    then those of words that are no names. No list of a label and part repeats a name.

    Raises:
        ConfigError: the package is not installed, or in another version.
    """
    source = _installed(name)
    if name in READERS:
        return read_counts(source)
    readers = {
        "faker": (_faker_names, _faker_words),
        "mimesis": (_mimesis_names, _mimesis_words),
        "wordfreq": (_common_words,),
        "turkish-name-generator": (_turkish_surnames,),
        "ipadic": (_japanese_names,),
    }
    lists = chain.from_iterable(read() for read in readers[name])
    seen: dict[tuple[str | None, Part], set[str]] = {}
    files = list[LabelFile]()
    for label, part, file_name, found in lists:
        before = seen.setdefault((label, part), {""})
        shares = _shares(found)
        new = [name for name in shares if name not in before]
        again = [name for name in shares if name in before and name and shares[name] > 0]
        before.update(new)
        latin = [transliterate(n) for n in new if _has_transliteration(n, label)]
        for title, lines, listed in (
            (file_name, new, True),
            (f"{file_name}, transliterated", latin, True),
            (f"{file_name}, again", again, False),
        ):
            if lines:
                content = "".join(f"{line}\n" for line in lines).encode()
                known = tuple(shares.get(line, math.nan) for line in lines)
                frequencies = () if np.isnan(known).all() else known
                files.append(LabelFile(label, title, content, part, source, frequencies, listed))
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


def _installed(name: str) -> Source:
    """Return an installed package as a source, with its version and licence."""
    try:
        described = metadata(name)
    except PackageNotFoundError:
        if name in _EXTRA:
            raise missing_package(f"the source {name}", "corpus") from None
        raise ConfigError(
            f"the source {name} needs its package, without what that depends on; run: "
            f"pip install {_without_dependencies(name)}",
            option="sources",
        ) from None
    version = described["Version"]
    if version != VERSIONS[name]:
        wanted = "'charrnn-names[corpus]'" if name in _EXTRA else _without_dependencies(name)
        raise ConfigError(
            f"{name} {version} is installed; its lists are known for {VERSIONS[name]}; "
            f"run: pip install {wanted}",
            option="sources",
        )
    licences = [described[key] for key in ("License-Expression", "License") if key in described]
    licence = (licences or [""])[0]
    return Source(name, version, licence)


def _without_dependencies(name: str) -> str:
    return f"--no-deps {name}=={VERSIONS[name]}"


_Lists = Iterator[tuple[str | None, Part, str, Iterable[str]]]
"""Label, part, name of the file, and its lines; with the weights of some of them, a mapping."""


def _faker_names() -> _Lists:
    for label, locales in FAKER_LOCALES.items():
        for locale in locales.split():
            names = _faker_surnames(locale)
            weights = _faker_weights(locale) if locale in _WEIGHTED else {}
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
    """Return at most ``_MOST_WORDS`` distinct ones in their order as text, evenly spaced."""
    distinct = sorted(set(words))  # a list of a package may be made of a set
    return distinct[:: max(1, -(-len(distinct) // _MOST_WORDS))]


def _invented_companies(locale: str) -> list[str]:
    """Return names of companies that the package invents, of surnames for the most part: the same
    ones every time."""
    faker = import_module("faker").Faker(locale, providers=_COMPANY_PROVIDERS)
    faker.seed_instance(0)
    return sorted({faker.company() for _ in range(_COMPANIES)})


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
        for locale in locales.split():
            person = _mimesis(locale, "person")
            yield label, "surname", f"person/{locale}", _values(person.get("surnames", ()))
            yield label, "given", f"person/{locale}", _values(person.get("names", ()))


def _mimesis_words() -> _Lists:
    for locales in MIMESIS_LOCALES.values():
        for locale in locales.split():
            words = _mimesis(locale, "text").get("words", ())
            yield None, "other", f"text/{locale}", _spaced(words)
            company = _mimesis(locale, "finance").get("company", {})
            yield None, "other", f"company/{locale}", company.get("name", ())


def _common_words() -> _Lists:
    wordfreq: Any = import_module("wordfreq")
    for language in sorted(wordfreq.available_languages()):
        words = wordfreq.top_n_list(language, 3 * _COMMON_WORDS)
        words = [w for w in words if w.isalpha() and (len(w) > 2 or not w.isascii())]
        yield None, "other", f"words/{language}", words[:_COMMON_WORDS]


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
