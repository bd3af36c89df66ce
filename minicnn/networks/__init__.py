"""Published networks as models, each by its own function; the layers of a family are in a file of its own.

Those after COV-19Net have the layers and names of keras.applications. All take

    classes      int, or names of the classes: two or fewer end in Dense(1) and a sigmoid, more in Dense(k) and a softmax
    input_shape  (H, W, C); sizes that are too small raise ShapeError, which names the least that fits
    top          whether there is a classifier. Without, the output is that of the last block, or its means or maxima over
                 the image with pooling="avg" or "max"
    options      seed, dtype, engine: those of Model. Networks that have a trunk, all with `top`, also take
                 head: units of dense layers with ReLU, which then follow the means over the image in place of the network's own
                 dropout: rate before each dense layer; the network's own where it is left out
                 pixels: (means, standard deviations) of each channel in [0, 1], by which a first, frozen layer normalizes images

and are Models, whose weights come from the seed: load_weights of interop/keras and interop/pytorch takes others.
"""

import inspect

import numpy as np

from minicnn.core.arguments import Flag, OneOf, OrNone, Real, Whole, check
from minicnn.core.text import shortened
from minicnn.errors import InputError, ShapeError
from minicnn.layers import BatchNormalization, Dense, Dropout, Flatten, GlobalAveragePooling2D, GlobalMaxPooling2D
from minicnn.layers.nodes import Input, chain
from minicnn.model import Model, Sequential
from minicnn.networks import anomaly, cov19, covidcaps, covidnet, efficientnet, inception, mobilenet, resnet, vgg

__all__ = ["cov19net", "vgg16", "vgg19", "resnet50", "resnet101", "resnet152", "resnet50_v2", "mobilenet_v2", "inception_v3",
           "inception_resnet_v2", "efficientnet_b0", "efficientnet_lite0", "covid_net", "covid_net_pepx", "covid_caps",
           "anomaly_detector", "NETWORKS", "WITH_TRUNK"]

_NOTHING = 1e-12        # beside the variance of pixels


def cov19net(seed=0, classes=2, input_shape=(64, 64, 3), dtype="float32", engine=None, dropout=0.0):
    """Return COV-19Net: three convolutions of 32 filters, two poolings, two dense layers; 609,473 parameters.

    Parameters
    ----------
    seed : int, decides the initial weights (Glorot uniform; biases 0)
    classes : int, or names of the classes (cov19.layers)
    input_shape : (H, W, C), at least 18 x 18
    dtype, engine : see Sequential
    dropout : float in [0, 1) (cov19.layers)

    >>> model = cov19net(seed=7)
    >>> sum(w.size for w in model.get_weights())
    609473
    """
    k, names = _classes("cov19net", classes)
    return Sequential(cov19.layers(k, dropout), input_shape=input_shape, seed=seed, dtype=dtype, engine=engine,
                      classes=names)


def vgg16(classes=1000, input_shape=(224, 224, 3), top=True, pooling=None, **options):
    """Return VGG-16: 138,357,544 parameters with 1,000 classes at 224 x 224, 14,714,688 without the top."""
    return _model("vgg16", lambda x: vgg.trunk(x, vgg.VGG16), classes, input_shape, top, pooling, options, vgg.DENSE)


def vgg19(classes=1000, input_shape=(224, 224, 3), top=True, pooling=None, **options):
    """Return VGG-19: 143,667,240 parameters with 1,000 classes at 224 x 224, 20,024,384 without the top.

    >>> model = vgg19(top=False, input_shape=(32, 32, 3))
    >>> model.output_shape, model.count_params()
    ((1, 1, 512), 20024384)
    """
    return _model("vgg19", lambda x: vgg.trunk(x, vgg.VGG19), classes, input_shape, top, pooling, options, vgg.DENSE)


def resnet50(classes=1000, input_shape=(224, 224, 3), top=True, pooling=None, **options):
    """Return ResNet-50: 25,636,712 parameters with 1,000 classes, moving statistics among them.

    >>> resnet50(classes=["normal", "covid"], input_shape=(64, 64, 3)).output_shape
    (1,)
    """
    return _model("resnet50", lambda x: resnet.trunk(x, resnet.RESNET50), classes, input_shape, top, pooling, options)


def resnet101(classes=1000, input_shape=(224, 224, 3), top=True, pooling=None, **options):
    """Return ResNet-101: 44,707,176 parameters with 1,000 classes."""
    return _model("resnet101", lambda x: resnet.trunk(x, resnet.RESNET101), classes, input_shape, top, pooling, options)


def resnet152(classes=1000, input_shape=(224, 224, 3), top=True, pooling=None, **options):
    """Return ResNet-152: 60,419,944 parameters with 1,000 classes."""
    return _model("resnet152", lambda x: resnet.trunk(x, resnet.RESNET152), classes, input_shape, top, pooling, options)


def resnet50_v2(classes=1000, input_shape=(224, 224, 3), top=True, pooling=None, **options):
    """Return ResNet-50 V2: 25,613,800 parameters with 1,000 classes."""
    return _model("resnet50_v2", lambda x: resnet.trunk_v2(x, resnet.RESNET50), classes, input_shape, top, pooling, options)


def mobilenet_v2(classes=1000, input_shape=(224, 224, 3), top=True, pooling=None, **options):
    """Return MobileNetV2: 3,538,984 parameters with 1,000 classes."""
    return _model("mobilenet_v2", mobilenet.trunk, classes, input_shape, top, pooling, options)


def inception_v3(classes=1000, input_shape=(299, 299, 3), top=True, pooling=None, **options):
    """Return InceptionV3: 23,851,784 parameters with 1,000 classes."""
    return _model("inception_v3", inception.trunk_v3, classes, input_shape, top, pooling, options)


def inception_resnet_v2(classes=1000, input_shape=(299, 299, 3), top=True, pooling=None, **options):
    """Return Inception-ResNet-V2: 55,873,736 parameters with 1,000 classes."""
    return _model("inception_resnet_v2", inception.trunk_resnet_v2, classes, input_shape, top, pooling, options)


def efficientnet_b0(classes=1000, input_shape=(224, 224, 3), top=True, pooling=None, **options):
    """Return EfficientNet-B0: 5,330,564 parameters with 1,000 classes; Keras counts 7 more, of the normalization of its pixels."""
    return _model("efficientnet_b0", efficientnet.trunk, classes, input_shape, top, pooling, options, dropout=0.2)


def efficientnet_lite0(classes=1000, input_shape=(224, 224, 3), top=True, pooling=None, **options):
    """Return EfficientNet-lite0: 4,694,024 parameters with 1,000 classes, 42,016 of them moving statistics.

    >>> efficientnet_lite0().count_params()
    4694024
    """
    return _model("efficientnet_lite0", lambda x: efficientnet.trunk(x, lite=True), classes, input_shape, top, pooling, options,
                  dropout=0.2)


def covid_net(classes=3, input_shape=(224, 224, 3), top=True, pooling=None, **options):
    """Return COVID-Net as in its authors' Keras branch: 126,589,443 parameters with 3 classes at 224 x 224 (covidnet.py)."""
    return _model("covid_net", lambda x: resnet.trunk_v2(x, resnet.RESNET50), classes, input_shape, top, pooling, options,
                  covidnet.DENSE)


def covid_net_pepx(classes=3, input_shape=(224, 224, 3), top=True, pooling=None, dense=(1024, 1024), **options):
    """Return COVID-Net as in its figure 2, with widths inside its blocks that are a choice (covidnet.py).

    `dense` are the units of its hidden dense layers; the first version had (1024, 256).

    >>> covid_net_pepx(input_shape=(64, 64, 3), dense=(16,)).count_params()
    13274067
    """
    return _model("covid_net_pepx", covidnet.pepx_trunk, classes, input_shape, top, pooling, options,
                  {f"dense{i}": units for i, units in enumerate(dense, 1)})


def covid_caps(classes=2, input_shape=(224, 224, 3), **options):
    """Return COVID-CAPS: 295,488 parameters with two classes, 128 of them moving statistics, for images of any size.

    Each class has a capsule, also where there are two: the outputs are lengths, one for each class, for the loss "margin".

    >>> model = covid_caps(input_shape=(64, 64, 3))
    >>> model.output_shape, model.count_params()
    ((2,), 295488)
    """
    k, names = _classes("covid_caps", classes)
    return _connected("covid_caps", lambda x: chain(covidcaps.layers(max(k, 2)), x), input_shape, options, classes=names)


def anomaly_detector(input_shape=(224, 224, 3), **options):
    """Return a classifier and an anomaly detector on one trunk, outputs `classification` and `anomaly` (networks/anomaly.py).

    Train it with losses "binary_crossentropy" and "deviation"; `anomaly.reports` says which images are reported.

    >>> anomaly_detector(input_shape=(32, 32, 3)).output_names
    ('classification', 'anomaly')
    """
    return _connected("anomaly_detector", anomaly.outputs, input_shape, options, classes=options.pop("classes", None))


def _classes(owner, classes):
    """Return (how many classes, their names or None)."""
    names = None if isinstance(classes, int) else tuple(classes)
    return check(owner, "classes", classes if names is None else len(names), Whole()), names


def _model(owner, trunk, classes, input_shape, top, pooling, options, flat=None, dropout=0.0):
    """Return the Model of a trunk and what follows it: means over the image, or Flatten and dense layers of {name: units}."""
    k, names = _classes(owner, classes)
    top = check(owner, "top", top, Flag())
    pooling = check(owner, "pooling", pooling, OrNone(OneOf(("avg", "max"))))
    rate = check(owner, "dropout", options.pop("dropout", dropout), Real(0, 1))
    head = options.pop("head", None) or ()
    if not isinstance(head, (tuple, list)):
        raise InputError(f"{owner}: head must be a sequence of units, such as (1024, 256), got {shortened(head, 80)}.")
    head = {f"head{i}": check(owner, "head", units, Whole()) for i, units in enumerate(head, 1)}

    def outputs(x):
        x = trunk(x)
        if top and flat and not head:
            x = Flatten(name="flatten")(x)
        elif top or pooling:
            x = GlobalMaxPooling2D(name="max_pool")(x) if pooling == "max" and not top else GlobalAveragePooling2D(name="avg_pool")(x)
        if not top:
            return x
        for name, units in (head or flat or {}).items():
            x = Dense(units, activation="relu", name=name)(Dropout(rate, name=f"{name}_dropout")(x) if rate else x)
        x = Dropout(rate, name="top_dropout")(x) if rate else x
        return Dense(1 if k <= 2 else k, activation="sigmoid" if k <= 2 else "softmax", name="predictions")(x)

    return _connected(owner, outputs, input_shape, options, options.pop("pixels", None), names if top else None)


def _connected(owner, outputs, input_shape, options, pixels=None, classes=None):
    """Return the Model from images to what `outputs` makes of their node; ShapeError says the least size that fits."""
    x = Input(input_shape, owner=owner, argument="input_shape")
    scale = None if pixels is None else _scale(owner, pixels, x.shape[-1])
    first = None if pixels is None else BatchNormalization(epsilon=_NOTHING, center=False, scale=False, name="pixels")
    try:
        y = outputs(x if first is None else first(x))
    except ShapeError as error:
        raise ShapeError(f"{owner}: {error}{_least(outputs, input_shape)}") from None
    model = Model(x, y, classes=classes, **options)
    if first is not None:
        first.statistics[0].value[:], first.statistics[1].value[:] = scale[0], np.square(scale[1])
        first.trainable = False
    return model


def _scale(owner, pixels, C):
    """Return (means, standard deviations), shape (2, C)."""
    try:
        scale = np.array(pixels, np.float64)
    except (TypeError, ValueError):
        scale = None
    if scale is None or scale.shape != (2, C) or not np.isfinite(scale).all() or not (scale[1] > 0).all():
        raise InputError(f"{owner}: pixels must be (means, standard deviations), each of {C} finite numbers, the second above 0, got "
                         f"{shortened(pixels, 80)}.")
    return scale


def _least(outputs, input_shape):
    """Return a sentence with the least square image that a network takes."""
    for size in range(min(input_shape[:2]) + 1, 513):
        try:
            outputs(Input((size, size, *input_shape[2:])))
        except ShapeError:
            continue
        return f" It needs images of at least {size} x {size}; these are {input_shape[0]} x {input_shape[1]}."
    return ""


# {name on the command line: function}
NETWORKS = {name: globals()[name] for name in __all__ if name.islower()}
# Those with a trunk, which another head can follow.
WITH_TRUNK = [name for name, make in NETWORKS.items() if "top" in inspect.signature(make).parameters]
