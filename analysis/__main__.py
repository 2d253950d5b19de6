"""``python -m analysis``: from a runs table to a mixture."""

from __future__ import annotations

import json
import sys

import hydra
from rich.console import Console

from causalmix.config import AnalysisConfig, register_schemas
from causalmix.config.folder import find_conf
from causalmix.entry import end_with_message, hold_threads, run_command

register_schemas()


@hydra.main(version_base="1.3", config_path=str(find_conf()), config_name="analysis")
@end_with_message
def main(cfg: AnalysisConfig) -> None:
    """Analyse, write and print the answer."""
    from analysis.app import run  # here, so that --help does not wait for the estimators
    from analysis.summary import print_answer

    answers = run(cfg)
    if cfg.as_json:
        files = [{name: str(path) for name, path in paths.items()} for _, paths in answers]
        print(json.dumps([{**found.to_json(), "files": own} for (found, _), own in zip(answers, files)], indent=1))
        return
    for analysis, paths in answers:
        print_answer(analysis, paths, Console())


if __name__ == "__main__":
    hold_threads()
    sys.exit(run_command(main, sys.argv))
