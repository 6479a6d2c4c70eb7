"""Score one file with charrnn and with what one would use instead, side by side.

    python tests/bench/peers.py --rows 10000000
    python tests/bench/peers.py --rows 1000000 --unique --repeat 1

Every way runs end to end, file in to published run out, in a process of its own, ``--repeat``
times in turn; medians are shown. Every peer gets charrnn's own reading, writing and publishing, so
that only the scoring differs, and as many workers. Slow ways run on the first ``--sample`` rows
(the loop: ``--loop-rows``); their rate is what is compared. Optional peers say why they are left
out: their package is not installed, or there is no table of labelled names to learn from.

The table is one of customers (names by Zipf's law; the real ones first where ingest has written
its table), or with ``--unique`` made-up names of which no two are the same.
"""

import argparse
import importlib.util
import json
import shutil
import statistics
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import common
import numpy as np
import polars as pl
import pyarrow as pa
import torch
from end_to_end import copy_floor
from model_only import packed_baseline
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import BatchSampler, DataLoader, Dataset, SequentialSampler

import charrnn.runs.execute
import charrnn.scoring.scorer
from charrnn.model.engine import Engine
from charrnn.model.network import CharRNN, NgramTable
from charrnn.model.version import ModelVersion, resolve
from charrnn.model.vocabulary import Counts, Encoded
from charrnn.runs.manifest import ModelRef, PriorRecord, RunFacts, RunOptions
from charrnn.runs.plan import plan_run, run_key
from charrnn.runs.publish import manifest_of, publish
from charrnn.scoring.columns import Predictions, prediction_columns
from charrnn.scoring.options import ComputeOptions, DeliveryOptions, ScoreOptions
from charrnn.tables.columns import as_large_string
from charrnn.tables.csv_format import CsvFormat
from charrnn.training.corpus import load_corpus
from charrnn.training.splits import honest_split

BATCH = 1024
TINY, DEFAULT = "pretrained-tiny", "pretrained"
FLOOR = "copy floor: our reader and writer, no model"
COPY = "copy floor: Polars, no model"
FLOORS = {"floor": FLOOR, "copy": COPY}
CSV = "charrnn, CSV in"
PACKED = "DataLoader + packed sequences"
INSIDE = "packed sequences inside charrnn"

Answers = Iterable[tuple[Counts, Tensor]]  # row numbers and their logits (B, L)


@dataclass(frozen=True)
class Way:
    """A way to score: ``kind`` says how the process runs it, ``rows`` is the most it is given."""

    title: str
    kind: str
    model: str
    rows: int
    needs: str = ""  # a package

    @property
    def name(self) -> str:
        short = {TINY: "tiny", DEFAULT: "default", "": ""}[self.model]
        return f"{short}: {self.title}" if short else self.title


def all_ways(rows: int, sample: int, loop_rows: int) -> list[Way]:
    some, few = min(rows, sample), min(rows, loop_rows)
    ways = []
    for model in (TINY, DEFAULT):
        ways += [
            Way("charrnn", "charrnn", model, rows),
            Way(CSV, "csv", model, rows),
            Way(INSIDE, "inside", model, some),
            Way(PACKED, "packed", model, some),
            Way("ONNX Runtime", "onnx", model, some, "onnxruntime"),
        ]
    return [
        Way(FLOOR, "floor", "", rows),
        Way(COPY, "copy", "", rows),
        *ways,
        Way("the notebook's loop, one name at a time", "loop", TINY, few),
        Way("scikit-learn, TF-IDF 1-5-grams + LR", "sklearn", "", some, "sklearn"),
        Way("fastText, 2-5-grams", "fasttext", "", some, "fasttext"),
    ]


# --- The peers: logits for an array of names, every name worked out by itself ---------------------


class _Batches(Dataset[tuple[Tensor, Tensor]]):
    """Padded ids and lengths of the rows asked for."""

    def __init__(self, encoded: Encoded) -> None:
        self.encoded = encoded

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, rows: list[int]) -> tuple[Tensor, Tensor]:
        ids, lengths = self.encoded.padded(np.array(rows))
        return torch.from_numpy(ids), torch.from_numpy(lengths)


def _loader(encoded: Encoded) -> Iterator[tuple[Counts, Tensor, Tensor]]:
    dataset = _Batches(encoded)
    order = BatchSampler(SequentialSampler(dataset), BATCH, drop_last=False)
    for i, (ids, lengths) in enumerate(DataLoader(dataset, batch_size=None, sampler=order)):
        yield np.arange(i * BATCH, i * BATCH + len(ids)), ids, lengths


def packed(version: ModelVersion, work: Path) -> Callable[[pa.Array], Answers]:
    """What one would write with torch: padded batches, packed, through ``nn.RNN``."""
    baseline = packed_baseline(version.network())

    def answers(names: pa.Array) -> Answers:
        for rows, ids, lengths in _loader(version.vocabulary.encode(names)):
            yield rows, baseline(ids, lengths)

    return answers


def loop(version: ModelVersion, work: Path) -> Callable[[pa.Array], Answers]:
    """The notebook's way: one name, one-hot, one character after the other."""
    network = version.network()
    cell, size = network.forward_rnn.cell, network.config.vocabulary_size

    def answers(names: pa.Array) -> Answers:
        encoded = version.vocabulary.encode(names)
        for i in range(len(encoded)):
            ids = torch.from_numpy(encoded.padded(np.array([i]))[0].astype(np.int64))
            line = F.one_hot(ids - 1, size).float()  # (1, T, V)
            state = line.new_zeros(1, network.config.hidden_size)
            for t in range(line.shape[1]):
                state = cell(cell.x2h(line[:, t]), state)
            yield np.array([i]), network.h2o(state)

    return answers


def onnx(version: ModelVersion, work: Path) -> Callable[[pa.Array], Answers]:
    """The same network as an ONNX graph, batch by batch; one thread a worker, as torch has."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    graph = onnx_graph(version.network())
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    buckets = version.config.ngram_buckets

    def answers(names: pa.Array) -> Answers:
        for rows, ids, lengths in _loader(version.vocabulary.encode(names)):
            feeds = {"ids": ids.T.long().numpy(), "lengths": lengths.int().numpy()}
            if buckets:
                grams, scale = ngram_rows(ids.long(), lengths, buckets)
                feeds |= {"grams": grams.numpy(), "scale": scale.numpy()}
            yield rows, torch.from_numpy(session.run(None, feeds)[0])

    return answers


def onnx_graph(network: CharRNN) -> bytes:
    """Return the network as an ONNX model of ids ``(T, B)`` and lengths ``(B,)``; an n-gram table
    adds inputs ``grams`` ``(B, M)``, rows of the table, and ``scale`` ``(B, 1)``."""
    from onnx import TensorProto, checker, helper, numpy_helper

    cell = network.forward_rnn.cell
    V = network.config.vocabulary_size
    embedding = network.embedding
    table = F.pad(torch.eye(V), (0, 0, 1, 0)) if embedding is None else embedding.weight
    weights = {
        "table": table,  # (V + 1, E)
        "W": cell.x2h.weight[None],
        "R": cell.h2h.weight[None],
        "B": torch.cat((cell.x2h.bias, cell.h2h.bias))[None],
        "h2o": network.h2o.weight,
        "bias": network.h2o.bias,
    }
    node = helper.make_node
    nodes = [
        node("Gather", ["table", "ids"], ["x"]),  # (T, B, E)
        node(
            "RNN",
            ["x", "W", "R", "B", "lengths"],
            ["", "last"],
            hidden_size=network.config.hidden_size,
        ),
        node("Squeeze", ["last", "zero"], ["state"]),  # (B, H)
        node("Gemm", ["state", "h2o", "bias"], ["deep"], transB=1),
    ]
    inputs = [("ids", TensorProto.INT64, ["T", "B"]), ("lengths", TensorProto.INT32, ["B"])]
    if network.ngrams is not None:
        weights["ngrams"] = F.pad(network.ngrams.weight, (0, 0, 0, 1))  # the last row is zero
        inputs += [("grams", TensorProto.INT64, ["B", "M"]), ("scale", TensorProto.FLOAT, ["B", 1])]
        nodes += [
            node("Gather", ["ngrams", "grams"], ["each"]),
            node("ReduceSum", ["each", "one"], ["sum"], keepdims=0),
            node("Mul", ["sum", "scale"], ["wide"]),
            node("Add", ["deep", "wide"], ["logits"]),
        ]
    else:
        nodes.append(node("Identity", ["deep"], ["logits"]))
    K = network.config.outputs
    arrays = {name: tensor.detach().numpy() for name, tensor in weights.items()}
    arrays |= {"zero": np.array([0]), "one": np.array([1])}
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "charrnn",
            [helper.make_tensor_value_info(*entry) for entry in inputs],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", K])],
            [numpy_helper.from_array(array, name) for name, array in arrays.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    checker.check_model(model)
    found: bytes = model.SerializeToString()
    return found


def ngram_rows(ids: Tensor, lengths: Tensor, buckets: int) -> tuple[Tensor, Tensor]:
    """Return the n-gram table's rows of padded names, ``(B, M)``, ``buckets`` for none, and what
    their sum is multiplied with, ``(B, 1)``: ``NgramTable.forward`` up to its table."""
    found = []
    for n in NgramTable.ORDERS[: ids.shape[1]]:
        windows = ids.unfold(1, n, 1)  # (B, T - n + 1, n)
        code = torch.zeros(windows.shape[:2], dtype=torch.int64)
        for i in range(n):
            code = code * 256 + windows[:, :, i]
        row = NgramTable.bucket(code, n, buckets)
        ends = torch.arange(n, ids.shape[1] + 1)
        found.append(row.where(ends <= lengths[:, None], torch.tensor(buckets)))
    rows = torch.cat(found, dim=1)
    count = (rows < buckets).sum(dim=1, keepdim=True).clamp(min=1)
    return rows, NgramTable.SCALE / count.float().sqrt()


def sklearn(version: ModelVersion, work: Path) -> Callable[[pa.Array], Answers]:
    import joblib

    model = joblib.load(work / "sklearn.joblib")

    def answers(names: pa.Array) -> Answers:
        for first in range(0, len(names), 2**16):
            some = names.slice(first, 2**16).to_pylist()
            logits = model.decision_function(some)
            yield np.arange(first, first + len(some)), torch.from_numpy(logits).float()

    return answers


def fasttext(version: ModelVersion, work: Path) -> Callable[[pa.Array], Answers]:
    import fasttext as ft

    ft.FastText.eprint = lambda *_: None  # it warns about its own constructor
    model = ft.load_model(str(work / "fasttext.bin"))
    position = {f"__label__{label}": i for i, label in enumerate(version.labels)}

    def answers(names: pa.Array) -> Answers:
        for first in range(0, len(names), 2**16):
            some = names.slice(first, 2**16).to_pylist()
            labels, shares = model.predict([name.lower() for name in some], k=3)
            logits = torch.full((len(some), len(position)), -30.0)
            ids = torch.tensor([[position[label] for label in row] for row in labels])
            # For a list fastText repeats the first share k times; only the order is right.
            logits.scatter_(1, ids, torch.tensor(np.array(shares)).log() - torch.arange(3))
            yield np.arange(first, first + len(some)), logits

    return answers


PEERS = {"packed": packed, "loop": loop, "onnx": onnx, "sklearn": sklearn, "fasttext": fasttext}


@dataclass(frozen=True)
class Peer:
    """Stands where a ``Scorer`` does in the pipeline: answers for an array of names."""

    version: ModelVersion
    logits: Callable[[pa.Array], Answers]
    stopping: threading.Event = field(default_factory=threading.Event)

    def replicas(self) -> list["Peer"]:
        return [self]

    @torch.inference_mode()
    def answers(
        self, names: pa.ChunkedArray, options: ScoreOptions
    ) -> tuple[Predictions, pa.Array]:
        text = as_large_string(names).combine_chunks()
        N = len(text)
        found = Predictions.blank(np.zeros(N, np.uint8), options, len(self.version.labels))
        k = found.ranked.shape[1]
        for rows, logits in self.logits(text):
            logits = logits[:, : len(self.version.labels)]
            top = torch.softmax(logits / self.version.temperature, dim=1).topk(k, dim=1)
            found.ranked[rows], found.confidence[rows] = top.indices.numpy(), top.values.numpy()
        return found, pa.array(np.arange(N, dtype=np.int32))

    def columns(self, names: pa.ChunkedArray, options: ScoreOptions) -> dict[str, pa.Array]:
        return prediction_columns(*self.answers(names, options), self.version.labels, options)


class _PackedEngine(Engine):
    """Packed sequences where charrnn has its trie; equal names are still scored once."""

    @torch.inference_mode()
    def logits(
        self, encoded: Encoded, rows: Counts | None = None
    ) -> Iterator[tuple[Counts, Tensor]]:
        baseline = packed_baseline(self.network)
        chosen = np.arange(len(encoded)) if rows is None else rows
        for first in range(0, len(chosen), BATCH):
            some = chosen[first : first + BATCH]
            yield some, baseline(*map(torch.from_numpy, encoded.padded(some)))


def run_way(kind: str, model: str, source: str, output: Path, work: Path) -> None:
    """What the process of a way does: prepare, then work with the clock running."""
    if kind == "floor":
        return common.report_cost(lambda: copy_floor(Path(source), output)[0])
    if kind == "copy":
        parts, target = (
            sorted(output.glob("rows/part-*.parquet")),
            output.parent.parent / "copy.parquet",
        )
        return common.report_cost(lambda: pl.read_parquet(parts).write_parquet(target))
    version = resolve(model or DEFAULT, Path("outputs/models"))
    version.network()  # imports more of torch
    if kind in ("charrnn", "csv", "inside"):
        from charrnn.cli import console_runner
        from charrnn.recipes.requests import ScoreRequest
        from charrnn.recipes.score import score

        if kind == "inside":
            charrnn.scoring.scorer.Engine = _PackedEngine  # type: ignore[misc]

        runner = console_runner()

        def work_through() -> None:
            delivery = DeliveryOptions(output=str(output))
            score(ScoreRequest(source=source, model=model, delivery=delivery, force=True), runner)

        return common.report_cost(work_through)
    peer: Any = Peer(version, PEERS[kind](version, work))
    options = ScoreOptions()

    def score_with_peer() -> None:
        settings = RunOptions(options, CsvFormat(), partition_rows=2**20)
        key = run_key(source, ModelRef(version.name, version.digest), settings)
        plan = plan_run(key, output, [])
        receipts = charrnn.runs.execute.score_partitions(plan, peer, options, ComputeOptions())
        facts = RunFacts(
            created="20260101T000000Z", seconds=0.0, device="cpu", tracked=False, libraries={}
        )
        publish(plan, manifest_of(plan, receipts, facts, PriorRecord("train")), {})

    return common.report_cost(score_with_peer)


# --- The comparison -------------------------------------------------------------------------------


class Bench:
    """One table, the ways that can run on it, and what each turn cost."""

    def __init__(self, arguments: argparse.Namespace, work: Path) -> None:
        self.work = work
        self.rows = arguments.rows
        self.corpus = Path(arguments.corpus)
        real = common.real_names(self.corpus)
        self.left_out: dict[str, str] = {}
        ways = all_ways(arguments.rows, arguments.sample, arguments.loop_rows)
        self.ways = [
            way
            for way in ways
            if any(word in way.name for word in arguments.only) and self._can_run(way)
        ]
        names = common.all_different if arguments.unique else common.Customers(self.rows, real)
        for rows in {way.rows for way in self.ways}:
            common.write_table(self.source(rows), rows, names)
        common.write_table(self.source(self.rows, ".csv"), self.rows, names)
        distinct = pl.scan_parquet(self.source(self.rows)).select(pl.col("name").n_unique())
        first = "the real names first" if real and not arguments.unique else "all made up"
        self.table = f"{self.rows:,} rows, {distinct.collect().item():,} distinct names, {first}"
        self.costs: dict[str, list[common.Cost]] = {way.name: [] for way in self.ways}
        self.agreement: dict[str, float] = {}

    def source(self, rows: int, suffix: str = ".parquet") -> Path:
        return self.work / f"names-{rows}{suffix}"

    def _can_run(self, way: Way) -> bool:
        reason = ""
        if way.needs and importlib.util.find_spec(way.needs) is None:
            reason = f"{way.needs} is not installed (extra `bench`)"
        elif way.kind in TRAINED and not self.corpus.is_file():
            reason = f"there are no labelled names to learn from in {self.corpus} (run ingest)"
        elif way.kind in TRAINED:
            TRAINED[way.kind](self.corpus, self.work)
        if reason:
            self.left_out[way.name] = reason
        return not reason

    def turn(self) -> None:
        """Run every way once, and remove what they wrote; the first turn's answers are compared."""
        last: dict[str, Path] = {}
        # The floor copies what charrnn published, so it comes last.
        for way in sorted(self.ways, key=lambda way: way.kind in FLOORS):
            source = self.source(way.rows, ".csv" if way.kind == "csv" else ".parquet")
            output = last[TINY] if way.kind in FLOORS else self.work / f"{way.kind}-{way.model}"
            cost = common.in_own_process(
                "peers.py", "--way", way.kind, way.model, source, output, self.work
            )
            self.costs[way.name].append(cost)
            print(f"{way.name}: {cost.seconds:.2f} s for {way.rows:,} rows", file=sys.stderr)
            if way.kind not in FLOORS:
                run = common.published_in(output)
                if way.kind == "charrnn":
                    last[way.model] = run
                elif way.name not in self.agreement:
                    self.agreement[way.name] = agreement(run, last[way.model or DEFAULT])
        for folder in self.work.iterdir():
            if folder.is_dir():
                shutil.rmtree(folder)

    def median(self, name: str, value: Callable[[common.Cost], float]) -> float:
        return statistics.median(map(value, self.costs[name]))

    def ratio(
        self,
        slow: str,
        fast: str,
        value: Callable[[common.Cost], float] = lambda cost: cost.seconds,
    ) -> float:
        """Return how many times longer a row takes, the median over turns; ``value`` is what is
        taken of ``slow``, and of ``fast`` unless that is the floor."""
        rows = {way.name: way.rows for way in self.ways}
        return statistics.median(
            (value(s) / rows[slow])
            / ((f.seconds if fast in FLOORS.values() else value(f)) / rows[fast])
            for s, f in zip(self.costs[slow], self.costs[fast], strict=True)
        )

    def lines(self) -> list[str]:
        """Return the table, the bars and what was left out, as Markdown."""
        lines = [
            "| way | rows | seconds | CPU s | start-up | rows/s | × floor | peak MB | same label |",
            "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
        ]
        for way in self.ways:
            seconds = self.median(way.name, lambda cost: cost.seconds)
            cpu = f"{self.median(way.name, lambda cost: cost.cpu):.2f}"
            start = f"{self.median(way.name, lambda cost: cost.whole - cost.seconds):.1f}"
            if way.kind in FLOORS:
                cpu = start = ""  # its process also prepares what it copies
            same = self.agreement.get(way.name)
            floor = f"{self.ratio(way.name, FLOOR):.2f}" if FLOOR in self.costs else ""
            lines.append(
                f"| {way.name} | {way.rows:,} | {seconds:.2f} | {cpu} | {start} | "
                f"{way.rows / seconds:,.0f} | {floor} |"
                f" {self.median(way.name, lambda cost: cost.memory):,.0f} |"
                f" {'' if same is None else f'{same:.3%}'} |"
            )
        lines += ["", "| bar | asked | measured | in CPU time | |", "|---|---:|---:|---:|---|"]
        for bar, limit, measured, cpu, met in self.bars():
            verdict = "met" if met else "**missed**"
            lines.append(f"| {bar} | {limit} | {measured:.2f} | {cpu} | {verdict} |")
        for name, reason in self.left_out.items():
            lines += ["", f"Not run: {name}: {reason}."]
        return lines

    def bars(self) -> list[tuple[str, str, float, str, bool]]:
        """Return what is asked, its limit, what was measured by the clock and in CPU time, and
        whether the clock meets it, for those bars whose ways were run."""
        asked = [
            ("tiny to Polars' copy", "tiny: charrnn", COPY, "≤", 3),
            ("default to Polars' copy", "default: charrnn", COPY, "≤", 15),
            ("tiny to our own copy", "tiny: charrnn", FLOOR, "≤", 3),
            ("default to our own copy", "default: charrnn", FLOOR, "≤", 15),
            (f"default, {PACKED}, to charrnn", f"default: {PACKED}", "default: charrnn", "≥", 8),
            (f"default, {INSIDE}, to charrnn", f"default: {INSIDE}", "default: charrnn", "≥", 8),
            ("tiny, CSV in to Parquet in", f"tiny: {CSV}", "tiny: charrnn", "≤", 1.3),
            ("default, CSV in to Parquet in", f"default: {CSV}", "default: charrnn", "≤", 1.3),
        ]
        found = []
        for title, slow, fast, sign, limit in asked:
            if slow not in self.costs or fast not in self.costs:
                continue
            ratio = self.ratio(slow, fast)
            cpu = (
                ""
                if fast in FLOORS.values()
                else f"{self.ratio(slow, fast, lambda cost: cost.cpu):.2f}"
            )
            ways = [(title, ratio, cpu)]
            if fast in FLOORS.values():
                whole = self.ratio(slow, fast, lambda cost: cost.whole)
                ways.append((f"{title} (start-up included)", whole, ""))
            for name, measured, in_cpu in ways:
                met = measured <= limit if sign == "≤" else measured >= limit
                found.append((name, f"{sign} {limit}", measured, in_cpu, met))
        return found


def agreement(run: Path, ours: Path) -> float:
    """Return the share of rows with the same language, of those that charrnn gave one."""
    theirs, mine = (
        pl.scan_parquet(folder / "rows").select(pl.col("language").cast(pl.String))
        for folder in (run, ours)
    )
    found = theirs.collect()["language"]
    expected = mine.head(len(found)).collect()["language"]
    return float((found == expected).mean() or 0.0)


def train_sklearn(corpus: Path, work: Path) -> None:
    """The recipe of ``charrnn.evaluation.ngram_probabilities``."""
    import joblib
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    train = honest_split(load_corpus(corpus)).train
    model = make_pipeline(
        TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 5), lowercase=True, sublinear_tf=True),
        LogisticRegression(C=10, max_iter=300),
    )
    joblib.dump(model.fit(train.names.to_pylist(), train.label_ids), work / "sklearn.joblib")


def train_fasttext(corpus: Path, work: Path) -> None:
    import fasttext as ft

    found = load_corpus(corpus)
    train = honest_split(found).train
    text = work / "fasttext.txt"
    text.write_text(
        "".join(
            f"__label__{found.labels[label]} {name.lower()}\n"
            for name, label in zip(train.names.to_pylist(), train.label_ids.tolist(), strict=True)
        )
    )
    model = ft.train_supervised(
        str(text), minn=2, maxn=5, dim=32, epoch=25, lr=0.1, bucket=200_000, thread=1, verbose=0
    )
    model.save_model(str(work / "fasttext.bin"))


TRAINED: dict[str, Callable[[Path, Path], None]] = {
    "sklearn": train_sklearn,
    "fasttext": train_fasttext,
}


def draw(bench: Bench, path: Path, title: str) -> None:
    """Draw rows per second of every way, the fastest on top."""
    from matplotlib.figure import Figure

    rates = {
        way.name: way.rows / bench.median(way.name, lambda cost: cost.seconds)
        for way in bench.ways
    }  # fmt: skip
    names = sorted(rates, key=rates.__getitem__)
    ours = ("charrnn", CSV)
    colour = {
        way.name: "0.6" if way.kind in FLOORS else "tab:blue" if way.title in ours else "tab:orange"
        for way in bench.ways
    }
    figure = Figure(figsize=(9, 0.4 * len(names) + 1.4), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(names, [rates[n] for n in names], color=[colour[n] for n in names])
    axes.bar_label(bars, [f"{rates[n]:,.0f}" for n in names], padding=4, fontsize=9)
    axes.set_xscale("log")
    axes.set_xlim(min(rates.values()) / 2, max(rates.values()) * 6)
    axes.set_xlabel("rows per second, file in to published run out, without start-up (log scale)")
    figure.suptitle(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


def main() -> None:
    if sys.argv[1:2] == ["--way"]:
        kind, model, source, output, work = sys.argv[2:]
        return run_way(kind, model, source, Path(output), Path(work))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--unique", action="store_true", help="no two names are the same")
    parser.add_argument("--repeat", type=int, default=3, help="turns; medians are shown")
    parser.add_argument("--sample", type=int, default=2**21, help="rows for the slow ways")
    parser.add_argument("--loop-rows", type=int, default=5000, help="rows for the notebook's loop")
    parser.add_argument("--only", nargs="+", default=[""], help="ways whose name has such a piece")
    parser.add_argument("--corpus", default="data/names.parquet", help="the table ingest wrote")
    parser.add_argument("--output", default="outputs/bench", help="folder for table and plot")
    parser.add_argument("--page", default="docs/speed.md", help="the page that gets the table")
    arguments = parser.parse_args()
    kind = "unique" if arguments.unique else "zipf"
    folder = Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        bench = Bench(arguments, Path(work))
        for _ in range(arguments.repeat):
            bench.turn()
    command = common.command("peers.py", parser, arguments)
    lines = [
        f"## Peers, {'all names different' if arguments.unique else 'a table of customers'}",
        "",
        f"`{command}`: {bench.table}. {common.circumstances('torch', 'polars', 'pyarrow')}"
        f"{installed('onnxruntime', 'sklearn')}. "
        f"Median of {arguments.repeat} {'turn' if arguments.repeat == 1 else 'turns'}.",
        "",
        *bench.lines(),
    ]
    if arguments.unique:
        lines += ["", "The bars are asked for of a table of customers, not of this one."]
    print("\n".join(lines))
    (folder / f"peers-{kind}.md").write_text("\n".join(lines) + "\n")
    draw(bench, folder / f"peers-{kind}.png", f"charrnn and its peers: {bench.table}")
    facts = {
        "rows": {way.name: way.rows for way in bench.ways},
        "costs": {name: [vars(cost) for cost in costs] for name, costs in bench.costs.items()},
        "agreement": bench.agreement,
        "left_out": bench.left_out,
    }
    (folder / f"peers-{kind}.json").write_text(json.dumps(facts, indent=1) + "\n")
    common.write_section(Path(arguments.page), f"peers-{kind}", lines)


def installed(*packages: str) -> str:
    """Return the versions of the packages that are there."""
    found = [p for p in packages if importlib.util.find_spec(p)]
    return "".join(f", {p} {importlib.import_module(p).__version__}" for p in found)


if __name__ == "__main__":
    main()
