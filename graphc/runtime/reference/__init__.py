"""The reference device: NumPy, node by node. It is what a graph means."""
