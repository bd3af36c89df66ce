"""The rules of the source, read from it: imports point down, and some things are done nowhere or in one place."""

import ast
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import minicnn
from tests.support.source_rules import could_run_data, imported

ROOT = Path(minicnn.__file__).parent
# From the ground up; CONTRIBUTING.md says what each is for.
GROUPS = ("errors core reference kernels initializers metrics losses regularizers optimizers layers network fusion weights gradient_check "
          "data checkpoint callbacks training keras_names model_data frozen model networks interop distributed plotting evaluation reporting experiment study teaching cli "
          "__main__").split()
# The imports upwards, each inside a function: engines are looked up from below; model.trace(x) explains a network, and
# History.plot draws it.
KNOWN_UPWARDS = {("core/backend.py", "reference"), ("core/backend.py", "kernels"), ("core/backend.py", "fusion"),
                 ("model.py", "teaching"), ("callbacks/history.py", "plotting")}
FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")
KERNELS = [path for path in FILES if path.relative_to(ROOT).parts[0] == "kernels"]


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def group_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports_of(path):
    """Yield (line, group) of everything a file imports from minicnn, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "minicnn":
            rest = node.module.split(".")[1:]
            names = rest[:1] or [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".")[1] for alias in node.names if alias.name.startswith("minicnn.")]
        for name in names:
            if name in GROUPS:
                yield node.lineno, name


def test_every_file_is_in_a_group():
    assert {group_of(path) for path in FILES} == set(GROUPS)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_down(path):
    group = group_of(path)
    above = [f"line {line} imports {other}" for line, other in imports_of(path)
             if GROUPS.index(other) > GROUPS.index(group) and (name_of(path), other) not in KNOWN_UPWARDS]
    assert not above, f"{name_of(path)}: {above}"


def test_the_tester_sees_an_import_upwards(tmp_path):
    (tmp_path / "x.py").write_text("def f():\n    from minicnn.model import Sequential\n")
    assert list(imports_of(tmp_path / "x.py")) == [(2, "model")]


# loader.open_dataset opens whatever it is given, a manifest too; a manifest makes datasets. That circle, and those of the
# imports upwards, are late and known.
KNOWN_CIRCLE = {"minicnn.data.loader": {"minicnn.data.manifest"}}
for _path, _group in KNOWN_UPWARDS:
    KNOWN_CIRCLE.setdefault("minicnn." + _path.removesuffix(".py").replace("/", "."), set()).add(f"minicnn.{_group}")


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
        needs[module] = {other for other in needs[module] if not any(
            other == known or other.startswith(f"{known}.") for known in KNOWN_CIRCLE.get(module, ()))}
    left = set(needs)
    while ready := {module for module in left if not needs[module] & left - {module}}:
        left -= ready
    assert not left, "these need each other"


def test_the_package_itself_holds_few_files():
    assert len(list(ROOT.glob("*.py"))) <= 16


def test_the_picture_of_the_groups_is_true():
    """CONTRIBUTING.md names every file, below the group that holds it, and the groups in their order."""
    text = (ROOT.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    picture = text[text.index("<!-- groups: begin -->"):text.index("<!-- groups: end -->")]
    named, folder = {}, ""
    for line in re.findall(r"^( *[a-z_/].*)$", picture.replace("```", ""), re.M):
        words = line.split("|")[0].split()
        if words[0].endswith("/"):
            folder = words.pop(0)
        elif not line.startswith(" "):
            folder = ""
        named.setdefault(folder, []).extend(words)
    files = {}
    for path in FILES:
        if path.name != "__init__.py" and "stubs" not in path.parts:
            parent = path.parent.relative_to(ROOT).as_posix()
            files.setdefault("" if parent == "." else f"{parent}/", []).append(path.stem)
    assert {folder: sorted(names) for folder, names in named.items()} == {folder: sorted(names) for folder, names in files.items()}
    order = re.findall(r"^([a-z_]+)\b", picture.replace("```", ""), re.M)
    assert [group for group in GROUPS if group in order] == list(dict.fromkeys(order))


# A family is called as its main operation is, and the package always means the operation: it is imported whole first.
FAMILIES = {("minicnn.reference", "dense"), ("minicnn.kernels", "dense")}


def test_no_module_bears_the_name_of_a_function_of_its_parent():
    for path in FILES:
        if path.name == "__init__.py":
            parent = ".".join(path.parent.relative_to(ROOT.parent).parts)
            public = set(getattr(importlib.import_module(parent), "__all__", ()))
            modules = {other.stem for other in path.parent.glob("*.py")} | {other.parent.name for other in
                                                                           path.parent.glob("*/__init__.py")}
            assert {(parent, name) for name in public & modules} <= FAMILIES
    assert not set(minicnn.__all__) & {path.stem for path in ROOT.glob("*")}


def forbidden(tree, file):
    """Return what a file does that is done nowhere, or only in a file of another name."""
    found, stem = could_run_data(tree, file), Path(file).stem
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {name for name in imported(node) if name.split(".")[0] == "random"}
            found |= {name for name in imported(node) if name.startswith("numpy.random") and stem != "random"}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = f"{node.value.id}.{node.attr}"
            found |= {name} & ({"np.random"} if stem != "random" else set())
            found |= {name} & ({"numba.njit", "numba.jit"} if stem != "jit" else set())
        elif isinstance(node, ast.keyword) and node.arg in ("fastmath", "parallel"):
            found.add(node.arg)
    return found


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_some_things_are_never_done(path):
    assert not forbidden(ast.parse(path.read_text(encoding="utf-8")), str(path.relative_to(ROOT)))


@pytest.mark.parametrize("code", ["import pickle", "def f():\n from subprocess import run", "import os.path, socket",
                                  "eval('1')", "np.random.default_rng()", "from numpy import random",
                                  "import numpy.random as r", "numba.njit(f)", "kernel(f, fastmath=True)",
                                  "os.system('ls')", "import importlib", "np.load(f, allow_pickle=True)"])
def test_the_tester_sees_what_is_never_done(code):
    assert forbidden(ast.parse(code), "model.py")
    assert not forbidden(ast.parse("import numpy as np\nimport re\nre.compile('a')\nmodel.compile(SGD())"), "model.py")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_file_says_what_it_is_for(path):
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


# One evening's reading (CONTRIBUTING.md): what runs and trains COV-19Net on the reference engine, and nothing more.
EVENING = [ROOT / f"{name}.py" for name in """
    errors core/__init__ core/arguments core/backend core/memory core/parameter core/random core/shapes core/validation
    reference/__init__ reference/activations reference/convolution reference/dense reference/losses reference/optimizers
    reference/pooling reference/regularization reference/windows
    layers/__init__ layers/activations layers/affine layers/base layers/convolution layers/dense layers/pooling
    layers/regularization layers/windows initializers losses/__init__ optimizers/__init__ metrics/__init__ network training networks/cov19""".split()]


def test_the_evening_is_closed_under_import():
    """Its files import each other, NumPy and the standard library; and what KNOWN_UPWARDS are for, late."""
    names = {".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__") for path in EVENING}
    for path in EVENING:
        late = {f"minicnn.{group}" for known, group in KNOWN_UPWARDS if known == name_of(path)}
        late |= {"minicnn.layers.nodes"} if name_of(path) == "layers/base.py" else set()    # of graphs: the second evening
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules = {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                modules = {f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in names or node.module == "minicnn"
                           else node.module for alias in node.names}
            else:
                continue
            strange = {module for module in modules if module not in names and module != "numpy"
                       and not module.startswith("numpy.") and module.split(".")[0] not in sys.stdlib_module_names
                       and not any(f"{module}.".startswith(f"{known}.") for known in late)}
            assert not strange, f"{name_of(path)} imports {strange}"


def test_the_evening_is_one_evening():
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in EVENING)
    assert 2000 < lines < 3400, lines


def test_the_evening_runs_alone(tmp_path):
    """Its files, and no others, train COV-19Net on the reference engine."""
    for path in EVENING:
        copy = tmp_path / "minicnn" / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    code = """if True:
        import numpy as np
        from minicnn.losses import get_loss
        from minicnn.network import Network
        from minicnn.networks import cov19
        from minicnn.optimizers import Adam
        from minicnn.training import Trainer
        network = Network(cov19.layers(), (18, 18, 3), seed=7, engine="reference")
        trainer = Trainer(network, get_loss("binary_crossentropy"), Adam(), lambda: None)
        x, t = np.arange(2 * 18 * 18 * 3, dtype="f").reshape(2, 18, 18, 3) / 2000, np.array([[0], [1]], "f")
        losses = [trainer.step(x, t)[0] for _ in range(3)]
        assert losses[2] < losses[0], losses
        import minicnn
        assert minicnn.__file__ is None         # not the installed package"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env=os.environ | {"PYTHONPATH": str(tmp_path)})


# Beside 3,130 lines of kernels for convolutions and dense layers of any shape (2,290 before Winograd's F(4x4) in three directions
# and tiles of any size, 2,600 before predictions that are recorded and replayed, 2,970 before tiles whose bias and ReLU stay in
# registers, 3,040 before sums whose subtrees several processes can have, 3,120 before helpers that miss no program), what other families may have: these are a loop for each operation, 15 lines;
# those of normalization are sums in blocks, and gradients that go through them, over rows and over columns.
# Depthwise convolution has two loops of its own, over vectors of channels, with tiles of seven outputs and of one (145 lines
# before, and a fifth as fast); groups go through the kernels of convolution. Routing between capsules reads its predictions in each
# round, forward and backward, in units whose sums are joined.
KERNELS_OF_FAMILIES = {"depthwise": 325, "grouped": 45,
                       "adaptive_optimizers": 80, "normalization": 280, "rectifiers": 140, "global_pooling": 70, "reshaping": 60,
                       "merging": 30, "elementwise": 40, "anomaly": 5, "capsules": 155}


def test_kernels_stay_few():
    lines = {path: code_lines(path) for path in KERNELS}
    assert all(lines[path] <= KERNELS_OF_FAMILIES.get(path.stem, 400) for path in KERNELS)
    assert sum(lines[path] for path in KERNELS if path.stem not in KERNELS_OF_FAMILIES) <= 3130


def test_the_public_names():
    assert minicnn.__all__ == [
        "__version__", "Sequential", "Model", "load_model", "cov19net", "Layer", "Conv2D", "MaxPool2D", "AveragePool2D",
        "Flatten", "Dense", "ReLU", "Sigmoid", "Tanh", "Softmax", "Dropout", "Add", "Multiply", "Concatenate",
        "Residual", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "ZeroPadding2D", "UpSampling2D", "Reshape",
        "Rescaling", "Permute", "Cropping2D", "Elementwise", "ElementwisePair", "Constant", "Capsules", "CapsuleLength", "LeakyReLU", "ELU", "Swish", "Softplus", "SpatialDropout2D", "StochasticDepth", "BatchNormalization",
        "LayerNormalization", "DepthwiseConv2D", "SeparableConv2D", "MaxPooling2D", "AveragePooling2D", "AvgPool2D",
        "GlobalAvgPool2D", "GlobalMaxPool2D", "SiLU", "Input", "Parameter", "Adam", "SGD", "AdamW", "RMSprop",
        "gradcheck", "assert_gradients", "check_optimizer", "check_determinism", "BinaryCrossentropy",
        "CategoricalCrossentropy", "MeanSquaredError", "MarginLoss", "L2", "History", "Callback", "EarlyStopping",
        "LearningRateSchedule", "LearningRateScheduler", "ReduceLROnPlateau", "LambdaCallback", "WeightAverage",
        "Checkpoint", "ModelCheckpoint", "CSVHistory", "set_thread_count", "thread_count", "MiniCNNError", "ShapeError",
        "InputError", "DTypeError", "ImageError", "ManifestError", "WeightsError", "CheckpointError", "NonFiniteError",
        "RunLockedError", "MissingExtraError"]
    for name in minicnn.__all__:
        assert getattr(minicnn, name) is not None and name in dir(minicnn)
    with pytest.raises(AttributeError, match="has no attribute 'Conv3D'"):
        minicnn.Conv3D
