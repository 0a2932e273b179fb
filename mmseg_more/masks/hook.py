"""Writes a mask of every image that passes by in a test loop."""

import logging
from functools import partial
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np
from mmengine.dist import barrier, get_dist_info
from mmengine.hooks import EMAHook, Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import nn

from mmseg.registry import HOOKS, LOOPS
from mmseg.structures import SegDataSample

from ..datasets.image_labels import name_few
from ..datasets.image_level_dataset import voc_palette
from ..engine.distributed import on_main_process
from ..engine.hooks import SanityCheckHook
from ..engine.hooks.sanity_check_hook import check_numbers
from ..engine.hooks.utils import has_test_time_augmentation, innermost, trains
from ..files import palette_png, read_rgb
from .confidence import confidence_png
from .config import evaluated_bkg, mask_dataloader
from .folder import CONFIDENCE, MaskFolder, soft_map
from .identity import file_sha256, model_settings, weights_sha256, without_annotations
from .images import MaskImage, check_labels, check_paths, list_images
from .limited_pipeline import FULL_SHAPE
from .maker import MadeMask, MaskMaker
from .recipe import MaskRecipe

_BACKGROUND = 'background'


@HOOKS.register_module()
class PseudoLabelHook(Hook):
    """Write the masks (pseudo labels) of what passes by in a test loop.

    It works in any test loop of any segmentor: a MoRe gives masks of its localization
    maps, other segmentors (a stock DeepLabV3+, say) of their segmentation, one image at a
    time or whole batches. :class:`~mmseg_more.masks.loop.MaskLoop` in ``test_cfg`` adds
    what a hook cannot do: it leaves out what is finished, shares the images over processes,
    and goes on after an image that fails. ``tools/test.py --pseudo-labels DIR`` puts both
    into the config (:func:`~mmseg_more.masks.use_pseudo_labels`).

    Each image gives ``DIR/NAME.png``, a palette PNG of dense labels (0 background,
    ``k + 1`` class ``k``); NAME is the path of the image below its folder, without suffix.
    ``DIR/manifest.json`` (see :class:`~mmseg_more.masks.folder.MaskFolder`) says how they
    were made, and of each image its size, the classes that may appear and the confidence:
    the mean probability (or map value) of the pixels won by a class, and
    ``image_confidence``, the mean IoU that the mask is expected to have
    (:func:`~mmseg_more.masks.confidence.expected_iou`).

    Files are written whole or not at all, a folder never holds masks of two settings or
    two checkpoints, and one run at a time writes there. An image that has no mask at the
    end is reported by an error.

    Args:
        out_dir: The folder. A new one, or that of an earlier run.
        soft_maps: Whether to write the probabilities before the CRF too, see
            :func:`~mmseg_more.masks.folder.soft_map`.
        confidence_maps: Whether to write the confidence of each pixel too, as
            ``DIR/confidence/NAME.png``, see
            :func:`~mmseg_more.masks.confidence.confidence_png`.
        num_workers: Processes for the CRF, None for one per usable core.
        after_train: Make masks once training has ended, by its last weights (those of
            :class:`EMAHook` where there is one), and not in tests.
        split: Whose images ``after_train`` takes: 'train', 'val' or 'test'.
        backend_args: Where the CRF reads image files from.
        recipe: Options of :class:`~mmseg_more.masks.recipe.MaskRecipe`: ``source``,
            ``multi_scale``, ``scales``, ``policy``, ``bkg``, ``crf``, ``crf_timeout``,
            ``max_pixels``, ``calibration``, ``background``, ``class_bkg``.

    Example:
        >>> custom_hooks = [dict(type='PseudoLabelHook', out_dir='masks')]
        >>> custom_hooks = [dict(type='PseudoLabelHook', out_dir='masks',
        ...                      after_train=True, split='train', crf=True)]
    """

    # requests of other hooks, and the weights of EMAHook, are there before
    priority = 'LOW'

    def __init__(
        self,
        out_dir: str,
        soft_maps: bool = False,
        confidence_maps: bool = False,
        num_workers: Optional[int] = None,
        after_train: bool = False,
        split: str = 'test',
        backend_args: Optional[dict] = None,
        **recipe: Any,
    ) -> None:
        self.recipe = MaskRecipe().replace(**recipe)
        self.folder = MaskFolder(out_dir)
        self.soft_maps = soft_maps
        self.confidence_maps = confidence_maps
        self.num_workers = num_workers
        self.makes_masks_after_train = after_train
        self.split = split
        self.backend_args = backend_args
        self.images: List[MaskImage] = []
        self.todo: List[MaskImage] = []
        """Those of ``images`` that have no mask yet, from ``before_test_epoch`` on."""
        self._loop: Any = None  # of its own, after a training
        self._run: Optional[_Run] = None  # during a test

    @property
    def resolved_recipe(self) -> MaskRecipe:
        """The recipe with what depends on the model and the data, during a test."""
        return self.recipe if self._run is None else self._run.recipe

    # ---------------------------------------------------------- the training
    def before_train(self, runner: Runner) -> None:
        """Fail now, and not after the training."""
        if not self.makes_masks_after_train:
            return
        with_labels = self.recipe.policy in (None, 'image-labels')
        data = mask_dataloader(runner.cfg, self.split, with_labels)
        on_main_process(self.folder.acquire)
        try:
            self._prepare_loop(runner, data)
        except BaseException:
            self._loop = None
            self.abandon()
            raise

    def _prepare_loop(self, runner: Runner, data: dict) -> None:
        """Build the loop that is run after the training, and check the folder for it."""
        self._loop = LOOPS.build(
            dict(
                type='MaskLoop',
                dataloader=data,
                fp16=(runner.cfg.get('test_cfg') or {}).get('fp16', False),
                hooks=[h for h in runner.hooks if h is self or isinstance(h, EMAHook)],
            ),
            default_args=dict(runner=runner),
        )
        identity, names = self._prepare(runner).identity, [i.name for i in self.images]
        manifest = on_main_process(partial(self.folder.check, identity, names))
        if manifest['images'] and runner.iter == 0:
            raise ValueError(
                f'{self.folder.root} holds {len(manifest["images"])} masks of other '
                'weights than this training will end with: choose another folder, or '
                'delete that one'
            )

    def after_train(self, runner: Runner) -> None:
        """Run a loop of its own, over the images of ``split``."""
        if self._loop is not None:
            try:
                self._loop.run()
            finally:
                self._loop = None

    # -------------------------------------------------------------- the test
    def before_run(self, runner: Runner) -> None:
        """Say that another run has the folder before the network is loaded for it."""
        if not trains(runner) and not self.makes_masks_after_train:
            on_main_process(self.folder.check_free)

    def after_load_checkpoint(self, runner: Runner, checkpoint: Dict[str, Any]) -> None:
        """No masks of a part of the weights, in a config without SanityCheckHook either."""
        checked = any(isinstance(hook, SanityCheckHook) for hook in runner.hooks)
        if not checked and not trains(runner):
            SanityCheckHook().after_load_checkpoint(runner, checkpoint)

    def before_test_epoch(self, runner: Runner) -> None:
        """Open the folder, and ask a MoRe for the maps."""
        if self.makes_masks_after_train and self._loop is None:
            return
        self.abandon()  # a run that an exception ended
        run = self._prepare(runner)
        done = set(on_main_process(partial(self._start, runner, run)))
        self._run = run
        self.todo = [image for image in self.images if image.name not in done]
        self.folder.open_journal(get_dist_info()[0])
        run.ask()

    def _prepare(self, runner: Runner) -> '_Run':
        """What is to be done in the loop that is about to run."""
        loop = self._loop or runner.test_loop
        dataset = loop.dataloader.dataset
        self.images = list_images(dataset)
        meta = dict(dataset.metainfo)
        recipe = self._resolve(runner, meta.get('classes') or ())
        self.check_data(meta, self.images, recipe)
        if not meta.get('palette'):
            meta['palette'] = voc_palette(len(meta['classes']))
        data = runner.cfg.get('test_dataloader') or {}
        settings = dict(
            recipe.settings(meta['classes'][1:]),
            soft_maps=self.soft_maps,
            fp16=loop.fp16,
            pipeline=without_annotations(data.get('dataset', {}).get('pipeline', [])),
            model=model_settings(runner.cfg.get('model')),
        )
        # folders of before there was such a choice go on where they stopped
        if self.confidence_maps:
            settings['confidence_maps'] = True
        if recipe.curves is not None:
            settings['confidence_curve'] = recipe.curves.to_dict()
        identity = dict(settings=settings, classes=meta['classes'], palette=meta['palette'])
        return _Run(self, recipe, identity, runner.model)

    def _resolve(self, runner: Runner, classes: Sequence[str]) -> MaskRecipe:
        """The recipe, with what depends on the model and the data."""
        model = innermost(runner.model, augmentation=False)
        recipe = self.recipe.resolve(
            localizes=hasattr(innermost(model), 'localization_request'),
            with_labels=any(image.labels is not None for image in self.images),
            augmented=has_test_time_augmentation(model),
        )
        return recipe.calibrated(
            classes[1:],
            evaluated_bkg(runner.cfg, recipe.source),
            lambda: model.training_labeler.bkg,
        )

    def check_data(
        self, meta: Mapping[str, Any], images: List[MaskImage], recipe: MaskRecipe
    ) -> None:
        """Raise ValueError if the data do not fit masks of this kind."""
        classes: Sequence[str] = meta.get('classes') or ()
        if not 0 < len(classes) <= 255:
            raise ValueError(
                'a mask holds the labels 0..254 (255 is "ignored"): 254 classes and '
                f'background, the data set has {len(classes) - 1}'
            )
        if recipe.policy != 'all' and classes[0] != _BACKGROUND:
            raise ValueError(
                f'policy={recipe.policy!r} needs the background as the first class, the '
                f"data set has {classes[0]!r}: take policy='all'"
            )
        if recipe.policy == 'image-labels':
            check_labels(images)
        below = [image.name for image in images if image.name.startswith(f'{CONFIDENCE}/')]
        if self.confidence_maps and below:
            raise ValueError(
                f'masks of the images {name_few(below)} would go to the folder of the '
                'confidence maps: rename their folder, or leave confidence_maps out'
            )
        check_paths(images, [str(self.folder.mask_path(i.name)) for i in images])

    def _start(self, runner: Runner, run: '_Run') -> List[str]:
        """Open the folder; names of the images that are finished."""
        check_numbers(innermost(runner.model))
        self.folder.acquire()
        path = runner._load_from if self._loop is None else None
        names = run.class_names[1:]
        by_labels = run.recipe.policy == 'image-labels'
        expected = {
            image.name: [names[i] for i in image.labels or ()] if by_labels else None
            for image in self.images
        }
        checkpoint = dict(
            weights_sha256=weights_sha256(runner.model), path=path, sha256=file_sha256(path)
        )
        return self.folder.start(
            run.identity, checkpoint, expected, self.soft_maps, self.confidence_maps
        )

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Optional[dict] = None,
        outputs: Optional[Sequence[SegDataSample]] = None,
    ) -> None:
        """Make the masks of a batch that have not been made yet."""
        if self._run is not None:
            for sample in outputs or ():
                self._run.add(sample)

    def fail(self, image: MaskImage, message: str) -> None:
        """Note that an image has no mask, and why; the run goes on."""
        if self._run is not None:
            self._run.fail(image, message)

    def after_test_epoch(
        self, runner: Runner, metrics: Optional[Dict[str, float]] = None
    ) -> None:
        """Wait for the last masks of all processes, and write the manifest."""
        if self._run is None:
            return
        self._run.drain()
        self._run.close()
        self.folder.close_journal()
        barrier()
        names = [image.name for image in self.images]
        self._run.missing = on_main_process(partial(self.folder.finish, names))

    def after_test(self, runner: Runner) -> None:
        """Say what came out; an error if images have no mask."""
        if self._run is None:
            return
        missing = self._run.missing
        try:
            if missing:
                self._raise_missing(missing)
            on_main_process(partial(self.complete, runner))
        finally:
            self.abandon()

    def _raise_missing(self, missing: Mapping[str, str]) -> None:
        paths = {image.name: image.path for image in self.images}
        shown = '; '.join(
            f'{paths[name]}: {reason}' for name, reason in list(missing.items())[:5]
        )
        raise RuntimeError(
            f'{len(missing)} of {len(self.images)} images have no mask in '
            f'{self.folder.masks} ({shown}). Repair them or take them out of the split, '
            'and start the same command again: what is finished stays'
        )

    def complete(self, runner: Runner) -> None:
        """What is left to do, in one process, when every image has its mask."""
        empty = [
            image.name
            for image in self.images
            if not self.folder.entry(image.name)['classes']
        ]
        note = (
            f'; {len(empty)} of them show no class and are background ({name_few(empty)})'
            if empty
            else ''
        )
        runner.logger.info(
            f'{type(self).__name__}: the masks of {len(self.images)} images are in '
            f'{self.folder.masks}{note}'
        )

    def abandon(self) -> None:
        """Leave everything as it was before the test; what is finished stays."""
        run, self._run = self._run, None
        if run is not None:
            run.close()
        self.folder.close_journal()
        self.folder.release()


class _Run:
    """One test during which masks are made."""

    def __init__(
        self,
        hook: PseudoLabelHook,
        recipe: MaskRecipe,
        identity: Dict[str, Any],
        model: nn.Module,
    ) -> None:
        self.recipe = recipe
        self.identity = identity
        self.class_names = list(identity['classes'])
        self.missing: Dict[str, str] = {}
        """Names of images without a mask, and why, at the end."""
        self._hook = hook
        self._model = innermost(model)
        self._maker = MaskMaker(recipe, hook.num_workers)
        self._awaited: Dict[str, MaskImage] = {}

    def ask(self) -> None:
        """Have a MoRe put what is needed on its data samples."""
        self._awaited = {image.path: image for image in self._hook.todo}
        if self.recipe.scales:
            self._model.localization_request = self.recipe.request(
                self._model.localization_request
            )

    def add(self, sample: SegDataSample) -> None:
        """Make the mask of an image, now or when the CRF is through with it.

        Raises:
            OSError: If a file cannot be written.
            ValueError: If the sample does not say which image it is.
        """
        path = sample.get('img_path', None)
        if path is None:
            raise ValueError(
                'masks are named after their images: the data samples need `img_path` in '
                'their meta information, as PackSegInputs puts it there'
            )
        image = self._awaited.pop(path, None)
        if image is None:  # finished before, or a duplicate that evens out batches
            return
        if self.recipe.policy == 'image-labels' and image.labels is not None:
            allowed: Optional[List[int]] = list(image.labels)
        else:
            allowed = self.recipe.allowed(sample)
        probabilities = self.recipe.probabilities(sample, allowed)
        worked = tuple(probabilities.probs.shape[-2:])
        size = sample.metainfo.get(FULL_SHAPE, worked)
        folder = self._hook.folder
        if self._hook.soft_maps:
            folder.write(folder.soft_path(image.name), soft_map(probabilities, size))
        payload = (image, allowed)
        if self.recipe.is_prediction and tuple(size) == worked:
            mask = sample.get('pred_sem_seg').data[0]
            self._write(self._maker.add_mask(mask, probabilities, payload))
            return
        read_image = partial(read_rgb, image.path, size, self._hook.backend_args)
        self._write(
            self._maker.add(image.path, probabilities, read_image, payload, size=size)
        )

    def fail(self, image: MaskImage, message: str) -> None:
        """Note that an image has no mask, and why."""
        self._write(self._maker.fail((image, None), message))

    def drain(self) -> None:
        """Write what is still on its way."""
        self._write(self._maker.drain())

    def close(self) -> None:
        """Stop asking, and end the processes of the CRF."""
        self._maker.close()
        if self.recipe.scales:
            self._model.localization_request = None

    def _write(self, masks: Sequence[MadeMask]) -> None:
        folder = self._hook.folder
        for made in masks:
            image, allowed = made.payload
            if made.mask is None:
                print_log(
                    f'no mask of {image.path}: {made.error}',
                    logger='current',
                    level=logging.WARNING,
                )
                folder.record(image.name, dict(error=made.error))
                continue
            content = palette_png(made.mask, self.identity['palette'])
            folder.write(folder.mask_path(image.name), content)
            entry = dict(size=list(made.mask.shape), **self._describe(made, allowed))
            if made.worked_size is not None:
                entry['worked_size'] = list(made.worked_size)
            if made.mask_confidence is not None:
                entry['image_confidence'] = round(made.mask_confidence.image, 4)
                if self._hook.confidence_maps:
                    pixels = confidence_png(made.mask_confidence.pixels)
                    folder.write(folder.confidence_path(image.name), pixels)
            folder.record(image.name, entry)

    def _describe(self, made: MadeMask, allowed: Optional[List[int]]) -> Dict[str, Any]:
        """What the manifest says of the classes of a mask."""
        names, shown = self.class_names, {}
        if made.labels is not None and made.confidence is not None:
            for label, value in zip(made.labels, made.confidence):
                if not np.isnan(value):  # of a label that has won no pixel
                    shown[names[label]] = round(float(value), 4)
        if allowed is None:
            classes = shown.keys() - {_BACKGROUND}
        else:
            classes = {names[index + 1] for index in allowed}
        return dict(classes=[name for name in names if name in classes], confidence=shown)
