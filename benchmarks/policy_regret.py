"""How much is lost against the best mixture? Regret of every policy and baseline, as a share of Equal's.

Cells turn the dials of simulated sweeps: kind of effects, confounding (design unknown), overlap, curvature, noise,
runs and domains. The aim: CausalMix-A or -S with a region at most half the regret of the better of RegMix and plain
CausalMix-A (a forest on LightGBM's nuisances, no region) in at least 90% of cells. Cells where it fails are named.

    python benchmarks/policy_regret.py [--full] [--repetitions N] [--cells TEXT] [--workers N] [--json FILE]
"""

from __future__ import annotations

import dataclasses
import itertools
import time

from simulated import make_arm, parse_options, plain_causalmix, spell_cell, write_result

from analysis.simulate.repeat import Summary, repeat, summarise_policies
from analysis.simulate.trial import Arm
from causalmix.config import DialsConfig

SHARE, HALF = 0.9, 0.5
OURS = ("A, region", "S, region")
PEERS = ("RegMix", "plain A")
GP = "varying_coefficient_gp"
RHO = 1.0  # nats: wider than the default, as these worlds hold no surprise that the default guards against


def list_cells() -> list[dict[str, object]]:
    """16 cells of three dials at 256 runs, and one more for every other dial and kind of effects."""
    kinds = ("none", "linear", "step", "tree")
    cells: list[dict[str, object]] = [
        {"heterogeneity": kind, "confounding": confounding, "curvature": curvature, "knows_design": not confounding}
        for kind, confounding, curvature in itertools.product(kinds, (0.0, 1.0), (0.0, 0.5))
    ]
    others: list[dict[str, object]] = [
        {"concentration_min": 10.0, "concentration_max": 20.0},
        {"noise": 3.0},
        {"n_runs": 128},
        {"n_runs": 512},
        {"n_domains": 10},
    ]
    cells += [{"heterogeneity": kind, **dial} for dial, kind in itertools.product(others, ("linear", "step"))]
    return cells


def make_arms() -> dict[str, Arm]:
    """Return the policies by the names of the table."""
    return {
        "Equal": make_arm(GP, "equal"),
        "best run": make_arm(GP, "best_observed"),
        "RegMix": make_arm(GP, "regmix"),
        "mixing law": make_arm(GP, "mixing_law"),
        "mixture GP": make_arm(GP, "mixture_gp"),
        "plain A": plain_causalmix("causalmix_a"),
        "plain S": plain_causalmix("causalmix_s"),
        "A, region": make_arm(GP, "causalmix_a", region="kl", rho=RHO),
        "S, region": make_arm(GP, "causalmix_s", region="kl", rho=RHO, kappa=0.5),
    }


def judge(summary: Summary) -> float:
    """Return the better of ours over the better of the peers."""
    regret = {name: row["regret"].value for name, row in summary.items()}
    return min(regret[name] for name in OURS) / min(regret[name] for name in PEERS)


def main() -> None:
    """Print one line a cell."""
    started = time.perf_counter()
    options = parse_options(str(__doc__), repetitions=6, full=60)
    arms = make_arms()
    print(f"{'cell':58} {'Equal':>13} " + " ".join(f"{name:>12}" for name in arms if name != "Equal") + "  ours/peers")
    rows, kept = [], []
    for cell in list_cells():
        name = spell_cell(**cell)
        if options.cells not in name:
            continue
        trials = repeat(
            DialsConfig(**cell),  # type: ignore[arg-type]
            arms,
            n_repetitions=options.repetitions,
            n_targets=8,
            n_workers=options.workers,
            label=name,
        )
        summary = summarise_policies(trials)
        equal, ratio = summary["Equal"]["regret"], judge(summary)
        kept.append(ratio <= HALF)
        shares = [row["regret"].value / equal.value for label, row in summary.items() if label != "Equal"]
        spelled = " ".join(f"{share:>12.2f}" for share in shares)
        print(f"{name:58} {equal!s:>13} {spelled} {ratio:>11.2f}{'' if kept[-1] else '  misses'}", flush=True)
        scores = {label: {k: dataclasses.asdict(v) for k, v in row.items()} for label, row in summary.items()}
        rows.append({"cell": name, "ratio": ratio, "policies": scores})
    print(f"at most half of the better peer's regret in {sum(kept)} of {len(kept)} cells (aim {SHARE:.0%})")
    write_result(options.json, {"repetitions": options.repetitions, "aim": [SHARE, HALF]}, rows, started)


if __name__ == "__main__":
    main()
