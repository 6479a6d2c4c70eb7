"""What only large inputs reach."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from charrnn.planning import order_of, plan_run
from charrnn.runs import manifest_of, publish, verify_run
from charrnn.scoring import ScoreOptions, Scorer, score_partitions
from charrnn.versions import ModelVersion


def test_parts_from_the_hundred_thousandth_on_are_published(
    tiny_version: ModelVersion, tmp_path: Path
) -> None:
    source = tmp_path / "names.parquet"
    pq.write_table(pa.table({"name": ["Katoro", "Burgmann"]}), source, row_group_size=1)
    scorer, options = Scorer(tiny_version), ScoreOptions()
    order = order_of(str(source), tiny_version, options, partition_rows=1)
    plan = plan_run(order, tmp_path / "runs", [])
    first, last = plan.partitions
    far = replace(plan, partitions=(first, replace(last, index=100_000)))
    receipts = score_partitions(far, scorer, options, workers=1)
    run = publish(far, manifest_of(far, receipts, {}), "20260101T000000Z", {})
    assert verify_run(run)["rows"] == 2
    assert (run / "part-100000.parquet").is_file()
