"""Writes a mask for every image of a test run."""

from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Union

from mmengine.dist import barrier, get_dist_info
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner, TestLoop
from torch import nn
from torch.utils.data import DataLoader

from mmseg.registry import HOOKS
from mmseg.structures import SegDataSample

from ..datasets.image_labels import name_few
from ..engine.distributed import on_main_process
from ..engine.hooks.utils import unwrap_model
from .config import mask_dataloader
from .folder import MaskFolder
from .identity import file_sha256, model_settings, weights_sha256, without_annotations
from .loop import MaskImage, MaskLoader, check_labels, check_paths, list_images
from .maker import MaskRun
from .recipe import MaskRecipe, make_recipe


@HOOKS.register_module()
class PseudoLabelHook(Hook):
    """Write the pseudo labels (masks) of a data set during the test.

    ``tools/test.py CONFIG CHECKPOINT --pseudo-labels DIR`` puts it into the config
    (:func:`~mmseg_more.masks.use_pseudo_labels`). Each image gives
    ``DIR/NAME.png``, a palette PNG of dense labels (0 background, ``k + 1`` class
    ``k``); NAME is the path of the image below its folder, without suffix.
    ``DIR/manifest.json`` (see
    :class:`~mmseg_more.masks.folder.MaskFolder`) says how they were
    made, and of each image its size, the classes that may appear and the
    confidence: the mean probability (or map value) of the pixels won by a class.

    Files are written whole or not at all. A run that was ended by whatever goes on
    where it stopped, and gives the same bytes: images are processed one at a time.
    A folder never holds masks of two settings or two checkpoints. An image that
    fails does not end the run; it is reported at the end, by an error. With a
    launcher the processes (of one machine, or with a common file system) share the
    images out.

    Args:
        out_dir: The folder. A new one, or that of an earlier run.
        source: 'lam', 'cam', 'fused', or 'seg' for the segmentation head.
        multi_scale: Whether at several scales, image and flip at each. Defaults
            to True.
        scales: Which. Defaults to (1, .5, .75, 1.25, 1.5, 1.75, 2) for maps,
            (1, 1.25, 1.5) for the segmentation.
        crf: Whether to refine by the dense CRF, in processes of their own; a
            dict holds arguments of :class:`DenseCRFOptions` and ``epsilon``.
        classes: Which may appear: 'image-labels', 'predicted', or (for 'seg')
            'all'.
        bkg: Threshold of a map without CRF: background where it is at most
            this. None: that of the model's pseudo labels.
        soft_maps: Whether to write the probabilities before the CRF too, see
            :func:`~mmseg_more.masks.maker.soft_map`.
        num_workers: Processes for the CRF, None for one per core.
        after_train: Make masks once training has ended, by its last weights,
            and not in tests. Defaults to False.
        split: Whose images ``after_train`` takes: 'train', 'val' or 'test'.
        backend_args: Where the CRF reads image files from.

    Example:
        >>> custom_hooks = [dict(type='PseudoLabelHook', out_dir='masks',
        ...                      after_train=True, split='train', crf=True)]
    """

    # requests of other hooks, and the weights of EMAHook, are there before
    priority = 'LOW'

    def __init__(
        self,
        out_dir: str,
        source: str = 'lam',
        multi_scale: bool = True,
        scales: Optional[Sequence[float]] = None,
        crf: Union[bool, Mapping[str, Any]] = False,
        classes: str = 'image-labels',
        bkg: Optional[float] = None,
        soft_maps: bool = False,
        num_workers: Optional[int] = None,
        after_train: bool = False,
        split: str = 'test',
        backend_args: Optional[dict] = None,
    ) -> None:
        self.recipe = make_recipe(source, multi_scale, scales, classes, bkg, crf)
        self.folder = MaskFolder(out_dir)
        self.soft_maps = soft_maps
        self.num_workers = num_workers
        self.split = split
        self.backend_args = backend_args
        self._after_train = after_train
        self._enabled = not after_train
        self._run: Optional[MaskRun] = None  # during a test
        self._loader: Optional[MaskLoader] = None
        self._original: Optional[DataLoader] = None
        self._images: List[MaskImage] = []
        self._missing: Dict[str, str] = {}

    # ---------------------------------------------------------- the training
    def before_train(self, runner: Runner) -> None:
        """Fail now, and not after the training."""
        if self._after_train:
            self._own_dataloader(runner)
            self.folder.check_writable()

    def after_train(self, runner: Runner) -> None:
        """Run a test of its own, over the images of ``split``."""
        if not self._after_train:
            return
        loader = runner.build_dataloader(self._own_dataloader(runner), seed=runner.seed)
        fp16 = (runner.cfg.get('test_cfg') or {}).get('fp16', False)
        loop, runner._test_loop = runner._test_loop, TestLoop(runner, loader, [], fp16)
        self._enabled = True
        try:
            runner.test_loop.run()
        finally:
            runner._test_loop = loop
            self._enabled = False

    def _own_dataloader(self, runner: Runner) -> dict:
        return mask_dataloader(
            runner.cfg, self.split, self.recipe.classes == 'image-labels'
        )

    # -------------------------------------------------------------- the test
    def before_test_epoch(self, runner: Runner) -> None:
        """Find out what is to be done, and have the loop do it."""
        if not self._enabled:
            return
        loop = runner.test_loop
        dataset = loop.dataloader.dataset
        meta = dataset.metainfo
        self._images = list_images(dataset)
        self.check_data(meta, self._images)
        recipe = self._resolve(runner.model)
        done = set(on_main_process(lambda: self._start(runner, recipe)))
        todo = [image for image in self._images if image.name not in done]
        rank, world_size = get_dist_info()
        if loop.evaluator.metrics and (done or world_size > 1):
            raise ValueError(
                'PseudoLabelHook has the network see a part of the images only '
                f'({len(done)} are done, {world_size} processes share the rest), '
                'which test_evaluator would take for all: set test_evaluator=[]'
            )
        if recipe.scales:
            model = unwrap_model(runner.model, 'localization_request')
            model.localization_request = recipe.request(model.localization_request)
        self.folder.open_journal(rank)
        self._run = MaskRun(
            self.folder,
            recipe,
            meta['classes'],
            meta['palette'],
            self.soft_maps,
            self.num_workers,
            self.backend_args,
        )
        self._original = loop.dataloader
        self._loader = loop.dataloader = MaskLoader(
            loop.dataloader, todo[rank::world_size], self._run.fail
        )
        loop.run_iter = self._guarded(loop.run_iter)
        runner.logger.info(
            f'{type(self).__name__}: {len(todo)} of {len(self._images)} masks '
            f'are to be made, {len(self._loader)} of them by this process'
        )

    def check_data(self, meta: Mapping[str, Any], images: List[MaskImage]) -> None:
        """Raise ValueError if the data do not fit masks of this kind."""
        if len(meta['classes']) > 255:
            raise ValueError(
                'a mask holds the labels 0..254 (255 is "ignored"): 254 classes '
                f'and background, the data set has {len(meta["classes"]) - 1}'
            )
        if self.recipe.classes == 'image-labels':
            check_labels(images)
        check_paths(images, [str(self.folder.mask_path(i.name)) for i in images])

    def _resolve(self, model: nn.Module) -> MaskRecipe:
        """The recipe, with what depends on the model."""
        recipe = self.recipe
        while is_model_wrapper(model):
            model = model.module
        if isinstance(model, BaseTTAModel):
            if recipe.source != 'seg':
                raise ValueError(
                    'test-time augmentation merges the segmentation alone: take '
                    f"source='seg', or leave out --tta (the {recipe.source} "
                    'uses several scales and flips of its own accord)'
                )
            return recipe._replace(scales=())
        if recipe.needs_bkg and recipe.bkg is None:
            labeler = unwrap_model(model, 'training_labeler').training_labeler
            return recipe._replace(bkg=labeler.bkg)
        return recipe

    def _start(self, runner: Runner, recipe: MaskRecipe) -> List[str]:
        """Open the folder; names of the images that are finished."""
        meta = runner.test_loop.dataloader.dataset.metainfo
        data = runner.cfg.get('test_dataloader') or {}
        settings = dict(
            recipe.settings(),
            soft_maps=self.soft_maps,
            fp16=runner.test_loop.fp16,
            pipeline=without_annotations(data.get('dataset', {}).get('pipeline', [])),
            model=model_settings(runner.cfg.get('model')),
        )
        path = None if self._after_train else runner._load_from
        names = meta['classes'][1:]
        by_labels = recipe.classes == 'image-labels'
        return self.folder.start(
            dict(settings=settings, classes=meta['classes'], palette=meta['palette']),
            dict(
                weights_sha256=weights_sha256(runner.model),
                path=path,
                sha256=file_sha256(path),
            ),
            {
                image.name: [names[i] for i in image.labels] if by_labels else None
                for image in self._images
            },
            self.soft_maps,
        )

    def _guarded(self, run_iter: Callable[[int, Any], None]) -> Callable[[int, Any], None]:
        """An image that is too large or too small for the network fails alone."""

        def guarded(idx: int, data_batch: Any) -> None:
            try:
                run_iter(idx, data_batch)
            except (RuntimeError, ValueError) as error:
                self._run.fail(self._loader.current, f'{type(error).__name__}: {error}')

        return guarded

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict,
        outputs: Sequence[SegDataSample],
    ) -> None:
        """Make the mask of one image."""
        if self._run is not None:
            self._run.add(self._loader.current, outputs[0])

    def after_test_epoch(self, runner: Runner, metrics: dict = None) -> None:
        """Wait for the last masks, of all processes; leave all as it was."""
        if self._run is None:
            return
        self._run.drain()
        self._run.close()
        self.folder.close_journal()
        if self._run.recipe.scales:
            model = unwrap_model(runner.model, 'localization_request')
            model.localization_request = None
        runner.test_loop.dataloader = self._original
        del runner.test_loop.run_iter
        barrier()
        self._missing = on_main_process(
            lambda: self.folder.finish([image.name for image in self._images])
        )

    def after_test(self, runner: Runner) -> None:
        """Say what came out; an error if images have no mask."""
        if self._run is None:
            return
        self._run = None
        if self._missing:
            paths = {image.name: image.path for image in self._images}
            shown = '; '.join(
                f'{paths[name]}: {reason}'
                for name, reason in list(self._missing.items())[:5]
            )
            raise RuntimeError(
                f'{len(self._missing)} of {len(self._images)} images have no '
                f'mask in {self.folder.masks} ({shown}). Repair them or take '
                'them out of the split, and start the same command again: what '
                'is finished stays'
            )
        on_main_process(lambda: self.complete(runner))

    def complete(self, runner: Runner) -> None:
        """What is left to do, in one process, when every image has its mask."""
        empty = [
            image.name
            for image in self._images
            if not self.folder.entry(image.name)['classes']
        ]
        note = (
            f'; {len(empty)} of them show no class and are background ({name_few(empty)})'
            if empty
            else ''
        )
        runner.logger.info(
            f'{type(self).__name__}: the masks of '
            f'{len(self._images)} images are in '
            f'{self.folder.masks}{note}'
        )
