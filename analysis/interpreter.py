"""Why the effects differ from pool to pool: a small tree of rules over the states, and which features matter."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.estimators.effects import Effects
from analysis.policies.causalmix_a import allocate_by_effects
from analysis.roles import Roles

Floats = NDArray[np.float64]

DEPTH = 2
ROOT = "all runs"
DEGREE = 3  # of the polynomial in one feature that its importance is read off


@dataclass(frozen=True)
class Node:
    """A group of runs whose effects are alike.

    Attributes
    ----------
    rule : str
        The condition that leads here from the node above; ``all runs`` at the root.
    path : str
        All conditions from the root on.
    n_runs : int
    theta, sd : ndarray (K,)
        Mean and standard deviation over the runs of their fitted effects, points per unit of log share.
    mixture : ndarray (K,) or None
        CausalMix-A's closed form at the mean effect; None where no effect is positive.
    depth : int
        0 at the root.
    children : tuple of int
        The places of the two nodes below in the list; empty at a leaf.
    """

    rule: str
    path: str
    n_runs: int
    theta: Floats
    sd: Floats
    mixture: Floats | None
    depth: int
    children: tuple[int, ...] = ()

    @property
    def is_leaf(self) -> bool:
        """Whether nothing lies below."""
        return not self.children


class ThetaModel:
    """Any family's fitted effects as econml's interpreters ask for them."""

    def __init__(self, effects: Effects):
        self._effects = effects

    def const_marginal_effect(self, X: Floats) -> Floats:
        """Return theta (m, K) at ``X`` (m, d)."""
        return self._effects.thetas(np.asarray(X, dtype=np.float64))


def grow_tree(effects: Effects, roles: Roles, depth: int = DEPTH) -> list[Node]:
    """Summarise theta over the runs' states by econml's SingleTreeCateInterpreter.

    The tree is grown on the fitted theta, so it explains the fit, not the data. Parents come before their
    children; a state-agnostic fit, or effects that are the same everywhere, give the root alone or nothing.

    Returns
    -------
    list of Node
        Empty where the effects do not depend on a state.
    """
    if not effects.x_names:
        return []
    from econml.cate_interpreter import SingleTreeCateInterpreter

    interpreter = SingleTreeCateInterpreter(
        max_depth=depth, min_samples_leaf=max(5, roles.n_runs // 10), random_state=0
    ).interpret(ThetaModel(effects), roles.X)
    nodes: list[Node] = []
    _collect(interpreter, effects.x_names, nodes, 0, ())
    return nodes


def measure_importances(effects: Effects, roles: Roles) -> Floats:
    """Return the share (d,) of the variance of the fitted theta over the runs that each feature explains alone.

    ``sum_k Var(f_kj(x_j)) / sum_k Var(theta_k)`` with f_kj the cubic polynomial in feature j that fits
    theta_k(x_i) best, adjusted for its three terms (a first-order Sobol index of any family, without
    permutations). Features that go together share what they explain, so the shares may add up to more than
    one; interactions are in none of them. All zero where theta is the same everywhere.
    """
    theta = effects.thetas(roles.X) if effects.x_names else np.zeros((roles.n_runs, len(effects.domains)))
    theta = theta - theta.mean(axis=0)
    total = float((theta**2).sum())
    # Effects that are equal to the last digits do not vary.
    if total <= 1e-18 * max(1.0, float(np.abs(theta).max())) * theta.size:
        return np.zeros(len(effects.x_names))
    free = (roles.n_runs - 1) / max(roles.n_runs - 1 - DEGREE, 1)
    shares = []
    for column in roles.X.T:
        scale = column.std()
        x = (column - column.mean()) / scale if scale > 0 else np.zeros_like(column)
        design = np.stack([x**power for power in range(DEGREE + 1)], axis=1)
        left = theta - design @ np.linalg.lstsq(design, theta, rcond=None)[0]
        shares.append(max(0.0, 1.0 - free * float((left**2).sum()) / total))
    return np.array(shares)


def allocate_or_none(theta: Floats) -> Floats | None:
    """Return CausalMix-A's closed form, or None where no effect is positive."""
    return allocate_by_effects(theta) if np.any(theta > 0) else None


def _collect(interpreter: Any, names: tuple[str, ...], nodes: list[Node], place: int, rules: tuple[str, ...]) -> int:
    """Append the node at ``place`` of econml's tree and all below it; return where it was put."""
    tree, found = interpreter.tree_model_.tree_, interpreter.node_dict_[place]
    theta, path = np.ravel(found["mean"]), " and ".join(rules)
    here = len(nodes)
    nodes.append(
        Node(
            rule=rules[-1] if rules else ROOT,
            path=path or ROOT,
            n_runs=int(tree.n_node_samples[place]),
            theta=theta,
            sd=np.ravel(found["std"]),
            mixture=allocate_or_none(theta),
            depth=len(rules),
        )
    )
    if tree.children_left[place] != -1:
        name, cut = names[tree.feature[place]], tree.threshold[place]
        pairs = ((tree.children_left[place], "<="), (tree.children_right[place], ">"))
        rest = [(int(child), (*rules, f"{name} {sign} {cut:.3g}")) for child, sign in pairs]
        children = tuple(_collect(interpreter, names, nodes, child, path) for child, path in rest)
        nodes[here] = dataclasses.replace(nodes[here], children=children)
    return here
