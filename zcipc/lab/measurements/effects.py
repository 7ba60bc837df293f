"""What the alternatives to a design choice cost, from what was measured of both."""

import numpy as np
import pandas as pd

from zcipc.lab.harness.stats import Estimate, median_ci


def effects(frame: pd.DataFrame) -> pd.DataFrame:
    """What each alternative costs, from the table `design_choices`: one row for each alternative, metric and message size.

    `ratio`, `low` and `high` are the time of the alternative in times of that of what is shipped, taken within each launch: the
    median over launches and its 95 % interval. `value` and `shipped_value` are the median times in ns. Where there is no value
    all of them are NaN, and `missing` says why.
    """
    keys = ["choice", "variant", "metric", "message_bytes"]
    rows = []
    for key, group in frame[~frame["shipped"]].groupby(keys, sort=False):
        choice, _, metric, size = key
        same = (frame["choice"] == choice) & (frame["metric"] == metric) & (frame["message_bytes"] == size) & frame["shipped"]
        shipped = frame[same].set_index("launch")["value"]
        ratios = (group.set_index("launch")["value"] / shipped).dropna()
        ratio = median_ci(ratios) if len(ratios) else Estimate(np.nan, np.nan, np.nan, 0)
        rows.append(
            dict(zip(keys, key, strict=True))
            | {"shipped": frame[same]["variant"].iloc[0], "shipped_value": shipped.median(), "value": group["value"].median()}
            | {"ratio": ratio.value, "low": ratio.low, "high": ratio.high, "launches": ratio.launches}
            | {"missing": group["missing"].iloc[0]}
        )
    return pd.DataFrame(rows)
