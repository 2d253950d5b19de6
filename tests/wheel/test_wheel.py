"""The wheel works where there is no checkout: its configs, its pages and its commands come with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.analysis.synthetic import make_frame

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("src", "analysis", "conf")
FILES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "launch.py")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Build from a copy of the sources, without a network, and install into a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    source, target = folder / "source", folder / "target"
    for name in SOURCES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in FILES:
        shutil.copy2(ROOT / name, source / name)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(source)]
    subprocess.run(build, check=True, capture_output=True, text=True, timeout=250)
    (wheel,) = folder.glob("*.whl")
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(target), str(wheel)]
    subprocess.run(install, check=True, capture_output=True, text=True, timeout=120)
    return wheel, target


def run(installed, tmp_path, *arguments):
    """Run a command with the installed wheel alone, in a folder that holds nothing else of the project."""
    environment = os.environ | {"PYTHONPATH": str(installed[1]), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=250
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.slow
def test_the_wheel_carries_what_the_packages_read(installed):
    names = zipfile.ZipFile(installed[0]).namelist()
    configs = [path.relative_to(ROOT).as_posix() for path in (ROOT / "conf").rglob("*.yaml")]
    read = [
        path.relative_to(ROOT).as_posix().removeprefix("src/")
        for folder in ("src/causalmix", "analysis")
        for ending in ("yaml", "jinja", "css", "js", "typed")
        for path in (ROOT / folder).rglob(f"*.{ending}")
    ]
    assert len(configs) > 50
    assert {f"causalmix/{name}" for name in configs} | set(read) <= set(names)
    assert not [name for name in names if name.startswith(("tests", "conf/", "docs", "benchmarks"))]


@pytest.mark.slow
def test_an_analysis_runs_outside_of_a_checkout(installed, tmp_path):
    make_frame(96).to_csv(tmp_path / "runs.csv", index=False)
    where = run(installed, tmp_path, "-c", "import analysis, causalmix; print(analysis.__file__, causalmix.__file__)")
    assert where.count(str(installed[1])) == 2
    settings = "estimator=own_state baselines=[equal] n_refits=2 estimator.nuisance.outcome=ridge output_dir=out"
    said = run(installed, tmp_path, "-m", "analysis", "runs=runs.csv", *settings.split())
    assert "policy causalmix_a" in said
    assert (tmp_path / "out" / "mixture.json").is_file()
    assert "explorer-data" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_commands_are_there(installed, tmp_path):
    command = str(installed[1] / "bin" / "causalmix")
    assert "Pools, sweeps and runs tables" in run(installed, tmp_path, command, "--help")
    said = run(installed, tmp_path, "-m", "causalmix", "--help")
    assert "demo, real_pool, stages, study" in said
    completed = run(installed, tmp_path, command, "--show-completion", "bash")
    assert "complete -o default -F _causalmix_completion causalmix" in completed
    composed = run(installed, tmp_path, "-m", "causalmix", "mixture=equal", "--cfg", "job")
    assert "kind: equal" in composed
