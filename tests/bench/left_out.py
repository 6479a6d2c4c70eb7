"""Leave languages out of the training, and count how many of their names get a sure answer.

    python tests/bench/left_out.py --each        # one training for each of the six languages
    python tests/bench/left_out.py --together    # one training without all six
    python tests/bench/left_out.py --model pretrained-tutorial   # on languages it does not know

Needs the tables of ``charrnn ingest tutorial faker`` and ``charrnn ingest mimesis --target
data/outside.parquet``. A training leaves out the languages' names and the words of their locales.
Versions are kept in ``--versions``, and not trained again. Names that are also on a list of another
language are not counted. Options of scoring are the default ones.
"""

import argparse
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
from common import circumstances, command, write_section
from outside import NameSet, answers, measure, models_of, name_sets, row

from charrnn.model.version import load_version
from charrnn.recipes.requests import TrainRequest
from charrnn.recipes.runner import Runner
from charrnn.recipes.train import train
from charrnn.scoring.scorer import Scorer
from charrnn.training.corpus import (
    load_corpus,
    sources_of,
    table_of,
    with_metadata,
    write_table,
)
from charrnn.training.name_sources import FAKER_LOCALES

LANGUAGES = ("Finnish", "Hungarian", "Turkish", "Indonesian", "Zulu", "Icelandic")
SURE = 0.8  # confidence of an answer that a user would rely on
ROW = ["name", "name_normalised", "language", "part", "fold"]


def sure_share(scorer: Scorer, names: NameSet) -> tuple[float, float]:
    """Return which shares of the names are answered at all, and with more than ``SURE``."""
    found = answers(scorer, names)
    answered = (found["_status"] == "scored").to_numpy()
    sure = (found["_confidence"].fill_null(0) > SURE).to_numpy()
    return float(answered.mean()), float((answered & sure).mean())


def filtered(corpus: Path, target: Path, keep: pl.Expr) -> Path:
    """Write the corpus table made of those lines of the lists that ``keep`` says; return its
    path."""
    table = pq.read_table(corpus)
    kept = pl.DataFrame(table).filter(keep).to_arrow()
    sources = [counts.source for counts in sources_of(table)]
    target.parent.mkdir(parents=True, exist_ok=True)
    content = load_corpus(corpus).digest
    write_table(with_metadata(table_of(kept), content, sources), target)
    return target


def without(languages: tuple[str, ...]) -> pl.Expr:
    """Return which rows are neither names of the languages nor words of their locales."""
    codes = {code for label in languages for code in FAKER_LOCALES[label]}
    codes |= {code.split("_")[0] for code in codes}
    of_locale = pl.col("source_file").str.contains(rf"/({'|'.join(sorted(codes))})(,|$)")
    is_word = pl.col("language").is_null()
    return pl.when(is_word).then(~of_locale).otherwise(~pl.col("language").is_in(languages))


def names_of(language: str, tables: list[Path], known: pl.DataFrame) -> dict[str, NameSet]:
    """Return the surnames and the given names of a language in all tables that are not among the
    ``known`` ones, each once."""
    rows = pl.concat([pl.read_parquet(table, columns=ROW) for table in tables])
    rows = rows.filter(pl.col("fold").is_not_null(), pl.col("language") == language)
    rows = rows.join(known, on=["name_normalised", "part"], how="anti")
    rows = rows.unique(["name_normalised", "part"], keep="first", maintain_order=True)
    parts = {part: rows.filter(pl.col("part") == part)["name"] for part in ("surname", "given")}
    return {p: NameSet({p: names.to_list()}, [language] * len(names)) for p, names in parts.items()}


def line(language: str, scorer: Scorer, names: dict[str, NameSet], refused: float) -> list[str]:
    """Return the row of a language."""
    cells = [language]
    for of_part in names.values():
        answered, sure = sure_share(scorer, of_part) if of_part.labels else (0.0, 0.0)
        cells += [f"{len(of_part.labels):,}", f"{answered:.3f}", f"{sure:.3f}"]
    return row([*cells, f"{refused:.3f}"])


def trained(group: tuple[str, ...], arguments: argparse.Namespace) -> tuple[Scorer, Path]:
    """Train without a group of languages, unless that is done; return the model and its table."""
    folder = arguments.versions / "-".join([arguments.preset, str(arguments.seed), *group])
    data = filtered(arguments.corpus, folder / "names.parquet", without(group))
    if not (folder / "v0001").exists():
        request = TrainRequest(
            preset=arguments.preset, data=data, outside=arguments.outside, models=folder,
            epochs=arguments.epochs, seed=arguments.seed, seeds=0, baselines=False, resume=True,
            device="cpu",
        )  # fmt: skip
        train(request, Runner(now=lambda: datetime.now(UTC), holder="left_out.py"))
    return Scorer(load_version(folder / "v0001")), data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--each", action="store_true")
    kind.add_argument("--together", action="store_true")
    kind.add_argument("--model", help="a model to measure as it is, on what it does not know")
    parser.add_argument("--languages", nargs="+", default=list(LANGUAGES))
    parser.add_argument("--preset", default="default")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--half", choices=("calibration", "test"), default="calibration")
    parser.add_argument("--corpus", type=Path, default=Path("data/names.parquet"))
    parser.add_argument("--outside", type=Path, default=Path("data/outside.parquet"))
    parser.add_argument("--versions", type=Path, default=Path("outputs/left_out"))
    parser.add_argument("--page", type=Path, help="Markdown page to write the table to")
    arguments = parser.parse_args()
    languages = tuple(arguments.languages)
    lines = row(
        ["left out", "surnames", "answered", f"over {SURE}", "given names", "answered",
         f"over {SURE}", "known surnames refused"], head=True,
    )  # fmt: skip
    for group in [(language,) for language in languages] if arguments.each else [languages]:
        if arguments.model:
            scorer, data = models_of(arguments.model)[1][0], arguments.corpus
            group = tuple(x for x in group if x not in scorer.version.labels)
        else:
            scorer, data = trained(group, arguments)
        sets, _ = name_sets(load_corpus(data), arguments.outside, arguments.half)
        refused = measure(scorer, sets["surnames"])[0]["refused"]
        known = pl.read_parquet(data, columns=ROW)
        known = known.filter(pl.col("language").is_not_null(), ~pl.col("language").is_in(group))
        for language in group:
            names = names_of(language, [arguments.corpus, arguments.outside], known)
            lines += line(language, scorer, names, refused)
    print("\n".join(lines))
    if arguments.page:
        made = f"`{command('left_out.py', parser, arguments)}`, {circumstances('torch', 'polars')}."
        name = arguments.model or ("each" if arguments.each else "together")
        write_section(arguments.page, f"left-out-{name}", [made, "", *lines])


if __name__ == "__main__":
    main()
