"""RMSprop, and the table of the optimizers that a model file may name."""

from minicnn.core.arguments import Real
from minicnn.optimizers import SGD, Adam, AdamW, Optimizer

__all__ = ["RMSprop", "OPTIMIZERS"]


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
