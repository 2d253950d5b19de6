"""Arms found in a table, differences paired over seeds, pages that hold every figure."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from analysis.compare.__main__ import compare
from analysis.compare.arms import read_arms
from analysis.compare.page import list_arms, list_mixtures, write_html, write_latex, write_markdown
from analysis.compare.paired import compare_arms
from causalmix.config import CompareConfig
from causalmix.errors import AnalysisError
from tests.tiny import launch

POLICIES = {"equal": [0.5, 0.5], "causalmix_a": [0.7, 0.3], "regmix": [0.2, 0.8]}
EFFECTS = {"equal": 0.0, "causalmix_a": 1.0, "regmix": -0.5}


def make_runs(n_seeds=6, *, pools=("p",), sizes=(100,), cohort="confirmation"):
    """Every policy on every seed; a seed moves all arms together far more than the arms differ."""
    rng = np.random.default_rng(0)
    rows = []
    for pool in pools:
        for size in sizes:
            seeds = rng.normal(50, 5, n_seeds)
            for policy, (code, math) in POLICIES.items():
                for seed in range(n_seeds):
                    rows.append(
                        {
                            "run_id": f"{policy}{pool}{size}{seed}",
                            "cohort": cohort,
                            "seed": seed,
                            "replicate": 0,
                            "design.name": policy,
                            "design.kind": "policy",
                            "pool.fingerprint": pool,
                            "train.n_samples": size,
                            "mixture.code": code,
                            "mixture.math": math,
                            "outcome.avg_dev": seeds[seed] + EFFECTS[policy] + rng.normal(0, 0.2),
                            "unseen.avg": seeds[seed] - 10 + rng.normal(0, 0.2),
                        }
                    )
    return pd.DataFrame(rows)


def ask(frame, folder, **settings):
    frame.sample(frac=1, random_state=0).to_csv(folder / "runs.csv", index=False)
    return CompareConfig(runs=str(folder / "runs.csv"), **settings)


def run(cfg):
    return compare_arms(read_arms(cfg), cfg.reference, cfg.confidence)


def test_differences_are_paired(tmp_path):
    frame = make_runs()
    found = run(ask(frame, tmp_path))
    assert [row.arm for row in found.rows] == ["equal", "causalmix_a", "regmix"]
    wide = frame.pivot(index="seed", columns="design.name", values="outcome.avg_dev")
    for row in found.rows[1:]:
        difference = wide[row.arm] - wide["equal"]
        peer = ttest_1samp(difference, 0).confidence_interval(0.95)
        assert row.gain.mean == pytest.approx(difference.mean())
        assert (row.gain.low, row.gain.high) == pytest.approx((peer.low, peer.high))
        assert row.gain.se < row.dev.se / 5  # what the seed does to both is gone
        assert row.gain.low < EFFECTS[row.arm] < row.gain.high
        assert not row.gain_unseen.excludes_zero
    assert found.rows[0].gain is None
    assert list(found.mixtures) == sorted(POLICIES)
    for name, shares in found.mixtures.items():
        assert list(shares.values()) == pytest.approx(POLICIES[name])


def test_pools_and_sizes_are_compared_apart_and_drawn_pools_are_not(tmp_path):
    found = run(ask(make_runs(pools=("p", "q"), sizes=(100, 800)), tmp_path))
    groups = [row.group for row in found.rows[::3]]
    assert groups == [{"pool.fingerprint": pool, "train.n_samples": n} for pool in "pq" for n in (100, 800)]
    drawn = make_runs()
    drawn["pool.fingerprint"] = "pool of seed " + drawn["seed"].astype(str)
    assert read_arms(ask(drawn, tmp_path)).by == ()


def test_seeds_without_partner_are_left_out_of_differences_and_named(tmp_path):
    frame = make_runs()
    frame = frame[~((frame["design.name"] == "regmix") & (frame["seed"] == 2))]
    found = run(ask(frame, tmp_path))
    regmix = found.rows[-1]
    assert (regmix.dev.n, regmix.gain.n) == (5, 5)
    assert found.notes == ("regmix: seeds 2 have no partner in equal",)


def test_one_seed_gives_no_interval(tmp_path):
    found = run(ask(make_runs(n_seeds=1), tmp_path))
    assert found.rows[1].gain.low is None
    ((_, rows),) = list_arms(found)
    assert "(one seed)" in rows[2][2]


def test_mixtures_of_one_name_are_told_apart_and_named_by_their_file(tmp_path):
    frame = make_runs().assign(**{"design.name": "fixed", "design.kind": "fixed"})
    assert set(read_arms(ask(frame, tmp_path, reference="fixed 2")).frame["arm"]) == {"fixed 1", "fixed 2", "fixed 3"}
    for name, (code, math) in {"q": POLICIES["equal"], "ours": POLICIES["causalmix_a"]}.items():
        content = {"weights": {"code": 0.5, "math": 0.5}, "candidate": {"code": code, "math": math}}
        content = content if name == "ours" else {"weights": content["weights"]}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    chosen = {"ours": str(tmp_path / "ours.json"), "q": str(tmp_path / "q.json")}
    arms = read_arms(ask(frame, tmp_path, reference="q", mixtures=chosen))
    assert set(arms.frame["arm"]) == {"q", "ours", "fixed"}
    assert arms.mixtures["ours"] == pytest.approx({"code": 0.7, "math": 0.3})
    with pytest.raises(AnalysisError, match=r"mixtures\.again and mixtures\.q are one mixture"):
        read_arms(ask(frame, tmp_path, mixtures={"q": chosen["q"], "again": chosen["q"]}))


def test_one_mixture_a_pool_is_one_arm(tmp_path):
    frame = make_runs(pools=("p", "q")).assign(**{"design.kind": "fixed"})
    moved = (frame["pool.fingerprint"] == "q") & (frame["design.name"] == "causalmix_a")
    frame.loc[moved, ["mixture.code", "mixture.math"]] = [0.1, 0.9]
    assert set(read_arms(ask(frame, tmp_path)).frame["arm"]) == set(POLICIES)


def test_replicates_count_as_one_run_and_twins_once(tmp_path):
    frame = make_runs()
    again = frame.assign(run_id="r" + frame["run_id"], replicate=1)
    again["outcome.avg_dev"] += 2
    found = run(ask(pd.concat([frame, again]), tmp_path))
    assert found.rows[0].dev.n == 6
    assert found.rows[0].dev.mean == pytest.approx(run(ask(frame, tmp_path)).rows[0].dev.mean + 1)
    assert "replicates of a seed count as one run" in found.notes[0]
    twins = pd.concat([frame, frame.assign(run_id="t" + frame["run_id"])])
    found = run(ask(twins, tmp_path))
    assert found.rows[0].dev.n == 6
    assert found.notes == ("18 runs repeat another one to the last bit and count once with it",)


def test_a_study_names_its_arms(tmp_path):
    rows = [
        (f"{arm} for a" if arm == "causalmix_a" else arm, target, 2, seed, EFFECTS[arm] + seed, 1.0)
        for target in "ab"
        for arm in ("equal", "causalmix_a")
        for seed in range(3)
    ]
    frame = pd.DataFrame(rows, columns=["arm", "target", "size", "seed", "outcome", "unseen"])
    frame.to_csv(tmp_path / "confirmation.csv", index=False)
    for source in (tmp_path, tmp_path / "confirmation.csv"):
        found = run(CompareConfig(runs=str(source)))
        assert [row.arm for row in found.rows] == ["equal", "causalmix_a", "equal", "causalmix_a for a"]
        assert found.rows[1].gain.mean == 1.0
        assert list_mixtures(found) == []


def test_every_page_holds_every_figure(tmp_path):
    found = run(ask(make_runs(pools=("p", "q")), tmp_path))
    pages = [write_markdown(found), write_latex(found), write_html(found)]
    for _, rows in list_arms(found):
        for cell in (cell for row in rows[1:] for cell in row[1:]):
            assert all(cell in page for page in pages), cell
    assert all("95" in page for page in pages)
    body = pages[2].split("<main>")[1].split("</main>")[0]
    tables = ElementTree.fromstring(f"<main>{body}</main>").findall("table")
    assert len(tables) == 3
    assert "http" not in pages[2]  # nothing is loaded from elsewhere


def test_a_table_without_an_unseen_split_says_so(tmp_path):
    found = run(ask(make_runs().drop(columns="unseen.avg"), tmp_path))
    assert found.notes == ("no run has unseen.avg: the unseen split is left out",)
    ((_, rows),) = list_arms(found)
    assert rows[0] == ["mixture", "dev", "over equal", "seeds"]


def test_files_and_json(tmp_path, capsys):
    cfg = ask(make_runs(), tmp_path, output_dir=str(tmp_path / "out"), as_json=True)
    compare(cfg)
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "out" / "compare.json").read_text())
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"compare.{e}" for e in ("md", "tex", "html", "json")
    }


def test_what_is_missing_or_wrong_is_named(tmp_path):
    frame = make_runs()
    doubled = pd.concat([frame, frame.assign(run_id="x" + frame["run_id"], **{"outcome.avg_dev": 1.0})])
    lacking = pd.concat([frame, make_runs(pools=("q",)).query("`design.name` != 'equal'")])
    cases = [
        (frame, {"reference": "equl"}, r"no such arm \(did you mean 'equal'\?\); the runs have"),
        (frame, {"cohort": "confirmatoin"}, r"did you mean 'confirmation'\?\); the table has confirmation \(18\)"),
        (frame, {"arm": "design.nam"}, r"no column design\.nam \(did you mean 'design\.name'"),
        (frame, {"by": ["size"]}, "no column size"),
        (frame, {"unseen": "unseen.av"}, r"no column unseen\.av \(did you mean 'unseen\.avg'"),
        (frame, {"confidence": 1.0}, "from .5 to below 1"),
        (frame, {"mixtures": "a.json"}, "a mapping"),
        (doubled, {}, "more than one run of causalmix_a, seed 0, causalmix_a, seed 1"),
        (lacking, {}, r"reference=equal was not trained on pool\.fingerprint=q"),
        (frame.assign(**{"unseen.avg": np.nan}), {}, r"unseen\.avg is no finite number"),
    ]
    for table, settings, message in cases:
        with pytest.raises(Exception, match=message) as caught:
            run(ask(table, tmp_path, **settings))
        assert caught.value.exit_status == 2
    (tmp_path / "m.json").write_text(json.dumps({"weights": {"code": 0.9, "math": 0.1}}))
    with pytest.raises(AnalysisError, match="no run was trained on ours"):
        run(ask(frame, tmp_path, mixtures={"ours": str(tmp_path / "m.json")}))
    with pytest.raises(AnalysisError, match=r"runs=\.\.\. is missing"):
        run(CompareConfig())


def test_the_command(tmp_path):
    cfg = ask(make_runs(), tmp_path)
    asked = [f"runs={cfg.runs}", f"output_dir={tmp_path / 'out'}"]
    ended = launch(*asked, "--json", module="analysis.compare")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["reference"] == "equal"
    ended = launch(*asked, "reference=best", module="analysis.compare")
    assert (ended.returncode, "Traceback" in ended.stderr) == (2, False)
    assert ended.stderr.startswith("error: reference=best: no such arm")
