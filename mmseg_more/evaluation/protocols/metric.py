"""Raw, multi-scale, multi-scale with CRF: all protocols in one run, one table."""

from functools import partial
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

import numpy as np
import torch
from mmengine.logging import MMLogger, print_log
from torch import Tensor

from mmseg.registry import METRICS

from ...files import read_rgb
from ...masks.calibration import SCALE_KINDS, as_calibration
from ...masks.dense_crf import DenseCRFOptions
from ...masks.maker import MadeMask
from ...masks.probabilities import map_probabilities, seg_probabilities
from ...masks.recipe import MaskRecipe
from ..functional import SegmentationFigures, confusion_matrix, segmentation_figures
from ..localization_metric import SEGMENTATION
from ..mask_metric import MaskMetric
from ..report import class_ious, mean_figures, write_json
from ..sample import read_pixels, read_sample
from ..thresholds import Bkg, MapThresholds
from .report import PROTOCOLS, format_protocols, size_range

MAPS = ('cam', 'lam', 'fused')
_REFINED = 'ms_crf'


@METRICS.register_module()
class ProtocolMetric(MaskMetric):
    """Score CAM, LAM, fused map and segmentation under three protocols at once.

    ========= =========================== ==========================================
    protocol  maps                        segmentation
    ========= =========================== ==========================================
    raw       scale 1 (the seed)          the prediction as it is
    ms        the mask scales             flip sum, maximum over the test scales
    ms_crf    ms, dense CRF (the mask)    softmax of ms, dense CRF
    ========= =========================== ==========================================

    Maps show the classes of the image label only; without CRF a pixel is background
    where they are ``<= bkg``, for the CRF the background is 1 - their maximum
    (docs/method.md, section 8), or with ``background='calibrated'`` that of maps bent so
    that the threshold of several scales comes to lie at .5. The segmentation is free to
    show all classes. Everything is scored at the original size of the image. The CRF runs
    in worker processes while the network goes on.

    The maps come from :class:`LocalizationHook`, which also tells the scales;
    :func:`~mmseg_more.evaluation.use_protocols` puts both into a config. In
    distributed runs every image counts once.

    Keys, in percent: ``cam/raw/mIoU``, ``cam/ms/mIoU``, ``cam/ms_crf/mIoU``, the same
    for ``lam``, ``fused`` and ``seg``. The table shows, in parentheses, what the best
    threshold would give.

    Args:
        bkg: As in :class:`LocalizationMetric`, for scale 1 and for
            several scales; a file has thresholds for each.
        thresholds: As in :class:`LocalizationMetric`.
        split: What to call the images in the report.
        crf: Settings of the CRF that shall differ, as in
            :class:`~mmseg_more.masks.MaskRecipe`.
        num_workers: Processes for the CRF, as in
            :class:`~mmseg_more.masks.MaskMaker`.
        ignore_index: Label of pixels that do not count. Defaults to 255.
        out_json: File to write the figures to: the keys above, also
            with ``precision``, ``recall``, ``confusion_ratio``, ``mIoU_best``,
            ``best_threshold`` and ``IoU/NAME``, and all settings under ``settings``.
        backend_args: Where the images are read from, as in
            ``LoadImageFromFile``.
        background: What the CRF takes for the background of a map, as in
            :class:`~mmseg_more.masks.MaskRecipe`. Defaults to 'complement'.
        collect_device: As in :class:`BaseMetric`. Defaults to 'cpu'.
        prefix: As in :class:`BaseMetric`.
    """

    def __init__(
        self,
        bkg: Bkg = 0.5,
        thresholds: Optional[Sequence[float]] = None,
        split: Optional[str] = None,
        crf: Optional[Mapping[str, Any]] = None,
        num_workers: Optional[int] = None,
        ignore_index: int = 255,
        out_json: Optional[str] = None,
        backend_args: Optional[dict] = None,
        background: str = 'complement',
        collect_device: str = 'cpu',
        prefix: Optional[str] = None,
    ) -> None:
        super().__init__(
            num_workers, ignore_index, out_json, backend_args, collect_device, prefix
        )
        bkg = as_calibration(bkg) if isinstance(bkg, str) else bkg  # read once
        self.thresholds = {
            kind: MapThresholds(bkg, thresholds, kind) for kind in SCALE_KINDS
        }
        self.split = split
        self.recipe = MaskRecipe(crf=crf or True, background=background)

    # ------------------------------------------------------------ per image
    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count one batch, and hand it to the CRF.

        Args:
            data_batch: Not used.
            data_samples: Samples of the model as dicts.

        Raises:
            RuntimeError: If the CRF of an image has failed; with its name. Figures
                over the other images would not be comparable.
        """
        request = self.localization_request
        if (
            request is None
            or not request.ms_scales
            or not request.seg_scales
            or {1.0} != {*request.cam_scales, *request.lam_scales}
        ):
            raise ValueError(
                'ProtocolMetric compares scale 1 with several: it needs '
                'dict(type="LocalizationHook", cam_scales=(1.,), lam_scales='
                '(1.,), ms_scales=..., seg_scales=...) among custom_hooks, as '
                f'use_protocols puts it there; the request is {request}'
            )
        super().process(data_batch, data_samples)

    def _process_image(self, sample: dict) -> None:
        if not self._makers:
            self._open_makers({_REFINED: self.recipe})
        num_classes = self._num_classes()
        read = read_sample(sample, num_classes, self.ignore_index)
        indices = read.map_indices
        size = tuple(read.truth.shape)
        logits = read_pixels(sample, 'seg_logits_ms', num_classes + 1, size)
        maps = {
            name + suffix: read_pixels(sample, name + suffix, len(indices), size)
            for name in MAPS
            for suffix in ('', '_ms')
        }
        counts = {
            f'{SEGMENTATION}/raw': self._confusion(read.pred, read.truth),
            f'{SEGMENTATION}/ms': self._confusion(logits.argmax(0), read.truth),
        }
        for name in MAPS:
            for protocol, suffix in (('raw', ''), ('ms', '_ms')):
                counts[f'{name}/{protocol}'] = self.thresholds[protocol].histogram(
                    name,
                    maps[name + suffix],
                    read.gt_score,
                    read.truth,
                    self.ignore_index,
                    indices,
                    self.dataset_meta['classes'][1:],
                )
        number = self._new_image((sample.get('img_shape'), size))
        self._add(number, counts)
        present = read.gt_score.nonzero().flatten()
        probabilities = {
            name: map_probabilities(
                maps[f'{name}_ms'], present, indices, self._crf_threshold(name)
            )
            for name in MAPS
        }
        probabilities[SEGMENTATION] = seg_probabilities(logits)
        image = read_rgb(sample['img_path'], size, self.backend_args)
        truth = read.truth.cpu()
        for name, value in probabilities.items():
            title = f'{sample["img_path"]} ({name})'
            payload = (number, name, truth)
            maker = self._makers[_REFINED]
            made = maker.add(title, value, partial(np.asarray, image), payload)
            self._collect(_REFINED, made)

    def _crf_threshold(self, name: str) -> Union[float, Sequence[float], None]:
        """What is to lie at .5 before the CRF; None: the map as it is."""
        if self.recipe.background != 'calibrated':
            return None
        thresholds = self.thresholds['ms']
        own = thresholds.of_classes(name, self.dataset_meta['classes'][1:])
        return thresholds.bkg[name] if own is None else own

    def _confusion(self, pred: Tensor, truth: Tensor) -> Tensor:
        return confusion_matrix(
            pred, truth.to(pred.device), self._num_classes() + 1, self.ignore_index
        ).cpu()

    def _count_mask(self, name: str, made: MadeMask) -> None:
        assert made.mask is not None
        number, source, truth = made.payload
        confusion = self._confusion(torch.from_numpy(made.mask), truth)
        self._add(number, {f'{source}/{name}': confusion})

    # ------------------------------------------------------------ all images
    def compute_metrics(self, results: List[tuple]) -> Dict[str, float]:
        """Figures from the summed counts.

        Args:
            results: Size in the network and original size of each
                image.
        """
        if not results:
            raise ValueError('no image was evaluated: the data set is empty')
        written: Dict[str, Any] = {}
        for name in (*MAPS, SEGMENTATION):
            for protocol in PROTOCOLS:
                written.update(self._figures(name, protocol))
        settings = self._settings(results)
        print_log(
            format_protocols(written, (*MAPS, SEGMENTATION), settings),
            MMLogger.get_current_instance(),
        )
        if self.out_json:
            write_json(self.out_json, dict(written, settings=settings))
        return {key: value for key, value in written.items() if key.endswith('/mIoU')}

    def _figures(self, name: str, protocol: str) -> Dict[str, float]:
        key = f'{name}/{protocol}'
        confusion, extra = self._counts[key], {}
        if name != SEGMENTATION and protocol != 'ms_crf':
            swept = self.thresholds[protocol].figures(name, confusion)
            confusion = swept.confusion
            extra = {
                f'{key}/mIoU_best': 100 * swept.best_miou,
                f'{key}/best_threshold': swept.best_threshold,
            }
        figures: SegmentationFigures = segmentation_figures(confusion)
        return {
            **mean_figures(key, figures),
            **extra,
            **class_ious(key, figures, self.dataset_meta['classes']),
        }

    def _settings(self, results: List[tuple]) -> Dict[str, Any]:
        """What has to be known to compare the figures; JSON takes it."""
        networks, originals = zip(*results)
        request, crf = self.localization_request, self.recipe.crf_settings
        assert request is not None and crf is not None  # process() has seen to it
        raw, ms = (
            {name: self.thresholds[kind].bkg[name] for name in MAPS} for kind in SCALE_KINDS
        )
        settings: Dict[str, Any] = dict(
            split=self.split,
            num_images=len(results),
            image_size=size_range(originals),
            network_size=size_range(networks),
            ms_scales=list(request.ms_scales),
            seg_scales=list(request.seg_scales),
            bkg=raw,
            crf={name: crf[name] for name in DenseCRFOptions._fields},
            epsilon=crf['epsilon'],
        )
        if ms != raw:
            settings['bkg_ms'] = ms
        if self.recipe.background == 'calibrated':
            settings['background'] = self.recipe.background
        return settings
