"""The house rules, read from the code itself: imports point down, and some things are done nowhere or in one place."""

import ast
from pathlib import Path

import pytest

import minicnn

ROOT = Path(minicnn.__file__).parent
FLOORS = {
    0: "shapes errors",
    1: "reference kernels arrays files progress",
    2: "engines parameter initializers losses streams",
    3: "layers optimizers",
    4: "network weights",
    5: "training metrics data figures",
    6: "model networks",
    7: "runs experiment doctor report cli __main__",
}
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms.split()}
FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")
EVENING = [path for path in FILES if FLOOR[path.relative_to(ROOT).parts[0].removesuffix(".py")] <= 4
           or path.stem in ("training", "model", "networks")]


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


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    room = room_of(path)
    above = [f"line {line} imports {other}, floor {FLOOR[other]}" for line, other in imports_of(path)
             if FLOOR[other] > FLOOR[room]]
    assert not above, f"{room} is on floor {FLOOR[room]}: {above}"


def test_the_tester_sees_an_import_upwards(tmp_path):
    (tmp_path / "x.py").write_text("def f():\n    from minicnn.model import Sequential\n")
    assert list(imports_of(tmp_path / "x.py")) == [(2, "model")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_some_things_are_never_done(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = {alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    assert not modules & {"pickle", "marshal", "shelve", "subprocess", "socket", "urllib", "http", "random", "ctypes"}
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not called & {"eval", "exec", "compile", "__import__"}
    if path.stem != "streams":
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "random"
                    and isinstance(node.value, ast.Name) and node.value.id == "np"]
    if path.stem != "jit":
        assert not any(word in path.read_text() for word in ("@njit", "numba.njit", "fastmath=True", "parallel=True)"))


@pytest.mark.parametrize("path", [path for path in FILES if path.stat().st_size],
                         ids=lambda path: str(path.relative_to(ROOT)))
def test_every_room_says_what_it_is_for(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_the_evening_is_one_evening():
    lines = sum(1 for path in EVENING for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    assert lines < 4000, lines


def test_the_public_names():
    assert minicnn.__all__ == [
        "__version__", "Sequential", "cov19net", "Layer", "Conv2D", "MaxPool2D", "AveragePool2D", "Flatten", "Dense",
        "ReLU", "Sigmoid", "Tanh", "Softmax", "Dropout", "Parameter", "Adam", "SGD", "BinaryCrossentropy",
        "CategoricalCrossentropy", "MeanSquaredError", "History", "Callback", "EarlyStopping", "LearningRateSchedule",
        "Checkpoint", "CSVHistory", "set_thread_count", "thread_count", "MiniCNNError", "ShapeError", "InputError",
        "DTypeError", "ImageError", "ManifestError", "WeightsError", "CheckpointError", "NonFiniteError",
        "RunLockedError", "MissingExtraError"]
    for name in minicnn.__all__:
        assert getattr(minicnn, name) is not None and name in dir(minicnn)
    with pytest.raises(AttributeError, match="has no attribute 'Conv3D'"):
        minicnn.Conv3D
