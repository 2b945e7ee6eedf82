"""Data sets with known depth behind one interface: frames, truth, cameras, and the protocol they are scored by."""

from __future__ import annotations

from nvds_core.datasets.base import Crop, Dataset, DatasetVideo, FileVideo, FrameFiles
from nvds_core.datasets.registry import KINDS, open_dataset
from nvds_core.datasets.synthetic import SyntheticVideo

__all__ = ["KINDS", "Crop", "Dataset", "DatasetVideo", "FileVideo", "FrameFiles", "SyntheticVideo", "open_dataset"]
