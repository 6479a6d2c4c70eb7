"""Train on labelled tables as a user does, and beside charrnn its peers on the same split.

    python tests/bench/own_labels.py                       # countries, genders, register
    python tests/bench/own_labels.py --corpora scripts     # 300,000 rows of 60 labels

Each corpus is a labelled Parquet table: ``countries`` (made-up surnames of 40 labels in Latin
letters), ``genders`` (the given names of the installed package Faker), ``register`` (made-up
surnames of 12 districts in Cyrillic) and ``scripts`` (60 labels in Cyrillic, Greek and Hangul).
charrnn's commands run as they are typed: ingest, train, score, evaluate. The peers learn from the
training fold that ingest made and answer its test fold, each in a process of its own: fastText
(package ``fasttext-wheel``), and scikit-learn's SGDClassifier and LogisticRegression on hashed
character n-grams. All figures are of the test fold, by the same functions; CPU seconds and peak
memory are those of whole commands.
"""

import argparse
import importlib
import importlib.util
import os
import pkgutil
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import common
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from labelled_names import LabelledNames

from charrnn.model.calibration import Floats
from charrnn.model.facts import Metrics
from charrnn.model.normalise import LATIN, normalise
from charrnn.runs.manifest import read_manifest
from charrnn.training.corpus import load_corpus
from charrnn.training.metrics import evaluate
from charrnn.training.splits import Split, honest_split

PAGE = Path("docs/own-labels.md")
HASHED = 2**18  # features of the n-grams of scikit-learn
LEAST = 1e-9  # of a probability: some peers give 0, whose NLL is infinite
Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Corpus:
    """A labelled table: what its columns are called, its rows by default, and who makes them."""

    name_column: str
    label_column: str
    rows: int
    make: Callable[[int], pl.DataFrame]


@dataclass(frozen=True)
class Cost:
    """What a command took: seconds, CPU seconds, and peak memory in MB."""

    seconds: float
    cpu: float
    memory: float


@dataclass(frozen=True)
class Row:
    """One way to answer one corpus."""

    way: str
    metrics: Metrics
    train: Cost
    names_per_second: float


# --- Corpora --------------------------------------------------------------------------------------


def made_up(labels: int, scripts: Sequence[str], zipf: float) -> Callable[[int], pl.DataFrame]:
    """Return the maker of a table of made-up names."""

    def make(rows: int) -> pl.DataFrame:
        maker = LabelledNames(labels, scripts, zipf=zipf)
        names, label_ids = maker.rows(0, rows)
        return pl.DataFrame({"name": names, "label": np.array(maker.label_names)[label_ids]})

    return make


def given_names(rows: int) -> pl.DataFrame:
    """Return the given names of all locales of Faker in Latin letters, those of both genders under
    both."""
    package = importlib.import_module("faker.providers.person")
    names: dict[str, set[str]] = {"female": set(), "male": set()}
    for locale in pkgutil.iter_modules(package.__path__):
        if locale.ispkg:
            provider = importlib.import_module(f"{package.__name__}.{locale.name}").Provider
            for gender, of_gender in names.items():
                of_gender.update(getattr(provider, f"first_names_{gender}", ()))
    pairs = sorted(
        (name, gender)
        for gender, of_gender in names.items()
        for name in of_gender
        if normalise(name, LATIN).isascii()
    )
    order = np.random.default_rng(0).permutation(len(pairs))[:rows].tolist()
    return pl.DataFrame([pairs[i] for i in order], ["name", "label"], orient="row")


CORPORA = {
    "countries": Corpus("surname", "country", 60_000, made_up(40, ["latin"], 0.7)),
    "genders": Corpus("given_name", "gender", 60_000, given_names),
    "register": Corpus("surname", "district", 60_000, made_up(12, ["cyrillic"], 1.0)),
    "scripts": Corpus(
        "surname", "country", 300_000, made_up(60, ["cyrillic", "greek", "hangul"], 0.5)
    ),
}


# --- Peers, each in a process of its own ----------------------------------------------------------


def hashed_grams() -> object:
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(
        analyzer="char_wb", ngram_range=(1, 5), n_features=HASHED, alternate_sign=False
    )


def scikit_learn(classifier: object, split: Split) -> tuple[Floats, float]:
    """Fit a classifier of hashed n-grams; return its probabilities of the test names, ``(N, L)``,
    and the seconds they took."""
    grams, train = hashed_grams(), split.train
    model = classifier.fit(  # type: ignore[attr-defined]
        grams.transform(train.names.to_pylist()),  # type: ignore[attr-defined]
        train.label_ids,
        sample_weight=train.weights,
    )
    started = time.perf_counter()
    found = model.predict_proba(grams.transform(split.test.names.to_pylist()))  # type: ignore[attr-defined]
    probabilities = np.zeros(
        (len(found), 1 + int(max(split.test.label_ids.max(), *model.classes_)))
    )
    probabilities[:, model.classes_] = found
    return probabilities, time.perf_counter() - started


def sgd(split: Split) -> tuple[Floats, float]:
    from sklearn.linear_model import SGDClassifier

    classifier = SGDClassifier(loss="log_loss", alpha=1e-6, random_state=0)
    return scikit_learn(classifier, split)


def logistic(split: Split) -> tuple[Floats, float]:
    from sklearn.linear_model import LogisticRegression

    return scikit_learn(LogisticRegression(C=10, max_iter=100), split)


def fasttext(split: Split) -> tuple[Floats, float]:
    import fasttext as ft

    lines = [
        f"__label__{label} {name.lower()}\n"
        for name, label in zip(
            split.train.names.to_pylist(), split.train.label_ids.tolist(), strict=True
        )
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as text:
        text.writelines(lines)
        text.flush()
        model = ft.train_supervised(
            text.name, minn=2, maxn=4, dim=32, epoch=50, lr=0.1, bucket=HASHED, thread=1,
            loss="softmax", verbose=0,
        )  # fmt: skip
    started = time.perf_counter()
    L = int(max(split.train.label_ids.max(), split.test.label_ids.max())) + 1
    probabilities = np.zeros((len(split.test.names), L))
    for row, name in enumerate(split.test.names.to_pylist()):
        for share, label in model.f.predict(name.lower() + "\n", L, 0.0, "strict"):
            probabilities[row, int(label.removeprefix("__label__"))] = share
    return probabilities, time.perf_counter() - started


PEERS: dict[str, tuple[str, str, Callable[[Split], tuple[Floats, float]]]] = {
    "fasttext": ("fastText, n-grams of 2 to 4", "fasttext", fasttext),
    "sgd": ("scikit-learn SGDClassifier, hashed n-grams", "sklearn", sgd),
    "logistic": ("scikit-learn LogisticRegression, hashed n-grams", "sklearn", logistic),
}


def answer_as_peer(peer: str, table: Path, answers: Path) -> None:
    """Let a peer learn from the table that ingest wrote; write its answers and their seconds."""
    probabilities, seconds = PEERS[peer][2](honest_split(load_corpus(table)))
    np.savez(answers, probabilities=probabilities, seconds=seconds)


# --- Commands -------------------------------------------------------------------------------------


def costed(command: Sequence[object], folder: Path) -> Cost:
    """Run a command and return what it took; its output is in ``folder / "out.txt"``."""
    started = time.perf_counter()
    with (folder / "out.txt").open("wb") as out:
        process = subprocess.Popen(
            list(map(str, command)), cwd=folder, stdout=out, stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(common.ROOT)},
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        said = (folder / "out.txt").read_text()[-3000:]
        raise RuntimeError(f"{shlex.join(map(str, command))} failed:\n{said}")
    memory = usage.ru_maxrss * 1024 / 1e6
    return Cost(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, memory)


def typed(line: str, folder: Path) -> Cost:
    """Run a line such as ``charrnn train``."""
    start = [sys.executable, "-c", "from charrnn.cli import main; main()"]
    return costed([*start, *shlex.split(line)[1:]], folder)


def lines_of(name: str, options: Sequence[str]) -> list[str]:
    """Return the commands that a user types for a corpus."""
    corpus = CORPORA[name]
    columns = f"--name-column {corpus.name_column} --label-column {corpus.label_column}"
    return [
        f"charrnn ingest {name}.parquet {columns}",
        shlex.join(["charrnn", "train", *options]),
        f"charrnn score test.parquet --name-column {corpus.name_column} --model candidate "
        "--probabilities --top-k 1",
    ]


def charrnn_answers(folder: Path, split: Split, labels: Sequence[str]) -> tuple[Floats, Ids, float]:
    """Return the probabilities of the test names in the published run, which of them have no
    label, and the names scored in a second."""
    run = folder / "outputs/predictions/test/latest"
    frame = pl.read_parquet(run / "rows")
    first = frame.columns.index("reason") + 1
    probabilities = frame.select(frame.columns[first : first + len(labels)]).to_numpy()
    seconds = read_manifest(run).seconds
    refused = (frame["status"].cast(pl.String) != "scored").to_numpy()
    return probabilities.astype(np.float64), refused, len(split.test.names) / seconds


def bench(name: str, rows: int, options: Sequence[str], peers: Sequence[str]) -> list[str]:
    """Return the Markdown lines of a corpus."""
    corpus = CORPORA[name]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        frame = corpus.make(rows or corpus.rows)
        frame.rename({"name": corpus.name_column, "label": corpus.label_column}).write_parquet(
            folder / f"{name}.parquet"
        )
        typed_lines = lines_of(name, options)
        costs = [typed(line, folder) for line in typed_lines[:2]]
        table = load_corpus(folder / "data/names.parquet")
        split = honest_split(table)
        test = pa.table({corpus.name_column: split.test.names})
        pl.from_arrow(test).write_parquet(folder / "test.parquet")  # type: ignore[union-attr]
        costs.append(typed(typed_lines[2], folder))
        probabilities, refused, speed = charrnn_answers(folder, split, table.labels)
        metrics = evaluate(probabilities, split.test.label_ids, table.labels, refused)
        measured = [Row("charrnn", metrics, costs[1], speed)]
        for peer in peers:
            measured.append(measured_peer(peer, folder, split, table.labels))
    return [*head(name, len(frame), table.labels, split), *commands(typed_lines, costs),
            *figures(measured)]  # fmt: skip


def measured_peer(peer: str, folder: Path, split: Split, labels: Sequence[str]) -> Row:
    """Run a peer and measure its answers to the test names."""
    answers = folder / "answers.npz"
    cost = costed([sys.executable, Path(__file__).resolve(), "--peer", peer,
                   folder / "data/names.parquet", answers], folder)  # fmt: skip
    found = np.load(answers)
    p = np.zeros((len(split.test.names), len(labels)))
    p[:, : found["probabilities"].shape[1]] = found["probabilities"]
    p = np.maximum(p, LEAST)
    metrics = evaluate(p / p.sum(axis=1, keepdims=True), split.test.label_ids, labels)
    return Row(PEERS[peer][0], metrics, cost, len(p) / float(found["seconds"]))


# --- The page -------------------------------------------------------------------------------------


def head(name: str, rows: int, labels: Sequence[str], split: Split) -> list[str]:
    return [
        f"### {name}",
        "",
        f"{rows:,} rows, {len(labels)} labels; {len(split.train.names):,} names to learn from, "
        f"{len(split.test.names):,} to be tested on.",
        "",
    ]


def commands(lines: Sequence[str], costs: Sequence[Cost]) -> list[str]:
    rows = [
        f"| `{line}` | {cost.seconds:,.0f} | {cost.cpu:,.0f} | {cost.memory:,.0f} |"
        for line, cost in zip(lines, costs, strict=True)
    ]
    return ["| command | s | CPU s | MB |", "|---|--:|--:|--:|", *rows, ""]


def figures(rows: Sequence[Row]) -> list[str]:
    lines = [
        f"| {row.way} | {row.metrics.accuracy:.4f} | {row.metrics.macro_f1:.4f} | "
        f"{row.metrics.nll:.3f} | {row.metrics.ece:.3f} | {row.train.cpu:,.0f} | "
        f"{row.train.memory:,.0f} | {row.names_per_second:,.0f} |"
        for row in rows
    ]
    best = max(rows[1:], key=lambda row: row.metrics.accuracy, default=rows[0])
    difference = 100 * (rows[0].metrics.accuracy - best.metrics.accuracy)
    return [
        "| | accuracy | macro-F1 | NLL | ECE | CPU s of training | MB | names/s |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
        *lines,
        "",
        f"charrnn minus the most accurate peer: {difference:+.2f} points of accuracy.",
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpora", nargs="+", choices=CORPORA,
                        default=["countries", "genders", "register"])  # fmt: skip
    parser.add_argument("--rows", type=int, default=0, help="instead of the corpus's own")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--train", default="--seeds 0 --no-baselines", help="options of train")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--peer", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        answer_as_peer(arguments.peer[0], *map(Path, arguments.peer[1:]))
        return
    installed = [p for p in arguments.peers if importlib.util.find_spec(PEERS[p][1])]
    page = arguments.page.resolve()
    for name in arguments.corpora:
        arguments.corpora = [name]
        lines = bench(name, arguments.rows, shlex.split(arguments.train), installed)
        made = f"`{common.command('own_labels.py', parser, arguments)}`"
        libraries = common.circumstances(
            "torch", *sorted({PEERS[p][1] for p in installed} - {"fasttext"})
        )
        lines = [*lines, f"Made by {made} on {libraries}."]
        common.write_section(page, f"own-labels-{name}", lines)
        print("\n".join(lines))


if __name__ == "__main__":
    main()
