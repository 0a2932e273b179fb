"""A test loop for masks: nothing twice, nothing lost, and one image fails alone."""

import copy
from typing import (
    Any,
    Callable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
)

import torch
from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.runner import Runner, TestLoop
from mmengine.runner.amp import autocast
from torch.utils.data import DataLoader, Dataset

from mmseg.registry import LOOPS

from .hook import PseudoLabelHook
from .images import MaskImage
from .limited_pipeline import LimitedPipeline
from .recipe import MaskRecipe

_LOG_INTERVAL = 50


class LoadError(NamedTuple):
    """Stands for an image that could not be loaded."""

    message: str
    """Why."""


@LOOPS.register_module()
class MaskLoop(TestLoop):
    """Test the images that have no mask yet, one at a time.

    :class:`PseudoLabelHook` writes the masks of what passes by, in any loop. This loop adds
    what a hook cannot do: it leaves out the images whose masks are finished, shares the
    others over the processes without padding, and goes on where an image does not load or
    makes the network fail. Each image is a batch of its own, so that no mask depends on
    its neighbours. An image above ``max_pixels`` is reduced when it is loaded, so that the
    network sees the lower size too. There is nothing to evaluate, as not all images are
    seen.

    Args:
        runner: The runner.
        dataloader: As of a test loop; its ``batch_size`` and sampler do not count.
        evaluator: None or empty.
        fp16: Whether the network computes in half precision.
        hooks: The hooks that take part. None: all of the runner, as in a test. (The mask
            hook itself says which where the loop is not the runner's: the hooks that
            look at ``runner.test_loop`` must not.)

    Example:
        >>> test_cfg = dict(type='MaskLoop')
        >>> test_evaluator = []
        >>> custom_hooks = [dict(type='PseudoLabelHook', out_dir='masks')]

    Raises:
        ValueError: If there is something to evaluate or, when it runs, no hook that
            writes masks.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: Union[DataLoader, dict],
        evaluator: Optional[Sequence[Any]] = None,
        fp16: bool = False,
        hooks: Optional[Sequence[Hook]] = None,
    ) -> None:
        super().__init__(runner, dataloader, evaluator or [], fp16)
        if self.evaluator.metrics:
            raise ValueError(
                'MaskLoop has the network see the images without a mask only, which '
                'test_evaluator would take for all: set test_evaluator=[]'
            )
        self._all_images: Any = self.dataloader
        self._hooks = hooks

    def run(self) -> dict:
        """Make all masks that are missing.

        Returns:
            No metrics: an empty dict.

        Raises:
            RuntimeError: At the end, if images have no mask; with the reasons.
        """
        writer = self._writer()
        try:
            self._call('before_test')
            self._call('before_test_epoch')
            self.runner.model.eval()
            rank, world_size = get_dist_info()
            images = writer.todo[rank::world_size]
            self.runner.logger.info(
                f'{type(writer).__name__}: {len(writer.todo)} of {len(writer.images)} '
                f'masks are to be made, {len(images)} of them by this process'
            )
            # the hooks that log look up its length
            self.dataloader = MaskLoader(
                self._all_images, images, writer.fail, writer.resolved_recipe
            )
            for idx, (image, batch) in enumerate(self.dataloader):
                self._run_image(idx, image, batch, writer)
            self._call('after_test_epoch', metrics={})
            self._call('after_test')
        finally:
            self.dataloader = self._all_images
            writer.abandon()  # does nothing after the end
        return {}

    @torch.no_grad()
    def _run_image(
        self, idx: int, image: MaskImage, batch: Any, writer: PseudoLabelHook
    ) -> None:
        self._call('before_test_iter', batch_idx=idx, data_batch=batch)
        try:
            with autocast(enabled=self.fp16):
                outputs = self.runner.model.test_step(batch)
        except (RuntimeError, ValueError) as error:
            # too large for the memory, or too small for the network
            writer.fail(image, f'{type(error).__name__}: {error}')
            return
        self._call('after_test_iter', batch_idx=idx, data_batch=batch, outputs=outputs)
        if self._hooks is not None and (idx + 1) % _LOG_INTERVAL == 0:
            self.runner.logger.info(f'masks: image {idx + 1} of {len(self.dataloader)}')

    def _writer(self) -> PseudoLabelHook:
        hooks = self.runner.hooks if self._hooks is None else self._hooks
        found = [
            hook
            for hook in hooks
            if isinstance(hook, PseudoLabelHook)
            and (self._hooks is not None or not hook.makes_masks_after_train)
        ]
        if len(found) != 1:
            raise ValueError(
                f'MaskLoop runs for one PseudoLabelHook among the hooks, there are '
                f'{len(found)}'
            )
        return found[0]

    def _call(self, name: str, **kwargs: Any) -> None:
        if self._hooks is None:
            self.runner.call_hook(name, **kwargs)
            return
        for hook in self._hooks:
            getattr(hook, name)(self.runner, **kwargs)


class _Share(Dataset):
    """Some images of a data set; what does not load becomes a LoadError."""

    def __init__(
        self, dataset: Any, images: List[MaskImage], recipe: Optional[MaskRecipe]
    ) -> None:
        self.dataset = dataset
        self.images = images
        self.metainfo = dataset.metainfo
        transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', None)
        if transforms and recipe is not None:
            num_classes = len(dataset.metainfo['classes']) - 1
            self.dataset = copy.copy(dataset)
            self.dataset.pipeline = LimitedPipeline(transforms, recipe, num_classes)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.dataset[self.images[index].position]
        except Exception as error:  # one image must not end the run
            return LoadError(f'{type(error).__name__}: {error}')


class _Collate:
    """The collate function of the loader, around a LoadError."""

    def __init__(self, collate: Callable[[list], Any]) -> None:
        self.collate = collate

    def __call__(self, batch: list) -> Any:
        return batch[0] if isinstance(batch[0], LoadError) else self.collate(batch)


class MaskLoader:
    """One image at a time, so that no mask depends on its neighbours.

    Args:
        loader: Its data set and its settings are used, but not its batches and sampler.
        images: Those that are wanted, in this order.
        on_error: Called with an image that does not load, and the message; it is left out.
        recipe: Of the masks, resolved: images above its ``max_pixels`` are reduced when
            they are loaded. None: none is.
    """

    def __init__(
        self,
        loader: DataLoader,
        images: List[MaskImage],
        on_error: Callable[[MaskImage, str], None],
        recipe: Optional[MaskRecipe] = None,
    ) -> None:
        workers = {}
        if loader.num_workers and images:
            workers = dict(
                num_workers=min(loader.num_workers, len(images)),
                prefetch_factor=loader.prefetch_factor,
                multiprocessing_context=loader.multiprocessing_context,
                worker_init_fn=loader.worker_init_fn,
            )
        self.dataset = _Share(loader.dataset, images, recipe)
        self._on_error = on_error
        self._loader = DataLoader(
            self.dataset,
            batch_size=1,
            collate_fn=_Collate(loader.collate_fn),
            pin_memory=loader.pin_memory,
            timeout=loader.timeout,
            **workers,
        )

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[Tuple[MaskImage, Any]]:
        """Images and their batches of one."""
        for image, batch in zip(self.dataset.images, self._loader):
            if isinstance(batch, LoadError):
                self._on_error(image, batch.message)
            else:
                yield image, batch
