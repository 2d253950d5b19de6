"""Which regressor ranks mixtures it has not seen? A leaderboard on the public RegMix tables.

    python benchmarks/regmix_tables.py DATA_DIR [--json FILE] [--full]

Every regressor is fitted on 512 mixtures of 1M models and ranks the test mixtures of 1M, 60M and 1B models.
Targets are fitted on the rows as they come; for the mean of all targets rows are divided by their sum.
About a minute and a half on one core; --full draws ten times as many bootstrap samples (three minutes).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from analysis.estimators.fit import fit_effects
from analysis.regmix_tables import RegmixTable, make_roles, read_regmix_tables
from analysis.regressors.boosted_trees import BoostedTrees
from analysis.regressors.gaussian_process import SqrtShareGP
from analysis.regressors.linear import LinearShares, LogShares, RidgeShares
from analysis.regressors.mixing_law import MixingLaw
from analysis.regressors.own_share import OwnShare
from analysis.regressors.regressor import Regressor
from causalmix.config import EstimatorConfig, NuisanceConfig
from causalmix.errors import CausalMixError
from causalmix.files import write_json

Floats = NDArray[np.float64]

SEED = 42
N_DRAWS, N_DRAWS_FULL = 200, 2000
SCALES = ("1m", "60m", "1B")
FIRST = "pile_cc"  # the target that RegMix reports
PER_TARGET, FIT_AVERAGE = "mean, per target", "mean, fitted as one"


class StateAgnostic:
    """CausalMix with one theta for all states, as these tables have none: LogShares, its means cross-fitted."""

    def __init__(self, table: RegmixTable):
        self.table = table

    def fit(self, T: Floats, y: Floats) -> StateAgnostic:
        roles = make_roles(self.table, T, y[:, None], np.empty((len(T), 0)))
        cfg = EstimatorConfig(name="no_covariates", kind="no_covariates", nuisance=NuisanceConfig(outcome="ridge"))
        self.effects = fit_effects(roles, cfg, SEED).effects
        return self

    def predict(self, T: Floats) -> Floats:
        return -self.effects.predict(np.empty(0), T)  # up to a constant: ranks and means over targets stay


@dataclass(frozen=True)
class Row:
    """One regressor on one outcome at one size: Spearman in percent with a 95% interval, regret in nats."""

    regressor: str
    outcome: str
    scale: str
    n: int
    spearman: float
    low: float
    high: float
    regret: float


def list_makers(table: RegmixTable) -> dict[str, Callable[[str], Regressor]]:
    """Name the regressors; each is made for a target, which own share alone needs."""
    return {
        "linear": lambda target: LinearShares(),
        "ridge": lambda target: RidgeShares(),
        "log-share OLS": lambda target: LogShares(),
        "CausalMix, no state": lambda target: StateAgnostic(table),
        "LightGBM (RegMix)": lambda target: BoostedTrees(SEED),
        "mixing law": lambda target: MixingLaw(seed=SEED),
        "GP on sqrt(w)": lambda target: SqrtShareGP(),
        "own share": lambda target: OwnShare(table.domains.index(target)),
    }


def score(predicted: Floats, losses: Floats, n_draws: int) -> tuple[float, float, float, float]:
    """Return Spearman (percent), its bootstrap interval over test mixtures, and the regret of the top-ranked one."""
    from scipy.stats import rankdata

    rng = np.random.default_rng([SEED, len(losses)])
    rows = np.vstack([np.arange(len(losses)), rng.integers(0, len(losses), (n_draws, len(losses)))])
    left, right = (rankdata(values[rows], axis=1) for values in (predicted, losses))
    left, right = (ranks - ranks.mean(axis=1, keepdims=True) for ranks in (left, right))
    values = 100 * (left * right).sum(axis=1) / np.sqrt((left**2).sum(axis=1) * (right**2).sum(axis=1))
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return float(values[0]), float(low), float(high), float(losses[np.argmin(predicted)] - losses.min())


def predict_all(
    make: Callable[[str], Regressor], tables: dict[str, RegmixTable], *, with_average: bool
) -> Iterator[dict[tuple[str, str], Floats]]:
    """Fit on 1M models and predict every test table; yields {(outcome, scale): predictions}, a target at a time."""
    train = tables["train_1m"]
    tests = {scale: tables[f"test_{scale}"] for scale in SCALES}
    sums = {(PER_TARGET, scale): np.zeros(len(test.losses)) for scale, test in tests.items()}
    for j, target in enumerate(train.targets):
        own = make(target).fit(train.mixtures, train.losses[:, j])
        part = make(target).fit(train.renormalised, train.losses[:, j])
        for scale, test in tests.items():
            sums[PER_TARGET, scale] += part.predict(test.renormalised) / len(train.targets)
        yield {(target, scale): own.predict(test.mixtures) for scale, test in tests.items()}
    yield sums
    if with_average:
        whole = make(train.targets[0]).fit(train.renormalised, train.losses.mean(axis=1))
        yield {(FIT_AVERAGE, scale): whole.predict(test.renormalised) for scale, test in tests.items()}


def measure(tables: dict[str, RegmixTable], n_draws: int) -> tuple[list[Row], dict[str, float]]:
    """Score every regressor on every outcome; return the rows and the seconds each regressor took."""
    rows, seconds = [], {}
    makers = list_makers(tables["train_1m"])
    targets = tables["train_1m"].targets
    with tqdm(total=len(makers) * len(targets), desc="targets fitted", mininterval=1) as bar:
        for name, make in makers.items():
            start = time.perf_counter()
            # The mean of all targets has no domain of its own.
            for found in predict_all(make, tables, with_average=name != "own share"):
                for (outcome, scale), predicted in found.items():
                    losses = tables[f"test_{scale}"].losses
                    truth = losses[:, targets.index(outcome)] if outcome in targets else losses.mean(axis=1)
                    rows.append(Row(name, outcome, scale, len(truth), *score(predicted, truth, n_draws)))
                bar.update(int(outcome in targets))
            seconds[name] = round(time.perf_counter() - start, 2)
    return rows, seconds


def print_tables(rows: list[Row], targets: tuple[str, ...], seconds: dict[str, float]) -> None:
    """Print the leaderboard: summaries with intervals, regret, then every target."""
    found = {(row.regressor, row.outcome, row.scale): row for row in rows}
    first = FIRST if FIRST in targets else targets[0]
    for outcome in (first, PER_TARGET, FIT_AVERAGE):
        print(f"\n{outcome}: Spearman, percent [95% over test mixtures]; regret at one, nats\n")
        print("| regressor | " + " | ".join(f"{s} | regret" for s in SCALES) + " |\n|---" + "|---" * 6 + "|")
        for name in seconds:
            cells = [found.get((name, outcome, scale)) for scale in SCALES]
            texts = [f"{c.spearman:.1f} [{c.low:.1f}, {c.high:.1f}] | {c.regret:.3f}" if c else "- | -" for c in cells]
            print(f"| {name} | " + " | ".join(texts) + " |")
    for scale in SCALES:
        print(f"\nEvery target at {scale}: Spearman, percent\n")
        print("| target | " + " | ".join(seconds) + " |\n|---" + "|---" * len(seconds) + "|")
        for target in sorted(targets, key=lambda t: (t != first, t)):
            print(f"| {target} | " + " | ".join(f"{found[n, target, scale].spearman:.1f}" for n in seconds) + " |")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=Path, metavar="DATA_DIR", help="folder with the CSV files of RegMix")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure there")
    parser.add_argument("--full", action="store_true", help=f"{N_DRAWS_FULL} bootstrap draws in place of {N_DRAWS}")
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    try:
        tables = read_regmix_tables(options.data_dir)
        n_draws = N_DRAWS_FULL if options.full else N_DRAWS
        rows, seconds = measure(tables, n_draws)
    except CausalMixError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    print_tables(rows, tables["train_1m"].targets, seconds)
    total = round(time.perf_counter() - start, 1)
    print("\nseconds: " + ", ".join(f"{name} {value:.1f}" for name, value in seconds.items()) + f"; in all {total}")
    print(f"seed {SEED}, {n_draws} bootstrap draws, {len(tables['train_1m'].losses)} training mixtures")
    if options.json:
        content = {"benchmark": "regmix_tables", "date": datetime.now(UTC).date().isoformat(), "seed": SEED}
        content |= {"full": options.full, "n_draws": n_draws, "seconds": seconds | {"all": total}}
        write_json(options.json, content | {"rows": [asdict(row) for row in rows]})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
