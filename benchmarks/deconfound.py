"""Does adjusting undo confounding? Rows of the public RegMix tables, kept so that a share goes with a covariate.

    python benchmarks/deconfound.py DATA_DIR [--json FILE] [--full]

The 256 test mixtures were trained at 1M and at 60M parameters, so in the full table (512 rows) a model's size,
the strongest thing to know of its loss, says nothing of its mixture. Rows are then kept with probability
``1 / (1 + exp(-strength z u))``: z is the standardised log share of the target's own domain, u is +1 for a 60M
model and -1 for a 1M one. In what is left, large models have much of that domain. Outcomes are not touched.

theta is the effect on -loss (nats) of a unit of each log share, estimated on the rows kept by
- naive: one theta for all states, the size not known (`no_covariates`);
- adjusted: least squares on log shares and log10 of the size;
- DML: theta linear in log10 of the size, cross-fitted nuisances (`linear_dml`, ridge), at the middle size;
the truth is the adjusted fit on the full table, where the naive one agrees with it. Means over repetitions
with their standard errors. About a minute on one core; --full takes every target (seven minutes).
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from analysis.estimators.fit import fit_effects
from analysis.regmix_tables import SIZES, RegmixTable, make_roles, read_regmix_tables
from analysis.roles import Roles
from causalmix.config import EstimatorConfig, NuisanceConfig
from causalmix.errors import AnalysisError, CausalMixError
from causalmix.files import write_json

Floats = NDArray[np.float64]

SEED = 0
STRENGTHS = (0.0, 1.0, 3.0)  # 0: rows are lost at random
TARGETS = ("pile_cc", "github", "wikipedia_en")
N_REPEATS = 20
MIDDLE = float(np.mean([np.log10(SIZES["1m"]), np.log10(SIZES["60m"])]))


@dataclass(frozen=True)
class Row:
    """One estimator at one strength: bias of the tied domain's theta and error over all domains, nats.

    ``*_se`` are standard errors over repetitions; ``rmse`` is over the K thetas, then averaged over repetitions.
    """

    target: str
    strength: float
    n_kept: float
    estimator: str
    truth: float
    bias: float
    bias_se: float
    rmse: float
    rmse_se: float


def pool_sizes(tables: dict[str, RegmixTable], target: str) -> Roles:
    """Stack the test tables of both sizes, the log of the size as covariate X."""
    small, large = tables["test_1m"], tables["test_60m"]
    if not np.array_equal(small.mixtures, large.mixtures):
        raise AnalysisError("the test mixtures of 1m and 60m differ: the size of a model would say something of them.")
    column = small.targets.index(target)
    sizes = np.repeat(np.log10([SIZES["1m"], SIZES["60m"]]), len(small.losses))
    losses = np.concatenate([small.losses[:, column], large.losses[:, column]])
    mixtures = np.vstack([small.renormalised, large.renormalised])
    return make_roles(small, mixtures, losses[:, None], sizes[:, None], ("log_size",))


def estimate(roles: Roles) -> dict[str, Floats]:
    """Return theta (K,) by every estimator."""
    nuisance = NuisanceConfig(outcome="ridge", treatment="ridge")
    naive = EstimatorConfig(name="naive", kind="no_covariates", nuisance=nuisance)
    dml = EstimatorConfig(name="dml", kind="linear_dml", nuisance=nuisance)
    return {
        "naive": fit_effects(roles, naive, SEED).effects.theta(np.empty(0)),
        "adjusted": adjust(roles),
        "DML": fit_effects(roles, dml, SEED).effects.theta(np.array([MIDDLE])),
    }


def adjust(roles: Roles) -> Floats:
    """Least squares of Y on [1, X, Z]; returns the coefficients of Z."""
    columns = np.hstack([np.ones((roles.n_runs, 1)), roles.X, roles.Z])
    return np.asarray(np.linalg.lstsq(columns, roles.Y, rcond=None)[0][1 + roles.X.shape[1] :])


def draw_rows(roles: Roles, domain: int, strength: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Keep rows so that the log share of a domain goes with the size of the model."""
    z = (roles.Z[:, domain] - roles.Z[:, domain].mean()) / roles.Z[:, domain].std()
    u = np.where(roles.X[:, 0] > MIDDLE, 1.0, -1.0)
    return np.flatnonzero(rng.uniform(size=roles.n_runs) < 1.0 / (1.0 + np.exp(-strength * z * u)))


def measure(roles: Roles, target: str, strength: float, n_repeats: int, bar: tqdm[Any]) -> list[Row]:
    """Repeat the loss of rows and compare the estimators with the full table."""
    domain = roles.domains.index(target)
    truth = adjust(roles)
    rng = np.random.default_rng([SEED, domain, int(10 * strength)])
    sizes, errors = [], []
    for _ in range(n_repeats):
        kept = draw_rows(roles, domain, strength, rng)
        found = estimate(roles.take(kept))
        sizes.append(len(kept))
        errors.append([found[name] - truth for name in found])
        bar.update(1)
    stacked = np.array(errors)  # (repeats, estimators, K)
    own, rmse = stacked[:, :, domain], np.sqrt((stacked**2).mean(axis=2))
    root = np.sqrt(n_repeats)
    return [
        Row(
            target,
            strength,
            float(np.mean(sizes)),
            name,
            float(truth[domain]),
            float(own[:, i].mean()),
            float(own[:, i].std(ddof=1) / root),
            float(rmse[:, i].mean()),
            float(rmse[:, i].std(ddof=1) / root),
        )
        for i, name in enumerate(found)
    ]


def print_table(rows: list[Row]) -> None:
    print("\n| target | strength | rows | truth | estimator | bias of its own theta | RMSE over all thetas |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        left = f"| {row.target} | {row.strength:g} | {row.n_kept:.0f} | {row.truth:+.3f} | {row.estimator} "
        print(left + f"| {row.bias:+.4f} ± {row.bias_se:.4f} | {row.rmse:.4f} ± {row.rmse_se:.4f} |")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=Path, metavar="DATA_DIR", help="folder with the CSV files of RegMix")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure there")
    parser.add_argument("--full", action="store_true", help=f"every target, not {len(TARGETS)} alone")
    parser.add_argument("--repeats", type=int, default=N_REPEATS, help=f"a cell, 2 or more ({N_REPEATS})")
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    n_repeats = options.repeats
    try:
        if n_repeats < 2:
            raise AnalysisError(f"--repeats {n_repeats}: a standard error needs 2 or more.")
        tables = read_regmix_tables(options.data_dir)
        known = tables["test_1m"].targets
        targets = known if options.full else tuple(name for name in TARGETS if name in known) or known[:1]
        rows = []
        with tqdm(total=len(targets) * len(STRENGTHS) * n_repeats, desc="repetitions", mininterval=1) as bar:
            for target in targets:
                roles = pool_sizes(tables, target)
                for strength in STRENGTHS:
                    rows += measure(roles, target, strength, n_repeats, bar)
    except CausalMixError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    print_table(rows)
    seconds = round(time.perf_counter() - start, 1)
    print(f"\nseed {SEED}, {n_repeats} repetitions, {seconds} seconds")
    if options.json:
        content = {"benchmark": "deconfound", "date": datetime.now(UTC).date().isoformat(), "seed": SEED}
        content |= {"full": options.full, "n_repeats": n_repeats, "seconds": seconds}
        write_json(options.json, content | {"rows": [asdict(row) for row in rows]})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
