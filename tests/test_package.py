"""What gets installed is what the tree holds, whichever way it is installed."""

import ast
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import tinynet
from tinynet.moved import MOVED

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="needs the source tree")


def tree():
    """The files that an installation must hold, as paths below site-packages."""
    files = {p.relative_to(ROOT).as_posix() for p in (ROOT / "tinynet").rglob("*") if p.suffix == ".py"}
    files.add("tinynet/py.typed")
    files |= {p.relative_to(ROOT).as_posix() for p in (ROOT / "tinynet" / "play" / "static").iterdir()}
    kernels = (p for p in (ROOT / "kernels").iterdir() if p.suffix in {".py", ".cu", ".cuh", ".h", ".md"})
    return files | {f"tinynet/kernels/{p.name}" for p in kernels}


def pip(*args, cwd=ROOT):
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *args],
        cwd=cwd,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the tree, so that building leaves nothing in it."""
    import shutil

    copy = tmp_path_factory.mktemp("source") / "tinynet"
    shutil.copytree(
        ROOT,
        copy,
        ignore=shutil.ignore_patterns(
            ".git", ".venv", "*.egg-info", "build", "__pycache__", ".*_cache", "runs", ".hypothesis"
        ),
    )
    return copy


def no_isolation():
    """Build with the setuptools that is here, so that no network is needed."""
    pytest.importorskip("setuptools", reason="setuptools is not installed here (pip install setuptools wheel)")
    return "--no-build-isolation"


def test_built_wheel_and_plain_install_hold_the_tree(source, tmp_path):
    pip("wheel", "--no-deps", no_isolation(), "-w", str(tmp_path), str(source))
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {n for n in archive.namelist() if ".dist-info/" not in n}
    assert held == tree()
    target = tmp_path / "site"
    pip("install", "--no-deps", no_isolation(), "--target", str(target), str(source))
    held = {
        p.relative_to(target).as_posix()
        for p in target.rglob("*")
        if p.is_file() and "__pycache__" not in p.parts and ".dist-info" not in str(p) and "bin" not in p.parts
    }
    assert held == tree()


def test_editable_install_finds_the_kernels(source, tmp_path):
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    (site,) = home.glob("lib/python3*/site-packages")
    here = Path(sysconfig.get_path("purelib"))  # all but tinynet comes from the environment that runs the tests
    others = tmp_path / "others"
    others.mkdir()
    for entry in here.iterdir():
        if "tinynet" not in entry.name and entry.suffix != ".pth":
            (others / entry.name).symlink_to(entry)
    (site / "others.pth").write_text(str(others))
    pip("--python", str(python), "install", "--no-deps", no_isolation(), "-e", str(source))
    code = (
        "from importlib.resources import files; import tinynet, tinynet.kernels; "
        "print(tinynet.__file__); print(sorted(p.name for p in files('tinynet.kernels').iterdir()))"
    )
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # it would come first
    done = subprocess.run([str(python), "-c", code], cwd=tmp_path, capture_output=True, text=True, env=plain)
    assert done.returncode == 0, done.stderr
    where, names = done.stdout.strip().split("\n")
    assert Path(where).is_relative_to(source)
    for name in (p.name for p in (ROOT / "kernels").iterdir() if p.suffix in {".cu", ".cuh", ".h"}):
        assert name in ast.literal_eval(names)


def test_every_subpackage_is_named():
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10
        pytest.skip("tomllib needs Python 3.11")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    named = set(project["tool"]["setuptools"]["packages"])
    found = {p.parent.relative_to(ROOT).as_posix().replace("/", ".") for p in (ROOT / "tinynet").rglob("__init__.py")}
    assert named == found | {"tinynet.kernels"}
    assert {d.split(">")[0] for d in project["project"]["dependencies"]} == {"numpy", "tqdm", "safetensors"}


def test_top_level_holds_what_the_design_names():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    top = {line.split("/")[0] for line in listed.stdout.split("\n") if line}
    assert {n for n in top if not n.startswith(".")} == {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "tinynet",
        "kernels",
        "tests",
        "benchmarks",
    }


def test_importing_is_quiet_and_light():
    code = (
        "import sys, warnings; warnings.simplefilter('error'); import tinynet; "
        "print(sorted(m for m in ('cupy', 'torch', 'matplotlib', 'PIL') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("[]\n", "", 0)


def test_imports_run_downwards_only():
    floors = ["backends", "tensor", "autograd", "ops", "nn", "models"]
    for floor, name in enumerate(floors):
        base = ROOT / "tinynet"
        paths = sorted((base / name).rglob("*.py")) if (base / name).is_dir() else [base / f"{name}.py"]
        for path in paths:
            depth = len(path.relative_to(base).parts)
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and node.level >= depth:
                    targets = [node.module.split(".")[0]] if node.module else [a.name for a in node.names]
                    for target in targets:
                        if target in floors:
                            below = floors.index(target) <= floor
                            assert below or _type_checking(path, node), f"{path} imports {target}"


def _type_checking(path, node):
    """Whether the import stands under `if TYPE_CHECKING:` (indented there)."""
    return node.col_offset > 0 and path.name == "tensor.py"


def test_version():
    assert tinynet.__version__.count(".") == 2


@pytest.mark.parametrize("old", MOVED)
def test_modules_that_moved_keep_their_old_names(old):
    """The same module, still with its own name, and `tn.report` is still the function."""
    code = (
        f"import tinynet as tn, tinynet.{old}, importlib\n"
        f"new = importlib.import_module('tinynet.{MOVED[old]}')\n"
        f"assert importlib.import_module('tinynet.{old}') is new\n"
        f"assert new.__spec__.name == new.__name__ == 'tinynet.{MOVED[old]}'\n"
        "assert callable(tn.report) and callable(tn.fit) and tn.checkpoint.CheckpointError\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
