"""How many runs does it take? Regret against the number of runs, and against 512 runs of the plain method.

The peer: 512 runs with Dirichlet(1) mixtures, econml's forest on LightGBM's nuisances, CausalMix-A without a region.
Ours: the Gaussian process with a curve, CausalMix-A in the box of floors and caps, on two designs: `default`,
log-uniform concentrations from K/2 to 5 K, and `wide`, a concentration of .12 K (mixture.concentration_min and _max),
whose mixtures lie near single domains and pairs of them. The aim is at most 128 runs.

`needed` is the first size whose mean regret is at most the peer's, `for sure` the first that is below it by two
standard errors of the difference, paired by world. `oracle` knows the form of the effects and both nuisances, and has
128 runs of the wide design.

    python benchmarks/fewer_runs.py [--full] [--repetitions N] [--cells TEXT] [--workers N] [--json FILE]
        [--folder DIR]   keeps every sweep's scores; typed again, the command goes on from them
"""

from __future__ import annotations

import argparse
import dataclasses
import time

import numpy as np
from numpy.typing import NDArray
from simulated import bend, make_arm, parse_options, plain_causalmix, write_result

from analysis.simulate.repeat import mean_of, repeat
from analysis.simulate.trial import Arm, Trial
from causalmix.config import DialsConfig

SIZES = (48, 64, 96, 128, 192, 256)
PEER_RUNS, AIM = 512, 128
SURE = 2.0  # paired standard errors
DESIGNS: dict[str, dict[str, float]] = {
    "default": {},
    "wide": {"concentration_min": 0.12, "concentration_max": 0.12},
}
KINDS: dict[str, dict[str, object]] = {
    **{kind: {"heterogeneity": kind} for kind in ("none", "linear", "smooth", "step", "tree")},
    "linear, bent": {"heterogeneity": "linear", "curvature": 0.5},
}
Floats = NDArray[np.float64]


def deal(dials: DialsConfig, arm: Arm, options: argparse.Namespace, label: str) -> list[Trial]:
    """Return the sweeps of one arm; the same worlds whatever the dials of the design."""
    return repeat(
        dials,
        {"arm": arm},
        n_repetitions=options.repetitions,
        n_targets=10,
        n_workers=options.workers,
        label=label,
        folder=options.folder,
    )


def list_regrets(trials: list[Trial]) -> Floats:
    """Return the regret of each sweep."""
    return np.array([trial.policies["arm"].regret for trial in trials])


def find_size(ours: dict[int, Floats], peer: Floats, sure: float) -> int | None:
    """Return the first size whose mean lies below the peer's by so many standard errors of the paired difference."""
    for n, regrets in ours.items():
        difference = mean_of(list(regrets - peer))
        if difference.value <= -sure * difference.error or (not sure and difference.value <= 0):
            return n
    return None


def spell(size: int | None) -> str:
    """Return a size for the table."""
    return f"> {SIZES[-1]}" if size is None else str(size)


def main() -> None:
    """Print two lines a kind of effects: the peer's regret, ours by size, and the size that reaches the peer's."""
    started = time.perf_counter()
    options = parse_options(str(__doc__), repetitions=8, full=100)
    print(
        f"{'effects':13}{'design':9}{'peer, 512 runs':>15} "
        + " ".join(f"{n:>15}" for n in SIZES)
        + f" {'oracle, 128':>15}   needed   for sure"
    )
    rows, met = [], 0
    for kind, dials in KINDS.items():
        if options.cells not in kind:
            continue
        peer_dials = DialsConfig(n_runs=PEER_RUNS, concentration_min=1.0, concentration_max=1.0, **dials)  # type: ignore[arg-type]
        peer = list_regrets(deal(peer_dials, plain_causalmix(), options, f"{kind}, peer"))
        row: dict[str, object] = {"effects": kind, "peer": dataclasses.asdict(mean_of(list(peer))), "designs": {}}
        sizes = []
        for design, concentrations in DESIGNS.items():
            arm = bend(make_arm("varying_coefficient_gp", "causalmix_a", region="box"))
            trials = {
                n: deal(DialsConfig(n_runs=n, **dials, **concentrations), arm, options, f"{kind}, {design}, {n}")  # type: ignore[arg-type]
                for n in SIZES
            }
            ours = {n: list_regrets(each) for n, each in trials.items()}
            attained = mean_of([trial.attained for trial in trials[AIM]])
            needed, sure = find_size(ours, peer, 0.0), find_size(ours, peer, SURE)
            sizes.append(needed)
            print(
                f"{kind:13}{design:9}{mean_of(list(peer))!s:>15} "
                + " ".join(f"{mean_of(list(regrets))!s:>15}" for regrets in ours.values())
                + f" {attained!s:>15} {spell(needed):>8} {spell(sure):>10}",
                flush=True,
            )
            row["designs"] |= {  # type: ignore[operator]
                design: {
                    "needed": needed,
                    "for_sure": sure,
                    "oracle": dataclasses.asdict(attained),
                    "ours": {str(n): dataclasses.asdict(mean_of(list(regrets))) for n, regrets in ours.items()},
                }
            }
        met += any(size is not None and size <= AIM for size in sizes)
        rows.append(row)
    print(f"at most {AIM} runs, with one design or the other, for {met} of {len(rows)} kinds of effects")
    write_result(options.json, {"repetitions": options.repetitions, "aim": AIM}, rows, started)


if __name__ == "__main__":
    main()
