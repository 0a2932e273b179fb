"""What the property tests draw: sizes, maps, labels and thresholds, small and awkward."""

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

few_examples = settings(max_examples=max(settings.default.max_examples // 5, 1))
"""Of tests whose every example takes more than some hundredths of a second."""

MAX_SIDE = 7

sides = st.integers(1, MAX_SIDE)
sizes = st.tuples(sides, sides)
"""``(H, W)``, rows and columns of one pixel included."""

unit_floats = st.floats(0, 1, width=32)
"""Float32 in [0, 1], both ends included."""


def tensors(shape, elements=unit_floats):
    """Float32 tensors of a shape."""
    return hnp.arrays(np.float32, shape, elements=elements).map(torch.from_numpy)


@st.composite
def maps(draw, elements=unit_floats, max_classes=4):
    """Maps ``(B, K, H, W)``."""
    batch_size, classes = draw(st.integers(1, 2)), draw(st.integers(1, max_classes))
    return draw(tensors((batch_size, classes, *draw(sizes)), elements))


@st.composite
def labelled_maps(draw):
    """Maps ``(B, K, H, W)`` in [0, 1] and multi-hot image labels ``(B, K)``."""
    drawn = draw(maps())
    labels = hnp.arrays(
        np.float32, tuple(drawn.shape[:2]), elements=st.sampled_from((0, 1))
    )
    return drawn, torch.from_numpy(draw(labels))


@st.composite
def thresholds(draw):
    """``(low, high)`` in [0, 1], ordered."""
    return tuple(sorted((draw(unit_floats), draw(unit_floats))))


@st.composite
def label_maps(draw, num_labels, size=None, ignored=True):
    """Dense labels, int64 ``(H, W)``: 0 to ``num_labels - 1``, and 255 if ``ignored``."""
    allowed = [*range(num_labels), *([255] if ignored else [])]
    shape = draw(sizes) if size is None else size
    labels = hnp.arrays(np.int64, shape, elements=st.sampled_from(allowed))
    return torch.from_numpy(draw(labels))


def permutation(count):
    """Orders of ``count`` things, as index tensors."""
    return st.permutations(range(count)).map(lambda order: torch.tensor(order))
