"""The sweeper behind ``launch.py -m``: compose once a choice of groups, merge values, run what is missing."""

import functools
import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from causalmix.config import resolve
from causalmix.errors import ConfigError


@dataclass
class CausalMixSweeperConf:
    """Config node ``hydra/sweeper=causalmix``."""

    _target_: str = "hydra_plugins.causalmix_sweeper.sweeper.CausalMixSweeper"
    params: dict[str, Any] | None = field(default_factory=dict)  # sweeps written in a config file


ConfigStore.instance().store(group="hydra/sweeper", name="causalmix", node=CausalMixSweeperConf, provider="causalmix")


class CausalMixSweeper(Sweeper):
    """Turn ``key=a,b`` and ``key=range(n)`` into points and hand them to :mod:`causalmix.sweep`."""

    def __init__(self, params: Mapping[str, Any] | None = None) -> None:
        self.params = dict(params or {})
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra hands over; the task function is not used, sweeps have their own workers."""
        self.hydra_context = hydra_context
        self.config = config

    def sweep(self, arguments: list[str]) -> Any:
        """Expand ``arguments``, and run or submit every point that has no complete record yet."""
        from causalmix.sweep.submit import run_sweep

        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        written = [f"{key}={value}" for key, value in self.params.items()]
        points, swept = self.compose_points(parser.parse_overrides([*written, *arguments]))
        loops = sorted({point["job"] for point in points} - {"run"})
        if loops:
            raise ConfigError(f"job={loops[0]} is a whole loop of its own sweeps: leave -m out.")
        return run_sweep(points, swept=swept)

    def compose_points(self, overrides: list[Override]) -> tuple[list[dict[str, Any]], list[str]]:
        """Compose every point as plain resolved values.

        Returns
        -------
        points : list of dict
            One resolved config a point, in the order of the command line's product.
        swept : list of str
            The keys that were swept.
        """
        assert self.hydra_context is not None
        assert self.config is not None
        loader = self.hydra_context.config_loader
        choices: dict[str, list[str]] = {}
        composed: set[str] = set()  # keys that take part in composing: all but swept values
        swept: set[str] = set()
        for override in overrides:
            key = override.get_key_element()
            composed.discard(key)  # the last mention of a key wins, as in Hydra
            swept.discard(key)
            if override.is_sweep_override():
                if not override.is_discrete_sweep():
                    raise ConfigError(f"{override.input_line}: only lists, range(...) and choice(...) can be swept")
                choices[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
                swept.add(key)
            else:
                choices[key] = [f"{key}={override.get_value_element_as_str()}"]
            if len(choices[key]) == 1 or loader.get_group_options(override.key_or_group, ObjectType.CONFIG):
                composed.add(key)

        by_group = [choices[key] for key in choices if key in composed]
        by_value = [choices[key] for key in choices if key not in composed]
        points = []
        # Hydra composed the config with all that is not swept: where no group is, that is the one we need
        told = self.config.hydra.overrides.task
        is_composed = len(overrides) == len(choices) and not composed & swept
        is_composed &= all(override.is_sweep_override() or override.input_line in told for override in overrides)
        for composed_from in itertools.product(*by_group):
            base = self.config.copy() if is_composed else loader.load_sweep_config(self.config, list(composed_from))
            with open_dict(base):
                base.pop("hydra", None)
            points += merge_all(base, itertools.product(*by_value))
        return points, sorted(swept)


def merge_all(base: DictConfig, combinations: Iterable[tuple[str, ...]]) -> list[dict[str, Any]]:
    """Merge each combination of ``key=value`` strings into a composed config.

    Copying a typed config costs twenty times as much as the merge. So where nothing refers to anything else, the
    config is resolved once, one typed copy checks and converts the values, and points share what they have in common.
    """
    if "${" in str(OmegaConf.to_container(base, resolve=False)):
        return [merge_values(base, values) for values in combinations]
    plain, typed = resolve(base), base.copy()
    points = []
    for values in combinations:
        given = [parse_value(text) for text in values]
        if any(isinstance(value, dict) or "${" in str(value) for _, value in given):  # merges, or refers to others
            points.append(merge_values(base, values))
            continue
        point = plain
        for key, value in given:
            OmegaConf.update(typed, key, value)
            found = OmegaConf.select(typed, key)
            point = put(point, key.split("."), OmegaConf.to_container(found) if OmegaConf.is_config(found) else found)
        points.append(point)
    return points


@functools.cache
def parse_value(text: str) -> tuple[str, Any]:
    """Read ``key=value`` as Hydra does; a whole number without its grammar, which takes 50 times as long."""
    key, _, value = text.partition("=")
    if re.fullmatch(r"[a-z][\w.]*", key) and re.fullmatch(r"0|[1-9]\d*", value):
        return key, int(value)
    override = OverridesParser.create().parse_overrides([text])[0]
    return override.key_or_group, override.value()


def put(values: dict[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """Return a mapping with one value changed; what lies beside its path is shared, not copied."""
    inner = value if len(path) == 1 else put(values[path[0]], path[1:], value)
    return {**values, path[0]: inner}


def merge_values(base: DictConfig, values: tuple[str, ...]) -> dict[str, Any]:
    """Merge ``key=value`` strings into a copy of a composed config and resolve it to plain values."""
    point = base.copy()
    parsed = OverridesParser.create().parse_overrides(list(values))
    for override in parsed:
        OmegaConf.update(point, override.key_or_group, override.value(), merge=True)
    return resolve(point)
