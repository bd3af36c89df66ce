"""What convolution and pooling share: a window that moves over the image."""

from minicnn.core.shapes import window
from minicnn.errors import ShapeError
from minicnn.layers.base import Layer, Settled

__all__ = ["WindowedLayer", "windows_of"]


class WindowedLayer(Layer):
    """What convolution and pooling share: a window that moves over the image, its size in the field `window`."""

    window = None
    pads = Settled()

    def build(self, input_shape):
        output_shape = super().build(input_shape)
        vars(self)["pads"] = windows_of(self, self.input_shape)[1]
        return output_shape

    @property
    def span(self):
        """How many rows and columns a window spans: (K - 1) D + 1 where its pixels lie D apart."""
        dilation = getattr(self, "dilation_rate", (1, 1))
        return tuple((K - 1) * D + 1 for K, D in zip(getattr(self, self.window), dilation))

    def receptive_field(self, field):
        return field.through(self.span, self.strides, self.pads[::2])


def windows_of(layer, input_shape):
    """Return ((OH, OW), pads) of a layer's windows over inputs of `input_shape`; errors name the layer and the axis."""
    if len(input_shape) != 3:
        raise ShapeError(f"{layer.label}: expected images, (H, W, C), got inputs of shape {input_shape}.")
    axes = []
    for name, size, kernel, stride in zip(("height", "width"), input_shape, layer.span, layer.strides):
        try:
            axes.append(window(size, kernel, stride, layer.padding))
        except ShapeError as error:
            raise ShapeError(f"{layer.label}: along the {name} of inputs {input_shape}, {error}.") from None
    rows, columns = axes
    return (rows.out, columns.out), (rows.before, rows.after, columns.before, columns.after)
