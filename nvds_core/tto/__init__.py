"""Test-time optimisation with pseudo reference depth: pairs, masks, references, losses and the fine-tuning loop."""

from __future__ import annotations

from nvds_core.tto.alignment import Alignment, align_disparity
from nvds_core.tto.fusion import FusedReference, fuse, fuse_frames
from nvds_core.tto.masks import consistency_mask, keep_pairs, overlap
from nvds_core.tto.material import TuneVideo, align_network, disparities
from nvds_core.tto.pairs import pair_indices, training_pairs, unordered
from nvds_core.tto.reference import PseudoReference, pseudo_reference
from nvds_core.tto.status import TuneStatus, material_status
from nvds_core.tto.tuning import TuneConfig, TuneResult, finetune

__all__ = [
    "Alignment",
    "FusedReference",
    "PseudoReference",
    "TuneConfig",
    "TuneResult",
    "TuneStatus",
    "TuneVideo",
    "align_disparity",
    "align_network",
    "consistency_mask",
    "disparities",
    "finetune",
    "fuse",
    "fuse_frames",
    "keep_pairs",
    "material_status",
    "overlap",
    "pair_indices",
    "pseudo_reference",
    "training_pairs",
    "unordered",
]
