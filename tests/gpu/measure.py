"""Measure everything that is said about a GPU, on the GPU at hand; print it and write it as JSON.

    bash tests/gpu/run.sh                      # the whole of it, under 8 minutes on an H100 or H200
    bash tests/gpu/run.sh --dry-run            # tiny sizes, on a CPU: does it still run?
    python tests/gpu/measure.py --only speed

Needs torch, Triton, Polars, pyarrow, safetensors, anyascii, msgspec and annotated-types; no
network, no Prefect. Every stage has a time budget of its own, and its figures are written as soon
as it ends, so that a run that is cut off loses little. Without a GPU the kernels are interpreted.
"""

import argparse
import contextlib
import datetime
import functools
import gc
import importlib.metadata
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests/bench")]
DRY = "--dry-run" in sys.argv
if DRY:
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported

import common  # noqa: E402
import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
import torch  # noqa: E402

import charrnn.runs.execute as execute  # noqa: E402
import charrnn.scoring.scorer as scorer_module  # noqa: E402
from charrnn.model.engine import Engine, logits_of  # noqa: E402
from charrnn.model.gpu import KernelEngine, _outputs, kernel_suits  # noqa: E402
from charrnn.model.kernel import Batch, Weights, launch_answer, launch_recur  # noqa: E402
from charrnn.model.network import CharRNN  # noqa: E402
from charrnn.model.version import resolve  # noqa: E402
from charrnn.model.vocabulary import Encoded, Vocabulary, batches  # noqa: E402
from charrnn.runs.execute import default_workers, score_partitions  # noqa: E402
from charrnn.runs.folders import named_runs  # noqa: E402
from charrnn.runs.manifest import ModelRef, PriorRecord, RunFacts, RunOptions  # noqa: E402
from charrnn.runs.parts import parquet_options  # noqa: E402
from charrnn.runs.plan import plan_run, run_key  # noqa: E402
from charrnn.runs.publish import manifest_of, publish  # noqa: E402
from charrnn.scoring.dictionary import added_columns  # noqa: E402
from charrnn.scoring.options import ComputeOptions, ScoreOptions  # noqa: E402
from charrnn.scoring.scorer import Scorer  # noqa: E402
from charrnn.tables.csv_format import CsvFormat  # noqa: E402
from charrnn.training.corpus import build_table, load_corpus, write_table  # noqa: E402
from charrnn.training.fit import fit  # noqa: E402
from charrnn.training.label_files import find_label_files  # noqa: E402
from charrnn.training.presets import PRESETS, with_overrides  # noqa: E402
from charrnn.training.splits import Examples, honest_split  # noqa: E402

MODELS = {"tiny": "pretrained-tiny", "default": "pretrained"}
BARS = {"tiny": 100e6, "default": 30e6}  # names/s in the kernels
PART = 2**20  # rows of a file and of a partition
BATCH = 2**15  # names of a pass of the plain network
Found = dict[str, Any]


class Sizes:
    """How much is measured."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        dry = arguments.dry_run
        self.names = 100 if dry else arguments.names
        self.cpu_names = 50 if dry else 100_000
        self.speed_names = 40 if dry else arguments.names
        self.repeat = 1 if dry else 7
        self.part = 500 if dry else PART
        self.rows = 1500 if dry else -(-arguments.rows // PART) * PART
        self.train_rows = 128 if dry else arguments.train_rows
        self.first_train_rows = 100 if dry else 50_000
        self.epochs = 1 if dry else None
        self.runs = 1 if dry else arguments.runs


class Bench:
    """The device, the sizes, and where things lie."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.sizes = arguments, Sizes(arguments)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.folder = Path(tempfile.mkdtemp(dir=arguments.folder))
        self.real = real_names(arguments.corpus)
        self.partial: Found = {}

    def begin(self) -> Found:
        """Return a place for the findings of a stage, which keeps them if the stage fails."""
        self.partial = {}
        return self.partial

    @property
    def on_card(self) -> bool:
        return self.device.type == "cuda"

    def network(self, model: str, device: torch.device | None = None) -> CharRNN:
        return resolve(MODELS[model], Path("none")).network(device or self.device)

    def names(self, count: int) -> pa.Array:
        """Return distinct names, real ones first where there are any."""
        made = common.made_up_names(np.arange(count)).to_list()
        return pa.array([*self.real, *made][:count], pa.large_string())

    def synchronize(self) -> None:
        if self.on_card:
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], object], repeat: int | None = None) -> float:
        """Return the median time of some runs after two to warm up."""
        times, warm_up = [], 0 if DRY else 2
        for i in range(warm_up + (1 if DRY else repeat or self.sizes.repeat)):
            self.synchronize()
            started = time.perf_counter()
            work()
            self.synchronize()
            if i >= warm_up:
                times.append(time.perf_counter() - started)
        return statistics.median(times)


def real_names(folder: Path | None) -> list[str]:
    """Return the distinct names of a folder of lists, in a random order."""
    if folder is None:
        return []
    texts = [file.read_text() for file in sorted(folder.glob("*.txt"))]
    names = sorted({name for text in texts for name in text.splitlines() if name})
    return [names[i] for i in np.random.default_rng(0).permutation(len(names))]


# --- Stages ---------------------------------------------------------------------------------------


def card(bench: Bench) -> Found:
    """What is measured on."""
    found = bench.begin()
    found |= {
        "date": datetime.date.today().isoformat(),
        "card": torch.cuda.get_device_name() if bench.on_card else "none",
        "processor": common._processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "python": platform.python_version(),
        "real_names": len(bench.real),
    }
    for package in ("torch", "triton", "polars", "pyarrow", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    if bench.on_card:
        found["driver"] = nvidia_smi("driver_version")
        found["multiprocessors"] = torch.cuda.get_device_properties(0).multi_processor_count
        block = torch.empty(2**30, dtype=torch.uint8, device="cuda")
        other = torch.empty_like(block)
        found["copy_gb_s"] = 2 * len(block) / bench.seconds(lambda: other.copy_(block)) / 1e9
        a = torch.randn(8192, 8192, device="cuda", dtype=torch.float16)
        found["matmul_tflop_s"] = 2 * 8192**3 / bench.seconds(lambda: a @ a) / 1e12
    block_bytes = os.urandom(2**20) * (8 if DRY else 512)
    started = time.perf_counter()
    with (bench.folder / "disk").open("wb") as file:
        file.write(block_bytes)
        os.fsync(file.fileno())
    found["disk_write_gb_s"] = len(block_bytes) / (time.perf_counter() - started) / 1e9
    (bench.folder / "disk").unlink()
    return found


def nvidia_smi(query: str) -> str:
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader", "--id=0"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def tests(bench: Bench) -> Found:
    """The tests marked gpu that need nothing beside the library."""
    command = [
        sys.executable, "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider",
        "-W", "default", "-m", "gpu",
        str(ROOT / "tests/test_kernel.py"), str(ROOT / "tests/gpu/test_card.py"),
    ]  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT,
        env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    lines = done.stdout.strip().splitlines()
    if done.returncode:
        print(done.stdout[-4000:], done.stderr[-2000:], flush=True)
    return {"exit_code": done.returncode, "summary": lines[-1] if lines else done.stderr[-300:]}


@torch.inference_mode()
def agreement(bench: Bench) -> Found:
    """The kernels against the plain network in float32: on the device, and on the CPU."""
    found = bench.begin()
    names = bench.names(bench.sizes.names)
    for model in bench.arguments.models:
        network = bench.network(model)
        version = resolve(MODELS[model], Path("none"))
        encoded = version.vocabulary.encode(names)
        rows = np.arange(len(encoded))
        engine = KernelEngine(network)
        got = all_logits(engine.logits(encoded, rows), len(rows), network)
        reference = all_logits(Engine(network, BATCH).logits(encoded, rows), len(rows), network)
        few = names.slice(0, bench.sizes.cpu_names)
        on_cpu = network if not bench.on_card else bench.network(model, torch.device("cpu"))
        by_cpu = torch.from_numpy(logits_of(on_cpu, version.vocabulary.encode(few)))
        ids, confidence = engine.ranked(encoded, rows, 3, version.temperature)
        best = torch.softmax(got / version.temperature, dim=1).max(dim=1)
        found[model] = {
            "names": len(rows),
            "terms": engine.weights.terms,
            "suits": kernel_suits(network),
            "device": difference(got, reference, version.temperature),
            "cpu": difference(got[: len(few)], by_cpu, version.temperature),
            "ranked_against_logits": {
                "labels": int((torch.from_numpy(ids[:, 0]) != best.indices).sum()),
                "confidence": float((torch.from_numpy(confidence[:, 0]) - best.values).abs().max()),
            },
        }
    return found


def all_logits(answers: Iterator[Any], count: int, network: CharRNN) -> torch.Tensor:
    logits = torch.empty(count, network.config.outputs)
    for rows, some in answers:
        logits[torch.from_numpy(rows)] = some.cpu()
    return logits


def difference(got: torch.Tensor, expected: torch.Tensor, temperature: float) -> Found:
    p, q = (torch.softmax(logits / temperature, dim=1) for logits in (got, expected))
    apart = (p - q).abs().amax(dim=1)
    return {
        "names": len(p),
        "largest": float(apart.max()),
        "99.9_per_cent": float(np.quantile(apart.numpy(), 0.999)),
        "flips": int((p.argmax(dim=1) != q.argmax(dim=1)).sum()),
        "bar_met": bool(apart.max() < 1e-3),
    }


@torch.inference_mode()
def speed(bench: Bench) -> Found:
    """Names a second of the network: the kernels, replayed graphs, and the plain network."""
    found = bench.begin()
    names = bench.names(bench.sizes.speed_names)
    for model in bench.arguments.models:
        network = bench.network(model)
        version = resolve(MODELS[model], Path("none"))
        encoded = version.vocabulary.encode(names)
        rows, N = np.arange(len(encoded)), len(encoded)
        engine = KernelEngine(network)
        flat = engine._send(encoded.flat)
        sent = engine._names(encoded, rows, flat)
        outputs = _outputs(engine.device, N, 3, corrected=False)
        states = torch.empty(N, network.config.hidden_size, device=bench.device)
        arguments = (Batch(flat, sent.starts, sent.lengths, sent.order, sent.marks), states)
        pair = (outputs[0], outputs[1])
        whole = bench.seconds(
            lambda engine=engine, sent=sent, pair=pair: engine._launch(sent, ranked=pair)
        )
        recur = bench.seconds(
            lambda engine=engine, arguments=arguments: launch_recur(engine.weights, *arguments)
        )
        answer = bench.seconds(
            lambda engine=engine, arguments=arguments, pair=pair: launch_answer(
                engine.weights, *arguments, ranked=pair
            )
        )
        sort = bench.seconds(
            lambda sent=sent: sent.lengths.to(torch.int16).sort(descending=True, stable=True)
        )
        copied = bench.seconds(
            lambda engine=engine, encoded=encoded, rows=rows: engine.ranked(encoded, rows, 3)
        )
        steps = encoded.lengths + 2
        plain = PlainBatches(network, encoded, bench)
        by_plain = bench.seconds(plain.run, 3)
        found[model] = {
            "names": N,
            "mean_steps": float(steps.mean()),
            "kernels": N / whole,
            "bar_met": N / whole >= BARS[model],
            "recurrence_alone": N / recur,
            "answer_alone": N / answer,
            "sort_alone": N / sort,
            "with_copies": N / copied,
            "plain": N / by_plain,
            "recurrence_tflop_s": 2
            * network.config.hidden_size**2
            * float(steps.sum())
            / recur
            / 1e12,
        }
        if bench.on_card:
            try:
                plain.capture()
                found[model]["graphs"] = N / bench.seconds(plain.replay, 3)
            except RuntimeError as error:
                found[model]["graphs"] = f"{type(error).__name__}: {error}"[:300]
        del plain
        clean()
    return found


class PlainBatches:
    """The plain network over exact-length batches, ids on the device beforehand; by launches, or
    by graphs captured once for each length."""

    def __init__(self, network: CharRNN, encoded: Encoded, bench: Bench) -> None:
        self.network = network
        self.ids = [
            torch.from_numpy(encoded.padded(rows)[0]).to(bench.device)
            for rows in batches(encoded.lengths, BATCH)
        ]
        self.graphs: dict[int, tuple[Any, torch.Tensor]] = {}

    def one(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        p = torch.softmax(self.network(ids), dim=1)
        best = p.topk(3, dim=1)
        return best.values, best.indices

    def run(self) -> None:
        for ids in self.ids:
            self.one(ids)

    def capture(self) -> None:
        for T in sorted({ids.shape[1] for ids in self.ids}):
            static = torch.ones(BATCH, T, dtype=torch.uint8, device=self.ids[0].device)
            self.one(static)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.one(static)
            self.graphs[T] = (graph, static)

    def replay(self) -> None:
        for ids in self.ids:
            graph, static = self.graphs[ids.shape[1]]
            static[: len(ids)].copy_(ids)
            graph.replay()


@torch.inference_mode()
def sweep(bench: Bench) -> Found:
    """Other blocks and numbers of warps, and other numbers of terms."""
    found = bench.begin()
    names = bench.names(bench.sizes.names)
    for model in bench.arguments.models:
        network = bench.network(model)
        encoded = resolve(MODELS[model], Path("none")).vocabulary.encode(names)
        engine = KernelEngine(network)
        sent = engine._names(encoded, np.arange(len(encoded)), engine._send(encoded.flat))
        states = torch.empty(len(encoded), network.config.hidden_size, device=bench.device)
        arguments = (Batch(sent.flat, sent.starts, sent.lengths, sent.order, sent.marks), states)
        outputs = _outputs(engine.device, len(encoded), 3, corrected=False)

        def rate(work: Callable[[], None], count: int = len(encoded)) -> float | str:
            try:
                return count / bench.seconds(work, 3)
            except Exception as error:  # what does not fit is a finding, too
                return f"{type(error).__name__}: {error}"[:120]

        for terms in (1, 3):
            weights = Weights.of(network, terms)
            for block, warps in ((64, 4), (128, 8), (256, 16)):
                found[f"{model} recur terms={terms} block={block} warps={warps}"] = rate(
                    lambda w=weights, a=arguments, b=block, n=warps: launch_recur(
                        w, *a, block=b, warps=n
                    )
                )
        for block, warps in ((16, 2), (32, 4), (64, 4), (64, 8), (128, 8)):
            found[f"{model} answer block={block} warps={warps}"] = rate(
                lambda a=arguments, o=outputs, b=block, n=warps, e=engine: launch_answer(
                    e.weights, *a, ranked=(o[0], o[1]), block=b, warps=n
                )
            )
    return found


def thread_seconds() -> dict[str, float]:
    """Return the CPU seconds of this process's threads so far, added up by their names."""
    found: dict[str, float] = {}
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # ended meanwhile
            name = (task / "comm").read_text().strip()
            fields = (task / "stat").read_text().rsplit(")", 1)[1].split()
            used = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            found[name] = found.get(name, 0.0) + used
    return found


class Laps:
    """Adds up the seconds that all workers spend in the steps of a partition, by the clock and of
    CPU of the worker's own thread."""

    STEPS = (
        (execute, "read_groups"),
        (scorer_module, "_distinct"),
        (Vocabulary, "encode"),
        (KernelEngine, "ranked"),
        (Scorer, "predict"),
        (execute, "prediction_columns"),
        (execute, "write_part"),
        (execute, "count_values"),
        (execute, "profile_of_rows"),
        (execute, "write_receipt"),
        (execute, "score_partition"),
    )

    def __enter__(self) -> "Laps":
        self.originals = [getattr(place, name) for place, name in self.STEPS]
        self.laps: list[tuple[str, float, float]] = []
        for (place, name), original in zip(self.STEPS, self.originals, strict=True):
            setattr(place, name, self._timed(name, original))
        return self

    def __exit__(self, *_: object) -> None:
        for (place, name), original in zip(self.STEPS, self.originals, strict=True):
            setattr(place, name, original)

    def _timed(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def timed(*arguments: Any, **options: Any) -> Any:
            started, used = time.perf_counter(), time.thread_time()
            try:
                return original(*arguments, **options)
            finally:
                spent = time.perf_counter() - started, time.thread_time() - used
                self.laps.append((name, *spent))

        return timed

    def per_million(self, rows: int) -> Found:
        """Return of each step ``[by the clock, of CPU]``, seconds per million rows."""
        return {
            name: [
                round(1e6 / rows * sum(lap[i] for lap in self.laps if lap[0] == name), 4)
                for i in (1, 2)
            ]
            for _, name in self.STEPS
        }


class Busy:
    """Samples how busy the GPU is, in a thread."""

    def __init__(self, on_card: bool) -> None:
        self.samples: list[int] = []
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._sample, daemon=True)
        self.on_card = on_card

    def __enter__(self) -> "Busy":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()

    def _sample(self) -> None:
        if not self.on_card:
            return
        try:
            import pynvml
        except ImportError:
            while not self.stop.wait(0.2):
                with contextlib.suppress(ValueError):
                    self.samples.append(int(nvidia_smi("utilization.gpu").split()[0]))
            return
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        while not self.stop.wait(0.1):
            self.samples.append(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)

    @property
    def share(self) -> float | None:
        return statistics.mean(self.samples) / 100 if self.samples else None


def end_to_end(bench: Bench) -> Found:
    """A table of customers, from Parquet to a published run, beside a copy without a model."""
    found = bench.begin()
    rows, part = bench.sizes.rows, bench.sizes.part
    source, output = bench.folder / "customers", bench.folder / "runs"
    source.mkdir()
    workers = bench.arguments.workers or default_workers(bench.device)
    names = common.Customers(rows, bench.real)
    started = time.perf_counter()

    def make(first: int) -> None:
        file = source / f"customers-{first // part:04}.parquet"
        count = min(part, rows - first)
        common.write_table(file, count, names, first=first, group_rows=part // 4)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(make, range(0, rows, part)))
    found |= {"rows": rows, "workers": workers, "make_seconds": time.perf_counter() - started}
    found["bytes"] = sum(file.stat().st_size for file in source.iterdir())
    for model in bench.arguments.models:
        scorer = Scorer.load(MODELS[model], device=bench.device.type)
        warm = bench.names(1000 if not DRY else 20)
        scorer.columns(warm, ScoreOptions())
        runs = []
        for _ in range(bench.sizes.runs):
            shutil.rmtree(output, ignore_errors=True)
            runs.append(one_run(bench, scorer, source, output, workers))
        found[model] = {
            "runs": runs,
            "rows_per_s": statistics.median(run["rows_per_s"] for run in runs),
            "rows_per_s_scoring": statistics.median(run["rows_per_s_scoring"] for run in runs),
        }
        found[model]["bar_met"] = found[model]["rows_per_s"] >= 10e6
        if "floor" not in found:
            found["floor"] = copy_floor(source, output, part, workers)
        floor = found["floor"]["rows_per_s"]
        found[model]["times_the_floor"] = floor / found[model]["rows_per_s_scoring"]
        clean()
    shutil.rmtree(output, ignore_errors=True)
    shutil.rmtree(source, ignore_errors=True)
    return found


def one_run(bench: Bench, scorer: Scorer, source: Path, output: Path, workers: int) -> Found:
    options = ScoreOptions()
    output.mkdir(parents=True)
    started, used = time.perf_counter(), time.process_time()
    model = ModelRef(scorer.version.name, scorer.version.digest)
    key = run_key(str(source), model, RunOptions(options, CsvFormat(), bench.sizes.part))
    plan = plan_run(key, output, added_columns(options, scorer.version.labels))
    planned = time.perf_counter()
    parts: list[float] = []
    times, threads = os.times(), thread_seconds()
    with Busy(bench.on_card) as busy, Laps() as laps:
        receipts = score_partitions(
            plan, scorer, options, ComputeOptions(workers=workers),
            lambda receipt: parts.append(time.perf_counter() - planned),
        )  # fmt: skip
    scored, after = time.perf_counter(), os.times()
    others = {  # threads that outlive the workers: of Arrow, of the driver, of Polars
        name: round(seconds - threads.get(name, 0.0), 2)
        for name, seconds in thread_seconds().items()
        if seconds - threads.get(name, 0.0) > 0.05
    }
    facts = RunFacts(
        created="20260101T000000Z", seconds=0.0, device="cuda", tracked=False, libraries={}
    )
    publish(plan, manifest_of(plan, receipts, facts, PriorRecord("train")), {})
    ended = time.perf_counter()
    rows = plan.source.rows
    return {
        "rows_per_s": rows / (ended - started),
        "rows_per_s_scoring": rows / (scored - planned),
        "plan_seconds": planned - started,
        "score_seconds": scored - planned,
        "publish_seconds": ended - scored,
        "first_part_seconds": parts[0],
        "cpu_seconds_per_million": (time.process_time() - used) / rows * 1e6,
        "user_and_system_seconds": [after.user - times.user, after.system - times.system],
        "other_threads_seconds": others,
        "steps": laps.per_million(rows),
        "gpu_busy": busy.share,
        "partitions": len(plan.partitions),
    }


def copy_floor(source: Path, output: Path, part: int, workers: int) -> Found:
    """Return what reading the input and writing the last run's columns takes, with as many workers
    and the same settings, but no model; answers are read beforehand."""
    run = next(iter(named_runs(output).values()))
    files = sorted(source.iterdir())[: 2 * workers]
    names = [p["name"] for p in json.loads((run / "manifest.json").read_text())["parts"]]
    answers = dict(zip(files, (pq.read_table(run / name) for name in names), strict=False))
    target = output / "floor"
    target.mkdir()

    def copy(file: Path) -> int:
        reader = pq.ParquetFile(file, page_checksum_verification=True)
        table = reader.read_row_groups(range(reader.num_row_groups), use_threads=False)
        given = table.column_names
        for name in answers[file].column_names[len(given) :]:
            table = table.append_column(name, answers[file][name])
        with (target / file.name).open("wb") as sink:
            pq.write_table(table, sink, **parquet_options(table, given))
            sink.flush()
            os.fsync(sink.fileno())
        return table.num_rows

    times, rows = [], 0
    with ThreadPoolExecutor(workers) as pool:
        for _ in range(3):
            started = time.perf_counter()
            rows = sum(pool.map(copy, files))
            times.append(time.perf_counter() - started)
    return {"rows": rows, "rows_per_s": rows / statistics.median(times)}


def equality(bench: Bench) -> Found:
    """Whole tables scored on the CPU and on the device, all options that change the answer."""
    if not bench.on_card:
        return {"left_out": "there is no card"}
    found = bench.begin()
    names = bench.names(bench.sizes.cpu_names)
    for model in bench.arguments.models:
        one, two = (Scorer.load(MODELS[model], device=d) for d in ("cpu", "cuda"))
        for title, options in {
            "plain": {},
            "prior": {"prior": "uniform", "top_k": 5},
            "all": {"coverage_target": 0.9, "details": True, "probabilities": True, "top_k": 12},
        }.items():
            a, b = one.score(names, **options), two.score(names, **options)
            largest = 0.0
            for column in a.columns:
                if column.startswith(("confidence", "probability")):
                    largest = max(largest, float((a[column] - b[column]).abs().max() or 0))
            found[f"{model}, {title}"] = {
                "names": len(a),
                "labels": int((a["language"].cast(str) != b["language"].cast(str)).sum()),
                "status": int((a["status"].cast(str) != b["status"].cast(str)).sum()),
                "largest": largest,
            }
    return found


def memory(bench: Bench) -> Found:
    """Launches get smaller where the device's memory asks for it, and the answers stay."""
    if not bench.on_card:
        return {"left_out": "there is no card"}
    clean()
    version = resolve(MODELS["default"], Path("none"))
    encoded = version.vocabulary.encode(bench.names(300_000))
    rows = np.arange(len(encoded))
    engine = KernelEngine(bench.network("default"))
    before = engine.batch_size
    expected = engine.ranked(encoded, rows, 3)
    clean()
    held = torch.cuda.memory_allocated()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((held + 120e6) / total)
    try:
        got = engine.ranked(encoded, rows, 3)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    same = all(np.array_equal(a, b) for a, b in zip(expected, got, strict=True))
    return {"names_in_a_launch": [before, engine.batch_size], "same_answers": same}


def training(bench: Bench) -> Found:
    """Fits of the default preset: on the tutorial's names, and one epoch of many rows."""
    found = bench.begin()
    preset = with_overrides(PRESETS["tutorial"], epochs=bench.sizes.epochs)
    device = bench.device

    def timed(examples: Examples, validation: Examples | None, labels: int, recipe: Any) -> Found:
        started = time.perf_counter()
        result = fit(
            recipe.model_config(labels), recipe.train, recipe.vocabulary, examples,
            validation=validation, device=device,
        )  # fmt: skip
        last = result.history[-1]
        seconds = time.perf_counter() - started
        steps = -(-len(examples.names) // recipe.train.batch_size) * recipe.train.epochs
        return {
            "examples": len(examples.names), "epochs": recipe.train.epochs, "seconds": seconds,
            "ms_per_step": 1000 * seconds / steps, "loss": last.loss,
            "validation_accuracy": last.validation_accuracy,
        }  # fmt: skip

    if bench.arguments.corpus is not None:
        table = bench.folder / "corpus.parquet"
        write_table(build_table(find_label_files(bench.arguments.corpus)[0]), table)
        corpus = load_corpus(table)
        split = honest_split(corpus)
        train = split.train
        if DRY:
            train = Examples.of(train.names[:128], train.label_ids[:128])
        found["tutorial"] = timed(train, split.validation, len(corpus.labels), preset)
        print("tutorial", found["tutorial"], flush=True)
    one = with_overrides(PRESETS["tutorial"], epochs=1)
    for rows in (bench.sizes.first_train_rows, bench.sizes.train_rows):
        names = common.made_up_names(np.arange(rows)).to_list()
        labels = np.array([len(name) % 9 + 9 * (name[0] < "M") for name in names], np.int64)
        found[f"{rows} rows"] = timed(Examples.of(names, labels), None, 18, one)
        print(rows, found[f"{rows} rows"], flush=True)
    return found


def clean() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


STAGES: dict[str, tuple[Callable[[Bench], Found], int]] = {  # and seconds each may take
    "card": (card, 30),
    "tests": (tests, 90),
    "agreement": (agreement, 60),
    "speed": (speed, 60),
    "equality": (equality, 60),
    "memory": (memory, 20),
    "end_to_end": (end_to_end, 160),
    "training": (training, 130),
    "sweep": (sweep, 120),
}
DEFAULT_STAGES = [name for name in STAGES if name != "sweep"]


class OutOfTimeError(Exception):
    """A stage has used up its seconds."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes")
    parser.add_argument("--only", nargs="+", choices=STAGES, default=DEFAULT_STAGES)
    parser.add_argument("--output", type=Path, default=Path("gpu.json"))
    parser.add_argument("--corpus", type=Path, help="folder of lists of real names")
    parser.add_argument("--folder", type=Path, help="where tables are made")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["default", "tiny"])
    parser.add_argument("--workers", type=int, help="end to end")
    parser.add_argument("--names", type=int, default=2**20, help="of agreement and speed")
    parser.add_argument("--rows", type=int, default=100_000_000, help="of the end-to-end table")
    parser.add_argument("--runs", type=int, default=3, help="of each model, end to end")
    parser.add_argument("--train-rows", type=int, default=1_000_000)
    arguments = parser.parse_args()
    bench = Bench(arguments)
    result: Found = {"command": " ".join(["python", "tests/gpu/measure.py", *sys.argv[1:]])}

    def ring(*_: object) -> None:
        raise OutOfTimeError

    signal.signal(signal.SIGALRM, ring)
    try:
        for name in arguments.only:
            stage, budget = STAGES[name]
            started = time.perf_counter()
            bench.begin()
            signal.alarm(budget)
            try:
                found = stage(bench)
            except OutOfTimeError:
                found = {**bench.partial, "failed": f"not done in {budget} s"}
            except Exception as error:  # the other stages still count
                if DRY:
                    raise
                found = {**bench.partial, "failed": f"{type(error).__name__}: {error}"[:2000]}
                import traceback

                traceback.print_exc()
            finally:
                signal.alarm(0)
            found["stage_seconds"] = round(time.perf_counter() - started, 1)
            result[name] = found
            arguments.output.write_text(json.dumps(result, indent=1) + "\n")
            print(f"== {name}: {json.dumps(found)}", flush=True)
            clean()
    finally:
        shutil.rmtree(bench.folder, ignore_errors=True)


if __name__ == "__main__":
    main()
