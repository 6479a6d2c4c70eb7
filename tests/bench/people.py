"""Train on a table of people, where names repeat, and score people of the same country.

    python tests/bench/people.py --page docs/own-labels.md

200,000 people of ten countries, made up: a surname by its frequency in the lists of ``charrnn
ingest tutorial faker wordfreq name2nat gender-guesser dacy turkish-name-generator ipadic``, and one
in ten lives in another country. Three quarters are trained on, by the commands as they are typed;
the others are answered by the network alone, and together with the names that it was trained on.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from common import ROOT, circumstances, write_section
from outside import network_alone, row

from charrnn.model.calibration import expected_calibration_error, negative_log_likelihood
from charrnn.model.version import load_version
from charrnn.scoring.scorer import Scorer

COUNTRIES = ["Czech", "Dutch", "English", "French", "German", "Italian", "Polish", "Portuguese",
             "Spanish", "Swedish"]  # fmt: skip
PEOPLE, TRAINED = 20_000, 0.75  # of a country; the share that is trained on
ABROAD = 0.1


def people(corpus: Path) -> pl.DataFrame:
    """Return the people in random order: ``surname`` and ``country``."""
    rng, parts = np.random.default_rng(0), []
    rows = pl.read_parquet(corpus, columns=["name", "language", "part", "weight", "fold"]).filter(
        pl.col("fold").is_not_null(), pl.col("part") == "surname"
    )
    for country in COUNTRIES:
        names = rows.filter(pl.col("language") == country)
        weights = names["weight"].to_numpy().astype(np.float64)
        drawn = names["name"].to_numpy()[rng.choice(len(names), PEOPLE, p=weights / weights.sum())]
        lives = np.where(rng.random(PEOPLE) < ABROAD, rng.choice(COUNTRIES, PEOPLE), country)
        parts.append(pl.DataFrame({"surname": drawn, "country": lives}))
    return pl.concat(parts).sample(fraction=1, shuffle=True, seed=1)


def run(folder: str, arguments: str) -> None:
    """Run a command of charrnn in a folder."""
    start = "from charrnn.cli import main; main()"
    command = [sys.executable, "-c", start, *arguments.split()]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True)


def figures(scorer: Scorer, table: pl.DataFrame) -> list[float]:
    """Return accuracy, NLL in nats and ECE of the answers to people."""
    labels = scorer.version.labels
    found = scorer.score(table["surname"], probabilities=True, max_unfamiliarity=1.0)
    p = found.select(pl.col("^probability_.*$").fill_null(1 / len(labels))).to_numpy()
    p, truth = p.astype(np.float64), np.array([labels.index(c) for c in table["country"]])
    right = p.argmax(axis=1) == truth
    return [
        float(right.mean()),
        negative_log_likelihood(p, truth),
        expected_calibration_error(p, truth),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=Path("data/names.parquet"))
    parser.add_argument("--page", type=Path, help="Markdown page to write the table to")
    arguments = parser.parse_args()
    table = people(arguments.corpus)
    trained = round(TRAINED * len(table))
    with tempfile.TemporaryDirectory() as folder:
        table[:trained].write_parquet(Path(folder) / "people.parquet")
        run(folder, "ingest people.parquet --name-column surname --label-column country")
        run(folder, "train --no-baselines")
        scorer = Scorer(load_version(Path(folder) / "outputs/models/v0001"))
    tested = table[trained:]
    known = tested["surname"].is_in(table[:trained]["surname"].unique().to_list())
    lines = row(["", "people", "accuracy", "NLL", "ECE"], head=True)
    for title, some in (("all", tested), ("names trained on", tested.filter(known))):
        for kind, one in (("network alone", network_alone(scorer)), ("as answered", scorer)):
            cells = [f"{value:.3f}" for value in figures(one, some)]
            lines += row([f"{title}, {kind}", f"{len(some):,}", *cells])
    test = scorer.version.facts.metrics.honest.test
    said = f"The version's report says {test.accuracy:.3f} of {test.count:,} names not trained on."
    print("\n".join([*lines, "", said]))
    if arguments.page:
        made = f"`python tests/bench/people.py`, {circumstances('torch', 'polars')}."
        write_section(arguments.page, "people", [made, "", *lines, "", said])


if __name__ == "__main__":
    main()
