"""Elementary functions as LLVM IR: straight lines of vector arithmetic, without tables or calls."""
