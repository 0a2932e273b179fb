"""MoRe on images without labels."""

import os.path as osp
from logging import WARNING
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Union

import cv2
import mmcv
import numpy as np
from mmengine.logging import print_log
from mmengine.visualization import Visualizer
from rich.progress import track

from mmseg.registry import INFERENCERS
from mmseg.structures import SegDataSample

from ..files import palette_png, write_bytes
from ..visualization import draw_prediction
from .inference_inputs import (
    InferenceInput,
    InputsType,
    check_names,
    is_single,
    list_inputs,
)
from .inference_masks import InferenceSettings, MadeMask, MaskMaker, finish_sample
from .inference_results import RESULT_KEYS, ImageResult, summary, unpack, write_scores
from .inferencer_base import LoadedImage, MoReInferencerBase


@INFERENCERS.register_module()
class MoReInferencer(MoReInferencerBase):
    """Class scores, maps, masks and pictures of images without labels.

    Used like MMSegmentation's ``MMSegInferencer``; what it knows beyond that is where the
    mask comes from (``source``, ``crf``, ...) and the localization maps.

    Args:
        model: Config file, config, or a built segmentor with its config as ``cfg`` (as
            ``mmseg.apis.init_model`` makes it). None: the config in ``weights``.
        weights: Checkpoint. None: a built segmentor has its own, any other model is
            random, with a warning.
        classes: Names of the ``K + 1`` labels, background first. None: those in the
            checkpoint, else of the test data set of the config.
        palette: Their RGB colours. None: likewise.
        device: None: a GPU where there is one.
        scope: Registry scope of the config.
        show_progress: Whether to show a progress bar.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If the weights do not fit the model, the config has no test pipeline,
            or the classes are not known.
        TypeError: If the model is no MoRe.

    Example:
        >>> inferencer = MoReInferencer('configs/more/more_vit-b_voc.py', 'more_voc.pth')
        >>> result = inferencer('image.jpg', source='lam', crf=True)
        >>> result['classes'], result['predictions'].shape
        (['dog'], (375, 500))
        >>> inferencer('folder', out_dir='out', maps=('cam', 'lam'))
    """

    preprocess_kwargs: set = set()
    forward_kwargs: set = {
        'source',
        'multi_scale',
        'scales',
        'crf',
        'bkg',
        'mask_classes',
        'maps',
    }
    visualize_kwargs: set = {
        'show',
        'wait_time',
        'img_out_dir',
        'opacity',
        'return_vis',
        'with_labels',
    }
    postprocess_kwargs: set = set()

    def __call__(
        self,
        inputs: InputsType,
        return_datasamples: bool = False,
        batch_size: int = 1,
        **kwargs: Any,
    ) -> Union[dict, SegDataSample, List[SegDataSample]]:
        """Everything about some images at once; :meth:`stream` holds one at a time.

        Args:
            inputs: Image file, address, folder, array (BGR or gray, uint8), or a list.
            return_datasamples: Whether to return data samples (see
                :class:`ImageResult`), not a dict.
            batch_size: Images that the network sees together; more than one needs a
                pipeline that makes them equally large.
            kwargs: As in :meth:`stream`.

        Returns:
            A dict. For one image: ``predictions``, the mask ``(H, W)`` uint8 of dense
            labels; ``visualization``, a picture if ``return_vis``; ``scores``, in [0, 1]
            by class name; ``classes``, names of the predicted ones; ``maps``, float32
            ``(K, H, W)`` by name, of all K classes; ``errors``, None. For a list or a
            folder each of these is a list. An image that cannot be read is reported and
            has its message in ``errors``, None elsewhere.

        Raises:
            FileNotFoundError, TypeError, ValueError: As :func:`list_inputs` and
                :func:`make_settings`; ValueError if a single image cannot be read.
            OSError: If a file cannot be written.
        """
        parts: Dict[int, Any] = {}
        for result in self.stream(inputs, batch_size, **kwargs):
            if result.error is not None:
                if is_single(inputs):
                    raise ValueError(result.error)
                print_log(result.error, 'current', WARNING)
            parts[result.input.index] = (
                result.sample
                if return_datasamples
                else unpack(result, self.model.dataset_meta['classes'])
            )
        ordered = [parts[index] for index in sorted(parts)]
        return self.postprocess(ordered, None, return_datasamples, is_single(inputs))

    def stream(
        self,
        inputs: InputsType,
        batch_size: int = 1,
        num_workers: Optional[int] = None,
        out_dir: str = '',
        img_out_dir: str = 'vis',
        pred_out_dir: str = 'pred',
        **kwargs: Any,
    ) -> Iterator[ImageResult]:
        """Results one after the other, in bounded memory.

        In the order of the inputs, but that an image that cannot be read comes at once,
        with its ``error``, before others that are still being refined by the CRF.

        Args:
            inputs, batch_size: As in :meth:`__call__`.
            num_workers: Processes for the CRF. None: one per core; for one image none.
            out_dir: Folder to write to: ``scores.json`` and the two below. Empty: none.
            img_out_dir: Folder of the pictures below it, ``NAME.png``. Empty: none.
            pred_out_dir: Folder of the masks below it, palette PNGs. Empty: none.
            kwargs: ``source, multi_scale, scales, crf, bkg, maps`` and ``mask_classes``:
                arguments of :func:`make_settings`, where the last is ``classes``;
                ``show, wait_time, opacity, return_vis, with_labels``: of
                :meth:`visualize`.

        Raises:
            As :meth:`__call__`; what is wrong with the arguments at once.
        """
        _, masking, drawing, _ = self._dispatch_kwargs(**kwargs)
        items, settings = list_inputs(inputs), self.settings(**masking)
        if out_dir:
            check_names(items)
            drawing['img_out_dir'] = img_out_dir and osp.join(out_dir, img_out_dir)
            pred_out_dir = pred_out_dir and osp.join(out_dir, pred_out_dir)
        else:
            pred_out_dir = ''
        workers = num_workers if len(items) > 1 else 0
        results = self._results(items, batch_size, settings, workers)
        results = (self._publish(result, drawing, pred_out_dir) for result in results)
        return self._with_scores(results, out_dir) if out_dir else results

    def _with_scores(
        self, results: Iterable[ImageResult], folder: str
    ) -> Iterator[ImageResult]:
        """The results, and ``scores.json`` after the last one."""
        classes = self.model.dataset_meta['classes']
        entries: Dict[str, Mapping[str, Any]] = {}
        for result in results:
            entries[result.input.name] = summary(result, classes)
            yield result
        write_scores(folder, entries)

    def _results(
        self,
        items: List[InferenceInput],
        batch_size: int,
        settings: InferenceSettings,
        num_workers: Optional[int],
    ) -> Iterator[ImageResult]:
        """Through the network, and the CRF if there is one."""
        batches = self.preprocess(items, batch_size)
        if self.show_progress:
            batches = track(batches, 'Inference', total=-(-len(items) // batch_size))
        with MaskMaker(settings.recipe, num_workers) as maker:
            for batch in batches:
                images = [image for image in batch if isinstance(image, LoadedImage)]
                yield from (item for item in batch if isinstance(item, ImageResult))
                samples = self.forward(images, settings.request) if images else []
                for image, sample in zip(images, samples):
                    for made in maker.add(
                        image.input.path or image.input.name,
                        image.pixels,
                        sample,
                        (image, sample),
                    ):
                        yield self._result(made, settings)
            for made in maker.drain():
                yield self._result(made, settings)

    @staticmethod
    def _result(made: MadeMask, settings: InferenceSettings) -> ImageResult:
        image, sample = made.payload
        if made.error is not None:
            return ImageResult(image.input, None, made.error)
        return ImageResult(
            image.input, finish_sample(sample, made.mask, settings), pixels=image.pixels
        )

    def _publish(
        self, result: ImageResult, drawing: dict, pred_out_dir: str
    ) -> ImageResult:
        """Draw and write one result; one with an error stays as it is."""
        if result.error is not None:
            return result
        pictures = self.visualize([result], **drawing)
        if pred_out_dir:
            write_bytes(
                osp.join(pred_out_dir, f'{result.input.name}.png'),
                palette_png(result.mask(), self.model.dataset_meta['palette']),
            )
        return result._replace(picture=pictures[0] if pictures else None)

    def visualize(
        self,
        inputs: List[ImageResult],
        preds: Any = None,
        return_vis: bool = False,
        show: bool = False,
        wait_time: float = 0,
        img_out_dir: str = '',
        opacity: float = 0.5,
        with_labels: bool = True,
    ) -> Optional[List[np.ndarray]]:
        """Draw results: the mask over the image or, with maps, a panel of them.

        Args:
            inputs: The results.
            preds: Of no use here: the results hold them.
            return_vis: Whether the pictures are wanted.
            show: Whether to show each in a window.
            wait_time: For how many seconds; 0: until a key is pressed.
            img_out_dir: Folder to write ``NAME.png`` to. Empty: none.
            opacity: Share of the colours, in [0, 1].
            with_labels: Whether the names of classes are written into the mask.

        Returns:
            RGB pictures if ``return_vis``, else None.
        """
        if not (return_vis or show or img_out_dir):
            return None
        meta, pictures = self.model.dataset_meta, []
        for result in inputs:
            picture = draw_prediction(
                mmcv.bgr2rgb(np.clip(result.pixels, 0, 255).astype(np.uint8)),
                result.mask(),
                meta['palette'],
                meta['classes'],
                result.maps(),
                result.sample.pred_label.tolist(),
                opacity,
                with_labels,
            )
            if img_out_dir:
                _, content = cv2.imencode('.png', mmcv.rgb2bgr(picture))
                write_bytes(
                    osp.join(img_out_dir, f'{result.input.name}.png'), content.tobytes()
                )
            if show:
                visualizer = self.visualizer or Visualizer()
                visualizer.show(picture, result.input.name, wait_time)
            pictures.append(picture)
        return pictures if return_vis else None

    def postprocess(
        self,
        preds: list,
        visualization: Any = None,
        return_datasamples: bool = False,
        single: bool = False,
    ) -> Any:
        """One image's part as it is, those of several as lists.

        Args:
            preds: Data samples, or dicts of :func:`unpack` (with the pictures).
            visualization: Of no use here.
            return_datasamples: Which of both they are.
            single: Whether one image was meant.
        """
        if single:
            return preds[0]
        if return_datasamples:
            return preds
        return {key: [part[key] for part in preds] for key in RESULT_KEYS}
