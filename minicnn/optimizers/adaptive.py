"""AdamW and RMSprop, and the table of the optimizers that a model file may name."""

from minicnn.core.arguments import Real
from minicnn.optimizers import SGD, Adam, Optimizer

__all__ = ["AdamW", "RMSprop", "OPTIMIZERS"]


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter, ICLR 2019, Algorithm 2), as in PyTorch: before each step

        w <- w - learning_rate weight_decay w

    for every weight and bias, beside the gradient and not through it. Other arguments are those of Adam.

    Parameters
    ----------
    weight_decay : float in [0, 1)
    """

    fields = Adam.fields | {"weight_decay": Real(0, 1)}

    def __init__(self, learning_rate=1e-3, weight_decay=1e-2, **options):
        super().__init__(learning_rate, weight_decay=weight_decay, **options)

    def update(self, ops, w, dw, slots):
        w *= w.dtype.type(1 - self.learning_rate * self.weight_decay)
        super().update(ops, w, dw, slots)


class RMSprop(Optimizer):
    """Steps by the root of a moving mean square of the gradients (Hinton 2012), in Keras' form (see reference.rmsprop).

    >>> RMSprop(rho=0.95)
    RMSprop(learning_rate=0.001, rho=0.95, momentum=0.0, epsilon=1e-07)
    """

    slots = ("v", "velocity")
    fields = Optimizer.fields | {"rho": Real(0, 1), "momentum": Real(0, 1), "epsilon": Real(1e-30, 1)}

    def __init__(self, learning_rate=1e-3, rho=0.9, momentum=0.0, epsilon=1e-7, **clipping):
        super().__init__(learning_rate=learning_rate, rho=rho, momentum=momentum, epsilon=epsilon, **clipping)

    def update(self, ops, w, dw, slots):
        ops.rmsprop(w, *slots, dw, self.learning_rate, self.rho, self.momentum, self.epsilon, w, *slots)


OPTIMIZERS = {"Adam": Adam, "AdamW": AdamW, "SGD": SGD, "RMSprop": RMSprop}
