"""How long does a fit take? Ours against econml's CausalForestDML(1000 trees, LightGBM), on the same tables.

The peer cross-fits LightGBM for outcome and treatment inside econml and grows 1000 trees, at the faster of one
thread and all cores. Ours, on one thread, cross-fits once, outside, and grows 1000 trees by the cheaper criterion, or
fits the Gaussian process, which holds both nuisances itself. Nobody is told the design. All are judged by the
out-of-fold R-loss on one set of residuals, of the known truth. Beside other work the peer's threads wait for each
other: its row of all cores then says little, and the ratio is to the other.

    python benchmarks/estimator_speed.py [--full] [--repetitions N] [--cells K=3] [--json FILE]
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from simulated import parse_options, write_result

from analysis.estimators.fit import fit_effects
from analysis.roles import Roles, assign_roles
from analysis.simulate.repeat import load_estimator, mean_of
from analysis.simulate.world import World, draw_table, make_world
from causalmix.config import DialsConfig, EstimatorConfig, NuisanceConfig, OutcomeConfig

Floats = NDArray[np.float64]
Predict = Callable[[Floats], Floats]

DOMAINS = (3, 7, 15)
AIMS = {7: 5.0, 15: 10.0}
N_RUNS, N_WARMING = 512, 200


def fit_peer(roles: Roles, n_jobs: int) -> Predict:
    """Fit econml as its documentation does: LightGBM for both nuisances, 1000 trees."""
    from econml.dml import CausalForestDML
    from lightgbm import LGBMRegressor
    from sklearn.multioutput import MultiOutputRegressor

    settings: dict[str, Any] = {"n_estimators": 100, "learning_rate": 0.05, "num_leaves": 15, "verbose": -1}
    one = LGBMRegressor(**settings, n_jobs=n_jobs, random_state=0)
    many = MultiOutputRegressor(LGBMRegressor(**settings, n_jobs=n_jobs, random_state=0))
    model = CausalForestDML(model_y=one, model_t=many, cv=5, n_estimators=1000, random_state=0, n_jobs=n_jobs)
    model.fit(roles.Y, roles.Z, X=roles.X)
    return lambda X: np.asarray(model.const_marginal_effect(X))


def fit_ours(roles: Roles, cfg: EstimatorConfig) -> Predict:
    """Fit one of our estimators; the treatment's mean is estimated too, as the peer's is."""
    return fit_effects(roles, cfg, 0).effects.thetas


def load_ours(name: str) -> EstimatorConfig:
    """Read an estimator's file; LightGBM where it needs nuisances, as the peer has."""
    nuisance = NuisanceConfig(treatment="lightgbm")
    return dataclasses.replace(load_estimator(name), interval="own", nuisance=nuisance)


def judge(world: World, thetas: Predict, seed: int) -> float:
    """Return the R-loss on a fresh table with both nuisances known, over that of the true effects."""
    table = draw_table(world, seed + 10_000)
    X = table.frame[[f"state.x{j}" for j in range(world.dials.n_features)]].to_numpy()
    Z = np.log(table.frame[[f"mixture.{name}" for name in world.domains]].to_numpy())
    z = Z - world.mean_log(X, seed)
    truth = (world.theta(X) * z).sum(axis=1)
    noise = table.frame["outcome.avg_dev"].to_numpy() - world.level(X) - (world.theta(X) * Z).sum(axis=1)
    return float(np.mean((truth + noise - (thetas(X) * z).sum(axis=1)) ** 2) / np.mean(noise**2))


def time_fit(fit: Callable[[], Predict], X: Floats) -> tuple[float, Predict]:
    """Return the seconds of a fit with its effects at the runs' own states."""
    start = time.perf_counter()
    thetas = fit()
    thetas(X)
    return time.perf_counter() - start, thetas


def main() -> None:
    """Print one line a number of domains and estimator."""
    started = time.perf_counter()
    options = parse_options(str(__doc__), repetitions=2, full=5)
    print(f"{'K':>3} {'estimator':36} {'seconds':>18} {'times faster':>12} {'R-loss over the truth':>22}")
    rows, ours = [], {name: load_ours(name) for name in ("causal_forest", "varying_coefficient_gp")}
    for n_domains in DOMAINS:
        if options.cells not in f"K={n_domains}":
            continue
        arms: dict[str, Callable[[Roles], Predict]] = {
            "econml, one thread": lambda roles: fit_peer(roles, 1),
            "econml, all cores": lambda roles: fit_peer(roles, -1),
        }
        arms |= {name: functools.partial(fit_ours, cfg=cfg) for name, cfg in ours.items()}
        seconds: dict[str, list[float]] = {name: [] for name in arms}
        losses: dict[str, list[float]] = {name: [] for name in arms}
        for seed in range(options.repetitions):
            world = make_world(DialsConfig(n_runs=N_RUNS, n_domains=n_domains, knows_design=False), seed)
            roles = assign_roles(draw_table(world, seed), "signal", ours["causal_forest"], OutcomeConfig())
            for fit in arms.values() if not seed else ():  # imports, and pages of memory, are not what is timed
                fit(roles.take(np.arange(N_WARMING)))
            for name, fit in arms.items():
                taken, thetas = time_fit(lambda fit=fit, roles=roles: fit(roles), roles.X)  # type: ignore[misc]
                seconds[name].append(taken)
                losses[name].append(judge(world, thetas, seed))
        peer = min(np.mean(seconds["econml, one thread"]), np.mean(seconds["econml, all cores"]))
        for name in arms:
            mean, loss = mean_of(seconds[name]), mean_of(losses[name])
            ratio = float(peer / mean.value)
            print(f"{n_domains:>3} {name:36} {mean!s:>18} {ratio:>12.1f} {loss!s:>22}", flush=True)
            rows.append(
                {
                    "n_domains": n_domains,
                    "estimator": name,
                    "seconds": dataclasses.asdict(mean),
                    "times_faster": ratio,
                    "r_loss": dataclasses.asdict(loss),
                }
            )
    write_result(options.json, {"repetitions": options.repetitions, "n_runs": N_RUNS, "aims": AIMS}, rows, started)


if __name__ == "__main__":
    main()
