"""What kernels stand on. Read `jit`, `threads`, `work_queue`, `simd`, `microkernel`, `reduction`, in this order."""
