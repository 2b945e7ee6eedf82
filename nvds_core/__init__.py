"""NVDS and pseudo-reference-depth optimisation as a pure library."""
