"""MoRe on images without labels."""

import os
import os.path as osp
from functools import partial
from logging import WARNING
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Union,
)

import cv2
import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.infer import BaseInferencer
from mmengine.logging import print_log
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import CheckpointLoader
from mmengine.structures import PixelData
from mmengine.visualization import Visualizer
from rich.progress import track
from torch import nn

from mmseg.registry import INFERENCERS, TRANSFORMS
from mmseg.structures import SegDataSample

from ..datasets.image_labels import name_few
from ..engine import launch
from ..engine.hooks.sanity_check_hook import (
    check_numbers,
    check_state_dict,
    load_whole,
    weights_of,
)
from ..engine.type_name import type_name
from ..files import palette_png, write_bytes
from ..masks import (
    CONFIDENCE,
    PREDICTION,
    Calibration,
    MadeMask,
    MaskMaker,
    MaskRecipe,
    as_calibration,
    confidence_png,
    evaluated_bkg,
    gives_thresholds,
)
from ..masks.identity import without_annotations
from ..masks.large_images import shrink_image
from ..masks.limited_pipeline import limit_loaded
from ..model_index import UNPUBLISHED
from ..models.structures import LocalizationRequest
from ..visualization import draw_prediction
from .checkpoint_config import checkpoint_config
from .dataset_meta import resolve_dataset_meta
from .inference_inputs import (
    InferenceInput,
    InputsType,
    check_names,
    is_single,
    list_inputs,
)
from .inference_results import RESULT_KEYS, ImageResult, summary, unpack, write_scores
from .inference_settings import InferenceSettings, make_settings


class LoadedImage(NamedTuple):
    """An image that the network can see."""

    input: InferenceInput
    """Where it is from."""
    pixels: np.ndarray
    """As it was read: BGR ``(H, W, 3)``."""
    data: dict
    """``inputs`` and ``data_samples`` of the pipeline."""


@INFERENCERS.register_module()
class MoReInferencer(BaseInferencer):
    """Class scores, maps, masks and pictures of images without labels.

    Used like MMSegmentation's ``MMSegInferencer``; what it knows beyond that is where the
    mask comes from (``source``, ``crf``, ...) and the localization maps.

    Args:
        model: Config file, name of a shipped model, config, or a built segmentor with its
            config as ``cfg`` (as ``mmseg.apis.init_model`` makes it). None: the config in
            ``weights``, which is read as data and not run, and may name parts of a MoRe
            alone.
        weights: Checkpoint; needed with the name of a shipped model. None: a built
            segmentor has its own, any other model is random, with a warning.
        classes: Names of the ``K + 1`` labels, background first. None: those in the
            checkpoint, else of the test data set of the config.
        palette: Their RGB colours. None: likewise.
        device: None: a GPU where there is one.
        scope: Registry scope of the config.
        show_progress: Whether to show a progress bar.
        calibration: File of thresholds of maps and of curves of confidence
            (:class:`~mmseg_more.masks.Calibration`): the default of ``calibration`` in the
            calls, as far as it holds something for the masks of a call.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If there is no such device, or a file is no checkpoint;
            if the weights do not fit the model, some are missing or not numbers;
            if a shipped model is named without weights, as none are published;
            if the config has no test pipeline, or is one of the checkpoint that cannot be
            trusted; if the classes are not known.
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
        'keep_logits',
        'source',
        'multi_scale',
        'scales',
        'crf',
        'crf_timeout',
        'max_pixels',
        'bkg',
        'calibration',
        'background',
        'class_bkg',
        'policy',
        'maps',
        'confidence_maps',
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

    # ------------------------------------------------------------------ the model
    def __init__(
        self,
        model: Union[str, 'os.PathLike', Config, dict, nn.Module, None] = None,
        weights: Optional[str] = None,
        classes: Optional[Sequence[str]] = None,
        palette: Optional[Sequence[Sequence[int]]] = None,
        device: Optional[str] = None,
        scope: str = 'mmseg',
        show_progress: bool = True,
        calibration: Union[str, Calibration, None] = None,
    ) -> None:
        init_default_scope(scope)
        if device is not None:
            launch.check_device(device)
        self.calibration = None if calibration is None else as_calibration(calibration)
        self._classes, self._palette = classes, palette
        self._built: Optional[nn.Module] = None
        if isinstance(model, nn.Module):
            self._built, model = model, getattr(model, 'cfg', None)
            if model is None:
                raise ValueError(
                    'a built segmentor needs its config as the attribute '
                    '`cfg`, for the pipeline and the names of the classes'
                )
        elif isinstance(model, (str, os.PathLike)):
            is_file, model = osp.isfile(model), launch.load_config(os.fspath(model))
            if weights is None and not is_file:  # the name of a shipped model
                weights = UNPUBLISHED
        if weights is not None:
            launch.check_checkpoint(weights)
        super().__init__(model, weights, device, scope, show_progress)

    def _init_model(
        self, cfg: Config, weights: Optional[str], device: str = 'cpu'
    ) -> nn.Module:
        checkpoint = None
        if weights is not None:
            checkpoint = CheckpointLoader.load_checkpoint(weights, map_location='cpu')
        if not cfg:
            cfg.update(checkpoint_config(checkpoint or {}))
        model = self._built
        if model is None:
            # the file that a training starts from need not be here
            parts = {k: v for k, v in cfg['model'].items() if k != 'pretrained'}
            model = MODELS.build(parts)
            model.cfg = cfg
        self._load_weights_to_model(model, checkpoint, cfg)
        return model.to(device).eval()

    def _load_weights_to_model(
        self, model: Any, checkpoint: Optional[dict], cfg: Config
    ) -> None:
        """Load all weights or none; give the model its ``dataset_meta``."""
        if not hasattr(model, 'localization_request'):
            raise TypeError(
                f'MoReInferencer runs MoRe, got a {type(model).__name__}: use '
                'mmseg.apis.MMSegInferencer'
            )
        if checkpoint is not None:
            state_dict = weights_of(checkpoint)
            check_state_dict(model, state_dict)
            unexpected = load_whole(model, state_dict)
            if unexpected:
                raise ValueError(
                    f'the model has no place for {len(unexpected)} weights of the '
                    f'checkpoint ({name_few(unexpected)}): use the config it was trained '
                    'with'
                )
        elif self._built is None:
            print_log('no weights are given: the model is random', 'current', WARNING)
        else:
            check_numbers(model)
        if checkpoint is None and self._classes is None:
            checkpoint = dict(meta=dict(dataset_meta=getattr(model, 'dataset_meta', None)))
        model.dataset_meta = resolve_dataset_meta(
            model.num_classes, cfg, checkpoint, self._classes, self._palette
        )

    def _init_pipeline(self, cfg: Config) -> Compose:
        """The test pipeline behind the loading; ``self.loader`` does that."""
        dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
        steps = without_annotations(
            dataset.get('pipeline') or cfg.get('test_pipeline') or []
        )
        if not steps or type_name(steps[0]) not in ('LoadAnyImage', 'LoadImageFromFile'):
            raise ValueError(
                'inference needs `test_dataloader.dataset.pipeline` in the config, with '
                'LoadAnyImage or LoadImageFromFile first; got '
                f'{[type_name(step) for step in steps]}'
            )
        self.loader = _InputLoader(steps[0])
        return Compose(steps[1:])

    def _init_collate(self, cfg: Config) -> Callable:
        """Images of a batch stay apart: the data preprocessor stacks them."""
        return pseudo_collate

    # ---------------------------------------------------------------- the results
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
            ``(K, H, W)`` by name, of all K classes; ``image_confidence``, the mean IoU that
            the mask is expected to have; ``confidence_map``, float32 ``(H, W)`` if
            ``confidence_maps``; ``errors``, None. (A data sample has
            ``image_confidence`` among its meta information.) For a list or a
            folder each of these is a list. An image that cannot be read is reported and
            has its message in ``errors``, None elsewhere.

        Raises:
            FileNotFoundError, TypeError, ValueError: As :func:`list_inputs` and
                :func:`make_settings`; ValueError if a single image cannot be read.
            OSError: If a file cannot be written.
        """
        parts: Dict[int, Any] = {}
        for result in self.stream(
            inputs, batch_size, keep_logits=return_datasamples, **kwargs
        ):
            if result.error is not None:
                if is_single(inputs):
                    raise ValueError(result.error)
                print_log(result.error, 'current', WARNING)
            parts[result.input.position] = (
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

        In the order of the inputs. An image that cannot be read, or on which the network
        fails, has an ``error``, and the others go on.

        Args:
            inputs: As in :meth:`__call__`.
            batch_size: As in :meth:`__call__`.
            num_workers: Processes for the CRF. None: one per core; for one image none.
            out_dir: Folder to write to: ``scores.json`` and the two below, with
                ``confidence_maps`` also ``confidence/NAME.png``. Empty: none. What lies in
                these folders is no input.
            img_out_dir: Folder of the pictures below it, ``NAME.png``. Empty: none.
            pred_out_dir: Folder of the masks below it, palette PNGs. Empty: none.
            kwargs: ``maps, source, multi_scale, scales, policy, bkg, crf, crf_timeout,
                max_pixels, calibration, background, class_bkg, confidence_maps``: of
                :func:`make_settings`; ``show, wait_time, opacity, return_vis,
                with_labels``: of :meth:`visualize`.

        Raises:
            As :meth:`__call__`; what is wrong with the arguments at once.
        """
        _, masking, drawing, _ = self._dispatch_kwargs(**kwargs)
        if out_dir:
            img_out_dir = img_out_dir and osp.join(out_dir, img_out_dir)
            pred_out_dir = pred_out_dir and osp.join(out_dir, pred_out_dir)
            confidence_dir = osp.join(out_dir, CONFIDENCE)
        else:
            img_out_dir = pred_out_dir = confidence_dir = ''
        # by themselves too: the folder of the images may be `out_dir`
        folders = [dir_ for dir_ in (img_out_dir, pred_out_dir, confidence_dir) if dir_]
        items = list_inputs(inputs, [out_dir, *folders] if out_dir else [])
        settings = self.settings(**masking)
        if out_dir:
            check_names(items, folders)
            drawing['img_out_dir'] = img_out_dir
        workers = num_workers if len(items) > 1 else 0
        results = self._results(items, batch_size, settings, workers)
        results = (
            self._publish(result, drawing, pred_out_dir, confidence_dir)
            for result in results
        )
        return self._with_scores(results, out_dir) if out_dir else results

    def settings(self, **options: Any) -> InferenceSettings:
        """Of the masks and maps, with a threshold where one is needed and not given.

        It is that of the config's test evaluator, or else of its pseudo labels.

        Args:
            options: Arguments of :func:`make_settings`.
        """
        if options.get('calibration') is None:
            options['calibration'] = self._default_calibration(options)
        settings = make_settings(**options)
        recipe = settings.recipe.calibrated(
            self.model.dataset_meta['classes'][1:],
            evaluated_bkg(self.cfg, settings.recipe.source),
            lambda: self.model.training_labeler.bkg,
        )
        return settings._replace(recipe=recipe)

    def _default_calibration(self, options: Dict[str, Any]) -> Optional[Calibration]:
        """What the inferencer's calibration holds for a call; None: nothing."""
        calibration = self.calibration
        if calibration is None:
            return None
        source = options.get('source') or PREDICTION.source
        # the published background of the CRF stays where it is asked for
        published = options.get('crf') and options.get('background') == 'complement'
        if source == 'seg' or published or gives_thresholds(options):
            calibration = calibration.without_thresholds()
        applies = calibration.thresholds or source in calibration.confidence
        return calibration if applies else None

    def _with_scores(
        self, results: Iterable[ImageResult], folder: str
    ) -> Iterator[ImageResult]:
        """The results, and ``scores.json`` at the end, whatever ends it."""
        classes = self.model.dataset_meta['classes']
        entries: Dict[str, Mapping[str, Any]] = {}
        try:
            for result in results:
                entries[result.input.name] = summary(result, classes)
                yield result
        finally:
            if entries:
                write_scores(folder, entries)

    def _results(
        self,
        items: List[InferenceInput],
        batch_size: int,
        settings: InferenceSettings,
        num_workers: Optional[int],
    ) -> Iterator[ImageResult]:
        """Through the network, and the CRF if there is one, in order."""
        batches: Iterable = self.preprocess(items, batch_size, settings.recipe)
        if self.show_progress:
            batches = track(batches, 'Inference', total=-(-len(items) // batch_size))
        with MaskMaker(settings.recipe, num_workers) as maker:
            for batch in batches:
                images = [image for image in batch if isinstance(image, LoadedImage)]
                samples = iter(self._samples(images, settings.request))
                for image in batch:
                    if isinstance(image, ImageResult):
                        made = maker.fail(image, str(image.error))
                    else:
                        made = self._make(maker, image, next(samples), settings)
                    yield from (_result(one, settings) for one in made)
            yield from (_result(one, settings) for one in maker.drain())

    def _samples(
        self, images: List[LoadedImage], request: Optional[LocalizationRequest]
    ) -> List[Union[SegDataSample, str]]:
        """What the network says of each image, or why it fails on it."""
        if not images:
            return []
        _check_sizes(images)
        try:
            return self.forward(images, request)
        except (RuntimeError, ValueError) as error:
            if len(images) == 1:
                return [f'the network fails: {type(error).__name__}: {error}']
        return [self._samples([image], request)[0] for image in images]

    def _make(
        self,
        maker: MaskMaker,
        image: LoadedImage,
        sample: Union[SegDataSample, str],
        settings: InferenceSettings,
    ) -> List[MadeMask]:
        """Hand an image in; what is not needed any more is let go."""
        name, recipe = image.input.path or image.input.name, settings.recipe
        if isinstance(sample, str):
            return maker.fail(ImageResult(image.input, None), f'{name}: {sample}')
        size = tuple(image.pixels.shape[:2])
        try:
            mask = sample.pred_sem_seg.data[0]
            probabilities = recipe.probabilities(sample, recipe.allowed(sample))
            sample = _trimmed(sample, settings)
        except RuntimeError as error:  # out of memory
            return maker.fail(ImageResult(image.input, None), f'{name}: {error}')
        payload = ImageResult(image.input, sample, pixels=image.pixels)
        if recipe.is_prediction and tuple(mask.shape) == size:
            return maker.add_mask(mask, probabilities, payload)
        held = image.pixels.nbytes + sum(
            value.data.nbytes for value in sample.values() if isinstance(value, PixelData)
        )
        read_image = partial(_as_rgb, image.pixels)
        return maker.add(name, probabilities, read_image, payload, held, size)

    def _publish(
        self, result: ImageResult, drawing: dict, pred_out_dir: str, confidence_dir: str
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
        if confidence_dir and result.confidence_map is not None:
            write_bytes(
                osp.join(confidence_dir, f'{result.input.name}.png'),
                confidence_png(result.confidence_map),
            )
        return result._replace(picture=pictures[0] if pictures else None)

    def preprocess(
        self,
        inputs: List[InferenceInput],
        batch_size: int = 1,
        recipe: MaskRecipe = PREDICTION,
    ) -> Iterator[List[Union[LoadedImage, ImageResult]]]:
        """Read images and run the pipeline; a result with an error where that fails.

        Args:
            inputs: The images.
            batch_size: How many come together.
            recipe: Of the masks: larger images than its ``max_pixels`` are reduced.
        """
        for start in range(0, len(inputs), batch_size):
            yield [self._load(item, recipe) for item in inputs[start : start + batch_size]]

    def _load(
        self, item: InferenceInput, recipe: MaskRecipe
    ) -> Union[LoadedImage, ImageResult]:
        name = item.path or item.name
        try:
            loaded = self.loader(item)
        except OSError as error:
            return ImageResult(item, None, f'{name} cannot be read: {error}')
        except Exception:  # of OpenCV, Pillow, ...: the other images go on
            return ImageResult(item, None, f'{name} does not decode as an image')
        pixels, loaded['img_path'] = loaded['img'], item.path
        try:
            limit_loaded(loaded, recipe, self.model.num_classes)
        except MemoryError as error:
            return ImageResult(item, None, f'{name}: {error}')
        try:
            return LoadedImage(item, pixels, self.pipeline(loaded))
        except Exception as error:  # likewise
            return ImageResult(
                item,
                None,
                f'{name}, an image of {pixels.shape[0]}x{pixels.shape[1]} '
                f'pixels, fails in the pipeline: {type(error).__name__}: {error}',
            )

    @torch.no_grad()
    def forward(
        self, inputs: List[LoadedImage], request: Optional[LocalizationRequest] = None
    ) -> List[SegDataSample]:
        """What the segmentor says of some images of one size behind the pipeline."""
        before, self.model.localization_request = self.model.localization_request, request
        try:
            return self.model.test_step(self.collate_fn([image.data for image in inputs]))
        finally:
            self.model.localization_request = before

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
            if result.sample is None or result.pixels is None:
                continue  # it has an error
            pixels, mask, maps = result.pixels, result.mask(), result.maps()
            if maps and result.worked_size is not None:  # the size of the maps
                height, width = result.worked_size
                pixels = shrink_image(pixels, result.worked_size)
                mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
            picture = draw_prediction(
                _as_rgb(pixels),
                mask,
                meta['palette'],
                meta['classes'],
                maps,
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


class _InputLoader:
    """Loads a file or takes an array, as the first step of a pipeline would.

    ``LoadImageFromFile`` with its defaults is replaced by ``LoadAnyImage``, which differs
    for images of more than 8 bits and transparent ones alone; with a decoder of its own
    it stays.

    Args:
        step: Config of the loading step.
    """

    def __init__(self, step: Mapping[str, Any]) -> None:
        options = {name: value for name, value in step.items() if name != 'type'}
        if set(options) <= {'to_float32', 'backend_args'}:
            step = dict(options, type='LoadAnyImage')
        self.from_file = TRANSFORMS.build(dict(step))
        to_float32 = options.get('to_float32', False)
        self.from_array = TRANSFORMS.build(
            dict(type='LoadImageFromNDArray', to_float32=to_float32)
        )

    def __call__(self, item: InferenceInput) -> dict:
        if item.pixels is not None:
            return self.from_array(dict(img=item.pixels))
        return self.from_file(dict(img_path=item.path))


def _check_sizes(images: Sequence[LoadedImage]) -> None:
    """Raise ValueError if images of a batch are not equally large behind the pipeline."""
    sizes = {tuple(image.data['inputs'].shape[-2:]) for image in images}
    if len(sizes) > 1:
        raise ValueError(
            f'images of {sorted(sizes)} pixels do not fit into one batch: take batch_size=1'
        )


def _as_rgb(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype != np.uint8:
        pixels = np.clip(pixels, 0, 255).astype(np.uint8)
    return mmcv.bgr2rgb(pixels)


def _trimmed(sample: SegDataSample, settings: InferenceSettings) -> SegDataSample:
    """What a user asked for, on the CPU, by the names that users know."""
    for name in settings.request.maps if settings.request else ():
        values = sample.pop(f'{name}_ms')
        if name in settings.maps:
            sample.set_field(values, name)
    sample.pop('map_indices', None)
    merged = sample.pop('seg_logits_ms', None)
    if merged is not None:
        sample.seg_logits = merged
    # `pop` would leave what is behind the properties of SegDataSample
    if 'seg_logits' in sample and not settings.keep_logits:
        del sample.seg_logits
    del sample.pred_sem_seg  # the mask takes its place
    return sample.cpu()


def _result(made: MadeMask, settings: InferenceSettings) -> ImageResult:
    result: ImageResult = made.payload
    if made.mask is None or result.sample is None:
        return result._replace(sample=None, pixels=None, error=made.error)
    sample = result.sample
    sample.pred_sem_seg = PixelData(data=torch.from_numpy(made.mask)[None].long())
    if made.worked_size is not None:
        shapes = dict(ori_shape=made.mask.shape, worked_size=made.worked_size)
        sample.set_metainfo(shapes)
        result = result._replace(worked_size=made.worked_size)
    confidence = made.mask_confidence
    if confidence is None:
        return result
    sample.set_metainfo(dict(image_confidence=confidence.image))
    return result._replace(
        image_confidence=confidence.image,
        confidence_map=confidence.pixels if settings.confidence_maps else None,
    )
