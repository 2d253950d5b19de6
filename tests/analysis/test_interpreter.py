from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.tree import DecisionTreeRegressor

from analysis.estimators.effects import Effects
from analysis.estimators.fit import fit_effects
from analysis.interpreter import ThetaModel, allocate_or_none, grow_tree, measure_importances
from analysis.roles import assign_roles
from tests.analysis.synthetic import make_config, make_frame, make_runs

# theta of the paper's interpreter as (code, if, knowledge, math, safety), and CausalMix-A as (code, if, math,
# knowledge, safety), to three decimals.
PUBLISHED = [
    ((1.38, 12.40, -1.49, 1.96, 2.41), (0.076, 0.683, 0.108, 0, 0.133)),
    ((-0.12, 10.43, 0.40, 0.11, 0.33), (0, 0.925, 0.010, 0.035, 0.029)),
    ((2.40, 13.73, -2.76, 3.21, 3.82), (0.104, 0.593, 0.139, 0, 0.165)),
    ((-2.02, 12.69, -4.64, -0.87, -4.42), (0, 1, 0, 0, 0)),
    ((0.58, 9.59, 2.28, 0.47, 2.10), (0.039, 0.638, 0.031, 0.152, 0.140)),
    ((3.65, 17.36, 1.39, 4.64, 4.52), (0.116, 0.550, 0.147, 0.044, 0.143)),
]


class Steps(Effects):
    """theta(x) by one step in the first feature and a smaller one in the second; the third does nothing."""

    def __init__(self):
        super().__init__(("a", "b"), ("loss", "hes", "style"))

    def thetas(self, X):
        first, second = X[:, 0] > 0.2, X[:, 1] > -0.1
        return np.stack([1 + 3.0 * first, -1 + 1.0 * (first & second)], axis=1)

    def covariances(self, X):
        return np.zeros((len(X), 2, 2))


def make_roles(n=200, estimator="linear_dml", **changes):
    cfg = make_config(estimator)
    roles = assign_roles(make_runs(make_frame(n)), "signal", cfg.estimator, cfg.outcome)
    return dataclasses.replace(roles, **changes)


@pytest.fixture
def stepped():
    X = np.random.default_rng(0).normal(size=(200, 3))
    return Steps(), make_roles(X=X, x_names=("loss", "hes", "style"))


@pytest.mark.parametrize(("theta", "mixture"), PUBLISHED)
def test_the_published_nodes_have_the_published_mixtures(theta, mixture):
    code, following, knowledge, maths, safety = allocate_or_none(np.array(theta))
    assert np.allclose([code, following, maths, knowledge, safety], mixture, atol=6e-4)


def test_no_positive_effect_has_no_mixture():
    assert allocate_or_none(np.array([-1.0, 0.0, -2.0])) is None


def test_the_tree_finds_the_steps(stepped):
    effects, roles = stepped
    nodes = grow_tree(effects, roles)
    root = nodes[0]
    assert (root.rule, root.n_runs, root.depth) == ("all runs", 200, 0)
    low, high = (nodes[i] for i in root.children)
    assert float(low.rule.removeprefix("loss <= ")) == pytest.approx(0.2, abs=0.03)
    assert low.is_leaf
    assert np.allclose(low.theta, [1, -1])
    assert np.allclose(low.mixture, [1, 0])
    assert high.rule.startswith("loss > ")
    below = [nodes[i] for i in high.children]
    assert [node.rule.split()[0] for node in below] == ["hes", "hes"]
    assert below[0].path == f"{high.rule} and {below[0].rule}"
    assert np.allclose(below[1].theta, [4, 0])
    leaves = [node for node in nodes if node.is_leaf]
    assert sum(node.n_runs for node in leaves) == 200
    weighted = sum(node.n_runs * node.theta for node in leaves) / 200
    assert np.allclose(weighted, root.theta)
    assert np.allclose(root.theta, effects.thetas(roles.X).mean(axis=0))


def test_the_same_splits_as_econml_on_its_own_forest():
    """On a forest of one outcome, the adapter, econml's interpreter on the forest and a plain tree all agree."""
    from econml.cate_interpreter import SingleTreeCateInterpreter

    cfg = make_config("causal_forest").estimator
    cfg.per_outcome = False
    roles = assign_roles(make_runs(make_frame(120)), "signal", cfg, make_config().outcome)
    effects = fit_effects(roles, cfg, 0).effects
    settings = {"max_depth": 2, "min_samples_leaf": 12, "random_state": 0}
    theirs = SingleTreeCateInterpreter(**settings).interpret(effects.model, roles.X)
    ours = SingleTreeCateInterpreter(**settings).interpret(ThetaModel(effects), roles.X)
    plain = DecisionTreeRegressor(**settings).fit(roles.X, effects.thetas(roles.X))
    for tree in (ours.tree_model_, plain):
        assert np.array_equal(tree.tree_.feature, theirs.tree_model_.tree_.feature)
        assert np.array_equal(tree.tree_.threshold, theirs.tree_model_.tree_.threshold)
    nodes = grow_tree(effects, roles)
    assert len(nodes) == theirs.tree_model_.tree_.node_count
    for place, node in enumerate(nodes):  # both list a parent before its left branch, and that before its right
        assert np.allclose(node.theta, np.ravel(theirs.node_dict_[place]["mean"]))


@pytest.mark.parametrize("estimator", ["own_state", "linear_dml", "no_orthogonalisation"])
def test_every_family_has_a_tree(estimator):
    cfg = make_config(estimator).estimator
    roles = assign_roles(make_runs(make_frame(80)), "signal", cfg, make_config().outcome)
    effects = fit_effects(roles, cfg, 0).effects
    nodes = grow_tree(effects, roles)
    assert nodes[0].n_runs == 80
    assert len(nodes) > 1
    shares = measure_importances(effects, roles)
    assert shares.shape == (len(roles.x_names),)
    assert ((shares >= 0) & (shares <= 1)).all()


def test_a_state_agnostic_fit_has_no_tree():
    cfg = make_config("no_covariates").estimator
    roles = assign_roles(make_runs(make_frame(60)), "signal", cfg, make_config().outcome)
    effects = fit_effects(roles, cfg, 0).effects
    assert grow_tree(effects, roles) == []
    assert measure_importances(effects, roles).shape == (0,)


def test_importances_name_what_matters(stepped):
    effects, roles = stepped
    loss, hes, style = measure_importances(effects, roles)
    assert loss > 0.5 > 0.1 > hes > style
    assert style < 0.03


def test_importances_of_a_linear_effect_are_its_variance_shares():
    class Linear(Steps):
        def thetas(self, X):
            return X @ np.array([[2.0, 0.0], [1.0, 0.0], [0.0, 0.0]])

    X = np.linalg.qr(np.random.default_rng(1).normal(size=(400, 4)) - 0.0)[0][:, 1:] * 20
    shares = measure_importances(Linear(), make_roles(n=400, X=X, x_names=("a", "b", "c")))
    assert np.allclose(shares, [0.8, 0.2, 0.0], atol=0.03)


def test_the_same_effects_everywhere_have_no_importances():
    class Flat(Steps):
        def thetas(self, X):
            return np.full((len(X), 2), 1.3)

    roles = make_roles(X=np.random.default_rng(0).normal(size=(200, 3)), x_names=("a", "b", "c"))
    assert measure_importances(Flat(), roles).tolist() == [0, 0, 0]
    assert len(grow_tree(Flat(), roles)) == 1
