"""What to make of one image after the other: maps, and the mask."""

from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, Union

import mmcv
import numpy as np
import torch
from mmengine.structures import PixelData

from mmseg.structures import SegDataSample

from ..localization import check_scales
from ..masks import MaskRecipe, make_recipe
from ..masks.pool import CRFJob, CRFResult, DenseCRFPool
from ..models.structures import MAP_NAMES, MASK_SCALES, LocalizationRequest

MASK_CLASSES = ('predicted', 'all')
"""Which classes may appear in the mask of an image without labels."""


class InferenceSettings(NamedTuple):
    """What is made of every image; build it by :func:`make_settings`."""

    recipe: MaskRecipe
    """How masks are made."""
    maps: Tuple[str, ...]
    """Maps to return, out of ``MAP_NAMES``."""
    request: Optional[LocalizationRequest]
    """What to ask the segmentor for; None: its plain prediction will do."""


def make_settings(
    source: str = 'seg',
    multi_scale: bool = False,
    scales: Optional[Sequence[float]] = None,
    crf: Union[bool, dict] = False,
    bkg: Optional[float] = None,
    classes: Optional[str] = None,
    maps: Union[str, Sequence[str]] = (),
) -> InferenceSettings:
    """Check the arguments of a user, and fill in what they leave open.

    Args:
        source: What the mask is made of: 'seg', the segmentation, or a map: 'lam',
            'cam' or 'fused'.
        multi_scale: Whether at several scales, image and flip at each (METHOD's: 1,
            1.25, 1.5 for the segmentation, seven of them for maps).
        scales: Which, instead of those.
        crf: Whether to refine the mask by the dense CRF; a dict holds arguments of
            :class:`DenseCRFOptions` and ``epsilon``.
        bkg: Background threshold in [0, 1) of a mask from a map without CRF.
        classes: Which may appear in the mask: 'predicted', those predicted for the
            image, or 'all', for the segmentation alone. None: 'all' for the
            segmentation, 'predicted' for maps.
        maps: Maps to return, out of 'cam', 'lam', 'fused' and 'attention'.

    Raises:
        ValueError: If an argument is none of these.
    """
    maps = (maps,) if isinstance(maps, str) else tuple(maps)
    unknown = [name for name in maps if name not in MAP_NAMES]
    if unknown:
        raise ValueError(f'maps must be out of {", ".join(MAP_NAMES)}, got {unknown}')
    if classes is None:
        classes = 'all' if source == 'seg' else 'predicted'
    if classes not in MASK_CLASSES:
        raise ValueError(
            f'classes must be one of {", ".join(MASK_CLASSES)}, got {classes!r}'
        )
    if scales is not None:
        multi_scale = True
        scales = check_scales(scales, 'scales')
    recipe = make_recipe(source, multi_scale, scales, classes, bkg, crf)
    if source == 'seg':
        map_scales = MASK_SCALES if multi_scale else (1.0,)
    else:
        map_scales = recipe.scales
    needed = [name for name in MAP_NAMES if name in (*maps, source)]
    request = None
    if needed or recipe.scales:
        request = LocalizationRequest(
            maps=tuple(needed),
            cam_scales=(),
            lam_scales=(),
            ms_scales=map_scales if needed else (),
            seg_scales=recipe.scales if source == 'seg' else (),
        )
    return InferenceSettings(recipe, maps, request)


def finish_sample(
    sample: SegDataSample, mask: np.ndarray, settings: InferenceSettings
) -> SegDataSample:
    """The data sample as users know it: the mask, and the maps by their names.

    Args:
        sample: Of the segmentor; changed.
        mask: Dense labels ``(H, W)``.
        settings: What was asked for.
    """
    for name in settings.request.maps if settings.request else ():
        values = sample.pop(f'{name}_ms')
        if name in settings.maps:
            sample.set_field(values, name)
    if 'seg_logits_ms' in sample:
        sample.seg_logits = sample.pop('seg_logits_ms')
    sample.pred_sem_seg = PixelData(data=torch.from_numpy(mask)[None].long())
    return sample


class MadeMask(NamedTuple):
    """What became of one image."""

    payload: Any
    """As it was given."""
    mask: Optional[np.ndarray]
    """Dense labels ``(H, W)``, uint8; None after an error."""
    error: Optional[str]
    """What went wrong."""


class MaskMaker:
    """Masks of images in the order of their coming; a context manager.

    Without CRF a mask is there at once. With it the masks are refined in worker
    processes while the next images are seen by the network.

    Args:
        recipe: How, with a threshold if one is needed.
        num_workers: Processes for the CRF; 0: this one, None: one per core.
    """

    def __init__(self, recipe: MaskRecipe, num_workers: Optional[int] = None) -> None:
        self.recipe = recipe
        self._pool = (
            DenseCRFPool(num_workers, options=recipe.crf, epsilon=recipe.epsilon)
            if recipe.crf
            else None
        )

    def add(
        self, name: str, image: np.ndarray, sample: SegDataSample, payload: Any
    ) -> List[MadeMask]:
        """Hand one image in.

        Args:
            name: What errors call it.
            image: BGR ``(H, W, 3)``.
            sample: What the segmentor says of it.
            payload: Comes back with the mask.

        Returns:
            Masks that are ready by now.
        """
        values = self.recipe.values(sample)
        allowed = None if self.recipe.classes == 'all' else sample.pred_label.tolist()
        probabilities = self.recipe.probabilities(values, allowed)
        if self._pool is None:
            mask = self.recipe.mask(values, probabilities)
            return [MadeMask(payload, mask.cpu().numpy(), None)]
        pixels = np.clip(mmcv.bgr2rgb(image), 0, 255).astype(np.uint8)
        return self._made(
            self._pool.submit(
                CRFJob(
                    name,
                    pixels,
                    probabilities.probs.cpu().numpy(),
                    probabilities.labels.cpu().numpy(),
                    payload,
                )
            )
        )

    def drain(self) -> List[MadeMask]:
        """Wait for the masks that are still being refined."""
        return [] if self._pool is None else self._made(self._pool.drain())

    @staticmethod
    def _made(results: List[CRFResult]) -> List[MadeMask]:
        return [MadeMask(r.payload, r.mask, r.error) for r in results]

    def __enter__(self) -> 'MaskMaker':
        return self

    def __exit__(self, *exc_info: Any) -> None:
        if self._pool is not None:
            self._pool.close()
