"""What a design's runs are worth, counted in runs of Dirichlet(1), where a quadratic mixture model is fitted.

A design of n runs is judged by the average prediction variance of Scheffe's quadratic model over the simplex,
``tr[(F'F)^-1 M]`` (noise variance one), and by the number of independent Dirichlet(1) mixtures that reach the same.
Medians over repetitions (another seed each), standard errors by bootstrap.

    python benchmarks/designs.py [--full] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from causalmix.config import MixtureConfig
from causalmix.mixture.designs.build import build_design
from causalmix.mixture.designs.quadratic import average_variance, count_terms, moment_matrix
from causalmix.mixture.simplex import default_floor

Floats = NDArray[np.float64]

DOMAINS = (3, 5, 7)
DESIGNS: dict[str, dict[str, float | str]] = {
    "optimal": {},
    "grid": {},
    "sobol": {},
    "dirichlet(1)": {"kind": "dirichlet", "concentration_min": 1.0, "concentration_max": 1.0},
    "dirichlet": {},
    "dirichlet_confounded": {},
    "regmix": {},
    "perturbation": {},
}
SIZES = (1.25, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # Dirichlet(1) runs a term of the model
N_BOOTSTRAP = 200


@dataclass(frozen=True)
class Row:
    """One design at one number of domains.

    ``variance`` is None where the design cannot tell the model's terms apart; ``worth`` there, and where fewer
    Dirichlet(1) runs than were tried would do.
    """

    n_domains: int
    design: str
    n_runs: int
    n_repetitions: int
    variance: float | None
    variance_error: float | None
    worth: float | None
    worth_error: float | None
    seconds: float


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="200 repetitions instead of 40, and 4 runs a term too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here")
    options = parser.parse_args(arguments)
    n_repetitions = 200 if options.full else 40
    start = time.perf_counter()
    rows: list[Row] = []
    print(f"{'K':>2} {'design':22} {'runs':>5} {'average variance':>18} {'worth in Dirichlet(1) runs':>28} {'s':>8}")
    for n_domains in DOMAINS:
        curve = measure_curve(n_domains, 2 * n_repetitions)
        for a_term in (2, 4) if options.full else (2,):
            for name in DESIGNS if a_term == 2 else [name for name in DESIGNS if name != "perturbation"]:
                rows.append(measure_design(name, n_domains, a_term * count_terms(n_domains), n_repetitions, curve))
                print(spell_row(rows[-1]), flush=True)
    seconds = time.perf_counter() - start
    print(f"{seconds:.0f} s; medians over {n_repetitions} repetitions (optimal: 5, perturbation: 1)")
    if options.json:
        content = {
            "command": "python benchmarks/designs.py" + (" --full" if options.full else ""),
            "date": datetime.now(UTC).date().isoformat(),
            "seconds": round(seconds, 1),
            "rows": [asdict(row) for row in rows],
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def measure_curve(n_domains: int, n_repetitions: int) -> dict[int, Floats]:
    """Average variances of Dirichlet(1) designs: runs -> one value a repetition."""
    moments = moment_matrix(np.ones(n_domains))
    rng = np.random.default_rng(n_domains)
    sizes = [math.ceil(size * count_terms(n_domains)) for size in SIZES]
    return {
        n: np.array([average_variance(rng.dirichlet(np.ones(n_domains), n), moments) for _ in range(n_repetitions)])
        for n in sizes
    }


def measure_design(name: str, n_domains: int, n: int, n_repetitions: int, curve: dict[int, Floats]) -> Row:
    moments = moment_matrix(np.ones(n_domains))
    n = 4 * n_domains + 1 if name == "perturbation" else n
    n_repetitions = count_repetitions(name, n_repetitions)
    values, seconds = [], 0.0
    for seed in range(n_repetitions):
        start = time.perf_counter()
        points = draw_points(name, n_domains, n, seed)
        seconds += (time.perf_counter() - start) / n_repetitions
        values.append(average_variance(points, moments))
    if not np.isfinite(np.median(values)):
        return Row(n_domains, name, n, n_repetitions, None, None, None, None, seconds)
    rng = np.random.default_rng(0)
    variance = np.array([np.median(rng.choice(values, len(values))) for _ in range(N_BOOTSTRAP)])
    resampled = [{m: rng.choice(given, len(given)) for m, given in curve.items()} for _ in range(N_BOOTSTRAP)]
    worths = [count_worth(value, given) for value, given in zip(variance, resampled)]
    middle = float(np.median(values))
    worth = count_worth(middle, curve)
    worth_error = None if worth is None else float(np.std([value or min(curve) for value in worths], ddof=1))
    spread = float(variance.std(ddof=1))
    return Row(n_domains, name, n, n_repetitions, middle, spread, worth, worth_error, seconds)


def draw_points(name: str, n_domains: int, n: int, seed: int) -> Floats:
    """Draw n mixtures of a design (n, K), the floor taken off again: the model is the same with it and without."""
    domains = tuple(f"d{k}" for k in range(n_domains))
    levels = next(m for m in range(4, n) if math.comb(m + n_domains - 1, m) >= n)  # a lattice of n points or more
    settings = {"kind": name, "prior": "equal", "design_seed": seed, "n_points": n, "levels": levels} | DESIGNS[name]
    cfg = MixtureConfig(name=name, **settings)  # type: ignore[arg-type]
    rng = np.random.default_rng([seed, n_domains])
    weights = []
    for index in range(n):
        if index == 0 or name == "dirichlet_confounded":  # a state for every run
            state = {"score": dict(zip(domains, rng.standard_normal(n_domains).tolist()))}
            design = build_design(
                cfg,
                domains=domains,
                natural=dict.fromkeys(domains, 1 / n_domains),
                available=dict.fromkeys(domains, 10**6),
                n_samples=10**4,
                state=state,
            )
        weights.append(design.sample(rng, index).weights)
    floor = 0.0 if name == "perturbation" else default_floor(n_domains)
    return np.asarray((np.array(weights) - floor) / (1 - n_domains * floor))


def count_worth(variance: float, curve: dict[int, Floats]) -> float | None:
    """Find the Dirichlet(1) runs with this median variance, log-log; beyond the curve it falls as 1 / n."""
    sizes = np.array(list(curve), dtype=np.float64)
    medians = np.array([np.median(values) for values in curve.values()])
    if variance > medians[0]:
        return None
    if variance <= medians[-1]:
        return float(sizes[-1] * medians[-1] / variance)
    return float(np.exp(np.interp(-np.log(variance), -np.log(medians), np.log(sizes))))


def count_repetitions(name: str, n_repetitions: int) -> int:
    """Few where they hardly differ (optimal), one where not at all (perturbation)."""
    return {"optimal": 5, "perturbation": 1}.get(name, n_repetitions)


def spell_row(row: Row) -> str:
    if row.variance is None:
        values = f"{'terms not told apart':>18} {'-':>28}"
    else:
        variance = f"{row.variance:.3g} +- {row.variance_error:.2g}"
        least = math.ceil(SIZES[0] * count_terms(row.n_domains))
        worth = f"below {least}"
        if row.worth is not None:
            worth = f"{row.worth:.0f} +- {row.worth_error:.1f} ({row.worth / row.n_runs:.2f} x)"
        values = f"{variance:>18} {worth:>28}"
    return f"{row.n_domains:>2} {row.design:22} {row.n_runs:>5} {values} {row.seconds:>8.3f}"


if __name__ == "__main__":
    main()
