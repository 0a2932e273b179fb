"""Named results that travel between the parts of MoRe.

Shape alphabet, used in every docstring of this package: ``B`` batch, ``K``
foreground classes (background not counted), ``R`` register tokens, ``N = h*w``
patches, ``D`` channels, ``H, W`` pixels, ``h, w`` the patch grid. Dense labels
use index 0 for background, ``k + 1`` for class ``k`` and 255 for "ignore".
"""
from typing import NamedTuple, Optional, Tuple

from torch import Tensor


class Tokens(NamedTuple):
    """What the backbone returns (METHOD: paper section 3.1)."""

    classes: Tensor
    """Class tokens after the final norm, ``(B, K, D)``."""
    patches: Tensor
    """Patch tokens after the final norm, as a map ``(B, D, h, w)``."""
    aux_patches: Tensor
    """Patch tokens of the auxiliary block, not normed, ``(B, D, h, w)``."""
    attention: Optional[Tensor]
    """Class-to-patch attention logits of the last block, summed over heads,
    before softmax and without the ``1/sqrt(d)`` scale, ``(B, K, h, w)``;
    ``None`` unless asked for."""


class LocalizationMaps(NamedTuple):
    """Localization maps of a batch, each ``(B, K, H, W)`` in ``[0, 1]``.

    They cover all K classes: they are not multiplied by image labels.
    """

    cam: Tensor
    """Class activation map of the classifier (multi-scale, normalised)."""
    lam: Tensor
    """Localization map from class-patch similarity, ``Q P^T``."""
    attention: Tensor
    """Raw class-to-patch attention of the last block."""
    fused: Tensor
    """``lam * cam``, normalised again."""
    cam_aux: Tensor
    """Class activation map of the auxiliary classifier."""


class LocalizationRequest(NamedTuple):
    """Which maps ``MoRe.predict`` shall put on its data samples."""

    maps: Tuple[str, ...] = ('cam', 'lam', 'fused')
    """Field names out of ``cam``, ``lam``, ``fused``, ``attention``."""
    cam_scales: Tuple[float, ...] = (1.0, )
    """Scales of the CAM passes."""
    lam_scales: Tuple[float, ...] = (1.0, )
    """Scales of the LAM and attention passes."""


MAP_NAMES: Tuple[str, ...] = ('cam', 'lam', 'fused', 'attention')
"""Maps that can be requested, in the order of tables and pictures."""
