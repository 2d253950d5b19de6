from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of the kernel's own machinery
def test_the_notebook_runs_and_says_what_it_shows(tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}:{ROOT}")
    shown = nbformat.read(NOTEBOOK, as_version=4)
    assert all(cell.outputs for cell in shown.cells if cell.cell_type == "code" and "print" in cell.source)
    run = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(run, timeout=250, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert (tmp_path / "report.html").is_file()

    def read(notebook):
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        return "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")

    assert "given - The predicted gain over the reference" in read(run)
    assert read(run) == read(shown)  # the same seeds, the same digits
