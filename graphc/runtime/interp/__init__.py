"""The interpreter of kernels: what a kernel means, in plain NumPy over whole index grids."""
