"""Analytic scenes with exact depth, flow, occlusion and camera poses: truth for tests, data for training."""

from __future__ import annotations

from nvds_core.synthetic.families import FAMILIES
from nvds_core.synthetic.make import make_scene
from nvds_core.synthetic.render import RENDERER_VERSION, Clip, Frame, render, render_frame
from nvds_core.synthetic.scene import Imaging, Light, Material, Scene, Sky, Solid

SCENE_KINDS = tuple(FAMILIES)

__all__ = [
    "RENDERER_VERSION",
    "SCENE_KINDS",
    "Clip",
    "Frame",
    "Imaging",
    "Light",
    "Material",
    "Scene",
    "Sky",
    "Solid",
    "make_scene",
    "render",
    "render_frame",
]
