"""Where bytes live: the one door to paths and fsspec URLs (names, single files, whole folders)."""

from __future__ import annotations

from storage.files import (
    exists,
    expand,
    free_bytes,
    read_bytes,
    read_json,
    write_bytes_atomic,
    write_json_atomic,
)
from storage.trees import publish_tree, remove_tree, stage, sweep_leftovers, upload_tree
from storage.urls import filesystem, is_local, join, local_path, safe_name

__all__ = [
    "exists",
    "expand",
    "filesystem",
    "free_bytes",
    "is_local",
    "join",
    "local_path",
    "publish_tree",
    "read_bytes",
    "read_json",
    "remove_tree",
    "safe_name",
    "stage",
    "sweep_leftovers",
    "upload_tree",
    "write_bytes_atomic",
    "write_json_atomic",
]
