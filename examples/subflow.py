"""Prefect: a flow of your own that scores a table as a subflow, and goes on with its rows."""

import polars as pl
from prefect import flow, task

from flows.score import score


@task
def largest_share(run: str) -> str:
    """Return the label of most rows with its share of the scored ones."""
    scored = pl.scan_parquet(f"{run}/rows/*.parquet").filter(pl.col("status") == "scored")
    counts = scored.group_by("language").len().sort("len", descending=True).collect()
    return f"{counts['language'][0]} {counts['len'][0] / counts['len'].sum():.1%}"


@flow(log_prints=True)
def nightly(table: str = "data/example.csv") -> str:
    """Score a table and say which label most of its rows have."""
    run = score(source=table, model="pretrained-tiny")
    largest = largest_share(run)
    print(largest)
    return largest


if __name__ == "__main__":
    nightly()
