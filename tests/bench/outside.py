"""Measure models on names of other lists, side by side, as a Markdown table.

    python tests/bench/outside.py pretrained pretrained-tiny pretrained-tutorial
    python tests/bench/outside.py new=m/v0001,m/v0002,m/v0003 --half test     # mean ± sd of 3 seeds

A model is a packaged one, or the folder of a version; NAME=… joins several seeds. Needs the tables
of ``charrnn ingest tutorial faker`` and ``charrnn ingest mimesis --target data/outside.parquet``.
Names are scored by default options, and every label counts alike. Choices are made on the
calibration half; the test half is for reporting only.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from common import circumstances, write_section

from charrnn.model.calibration import expected_calibration_error
from charrnn.model.known_names import KnownNames
from charrnn.model.normalise import LATIN, normalise
from charrnn.model.version import load_version, resolve
from charrnn.model.vocabulary import GIVEN
from charrnn.scoring.scorer import Scorer
from charrnn.training.corpus import Corpus, load_corpus
from charrnn.training.name_keys import name_key
from charrnn.training.outside import PAIRS, balanced_weights, outside_of, pairs_of

LATIN_SCRIPT = (
    "Croatian Czech Danish Dutch English Estonian Finnish French German Hungarian Icelandic "
    "Italian Norwegian Polish Portuguese Slovak Spanish Swedish Turkish"
)
FIGURES = ("recall", "ECE", "refused")
SURNAME_FIRST = ("Chinese", "Japanese", "Korean")  # in one column, in their own scripts
Figures = dict[str, float]


@dataclass(frozen=True)
class NameSet:
    """N names with their labels: columns ``surname`` and ``given``, one of them, or ``name``."""

    columns: dict[str, list[str]]
    labels: list[str]

    def only(self, keep: npt.NDArray[np.bool_]) -> "NameSet":
        """Return the names where ``keep``, bool ``(N,)``, is true."""
        rows = np.flatnonzero(keep).tolist()
        columns = {c: [values[i] for i in rows] for c, values in self.columns.items()}
        return NameSet(columns, [self.labels[i] for i in rows])


def name_sets(corpus: Corpus, table: Path, half: str) -> tuple[dict[str, NameSet], list[str]]:
    """Return the names to measure by title, and the words that are no names; the last two sets are
    names that the training lists have, too."""
    outside = outside_of(load_corpus(table), corpus)
    examples, other = outside.calibration, outside.test
    if half == "test":
        examples, other = other, examples
    names, given = examples.names.to_pylist(), examples.given
    labels = [corpus.labels[i] for i in examples.label_ids.tolist()]
    surnames = NameSet({"surname": names}, labels).only(~given)
    plain = [normalise(name, LATIN) for name in surnames.columns["surname"]]
    sets = {"surnames": surnames, "… without accents": NameSet({"surname": plain}, surnames.labels)}
    latin = np.array([label in LATIN_SCRIPT.split() for label in surnames.labels])
    sets |= {f"19 languages: {t}": s.only(latin) for t, s in list(sets.items())}
    if given.any():
        bare = [name.removeprefix(GIVEN) for name in names]
        sets["given names"] = NameSet({"given": bare}, labels).only(given)
        first, last, ids = pairs_of(examples, seed=1)
        last = [name.removeprefix(GIVEN) for name in last.to_pylist()]
        of_pairs = [corpus.labels[i] for i in ids.tolist()]
        unseen = NameSet({"surname": first.to_pylist(), "given": last}, of_pairs)
        drawn = drawn_pairs(table, corpus.labels, set(other.names.to_pylist()))
        for title, pairs in (("parts unseen", unseen), ("as a user draws them", drawn)):
            sets[f"full names, {title}"] = pairs
            sets[f"full names, {title}, in one column"] = in_one_column(pairs)
    known = outside.known[half == "test"]
    for part, title in (("surname", "surnames"), ("given", "given names")):
        found, ids = known.of_part(given=part == "given")
        bare = [name.removeprefix(GIVEN) for name in found.to_pylist()]
        if bare:
            of_ids = [corpus.labels[i] for i in ids.tolist()]
            sets[f"{title} of the training lists"] = NameSet({part: bare}, of_ids)
    return sets, examples.outliers.to_pylist()


def drawn_pairs(table: Path, known: Sequence[str], excluded: set[str]) -> NameSet:
    """Return ``PAIRS`` full names of each known label as the package makes them: of all its names,
    as they are written, training names among them, but not those of the ``excluded`` half."""
    rng, found = np.random.default_rng(2), NameSet({"surname": [], "given": []}, [])
    rows = pl.read_parquet(table, columns=["name", "language", "part", "source_file", "fold"])
    rows = rows.filter(
        pl.col("fold").is_not_null(),
        pl.col("language").is_in(known),
        ~pl.col("source_file").str.ends_with("transliterated"),
    )
    for (label,), of_label in sorted(rows.group_by("language")):
        parts = {
            part: of_label.filter(
                pl.col("part") == part,
                ~(pl.lit(mark) + pl.col("name")).is_in(list(excluded)),
            )["name"].to_list()
            for part, mark in (("surname", ""), ("given", GIVEN))
        }
        if all(parts.values()):
            for part, names in parts.items():
                found.columns[part].extend(rng.choice(names, PAIRS).tolist())
            found.labels.extend([str(label)] * PAIRS)
    return found


def in_one_column(pairs: NameSet) -> NameSet:
    """Return full names as they are written in one column."""
    names = [
        f"{surname} {given}" if label in SURNAME_FIRST and not given.isascii()
        else f"{given} {surname}"
        for surname, given, label in zip(*pairs.columns.values(), pairs.labels, strict=True)
    ]  # fmt: skip
    return NameSet({"name": names}, pairs.labels)


def answers(scorer: Scorer, names: NameSet) -> pl.DataFrame:
    """Return what scoring answers by default to N names, and the probability of each label."""
    columns = names.columns
    if "given" in columns and not scorer.version.knows_given:
        columns = {"surname": columns.get("surname", columns["given"])}
    options = {f"{part}_column": part for part in columns}
    return scorer.score_table(pl.DataFrame(columns), **options, probabilities=True, prefix="_")


def measure(scorer: Scorer, names: NameSet) -> tuple[Figures, dict[str, float]]:
    """Return figures in which every label counts alike, and the recall of each label. Recall and
    calibration are of all names, also of those that are abstained from."""
    found = answers(scorer, names)
    labels = scorer.version.labels
    ids = {label: i for i, label in enumerate(dict.fromkeys([*labels, *names.labels]))}
    truth = np.array([ids[label] for label in names.labels])
    p = np.zeros((len(truth), len(ids)))
    p[:, : len(labels)] = found.select(pl.col("^_probability_.*$").fill_null(0)).to_numpy()
    weights = balanced_weights(truth)
    right = (p.argmax(axis=1) == truth) & (p.max(axis=1) > 0)
    answered = (found["_status"] == "scored").to_numpy()
    figures = {
        "recall": np.average(right, weights=weights),
        "ECE": expected_calibration_error(p, truth, weights=weights),
        "refused": np.average(~answered, weights=weights),
    }
    recall = {label: right[truth == ids[label]].mean() for label in sorted(set(names.labels))}
    return {k: float(v) for k, v in figures.items()}, {k: float(v) for k, v in recall.items()}


def network_alone(scorer: Scorer) -> Scorer:
    """Return a scorer of the same model without its table of known names."""
    return Scorer(replace(scorer.version, known_names=KnownNames.none()))


def share_answered(scorer: Scorer, column: str, words: list[str]) -> float:
    """Return the share of words that get a label by default, 0 to 1, in a column of ``column``."""
    table = pl.DataFrame({"text": words}, schema={"text": pl.String})
    status = scorer.score_table(table, **{f"{column}_column": "text"})["status"]
    return float((status == "scored").to_numpy().mean()) if words else 0.0


def models_of(argument: str) -> tuple[str, list[Scorer]]:
    """Return the name of a column, and the models of ``[NAME=]MODEL[,MODEL…]``."""
    name, _, models = argument.rpartition("=")
    found = [
        Scorer(load_version(Path(m)) if Path(m).is_dir() else resolve(m)) for m in models.split(",")
    ]
    return name or Path(models).name, found


def shown(values: Sequence[float]) -> str:
    """Return a figure, or the mean and the standard deviation of several seeds."""
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def tables(
    models: dict[str, list[Scorer]], sets: dict[str, NameSet], words: list[str], known: set[str]
) -> list[str]:
    """Return the lines of four tables: names by set, names of the training lists by the network
    alone, words, and recall by language."""
    measured = {
        title: {model: [measure(s, names) for s in seeds] for model, seeds in models.items()}
        for title, names in sets.items()
    }
    lines = row(["", "names", "labels", *(f"{m}: {f}" for m in models for f in FIGURES)], head=True)
    for title, of_model in measured.items():
        cells = [shown([s[0][f] for s in seeds]) for seeds in of_model.values() for f in FIGURES]
        counted = sets[title].labels
        lines += row([title, f"{len(counted):,}", str(len(set(counted))), *cells])
    lines += ["", "Names of the training lists, by the network alone:", ""]
    lines += row(["", *(f"{m}: {f}" for m in models for f in FIGURES)], head=True)
    for title in [title for title in sets if title.endswith("training lists")]:
        alone = [
            [measure(network_alone(s), sets[title])[0] for s in seeds] for seeds in models.values()
        ]
        lines += row([title, *(shown([s[f] for s in seeds]) for seeds in alone for f in FIGURES)])
    lines += ["", "Words that are no names (texts and companies), answered:", ""]
    lines += row(["", "words", *models], head=True)
    new = [word for word in words if name_key(word) not in known]
    for title, chosen in (("all", words), ("no training words", new)):
        for column, kind in (("name", "in one column of names"), ("surname", "as surnames")):
            shares = [[share_answered(s, column, chosen) for s in m] for m in models.values()]
            lines += row([f"{title}, {kind}", f"{len(chosen):,}", *map(shown, shares)])
    lines += ["", "Recall of surnames by language:", "", *row(["", *models], head=True)]
    for label in sorted(set(sets["surnames"].labels)):
        recalls = [[recall[label] for _, recall in s] for s in measured["surnames"].values()]
        lines += row([label, *map(shown, recalls)])
    return lines


def row(cells: Sequence[str], *, head: bool = False) -> list[str]:
    """Return a row of a Markdown table, with the line below it where it is the head."""
    line = f"| {' | '.join(cells)} |"
    return [line, "|---|" + "---:|" * (len(cells) - 1)] if head else [line]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", help="[NAME=]MODEL[,MODEL…]")
    parser.add_argument("--corpus", type=Path, default=Path("data/names.parquet"))
    parser.add_argument("--outside", type=Path, default=Path("data/outside.parquet"))
    parser.add_argument("--half", choices=("calibration", "test"), default="calibration")
    parser.add_argument("--page", type=Path, help="Markdown page to write the tables to")
    arguments = parser.parse_args()
    corpus = load_corpus(arguments.corpus)
    sets, words = name_sets(corpus, arguments.outside, arguments.half)
    known = {name_key(word) for word in corpus.outliers.to_pylist()}
    models = dict(map(models_of, arguments.models))
    lines = tables(models, sets, words, known)
    print("\n".join(lines))
    if arguments.page:
        given = " ".join(models)
        made = f"`python tests/bench/outside.py {given} --half {arguments.half}`, "
        made += f"{circumstances('torch', 'polars')}."
        write_section(arguments.page, f"outside-{arguments.half}", [made, "", *lines])


if __name__ == "__main__":
    main()
