"""One run, from config to record: the order of events, the streams of a seed, bitwise repeats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from causalmix.run.proxy import run_proxy, spawn_integer
from causalmix.run.record import Record
from causalmix.run.workshop import Workshop
from causalmix.sweep.points import Inputs, find_base, identify, to_config
from causalmix.sweep.worker import make_point
from tests.tiny import compose_tiny


class Bench:
    """Runs tiny points in this process and keeps what was made once."""

    def __init__(self, outputs: Path) -> None:
        self.outputs = outputs
        self.inputs = Inputs(outputs)
        self.workshop = Workshop()
        self.bases: dict[str, Path | None] = {}

    def make_entry(self, *overrides: str) -> dict[str, Any]:
        run = identify(compose_tiny(self.outputs, *overrides), self.inputs)
        base = find_base(run.plain, run.pool_dir, self.inputs, self.bases)
        return {
            "run_id": run.run_id,
            "plain": run.plain,
            "pool_dir": str(run.pool_dir),
            "pool_fingerprint": self.inputs.fingerprints[run.pool_dir],
            "base_dir": str(base),
            "git_sha": None,
        }

    def run(self, folder: Path, *overrides: str) -> Record:
        entry = self.make_entry(*overrides)
        return run_proxy(make_point(entry, "sweep"), folder / entry["run_id"], self.workshop)


@pytest.fixture(scope="module")
def bench(tiny_outputs: Path) -> Bench:
    return Bench(tiny_outputs)


def select(record: Record, *prefixes: str) -> dict[str, Any]:
    assert record.status == "complete", record.cause
    chosen = {name: value for name, value in record.row.items() if name.startswith(prefixes)}
    assert chosen
    return chosen


def test_the_state_is_measured_before_the_mixture_is_drawn(bench: Bench, tmp_path: Path) -> None:
    record = bench.run(tmp_path)
    events = [event["event"] for event in record.events]
    assert events == [
        "state_measured",
        "mixture_drawn",
        "training_started",
        "training_ended",
        "evaluation_ended",
    ]
    times = [event["at_s"] for event in record.events]
    assert times == sorted(times)
    assert record.events[0]["candidate_fingerprint"] == record.row["pool.fingerprint"]


def test_a_run_writes_what_its_candidate_pool_is_like(bench: Bench, tmp_path: Path) -> None:
    record = bench.run(tmp_path)
    found = select(record, "control.")
    domains = [name.removeprefix("mixture.") for name in record.row if name.startswith("mixture.")]
    kinds = ("tokens_per_document", "n_documents")
    assert set(found) == {f"control.{kind}.{domain}" for kind in kinds for domain in domains}
    assert sum(found[f"control.n_documents.{domain}"] for domain in domains) == record.row["pool.n_documents"]
    pool = bench.workshop.open_pool(Path(bench.make_entry()["pool_dir"]))
    lengths = pool.store.lengths()
    for at, domain in enumerate(domains):  # half of the documents, so near the mean of all of them
        own = lengths[(pool.domain_ids == at) & ~pool.is_reference]
        assert own.min() <= found[f"control.tokens_per_document.{domain}"] <= own.max()
        assert found[f"control.tokens_per_document.{domain}"] == pytest.approx(own.mean(), rel=0.2)
    # Known before the mixture: another design seed moves none of it, another state does.
    assert select(bench.run(tmp_path, "mixture=equal"), "control.") == found
    assert select(bench.run(tmp_path, "seed=1"), "control.") != found


def test_the_folder_of_a_run_holds_what_it_should(bench: Bench, tmp_path: Path) -> None:
    record = bench.run(tmp_path)
    folder = tmp_path / record.run_id
    assert {"config.yaml", "manifest.parquet", "metrics.jsonl", "eval", "record.json"} <= {
        path.name for path in folder.iterdir()
    }
    import pyarrow.parquet as pq

    manifest = pq.read_table(folder / "manifest.parquet").to_pandas()
    assert len(manifest) == record.row["train.n_samples"] == 40
    realised = manifest["domain"].value_counts(normalize=True)
    for name, share in select(record, "realised.").items():
        assert realised.get(name.removeprefix("realised."), 0) == pytest.approx(share)


def test_checkpoints_of_a_complete_run_are_kept_thinned_or_dropped(bench: Bench, tmp_path: Path) -> None:
    kept, rows = {}, []
    for keep in ("none", "weights", "all"):
        folder = tmp_path / keep
        record = bench.run(folder, "train.checkpoint_every=2", f"train.keep_checkpoints={keep}")
        assert record.status == "complete"
        run_dir = folder / record.run_id
        kept[keep] = {file.name for file in run_dir.rglob("*.safetensors")}
        rows.append(record.row["outcome.avg_dev"])
    assert kept["none"] == set()
    assert kept["weights"] == {"model.safetensors"}
    assert kept["all"] == {"model.safetensors", "optimizer.safetensors"}
    assert len(set(rows)) == 1
    assert (tmp_path / "weights" / record.run_id / "model" / "config.json").exists()


def test_shares_sum_to_one_and_counts_follow_them(bench: Bench, tmp_path: Path) -> None:
    record = bench.run(tmp_path, "seed=3")
    targets, realised = select(record, "mixture."), select(record, "realised.")
    assert sum(targets.values()) == pytest.approx(1, abs=1e-12)
    assert sum(realised.values()) == pytest.approx(1, abs=1e-12)
    for name, share in targets.items():
        assert abs(realised[name.replace("mixture.", "realised.")] - share) <= 1 / 40 + 1e-12


def test_another_mixture_config_leaves_the_state_alone(bench: Bench, tmp_path: Path) -> None:
    """X is independent of T: it is drawn from a stream of its own, and nothing of T reaches it."""
    drawn = bench.run(tmp_path, "seed=5")
    wide = bench.run(tmp_path, "seed=5", "mixture.concentration_min=2", "mixture.prior=equal")
    equal = bench.run(tmp_path, "seed=5", "mixture=equal", "train.n_samples=20")
    for other in (wide, equal):
        assert select(other, "state.", "pool.") == select(drawn, "state.", "pool.")
        assert select(other, "mixture.") != select(drawn, "mixture.")


def test_another_state_config_leaves_the_mixture_stream_alone(bench: Bench, tmp_path: Path) -> None:
    one = bench.run(tmp_path, "seed=5")
    other = bench.run(tmp_path, "seed=5", "pool.candidate.tau_sd=.5")
    assert select(other, "mixture.") == select(one, "mixture.")
    assert select(other, "state.") != select(one, "state.")


def test_seeds_differ_in_state_and_mixture(bench: Bench, tmp_path: Path) -> None:
    one, two = bench.run(tmp_path, "seed=1"), bench.run(tmp_path, "seed=2")
    assert select(one, "state.") != select(two, "state.")
    assert select(one, "mixture.") != select(two, "mixture.")


def test_a_replicate_repeats_training_alone(bench: Bench, tmp_path: Path) -> None:
    one, two = bench.run(tmp_path, "seed=1"), bench.run(tmp_path, "seed=1", "replicate=1")
    for prefix in ("state.", "mixture.", "realised.", "pool.", "design."):
        assert select(one, prefix) == select(two, prefix)
    assert select(one, "outcome.") != select(two, "outcome.")
    assert one.run_id != two.run_id


def test_the_same_seed_twice_gives_the_same_bits(bench: Bench, tiny_outputs: Path, tmp_path: Path) -> None:
    """In a warm worker that has done other runs, and in a new one."""
    one = bench.run(tmp_path / "one", "seed=7")
    again = bench.run(tmp_path / "again", "seed=7")
    fresh = Bench(tiny_outputs).run(tmp_path / "fresh", "seed=7")
    prefixes = ("outcome.", "unseen.", "accuracy.", "train.", "state.", "mixture.", "realised.")
    assert select(one, *prefixes) == select(again, *prefixes) == select(fresh, *prefixes)
    manifests = [(tmp_path / name / one.run_id / "manifest.parquet").read_bytes() for name in ("one", "again")]
    assert manifests[0] == manifests[1]


def test_a_failure_is_a_record_with_its_cause(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: object, **__: object) -> None:
        raise RuntimeError("the sky fell")

    with monkeypatch.context() as patch:
        patch.setattr("causalmix.train.loop.train", explode)
        record = bench.run(tmp_path)
    folder = tmp_path / record.run_id
    assert (record.status, record.cause, record.row) == ("failed", "RuntimeError: the sky fell", {})
    assert "the sky fell" in (folder / "log" / "failure.txt").read_text()
    again = bench.run(tmp_path)  # the same run, tried again
    assert again.status == "complete"
    assert not (folder / "log" / "failure.txt").exists()


def test_a_missing_outcome_is_never_complete(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def evaluate(self, *_: object) -> Any:
            return type("Evaluation", (), {"outcomes": {"outcome.avg_dev": float("nan")}})

    monkeypatch.setattr(bench.workshop, "get_evaluator", lambda *_: Broken())
    record = bench.run(tmp_path, "seed=11")
    assert record.status == "failed"
    assert "not finite: outcome.avg_dev" in str(record.cause)


def test_streams_are_separate() -> None:
    from tests.plain import make_plain

    def seeds(**changes: int) -> dict[str, int]:
        config = to_config({**make_plain(), **changes})
        return {name: spawn_integer(config, name) for name in ("state", "design", "documents", "training")}

    base, replicate = seeds(seed=4), seeds(seed=4, replicate=2)
    assert len(set(base.values())) == 4
    assert {name for name in base if base[name] != replicate[name]} == {"documents", "training"}
    assert not set(seeds(seed=5).values()) & set(base.values())
