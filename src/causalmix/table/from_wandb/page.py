"""A CSV that somebody saved from W&B's page."""

from __future__ import annotations

from typing import Any

import pandas as pd

from causalmix.table.from_wandb.rows import WandbRun

PAGE_COLUMNS = frozenset({"Name", "State"})


def is_page(frame: pd.DataFrame) -> bool:
    """Say whether a table was saved from W&B's page: it then has W&B's own columns beside the runs'."""
    return set(frame.columns) >= PAGE_COLUMNS


def read_page(frame: pd.DataFrame) -> list[WandbRun]:
    """Read the runs of the page's table, oldest first."""
    if "Created" in frame.columns:  # the page shows the newest first
        frame = frame.sort_values("Created", kind="stable")
    columns = [str(name) for name in frame.columns]
    return [_read_run(dict(zip(columns, row))) for row in frame.itertuples(index=False, name=None)]


def _read_run(row: dict[str, Any]) -> WandbRun:
    filled = {name: value for name, value in row.items() if value != "" and value is not None}
    return WandbRun(str(filled.get("ID") or row["Name"]), str(row["State"]), filled)
