"""Measure the network alone, names encoded beforehand and logits out, on one core; print Markdown.

    python tests/bench/model_only.py --rows 1000000
    taskset -c 1 python tests/bench/model_only.py --models pretrained --date 2026-01-31

Rates are names per second of CPU time, which a neighbour on the machine disturbs less than the
clock on the wall. Every way is run in turn, ``--runs`` times over; a rate is the median, a ratio
the median of the ratios within a turn. Each way must give the network's own logits. The slow ways
run on the first ``--sample`` rows of a table (one name at a time: 500), the engine on all.

The baseline is what one would write with torch: padded batches of 1024 names, packed, through
``nn.RNN`` or ``nn.GRU`` with the model's weights. The Zipf table repeats its names, so there the
engine's time includes finding the distinct names and handing each row its logits. The last column
holds the bars that the engine has to meet.
"""

import argparse
import datetime
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import torch
from end_to_end import invented_names, machine, verdict
from torch import Tensor, nn
from torch.nn import functional as F

from charrnn.errors import ModelError
from charrnn.model.engine import logits_of
from charrnn.model.network import CharRNN
from charrnn.model.version import resolve
from charrnn.model.vocabulary import LATIN_VOCABULARY, Encoded, Vocabulary, batches
from charrnn.training.presets import PRESETS

ONE_BY_ONE = 500  # names
BARS = {  # times packed, for the engine
    ("pretrained-tiny", "unique"): 4,
    ("pretrained-tiny", "zipf"): 10,
    ("pretrained", "unique"): 3,
    ("pretrained", "zipf"): 8,
}
TEXT_BARS = {"ASCII": 10e6, "every name accented": 1.5e6}  # names/s
ACCENTS = str.maketrans("aeiou", "áèîöű")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--sample", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--models", nargs="+", default=["pretrained-tiny", "pretrained"])
    parser.add_argument("--date", default=datetime.date.today().isoformat())
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{arguments.date}, {machine()}, one thread, torch {torch.__version__}; "
        f"median of {arguments.runs} runs\n\n"
        "| model | table | way | names/s | × packed | bar |\n|---|---|---|---:|---:|---|"
    )
    for model in arguments.models:
        network, vocabulary, title = load(model)
        for table in ("unique", "zipf"):
            names = invented_names(arguments.rows, unique=table == "unique")
            names = names.unique(maintain_order=True) if table == "unique" else names
            text = names.to_arrow().cast(pa.large_string())
            ways = ways_to_score(network, vocabulary, text, arguments.sample, table == "zipf")
            label = f"{table}, {len(names):,} rows, {names.n_unique():,} distinct"
            for way, rate, ratio in measured(ways, arguments.runs, "packed"):
                least = BARS.get((model, table)) if way == "engine" else None
                bar = f"≥ {least}: {verdict(ratio >= least)}" if least else ""
                row = f"| {title} | {label} | {way} | {rate:,.0f} | {ratio:.2f} | {bar} |"
                print(row, flush=True)
    print("\n| text to padded ids | names/s | bar |\n|---|---:|---|")
    plain = invented_names(arguments.rows, unique=True)
    for title, names in (("ASCII", plain), ("every name accented", accented(plain))):
        text = names.to_arrow().cast(pa.large_string())
        ways = {"": (len(text), lambda text=text: pad_all(vocabulary, text))}
        for _, rate, _ in measured(ways, arguments.runs, ""):
            least = TEXT_BARS[title]
            print(f"| {title} | {rate:,.0f} | ≥ {least:,.0f}: {verdict(rate >= least)} |")


def load(model: str) -> tuple[CharRNN, Vocabulary, str]:
    """Return a packaged or published model, or its preset with random weights."""
    try:
        version = resolve(model, Path("outputs/models"))
        return version.network(torch.device("cpu")), version.vocabulary, model
    except ModelError:
        preset = PRESETS["tiny" if "tiny" in model else "default"]
        preset = replace(preset, vocabulary=preset.vocabulary or LATIN_VOCABULARY)
        torch.manual_seed(0)
        network = CharRNN(preset.model_config(18)).eval()
        if network.ngrams is not None:
            nn.init.normal_(network.ngrams.weight, std=0.1)
        return network, preset.symbols, f"{preset.name} (random weights)"


Way = tuple[int, Callable[[], object]]  # number of names, and what to time


def ways_to_score(
    network: CharRNN, vocabulary: Vocabulary, text: pa.Array, sample: int, repeats: bool
) -> dict[str, Way]:
    """Return the ways by name, each already run once and checked against the network."""
    distinct = text.dictionary_encode().dictionary if repeats else text
    encoded = vocabulary.encode(distinct)
    few = vocabulary.encode(text.slice(0, sample))
    single = [
        torch.from_numpy(few.padded(np.array([i]))[0]) for i in range(min(ONE_BY_ONE, sample))
    ]
    padded = [
        tuple(map(torch.from_numpy, few.padded(np.arange(first, min(first + 1024, len(few))))))
        for first in range(0, len(few), 1024)
    ]
    packed = packed_baseline(network)

    def engine() -> Tensor:
        if not repeats:
            return torch.from_numpy(logits_of(network, encoded))
        codes = text.dictionary_encode().indices.to_numpy()
        return torch.from_numpy(logits_of(network, encoded)[codes])

    ways: dict[str, Way] = {
        "one name at a time": (len(single), lambda: torch.cat([network(ids) for ids in single])),
        "packed": (len(few), lambda: torch.cat([packed(*batch) for batch in padded])),
        "exact-length batches": (len(few), lambda: plain_logits(network, few)),
        "engine": (len(text), engine),
    }
    with torch.inference_mode():
        expected = torch.cat([network(*batch) for batch in padded])
        for name, (count, run) in ways.items():
            found = run()[: len(expected)]
            tolerance = 1e-4 if name == "packed" else 1e-5
            torch.testing.assert_close(found, expected[: len(found)], rtol=0, atol=tolerance)
            assert len(found) == min(count, len(expected))
    return ways


def plain_logits(network: CharRNN, encoded: Encoded) -> Tensor:
    logits = torch.empty(len(encoded), network.config.outputs)
    for rows in batches(encoded.lengths, 1024):
        logits[torch.from_numpy(rows)] = network(torch.from_numpy(encoded.padded(rows)[0]))
    return logits


def packed_baseline(network: CharRNN) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a function of padded ids and lengths built on torch's own recurrence."""
    config = network.config
    width = config.embedding_size or config.vocabulary_size
    recurrence = nn.RNN(width, config.hidden_size, batch_first=True)
    for layer, theirs in (("x2h", "ih"), ("h2h", "hh")):
        for part in ("weight", "bias"):
            target = getattr(recurrence, f"{part}_{theirs}_l0")
            target.data.copy_(getattr(getattr(network.forward_rnn.cell, layer), part))

    def logits(ids: Tensor, lengths: Tensor) -> Tensor:
        if network.embedding is not None:
            x = network.embedding(ids.long())
        else:
            x = F.one_hot(ids.long(), width + 1)[:, :, 1:].float()
        packed = nn.utils.rnn.pack_padded_sequence(
            x, lengths, batch_first=True, enforce_sorted=False
        )
        found: Tensor = network.h2o(recurrence(packed)[1][0])
        return found if network.ngrams is None else found + network.ngrams(ids.long(), lengths)

    return logits


@torch.inference_mode()
def measured(ways: dict[str, Way], runs: int, baseline: str) -> list[tuple[str, float, float]]:
    """Return name, median rate and median ratio to the baseline's rate in the same turn."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, (count, run) in ways.items():
            started = time.process_time()
            run()
            rates[name].append(count / (time.process_time() - started))
    return [
        (
            name,
            statistics.median(found),
            statistics.median(a / b for a, b in zip(found, rates[baseline], strict=True)),
        )
        for name, found in rates.items()
    ]


def accented(names: pl.Series) -> pl.Series:
    return pl.Series([name.translate(ACCENTS) for name in names])


def pad_all(vocabulary: Vocabulary, text: pa.Array) -> None:
    """Encode all names, and pad them in batches as the network takes them."""
    encoded = vocabulary.encode(text)
    for first in range(0, len(encoded), 4096):
        encoded.padded(np.arange(first, min(first + 4096, len(encoded))))


if __name__ == "__main__":
    main()
