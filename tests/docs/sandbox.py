"""What the pages take as given: the reader's table, pool, answer and targets, as small as they can be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tests.analysis.synthetic import make_frame
from tests.docs.blocks import ROOT, read_blocks
from tests.sweep_folder import make_row, write_record

ARMS = ("equal", "regmix", "causalmix_a")


def fill_start(folder: Path) -> None:
    """Write the table that "Five minutes" begins with."""
    code = next(block.text for block in read_blocks(ROOT / "docs" / "start.md") if block.language == "python")
    exec(code.replace('"runs.csv"', repr(str(folder / "runs.csv"))), {})


def fill_policies(folder: Path) -> None:
    domains, features = ("code", "math", "safety"), ("hes", "normalized_loss")
    make_frame(64, domains=domains, features=features, abilities=("math", "safety")).to_csv(
        folder / "runs.csv", index=False
    )


def fill_compare(folder: Path) -> None:
    """Write a sweep of three arms, a study's table, and the answers that two of the arms were trained on."""
    rng = np.random.default_rng(0)
    shares = {arm: dict(zip(("code", "math", "safety"), rng.dirichlet(np.ones(3)).tolist())) for arm in ARMS}
    study = []
    for k, arm in enumerate(ARMS):
        mixture = {f"mixture.{name}": share for name, share in shares[arm].items()}
        for seed in range(5):
            changes = {"design.name": arm, "design.kind": "policy", "cohort": "confirmation", "seed": seed}
            score = {"outcome.avg_dev": 40.0 + k + 0.1 * rng.normal(), "pool.fingerprint": f"pool{seed}"}
            row = make_row(10 * k + seed, **changes, **score, **mixture)
            write_record(folder / "TARGETS" / "runs" / row["run_id"], row)
            study.append((arm, "p", 2, seed, score["outcome.avg_dev"], 1.0))
    confirmed = folder / "outputs" / "studies" / "demo" / "confirmation.csv"
    confirmed.parent.mkdir(parents=True)
    pd.DataFrame(study, columns=["arm", "target", "size", "seed", "outcome", "unseen"]).to_csv(confirmed, index=False)
    for name, arm in (("a", "causalmix_a"), ("b", "regmix")):
        (folder / name).mkdir()
        (folder / name / "mixture.json").write_text(json.dumps({"weights": shares[arm], "candidate": shares[arm]}))


def fill_exports(folder: Path) -> None:
    """Write two answers, a prepared pool, and tables of other projects."""
    from causalmix.cli import compose_config
    from causalmix.pool.prepare import prepare
    from causalmix.pool.store import open_pool
    from causalmix.sweep.points import to_config
    from tests.tiny import POOL

    plain = compose_config([*POOL, f"outputs={folder / 'outputs'}"])
    path = prepare(to_config(plain).pool, folder / "outputs", progress=False)
    (folder / "POOL").symlink_to(path)
    domains = open_pool(path).domains
    answer = {"weights": dict.fromkeys(domains, 1 / len(domains)), "counts": {name: {"n": 20} for name in domains}}
    (folder / "DIR").mkdir()
    for name in ("DIR/mixture", "first", "second"):
        (folder / f"{name}.json").write_text(json.dumps({"advice": "given", "reason": "", **answer}))
    rng = np.random.default_rng(0)
    shares = pd.DataFrame(rng.dirichlet(np.ones(3), size=60), columns=["web", "code", "text"])
    score = 3 + np.log(shares["code"]) + rng.normal(0, 0.1, 60)
    numbered = pd.DataFrame({"index": range(60)})
    numbered.join(shares.add_prefix("train_")).to_csv(folder / "train_mixture_1m.csv", index=False)
    numbered.assign(**{"metric/code_val_loss": -score}).to_csv(folder / "train_pile_loss_1m.csv", index=False)
    named = pd.DataFrame({"run": [f"r{i}" for i in range(60)]})
    named.join(shares).to_csv(folder / "ratios.csv", index=False)
    named.assign(bpb=-score).to_csv(folder / "metrics.csv", index=False)
    mine = pd.DataFrame({"w_code": shares["code"], "w_text": 1 - shares["code"], "acc": score})
    mine.to_csv(folder / "mine.csv", index=False)
    (folder / "map.yaml").write_text("w_code: mixture.code\nw_text: mixture.text\nacc: outcome.avg_dev\n")


def make_names() -> dict[str, Any]:
    """What pieces of Python take as given: scored documents of two runs, and their frozen scale."""
    scored = pd.DataFrame({"run_id": list("aabb"), "domain": ["code", "math"] * 2, "toxicity": [0.1, 0.2, 0.3, 0.4]})
    columns = ["state.toxicity.code", "state.toxicity.math"]
    return {
        "scored": scored,
        "runs": pd.DataFrame({"run_id": ["a", "b"], "outcome.avg_dev": [1.0, 2.0]}),
        "centre": pd.Series(0.2, columns),
        "scale": pd.Series(0.1, columns),
    }


SANDBOXES: dict[str, Callable[[Path], None]] = {
    "runs_table.md": fill_start,
    "policies.md": fill_policies,
    "compare.md": fill_compare,
    "exports.md": fill_exports,
}
