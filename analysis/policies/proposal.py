"""What every policy and baseline answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from analysis.estimators.effects import Effects
from analysis.roles import Roles
from analysis.target import Target
from causalmix.config import PolicyConfig

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Proposal:
    """A mixture with what held it back.

    Attributes
    ----------
    weights : ndarray (K,)
    shadow_prices : dict of str to float
        Points gained for one unit more room at a binding limit: the region by its name (a unit of its radius),
        ``cap.<domain>`` and ``floor.<domain>`` (a whole share), ``constraint.<ability>`` (a point of it).
    notes : tuple of str
        What the reader must know of this answer.
    """

    weights: Floats
    shadow_prices: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


Policy = Callable[[Effects, Roles, Target, PolicyConfig], Proposal]
