"""Named results that travel between the parts of MoRe.

Shape alphabet, used in every docstring of this package: ``B`` batch, ``K``
foreground classes (background not counted), ``R`` register tokens, ``N = h*w``
patches, ``D`` channels, ``H, W`` pixels, ``h, w`` the patch grid. Dense labels
use index 0 for background, ``k + 1`` for class ``k`` and 255 for "ignore".
"""

from typing import NamedTuple, Optional, Tuple

from torch import Tensor


class Tokens(NamedTuple):
    """What the backbone returns (docs/method.md, section 1)."""

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


class TrainingCAMs(NamedTuple):
    """Normalised multi-scale CAMs of a training batch, ``(B, C, H, W)`` in [0, 1]."""

    cam: Tensor
    """Of the classifier."""
    cam_aux: Tensor
    """Of the auxiliary classifier."""


class LocalizationRequest(NamedTuple):
    """What ``MoRe.predict`` shall put on its data samples, beside ``pred_sem_seg``.

    Every pass over image and flip is run once, whatever asks for its scale. Maps of few
    classes cost little: at its original size an image of 2000 x 3000 pixels has 24 MB
    per map and class.
    """

    maps: Tuple[str, ...] = ('cam', 'lam', 'fused')
    """Field names out of ``cam``, ``lam``, ``fused``, ``attention``."""
    cam_scales: Tuple[float, ...] = (1.0,)
    """Scales of the CAM."""
    lam_scales: Tuple[float, ...] = (1.0,)
    """Scales of LAM and attention."""
    ms_scales: Tuple[float, ...] = ()
    """If there are any, each of ``maps`` at these scales as well, in the fields
    ``cam_ms``, ``lam_ms`` and so on."""
    seg_scales: Tuple[float, ...] = ()
    """If there are any, the field ``seg_logits_ms``: segmentation logits of
    image and flip summed at the size of the grid, and resized to the original one, their
    maximum over these scales."""
    policy: str = 'all'
    """One of :data:`POLICIES`: of which classes the maps are wanted. With 'all' a map is
    ``(K, H, W)``; else it is ``(P, H, W)``, of the P classes that the policy allows in this
    image, and the sample carries their indices as ``map_indices``, int64 ``(P,)``,
    ascending, beside it."""
    logits: bool = True
    """Whether the samples carry ``seg_logits``. If not, the labels are found without ever
    holding those of all classes at the original size."""


POLICIES: Tuple[str, ...] = ('image-labels', 'predicted', 'all')
"""Classes that may appear: those of the image's labels (``gt_label`` or ``gt_score`` of the
sample), those that the network predicts (its ``pred_label``), or all K."""
MAP_NAMES: Tuple[str, ...] = ('cam', 'lam', 'fused', 'attention')
"""Maps that can be requested, in the order of tables and pictures."""
MASK_SCALES: Tuple[float, ...] = (1.0, 0.5, 0.75, 1.25, 1.5, 1.75, 2.0)
"""Scales of the maps that become masks (docs/method.md, section 4)."""
SEG_SCALES: Tuple[float, ...] = (1.0, 1.25, 1.5)
"""Scales of the multi-scale segmentation (docs/method.md, section 8)."""
