"""Convolution: `direct` first; `winograd`, and the gradients `backward`, `backward_sparse` and `backward_first`, compute it faster."""
