"""Test-time optimisation with pseudo reference depth: pairs, masks, references, losses and the fine-tuning loop."""

from __future__ import annotations

from nvds_core.tto.fusion import FusedReference, fuse, fuse_frames
from nvds_core.tto.masks import consistency_mask, keep_pairs, overlap
from nvds_core.tto.pairs import pair_indices, training_pairs, unordered
from nvds_core.tto.reference import PseudoReference, pseudo_reference

__all__ = [
    "FusedReference",
    "PseudoReference",
    "consistency_mask",
    "fuse",
    "fuse_frames",
    "keep_pairs",
    "overlap",
    "pair_indices",
    "pseudo_reference",
    "training_pairs",
    "unordered",
]
