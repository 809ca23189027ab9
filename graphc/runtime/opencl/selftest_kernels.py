"""The self-test's programs, in OpenCL C 1.2, written by hand: no generator has a part in them.

`GROUP` is the number of items of a work-group, a power of two, and `SIDE` the side of a square of
them. Each kernel leans on what generated code leans on: local memory, barriers in loops, 64-bit
integers. Groups are lines of items: PoCL takes three times as long to compile for squares.
"""

from __future__ import annotations

PLAIN = r"""
__kernel void matmul(__global const float *a, __global const float *b, __global float *c,
                     const int depth, const int columns) {
  __local float left[SIDE * SIDE], right[SIDE * SIDE];
  const int i = get_local_id(0) / SIDE, j = get_local_id(0) % SIDE;
  const int row = get_group_id(1) * SIDE + i, column = get_group_id(0) * SIDE + j;
  float sum = 0.0f;
  for (int start = 0; start < depth; start += SIDE) {
    left[i * SIDE + j] = a[row * depth + start + j];
    right[i * SIDE + j] = b[(start + i) * columns + column];
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int k = 0; k < SIDE; ++k) sum += left[i * SIDE + k] * right[k * SIDE + j];
    barrier(CLK_LOCAL_MEM_FENCE);
  }
  c[row * columns + column] = sum;
}

__kernel void reduce(__global const float *x, __global const int *n,
                     __global float *most, __global long *sums) {
  __local float high[GROUP];
  __local long total[GROUP];
  const int i = get_local_id(0), at = get_global_id(0);
  high[i] = x[at];
  total[i] = (long)n[at] * 4294967311L;
  barrier(CLK_LOCAL_MEM_FENCE);
  for (int half_ = GROUP / 2; half_ > 0; half_ /= 2) {
    if (i < half_) {
      high[i] = fmax(high[i], high[i + half_]);
      total[i] += total[i + half_];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
  }
  if (i == 0) { most[get_group_id(0)] = high[0]; sums[get_group_id(0)] = total[0]; }
}

__kernel void turn(__global int *x, const int rounds) {
  __local int line[GROUP];
  const int i = get_local_id(0), at = get_global_id(0);
  int mine = x[at];
  for (int round = 0; round < rounds; ++round) {
    line[i] = mine;
    barrier(CLK_LOCAL_MEM_FENCE);
    mine = line[(i + 1) & (GROUP - 1)] + 1;
    barrier(CLK_LOCAL_MEM_FENCE);
  }
  x[at] = mine;
}

__kernel void count(__global const int *x, __global int *counts, __global int *most) {
  __local int mine[16];
  const int i = get_local_id(0), value = x[get_global_id(0)];
  for (int k = i; k < 16; k += GROUP) mine[k] = 0;
  barrier(CLK_LOCAL_MEM_FENCE);
  atomic_add(&mine[value & 15], 1);
  atomic_max(most, value);
  barrier(CLK_LOCAL_MEM_FENCE);
  for (int k = i; k < 16; k += GROUP) atomic_add(&counts[k], mine[k]);
}

__kernel void bits(__global const uint *x, __global uint *y, __global ulong *z) {
  const int i = get_global_id(0);
  const uint v = x[i];
  y[i] = mul_hi(v, 0xD2511F53u) ^ rotate(v, 13u) ^ (v >> 3) ^ as_uint(as_float(v));
  z[i] = ((ulong)v * 0xCD9E8D57UL) ^ ((ulong)v << 40) ^ ((ulong)((long)(int)v >> 2));
}

__kernel void functions(__global const float *x, __global float *y) {
  const int n = get_global_size(0), i = get_global_id(0);
  const float v = x[i];
  y[i] = exp(v);
  y[n + i] = log(fabs(v));
  y[2 * n + i] = sin(v);
  y[3 * n + i] = tanh(v);
  y[4 * n + i] = sqrt(v);
  y[5 * n + i] = 1.0f / v;
  y[6 * n + i] = v * 2.0f;
  y[7 * n + i] = rint(v);
  y[8 * n + i] = isnan(v) ? 1.0f : (v < 0.0f ? 2.0f : 3.0f);
}

__kernel void halves(__global const float *x, __global half *stored, __global float *y) {
  const int i = get_global_id(0);
  vstore_half_rte(x[i], i, stored);
  y[i] = vload_half(i, stored);
}
"""

DOUBLE = r"""
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
__kernel void doubles(__global const double *x, __global double *y) {
  const int n = get_global_size(0), i = get_global_id(0);
  y[i] = fma(x[i], x[i], 1.0e-20) + 1.0;
  y[n + i] = exp(x[i]);
}
"""
