"""Training on many machines, over MPI: several processes share each batch, and give the same bits as one.

    from minicnn.distributed import MPI                  mpiexec -n 4 python train.py
    model.fit(x, y, distributed=MPI())                   mpiexec -n 4 minicnn train --mpi --data radiographs/

**Definition.** A step of training is defined on the whole batch.

1. Which samples it has, in which order, how each is augmented and what dropout drops are functions of (seed, epoch, step,
   place in the batch), as in one process. A process owns no seed and no part of the data.
2. The batch is cut into chunks by the places of the samples (kernels/runtime/reduction.py): 2 samples of a batch of up to 32, a
   sixteenth of one of up to 256, 16 of a larger one. Each process has chunks that follow each other; there may be none for some.
3. A sum over the batch, of gradients and of batch normalization's statistics, is a fixed binary tree over the chunks, in one
   process as in many. A process adds the whole subtrees that it has; they are sent as bytes, and whoever
   owns a slice of the parameters adds the rest. **MPI adds no floating-point numbers**: the order in which it does depends on
   the number of processes, on sizes and on the network between them.
4. Sums over the batch that are not added up chunk by chunk, where weights are many and what they meet is little (dense layers,
   last convolutions), are computed over all of the batch, some channels in each process.
5. Logits are collected; loss, metrics, callbacks and the optimizer's step are the same in all processes.

So weights, history and predictions have the same bits for any number of processes and threads, as long as CPUs and versions are
the same, which is checked. A checkpoint knows nothing of processes.

Trainings that do not depend on each other, as those of `minicnn reproduce --mpi`, are spread as wholes (tasks.py).

Source: the order of MPI's own reductions is not promised (MPI 4.1, section 6.9.1: it is only recommended that equal arguments at
equal ranks give equal results).
"""

from minicnn.distributed.group import MPI

__all__ = ["MPI"]
