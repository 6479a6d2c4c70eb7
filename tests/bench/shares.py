"""Measure how often intervals of shares hold the truth, on groups drawn with known shares.

    python tests/bench/shares.py --draws 8 --page docs/shares.md

Needs the tables of ``charrnn ingest …`` (docs/models.md) and
``charrnn ingest mimesis --target data/outside.parquet``.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from common import circumstances, write_section

from charrnn.model.quantify import Group, Quantifier
from charrnn.scoring.inputs import one_name
from charrnn.scoring.options import ScoreOptions
from charrnn.scoring.scorer import Scorer

MIXES = {
    "Germany": "German 70 Turkish 8 Polish 5 Italian 4 Russian 4 English 2 Croatian 2 French 5",
    "Britain": "English 80 Polish 5 Spanish 3 French 3 Italian 3 German 3 Turkish 1 Chinese 2",
    "Switzerland": "German 55 French 22 Italian 12 Portuguese 4 Spanish 3 Turkish 4",
    "Spain": "Spanish 90 Portuguese 3 French 2 English 2 German 2 Italian 1",
    "Norway": "Norwegian 80 Danish 3 Swedish 5 Polish 6 German 3 English 3",
    "Slovakia": "Slovak 75 Czech 10 Hungarian 10 Polish 3 German 2",
}  # fmt: skip
ROWS = 500
TEST_FOLD = 9  # neither trained nor validated on
Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pool:
    """Names of a kind by label: their texts, label ids ``(N,)``."""

    surnames: tuple[list[str], Ids]
    given: tuple[list[str], Ids]


def pools(corpus: Path, outside: Path, labels: tuple[str, ...]) -> dict[str, Pool]:
    """Return names by how well the model knows them."""
    own, other = (
        pl.read_parquet(path).filter(
            pl.col("dropped").is_null(), pl.col("language").is_in(labels)
        ).unique(["name", "language", "part"], maintain_order=True)
        for path in (corpus, outside)
    )  # fmt: skip
    learned = own.filter(pl.col("fold") < TEST_FOLD - 1)
    new = own.filter(pl.col("fold") == TEST_FOLD)
    half = pl.concat([learned.sample(new.height, seed=0), new])
    other = other.filter(~pl.col("name_normalised").is_in(learned["name_normalised"].implode()))
    frames = {"learned": learned, "half of each": half, "not learned": new, "other lists": other}
    number = {label: i for i, label in enumerate(labels)}

    def of(frame: pl.DataFrame, part: str) -> tuple[list[str], Ids]:
        rows = frame.filter(pl.col("part") == part)
        return rows["name"].to_list(), np.array([number[x] for x in rows["language"]], np.int64)

    return {name: Pool(of(f, "surname"), of(f, "given")) for name, f in frames.items()}


def drawn(
    scorer: Scorer, pool: Pool, shares: dict[int, float], full: bool, rng: np.random.Generator
) -> tuple[Group, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return a group of ``ROWS`` rows with its shares: the true ones and those that are counted."""
    kinds = [pool.surnames, *([pool.given] if full else [])]
    there = [i for i in shares if all((ids == i).any() for _, ids in kinds)]
    p = np.array([shares[i] for i in there])
    truth = rng.choice(there, ROWS, p=p / p.sum())
    texts = [
        [names[rng.choice(np.flatnonzero(ids == label))] for label in truth] for names, ids in kinds
    ]
    fields = dict(zip(("surname_column", "given_column"), texts, strict=False))
    cells = {field: pl.Series(values).to_arrow() for field, values in fields.items()}
    options = ScoreOptions(probabilities=True, max_unfamiliarity=1.0,
                           **dict.fromkeys(fields, "") | {f: f for f in fields})  # fmt: skip
    found, codes = scorer.answers(one_name(cells), options)
    at, rows = np.unique(codes.to_numpy(), return_counts=True)
    answered = (found.reason[at] == 0).nonzero()[0]
    at, rows = at[answered], rows[answered].astype(float)
    group = Group(found.probabilities[at].astype(float), rows, np.full(len(at), full))
    L = len(scorer.version.labels)
    counted = np.bincount(group.probabilities.argmax(axis=1), rows, L) / rows.sum()
    return group, np.bincount(truth, minlength=L) / ROWS, counted


def measured(scorer: Scorer, pool: Pool, full: bool, draws: int, seed: int) -> list[str]:
    """Return the cells of a row of the table."""
    version, rng = scorer.version, np.random.default_rng(seed)
    quantifier = Quantifier(
        version.validation_probabilities(), version.calibration.label_ids, version.assumed_shares,
        version.pair_exponent,
    )  # fmt: skip
    held, largest, widths, errors, refused = [], [], [], [], []
    for mix in MIXES.values():
        words = mix.split()
        shares = {
            version.labels.index(a): float(b) for a, b in zip(words[::2], words[1::2], strict=True)
        }
        for number in range(draws):
            group, truth, counted = drawn(scorer, pool, shares, full, rng)
            found, top = quantifier.shares(group, number), int(truth.argmax())
            refused.append(bool(found.refused) or bool(found.alike[top]))
            if found.refused:
                continue
            inside = (found.low <= truth) & (truth <= found.high)
            apart = np.array([not others for others in found.alike]) & (truth >= 0.01)
            held += inside[apart].tolist()
            errors.append((abs(counted[top] - truth[top]), abs(found.share[top] - truth[top])))
            if apart[top]:
                largest.append(inside[top])
                widths.append(found.high[top] - found.low[top])
    return [
        f"{len(refused)}", f"{np.mean(held):.1%}", f"{np.mean(largest):.1%}" if largest else "–",
        f"{100 * np.mean(widths):.0f} points" if widths else "–",
        *(f"{100 * e:.1f} points" for e in np.mean(errors, axis=0)), f"{np.mean(refused):.0%}",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pretrained")
    parser.add_argument("--corpus", type=Path, default=Path("data/names.parquet"))
    parser.add_argument("--outside", type=Path, default=Path("data/outside.parquet"))
    parser.add_argument("--draws", type=int, default=8, help="of each made-up country")
    parser.add_argument("--page", type=Path, help="Markdown page to write the table to")
    arguments = parser.parse_args()
    scorer = Scorer.load(arguments.model)
    head = ("names", "draws", "held", "largest label held", "width of its interval",
            "error of the count", "of the corrected share", "largest label refused")  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "|---|" + "--:|" * (len(head) - 1)]
    for name, pool in pools(arguments.corpus, arguments.outside, scorer.version.labels).items():
        for full in (False, True):
            cells = measured(scorer, pool, full, arguments.draws, len(lines))
            title = f"{'full names' if full else 'surnames'}, {name}"
            lines.append(f"| {title} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    if arguments.page:
        made = f"`python tests/bench/shares.py --draws {arguments.draws}`, "
        write_section(arguments.page, "shares", [made + circumstances("torch") + ".", "", *lines])


if __name__ == "__main__":
    main()
