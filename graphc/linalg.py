"""`g.linalg`: linear algebra by NumPy's names. Matrices are the last two axes, batches before them.

Floats only: integers are taken as float64, and float16 is computed in float32.
"""

from graphc.ops.contraction import kron, matmul, outer, tensordot, vdot
from graphc.ops.creation import diag, diagonal
from graphc.ops.determinant import det, slogdet
from graphc.ops.factorizations import cholesky, eigh, eigvalsh, qr, svd
from graphc.ops.linalg import inv, pinv, solve, solve_triangular
from graphc.ops.norms import matrix_power, multi_dot, norm
from graphc.ops.norms import matrix_trace as trace

__all__ = [
    "cholesky", "det", "diag", "diagonal", "eigh", "eigvalsh", "inv", "kron", "matmul",
    "matrix_power", "multi_dot", "norm", "outer", "pinv", "qr", "slogdet", "solve",
    "solve_triangular", "svd", "tensordot", "trace", "vdot",
]  # fmt: skip
