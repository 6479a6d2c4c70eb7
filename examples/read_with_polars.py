"""Polars: which labels the newest run gives, and how many rows each run of the table has."""

import polars as pl

newest = pl.read_parquet("outputs/predictions/example/latest/rows")
print(newest["language"].value_counts(sort=True).head(5))

runs = pl.scan_parquet("outputs/predictions/example/runs/*/rows/*.parquet", hive_partitioning=True)
print(runs.group_by("run", "status").len().sort("run", "status").collect())
