"""What only large inputs reach."""

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flat import key_of, publish_parts

from charrnn.model.version import ModelVersion
from charrnn.runs.plan import plan_run
from charrnn.runs.verify import verify_run
from charrnn.scoring.options import ScoreOptions
from charrnn.scoring.scorer import Scorer
from charrnn.tables import row_groups
from charrnn.tables import source as tables
from charrnn.tables.csv_format import CsvFormat
from charrnn.tables.discovery import discover
from charrnn.tables.row_groups import cut, read_groups


def test_parts_from_the_hundred_thousandth_on_are_published(
    tiny_version: ModelVersion, tmp_path: Path
) -> None:
    source = tmp_path / "names.parquet"
    pq.write_table(pa.table({"name": ["Katoro", "Burgmann"]}), source, row_group_size=1)
    scorer, options = Scorer(tiny_version), ScoreOptions()
    plan = plan_run(key_of(source, tiny_version, options, 1), tmp_path / "runs", [])
    first, last = plan.partitions
    far = replace(plan, partitions=(first, replace(last, index=100_000)))
    run = publish_parts(far, scorer, options)
    assert verify_run(run).rows == 2
    assert (run / "rows/part-100000.parquet").is_file()


def test_a_footer_is_read_once_for_all_partitions_of_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "names.parquet"
    pq.write_table(pa.table({"name": [f"Name{i}" for i in range(40)]}), source, row_group_size=1)
    footers = []
    plain = row_groups.open_parquet

    def counting(
        path: Path, footer: pq.FileMetaData | None = None, **options: Any
    ) -> AbstractContextManager[pq.ParquetFile]:
        footers.append(footer)
        return plain(path, footer, **options)

    monkeypatch.setattr(row_groups, "open_parquet", counting)
    files = tables.fingerprint(discover(str(source)))
    opened = tables.open_source(files, tmp_path / "staging", partition_rows=2, csv=CsvFormat())
    partitions = cut(opened.tables, 2)
    read = pa.concat_tables([read_groups(p.groups) for p in partitions])
    assert read["name"].to_pylist() == [f"Name{i}" for i in range(40)]
    assert len(partitions) == 20
    assert footers.count(None) == 1
