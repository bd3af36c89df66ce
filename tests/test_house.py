"""The house rules, read from the code itself: imports point down, and some things are done nowhere or in one place."""

import ast
from pathlib import Path

import pytest
from source_rules import could_run_data, imported

import minicnn

ROOT = Path(minicnn.__file__).parent
FLOORS = {
    0: "shapes errors",
    1: "reference kernels arrays buffers files progress interrupts",
    2: "engines parameter initializers losses streams",
    3: "layers optimizers",
    4: "steps network weights checks",
    5: "training callbacks checkpoint metrics data figures",
    6: "model networks",
    7: "recipes runs plan parts judging asking experiment doctor warmup report teaching evaluation reproduction cli __main__",
}
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms.split()}
FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")
KERNELS = [path for path in FILES if path.parent.name == "kernels"]
# One evening: the reading order of CONTRIBUTING.md, with the three rooms of the kernels that it names. The other kernels
# compute what reference.py says, and are a second evening; so are the checks, and how signals are caught.
EVENING = [path for path in FILES if (FLOOR[path.relative_to(ROOT).parts[0].removesuffix(".py")] <= 4
           or path.stem in ("training", "model", "networks")) and path.parent.name != "checks"
           and path.stem != "interrupts"
           and (path not in KERNELS or path.stem in ("simd", "tiles", "blocks"))]


def room_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports_of(path):
    """Yield (line, room) of everything a file imports from minicnn, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "minicnn":
            rest = node.module.split(".")[1:]
            names = rest[:1] or [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".")[1] for alias in node.names if alias.name.startswith("minicnn.")]
        for name in names:
            if name in FLOOR:
                yield node.lineno, name


# model.trace(x) opens the annex from the face. The one door upwards, late and known: nobody passes it who does not ask.
KNOWN_UPWARDS = {("model", "teaching")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    room = room_of(path)
    above = [f"line {line} imports {other}, floor {FLOOR[other]}" for line, other in imports_of(path)
             if FLOOR[other] > FLOOR[room] and (room, other) not in KNOWN_UPWARDS]
    assert not above, f"{room} is on floor {FLOOR[room]}: {above}"


def test_the_tester_sees_an_import_upwards(tmp_path):
    (tmp_path / "x.py").write_text("def f():\n    from minicnn.model import Sequential\n")
    assert list(imports_of(tmp_path / "x.py")) == [(2, "model")]


# source.open_source opens whatever it is given, a manifest too; a manifest makes sources. The one circle, late and
# known.
KNOWN_CIRCLE = {"minicnn.data.source": {"minicnn.data.manifest"}}


def test_no_file_needs_itself():
    """Imports among all files, those inside functions too, form no circle: there is an order to read them in."""
    needs = {}
    modules = {".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
               for path in FILES}
    for module, path in modules.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        # `from package import module` asks for the module alone.
        needs[module] = {name if name in modules else node.module for node in nodes for name in
                         [f"{node.module}.{alias.name}" for alias in node.names]}
        needs[module] -= KNOWN_CIRCLE.get(module, set())
    left = set(needs)
    while ready := {module for module in left if not needs[module] & left - {module}}:
        left -= ready
    assert not left, "these need each other"


def forbidden(tree, file):
    """Return what a file does that is done nowhere, or only in a room of another name."""
    found, stem = could_run_data(tree, file), Path(file).stem
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {name for name in imported(node) if name.split(".")[0] == "random"}
            found |= {name for name in imported(node) if name.startswith("numpy.random") and stem != "streams"}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = f"{node.value.id}.{node.attr}"
            found |= {name} & ({"np.random"} if stem != "streams" else set())
            found |= {name} & ({"numba.njit", "numba.jit"} if stem != "jit" else set())
        elif isinstance(node, ast.keyword) and node.arg in ("fastmath", "parallel"):
            found.add(node.arg)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_some_things_are_never_done(path):
    assert not forbidden(ast.parse(path.read_text(encoding="utf-8")), str(path.relative_to(ROOT)))


@pytest.mark.parametrize("code", ["import pickle", "def f():\n from subprocess import run", "import os.path, socket",
                                  "eval('1')", "np.random.default_rng()", "from numpy import random",
                                  "import numpy.random as r", "numba.njit(f)", "kernel(f, fastmath=True)",
                                  "os.system('ls')", "import importlib", "np.load(f, allow_pickle=True)"])
def test_the_tester_sees_what_is_never_done(code):
    assert forbidden(ast.parse(code), "model.py")
    assert not forbidden(ast.parse("import numpy as np\nimport re\nre.compile('a')\nmodel.compile(SGD())"), "model.py")


@pytest.mark.parametrize("path", [path for path in FILES if path.stat().st_size],
                         ids=lambda path: str(path.relative_to(ROOT)))
def test_every_room_says_what_it_is_for(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def code_lines(path):
    """Count the lines of code: not blank, no comment, no docstring."""
    text = path.read_text(encoding="utf-8")
    told = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            told |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return sum(1 for number, line in enumerate(text.splitlines(), 1)
               if line.strip() and not line.strip().startswith("#") and number not in told)


def test_the_evening_is_one_evening():
    assert sum(map(code_lines, EVENING)) <= 2700
    assert sum(map(code_lines, KERNELS)) <= 2210
    lines = sum(1 for path in EVENING for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    assert lines < 4000, lines


def test_the_public_names():
    assert minicnn.__all__ == [
        "__version__", "Sequential", "cov19net", "Layer", "Conv2D", "MaxPool2D", "AveragePool2D", "Flatten", "Dense",
        "ReLU", "Sigmoid", "Tanh", "Softmax", "Dropout", "Parameter", "Adam", "AdamW", "SGD", "gradcheck", "assert_gradients",
        "check_optimizer", "check_determinism", "BinaryCrossentropy",
        "CategoricalCrossentropy", "MeanSquaredError", "History", "Callback", "EarlyStopping", "LearningRateSchedule",
        "WeightAverage",
        "Checkpoint", "CSVHistory", "set_thread_count", "thread_count", "MiniCNNError", "ShapeError", "InputError",
        "DTypeError", "ImageError", "ManifestError", "WeightsError", "CheckpointError", "NonFiniteError",
        "RunLockedError", "MissingExtraError"]
    for name in minicnn.__all__:
        assert getattr(minicnn, name) is not None and name in dir(minicnn)
    with pytest.raises(AttributeError, match="has no attribute 'Conv3D'"):
        minicnn.Conv3D
