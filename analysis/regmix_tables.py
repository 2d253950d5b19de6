"""The public RegMix tables (Liu et al. 2024): mixtures of the Pile, and the losses of models trained on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.columns import read_numbers
from analysis.coordinates import make_coordinates
from analysis.regressors.linear import LOG_OFFSET
from analysis.roles import Roles
from causalmix.errors import AnalysisError, name_some
from causalmix.table.pairs import find_regmix_columns

Floats = NDArray[np.float64]

TABLES = ("train_1m", "test_1m", "test_60m", "test_1B")
SIZES = {"1m": 1e6, "60m": 6e7, "1B": 1e9}  # parameters of the models


@dataclass(frozen=True)
class RegmixTable:
    """Models of one size on n mixtures.

    Attributes
    ----------
    domains : tuple of str
        K domains of the mixtures.
    targets : tuple of str
        A domains whose validation loss was measured; all of them are domains of the mixtures.
    mixtures : ndarray (n, K)
        As they stand: rounded to three decimals, they sum to .996-1.003.
    losses : ndarray (n, A)
        Nats a token, lower is better.
    """

    domains: tuple[str, ...]
    targets: tuple[str, ...]
    mixtures: Floats
    losses: Floats

    @property
    def renormalised(self) -> Floats:
        """The mixtures (n, K), each divided by its sum."""
        return np.asarray(self.mixtures / self.mixtures.sum(axis=1, keepdims=True))


def read_regmix_tables(folder: Path) -> dict[str, RegmixTable]:
    """Read ``train_1m``, ``test_1m``, ``test_60m`` and ``test_1B``.

    Parameters
    ----------
    folder : Path
        Holds ``train_mixture_1m.csv`` and ``train_pile_loss_1m.csv``, and the same for each test table; columns
        ``index``, ``train_the_pile_<domain>`` and ``metric/the_pile_<domain>_val_loss``.

    Returns
    -------
    dict of str to RegmixTable

    Raises
    ------
    AnalysisError
        Files or columns that are missing or do not belong together; all are named.
    """
    names = {name: name.split("_") for name in TABLES}
    files = {
        name: (folder / f"{part}_mixture_{size}.csv", folder / f"{part}_pile_loss_{size}.csv")
        for name, (part, size) in names.items()
    }
    missing = [path.name for pair in files.values() for path in pair if not path.is_file()]
    if missing:
        raise AnalysisError(
            f"{folder}: no {name_some(missing)}; the folder with the CSV files of the RegMix repository is wanted."
        )
    tables = {name: _read_pair(*pair) for name, pair in files.items()}
    first = tables[TABLES[0]]
    others = [n for n, t in tables.items() if (t.domains, t.targets) != (first.domains, first.targets)]
    if others:
        raise AnalysisError(f"{folder}: the columns of {name_some(others)} differ from those of {TABLES[0]}.")
    return tables


def make_roles(
    table: RegmixTable, mixtures: Floats, losses: Floats, covariates: Floats, names: tuple[str, ...] = ()
) -> Roles:
    """Cast rows of these tables as runs: Y = -loss, T the mixture, X whatever covariates there are.

    Parameters
    ----------
    table : RegmixTable
        For the names of the domains.
    mixtures : ndarray (n, K)
    losses : ndarray (n, A)
        The outcomes weigh alike.
    covariates : ndarray (n, d)
    names : tuple of str
        Of the covariates.
    """
    n, n_outcomes = losses.shape
    coordinates = make_coordinates("log", len(table.domains), LOG_OFFSET)
    return Roles(
        run_ids=tuple(f"row{i:04d}" for i in range(n)),
        domains=table.domains,
        outcome_names=tuple(f"loss_{j}" for j in range(n_outcomes)),
        outcomes=-losses,
        outcome_weights=np.full(n_outcomes, 1.0 / n_outcomes),
        mixtures=mixtures,
        coordinates=coordinates,
        Z=coordinates.transform(mixtures),
        X=covariates,
        x_names=names,
        W=np.empty((n, 0)),
        w_names=(),
        design_mean=None,
        randomised=False,
    )


def _read_pair(mixtures: Path, losses: Path) -> RegmixTable:
    left, right = pd.read_csv(mixtures), pd.read_csv(losses)
    shares, metrics = find_regmix_columns([str(c) for c in left], [str(c) for c in right])
    faults = [f"no column train_the_pile_<domain> in {mixtures.name}"] if not shares else []
    faults += [f"no column metric/the_pile_<domain>_val_loss in {losses.name}"] if not metrics else []
    if "index" not in left or "index" not in right or left["index"].tolist() != right["index"].tolist():
        faults.append(f"{mixtures.name} and {losses.name} do not have the same column `index`")
    domains, targets = tuple(shares), tuple(metrics)
    strangers = [name for name in targets if name not in domains]
    if strangers:
        faults.append(f"losses on {name_some(strangers)}, which {mixtures.name} does not mix")
    if faults:
        raise AnalysisError(f"{mixtures.parent}: {'; '.join(faults)}.")
    rows = tuple(left["index"].astype(str))
    return RegmixTable(
        domains,
        targets,
        read_numbers(left, list(shares.values()), rows, mixtures.name),
        read_numbers(right, list(metrics.values()), rows, losses.name),
    )
