"""How much is lost against the best mixture? Regret of every policy and baseline, as a share of Equal's.

Cells turn the dials of simulated sweeps: kind of effects, confounding (design unknown), overlap, curvature, noise,
runs and domains. The aim: CausalMix-A or -S with a region at most half the regret of the better of RegMix and plain
CausalMix-A (a forest on LightGBM's nuisances, no region) in at least 90% of cells. Cells where it fails are named.
Ours are a process with a curve, in the box of floors and caps; `A, radius` stays within one that is read off the fit,
and `A, default` has half a nat and no curve.

`ideal` is what the same runs allow somebody who knows both nuisances, the curvature, the kind of effects and how large
they are over worlds, and `oracle` who also knows their form (where they jump, whither they slope) and estimates sizes
alone: where the ideal is above half of the better peer, nobody meets the aim on average. The `+-` after the ratio is
that of sweeps: the standard error of ours less the ratio times the peer's, over the peer's mean, paired by sweep. A
cell is decided where ours less half of the peer's is two such errors from zero; `--doubtful N` gives those that are
not N sweeps, and judges them by all of these.

    python benchmarks/policy_regret.py [--full] [--repetitions N] [--doubtful N] [--cells TEXT] [--workers N]
        [--json FILE]
        [--folder DIR]   keeps every sweep's scores; typed again, the command goes on from them
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import time
from collections.abc import Mapping

from simulated import bend, make_arm, parse_options, plain_causalmix, spell_cell, write_result

from analysis.simulate.repeat import Mean, Summary, mean_of, repeat, summarise_attained, summarise_policies
from analysis.simulate.trial import Arm, Trial
from causalmix.config import DialsConfig

SHARE, HALF = 0.9, 0.5
OURS = ("A, box", "S, box")
PEERS = ("RegMix", "plain A")
GP = "varying_coefficient_gp"
KAPPA = 0.5  # standard errors that the radius holds back
SURE = 2.0  # paired standard errors


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
        "A, default": make_arm(GP, "causalmix_a"),
        "A, radius": bend(make_arm(GP, "causalmix_a", region="kl", rho="auto", kappa=KAPPA)),
        "A, box": bend(make_arm(GP, "causalmix_a", region="box")),
        "S, box": bend(make_arm(GP, "causalmix_s", region="box")),
    }


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The better of ours against the better peer, each the better by its mean over the sweeps.

    Attributes
    ----------
    ratio, error : float
        Of their mean regrets, and its standard error.
    keeps, is_sure : bool
        Whether the ratio is at most a half, and whether that (or its contrary) is two paired standard errors off.
    is_attainable : bool
        Whether the ideal meets the aim.
    """

    ratio: float
    error: float
    keeps: bool
    is_sure: bool
    is_attainable: bool

    def __str__(self) -> str:
        said = "keeps" if self.keeps else "misses"
        notes = [*([] if self.is_sure else ["undecided"]), *([] if self.is_attainable else ["so does the ideal"])]
        return f"{self.ratio:>5.2f} +- {self.error:.2f}  {said}" + (f" ({', '.join(notes)})" if notes else "")


def judge(trials: list[Trial], summary: Summary, ideal: Mean) -> Verdict:
    """Compare the better of ours with half of the better peer, sweep by sweep."""
    regret = {name: row["regret"].value for name, row in summary.items()}
    ours, peer = min(OURS, key=regret.__getitem__), min(PEERS, key=regret.__getitem__)
    ratio = regret[ours] / regret[peer]
    pairs = [(trial.policies[ours].regret, trial.policies[peer].regret) for trial in trials]
    error = mean_of([mine - ratio * theirs for mine, theirs in pairs]).error / regret[peer]
    behind = mean_of([mine - HALF * theirs for mine, theirs in pairs])
    is_sure = abs(behind.value) > SURE * behind.error
    return Verdict(ratio, error, ratio <= HALF, is_sure, ideal.value <= HALF * regret[peer])


def deal(
    cell: Mapping[str, object], arms: Mapping[str, Arm], options: argparse.Namespace, repetitions: int
) -> tuple[list[Trial], Verdict]:
    """Return a cell's sweeps, and what they say of the aim."""
    trials = repeat(
        DialsConfig(**cell),  # type: ignore[arg-type]
        arms,
        n_repetitions=repetitions,
        n_targets=8,
        n_workers=options.workers,
        label=spell_cell(**cell),
        folder=options.folder,
    )
    return trials, judge(trials, summarise_policies(trials), summarise_attained(trials)["ideal"])


def main() -> None:
    """Print one line a cell."""
    started = time.perf_counter()
    options = parse_options(str(__doc__), repetitions=6, full=60, doubts=True)
    arms = make_arms()
    labels = [name for name in arms if name != "Equal"]
    print(
        f"{'cell':58} {'sweeps':>6} {'Equal':>13} "
        + " ".join(f"{name:>10}" for name in [*labels, "ideal", "oracle"])
        + "  ours/peers"
    )
    rows: list[dict[str, object]] = []
    verdicts: list[Verdict] = []
    for cell in list_cells():
        name = spell_cell(**cell)
        if options.cells not in name:
            continue
        trials, verdict = deal(cell, arms, options, options.repetitions)
        if not verdict.is_sure and options.doubtful > options.repetitions:
            trials, verdict = deal(cell, arms, options, options.doubtful)
        verdicts.append(verdict)
        summary, attained = summarise_policies(trials), summarise_attained(trials)
        equal = summary["Equal"]["regret"]
        shares = [summary[label]["regret"].value / equal.value for label in labels]
        shares += [attained[name].value / equal.value for name in ("ideal", "oracle")]
        spelled = " ".join(f"{share:>10.2f}" for share in shares)
        print(f"{name:58} {len(trials):>6} {equal!s:>13} {spelled} {verdict}", flush=True)
        scores = {label: {k: dataclasses.asdict(v) for k, v in row.items()} for label, row in summary.items()}
        judged = (
            {"repetitions": len(trials)}
            | dataclasses.asdict(verdict)
            | {name: dataclasses.asdict(mean) for name, mean in attained.items()}
        )
        rows.append({"cell": name, **judged, "policies": scores})
    report(verdicts)
    settings = {"repetitions": options.repetitions, "doubtful": options.doubtful, "aim": [SHARE, HALF]}
    write_result(options.json, settings, rows, started)


def report(verdicts: list[Verdict]) -> None:
    """Say in how many cells the aim is met, how sure that is, and in how many anybody could."""
    sure = [verdict for verdict in verdicts if verdict.is_sure]
    possible = [verdict for verdict in verdicts if verdict.is_attainable]
    print(
        f"at most half of the better peer's regret in {sum(v.keeps for v in verdicts)} of {len(verdicts)} cells (aim "
        f"{SHARE:.0%}); beyond {SURE:g} paired standard errors: {sum(v.keeps for v in sure)} kept, "
        f"{sum(not v.keeps for v in sure)} missed, {len(verdicts) - len(sure)} undecided; the ideal meets it in "
        f"{len(possible)}, of which ours in {sum(v.keeps for v in possible)}"
    )


if __name__ == "__main__":
    main()
