"""``python -m analysis.policies.regions code=1.4 math=2 ...``: what every region makes of effects that you give."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.coordinates import make_coordinates
from analysis.policies.box_rule import divergence
from analysis.policies.regions.registry import REGIONS, build_region
from analysis.roles import Roles
from analysis.target import Target
from causalmix.config import PolicyConfig
from causalmix.entry import end_with_reader
from causalmix.errors import AnalysisError, CausalMixError, name_some
from causalmix.mixture.simplex import Box, default_floor, project_to_box, validate_weights

Floats = NDArray[np.float64]

NEED_RUNS = ("support",)  # regions that are read off a runs table


def solve_regions(effects: dict[str, float], reference: dict[str, float], cfg: PolicyConfig) -> dict[str, Any]:
    """Return the mixture of CausalMix-A in every region by its name, its gain in points, its KL from q, what binds.

    Parameters
    ----------
    effects : dict of str to float
        theta, points per unit of log share.
    reference : dict of str to float
        q; empty takes equal shares.
    cfg : PolicyConfig
        ``rho`` and ``radius`` are read.
    """
    target = _make_target(effects, reference)
    theta, q = np.array(list(effects.values())), target.reference
    found: dict[str, Any] = {"reference": _describe(target.domains, theta, q, q, {})}
    for name in (name for name in REGIONS if name not in NEED_RUNS):
        radius = cfg.radius if name in ("aitchison", "l2") else None
        asked = PolicyConfig(name=name, kind="causalmix_a", region=name, rho=cfg.rho, radius=radius)
        solution = build_region(asked, _NO_RUNS, target).solve(theta)
        found[name] = _describe(target.domains, theta, q, solution.weights, solution.prices)
    return found


def tabulate_regions(effects: dict[str, float], reference: dict[str, float], cfg: PolicyConfig) -> str:
    """Return :func:`solve_regions` as a table, one row a region."""
    rows = [["region", *effects, "gain", "KL(q||T)", "  binding (points per unit)"]]
    for name, answer in solve_regions(effects, reference, cfg).items():
        binding = ", ".join(f"{limit} {price:.2f}" for limit, price in answer["prices"].items())
        shares = (f"{share:.3f}" for share in answer["weights"].values())
        rows.append([name, *shares, f"{answer['gain']:+.2f}", f"{answer['kl']:.3f}", f"  {binding}".rstrip()])
    widths = [max(len(row[j]) for row in rows) for j in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(w) if j in (0, len(widths) - 1) else cell.rjust(w)
            for j, (cell, w) in enumerate(zip(row, widths))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def main(arguments: Sequence[str]) -> int:
    """Print the table; a mistake is one line and exit status 2."""
    parser = argparse.ArgumentParser(prog="python -m analysis.policies.regions", description=__doc__)
    parser.add_argument("effects", nargs="+", metavar="DOMAIN=POINTS", help="theta: points per unit of log share")
    parser.add_argument("--reference", nargs="+", default=[], metavar="DOMAIN=SHARE", help="q (default: equal)")
    parser.add_argument("--rho", type=float, default=PolicyConfig.rho, help="nats, for kl and reverse_kl")
    parser.add_argument("--radius", type=float, help="for aitchison and l2")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parser.parse_args(arguments)
    try:
        cfg = PolicyConfig(name="a", kind="causalmix_a", rho=given.rho, radius=given.radius)
        effects, reference = _read_pairs(given.effects), _read_pairs(given.reference)
        with end_with_reader():
            if given.json:
                print(json.dumps(solve_regions(effects, reference, cfg), indent=1))
            else:
                print(tabulate_regions(effects, reference, cfg))
    except CausalMixError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    return 0


def _describe(
    domains: tuple[str, ...], theta: Floats, q: Floats, weights: Floats, prices: dict[str, float]
) -> dict[str, Any]:
    return {
        "weights": dict(zip(domains, weights.tolist())),
        "gain": float(theta @ np.log(weights / q)),
        "kl": float(divergence(q, weights)),
        "prices": prices,
    }


def _make_target(effects: dict[str, float], reference: dict[str, float]) -> Target:
    domains, n = tuple(effects), len(effects)
    if n < 2:
        raise AnalysisError(f"{name_some(domains)}: a mixture needs at least two domains.")
    box = Box(domains, np.full(n, default_floor(n)), np.ones(n))
    q = validate_weights(reference, domains) if reference else np.full(n, 1.0 / n)
    q = project_to_box(q, box)
    return Target(domains, np.empty(0), {}, q, q, box, None, None, 1.0, None, None, ())


def _read_pairs(given: Sequence[str]) -> dict[str, float]:
    pairs, wrong = {}, []
    for text in given:
        name, _, value = text.partition("=")
        try:
            pairs[name] = float(value)
        except ValueError:
            wrong.append(text)
    wrong += [name for name, value in pairs.items() if not np.isfinite(value)]
    if wrong:
        raise AnalysisError(f"{name_some(wrong)}: domain=number is wanted, for example math=1.96.")
    return pairs


_EMPTY = np.empty((0, 0))
_LOGS = make_coordinates("log", 2)
_NO_RUNS = Roles((), (), (), _EMPTY, np.empty(0), _EMPTY, _LOGS, _EMPTY, _EMPTY, (), _EMPTY, (), None, False)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
