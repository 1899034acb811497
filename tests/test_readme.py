"""The README's Python runs as it stands (on fewer images), in a script and in a notebook; its table tells the truth."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

import tinynet as tn

README = Path(__file__).resolve().parent.parent / "README.md"
FEWER = {"20_000": "1_280", "2_000": "400", "500,": "100,"}


def block(start):
    """The Python block that has this text, on fewer images."""
    (found,) = (b for b in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if start in b)
    for many, few in FEWER.items():
        found = found.replace(many, few)
    return found


def test_the_twenty_lines(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = block("model.summary()")
    assert 15 <= len([line for line in code.split("\n") if line.strip()]) <= 22  # a layer a line
    namespace = {}
    exec(code, namespace)
    assert "parameters" in capsys.readouterr().out
    loaded = namespace["tn"].load("digits.safetensors")
    assert [p.shape for p in loaded.parameters()] == [p.shape for p in namespace["model"].parameters()]


def test_adding_an_operation():
    from tinynet.autograd import OPS

    try:
        namespace = {}
        exec(block("def swish") + block("tn.gradcheck(swish"), namespace)
        assert "swish" in OPS
    finally:
        OPS.pop("swish", None)


def test_the_files_of_an_operation_are_there():
    section = README.read_text().split("## Adding an operation")[1].split("\n## ")[0]
    files = re.findall(r"^\d\. `([\w/.]+)`", section, re.M)
    assert len(files) == 5 and all((README.parent / name).exists() for name in files)


def test_buffers_hooks_freezing_and_reports(capsys):
    namespace = {}
    exec(block("class Scaled"), namespace)
    model, means = namespace["model"], namespace["means"]
    assert len(means) >= 4 and all(isinstance(mean, float) for mean in means)
    assert "mean" in model.state_dict() and not model.body[0].weight.requires_grad
    assert "precision" in capsys.readouterr().out and len(namespace["history"]) == 1


def table():
    rows = [line.split("|")[1:-1] for line in README.read_text().splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in row] for row in rows if len(row) == 3 and "floor" not in row[0]]


def test_the_table_names_what_there_is():
    rows = table()
    assert len(rows) >= 30
    places = {"tn": tn, "nn": tn.nn, "ops": tn.ops, "optim": tn.optim}
    for *_, ours in rows:
        for place, rest in re.findall(r"`(tn|nn|ops|optim)\.([\w.]+)", ours):
            thing = places[place]
            for name in rest.split("."):
                thing = getattr(thing, name)


def cells(code):
    """A script cut into the cells of a notebook, where a line at the margin follows an empty one."""
    return [cell for cell in re.split(r"\n\n+(?=\S)", code) if cell.strip()]


@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("nbclient", "ipykernel"))),
    reason="needs nbclient and ipykernel: pip install '.[test]'",
)
def test_in_a_notebook(tmp_path, monkeypatch):
    """In a real kernel: the twenty lines, every cell of them run again, and fit's output."""
    import sys

    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(README.parent))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    spec = tmp_path / "jupyter" / "kernels" / "here"
    spec.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    text = str({"argv": command, "display_name": "here", "language": "python"}).replace("'", '"')
    (spec / "kernel.json").write_text(text)
    code = cells(block("model.summary()"))
    code += [*code[1:], "optimizer", *code[2:], "history = tn.fit(model, (x[:256], y[:256]), epochs=2)\nlen(history)"]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in code])
    client = NotebookClient(book, timeout=300, kernel_name="here", resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    *_, last = book.cells
    results = [output["data"]["text/plain"] for output in last.outputs if output.output_type == "execute_result"]
    assert results == ["2"]
    shown = "".join(output.get("text", "") for output in last.outputs if output.output_type == "stream")
    assert "epoch 2/2" in shown and "loss" in shown
