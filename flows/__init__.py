"""Prefect flows, the command line and run configuration."""
