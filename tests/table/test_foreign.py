"""Doors in: RegMix pairs, olmix swarms, any table with a map of its columns."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from causalmix.cli import app
from causalmix.errors import TableError
from causalmix.table.foreign import load_foreign
from causalmix.table.rename import parse_map
from causalmix.table.runs import load_runs

RUN = CliRunner().invoke


def write(folder, file, /, **columns):
    path = folder / file
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


@pytest.fixture
def regmix(tmp_path):
    """As the public repository has them; the losses' rows stand in another order."""
    mixtures = write(
        tmp_path,
        "mixture.csv",
        index=[1, 2, 3],
        train_the_pile_arxiv=[0.2, 0.5, 1.0],
        train_the_pile_cc=[0.8, 0.5, 0.0],
    )
    losses = write(
        tmp_path,
        "loss.csv",
        **{
            "index": [3, 1, 2],
            "metric/the_pile_arxiv_val_loss": [3.25, 1.125, 2.5],
            "metric/the_pile_cc_val_loss": [1.0, 2.0, 3.0],
        },
    )
    return mixtures, losses


@pytest.fixture
def olmix(tmp_path):
    ratios = write(
        tmp_path,
        "ratios.csv",
        **{"Unnamed: 0": [0, 1], "run": ["hz0", "pj0"], "name": ["s-0", "s-1"], "index": [0, 1]},
        **{"dclm:art": [0.45, 0.6], "wiki": [0.55, 0.4]},
    )
    metrics = write(
        tmp_path,
        "metrics.csv",
        **{"run_id": ["pj0", "hz0", "zz9"], "name": list("abc"), "arc.easy:bpb": [1.5, 1.25, 9]},
    )
    return ratios, metrics


def test_a_regmix_pair(regmix, tmp_path):
    ended = RUN(app, ["table", str(regmix[0]), str(tmp_path / "runs.csv"), "--outcomes", str(regmix[1])])
    assert ended.exit_code == 0, ended.output
    assert "higher is better" in ended.output
    table = load_runs(tmp_path / "runs.csv", needs_state=False)
    assert table.domains == ("arxiv", "cc")
    assert table.frame["run_id"].tolist() == ["1", "2", "3"]
    assert table.weights.tolist() == [[0.2, 0.8], [0.5, 0.5], [1.0, 0.0]]
    assert table.frame["outcome.arxiv"].tolist() == [-1.125, -2.5, -3.25]
    assert table.frame["outcome.avg_dev"].tolist() == [-1.5625, -2.75, -2.125]


def test_an_olmix_swarm(olmix, tmp_path):
    asked = ["table", str(olmix[0]), str(tmp_path / "runs.parquet"), "--outcomes", str(olmix[1])]
    ended = RUN(app, [*asked, "--json"])
    facts = json.loads(ended.output)
    assert facts["n_runs"] == 2
    assert facts["left_out"] == [f"zz9: not in {olmix[0]}"]
    frame = load_runs(tmp_path / "runs.parquet", needs_state=False).frame.set_index("run_id")
    assert frame.loc["pj0", "mixture.dclm:art"] == 0.6
    assert frame.loc["pj0", "outcome.arc_easy:bpb"] == -1.5
    assert RUN(app, [*asked, "--higher-is-better"]).exit_code == 0
    frame = load_runs(tmp_path / "runs.parquet", needs_state=False).frame.set_index("run_id")
    assert frame.loc["pj0", "outcome.avg_dev"] == 1.5


def test_any_table_with_a_map(tmp_path):
    source = write(
        tmp_path, "mine.csv", w_code=[0.25, 1.0], w_text=[0.75, 0.0], acc=[50, 60], ppl=[3.0, 4.0], hes=[1, 2]
    )
    (tmp_path / "map.yaml").write_text("w_code: mixture.code\nw_text: mixture.text\nhes: state.hes\n")
    asked = ["--map", str(tmp_path / "map.yaml"), "--map", "acc=outcome.qa", "--map", "ppl=-outcome.lm"]
    ended = RUN(app, ["table", str(source), str(tmp_path / "runs.csv"), *asked])
    assert ended.exit_code == 0, ended.output
    assert "outcome.avg_dev is the mean of outcome.qa, outcome.lm" in ended.output
    table = load_runs(tmp_path / "runs.csv")
    assert table.frame["run_id"].tolist() == ["row00001", "row00002"]
    assert table.frame["outcome.avg_dev"].tolist() == [23.5, 28.0]
    assert table.features == ("hes",)


def test_a_map_that_changes_nothing_gives_the_same_numbers(tmp_path):
    rng = np.random.default_rng(0)
    shares = rng.dirichlet([1, 1], 20)
    source = write(
        tmp_path, "a.csv", id=[f"{i:02d}" for i in range(20)], a=shares[:, 0], b=shares[:, 1], y=rng.normal(size=20)
    )
    frame, problems, notes = load_foreign(
        str(source), None, ["id=run_id", "a=mixture.a", "b=mixture.b", "y=outcome.avg_dev"]
    )
    assert (problems, notes) == ((), ())
    assert frame["run_id"].tolist()[3] == "03"  # text, not the number 3
    assert np.array_equal(frame[["mixture.a", "mixture.b"]].to_numpy(), shares)


def test_what_is_wrong_is_named(regmix, olmix, tmp_path):
    source = str(write(tmp_path, "mine.csv", code=[0.5], text=[0.5], acc=[None]))
    cases = [
        ((source, None, ["acc"]), r"--map acc: OLD=NEW or a \.yaml file"),
        ((source, None, ["cod=mixture.code"]), r"no column 'cod' \(did you mean 'code'\?\) to map; it has code, text"),
        ((source, None, ["code=mixture.a", "text=mixture.a"]), r"stand there twice: mixture\.a"),
        ((source, None, ["code=mixture.a", "code=mixture.b"]), "mapped twice: code"),
        ((source, None, ["code=mixture.a", "text=mixture.b"]), r"missing columns: outcome\.avg_dev"),
        (
            (source, None, ["code=mixture.a", "text=mixture.b", "acc=-outcome.qa"]),
            r"outcome\.avg_dev is no finite number .*row00001",
        ),
        ((source, None, [str(tmp_path / "no.yaml")]), "cannot be read as YAML"),
        ((source, regmix[1], []), "neither a RegMix pair .* nor an olmix swarm"),
        ((str(regmix[0]), tmp_path / "none.csv", []), "no such file"),
    ]
    for arguments, message in cases:
        with pytest.raises(TableError, match=message):
            load_foreign(*arguments)
    with pytest.raises(TableError, match="--higher-is-better belongs to --outcomes"):
        load_foreign(source, None, [], higher_is_better=True)
    others = write(tmp_path, "others.csv", run=["q"], bpb=[1.0])
    with pytest.raises(TableError, match="no run in common: hz0, pj0 in `run`, q in `run`"):
        load_foreign(str(olmix[0]), others, [])
    doubled = write(tmp_path, "doubled.csv", run=["hz0", "hz0"], bpb=[1.0, 2.0])
    with pytest.raises(TableError, match="stand in `run` twice: hz0"):
        load_foreign(str(olmix[0]), doubled, [])
    assert parse_map(["a=b=mixture.c"]) == {"a=b": "mixture.c"}
