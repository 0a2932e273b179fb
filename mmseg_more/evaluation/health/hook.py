"""Watches a training without masks, and says which class floods or dies."""

import logging
import random
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.dist import all_gather_object, get_dist_info, is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import Tensor, nn

from mmseg.registry import DATASETS, HOOKS

from ...datasets.image_level_dataset import BrokenImage
from ...engine.hooks.utils import innermost
from ...localization import resize_map, scaled_size
from ...masks.config import SPLITS, mask_dataloader
from ...models import MoRe
from ..counting import accumulate
from .figures import (
    HealthCounts,
    HealthFigures,
    RawMaps,
    Thresholds,
    class_health,
    health_score,
)
from .findings import FLOODS, Finding, HealthMonitor, HealthRules

_STATE = 'health/state'


@HOOKS.register_module()
class HealthHook(Hook):
    """Judge a training of MoRe by its images' labels and itself alone.

    At each validation, and every ``interval`` iterations, it takes the same few images of a
    split through the network: as they are, mirrored, and at another size. What the maps
    say of them is compared with the image labels and with each other
    (:class:`~mmseg_more.evaluation.health.HealthFigures`). No mask is read. It writes

    * one line into the log;
    * scalars ``health/...`` for all backends of the visualizer: the health of a class is
      ``health/NAME``, its other figures are ``health/coverage/NAME`` and so on;
    * ``health/score`` (:func:`~mmseg_more.evaluation.health.health_score`, 0 to 100, higher
      is better) and its parts into the metrics of the validation, so that
      ``CheckpointHook(save_best='health/score', rule='greater')`` keeps the healthiest
      checkpoint, in a validation without any other metric too;
    * a warning that names class and remedy when a class floods (takes the background
      along) or dies, once until it has recovered
      (:class:`~mmseg_more.evaluation.health.HealthRules`).

    The training is the same, bit for bit, with it and without. What it remembers of earlier
    checks is in the checkpoints and survives a resume. With :class:`EMAHook` a validation
    shows the averaged weights, and ``interval`` those that are trained. Images that cannot
    be read are left out, each with one warning, as the training leaves them out; none that
    can is an error.

    Args:
        interval: Look every that many iterations too; 0: at validations alone. Defaults to
            0.
        num_images: So many, spread evenly over the split; all if it has fewer. Processes
            share them. Defaults to 64.
        split: 'train', 'val' or 'test': whose images, seen through the pipeline of
            ``test_dataloader`` without annotations. They need image labels. Defaults to
            'train'.
        scale: The other size, as a part of the image's. Defaults to 0.75.
        batch_size: Images in one pass. Defaults to 16.
        rules: Fields of :class:`HealthRules` that differ from its defaults.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> custom_hooks = [dict(type='HealthHook', interval=200)]
        >>> default_hooks = dict(
        ...     checkpoint=dict(save_best='health/score', rule='greater'))
        >>> custom_hooks = [  # what is normal for classes that fill their images
        ...     dict(type='HealthHook', rules=dict(flood_border=0.6, patience=3))]
    """

    # Before EMAHook takes back its weights, and before LoggerHook and CheckpointHook
    priority = 'ABOVE_NORMAL'

    def __init__(
        self,
        interval: int = 0,
        num_images: int = 64,
        split: str = 'train',
        scale: float = 0.75,
        batch_size: int = 16,
        rules: Optional[dict] = None,
    ) -> None:
        if interval < 0 or num_images < 1 or batch_size < 1:
            raise ValueError(
                'expected interval >= 0, num_images >= 1 and batch_size >= 1, got '
                f'{interval}, {num_images} and {batch_size}'
            )

        if split not in SPLITS:
            raise ValueError(f'split must be one of {", ".join(SPLITS)}, got {split!r}')
        if scale <= 0 or scale == 1:
            raise ValueError(f'scale must be positive and not 1, got {scale}')
        unknown = set(rules or ()) - set(HealthRules._fields)
        if unknown:
            raise ValueError(
                f'unknown rules {sorted(unknown)}, known are '
                f'{", ".join(HealthRules._fields)}'
            )
        self.interval = interval
        self.num_images = num_images
        self.split = split
        self.scale = scale
        self.batch_size = batch_size
        self.rules = HealthRules(**(rules or {})).check()
        self.figures: Optional[HealthFigures] = None
        """Of the last check."""
        self._monitor: Optional[HealthMonitor] = None
        self._dataset: Any = None
        self._broken: Dict[int, str] = {}  # images that this process could not read
        self._told: Set[int] = set()  # images that the log has said to be left out
        # of the look that this iteration has had, if a validation follows it
        self._scalars: Tuple[int, Dict[str, float]] = (-1, {})

    # ------------------------------------------------------------ preparation
    def before_train(self, runner: Runner) -> None:
        """Fail before the first iteration; go on where a resumed training stood."""
        self._prepare(runner)
        if not self.interval and runner.val_loop is None:
            raise ValueError(
                'HealthHook(interval=0) looks at validations, and this training has none: '
                'set its interval, in iterations'
            )

    def before_val_epoch(self, runner: Runner) -> None:
        """Fail before the validation, where there is no training."""
        if self._monitor is None:
            self._prepare(runner)

    def _prepare(self, runner: Runner) -> None:
        model = innermost(runner.model)
        if not isinstance(model, MoRe):
            raise TypeError(
                'HealthHook compares the localization maps of the segmentor "MoRe", this '
                f'model is a {type(model).__name__}: remove the hook from "custom_hooks" '
                'or "default_hooks"'
            )

        try:
            data = mask_dataloader(runner.cfg, self.split, with_labels=True)
        except ValueError as error:
            raise ValueError(f'HealthHook has no images to look at: {error}') from error
        with _untouched_rng():
            self._dataset = DATASETS.build(data['dataset'])
        self._check_labels(model.num_classes)
        self._monitor = HealthMonitor(model.num_classes, self.rules)
        state = runner.message_hub.get_info(_STATE)
        if state is not None:
            self._monitor.load_state_dict(state)
            runner.logger.info(
                f'HealthHook: goes on after {len(self._monitor.history)} checks.'
            )
        self._tell_rare(runner, model.num_classes)

    def _check_labels(self, num_classes: int) -> None:
        labels = self._dataset.get_data_info(0).get('gt_label')
        classes = (self._dataset.metainfo.get('classes') or ())[1:]
        if labels is None or len(classes) != num_classes:
            raise ValueError(
                f'HealthHook needs image labels of {num_classes} classes for the images of '
                f'the {self.split} split; its data set has '
                + ('no labels' if labels is None else f'{len(classes)} classes')
                + ': name a split that has them (split=...)'
            )

    def _tell_rare(self, runner: Runner, num_classes: int) -> None:
        """Say which classes are in too few of the images to be judged."""
        seen = torch.zeros(num_classes, dtype=torch.long)
        for index in self._indices():
            seen[list(self._dataset.get_data_info(index)['gt_label'])] += 1
        rare = (seen < self.rules.min_images).nonzero().flatten().tolist()
        if rare:
            names = ', '.join(self._name(index) for index in rare[:5])
            more = f' and {len(rare) - 5} more' if len(rare) > 5 else ''
            runner.logger.info(
                f'HealthHook: {names}{more} are in fewer than {self.rules.min_images} of '
                f'the {len(self._indices())} images, and nothing is said of them; a larger '
                f'num_images (now {self.num_images}) changes that.'
            )

    def _indices(self) -> List[int]:
        """The images, spread evenly over the data set."""
        total = len(self._dataset)
        count = min(self.num_images, total)
        return [i * total // count for i in range(count)]

    def _name(self, index: int) -> str:
        return self._dataset.metainfo['classes'][index + 1]

    # ------------------------------------------------------------- the checks
    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Optional[dict] = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Look every ``interval`` iterations."""
        if self.interval and self.every_n_train_iters(runner, self.interval):
            iteration = runner.iter + 1
            self._scalars = iteration, self._look(runner, iteration)

    def after_val_epoch(
        self, runner: Runner, metrics: Optional[Dict[str, float]] = None
    ) -> None:
        """Look, and add ``health/...`` to the metrics."""
        (iteration, scalars), self._scalars = self._scalars, (-1, {})  # good for once
        averaged = any(isinstance(hook, EMAHook) for hook in runner.hooks)
        if iteration != runner.iter or averaged:
            scalars = self._look(runner, runner.iter)
        if metrics is not None:
            metrics.update(scalars)

    def _look(self, runner: Runner, iteration: int) -> Dict[str, float]:
        """One check of the model as it is now; its scalars of all classes together."""
        assert self._monitor is not None, 'prepared before the first iteration'
        model = innermost(runner.model)
        self.figures = self._measure(model)
        active = model.loss_schedule.active(model.schedule_step(iteration))
        findings = self._monitor.update(
            iteration, self.figures, active.need_maps, 'seg' in active.names
        )
        runner.message_hub.update_info(_STATE, self._monitor.state_dict())
        of_all = self._of_all(self.figures)
        scalars = _defined(of_all)
        if is_main_process():
            # 'score' and the like stay what they are where a class has such a name
            everything = {**self._of_classes(self.figures), **of_all}
            runner.visualizer.add_scalars(_defined(everything), step=iteration)
            runner.logger.info(self._line(iteration, scalars))
            for finding in findings:
                self._tell(runner, model, finding, iteration)
        return scalars

    def _measure(self, model: MoRe) -> HealthFigures:
        labeler = model.training_labeler
        counts = HealthCounts(
            model.num_classes, Thresholds(labeler.high, labeler.low, labeler.bkg)
        )
        rank, world_size = get_dist_info()
        self._broken = {}
        with _untouched_rng(), _evaluating(model):
            for batch in self._batches(self._indices()[rank::world_size]):
                self._count(counts, model, batch)
        parts = all_gather_object((counts.sums, self._broken))
        counts.sums = {}
        broken: Dict[int, str] = {}
        for sums, of_process in parts:
            accumulate(counts.sums, sums)
            broken.update(of_process)
        self._tell_broken(broken)
        return counts.figures()

    def _tell_broken(self, broken: Dict[int, str]) -> None:
        """Say once which images are left out; raise if none is left."""
        total = len(self._indices())
        if len(broken) == total:
            raise ValueError(
                f'HealthHook can read none of its {total} images: {min(broken.items())[1]}'
            )
        new = sorted(set(broken) - self._told)
        self._told.update(new)
        if is_main_process():
            for index in new:
                print_log(
                    f'HealthHook leaves out one of its {total} images: {broken[index]}',
                    logger='current',
                    level=logging.WARNING,
                )

    def _batches(self, indices: List[int]) -> Iterator[Any]:
        """Images one after the other, together as long as they are of one size."""
        batch: List[dict] = []
        for item in self._readable(indices):
            full = len(batch) == self.batch_size
            if batch and (full or item['inputs'].shape != batch[0]['inputs'].shape):
                yield pseudo_collate(batch)
                batch = []
            batch.append(item)
        if batch:
            yield pseudo_collate(batch)

    def _readable(self, indices: List[int]) -> Iterator[dict]:
        for index in indices:
            try:
                item = self._dataset[index]
            except BrokenImage as error:
                self._broken[index] = str(error)
            else:
                yield item

    @torch.no_grad()
    def _count(self, counts: HealthCounts, model: MoRe, batch: Any) -> None:
        data = model.data_preprocessor(batch, False)
        images: Tensor = data['inputs']
        present = torch.stack([sample.gt_score for sample in data['data_samples']])
        size = scaled_size(images.shape[-2:], self.scale)
        image, flip, scaled = (
            model.localizer.view(view)
            for view in (images, images.flip(-1), resize_map(images, size))
        )
        as_maps = [
            RawMaps(view.cam.relu(), view.lam, view.segmentation)
            for view in (image, flip, scaled)
        ]
        counts.add(
            as_maps[0],
            as_maps[1].flipped(),
            as_maps[2].at(image.cam.shape[-2:]),
            image.scores,
            present.to(images.device),
        )

    # --------------------------------------------------------- what is said
    def _of_all(self, figures: HealthFigures) -> Dict[str, float]:
        """Scalars of all classes together; NaN where nothing was to be seen."""
        assert self._monitor is not None
        ill = self._monitor.ill
        values = {
            'score': health_score(figures),
            **{name: _mean(value) for name, value in figures.agreement.items()},
            **{name: _mean(value) for name, value in figures.consistency.items()},
            'missing': _mean(figures.missing),
            'false_alarm': _mean(figures.false_alarm),
            'ignored': figures.ignored,
            'entropy': figures.entropy,
            **{kind: float(len(indices)) for kind, indices in ill.items()},
        }
        return {f'health/{name}': value for name, value in values.items()}

    def _of_classes(self, figures: HealthFigures) -> Dict[str, float]:
        """Scalars of each class; NaN where nothing was to be seen."""
        kinds = dict(
            coverage=figures.coverage,
            seg=figures.seg,
            border=figures.border,
            missing=figures.missing,
            false_alarm=figures.false_alarm,
        )
        scalars = {}
        for index, health in enumerate(class_health(figures).tolist()):
            name = self._name(index)
            scalars[f'health/{name}'] = health
            for kind, values in kinds.items():
                scalars[f'health/{kind}/{name}'] = values[index].item()
        return scalars

    def _line(self, iteration: int, scalars: Dict[str, float]) -> str:
        """The line of a check."""
        assert self.figures is not None and self._monitor is not None
        values = {key.split('/', 1)[1]: value for key, value in scalars.items()}

        def shown(*names: str) -> str:
            return ', '.join(
                f'{name} {values[name]:.2f}' for name in names if name in values
            )

        ill = [
            f'{self._name(index)} {kind}'
            for kind, indices in self._monitor.ill.items()
            for index in indices
        ]
        return (
            f'Health [{iteration}]  score {values.get("score", float("nan")):.1f}; '
            f'coverage {self._extremes()}; IoU {shown("cam_lam", "cam_seg", "lam_seg")}, '
            f'{shown("flip", "scale", "seg_flip", "seg_scale")}; '
            f'{shown("missing", "false_alarm", "ignored", "entropy")}'
            + (f'; {", ".join(ill)}' if ill else '')
        )

    def _extremes(self) -> str:
        """The classes that cover most and least, with their trend."""
        assert self.figures is not None and self._monitor is not None
        coverage = self.figures.coverage
        known = (~coverage.isnan()).nonzero().flatten().tolist()
        if not known:
            return 'unknown'
        history = self._monitor.history
        order = sorted(known, key=lambda index: -float(coverage[index]))
        parts = []
        for index in dict.fromkeys((order[0], order[-1])):
            part = f'{self._name(index)} {coverage[index]:.2f}'
            if len(history) > 1:
                part += f' ({coverage[index] - history[-2]["coverage"][index]:+.2f})'
            parts.append(part)
        return f'{" to ".join(parts)}, median {coverage[known].median():.2f}'

    def _tell(self, runner: Runner, model: MoRe, finding: Finding, iteration: int) -> None:
        name = self._name(finding.class_index)
        if finding.recovered:
            runner.logger.info(
                f'HealthHook: class "{name}" has recovered, it no longer {finding.kind} '
                f'since iteration {finding.since}.'
            )
            return
        text = _flood_text if finding.kind == FLOODS else _death_text
        runner.logger.warning(
            f'HealthHook: class "{name}" {finding.kind}: {_seen_text(finding, iteration)} '
            f'{text(model)}'
        )


def _seen_text(finding: Finding, iteration: int) -> str:
    seen = {name: round(100 * value) for name, value in finding.seen.items()}
    text = (
        f'its CAM covers {seen["coverage"]} % of the images that it is in and '
        f'{seen["border"]} % of their border, its LAM {seen["lam"]} %, the segmentation '
        f'{seen["seg"]} %'
    )
    if finding.before is not None and finding.before_iteration is not None:
        ago = iteration - finding.before_iteration
        text += f'; the CAM covered {round(100 * finding.before)} % {ago} iterations ago'
    return f'{text}.'


def _flood_text(model: MoRe) -> str:
    labeler = model.training_labeler
    return (
        'It takes the background along, and the losses learn from that. Unless it recovers '
        f'soon, start again with a higher model.pseudo_label.high (now {labeler.high}; .1 '
        f'more is a step) and .low (now {labeler.low}); let the losses that learn from the '
        'maps begin later and in this order: model.losses.ptc, cre, then ure and seg '
        '(their .begin); and where it comes suddenly, let a moving average of the weights '
        "make the labels (default_hooks.teacher.type='MeanTeacherHook')."
    )


def _death_text(model: MoRe) -> str:
    labeler = model.training_labeler
    return (
        'The losses learn that it is background. Look whether its image labels are right '
        'and whether it has enough images, then try lower thresholds '
        f'(model.pseudo_label.high, now {labeler.high}, and .low, now {labeler.low}).'
    )


def _defined(scalars: Dict[str, float]) -> Dict[str, float]:
    return {name: value for name, value in scalars.items() if not np.isnan(value)}


def _mean(values: Tensor) -> float:
    return values.nanmean().item()


@contextmanager
def _untouched_rng() -> Iterator[None]:
    """Leave all random number generators as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards each module is in the mode that it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
