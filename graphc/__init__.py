"""graphc: a static-graph compiler and runtime for Python."""

from graphc import ops as _ops
