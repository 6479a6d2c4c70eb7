"""The engine on a Ray cluster: the same bytes as the local engine, also when workers die."""

import logging
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flat import key_of, score

from charrnn.cli import KEY_VARIABLE
from charrnn.errors import CharrnnError, ConfigError, DataError, StorageError
from charrnn.integrations import ray as ray_engine
from charrnn.integrations.ray import _Worker, score_partitions_on_ray
from charrnn.runs.execute import score_partitions
from charrnn.runs.parts import PartReceipt, part_path
from charrnn.runs.plan import RunPlan, plan_run
from charrnn.runs.verify import verify_run
from charrnn.scoring.dictionary import added_columns
from charrnn.scoring.options import ComputeOptions, ScoreOptions
from charrnn.scoring.scorer import Scorer

# Ray and what it imports warn of their own affairs.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.ray, pytest.mark.slow]
PARTITIONS = 24
OPTIONS = ScoreOptions()


@pytest.fixture(scope="module")
def scorer(models: Path) -> Scorer:
    return Scorer.load("v0001", models=models)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster on this machine that processes can join and leave."""
    pytest.importorskip("ray", reason="the extra charrnn-names[ray] is not installed")
    from ray.cluster_utils import Cluster

    found = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 1,
            "object_store_memory": 2**27,
            "include_dashboard": False,
            # A killed node is noticed after some 15 s, and not after a minute.
            "_system_config": {"health_check_period_ms": 1000, "health_check_timeout_ms": 2000},
        },
    )
    yield found
    found.shutdown()


@pytest.fixture
def connected(cluster: Any) -> Iterator[Any]:
    """The ``ray`` module, connected to two nodes of one processor each; also the second node."""
    import ray

    node = cluster.add_node(num_cpus=1, object_store_memory=2**27)
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    yield ray, node
    ray.shutdown()
    if node in cluster.worker_nodes:
        cluster.remove_node(node)


@pytest.fixture
def plan(names_table: pa.Table, scorer: Scorer, tmp_path: Path) -> RunPlan:
    """Twenty-four partitions of twelve rows."""
    path = tmp_path / "people.parquet"
    table = pa.concat_tables([names_table] * PARTITIONS)
    pq.write_table(table, path, row_group_size=12, write_page_checksum=True)
    key = key_of(path, scorer.version, OPTIONS, 12)
    return plan_run(key, tmp_path / "ray", added_columns(OPTIONS, scorer.version.labels))


def locally(plan: RunPlan, scorer: Scorer, tmp_path: Path) -> tuple[list[PartReceipt], list[bytes]]:
    """Score the same plan with the local engine, elsewhere."""
    local = replace(plan, destination=tmp_path / "local")
    receipts = score_partitions(local, scorer, OPTIONS, ComputeOptions(workers=1))
    return receipts, parts(local)


def parts(plan: RunPlan) -> list[bytes]:
    return [part_path(plan.staging, p.index).read_bytes() for p in plan.partitions]


def workers_of(process: int) -> list[int]:
    """Return the processes below ``process`` that are actors of the pool."""
    parents, actors = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text().rsplit(") ", 1)[1]
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        parents[int(folder.name)] = int(state.split()[1])
        if b"ray::_Worker" in command:
            actors.append(int(folder.name))

    def below(child: int) -> bool:
        return child == process or (child in parents and below(parents[child]))

    return [actor for actor in actors if below(actor)]


def test_the_command_gives_the_run_that_the_local_engine_gives(
    connected: Any, plan: RunPlan, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "0123456789abcdef")  # here, but not where the workers are
    source = str(plan.source.files[0].path)
    options: dict[str, Any] = {
        "model": "v0001", "models": str(models), "partition_rows": 12, "names": "hash",
    }  # fmt: skip
    local = Path(score(source, output=str(tmp_path / "a"), workers=1, **options))
    ray = Path(score(source, output=str(tmp_path / "b"), engine="ray", **options))
    names = [f"part-{i:05d}.parquet" for i in range(PARTITIONS)]
    assert sorted(p.name for p in (ray / "rows").iterdir()) == names
    assert [(ray / "rows" / n).read_bytes() for n in names] == [
        (local / "rows" / n).read_bytes() for n in names
    ]
    ours, theirs = (verify_run(run).to_json() for run in (local, ray))
    differing = {key for key in ours if ours[key] != theirs[key]}
    assert differing <= {"created", "seconds", "device"}
    assert theirs["device"] == "Ray, auto"
    # Nothing of the workers' folder is left.
    assert not list(ray.parents[1].glob(".staging-*"))


def test_a_killed_actor_and_a_killed_node_cost_no_row(
    cluster: Any, connected: Any, plan: RunPlan, scorer: Scorer, tmp_path: Path
) -> None:
    _, node = connected
    lost: list[str] = []

    def lose(receipt: PartReceipt) -> None:
        if not lost:  # both actors have more to do
            victim = workers_of(os.getpid())[0]
            os.kill(victim, signal.SIGKILL)
            lost.append("actor")
        elif len(lost) == 1:
            cluster.remove_node(node, allow_graceful=False)
            lost.append("node")

    receipts = score_partitions_on_ray(plan, scorer, OPTIONS, ComputeOptions(workers=2), lose)
    assert lost == ["actor", "node"]
    assert (receipts, parts(plan)) == locally(plan, scorer, tmp_path)
    assert sum(receipt.rows for receipt in receipts) == 12 * PARTITIONS


def test_a_worker_that_does_not_see_the_storage_is_an_error_that_says_so(
    connected: Any, plan: RunPlan, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "write_bytes", lambda path, content: None)  # no token
    with pytest.raises(ConfigError, match=r"does not see .*every machine mounts at the same place"):
        score_partitions_on_ray(plan, scorer, OPTIONS, ComputeOptions(workers=1))
    assert not list(plan.destination.glob(".staging-*-*"))


def test_a_worker_that_sees_another_file_in_the_input_s_place_says_so(
    connected: Any, plan: RunPlan, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "_state", lambda path: (1, 1))  # here, not in the worker
    with pytest.raises(ConfigError, match=r"does not see .*people\.parquet, which"):
        score_partitions_on_ray(plan, scorer, OPTIONS, ComputeOptions(workers=1))


def test_what_a_worker_meets_arrives_as_it_is_and_finished_parts_are_kept(
    connected: Any, plan: RunPlan, scorer: Scorer, tmp_path: Path
) -> None:
    path = plan.partitions[0].groups[0].path
    whole, state = path.read_bytes(), path.stat()
    path.write_bytes(whole[:500] + bytes([whole[500] ^ 1]) + whole[501:])  # in the first row groups
    with pytest.raises(DataError, match=r"people.parquet changed during the run"):
        score_partitions_on_ray(plan, scorer, OPTIONS, ComputeOptions(workers=1))
    path.write_bytes(whole)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    before = {p.name: p.stat().st_mtime_ns for p in plan.staging.glob("rows/part-*.parquet")}
    receipts = score_partitions_on_ray(plan, scorer, OPTIONS, ComputeOptions(workers=1))
    after = {p.name: p.stat().st_mtime_ns for p in plan.staging.glob("rows/part-*.parquet")}
    assert before.items() <= after.items()
    assert (receipts, parts(plan)) == locally(plan, scorer, tmp_path)


def test_a_partition_that_kills_its_workers_is_given_up(
    connected: Any, plan: RunPlan, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dying(_Worker):
        def score(self, index: int) -> PartReceipt | CharrnnError:
            if index == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().score(index)

    monkeypatch.setattr(ray_engine, "_Worker", Dying)
    monkeypatch.setattr(ray_engine, "RETRIES", 1)
    with pytest.raises(CharrnnError, match="part 3 lost its Ray worker 2 times"):
        score_partitions_on_ray(plan, scorer, OPTIONS, ComputeOptions(workers=1))


def test_a_cluster_that_cannot_be_reached_is_one_line(
    plan: RunPlan, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="the extra charrnn-names[ray] is not installed")

    def fail(**_: Any) -> None:
        raise ConnectionError("nobody there\nand a second line")

    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(StorageError, match=r"no Ray cluster can be reached or started: .*there$"):
        score_partitions_on_ray(plan, scorer, OPTIONS, ComputeOptions())


def test_without_a_gpu_in_the_cluster_cuda_is_refused(
    connected: Any, plan: RunPlan, scorer: Scorer
) -> None:
    with pytest.raises(ConfigError, match="no GPU; use device cpu"):
        score_partitions_on_ray(plan, scorer, OPTIONS, ComputeOptions(device="cuda"))
    with pytest.raises(ConfigError, match="workers must be ≥ 1, got 0"):
        score_partitions_on_ray(plan, scorer, OPTIONS, ComputeOptions(workers=0))
