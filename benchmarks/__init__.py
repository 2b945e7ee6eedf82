"""Benchmarks: one script per question; every figure in the docs is printed by one of them."""
