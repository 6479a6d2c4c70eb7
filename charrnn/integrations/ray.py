"""Score the partitions of a plan on the machines of a Ray cluster.

Actors, each with the model in memory, get the numbers of partitions and answer with receipts. Rows
are read from and written to shared storage, never sent through Ray. (Ray Data is not used: its
retries are either unlimited, or used up while a killed actor is still starting again.)

Workers write into a folder of this driver, ``.staging-FINGERPRINT-TOKEN`` in the destination. The
driver, which holds the destination's lock, renames each finished part into the run's staging
folder, so a worker that was given up but still runs cannot change what is published. Every worker
must find the driver's token in that folder, which proves that storage is shared.
"""

import logging
import os
import platform
import signal
import threading
import uuid
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from charrnn.errors import CharrnnError, ConfigError, missing_package, storage_error
from charrnn.files import (
    make_folder,
    read_file,
    remove_tree,
    replace_file,
    translate_os_errors,
    write_bytes,
)
from charrnn.model.provenance import library_versions
from charrnn.model.version import ModelVersion
from charrnn.runs.execute import OnRows, score_partition
from charrnn.runs.folders import staging_folder
from charrnn.runs.parts import PartReceipt, part_path, read_receipt, write_receipt
from charrnn.runs.plan import RunPlan
from charrnn.scoring.options import ComputeOptions, ScoreOptions
from charrnn.scoring.scorer import Scorer

RETRIES = 3  # times that a partition is scored again after its worker was lost
_TOKEN = "token"
_STARTING = -1  # in place of a partition: the worker is starting
_START_TIMEOUT = 300  # seconds in which the first worker has to start


@dataclass(frozen=True)
class _Job:
    """What a worker needs; pickled once per actor. Paths are absolute."""

    plan: RunPlan
    version: ModelVersion
    options: ScoreOptions
    device: str
    batch_size: int | None
    folder: Path  # where workers write; holds the token
    token: str
    driver: str
    libraries: dict[str, str]
    inputs: dict[Path, tuple[int, int]]  # size and time of what the partitions are read from
    umask: int


class _Worker:
    """An actor: loads the model once, then scores one partition per call. It returns a
    CharrnnError, which would arrive as one of Ray's if it were raised."""

    def __init__(self, job: _Job) -> None:
        self.job = job

    def start(self) -> CharrnnError | None:
        """Check that this machine can do the job, and load the model."""
        if problem := _cannot_work(self.job):
            return ConfigError(problem)
        os.umask(self.job.umask)
        torch.set_num_threads(1)  # as in the local engine: equal bytes need it
        self.plan = replace(self.job.plan, destination=self.job.folder)
        try:
            self.scorer = Scorer(self.job.version, self.job.device, self.job.batch_size)
        except CharrnnError as error:
            return error
        return None

    def score(self, index: int) -> PartReceipt | CharrnnError:
        """Score a partition into the workers' folder."""
        partition = self.plan.partitions[index]
        for path in {group.path for group in partition.groups}:
            if _state(path) != self.job.inputs[path]:
                return ConfigError(_not_shared(path, self.job.driver))
        try:
            return score_partition(partition, self.plan, self.scorer, self.job.options)
        except CharrnnError as error:
            return error


def score_partitions_on_ray(
    plan: RunPlan,
    scorer: Scorer,
    options: ScoreOptions,
    compute: ComputeOptions,
    on_rows: OnRows = lambda rows: None,
) -> list[PartReceipt]:
    """Score every partition of a plan on a Ray cluster; return the receipts in order.

    Joins the cluster that ``RAY_ADDRESS`` names, or one on this machine, or starts one of this
    machine's processors. The parts are the same bytes that ``execute.score_partitions`` writes.

    Args:
        scorer: gives the model version; the actors load it on devices of their own.
        compute: ``workers`` actors, by default one per GPU of the cluster, or per processor
            without GPUs; ``device`` is ``auto`` (GPUs if the cluster has any), ``cpu`` or
            ``cuda`` (one GPU per actor).
        on_rows: called with the rows of each part as its receipt arrives.

    Raises:
        ConfigError: Ray is missing, the cluster has no GPU, or a worker does not see the driver's
            storage, or has other versions of the libraries.
        StorageError: no cluster can be reached or started.
        CharrnnError: a worker's error; or a partition lost its worker over ``RETRIES`` times.
    """
    plan = _absolute(plan)
    done = {p.index: receipt for p in plan.partitions if (receipt := read_receipt(plan, p))}
    for receipt in done.values():
        on_rows(receipt.rows)
    todo = [p.index for p in plan.partitions if p.index not in done]
    if todo:
        with _cluster() as ray, _work_folder(plan) as (folder, token):
            gpus = int(ray.cluster_resources().get("GPU", 0))
            if compute.device == "cuda" and not gpus:
                raise ConfigError("the Ray cluster has no GPU; use device cpu", option="device")
            on_gpu = compute.device == "cuda" or (compute.device == "auto" and gpus > 0)
            paths = {group.path for p in plan.partitions for group in p.groups}
            os.umask(umask := os.umask(0o077))  # it can be read only by setting it
            job = _Job(
                plan=plan,
                version=scorer.version,
                options=options,
                device="cuda" if on_gpu else "cpu",
                batch_size=compute.names_per_pass,
                folder=folder,
                token=token,
                driver=platform.node(),
                libraries=library_versions(),
                inputs={path: _state(path) for path in paths},
                umask=umask,
            )
            slots = gpus if on_gpu else int(ray.cluster_resources().get("CPU", 1))
            for receipt in _receipts(ray, job, todo, min(compute.workers or slots, len(todo))):
                _take(plan, folder, receipt)
                done[receipt.index] = receipt
                on_rows(receipt.rows)
    return [done[partition.index] for partition in plan.partitions]


def _receipts(ray: Any, job: _Job, todo: Sequence[int], workers: int) -> Iterator[PartReceipt]:
    """Yield receipts as parts are finished, in any order.

    Only a worker that has started and is free gets a partition, so no partition waits for a worker
    that the cluster has no room for. If a worker is lost, its partition goes to the next free one,
    and another worker is started.
    """
    shared = ray.put(job)
    actor_class = ray.remote(_Worker).options(
        num_cpus=1, num_gpus=1 if job.device == "cuda" else 0, max_restarts=0
    )
    waiting, attempts, unfinished = deque(todo), Counter[int](), len(todo)
    free: list[Any] = []
    busy: dict[Future[Any], tuple[Any, int]] = {}  # answer → worker, and partition or _STARTING

    def start_worker() -> None:
        actor = actor_class.remote(shared)
        busy[actor.start.remote().future()] = actor, _STARTING

    try:
        for _ in range(workers):
            start_worker()
        while unfinished:
            while waiting and free:
                actor, index = free.pop(), waiting.popleft()
                busy[actor.score.remote(index).future()] = actor, index
            future = _first_answered(busy)
            actor, index = busy.pop(future)
            try:
                receipt = _answer(ray, future)
            except ray.exceptions.RayError:  # the worker is lost
                if index == _STARTING:  # one that cannot start is not replaced
                    continue
                attempts[index] += 1
                if attempts[index] > RETRIES:
                    raise CharrnnError(
                        f"part {index} lost its Ray worker {attempts[index]} times; is memory "
                        "short? Finished parts are kept, try smaller partitions",
                        option="partition_rows",
                    ) from None
                waiting.appendleft(index)
                start_worker()
                continue
            free.append(actor)
            if index != _STARTING:
                unfinished -= 1
                yield receipt
    finally:
        for actor in [*free, *(actor for actor, _ in busy.values())]:
            ray.kill(actor)


def _first_answered(busy: dict[Future[Any], tuple[Any, int]]) -> Future[Any]:
    """Wait for an answer, without limit if a partition is being scored. (``ray.wait`` would turn
    the exit code of a signal handler into 1.)"""
    only_starting = all(index == _STARTING for _, index in busy.values())
    timeout = _START_TIMEOUT if only_starting else None
    answered = wait(busy, timeout=timeout, return_when=FIRST_COMPLETED).done
    if not answered:
        raise CharrnnError(
            f"no worker of the Ray cluster could start within {_START_TIMEOUT} s; has it a free "
            "processor, or GPU, and charrnn installed? Finished parts are kept"
        )
    return answered.pop()


def _answer(ray: Any, future: Future[Any]) -> Any:
    """Return a worker's answer; raise the CharrnnError it returned, or Ray's if it is lost."""
    try:
        answer = future.result()
    except ray.exceptions.RayTaskError as error:
        raise CharrnnError(  # without its message, which could quote a cell
            f"a Ray worker failed with {type(error.cause).__name__}, which should not happen; "
            "its log says more, please report this"
        ) from None
    if isinstance(answer, CharrnnError):
        raise answer
    return answer


def _take(plan: RunPlan, folder: Path, receipt: PartReceipt) -> None:
    """Move a part that a worker has finished into the run, and record it."""
    part = part_path(plan.staging, receipt.index)
    with translate_os_errors(part):
        make_folder(part.parent)
        replace_file(part_path(staging_folder(folder, plan.key.fingerprint), receipt.index), part)
    write_receipt(plan.staging, receipt)


@contextmanager
def _cluster() -> Iterator[Any]:
    """Yield the ``ray`` module, connected; stop a cluster that was started here."""
    try:
        import ray
    except ImportError:
        raise missing_package("Ray", "ray") from None
    if ray.is_initialized():
        yield ray
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        try:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except (ray.exceptions.RayError, ConnectionError, RuntimeError, ValueError) as error:
            raise storage_error("no Ray cluster can be reached or started", error) from error
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_sigterm)  # Ray's own would change the exit code
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def _work_folder(plan: RunPlan) -> Iterator[tuple[Path, str]]:
    """Yield the folder that the workers write into, and the token in it. After a kill it is removed
    with the destination's other left-overs."""
    token = uuid.uuid4().hex[:12]
    folder = plan.destination / f"{plan.staging.name}-{token}"
    write_bytes(folder / _TOKEN, token.encode())
    try:
        yield folder, token
    finally:
        remove_tree(folder)


def _cannot_work(job: _Job) -> str:
    """Return why the machine that this is called on cannot do the job, or ""."""
    try:
        token = read_file(job.folder / _TOKEN).decode()
    except OSError:
        token = ""
    if token != job.token:
        return _not_shared(job.folder, job.driver)
    if library_versions() != job.libraries:
        ours = ", ".join(f"{k} {v}" for k, v in library_versions().items() if v != job.libraries[k])
        return (
            f"the Ray worker on {platform.node()} has {ours}, but {job.driver} has others; results "
            "would differ, install the same versions on every machine"
        )
    return ""


def _not_shared(path: Path, driver: str) -> str:
    return (
        f"the Ray worker on {platform.node()} does not see {path}, which {driver} sees; put input "
        "and output on a file system that every machine mounts at the same place"
    )


def _state(path: Path) -> tuple[int, int]:
    """Return size in bytes and time in whole seconds (some file systems keep no more) of a file, by
    which two machines tell whether they see the same one."""
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, int(status.st_mtime)


def _absolute(plan: RunPlan) -> RunPlan:
    """Return the plan with absolute paths: workers have other working folders."""
    return replace(
        plan,
        destination=plan.destination.absolute(),
        partitions=tuple(
            replace(p, groups=tuple(replace(g, path=g.path.absolute()) for g in p.groups))
            for p in plan.partitions
        ),
    )
