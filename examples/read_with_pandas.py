"""pandas: the confidence by label, and what was not scored with its reason."""

from glob import glob

import pandas as pd

newest = pd.read_parquet("outputs/predictions/example/latest/rows")
print(newest.groupby("language")["confidence"].agg(["size", "mean"]).nlargest(5, "size"))
print(newest.loc[newest["status"] != "scored", "reason"].value_counts())

runs = pd.read_parquet(sorted(glob("outputs/predictions/example/runs/*/rows/*.parquet")))
print(runs.groupby("run").size())
