"""Pseudo labels of a training step (MoRe, section 3.4)."""

from typing import Optional, Sequence, Tuple

from torch import Tensor

from ...localization import PAROptions, PatchLabels, maps_to_patch_labels, refine_labels


class PseudoLabeler:
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
        par: Optional[dict] = None,
    ) -> None:
        for name, below, above in (
            ('low, high', low, high),
            ('low, cre_high', low, cre_high),
            ('cam_low, cam_high', cam_low, cam_high),
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
        self.par = PAROptions(**(par or {}))

    def patch_labels(
        self,
        cam: Tensor,
        cam_aux: Tensor,
        image_labels: Tensor,
        iteration: int,
        grid: Sequence[int],
    ) -> PatchLabels:
        """Label maps for CRE, URE and the affinity loss.

        Args:
            cam: Final CAM ``(B, K, H, W)`` in [0, 1].
            cam_aux: Auxiliary CAM, likewise.
            image_labels: Multi-hot ``(B, K)``.
            iteration: 0-based training iteration.
            grid: ``(h, w)``.

        Returns:
            Labels ``(B, h, w)``.
        """

        def label(maps: Tensor, high: float, low: float) -> Tensor:
            return maps_to_patch_labels(maps, image_labels, high, low, self._pair(grid))

        affinity = label(cam_aux, self.high, self.low)
        if iteration > self.switch_iter:
            final = label(cam, self.cam_high, self.cam_low)
            return PatchLabels(final, final, affinity)
        return PatchLabels(label(cam_aux, self.cre_high, self.low), affinity, affinity)

    @staticmethod
    def _pair(grid: Sequence[int]) -> Tuple[int, int]:
        return int(grid[0]), int(grid[1])

    def refined_labels(
        self,
        images: Tensor,
        cam: Tensor,
        image_labels: Tensor,
        max_classes: Optional[int] = None,
    ) -> Tensor:
        """Refined labels ``(B, H, W)`` for the segmentation losses.

        Args:
            images: ``(B, 3, H, W)`` in 0..255; truncated to 8 bit here.
            cam: Final CAM ``(B, K, H, W)`` in [0, 1].
            image_labels: Multi-hot ``(B, K)``.
            max_classes: Upper limit for the classes of an image; None reads it
                from ``image_labels``.
        """
        images = images.clamp(0, 255).byte().float() / 255
        return refine_labels(
            images, cam, image_labels, self.high, self.low, self.par, max_classes
        )
