"""Lists of installed packages: small invented packages stand for Faker and mimesis, and of the real
ones, where they are installed, only counts are looked at."""

import json
import sys
from collections import Counter
from collections.abc import Callable
from importlib.metadata import distributions
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from charrnn.errors import ConfigError, DataError
from charrnn.model.vocabulary import GIVEN, LATIN_VOCABULARY
from charrnn.training import name_packages, name_sources
from charrnn.training.corpus import Corpus, build_table, load_corpus, sources_of, write_table
from charrnn.training.corpus_report import corpus_report, report_markdown
from charrnn.training.data_card import data_card
from charrnn.training.evidence import check_trainable
from charrnn.training.label_files import LabelFile, Source, content_digest
from charrnn.training.name_counts import COUNT_READERS
from charrnn.training.name_packages import read_package
from charrnn.training.name_sources import VERSIONS
from charrnn.training.splits import honest_split

# Invented; by provider, locale and list. A class of a locale may inherit lists of another language.
_PROVIDERS = {
    "person/xx_XX": """
class Provider(Base):
    formats = ("{{first_name}} {{last_name}}",)
    last_names_female = ("Katorá", "Kamiro")
    last_names_male = {"Katoro": 0.5, "Kamiro": 0.25}
    last_names = last_names_female + tuple(last_names_male)
    first_names = ("Rota  mi", "Kamiro", "")
    last_name_pairs = {("Katoro", "other"): 0.5}
    prefixes = ("Mr.",)
""",
    "person/yy_YY": """
class Provider(Base):
    last_names = ("Иваро", "Ovskaro")
    first_names = ["Катя"]
""",
    "person/et_EE": """
class Provider(Base):
    last_names_est = ("Muruson",)
    last_names_rus = ("Ovskiyev",)
    last_names = last_names_est + last_names_rus
    first_names_est = ("Muru",)
""",
    "person/is_IS": """
class Provider(Base):
    last_names_without_suffix = ("Karo", "Mi")
    first_names = ("Karo",)
""",
    "person/pl_PL": """
class Provider(Base):
    unisex_last_names = ("Kowaro",)
    male_last_names = ("Kowarski",)
    first_names = ("Kowa",)
""",
    "company/xx_XX": """
class Provider(Base):
    company_suffixes = ("Ltd",)
    large_companies = ("Miro Works",)
    catch_phrase_words = (("agile", "novel"), ("katoro",))
""",
    "lorem/xx_XX": "class Provider(Base):\n    word_list = ('abacus', 'Kamiro')\n",
    "job/xx_XX": "class Provider(Base):\n    jobs = ('Engineer, civil (bridges)',)\n",
    "address/xx_XX": "class Provider(Base):\n    cities = ('Mirotown',)\n    other = ('x',)\n",
}
_BASE = """
class Base:
    last_names = ("Inherited",)
    first_names = ("Inherited",)

class Faker:
    def __init__(self, locale, providers):
        self.companies = iter(["Katoro Ltd", "Katoro-Kamiro", "Katoro and Kamiro"] * 100)
    def seed_instance(self, seed):
        assert seed == 0
    def company(self):
        return next(self.companies)
"""
_LABELS = {"Alpha": ["xx_XX"], "Beta": ["yy_YY"], "Estonian": ["et_EE"], "Icelandic": ["is_IS"],
           "Polish": ["pl_PL"]}  # fmt: skip

_WORDFREQ = """
def available_languages():
    return {"yy": "/large", "xx": "/large"}
def top_n_list(language, n):
    words = {"xx": ["ro", "roka", "o'ro", "katá", "7", "ovsk", "mi"], "yy": ["со", "вода", "roka"]}
    return words[language][:n]
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put an invented package of a name and version before the real one."""

    def put(name: str, version: str = "") -> None:
        for module in [m for m in sys.modules if m.split(".")[0] == name]:
            monkeypatch.delitem(sys.modules, module)
        described = tmp_path / f"{name.replace('-', '_')}-1.dist-info/METADATA"
        described.parent.mkdir()
        described.write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version or VERSIONS[name]}\n"
            "License: MIT\n"
        )
        monkeypatch.syspath_prepend(tmp_path)

    yield put
    for module in [m for m in sys.modules if m.split(".")[0] in VERSIONS]:
        if str(tmp_path) in str(getattr(sys.modules[module], "__file__", "")):
            del sys.modules[module]


@pytest.fixture
def faker(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install("faker")
    for path in ("faker", "faker/providers"):
        (tmp_path / path).mkdir()
        (tmp_path / path / "__init__.py").write_text(_BASE)
    for path, content in _PROVIDERS.items():
        folder = tmp_path / "faker/providers" / path
        folder.mkdir(parents=True)
        (folder.parent / "__init__.py").write_text("")
        (folder / "__init__.py").write_text(f"from faker import Base\n{content}")
    monkeypatch.setattr(name_packages, "FAKER_LOCALES", _LABELS)


@pytest.fixture
def mimesis(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install("mimesis")
    folder = tmp_path / "mimesis/datasets"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("")
    names = {"male": ["Karo"], "female": ["Kara"]}
    for locale, surnames in {"a": ["Katoro", "Ovsk"], "a-b": ["Katoro"], "c": names}.items():
        (folder / locale).mkdir()
        person = {"surnames": surnames, "names": names, "title": {"male": ["Mr."]}}
        company = {"name": ["Abacus Ltd"], "type": {"title": "x"}}
        words = {"words": ["abacus", "KARO"]}
        contents = {"person": person, "text": words, "finance": {"company": company}}
        for kind, content in contents.items():
            (folder / locale / f"{kind}.json").write_text(json.dumps(content))
    monkeypatch.setattr(name_packages, "MIMESIS_LOCALES", {"Alpha": ["a", "a-b"], "Gamma": ["c"]})


def lines_of(files: list[LabelFile]) -> dict[tuple[str | None, str], list[str]]:
    """Return the names of all files by label and part."""
    lines: dict[tuple[str | None, str], list[str]] = {}
    for file in files:
        lines.setdefault((file.label, file.part), []).extend(file.content.decode().splitlines())
    return lines


@pytest.mark.usefixtures("faker")
def test_a_locales_own_lists_are_read_once_per_name_and_not_those_it_inherits() -> None:
    lines = lines_of(read_package("faker"))
    assert lines["Alpha", "surname"] == ["Katorá", "Kamiro", "Katoro"]
    assert lines["Alpha", "given"] == ["Rota mi", "Kamiro"]
    assert not [name for names in lines.values() for name in names if name == "Inherited"]


@pytest.mark.usefixtures("faker")
def test_weights_of_a_locale_that_has_them_tell_the_frequencies_of_its_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(name_packages, "WEIGHTED", {"xx_XX"})
    files = [f for f in read_package("faker") if (f.label, f.part) == ("Alpha", "surname")]
    assert files[0].content.decode().split() == ["Katorá", "Kamiro", "Katoro"]
    assert str(files[0].frequencies) == f"(nan, {0.5 / 3}, {1 / 3})"  # half of the people
    monkeypatch.setattr(name_packages, "FAKER_LOCALES", {"Alpha": ["yy_YY", "xx_XX", "xx_XX"]})
    again = [file for file in read_package("faker") if not file.listed]
    assert [file.content.decode().split() for file in again] == [["Kamiro", "Katoro"]]
    assert again[0].frequencies == pytest.approx((0.5 / 3, 1 / 3))


def test_words_are_the_most_frequent_ones_of_each_language_that_can_be_taken_for_names(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("wordfreq")
    (tmp_path / "wordfreq.py").write_text(_WORDFREQ)
    monkeypatch.setattr(name_packages, "COMMON_WORDS", 3)
    assert lines_of(read_package("wordfreq")) == {
        (None, "other"): ["roka", "katá", "ovsk", "со", "вода", "so", "voda"]
    }


def test_ideographs_of_other_labels_than_chinese_are_not_transliterated() -> None:
    has = name_packages._has_transliteration
    assert [has(n, "Chinese") for n in ("王", "Ka")] == [True, False]
    assert [has(n, "Japanese") for n in ("カト", "加藤", "加 Kato")] == [True, False, False]
    assert has("王府", None)


@pytest.mark.usefixtures("faker")
def test_names_in_other_scripts_are_there_as_they_are_and_transliterated() -> None:
    files = [file for file in read_package("faker") if file.label == "Beta"]
    assert [(file.name, file.content.decode()) for file in files] == [
        ("person/yy_YY", "Иваро\nOvskaro\n"),
        ("person/yy_YY, transliterated", "Ivaro\n"),
        ("person/yy_YY", "Катя\n"),
        ("person/yy_YY, transliterated", "Katya\n"),
    ]


@pytest.mark.usefixtures("faker")
def test_locales_that_make_their_surnames_are_read_as_they_make_them() -> None:
    lines = lines_of(read_package("faker"))
    assert lines["Estonian", "surname"] == ["Muruson"]
    assert lines["Icelandic", "surname"] == ["Karoson", "Karodóttir", "Mison", "Midóttir"]
    assert lines["Polish", "surname"] == ["Kowaro", "Kowarski", "Kowarska"]


@pytest.mark.usefixtures("faker")
def test_words_that_are_no_names_have_no_label_and_those_that_are_names_no_fold() -> None:
    files = read_package("faker")
    assert lines_of(files)[None, "other"] == [
        "Kamiro", "abacus", "Miro Works", "agile", "katoro", "novel", "Katoro Ltd",
        "Katoro and Kamiro", "Katoro-Kamiro", "Engineer, civil (bridges)", "Mirotown",
    ]  # fmt: skip
    others = [row for row in build_table(files).to_pylist() if row["part"] == "other"]
    assert {row["language"] for row in others} == {None}
    dropped = {row["name"]: row["dropped"] for row in others if row["dropped"]}
    assert dropped == dict.fromkeys(("Kamiro", "katoro", "Katoro-Kamiro"), "also_a_name")
    assert {row["name"] for row in others if row["fold"] is None} == set(dropped)


@pytest.mark.usefixtures("mimesis")
def test_mimesis_gives_names_by_sex_or_in_one_list_and_words() -> None:
    files = read_package("mimesis")
    assert lines_of(files) == {
        ("Alpha", "surname"): ["Katoro", "Ovsk"],
        ("Alpha", "given"): ["Karo", "Kara"],
        ("Gamma", "surname"): ["Karo", "Kara"],
        ("Gamma", "given"): ["Karo", "Kara"],
        (None, "other"): ["KARO", "abacus", "Abacus Ltd"],
    }
    assert {file.source for file in files} == {Source("mimesis", VERSIONS["mimesis"], "MIT")}


@pytest.mark.parametrize("name", VERSIONS)
def test_another_version_is_refused_with_what_to_install(name: str, install: Install) -> None:
    install(name, "1.0")
    with pytest.raises(
        ConfigError, match=rf"^{name} 1\.0 is installed; .*{VERSIONS[name]}.*run: pip install "
    ):
        read_package(name)


@pytest.mark.parametrize("extra", [True, False])
def test_a_package_that_is_not_installed_is_named_with_what_to_install(
    extra: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(VERSIONS, "no-such-package", "1")
    monkeypatch.setattr(name_sources, "_EXTRA", ("no-such-package",) * extra)
    what = r"'charrnn-names\[corpus\]'" if extra else "--no-deps no-such-package==1"
    with pytest.raises(ConfigError, match=f"pip install {what}"):
        read_package("no-such-package")


def corpus_of(files: list[LabelFile], folder: Path) -> Corpus:
    write_table(build_table(files), folder / "names.parquet")
    return load_corpus(folder / "names.parquet")


@pytest.mark.usefixtures("faker")
def test_given_names_carry_their_mark_and_sources_and_outliers_are_kept(tmp_path: Path) -> None:
    mine = LabelFile("Alpha", "Alpha.txt", b"Rokata\n", source=Source("mine"))
    corpus = corpus_of([mine, *read_package("faker")], tmp_path)
    assert corpus.labels == tuple(_LABELS)
    sources = pq.read_table(tmp_path / "names.parquet")["source"].to_pylist()
    assert (sources[0], set(sources[1:])) == ("mine", {"faker"})
    given = [name for name in corpus.names.to_pylist() if name.startswith(GIVEN)]
    assert given[:2] == [f"{GIVEN}Rota mi", f"{GIVEN}Kamiro"]
    assert len(corpus.outliers) == len(corpus.outlier_folds) == 11
    assert (corpus.outlier_folds < 0).sum() == 3


@pytest.mark.usefixtures("faker")
def test_a_vocabulary_that_knows_the_transliterations_can_be_trained_on_them(
    tmp_path: Path,
) -> None:
    files = [f for f in read_package("faker") if f.label in (None, "Alpha", "Beta")]
    check_trainable(corpus_of(files, tmp_path), LATIN_VOCABULARY)
    native = [file for file in files if not file.name.endswith(", transliterated")]
    with pytest.raises(DataError, match="unknown: Cyrillic"):
        check_trainable(corpus_of(native, tmp_path), LATIN_VOCABULARY)


@pytest.mark.usefixtures("faker", "mimesis")
def test_sources_have_their_version_licence_and_counts_in_table_report_and_card() -> None:
    mine = LabelFile("Alpha", "Alpha.txt", b"Rokata\n", source=Source("mine"))
    table = build_table([mine, *read_package("faker"), *read_package("mimesis")])
    mine_counts, faker_counts, _ = sources_of(table)
    assert mine_counts.rows == {"Alpha": {"surname": 1}}
    assert faker_counts.source == Source("faker", VERSIONS["faker"], "MIT")
    assert faker_counts.rows["Alpha"] == {"surname": 3, "given": 2}
    assert faker_counts.rows[""] == {"other": 11}
    report = corpus_report(table)
    assert report.sources == sources_of(table)
    beta = report.per_label["Beta"]
    assert (beta.surnames, beta.given_names) == (2, 1)
    assert beta.scripts == {"Cyrillic": 2, "Latin": 3}
    card = data_card(report, "0" * 64)
    for page in (report_markdown(report, "Names"), card):
        assert f"| faker | {VERSIONS['faker']} | MIT | 5 | 14 | 7 | 11 |" in page
        assert "| Beta | 5 | 3 | 2 | 1 | Latin 3, Cyrillic 2 |" in page
        assert "Kato" not in page
    assert "Fewer than 100 surnames: Alpha (5), Beta (2)" in card
    assert "faker: Hindi holds" in card
    assert "nothing" not in card


def twenty(label: str, names: list[str], part: str = "surname", name: str = "list") -> LabelFile:
    content = "".join(f"{n}\n" for n in names).encode()
    return LabelFile(label, name, content, part)  # type: ignore[arg-type]


def test_spellings_of_a_name_are_in_one_fold_and_a_test_has_each_name_once(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    plain = ["".join(draw.choice(list("bdaeo"), 6)) + "ova" for _ in range(200)]
    accented = [name.replace("a", "á", 1) for name in plain]
    cyrillic = [name.translate(str.maketrans("bdaeov", "бдаеов")) for name in plain]
    files = [twenty("Alpha", plain), twenty("Alpha", accented), twenty("Beta", cyrillic),
             twenty("Beta", plain), twenty("Beta", plain, "given")]  # fmt: skip
    corpus = corpus_of(files, tmp_path)
    distinct = set(plain)
    for spellings in (False, True):
        split = honest_split(corpus, spellings=spellings)
        sides = [split.train, split.validation, split.test]
        keys = [{_key(corpus, name) for name in side.names.to_pylist()} for side in sides]
        assert not (keys[0] & keys[1] | keys[0] & keys[2] | keys[1] & keys[2])
        for side in sides[1:]:
            pairs = [
                (name, int(label))
                for name, label in zip(side.names.to_pylist(), side.label_ids, strict=True)
            ]
            assert (
                len(pairs) == len(set(pairs)) == 3 * len({n.removeprefix(GIVEN) for n, _ in pairs})
            )
            assert all(name.removeprefix(GIVEN).isascii() for name in side.names.to_pylist())
            assert side.given.sum() * 3 == len(pairs)
    learned = {_key(corpus, name) for name in honest_split(corpus).train.names.to_pylist()}
    assert len(honest_split(corpus).train.names) == 3 * len(learned)
    accents = sum("á" in name for name in set(accented))
    assert accents > 100
    counted = Counter(honest_split(corpus, spellings=True).train.label_ids.tolist())
    assert counted[1] == 3 * len(learned)  # two scripts, and given names
    assert len(learned) < counted[0] <= 2 * len(learned) <= 2 * len(distinct)


def _key(corpus: Corpus, name: str) -> str:
    return str(corpus.normalised[corpus.names.index(name).as_py()])


# Of the pinned versions, with the pinned transliteration.
DIGESTS = {
    "faker": "f9eddc79332395c2422d88c8742b19efe281e8d251b3b9d2f278a6e576a04407",
    "mimesis": "590eb2983ddd2c0207da010de742bf01264aa85dc9b1103a4e542fce10609fd5",
    "wordfreq": "f6a059578c3e4ee40cd7d1c823b56a154b969462f21ed44e5d05f80bfbe0ffab",
    "name2nat": "88dcdb904cc681f39b575d598f33d6b391209965e3c29f3356bd0fcad1662d4c",
    "gender-guesser": "01e30b38acf4364cca8b9a8801d032265e1f800a40bd6b8047cd0aa5d43b4071",
    "dacy": "6e7f96a7065aa2cecd720497ac4c35c024a91220b9a6ac32fc79840e459133fd",
    "turkish-name-generator": "c45917fa1a69c6bffa93abc3ba716ec7279207875d6530f086b8b8c89bad698d",
    "ipadic": "21387eeca3d51ecf0f95f253a23a5ef7f6d5a2690501383d9fb070ea8c11b5c6",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", VERSIONS)
def test_the_real_lists_are_the_known_ones_in_many_scripts(name: str) -> None:
    if not list(distributions(name=name)):
        pytest.skip(f"{name} is not installed")
    files = read_package(name)
    assert content_digest(files) == DIGESTS[name]
    counts = Counter[tuple[str | None, str]]()
    for file in files:
        counts[file.label, file.part] += file.content.count(b"\n")
    if name in COUNT_READERS or name in ("turkish-name-generator", "ipadic"):
        assert (None, "other") not in counts
        return
    assert counts[None, "other"] > 20_000
    if name == "wordfreq":
        assert counts.keys() == {(None, "other")}
        return
    locales = {"faker": name_packages.FAKER_LOCALES, "mimesis": name_packages.MIMESIS_LOCALES}[name]
    assert {label for label, _ in counts} == {None, *locales}
    assert counts["Icelandic", "surname"] > 1000
    assert counts["Russian", "surname"] > 900
    assert sum(file.name.endswith(", transliterated") for file in files) > 20
