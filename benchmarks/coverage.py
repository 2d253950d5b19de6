"""Do the intervals hold the truth? Coverage and width of theta and of a policy's gain, on sweeps with known effects.

Nominal 95%. Forests are shown raw and judged by the process's posterior (estimator.interval=gp); widths stand
beside those of an oracle that knows both nuisances and the form of the effects. Gains are of CausalMix-A.

    python benchmarks/coverage.py [--full] [--repetitions N] [--cells TEXT] [--workers N] [--json FILE]
"""

from __future__ import annotations

import dataclasses
import itertools
import time

import numpy as np
from simulated import parse_options, plain_causalmix, spell_cell, write_result

from analysis.simulate.oracle import oracle_width
from analysis.simulate.repeat import load_estimator, load_policy, repeat, summarise_effects, summarise_policies
from analysis.simulate.trial import Arm, draw_targets
from analysis.simulate.world import make_world
from causalmix.config import DialsConfig

LEAST, WIDEST = 0.93, 1.5


def list_cells(*, full: bool) -> list[dict[str, object]]:
    """Kinds of effects, randomised with a known design and confounded with an unknown one."""
    cells: list[dict[str, object]] = []
    sizes = (256, 512) if full else (256,)
    for n, kind, confounding in itertools.product(sizes, ("linear", "smooth", "step", "tree"), (0.0, 1.0)):
        cells.append({"n_runs": n, "heterogeneity": kind, "confounding": confounding, "knows_design": not confounding})
    return cells


def make_arms() -> dict[str, Arm]:
    """Return the estimators, each with CausalMix-A."""
    policy = load_policy("causalmix_a")
    forest = plain_causalmix()
    judged = dataclasses.replace(load_estimator("causal_forest"), name="forest, judged", n_trees=500, interval="gp")
    linear = dataclasses.replace(load_estimator("linear_dml"), name="linear_dml", interval="own")
    process = load_estimator("varying_coefficient_gp")
    smooth = dataclasses.replace(process, name="gp without steps", steps=False)
    estimators = {"plain forest": forest.estimator, "forest, judged": judged, "linear_dml": linear}
    estimators |= {"gp without steps": smooth, "varying_coefficient_gp": process}
    return {name: Arm(estimator, policy) for name, estimator in estimators.items()}


def main() -> None:
    """Print one line a cell and estimator."""
    started = time.perf_counter()
    options = parse_options(str(__doc__), repetitions=40, full=400)
    print(f"{'cell':52} {'estimator':24} {'theta':>14} {'width/oracle':>12} {'gain':>14} {'verdict':>8}")
    rows = []
    for cell in list_cells(full=options.full):
        name = spell_cell(**cell)
        if options.cells not in name:
            continue
        dials = DialsConfig(**cell)  # type: ignore[arg-type]
        trials = repeat(
            dials, make_arms(), n_repetitions=options.repetitions, n_targets=10, n_workers=options.workers, label=name
        )
        effects, gains = summarise_effects(trials), summarise_policies(trials)
        widths = [
            oracle_width(make_world(dials, seed), seed, draw_targets(make_world(dials, seed), 10, seed))
            for seed in range(min(options.repetitions, 40))
        ]
        oracle = float(np.mean(widths))
        for label, row in effects.items():
            theta, gain = row["coverage"], gains[label]["coverage"]
            ratio = row["width"].value / oracle
            # Below the aim only where the Monte-Carlo interval of the coverage lies below it.
            fails = min(mean.value + 1.96 * mean.error for mean in (theta, gain)) < LEAST
            verdict = "low" if fails else "wide" if ratio > WIDEST else "ok"
            print(f"{name:52} {label:24} {theta!s:>14} {ratio:>12.2f} {gain!s:>14} {verdict:>8}", flush=True)
            rows.append(
                {
                    "cell": name,
                    "estimator": label,
                    "theta": dataclasses.asdict(theta),
                    "width_ratio": ratio,
                    "gain": dataclasses.asdict(gain),
                    "rmse": row["rmse"].value,
                    "verdict": verdict,
                }
            )
    write_result(options.json, {"repetitions": options.repetitions, "aim": [LEAST, WIDEST]}, rows, started)


if __name__ == "__main__":
    main()
