"""The ends of a network of several inputs or outputs: its arrays lie side by side in one row for each sample.

    row (a + b,) -> InputLayer -> image, of size a          main, of size c -+-> Outputs -> row (c + d,)
                 -> InputLayer -> age, of size b            aux, of size d  -+

A model puts these layers there by itself (model.py). Everything between, and the data, the loss and the gradient check,
sees one array in and one out.
"""

import math

import numpy as np

from minicnn.core.arguments import Whole
from minicnn.core.memory import split
from minicnn.core.receptive_field import Field
from minicnn.errors import ShapeError
from minicnn.layers.base import Layer, register
from minicnn.layers.merging import Merge
from minicnn.layers.reshaping import SIZES

__all__ = ["InputLayer", "Outputs"]


class InputLayer(Layer):
    """Take one input out of the row of a sample: `shape` numbers from number `first` on.

    >>> InputLayer(4, (2, 3)).build((12,))
    (2, 3)
    """

    fields = {"first": Whole(0), "shape": SIZES}

    def __init__(self, first, shape, name=None):
        super().__init__(name, first=first, shape=shape)

    def infer(self, input_shape):
        if len(input_shape) != 1 or min(self.shape) < 1 or self.first + math.prod(self.shape) > input_shape[0]:
            raise ShapeError(f"{self.label}: there is no {self.shape} from number {self.first} on in {input_shape}.")
        return self.shape, []

    def forward(self, x):
        x = self.accept(x)
        y = self.output("y", (len(x), *self.output_shape))
        self.ops.call(np.copyto, y.reshape(len(x), -1), x[:, self._place])
        self.remember(y)
        return y

    def backward(self, dy):
        dy, y = self.consume(dy)
        dx = self.output("dx", (len(y), *self.input_shape))
        dx[...] = 0
        dx[:, self._place] = dy.reshape(len(y), -1)
        return dx

    def receptive_field(self, field):
        """Return the field of the pixels of an image: themselves."""
        return Field() if len(self.shape) == 3 else None

    @property
    def _place(self):
        return slice(self.first, self.first + math.prod(self.shape))

    def flops(self):
        """None: nothing is computed."""
        return 0


class Outputs(Merge):
    """Put the outputs of each sample side by side into one row; the gradient goes to each.

    >>> Outputs().build([(1,), (2, 2)])
    (5,)
    """

    joins = True        # a network looks for it (network.py)

    def infer(self, shapes):
        return (sum(math.prod(shape) for shape in shapes),), []

    def forward(self, xs):
        xs = [x.reshape(len(x), -1) for x in self.accept(xs)]
        y = self.output("y", (len(xs[0]), *self.output_shape))
        self.ops.call(np.concatenate, xs, axis=1, out=y)
        self.remember(y)
        return y

    def backward(self, dy):
        return split(self.consume(dy)[0], self.input_shape)

    def flops(self):
        """None: nothing is computed."""
        return 0


register(InputLayer, Outputs)
