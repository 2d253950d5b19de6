"""What runs of the paper's models take, before anything of them is here."""

from __future__ import annotations

import json
import re
import shlex

import pytest

from causalmix.cli import compose_bare
from causalmix.run.estimate import Estimate, estimate_run, render_bytes
from causalmix.sweep.points import to_config
from tests.tiny import ROOT, launch


def estimate(*overrides: str, tokens: float | None = 1200.0) -> Estimate:
    return estimate_run(to_config(compose_bare([*overrides, "pool=jsonl"])), tokens)


def test_the_target_fits_on_eight_gpus_and_not_on_one() -> None:
    eight = estimate("experiment=causalmix_sft_target")
    assert eight.fits
    assert eight.n_gpus == 8
    assert eight.seconds is not None
    assert eight.seconds < eight.limit_s
    assert eight.checkpoint_bytes == 12 * 7_615_616_512
    one = estimate("experiment=causalmix_sft_target", "resources=gpu")
    assert not one.fits
    assert "DOES NOT FIT into 80.0 GB" in "\n".join(one.describe())


def test_the_paper_s_proxies_cost_what_the_paper_says() -> None:
    """5.53e20 operations for 512 runs; the paper does not say how long its documents are."""
    proxies = estimate("experiment=causalmix_sft")
    assert 512 * proxies.operations == pytest.approx(5.53e20, rel=0.05)
    assert proxies.fits


def test_time_is_operations_over_speed() -> None:
    slow = estimate("experiment=causalmix_sft", "resources.utilisation=0.2")
    fast = estimate("experiment=causalmix_sft", "resources.utilisation=0.4")
    assert fast.seconds is not None
    assert slow.seconds == pytest.approx(2 * fast.seconds)
    assert fast.seconds == pytest.approx(fast.operations / (312e12 * 0.4))
    assert "GPU-hours" in fast.describe(n_runs=512)[-1]
    late = estimate("experiment=causalmix_sft", "resources.timeout_min=10")
    assert "LONGER than resources.timeout_min=10" in late.describe()[-1]


def test_without_a_length_documents_are_as_long_as_rows() -> None:
    most = estimate("experiment=causalmix_sft", tokens=None)
    assert most.tokens == 4096 * 100_000 * 3
    assert "at most: for documents as long as rows" in "\n".join(most.describe())
    given = estimate("experiment=causalmix_sft", tokens=1e9)
    assert given.tokens == most.tokens
    assert "at most" not in "\n".join(given.describe())


def test_what_is_not_known_is_said() -> None:
    tiny = estimate("model=tiny")
    assert tiny.fits is None
    said = "\n".join(tiny.describe())
    assert "resources.gpu_memory_gb is not set" in said
    assert "resources.gpu_tflops is not set" in said
    assert render_bytes(5e6) == "5.0 MB"


def test_the_page_shows_what_the_command_prints() -> None:
    page = (ROOT / "docs" / "paper.md").read_text()
    block = r"```bash\ncausalmix estimate ([^\n]+)\n```\n\n<!-- the output[^\n]*\n```text\n(.+?)\n```"
    shown = re.findall(block, page, re.DOTALL)
    assert len(shown) == 3
    for command, output in shown:
        words = shlex.split(command)
        options = {words[at]: float(words[at + 1]) for at in range(1, len(words), 2)}
        found = estimate(words[0], tokens=options["--tokens-per-document"])
        assert found.describe(int(options.get("--n-runs", 1))) == output.splitlines(), command


@pytest.mark.slow
def test_the_command_prints_lines_and_json() -> None:
    arguments = ["estimate", "experiment=causalmix_sft_target", "pool=jsonl", "--tokens-per-document", "1200"]
    lines = launch(*arguments, module="causalmix.cli")
    assert lines.returncode == 0, lines.stderr
    assert lines.stdout.startswith("model      qwen2.5_7b: 7,615,616,512 weights\n")
    facts = json.loads(launch(*arguments, "--json", module="causalmix.cli").stdout)
    assert facts["fits"] is True
    assert facts["shapes"]["n_parameters"] == 7_615_616_512
