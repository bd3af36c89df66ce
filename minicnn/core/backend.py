"""The two engines behind one calling form: `engine.op(*inputs, *outputs)` fills the outputs.

`fast` is the package `kernels` itself. `reference` runs the specification and copies its results into the outputs: slow, but a
debugger steps through it line by line. Both stand above this file, which imports them late: the one place that does.
"""

import functools
import inspect
import os

import numpy as np

from minicnn.errors import InputError

__all__ = ["ENGINES", "get_engine", "default_engine", "kernels_in_use", "fusion_of", "filling"]

ENGINES = ("fast", "reference")
_kernels = None         # the fast engine, once it is in use


def default_engine():
    """Return `$MINICNN_ENGINE`, or "fast"."""
    return os.environ.get("MINICNN_ENGINE") or "fast"


def get_engine(name):
    """Return the operations of the engine called `name`: "fast" or "reference".

    >>> y = np.empty(2)
    >>> get_engine("reference").relu(np.array([-1.0, 1.0]), y); y
    array([0., 1.])
    """
    global _kernels
    if name == "fast":
        if _kernels is None:
            from minicnn import kernels      # numba takes half a second to import: not before it is needed
            _kernels = kernels
        return _kernels
    if name == "reference":
        return _ReferenceEngine()
    raise InputError(f"engine: expected one of {', '.join(ENGINES)}, got {name!r}.")


def kernels_in_use():
    """Return the fast engine if it is in use already, else None."""
    return _kernels


def fusion_of(name):
    """Return how an engine arranges a network (fusion.py), or None: the reference engine leaves it as it is."""
    if name != "fast":
        return None
    from minicnn import fusion
    return fusion


class _ReferenceEngine:
    """The functions of `reference`, each filling given outputs instead of returning new arrays."""

    call = staticmethod(lambda function, *arguments, **named: function(*arguments, **named))     # of NumPy; `fast` notes it

    def __getattr__(self, name):
        from minicnn import reference
        return filling(getattr(reference, name))


@functools.cache
def filling(operation):
    """Return an operation as kernels are called: it fills the outputs that are given after its inputs, if they are not None.

    >>> y = np.empty(2)
    >>> filling(lambda x: x + 1)(np.zeros(2), y); y
    array([1., 1.])
    """
    n_inputs = len(inspect.signature(operation).parameters)

    def fill(*arguments):
        inputs, outputs = arguments[:n_inputs], arguments[n_inputs:]
        with np.errstate(all="ignore"):        # NaN and infinity pass through, as in the kernels
            results = operation(*inputs)
        for out, result in zip(outputs, results if isinstance(results, tuple) else (results,), strict=True):
            if out is not None:
                out[...] = result
    return fill
