"""What the readers of pose files share: rotations, numbers with a place, errors that say where."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nvds_core.geometry.camera import Floats, nearest_rotation
from nvds_core.types import PoseError

MAX_ROTATION_ERROR = 1e-2
"""How far R R^T may be from the identity in a file of rounded rotations; real ones are off by 1e-4."""


def checked_rotation(matrix: Floats, where: str) -> Floats:
    """The rotation that a [3, 3] matrix of a file stands for.

    Raises:
        PoseError: the matrix is not finite, mirrors, scales or shears.
    """
    if not np.isfinite(matrix).all():
        raise PoseError(f"{where}: the pose has entries that are not finite; leave out frames without a pose")
    error = float(np.abs(matrix @ matrix.T - np.eye(3)).max())
    determinant = float(np.linalg.det(matrix))
    if error > MAX_ROTATION_ERROR or determinant < 0:
        raise PoseError(
            f"{where}: not a rotation (R R^T is off by {error:.3g}, determinant {determinant:.3g}); poses must be "
            "rigid: take out scale and mirroring"
        )
    return nearest_rotation(matrix)


def rotation_from_quaternion(wxyz: Sequence[float], where: str) -> Floats:
    """[3, 3] rotation of a unit quaternion, w first; it is normalised.

    Raises:
        PoseError: the length is not 1 to within 1 %.
    """
    quaternion = np.array(wxyz, np.float64)
    length = math.hypot(*wxyz)  # numpy's norm overflows on the numbers of a damaged file
    if not abs(length - 1.0) <= MAX_ROTATION_ERROR:
        raise PoseError(f"{where}: the quaternion has length {length:.4g} instead of 1; check the order of the columns")
    w, x, y, z = quaternion / length
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def rigid_from_matrix(matrix: Floats, where: str) -> Floats:
    """[3, 4] rigid transform from a [3, 4] or [4, 4] matrix of a file, its rotation projected to SO(3).

    Raises:
        PoseError: another shape, a last row other than 0 0 0 1, no rotation, or entries that are not finite.
    """
    if matrix.shape not in ((3, 4), (4, 4)):
        raise PoseError(f"{where}: the pose has shape {matrix.shape}; write 3 or 4 rows of 4 numbers")
    if matrix.shape == (4, 4) and not np.allclose(matrix[3], (0, 0, 0, 1), atol=1e-6):
        raise PoseError(f"{where}: the last row is {matrix[3].tolist()} instead of 0 0 0 1; is the matrix transposed?")
    rotation = checked_rotation(matrix[:3, :3], where)
    if not np.isfinite(matrix[:3, 3]).all():
        raise PoseError(f"{where}: the position is not finite; leave out frames without a pose")
    return np.concatenate([rotation, matrix[:3, 3:]], axis=1)


def numbers(words: Sequence[str], where: str) -> list[float]:
    """Words as numbers.

    Raises:
        PoseError: one of them is none; names it.
    """
    found = []
    for word in words:
        try:
            found.append(float(word))
        except ValueError:
            raise PoseError(f"{where}: {word[:40]!r} is not a number; write the file again") from None
    return found


def whole_number(word: str, where: str) -> int:
    """A word as a number that is no fraction and not negative.

    Raises:
        PoseError: it is none; names it.
    """
    if not word.isdecimal():
        raise PoseError(f"{where}: {word[:40]!r} is not a whole number; check the order of the columns")
    return int(word)


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        PoseError: it cannot be read; reason "not_found" when there is none.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise PoseError(f"{path}: no such file; check the path", reason="not_found") from error
    except OSError as error:
        raise PoseError(f"{path}: cannot be read ({error.strerror})", reason="unreadable") from error


def read_text(path: Path) -> str:
    """The content of a text file in UTF-8.

    Raises:
        PoseError: it cannot be read or is no text.
    """
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PoseError(f"{path}: no text (byte {error.start}); give the kind of the poses, or another file") from error


def read_table(path: Path) -> list[tuple[str, list[str]]]:
    """Lines that are neither empty nor comments: ("file:line", words); commas count as blanks.

    Raises:
        PoseError: it cannot be read or is no text.
    """
    lines = enumerate(read_text(path).splitlines(), start=1)
    split = ((f"{path}:{number}", line.replace(",", " ").split()) for number, line in lines)
    return [(where, words) for where, words in split if words and not words[0].startswith("#")]


def read_matrix(path: Path) -> Floats:
    """A file of rows of numbers.

    Raises:
        PoseError: it is empty, a word is no number, or the rows differ in length.
    """
    table = read_table(path)
    if not table:
        raise PoseError(f"{path}: empty; write the file again")
    rows = [numbers(words, where) for where, words in table]
    for (where, words), row in zip(table, rows, strict=True):
        if len(row) != len(rows[0]):
            raise PoseError(f"{where}: {len(words)} numbers where the first row has {len(rows[0])}; cut off?")
    return np.array(rows)
