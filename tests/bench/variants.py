"""What each part of the broad recipe is worth, on validation data alone, as a table.

    python tests/bench/variants.py --epochs 5                  # every variant, one seed
    python tests/bench/variants.py --only accents spellings    # names that contain one of these

A variant is the preset with the one change named. It is measured on the validation fold of the
training lists, and on the calibration half of the outside names: the same names for all variants,
every label counting alike. The test fold and the test half are not looked at. ``--results`` has one
JSON line per fit, which is not made again; the page always has every variant with results. Needs
the tables of ``charrnn ingest tutorial faker wordfreq`` and ``charrnn ingest mimesis --target
data/outside.parquet``.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import polars as pl
import torch
from common import circumstances, command, write_section
from left_out import filtered
from outside import NameSet, measure, name_sets, row, share_answered, shown

from charrnn.model.facts import Provenance
from charrnn.model.normalise import LATIN
from charrnn.model.version import ModelVersion, save_version
from charrnn.model.vocabulary import Vocabulary
from charrnn.scoring.scorer import Scorer
from charrnn.training.corpus import Corpus, load_corpus
from charrnn.training.outside import Outside, outside_of
from charrnn.training.presets import PRESETS, Preset, with_overrides
from charrnn.training.protocol import run_protocol
from charrnn.training.release import make_version

ALL = pl.lit(True)
SETS = {
    "surnames": "surnames",
    "without accents": "… without accents",
    "19 languages": "19 languages: surnames",
    "given names": "given names",
    "full names": "full names, as a user draws them",
}  # title in the table → set of ``outside.name_sets``


@dataclass(frozen=True)
class Variant:
    """One change of the recipe: fields of ``TrainConfig`` and ``ModelConfig``, rows of the training
    table, whether accents are read, functions replaced, and whether the outside names calibrate."""

    name: str
    train: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    rows: pl.Expr = ALL
    accents: bool = True
    patched: dict[str, Any] = field(default_factory=dict)
    calibrated_outside: bool = True

    def preset(self, base: str, corpus: Corpus, **changes: Any) -> Preset:
        """Return the changed preset, settled."""
        preset = with_overrides(PRESETS[base], **self.train, **changes)
        preset = replace(preset, model=preset.model | self.model)
        if not self.accents:
            names, label_ids = corpus.names.to_pylist(), corpus.label_ids.tolist()
            preset = replace(preset, vocabulary=Vocabulary.of_names(names, label_ids, LATIN))
        return preset.settled(corpus)


VARIANTS = (
    Variant("as it is"),
    Variant("no accents", accents=False),
    Variant(
        "no other spellings",
        patched={"charrnn.training.protocol.respelled": lambda examples, rules: examples},
    ),
    Variant("logit adjustment 0", train={"logit_adjustment": 0.0}),
    Variant("logit adjustment 0.5", train={"logit_adjustment": 0.5}),
    Variant("shared names not merged", train={"merge_shared": False}),
    Variant("rare n-grams kept", train={"least_names": 1}),
    Variant("no second task", train={"next_character": 0.0}),
    Variant("no output for other words", model={"none_output": False}),
    Variant("no words of wordfreq", rows=pl.col("source") != "wordfreq"),
    Variant("no tutorial's lists", rows=pl.col("source") != "tutorial"),
    Variant("no given names", rows=pl.col("part") != "given"),
    Variant("no transliterations", rows=~pl.col("source_file").str.ends_with("transliterated")),
    Variant("calibrated on the training lists", calibrated_outside=False),
)


def fitted(
    variant: Variant, corpus: Corpus, outside: Outside, base: str, **changes: Any
) -> ModelVersion:
    """Fit a variant and return it as a version whose outside figures are of the calibration half,
    and without any where it is not calibrated on that."""
    preset = variant.preset(base, corpus, **changes)
    used = variant.calibrated_outside
    with ExitStack() as stack:
        for target, function in variant.patched.items():
            stack.enter_context(patch(target, function))
        half = outside.calibration if used else None
        honest = run_protocol(corpus, preset, "honest", outside=half)
    half_known = (outside.known[0], outside.known[0])
    only_half = Outside(outside.calibration, outside.calibration, outside.digest, half_known)
    made = Provenance("", "cpu", torch.get_num_threads(), {})
    return make_version(corpus, preset, honest, [], {}, made, only_half if used else None)


def figures_of(
    version: ModelVersion, sets: dict[str, NameSet], words: list[str]
) -> dict[str, float]:
    """Return the figures of a variant."""
    scorer, validation = Scorer(version), version.facts.metrics.honest.validation
    figures = {"validation: macro-F1": validation.macro_f1}
    for title, key in SETS.items():
        found, _ = measure(scorer, sets[key])
        figures |= {f"{title}: recall": found["recall"], f"{title}: ECE": found["ECE"]}
        if title == "surnames":
            figures["surnames: refused"] = found["refused"]
    figures["words answered"] = share_answered(scorer, "name", words)
    with tempfile.TemporaryDirectory() as folder:
        save_version(Path(folder), version)
        size = Path(folder, "v0001", "weights.safetensors").stat().st_size
    return figures | {"KB": size / 1000}


def ensure(variant: Variant, seed: int, arguments: argparse.Namespace) -> None:
    """Fit a variant and append its figures to the results, unless they are there."""
    if any(one["seed"] == seed for one in results(variant, arguments)):
        return
    corpus, table = load_corpus(arguments.corpus), load_corpus(arguments.outside)
    sets, words = name_sets(corpus, arguments.outside, "calibration")
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        if variant.rows is not ALL:
            corpus = load_corpus(
                filtered(arguments.corpus, Path(folder) / "names.parquet", variant.rows)
            )
        changes = {"seed": seed, "epochs": arguments.epochs}
        version = fitted(variant, corpus, outside_of(table, corpus), arguments.preset, **changes)
    figures = {"training s": time.process_time() - started} | figures_of(version, sets, words)
    line = {"variant": variant.name, **changes, "preset": arguments.preset, "figures": figures}
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    with arguments.results.open("a") as file:
        file.write(json.dumps(line) + "\n")


def results(variant: Variant, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Return what was measured of a variant with this preset and number of epochs."""
    if not arguments.results.exists():
        return []
    expected = (variant.name, arguments.preset, arguments.epochs)
    lines = map(json.loads, arguments.results.read_text().splitlines())
    return [x for x in lines if (x["variant"], x["preset"], x["epochs"]) == expected]


def table(arguments: argparse.Namespace) -> list[str]:
    """Return the lines of the table of all variants with results."""
    lines: list[str] = []
    for variant in VARIANTS:
        seeds = [one["figures"] for one in results(variant, arguments)]
        if not seeds:
            continue
        if not lines:
            lines = row(["variant", "seeds", *seeds[0]], head=True)
        cells = [cell(name, [s[name] for s in seeds]) for name in seeds[0]]
        lines += row([variant.name, str(len(seeds)), *cells])
    return lines


def cell(name: str, values: Sequence[float]) -> str:
    """Return a figure of several seeds; sizes and seconds are whole."""
    whole = name in ("KB", "training s")
    return f"{sum(values) / len(values):,.0f}" if whole else shown(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="default")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="variants whose name contains one of these")
    parser.add_argument("--corpus", type=Path, default=Path("data/names.parquet"))
    parser.add_argument("--outside", type=Path, default=Path("data/outside.parquet"))
    parser.add_argument("--results", type=Path, default=Path("outputs/variants.jsonl"))
    parser.add_argument("--page", type=Path, default=Path("docs/experiments.md"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for seed in range(arguments.seeds):
        for variant in VARIANTS:
            if arguments.only is None or any(w in variant.name for w in arguments.only):
                ensure(variant, seed, arguments)
                print(f"{variant.name}, seed {seed}", flush=True)
    lines = table(arguments)
    print("\n".join(lines))
    made = f"`{command('variants.py', parser, arguments)}`, {circumstances('torch')}."
    head = ["## The broad recipe, without its parts", "", made, ""]
    words = (
        "Every variant is the preset with the one change named, measured on the validation fold of "
        "its training lists and on the calibration half of the outside names, labels counting "
        "alike; its one temperature is fitted to the same half, so that the ECE is a little too "
        "low. Recall is of all names, also of those that are abstained from."
    )
    write_section(arguments.page, "variants", [*head, words, "", *lines])


if __name__ == "__main__":
    main()
