"""What the source is searched for: the rules of security that test_hostile.py and test_house.py hold every file to."""

import ast

__all__ = ["imported", "could_run_data"]

MODULES = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "dbm", "yaml", "subprocess",
           "pty", "multiprocessing", "socket", "ssl", "asyncio", "urllib", "http", "ftplib", "smtplib", "xmlrpc", "requests",
           "webbrowser", "ctypes", "cffi", "runpy", "code", "codeop", "zipfile", "tarfile", "zipimport", "xml"}
BUILTINS = {"eval", "exec", "compile", "__import__", "input", "breakpoint"}
CALLS = {"os": {"system", "popen", "fork", "startfile"}, "np": {"load", "loadtxt", "genfromtxt", "fromregex"},
         "shutil": {"unpack_archive"}, "ast": {"literal_eval"}, "ImageFile": {"LOAD_TRUNCATED_IMAGES"}}
# Modules imported by a name that is computed: from a table of their own, or, by `minicnn gradcheck module:Layer`, the user's
# own code that the command line names.
IMPORTERS = {"__init__.py", "data/__init__.py", "layers/__init__.py", "losses/__init__.py", "reference/__init__.py", "cli/doctor.py",
             "cli/gradcheck.py"}
# What is read in one place, within limits, with its fuzzing: archives, in memory.
ONLY_IN = {"zipfile": "core/untrusted.py"}


def imported(node):
    """Return the names that an import statement may bind: modules, and what is taken out of them."""
    names = [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        names = [node.module or ""] + [f"{node.module}.{name}" for name in names]
    return names


def could_run_data(tree, file):
    """Return what a file does that could let data run code, leave the process, or open a connection; `file` is its path below minicnn/."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = imported(node)
            found |= {name for name in names if name.split(".")[0] in MODULES and ONLY_IN.get(name) != file}
            found |= {name for name in names if name.split(".")[0] == "importlib" and file not in IMPORTERS}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in BUILTINS:
            found.add(node.func.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            called = node.attr in CALLS.get(node.value.id, ())
            if called or node.value.id == "os" and node.attr.startswith(("exec", "spawn", "posix_spawn")):
                found.add(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "shell"):
            found.add(node.arg)
    return found
