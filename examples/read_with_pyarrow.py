"""PyArrow: stream two columns of all runs, and ask what a column holds."""

from glob import glob

import pyarrow.compute as pc
from pyarrow.dataset import dataset

runs = dataset(
    sorted(glob("outputs/predictions/example/runs/*/rows/*.parquet")), partitioning="hive"
)
likely = pc.field("confidence") > 0.9
rows = sum(batch.num_rows for batch in runs.to_batches(columns=["run"], filter=likely))
print(f"{rows} rows with a confidence above 0.9")
print("language:", runs.schema.field("language").metadata[b"description"].decode())
