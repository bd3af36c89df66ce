"""Padding, up-sampling, reshaping, rescaling: arguments, errors, and what an output sees of the image."""

import numpy as np
import pytest

from minicnn.core.receptive_field import Field
from minicnn.errors import InputError, ShapeError
from minicnn.layers import MaxPool2D, Rescaling, Reshape, UpSampling2D, ZeroPadding2D
from tests.support.layer_checks import built


@pytest.mark.parametrize("padding, shape", [(2, (7, 8, 1)), ((0, 2), (3, 8, 1)), ([1, [0, 2]], (5, 6, 1)),
                                            (((1, 0), (0, 3)), (4, 7, 1))])
def test_padding_as_keras_takes_it(padding, shape):
    layer = ZeroPadding2D(padding)
    assert layer.build((3, 4, 1)) == shape
    assert ZeroPadding2D(**{"padding": layer.config()["padding"]}).padding == layer.padding


@pytest.mark.parametrize("make, sentence", [
    (lambda: ZeroPadding2D(-1), "ZeroPadding2D: padding must be a whole number of at least 0, two of them"),
    (lambda: ZeroPadding2D((1, 2, 3)), r"ZeroPadding2D: padding must .*got \(1, 2, 3\)"),
    (lambda: ZeroPadding2D(((1, 2), (0.5, 1))), "ZeroPadding2D: padding must"),
    (lambda: UpSampling2D(0), "UpSampling2D: size must be one whole number or two"),
    (lambda: UpSampling2D(2, interpolation="bilinear"), "UpSampling2D: interpolation must be one of nearest, got 'bilinear'"),
    (lambda: Reshape(8), "Reshape: target_shape must be a tuple of sizes without N, .* got 8"),
    (lambda: Reshape(()), "Reshape: target_shape must"),
    (lambda: Reshape((-1, 2, -1)), r"Reshape: target_shape must .*one may be -1, got \(-1, 2, -1\)"),
    (lambda: Reshape("ab"), "Reshape: target_shape must"),
    (lambda: Rescaling(float("nan")), "Rescaling: scale must lie in"),
    (lambda: Rescaling(1, offset="0"), "Rescaling: offset must lie in .*got '0'")])
def test_what_cannot_be_used_is_said(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()


@pytest.mark.parametrize("make, shape, sentence", [
    (lambda: ZeroPadding2D(), (3, 4), r"ZeroPadding2D: expected images, \(H, W, C\), got inputs of shape \(3, 4\)"),
    (lambda: UpSampling2D(), (3,), r"UpSampling2D: expected images"),
    (lambda: Reshape((4, 4)), (3, 5), r"Reshape: 15 numbers, of shape \(3, 5\), do not fit into \(4, 4\)"),
    (lambda: Reshape((4, -1)), (15,), r"Reshape: 15 numbers, of shape \(15,\), do not fit into \(4, -1\)")])
def test_inputs_that_a_layer_cannot_take(make, shape, sentence):
    with pytest.raises(ShapeError, match=sentence):
        make().build(shape)


def test_flops():
    assert [built(make, (4, 4, 2)).flops() for make in (ZeroPadding2D, UpSampling2D, lambda: Reshape((-1,)),
                                                         lambda: Rescaling(2))] == [0, 0, 0, 64]


@pytest.mark.parametrize("layers", [[ZeroPadding2D(((2, 0), (1, 3))), MaxPool2D(2)], [MaxPool2D(2), UpSampling2D(2)],
                                    [MaxPool2D((4, 6)), UpSampling2D((2, 3)), ZeroPadding2D(1), MaxPool2D(2, strides=1)]])
def test_an_output_sees_no_pixel_beyond_its_receptive_field(layers):
    shape, field = (12, 12, 1), Field()
    for layer in layers:
        shape, field = layer.build(shape), layer.receptive_field(field)
    seen = np.zeros((12, 12, *shape[:2]), bool)
    for row, column in np.ndindex(12, 12):
        x = np.zeros((1, 12, 12, 1), np.float32)
        x[0, row, column] = 1
        for layer in layers:
            x = layer.forward(x)
        seen[row, column] = x[0, :, :, 0] != 0
    assert seen.any()
    for row, column, i, j in zip(*np.nonzero(seen)):
        for place, out, size, stride, start in zip((row, column), (i, j), *field):
            assert start + stride * out <= place < start + stride * out + size
    assert all(size <= 24 for size in field.size)


def test_steps_of_half_a_pixel_have_no_receptive_field():
    assert UpSampling2D(2).receptive_field(Field()) is None
