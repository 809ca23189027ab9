"""The native CPU device: code generators over LLVM, and what compiles and runs their code."""
