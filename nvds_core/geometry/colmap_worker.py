"""The process in which COLMAP runs: `python colmap_worker.py JOB.json`. Imports nothing of this project.

Native code cannot be interrupted and may crash, so `nvds_core.geometry.colmap` starts this file by its path, with a
time limit, and reads `result.npz` from the job's folder. COLMAP's log is this process's standard error.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

SEED = 0
FOCAL_RATIOS = (0.2, 5.0)  # of the long side: from 136 to 11 degrees; models beyond are artefacts of too little motion


def end_with_parent() -> None:
    """Leave at once when the parent does: it holds the other end of standard input and never writes."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(3)


def reconstruct(job: dict[str, Any]) -> dict[str, Any]:
    """Features, matches and incremental mapping: the arrays of the model with most images; none if there is no model.

    An unknown focal length is estimated from all pairs before mapping: COLMAP's own guess of 1.2 long sides is twice
    that of a wide lens. Where that does not register every image, mapping also starts from the guess.
    """
    import pycolmap

    folder = Path(job["folder"])
    database, guess = folder / "database.db", folder / "guess.db"
    pycolmap.set_random_seed(SEED)
    find_matches(pycolmap, job, database)
    starts = [database]
    if not job["camera_params"]:
        shutil.copyfile(database, guess)
        calibration = pycolmap.ViewGraphCalibrationOptions()
        calibration.random_seed = SEED
        calibration.min_focal_length_ratio, calibration.max_focal_length_ratio = FOCAL_RATIOS
        pycolmap.calibrate_view_graph(database, calibration)
        starts.append(guess)
    best: dict[str, Any] = {"names": []}
    for start in starts:
        output = folder / f"models-{start.stem}"
        output.mkdir()
        options = mapping_options(pycolmap, job)
        models = pycolmap.incremental_mapping(start, folder / "pictures", output, options=options)
        found = [arrays_of(model, job["least_points"]) for model in models.values()]
        best = max([best, *found], key=lambda arrays: len(arrays["names"]))
        if len(best["names"]) == job["images"]:
            break
    return best


def find_matches(pycolmap: Any, job: dict[str, Any], database: Path) -> None:
    """Fill the database with features and verified matches."""
    pycolmap.extract_features(
        database,
        Path(job["folder"]) / "pictures",
        camera_mode=pycolmap.CameraMode.SINGLE,
        reader_options=reader_options(pycolmap, job),
        extraction_options=extraction_options(pycolmap, job),
        device=pycolmap.Device.cpu,
    )
    matching = pycolmap.FeatureMatchingOptions()
    matching.num_threads, matching.use_gpu, matching.guided_matching = job["threads"], False, job["guided"]
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = SEED
    common: dict[str, Any] = {
        "matching_options": matching,
        "verification_options": verification,
        "device": pycolmap.Device.cpu,
    }
    if job["matching"] == "exhaustive":
        pycolmap.match_exhaustive(database, **common)
        return
    pairing = pycolmap.SequentialPairingOptions()
    pairing.overlap, pairing.quadratic_overlap, pairing.num_threads = job["overlap"], True, job["threads"]
    pycolmap.match_sequential(database, pairing_options=pairing, **common)


def reader_options(pycolmap: Any, job: dict[str, Any]) -> Any:
    options = pycolmap.ImageReaderOptions()
    options.camera_model = job["camera_model"]
    options.camera_params = ",".join(repr(value) for value in job["camera_params"])
    if job["masks"]:
        options.mask_path = Path(job["folder"]) / "masks"
    return options


def extraction_options(pycolmap: Any, job: dict[str, Any]) -> Any:
    options = pycolmap.FeatureExtractionOptions()
    options.num_threads, options.use_gpu = job["threads"], False
    options.max_image_size, options.sift.max_num_features = job["max_side"], job["features"]
    return options


def mapping_options(pycolmap: Any, job: dict[str, Any]) -> Any:
    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads, options.random_seed = job["threads"], SEED
    options.mapper.random_seed = options.triangulation.random_seed = SEED
    options.min_model_size, options.extract_colors = job["smallest_model"], False
    options.ba_refine_focal_length = job["refine"]
    options.ba_refine_extra_params = False
    options.min_focal_length_ratio, options.max_focal_length_ratio = FOCAL_RATIOS
    for name, value in job["mapper"].items():
        setattr(options.mapper, name, value)
    return options


def arrays_of(model: Any, least_points: int) -> dict[str, Any]:
    """The images of a model that see enough of its points, as arrays.

    names; intrinsics [n, 4] and points (u, v, depth) in COLMAP's pixels; cam_from_world [n, 3, 4]; point_image is the
    row of the image that sees a point. An image with hardly a point is not placed by anything: a camera that only turns
    gives whole models of such images.
    """
    names: list[str] = []
    poses, lenses, owners, points = [], [], [], []
    for image in sorted((model.image(number) for number in model.reg_image_ids()), key=lambda image: image.name):
        pose, seen = image.cam_from_world().matrix(), image.get_observation_points2D()
        if len(seen) < least_points:
            continue
        world = np.array([model.point3D(point.point3D_id).xyz for point in seen])
        depth = world @ pose[2, :3] + pose[2, 3]
        points.append(np.column_stack([[point.xy for point in seen], depth]))
        owners.append(np.full(len(seen), len(names)))
        lens = model.camera(image.camera_id)
        lenses.append([lens.focal_length_x, lens.focal_length_y, lens.principal_point_x, lens.principal_point_y])
        names.append(image.name)
        poses.append(pose)
    if not names:
        return {"names": []}
    return {
        "names": np.array(names),
        "cam_from_world": np.array(poses),
        "intrinsics": np.array(lenses),
        "point_image": np.concatenate(owners),
        "points": np.concatenate(points),
    }


def main() -> None:
    threading.Thread(target=end_with_parent, daemon=True).start()
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    arrays = reconstruct(job)
    if len(arrays["names"]):
        beside = Path(job["folder"]) / "result.part.npz"
        np.savez(beside, **arrays)
        beside.replace(Path(job["folder"]) / "result.npz")
    sys.stderr.flush()
    os._exit(0)  # the thread is still waiting, and native libraries have nothing more to say


if __name__ == "__main__":
    main()
