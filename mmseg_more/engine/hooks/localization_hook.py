"""Gets localization maps out of validation and test, and draws them."""

import os.path as osp
from typing import Dict, Optional, Sequence

import numpy as np
from mmengine.dist import is_main_process
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmseg.registry import HOOKS
from mmseg.structures import SegDataSample

from ...files import read_rgb
from ...localization import check_scales
from ...models.structures import MAP_NAMES, POLICIES, LocalizationRequest
from ...visualization import localization_panel
from .utils import has_test_time_augmentation, unwrap_model


@HOOKS.register_module()
class LocalizationHook(Hook):
    """Ask the segmentor for localization maps during validation and test.

    Before the epoch it sets ``model.localization_request``, and takes it back
    after it. In between the data samples carry the maps, for
    ``LocalizationMetric`` and for this hook's pictures: the heat maps of each
    present class over the image, beside prediction and truth, through the
    runner's visualizer (so to all of its backends). Metrics that have an
    attribute ``localization_request`` get it too, so that they say at which
    scales their figures were taken.

    Test-time augmentation merges the segmentation alone: there the hook does nothing, and
    says so once.

    Args:
        maps: Maps to ask for, out of ``cam``, ``lam``,
            ``fused`` and ``attention``. Defaults to the first three.
        cam_scales: Scales of the CAM. Defaults to those of
            VOC's training, (1, .5, .75, 1.5).
        lam_scales: Scales of the LAM and of the attention.
            Defaults to (1, ), as the official validation.
        ms_scales: If there are any, each of ``maps`` at these
            scales as well, in the fields ``cam_ms`` and so on. Defaults to ().
        seg_scales: If there are any, the field
            ``seg_logits_ms``, see :class:`LocalizationRequest`. Defaults to ().
        policy: Of which classes maps are made: 'all' K, those of the
            image's labels ('image-labels'), or those that the network predicts
            ('predicted'). The fewer, the less memory at the original size; the
            samples carry the indices as ``map_indices``. Pictures show the same, and
            ``LocalizationMetric`` finds the same with 'image-labels'. Defaults to
            'all'.
        draw: Whether to draw. Defaults to True.
        interval: Draw one of that many samples, the first included.
            Defaults to 50.
        max_images: Draw at most that many per epoch. Defaults to 8.
        alpha: Share of the heat map over the image. Defaults to .5.
        backend_args: Where the images are read from, as in
            ``LoadImageFromFile``. Defaults to None.

    Example:
        >>> default_hooks = dict(  # as in configs/_base_/default_runtime.py
        ...     localization=dict(
        ...         type='LocalizationHook', maps=('cam', 'lam', 'fused'),
        ...         cam_scales=(1., .5, .75, 1.5), lam_scales=(1., ),
        ...         interval=50, max_images=8))
        >>> vis_backends = [dict(type='LocalVisBackend'),
        ...                 dict(type='TensorboardVisBackend')]
        >>> visualizer = dict(type='SegLocalVisualizer',
        ...                   vis_backends=vis_backends, name='visualizer')
    """

    def __init__(
        self,
        maps: Sequence[str] = ('cam', 'lam', 'fused'),
        cam_scales: Sequence[float] = (1.0, 0.5, 0.75, 1.5),
        lam_scales: Sequence[float] = (1.0,),
        ms_scales: Sequence[float] = (),
        seg_scales: Sequence[float] = (),
        policy: str = 'all',
        draw: bool = True,
        interval: int = 50,
        max_images: int = 8,
        alpha: float = 0.5,
        backend_args: Optional[dict] = None,
    ) -> None:
        unknown = [name for name in maps if name not in MAP_NAMES]
        if isinstance(maps, str) or not maps or unknown:
            raise ValueError(f'maps must be a list of some of {MAP_NAMES}, got {maps!r}')
        if policy not in POLICIES:
            raise ValueError(f'policy must be one of {", ".join(POLICIES)}, got {policy!r}')
        if interval < 1 or max_images < 0 or not 0 <= alpha <= 1:
            raise ValueError(
                'expected interval >= 1, max_images >= 0 and alpha in [0, 1],'
                f' got {interval}, {max_images} and {alpha}'
            )
        self.request = LocalizationRequest(
            maps=tuple(name for name in MAP_NAMES if name in maps),
            cam_scales=check_scales(cam_scales, 'cam_scales'),
            lam_scales=check_scales(lam_scales, 'lam_scales'),
            ms_scales=check_scales(ms_scales, 'ms_scales') if ms_scales else (),
            seg_scales=check_scales(seg_scales, 'seg_scales') if seg_scales else (),
            policy=policy,
        )
        self.draw = draw
        self.interval = interval
        self.max_images = max_images
        self.alpha = alpha
        self.backend_args = backend_args
        self._num_seen = self._num_drawn = 0
        self._told = False

    # ------------------------------------------------------------ the request
    def _set_request(self, runner: Runner, request: Optional[LocalizationRequest]) -> None:
        model = unwrap_model(runner.model, 'localization_request')
        model.localization_request = request

    def before_train(self, runner: Runner) -> None:
        """Forget a request that an aborted epoch has left behind."""
        self._set_request(runner, None)

    def _ask(self, runner: Runner, evaluator: Evaluator) -> None:
        self._num_seen = self._num_drawn = 0
        if has_test_time_augmentation(runner.model):
            self._set_request(runner, None)
            if not self._told:
                self._told = True
                runner.logger.info(
                    'LocalizationHook: test-time augmentation merges the segmentation '
                    'alone, so no localization maps are made, scored or drawn. Without '
                    'it they use several scales and flips of their own.'
                )
            return
        self._set_request(runner, self.request)
        for metric in evaluator.metrics:
            if hasattr(metric, 'localization_request'):
                metric.localization_request = self.request

    def before_val_epoch(self, runner: Runner) -> None:
        """Ask for the maps."""
        self._ask(runner, runner.val_loop.evaluator)

    def before_test_epoch(self, runner: Runner) -> None:
        """Ask for the maps."""
        self._ask(runner, runner.test_loop.evaluator)

    def after_val_epoch(
        self, runner: Runner, metrics: Optional[Dict[str, float]] = None
    ) -> None:
        """Take the request back."""
        self._set_request(runner, None)

    def after_test_epoch(
        self, runner: Runner, metrics: Optional[Dict[str, float]] = None
    ) -> None:
        """Take the request back."""
        self._set_request(runner, None)

    # --------------------------------------------------------------- pictures
    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict,
        outputs: Sequence[SegDataSample],
    ) -> None:
        """Draw some of the validation samples."""
        self._draw(runner, outputs, 'val')

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict,
        outputs: Sequence[SegDataSample],
    ) -> None:
        """Draw some of the test samples."""
        self._draw(runner, outputs, 'test')

    def _draw(self, runner: Runner, outputs: Sequence[SegDataSample], mode: str) -> None:
        if not self.draw or not is_main_process():
            return
        if has_test_time_augmentation(runner.model):
            return
        for sample in outputs:
            due = self._num_seen % self.interval == 0
            self._num_seen += 1
            if due and self._num_drawn < self.max_images:
                name = osp.splitext(osp.basename(sample.img_path))[0]
                runner.visualizer.add_image(
                    f'localization_{mode}_{name}',
                    self._panel(sample, runner.visualizer.dataset_meta),
                    step=runner.iter,
                )
                self._num_drawn += 1

    def _panel(self, sample: SegDataSample, meta: Optional[dict]) -> np.ndarray:
        if not meta or 'palette' not in meta or 'classes' not in meta:
            raise ValueError(
                'LocalizationHook draws with the classes and the palette of '
                "the data set's metainfo, which are missing. Give the data "
                'set a METAINFO, or set draw=False.'
            )
        image = read_rgb(sample.img_path, backend_args=self.backend_args)
        if 'gt_score' in sample:
            present = sample.gt_score.nonzero().flatten().tolist()
        else:
            present = sample.pred_label.tolist()
        labels = {'prediction': sample.pred_sem_seg.data[0]}
        if 'gt_sem_seg' in sample:
            labels['truth'] = sample.gt_sem_seg.data[0]
        maps = {name: sample.get(name).data for name in self.request.maps}
        indices = sample.get('map_indices', None)
        return localization_panel(
            image,
            maps,
            present,
            labels,
            meta['classes'],
            meta['palette'],
            self.alpha,
            None if indices is None else indices.tolist(),
        )
