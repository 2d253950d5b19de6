"""The one entry point: compose a config, check it, then run, sweep (-m) or do the whole loop.

python launch.py                                            one proxy run, here
python launch.py -m mixture=dirichlet 'seed=range(160)'     a sweep; typed again it finishes what is missing
python launch.py experiment=demo                            pool to mixture to report, small
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf

from causalmix.config import register_schemas, resolve
from causalmix.entry import end_with_message, hold_threads, run_command
from hydra_plugins.causalmix_sweeper.sweeper import CausalMixSweeper


def fit_policy_weights(*, _root_: DictConfig) -> dict[str, float]:
    """Resolve ``mixture=policy`` to numbers, on the submitting machine and never on a worker."""
    from analysis.calls import find_policy_weights
    from causalmix.study.targets import measure_target
    from causalmix.sweep.points import Inputs

    bare: Any = OmegaConf.to_container(_root_, resolve=False)  # merging would resolve, and come here again
    bare["mixture"]["weights"] = None
    plain = resolve(OmegaConf.create(bare))
    return find_policy_weights(plain, lambda: measure_target(plain, Inputs(Path(plain["outputs"]))))


def run(config: DictConfig) -> Any:
    """Do one job: a single run, or the whole loop of a study."""
    plain = resolve(config)
    if plain["job"] == "study":
        from analysis.calls import answer_settings, write_confirmed_report
        from causalmix.study.loop import Analyst, run_study
        from causalmix.study.summary import present

        return present(run_study(plain, Analyst(answer_settings, write_confirmed_report)), plain, sys.argv[1:])
    if plain["job"] == "stages":
        from analysis.calls import answer_settings
        from causalmix.study.stages import run_stages

        return run_stages(plain, answer_settings)
    from causalmix.sweep.submit import run_single

    return run_single(plain)


def main() -> int:
    """Register what Hydra must know before it composes, then hand over to it."""
    hold_threads()
    register_schemas()
    Plugins.instance().register(CausalMixSweeper)
    OmegaConf.register_new_resolver("policy_weights", fit_policy_weights, use_cache=False, replace=True)
    application = hydra.main(version_base="1.3", config_path="conf", config_name="config")(end_with_message(run))
    return run_command(application, sys.argv)


if __name__ == "__main__":
    sys.exit(main())
