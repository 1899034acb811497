"""The README's Python runs as it stands (on fewer images)."""

import re
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"


def blocks():
    return re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_the_twenty_lines(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = blocks()[0]
    assert 15 <= len([line for line in code.split("\n") if line.strip()]) <= 22
    namespace = {}
    exec(code.replace("20_000", "1_280").replace("2_000", "200"), namespace)
    assert "parameters" in capsys.readouterr().out
    loaded = namespace["tn"].load("digits.safetensors")
    assert [p.shape for p in loaded.parameters()] == [p.shape for p in namespace["model"].parameters()]


def test_adding_an_operation():
    from tinynet.autograd import OPS

    try:
        namespace = {}
        exec(blocks()[1] + blocks()[2], namespace)
        assert "swish" in OPS
    finally:
        OPS.pop("swish", None)
