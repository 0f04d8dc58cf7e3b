"""Ours beside what people would use instead: each peer in an environment of its own, on the same input."""
