"""The design that a run draws its mixture from, what the record says of it, and who chose a policy's mixture."""

from __future__ import annotations

from dataclasses import asdict

from causalmix.config import Config
from causalmix.files import fingerprint
from causalmix.mixture.designs.build import STATE_KINDS, build_design
from causalmix.mixture.designs.design import Design
from causalmix.mixture.designs.request import State
from causalmix.run.workshop import Workshop


def build_run_design(config: Config, available: dict[str, int], state: State | None = None) -> Design:
    """Build the design a run draws its mixture from; submission builds it too, to refuse early.

    Parameters
    ----------
    config : Config
        The run's settings.
    available : dict of str to int
        Documents of each domain in the run's candidate pool.
    state : mapping, optional
        Feature -> domain -> mean, of the run's candidate pool; at submission nobody has measured it.
    """
    total = sum(available.values())
    return build_design(
        config.mixture,
        domains=tuple(available),
        natural={domain: n / total for domain, n in available.items()},
        available=available,
        n_samples=config.train.n_samples,
        state=state,
    )


def describe_design(
    config: Config, design: Design, available: dict[str, int], state: State, workshop: Workshop
) -> dict[str, float]:
    """Moments of log T under the design itself: known before any outcome, so e(X) need not be learnt."""
    if not design.is_random:
        return {}
    given = state if config.mixture.kind in STATE_KINDS else None
    key = fingerprint([asdict(config.mixture), available, config.train.n_samples, given])
    if key not in workshop.moments:
        workshop.moments[key] = design.moments(seed=0)
    columns = workshop.moments[key].name_columns(design.domains)
    return {f"design.{name}": value for name, value in columns.items()}


def name_arm(config: Config) -> str:
    """Name what chose a policy's mixture: the policy, and the estimator where it reads one, so ablations differ."""
    uses_estimator = config.policy.kind in ("causalmix_a", "causalmix_s")
    return f"{config.policy.name} by {config.estimator.name}" if uses_estimator else config.policy.name
