"""Prefect tasks: one verb each, arrays through storage, references through Prefect."""
