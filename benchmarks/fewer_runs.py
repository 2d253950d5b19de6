"""How many runs does it take? Regret against the number of runs, and against 512 runs of the plain method.

The peer: 512 runs with Dirichlet(1) mixtures, econml's forest on LightGBM's nuisances, CausalMix-A without a region.
Ours: the default design (log-uniform concentration), the Gaussian process, CausalMix-A within one nat. The aim is at
most 128 runs.

    python benchmarks/fewer_runs.py [--full] [--repetitions N] [--cells TEXT] [--workers N] [--json FILE]
"""

from __future__ import annotations

import dataclasses
import time

from simulated import make_arm, parse_options, plain_causalmix, write_result

from analysis.simulate.repeat import Mean, repeat, summarise_policies
from analysis.simulate.trial import Arm
from causalmix.config import DialsConfig

SIZES = (48, 64, 96, 128, 192, 256)
PEER_RUNS, AIM = 512, 128
RHO = 1.0  # nats, as in policy_regret.py
KINDS = ("none", "linear", "smooth", "step", "tree")


def measure(dials: DialsConfig, arm: Arm, repetitions: int, workers: int, label: str) -> Mean:
    """Return the mean regret of one arm."""
    trials = repeat(dials, {"arm": arm}, n_repetitions=repetitions, n_targets=10, n_workers=workers, label=label)
    return summarise_policies(trials)["arm"]["regret"]


def main() -> None:
    """Print one line a kind of effects: the peer's regret, ours by size, and the size that reaches the peer's."""
    started = time.perf_counter()
    options = parse_options(str(__doc__), repetitions=16, full=100)
    print(f"{'effects':10} {'peer, 512 runs':>16} " + " ".join(f"{n:>16}" for n in SIZES) + "   runs needed")
    rows = []
    for kind in KINDS:
        if options.cells not in kind:
            continue
        peer_dials = DialsConfig(n_runs=PEER_RUNS, heterogeneity=kind, concentration_min=1.0, concentration_max=1.0)
        settings = (options.repetitions, options.workers)
        peer = measure(peer_dials, plain_causalmix(), *settings, f"{kind}, peer")
        ours = {}
        for n in SIZES:
            dials = DialsConfig(n_runs=n, heterogeneity=kind)
            ours[n] = measure(
                dials,
                make_arm("varying_coefficient_gp", "causalmix_a", region="kl", rho=RHO),
                *settings,
                f"{kind}, {n} runs",
            )
        enough = [n for n in SIZES if ours[n].value <= peer.value]
        needed = str(enough[0]) if enough else f"more than {SIZES[-1]}"
        verdict = "" if enough and enough[0] <= AIM else "  misses the aim"
        print(
            f"{kind:10} {peer!s:>16} "
            + " ".join(f"{mean!s:>16}" for mean in ours.values())
            + f" {needed:>13}{verdict}",
            flush=True,
        )
        rows.append(
            {
                "effects": kind,
                "peer": dataclasses.asdict(peer),
                "needed": needed,
                "ours": {str(n): dataclasses.asdict(mean) for n, mean in ours.items()},
            }
        )
    write_result(options.json, {"repetitions": options.repetitions, "aim": AIM}, rows, started)


if __name__ == "__main__":
    main()
