"""Maps -> training labels: what the losses of a step compare with (MoRe, section 3.4)."""

from typing import NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from ...localization import PAROptions, maps_to_patch_labels, refine_labels
from ...localization.present import PresentClasses
from ...localization.pseudo_label import IGNORE_INDEX
from ..stations import station
from ..structures import TrainingCAMs


class TrainingLabels(NamedTuple):
    """Label maps of a training step, int64: 0 background, ``k + 1``, 255 ignored."""

    cre: Tensor
    """For the confident relation loss, ``(B, h, w)``."""
    ure: Tensor
    """For the uncertain relation loss, ``(B, h, w)``."""
    affinity: Tensor
    """For the patch affinity loss, ``(B, h, w)``."""
    segmentation: Optional[Tensor]
    """For the segmentation losses, refined by PAR, or by people where they have corrected
    them, ``(B, H, W)``; None unless wanted."""


class TrainingLabeler:
    """Turn the CAMs of a step into labels for its losses.

    Args:
        high: Maps above it are a class. VOC .7, COCO .65. Defaults to 0.7.
        low: Maps at most it are background. Defaults to 0.25.
        bkg: The one threshold of evaluation (background up to it). VOC .5,
            COCO .45. Defaults to 0.5.
        switch_iter: Up to this iteration CRE and URE use labels of the auxiliary CAM,
            after it those of the final CAM. VOC 10000, COCO 50000.
            Defaults to 10000.
        cre_high: Upper threshold for CRE before the switch. Defaults to 0.5.
        cam_high: Upper threshold after the switch. Defaults to 0.6.
        cam_low: Lower threshold after the switch. Defaults to 0.35.
        seg_high: As ``high``, of the refined labels of the segmentation losses alone.
            None: ``high``, as published. Defaults to None.
        seg_low: As ``low``, of the same. None: ``low``. Defaults to None.
        par: Arguments of :class:`PAROptions`. Defaults to MoRe's.

    Raises:
        ValueError: If thresholds are not ordered within [0, 1].
        TypeError: For an unknown key.
    """

    def __init__(
        self,
        high: float = 0.7,
        low: float = 0.25,
        bkg: float = 0.5,
        switch_iter: int = 10000,
        cre_high: float = 0.5,
        cam_high: float = 0.6,
        cam_low: float = 0.35,
        seg_high: Optional[float] = None,
        seg_low: Optional[float] = None,
        par: Optional[dict] = None,
    ) -> None:
        seg_high = high if seg_high is None else seg_high
        seg_low = low if seg_low is None else seg_low
        for name, below, above in (
            ('low, high', low, high),
            ('low, cre_high', low, cre_high),
            ('cam_low, cam_high', cam_low, cam_high),
            ('seg_low, seg_high', seg_low, seg_high),
            ('bkg', bkg, bkg),
        ):
            if not 0 <= below <= above <= 1:
                raise ValueError(
                    f'pseudo_label: {name} must be ordered within'
                    f' [0, 1], got {below}, {above}'
                )
        self.high, self.low, self.bkg = high, low, bkg
        self.switch_iter = switch_iter
        self.cre_high = cre_high
        self.cam_high, self.cam_low = cam_high, cam_low
        self.seg_high, self.seg_low = seg_high, seg_low
        self.par = PAROptions(**(par or {}))

    def uses_final_cam(self, iteration: int) -> bool:
        """Whether CRE and URE take labels of the final CAM at the 0-based iteration."""
        return iteration > self.switch_iter

    @station('training_labels')
    def label(
        self,
        cams: TrainingCAMs,
        present: PresentClasses,
        grid: Sequence[int],
        final_cam: bool,
        images: Optional[Tensor] = None,
        corrected: Optional[Tensor] = None,
    ) -> TrainingLabels:
        """All label maps of a step, in the dense labels of all K classes.

        Args:
            cams: CAMs of the C channels of ``present``.
            present: The present classes, as channels.
            grid: ``(h, w)``.
            final_cam: Whether CRE and URE take labels of the final CAM, see
                :meth:`uses_final_cam`.
            images: ``(B, 3, H, W)`` in 0..255, for the labels of the segmentation
                losses; None: those are not wanted.
            corrected: Labels ``(B, H, W)`` by people, which take the place of those of the
                segmentation losses where they are not 255; None: there are none.
        """
        with torch.autocast(cams.cam.device.type, enabled=False):
            cre, ure, affinity = self.patch_labels(cams, present.real, grid, final_cam)
            refined = None
            if images is not None:
                refined = self.refined_labels(images, cams.cam, present.real)
                refined = present.name_labels(refined)
                if corrected is not None:
                    refined = torch.where(corrected == IGNORE_INDEX, refined, corrected)
        return TrainingLabels(
            present.name_labels(cre),
            present.name_labels(ure),
            present.name_labels(affinity),
            refined,
        )

    def patch_labels(
        self, cams: TrainingCAMs, real: Tensor, grid: Sequence[int], final_cam: bool
    ) -> Tuple[Tensor, Tensor, Tensor]:
        """Labels ``(B, h, w)`` for CRE, URE and the affinity loss.

        Channels are numbered from 1. Arguments as in :meth:`label`, ``real`` is multi-hot
        ``(B, C)``.
        """

        def label(maps: Tensor, high: float, low: float) -> Tensor:
            size = int(grid[0]), int(grid[1])
            return maps_to_patch_labels(maps, real, high, low, size)

        affinity = label(cams.cam_aux, self.high, self.low)
        if final_cam:
            final = label(cams.cam, self.cam_high, self.cam_low)
            return final, final, affinity
        return label(cams.cam_aux, self.cre_high, self.low), affinity, affinity

    @station('par')
    def refined_labels(self, images: Tensor, cam: Tensor, real: Tensor) -> Tensor:
        """Labels ``(B, H, W)`` for the segmentation losses, channels numbered from 1.

        Args:
            images: ``(B, 3, H, W)`` in 0..255; truncated to 8 bit here.
            cam: Final CAM ``(B, C, H, W)`` in [0, 1].
            real: Which channels are present, multi-hot ``(B, C)``.
        """
        images = images.clamp(0, 255).byte().float() / 255
        return refine_labels(images, cam, real, self.seg_high, self.seg_low, self.par)
