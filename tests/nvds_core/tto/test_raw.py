from __future__ import annotations

import struct

import numpy as np
import pytest

from nvds_core.tto.raw import encode_raw
from nvds_core.types import ShapeError


@pytest.mark.parametrize(("shape", "kind"), [((2, 3), 5), ((2, 3, 2), 13), ((2, 3, 3), 21)])
def test_the_header_is_height_width_type_and_pixel_size(shape, kind):
    values = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    data = encode_raw(values)
    height, width, type_number = struct.unpack_from("<3i", data)
    (pixel,) = struct.unpack_from("<Q", data, 12)
    assert (height, width, type_number) == (2, 3, kind)
    assert len(data) == 20 + height * width * pixel
    assert struct.unpack_from(f"<{values.size}f", data, 20) == tuple(values.ravel())


def test_other_shapes_are_refused():
    with pytest.raises(ShapeError, match=r"\(4,\)"):
        encode_raw(np.zeros(4))
