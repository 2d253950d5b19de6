"""Do the intervals hold the truth? Coverage and width of theta and of a policy's gain, on sweeps with known effects.

Nominal 95%. Forests are shown raw and judged by the process's posterior (estimator.interval=gp). Widths stand beside
those of an oracle that knows both nuisances and the form of the effects, and `ideal` is the width of one who knows
what worlds are like, but not which this is: less cannot be had. Gains are of CausalMix-A.

    python benchmarks/coverage.py [--full] [--repetitions N] [--cells TEXT] [--estimators TEXT] [--workers N]
        [--folder DIR [--minutes N]] [--json FILE]

With --folder every block of ten repetitions is kept there: a later call with the same options goes on where
this one was ended, and --minutes ends it. Blocks of another version of the code are not told apart: take a new folder.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from typing import Any

import numpy as np
from blocks import Block, keep_blocks
from simulated import parse_options, plain_causalmix, spell_cell, write_result

from analysis.simulate.ideal import ideal_width
from analysis.simulate.oracle import oracle_width
from analysis.simulate.repeat import load_estimator, load_policy, mean_of
from analysis.simulate.trial import Arm, draw_targets, run_trial
from analysis.simulate.world import make_world
from causalmix.config import DialsConfig

LEAST, WIDEST = 0.93, 1.5
N_TARGETS, N_BOUNDS = 10, 40  # repetitions that the oracle's width, and the ideal one, are means over
BOUNDS = "oracle and ideal"
SCORES = ("theta", "width", "rmse", "gain", "gain_width")


def list_cells() -> list[dict[str, Any]]:
    """Kinds of effects, randomised with a known design and confounded with an unknown one."""
    cells = itertools.product(("linear", "smooth", "step", "tree"), (0.0, 1.0))
    return [{"heterogeneity": kind, "confounding": c, "knows_design": not c} for kind, c in cells]


def make_arms() -> dict[str, Arm]:
    """Return the estimators, each with CausalMix-A."""
    policy = load_policy("causalmix_a")
    forest = plain_causalmix()
    judged = dataclasses.replace(load_estimator("causal_forest"), name="forest, judged", n_trees=500, interval="gp")
    linear = dataclasses.replace(load_estimator("linear_dml"), name="linear_dml", interval="own")
    process = load_estimator("varying_coefficient_gp")
    smooth = dataclasses.replace(process, name="gp without steps", steps=False)
    estimators = {"varying_coefficient_gp": process, "gp without steps": smooth, "linear_dml": linear}
    estimators |= {"plain forest": forest.estimator, "forest, judged": judged}
    return {name: Arm(estimator, policy) for name, estimator in estimators.items()}


def work(block: Block) -> list[list[float]]:
    """Return a row of scores a repetition: of an estimator, or the two widths that stand beside it."""
    dials, rows = DialsConfig(**dict(block.cell)), []
    for seed in block.seeds:
        world = make_world(dials, seed)
        if block.arm == BOUNDS:
            states = draw_targets(world, N_TARGETS, seed)
            rows.append([oracle_width(world, seed, states), ideal_width(world, seed, states)])
            continue
        arm = make_arms()[block.arm]
        trial = run_trial(world, seed, {block.arm: arm}, n_targets=N_TARGETS)
        effect, gain = trial.effects[arm.estimator.name], trial.policies[block.arm]
        rows.append([effect.coverage, effect.width, effect.rmse, gain.coverage, gain.width])
    return rows


def judge(cell: str, estimator: str, rows: list[list[float]], bounds: list[list[float]]) -> dict[str, Any]:
    """Return the line of one cell and estimator."""
    scores = {name: mean_of(column) for name, column in zip(SCORES, zip(*rows))}
    oracle, ideal = np.mean(bounds, axis=0)
    ratio = scores["width"].value / oracle
    # Below the aim only where the Monte-Carlo interval of the coverage lies below it.
    fails = min(scores[each].value + 1.96 * scores[each].error for each in ("theta", "gain")) < LEAST
    row: dict[str, Any] = {name: dataclasses.asdict(scores[name]) for name in ("theta", "gain", "gain_width")}
    row |= {"width_ratio": ratio, "ideal_ratio": ideal / oracle, "rmse": scores["rmse"].value}
    row |= {"cell": cell, "estimator": estimator, "repetitions": len(rows)}
    return row | {"verdict": "low" if fails else "wide" if ratio > WIDEST else "ok"}


def print_row(row: dict[str, Any]) -> None:
    """Print one line."""
    theta, gain = (f"{row[key]['value']:.3f} +- {row[key]['error']:.3f}" for key in ("theta", "gain"))
    print(
        f"{row['cell']:60} {row['estimator']:22} {row['repetitions']:>5} {theta:>14} {row['width_ratio']:>12.2f} "
        f"{row['ideal_ratio']:>6.2f} {gain:>14} {row['gain_width']['value']:>7.2f} {row['verdict']:>7}",
        flush=True,
    )


def main() -> None:
    """Print one line a cell and estimator."""
    started = time.perf_counter()
    options = parse_options(str(__doc__), repetitions=10, full=400, restarts=True)
    cells = {spell_cell(**cell): cell for cell in list_cells()}
    cells = {name: cell for name, cell in cells.items() if options.cells in name}
    arms = [name for name in make_arms() if options.estimators in name]
    n_bounds = min(options.repetitions, N_BOUNDS)
    done = keep_blocks(work, cells, {BOUNDS: n_bounds} | dict.fromkeys(arms, options.repetitions), options)
    print(
        f"{'cell':60} {'estimator':22} {'runs':>5} {'theta':>14} {'width/oracle':>12} {'ideal':>6} {'gain':>14} "
        f"{'width':>7} {'verdict':>7}"
    )
    rows = []
    for name, arm in itertools.product(cells, arms):
        if done[name, arm] and done[name, BOUNDS]:
            rows.append(judge(name, arm, done[name, arm], done[name, BOUNDS]))
            print_row(rows[-1])
    write_result(options.json, {"repetitions": options.repetitions, "aim": [LEAST, WIDEST]}, rows, started)


if __name__ == "__main__":
    main()
