"""Runs in a pair of tables, mixtures in one and what was measured in the other: RegMix and olmix.

Layouts looked at: RegMix (sail-sg/regmix, October 2024), ``index`` with ``train_<domain>`` in one file and
``metric/<domain>_val_loss`` in the other; olmix (allenai/olmix, March 2026, ``fit/loaders.py``), ``run`` or ``run_id``
in both, optionally ``name`` and ``index``, every other column a domain's ratio or a metric.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from causalmix.errors import TableError, name_some
from causalmix.table.rename import fill_in
from causalmix.table.runs import read_unchecked

SHARE, METRIC, LOSS = "train_", "metric/", "_val_loss"
CORPUS = "the_pile_"  # stands in every name of RegMix's own tables
OLMIX_IDS = ("run", "run_id")
OLMIX_OTHERS = ("name", "index")


@dataclass(frozen=True)
class Layout:
    """What the columns of a pair are.

    Attributes
    ----------
    name : str
        RegMix or olmix.
    id_mixtures, id_outcomes : str
        Column that joins the two, in each.
    domains, targets : dict of str to str
        Domain, or what was measured, to its column.
    """

    name: str
    id_mixtures: str
    id_outcomes: str
    domains: dict[str, str]
    targets: dict[str, str]


def read_pair(mixtures: Path, outcomes: Path, *, higher_is_better: bool = False) -> tuple[pd.DataFrame, list[str]]:
    """Read a pair as a runs table.

    Parameters
    ----------
    mixtures, outcomes : Path
        CSV or Parquet files of one layout.
    higher_is_better : bool
        Scores rather than losses: they keep their sign. Losses are turned round, ``outcome = -loss``, because
        a runs table's outcomes are better where they are higher.

    Returns
    -------
    frame : DataFrame
        ``run_id``, ``mixture.<domain>``, ``outcome.<target>`` and their mean ``outcome.avg_dev``; not yet checked.
    problems : list of str
        Runs that stand in one file alone and are left out.

    Raises
    ------
    TableError
        Files that cannot be read, or columns of neither layout.
    """
    (left, _), (right, _) = read_unchecked(mixtures), read_unchecked(outcomes)
    layout = find_layout([str(c) for c in left], [str(c) for c in right], f"{mixtures} and {outcomes}")
    left = _index(left, layout.id_mixtures, mixtures)
    right = _index(right, layout.id_outcomes, outcomes)
    joined = left.index.intersection(right.index, sort=False)
    if not len(joined):
        raise TableError(
            f"{mixtures} and {outcomes} have no run in common: {name_some(left.index, 3)} in `{layout.id_mixtures}`, "
            f"{name_some(right.index, 3)} in `{layout.id_outcomes}`."
        )
    problems = [f"{run}: not in {outcomes}" for run in left.index.difference(right.index, sort=False)]
    problems += [f"{run}: not in {mixtures}" for run in right.index.difference(left.index, sort=False)]
    columns: dict[str, object] = {"run_id": joined.to_numpy(), "status": "complete"}
    for domain, column in layout.domains.items():
        columns[f"mixture.{domain}"] = left.loc[joined, column].to_numpy()
    for target, column in layout.targets.items():
        values = pd.to_numeric(right.loc[joined, column], errors="coerce")
        columns[f"outcome.{target}"] = (values if higher_is_better else -values).to_numpy()
    frame, _ = fill_in(pd.DataFrame(columns))
    return frame, problems


def find_layout(left: Sequence[str], right: Sequence[str], source: str) -> Layout:
    """Tell the layout of a pair by its columns.

    Raises
    ------
    TableError
        Neither layout, or one without a domain or a metric.
    """
    domains, targets = find_regmix_columns(left, right)
    if domains and targets and "index" in left and "index" in right:
        return Layout("RegMix", "index", "index", domains, targets)
    ids = [next((name for name in OLMIX_IDS if name in columns), None) for columns in (left, right)]
    if ids[0] is not None and ids[1] is not None:
        kept = [
            {_name_metric(c): c for c in columns if c not in (*OLMIX_IDS, *OLMIX_OTHERS) and not _is_unnamed(c)}
            for columns in (left, right)
        ]
        if all(kept):
            return Layout("olmix", ids[0], ids[1], {c: c for c in kept[0].values()}, kept[1])
    raise TableError(
        f"{source}: neither a RegMix pair (index, train_<domain>; index, metric/<domain>_val_loss) nor an olmix swarm "
        f"(run or run_id and ratios; run or run_id and metrics). They have {name_some(left, 6)}; {name_some(right, 6)}"
        ". Or join the two into one table and say with --map OLD=NEW what is what."
    )


def find_regmix_columns(left: Sequence[str], right: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Find the domains among RegMix's mixture columns, and the targets among its loss columns.

    Returns
    -------
    domains, targets : dict of str to str
        Name to column, in the order of the columns; empty where there are none.
    """
    domains = {c.removeprefix(SHARE): c for c in left if c.startswith(SHARE)}
    targets = {c.removeprefix(METRIC).removesuffix(LOSS): c for c in right if c.startswith(METRIC) and c.endswith(LOSS)}
    if all(name.startswith(CORPUS) for name in (*domains, *targets)):
        domains = {name.removeprefix(CORPUS): column for name, column in domains.items()}
        targets = {name.removeprefix(CORPUS): column for name, column in targets.items()}
    return domains, targets


def _index(frame: pd.DataFrame, column: str, path: Path) -> pd.DataFrame:
    ids = frame[column].astype(str)
    doubled = sorted(set(ids[ids.duplicated()]))
    if doubled:
        raise TableError(f"{path}: runs that stand in `{column}` twice: {name_some(doubled)}. Keep one of each.")
    return frame.set_index(ids.rename("run_id"))


def _name_metric(column: str) -> str:
    """Name an outcome after a metric: a dot would make it a task of an ability."""
    return column.replace(".", "_")


def _is_unnamed(column: str) -> bool:
    return not column or column.startswith("Unnamed")
