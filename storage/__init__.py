"""Where bytes live: artifact keys, atomic publication, Zarr volumes and Parquet tables. Knows no models."""

from __future__ import annotations

from storage.arrays import ArrayReader, ArrayWriter, open_arrays, write_arrays
from storage.artifacts import ArtifactRef, ArtifactStore
from storage.catalog import ShardSpec, VideoRef, make_video_id, plan_shards, read_record, write_record
from storage.columns import ArraySpec
from storage.errors import StorageError
from storage.keys import artifact_key, canonical_json
from storage.locations import (
    exists,
    expand,
    filesystem,
    free_bytes,
    is_local,
    join,
    local_path,
    publish_tree,
    read_bytes,
    read_json,
    remove_tree,
    safe_name,
    stage,
    sweep_leftovers,
    upload_tree,
    write_bytes_atomic,
    write_json_atomic,
)
from storage.run_folder import RunFolder, open_run
from storage.settled import settled_videos
from storage.volumes import DepthVolume, VolumeWriter, open_volume

__all__ = [
    "ArrayReader",
    "ArraySpec",
    "ArrayWriter",
    "ArtifactRef",
    "ArtifactStore",
    "DepthVolume",
    "RunFolder",
    "ShardSpec",
    "StorageError",
    "VideoRef",
    "VolumeWriter",
    "artifact_key",
    "canonical_json",
    "exists",
    "expand",
    "filesystem",
    "free_bytes",
    "is_local",
    "join",
    "local_path",
    "make_video_id",
    "open_arrays",
    "open_run",
    "open_volume",
    "plan_shards",
    "publish_tree",
    "read_bytes",
    "read_json",
    "read_record",
    "remove_tree",
    "safe_name",
    "settled_videos",
    "stage",
    "sweep_leftovers",
    "upload_tree",
    "write_arrays",
    "write_bytes_atomic",
    "write_json_atomic",
    "write_record",
]
