"""The OpenCL device: kernels as OpenCL C, plans walked on the host."""
