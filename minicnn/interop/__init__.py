"""Networks of other tools: a module for each. The library never needs them, and each needs an extra of its own.

    from minicnn.interop import onnx          onnx.save(model, "model.onnx"); model = onnx.load("model.onnx")
    from minicnn.interop import keras         keras.save(model, "model.keras"); keras.load_weights(model, "model.weights.h5")
    from minicnn.interop import pytorch       pytorch.save(model, "model.py"); pytorch.load_weights(model, "model.pth")
    from minicnn.interop import sklearn       sklearn.CNNClassifier(image_shape=(64, 64, 1)); sklearn.CNNFeatures(model, "flatten_1")

A library reads and writes the bytes of ONNX (onnx) and safetensors, and writes those of Keras (h5py); HDF5 and PyTorch's pickles
are read here, by readers that know no more than such a file needs. What belongs to what, and in which order of axes, is here
too. What became of each array is told in a table (matching.py): nothing is skipped without a word. Files are of unknown origin:
lengths are checked before memory is allocated, nothing in a file runs, and nothing outside it is read.
"""
