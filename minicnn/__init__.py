"""minicnn: a convolutional network library that one person can read in an evening.

Everything public is named here and imported at first use, so that `import minicnn` costs nothing.
"""

import importlib

__version__ = "0.1.0"

_HOMES = {
    "minicnn.model": ["Sequential", "Model", "load_model"],
    "minicnn.networks": ["cov19net"],
    "minicnn.layers": ["Layer", "Conv2D", "MaxPool2D", "AveragePool2D", "Flatten", "Dense", "ReLU", "Sigmoid", "Tanh",
                       "Softmax", "Dropout", "Add", "Multiply", "Concatenate", "Residual",
                       "GlobalAveragePooling2D", "GlobalMaxPooling2D", "ZeroPadding2D", "UpSampling2D", "Reshape",
                       "Rescaling", "Permute", "Cropping2D", "Elementwise", "ElementwisePair", "Constant", "Capsules", "CapsuleLength",
                       "LeakyReLU", "ELU", "Swish", "Softplus", "SpatialDropout2D", "StochasticDepth",
                       "BatchNormalization", "LayerNormalization", "DepthwiseConv2D", "SeparableConv2D",
                       "MaxPooling2D", "AveragePooling2D", "AvgPool2D", "GlobalAvgPool2D", "GlobalMaxPool2D", "SiLU"],
    "minicnn.layers.nodes": ["Input"],
    "minicnn.core.parameter": ["Parameter"],
    "minicnn.optimizers": ["Adam", "SGD"],
    "minicnn.optimizers.adaptive": ["AdamW", "RMSprop"],
    "minicnn.gradient_check": ["gradcheck", "assert_gradients", "check_optimizer", "check_determinism"],
    "minicnn.losses": ["BinaryCrossentropy"],
    "minicnn.losses.further": ["CategoricalCrossentropy", "MeanSquaredError", "MarginLoss"],
    "minicnn.regularizers": ["L2"],
    "minicnn.callbacks": ["History", "Callback", "EarlyStopping", "LearningRateSchedule", "LearningRateScheduler",
                          "ReduceLROnPlateau", "LambdaCallback", "WeightAverage", "Checkpoint", "ModelCheckpoint",
                          "CSVHistory"],
    "minicnn.kernels.runtime.threads": ["set_thread_count", "thread_count"],
    "minicnn.errors": ["MiniCNNError", "ShapeError", "InputError", "DTypeError", "ImageError", "ManifestError",
                       "WeightsError", "CheckpointError", "NonFiniteError", "RunLockedError", "MissingExtraError"],
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *_HOME]


def __getattr__(name):
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'minicnn' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
