"""Model and data of the inferencer."""

import os
from logging import WARNING
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Sequence, Union

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.infer import BaseInferencer
from mmengine.logging import print_log
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import CheckpointLoader, _load_checkpoint_to_model
from torch import nn

from mmseg.registry import TRANSFORMS
from mmseg.structures import SegDataSample

from ..engine import launch
from ..engine.hooks.sanity_check_hook import check_state_dict
from ..masks import evaluated_bkg, type_name, without_annotations
from ..models.structures import LocalizationRequest
from .dataset_meta import resolve_dataset_meta
from .inference_inputs import InferenceInput
from .inference_masks import InferenceSettings, make_settings
from .inference_results import ImageResult


class LoadedImage(NamedTuple):
    """An image that the network can see."""

    input: InferenceInput
    """Where it is from."""
    pixels: np.ndarray
    """As it was read: BGR ``(H, W, 3)``."""
    data: dict
    """``inputs`` and ``data_samples`` of the pipeline."""


class MoReInferencerBase(BaseInferencer):
    """What :class:`MoReInferencer` needs before there is a result: see there."""

    def __init__(
        self,
        model: Union[str, 'os.PathLike', Config, dict, nn.Module, None] = None,
        weights: Optional[str] = None,
        classes: Optional[Sequence[str]] = None,
        palette: Optional[Sequence[Sequence[int]]] = None,
        device: Optional[str] = None,
        scope: str = 'mmseg',
        show_progress: bool = True,
    ) -> None:
        init_default_scope(scope)
        self._names = dict(classes=classes, palette=palette)
        self._built: Optional[nn.Module] = None
        if isinstance(model, nn.Module):
            self._built, model = model, getattr(model, 'cfg', None)
            if model is None:
                raise ValueError(
                    'a built segmentor needs its config as the attribute '
                    '`cfg`, for the pipeline and the names of the classes'
                )
        elif isinstance(model, (str, os.PathLike)):
            model = launch.load_config(os.fspath(model))
        if weights is not None:
            launch.check_checkpoint(weights)
        super().__init__(model, weights, device, scope, show_progress)

    def _init_model(
        self, cfg: Config, weights: Optional[str], device: str = 'cpu'
    ) -> nn.Module:
        if self._built is None:
            return super()._init_model(cfg, weights, device)
        checkpoint = (
            None
            if weights is None
            else CheckpointLoader.load_checkpoint(weights, map_location='cpu')
        )
        self._load_weights_to_model(self._built, checkpoint, cfg)
        return self._built.to(device).eval()

    def _load_weights_to_model(
        self, model: nn.Module, checkpoint: Optional[dict], cfg: Config
    ) -> None:
        """Load all weights or none; give the model its ``dataset_meta``."""
        if not hasattr(model, 'localization_request'):
            raise TypeError(
                f'MoReInferencer runs MoRe, got a {type(model).__name__}: use '
                'mmseg.apis.MMSegInferencer'
            )
        if checkpoint is not None:
            check_state_dict(model, checkpoint.get('state_dict', checkpoint))
            try:
                _load_checkpoint_to_model(model, checkpoint, strict=True)
            except RuntimeError as error:  # with the names, some per line
                raise ValueError(' '.join(str(error).split())) from error
        elif self._built is None:
            print_log('no weights are given: the model is random', 'current', WARNING)
        if checkpoint is None and self._names['classes'] is None:
            checkpoint = dict(meta=dict(dataset_meta=getattr(model, 'dataset_meta', None)))
        model.dataset_meta = resolve_dataset_meta(
            model.num_classes, cfg, checkpoint, **self._names
        )

    def _init_pipeline(self, cfg: Config) -> Compose:
        """The test pipeline behind the loading; ``self.loader`` does that."""
        dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
        steps = without_annotations(
            dataset.get('pipeline') or cfg.get('test_pipeline') or []
        )
        if not steps or type_name(steps[0]) != 'LoadImageFromFile':
            raise ValueError(
                'inference needs `test_dataloader.dataset.pipeline` in the config, with '
                f'LoadImageFromFile first; got {[type_name(step) for step in steps]}'
            )
        self.loader = TRANSFORMS.build({**steps[0], 'type': 'InferencerLoader'})
        return Compose(steps[1:])

    def _init_collate(self, cfg: Config) -> Callable:
        """Images of a batch stay apart: the data preprocessor stacks them."""
        return pseudo_collate

    def settings(
        self, mask_classes: Optional[str] = None, **kwargs: Any
    ) -> InferenceSettings:
        """Of the masks and maps, with a threshold where one is needed and not given.

        It is that of the config's test evaluator, or else of its pseudo labels.

        Args:
            mask_classes: ``classes`` of :func:`make_settings`.
            kwargs: Its other arguments.
        """
        settings = make_settings(classes=mask_classes, **kwargs)
        recipe = settings.recipe
        if not recipe.needs_bkg or recipe.bkg is not None:
            return settings
        bkg = evaluated_bkg(self.cfg, recipe.source)
        if bkg is None:
            bkg = self.model.training_labeler.bkg
        return settings._replace(recipe=recipe._replace(bkg=bkg))

    def preprocess(
        self, inputs: List[InferenceInput], batch_size: int = 1
    ) -> Iterator[List[Union[LoadedImage, ImageResult]]]:
        """Read images and run the pipeline; a result with an error where that fails."""
        for start in range(0, len(inputs), batch_size):
            yield [self._load(item) for item in inputs[start : start + batch_size]]

    def _load(self, item: InferenceInput) -> Union[LoadedImage, ImageResult]:
        name = item.path or item.name
        try:
            loaded = self.loader(item.path if item.pixels is None else item.pixels)
        except OSError as error:
            return ImageResult(item, None, f'{name} cannot be read: {error}')
        except Exception:  # of OpenCV, Pillow, ...: the other images go on
            return ImageResult(item, None, f'{name} does not decode as an image')
        pixels, loaded['img_path'] = loaded['img'], item.path
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
        """What the segmentor says of some images, on the CPU.

        Raises:
            ValueError: If they are not equally large behind the pipeline.
        """
        sizes = {tuple(image.data['inputs'].shape[-2:]) for image in inputs}
        if len(sizes) > 1:
            raise ValueError(
                f'images of {sorted(sizes)} pixels do not fit into one batch: '
                'take batch_size=1'
            )
        before, self.model.localization_request = self.model.localization_request, request
        try:
            samples = self.model.test_step(
                self.collate_fn([image.data for image in inputs])
            )
        finally:
            self.model.localization_request = before
        return [sample.cpu() for sample in samples]
