"""The segmentor MoRe: image -> tokens -> maps -> training labels -> losses."""

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import torch
import torch.nn.functional as F
from mmengine.optim import OptimWrapper
from mmengine.structures import PixelData
from torch import Tensor, nn
from torch.profiler import record_function

from mmseg.models.segmentors import BaseSegmentor
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from ... import localization as L
from ...localization.present import PresentClasses, predicted_classes, present_classes
from ..backbones import MoReViT
from ..decode_heads import LargeFOVHead
from ..graph import GraphCategoryRepresentation
from ..iteration import TrainingIteration
from ..loss_schedule import (
    DEFAULT_LOSSES,
    REACHED_BY,
    ActiveLosses,
    LossSchedule,
    zero_gradient,
)
from ..losses import BatchCounts, count_all_batches
from ..losses.resized_rows import fit_at_once
from ..stations import station
from ..structures import LocalizationMaps, LocalizationRequest, Tokens, TrainingCAMs
from ..text_classifier import (
    FrozenClassifier,
    TextClassifierOptions,
    start_from_text,
    text_classifier_options,
)
from .localizer import Localizer, SharedPasses, classify
from .original_shape import labels_at_original, largest_at_original, to_original
from .training_labels import TrainingLabeler, TrainingLabels

SCHEDULE_UNITS = ('iterations', 'updates')
"""What the numbers of a schedule may count."""
MAX_CLASSES = 254
"""Labels of masks are 8 bit: 0 is background, 255 is ignored."""


@MODELS.register_module()
class MoRe(BaseSegmentor):
    """MoRe: class-patch attention needs regularization (AAAI 2025).

    ``num_classes`` is enough: the parts take K, and the channels D of the backbone, from
    here where their configs do not say them.

    Args:
        backbone: Config of :class:`MoReViT`.
        graph: Config of :class:`GraphCategoryRepresentation`; None leaves the class
            tokens as they are (the paper's ablation without GCR).
        decode_head: Config of :class:`LargeFOVHead`, whose ``num_classes`` is K + 1.
        num_classes: K, foreground classes, at most ``MAX_CLASSES``.
        localization: Arguments of :class:`Localizer`: ``scales`` of the CAM passes in
            training, by default ``(1.0, 0.5, 0.75, 1.5)``; ``chunk_size``, images (flips
            count) per pass without a gradient, by default None: all on a GPU, on a CPU
            what is fastest.
        pseudo_label: Arguments of :class:`TrainingLabeler`. Defaults to VOC's.
        losses: Name -> config, see :class:`LossSchedule`; losses that are not
            named are not used. None takes ``DEFAULT_LOSSES`` (VOC).
        schedule_unit: What ``begin`` of the losses and ``switch_iter`` count, one of
            ``SCHEDULE_UNITS``: 'iterations', or 'updates' of the weights, of which
            there are fewer with ``optim_wrapper.accumulative_counts``. Defaults to
            'iterations'.
        sync_counts: Whether ``ptc`` and ``seg`` average over the pairs and pixels of all
            processes, so that several processes have the loss and the gradient of one with
            all images; all of them then compute the losses together. False: each over its
            own, as published. Defaults to False.
        pretrained: File of a plain ViT to start from, short for the backbone's
            ``init_cfg``, as in MMSegmentation's other segmentors.
        train_cfg: Accepted because MMSegmentation's tools pass it; nothing
            to set.
        test_cfg: None or ``dict(mode='whole')``, the only mode.
        data_preprocessor: ``SegDataPreProcessor`` with ``mean`` and ``std``.
        init_cfg: Initialisation of the whole model.
        text_classifier: Arguments of :class:`TextClassifierOptions`: the classifier starts
            from the vectors of a file, as in ``dict(file='voc_text.npz')``, and with
            ``frozen=True`` stays there. The auxiliary one, of an earlier block, does not.
            None: a random start. Defaults to None.

    Raises:
        ValueError: If the numbers of classes or channels of the parts disagree, K is not
            in 1..254, a config names something unknown, mean and std are missing, the size
            to pad to is no pair, or ``sync_counts`` meets a loss that does not take counts.
    """

    backbone: MoReViT
    graph: Optional[GraphCategoryRepresentation]
    decode_head: LargeFOVHead

    def __init__(
        self,
        backbone: dict,
        graph: Optional[dict],
        decode_head: dict,
        num_classes: int,
        localization: Optional[dict] = None,
        pseudo_label: Optional[dict] = None,
        losses: Optional[Mapping[str, dict]] = None,
        schedule_unit: str = 'iterations',
        sync_counts: bool = False,
        pretrained: Optional[str] = None,
        train_cfg: Optional[dict] = None,
        test_cfg: Optional[dict] = None,
        data_preprocessor: Optional[dict] = None,
        init_cfg: Optional[dict] = None,
        text_classifier: Optional[dict] = None,
    ) -> None:
        if isinstance(data_preprocessor, dict):
            # mmengine would look it up in the default scope, set or not
            data_preprocessor = MODELS.build(data_preprocessor)
        super().__init__(data_preprocessor, init_cfg)
        if train_cfg or (test_cfg or dict(mode='whole')) != dict(mode='whole'):
            raise ValueError(
                "MoRe knows train_cfg=None and test_cfg=dict(mode='whole'), "
                f'got {train_cfg} and {test_cfg}'
            )
        if not 1 <= num_classes <= MAX_CLASSES:
            raise ValueError(
                f'num_classes must be 1..{MAX_CLASSES}, got {num_classes}: the labels of '
                'masks are 8 bit, 0 is background and 255 is ignored'
            )
        if schedule_unit not in SCHEDULE_UNITS:
            raise ValueError(
                f'schedule_unit must be one of {SCHEDULE_UNITS}, got {schedule_unit!r}'
            )
        self.schedule_unit = schedule_unit
        self.num_classes = num_classes
        if pretrained is not None:
            backbone = dict(
                backbone, init_cfg=dict(type='Pretrained', checkpoint=pretrained)
            )
        self.backbone = MODELS.build({'num_classes': num_classes, **backbone})
        dims = self.backbone.embed_dims
        self.graph = None if graph is None else MODELS.build({'embed_dims': dims, **graph})
        self.decode_head = MODELS.build(
            {'in_channels': dims, 'num_classes': num_classes + 1, **decode_head}
        )
        self.text_classifier: Optional[TextClassifierOptions] = None
        if text_classifier is not None:
            self.text_classifier = text_classifier_options(text_classifier)
        self.classifier = (
            FrozenClassifier(dims, num_classes)
            if self.text_classifier is not None and self.text_classifier.frozen
            else nn.Conv2d(dims, num_classes, 1, bias=False)
        )
        self.aux_classifier = nn.Conv2d(dims, num_classes, 1, bias=False)
        self._check_parts()
        self.localizer = Localizer(self, **(localization or {}))
        self.training_labeler = TrainingLabeler(**(pseudo_label or {}))
        self.loss_schedule = LossSchedule(DEFAULT_LOSSES if losses is None else losses)
        self.sync_counts = sync_counts
        self._check_counting()
        self.align_corners = False
        self._iteration = TrainingIteration()
        self.localization_request: Optional[LocalizationRequest] = None
        self._teacher: Tuple['MoRe', ...] = ()  # in a tuple: none of its weights are ours

    def _check_parts(self) -> None:
        counts = {
            'num_classes': self.num_classes,
            'backbone.num_classes': self.backbone.num_classes,
            'decode_head.num_classes - 1': self.decode_head.num_classes - 1,
        }
        if len(set(counts.values())) > 1:
            raise ValueError(
                f'the parts of MoRe disagree on the number of foreground classes: {counts};'
                ' model.num_classes alone is enough'
            )
        dims = {
            'backbone': self.backbone.embed_dims,
            'decode_head.in_channels': self.decode_head.in_channels,
        }
        if self.graph is not None:
            dims['graph.embed_dims'] = self.graph.embed_dims
        if len(set(dims.values())) > 1:
            raise ValueError(
                f'the parts of MoRe disagree on the number of channels: {dims}; '
                'they take that of the backbone where they do not say it'
            )
        if self.backbone.out_indices is not None:
            raise ValueError(
                'MoRe reads the tokens of its backbone, not feature maps: leave out '
                'backbone.out_indices'
            )
        if not hasattr(self.data_preprocessor, 'mean'):
            raise ValueError(
                'MoRe de-normalises images for its training labels: '
                'data_preprocessor needs `mean` and `std`, as in '
                "dict(type='SegDataPreProcessor', mean=[...], std=[...])"
            )
        size = getattr(self.data_preprocessor, 'size', None)
        if size is not None and (not isinstance(size, Sequence) or len(size) != 2):
            raise ValueError(
                'data_preprocessor.size must be the height and width that images are '
                f'padded to, got {size!r}'
            )

    def init_weights(self) -> None:
        """Start all parts, and the classifier from text where it is said.

        Raises:
            FileNotFoundError: If there is no file of ``text_classifier``.
            ValueError: If it does not fit the model.
        """
        super().init_weights()
        if self.text_classifier is not None:
            start_from_text(self.classifier, self.text_classifier.file)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> Tuple[int, int]:
        """Depth of a parameter for layer-wise learning rates, as in mmpretrain's models.

        See :meth:`MoReViT.get_layer_depth`.
        """
        return self.backbone.get_layer_depth(param_name, f'{prefix}backbone.')

    def _check_counting(self) -> None:
        losses = self.loss_schedule.losses
        for name in ('ptc', 'seg') if self.sync_counts else ():
            if name in losses and not hasattr(losses[name], 'count'):
                raise ValueError(
                    f'sync_counts=True, but losses.{name} is a '
                    f'{type(losses[name]).__name__}, which has no method `count` and takes '
                    "no counts: set sync_counts=False, or use MoRe's own loss"
                )

    # ------------------------------------------------------------- iteration
    @property
    def iteration(self) -> int:
        """The 0-based training iteration, see :class:`TrainingIteration`."""
        return self._iteration.value

    @iteration.setter
    def iteration(self, value: int) -> None:
        self._iteration.set(value)

    @property
    def iterations_per_update(self) -> Optional[int]:
        """Iterations of an update of the weights (``accumulative_counts``).

        None until a training has begun.
        """
        return self._iteration.per_update

    @iterations_per_update.setter
    def iterations_per_update(self, value: int) -> None:
        self._iteration.per_update = value

    def schedule_step(self, iteration: int) -> int:
        """What ``begin`` and ``switch_iter`` are compared with at an iteration.

        Raises:
            RuntimeError: If updates are counted, and nobody said what an update is.
        """
        if self.schedule_unit == 'updates':
            return self._iteration.update(iteration)
        return iteration

    @property
    def teacher(self) -> Optional['MoRe']:
        """The model whose maps become the training labels; None: this one, as published.

        Its weights are in neither the parameters nor the state dict of this model.
        """
        return self._teacher[0] if self._teacher else None

    def learn_from(self, teacher: Optional['MoRe']) -> None:
        """Set :attr:`teacher`, as :class:`~mmseg_more.engine.hooks.MeanTeacherHook` does.

        A method: what is assigned to a module becomes a part of it.
        """
        self._teacher = () if teacher is None else (teacher,)

    def train_step(
        self, data: Union[dict, tuple, list], optim_wrapper: OptimWrapper
    ) -> Dict[str, Tensor]:
        """A step of MMEngine's training, at the iteration that it counts."""
        self._iteration.follow_optimizer(optim_wrapper)
        return super().train_step(data, optim_wrapper)

    def forward(
        self,
        inputs: Tensor,
        data_samples: Optional[List[SegDataSample]] = None,
        mode: str = 'tensor',
    ) -> Any:
        """What ``mode`` says: the result of :meth:`loss` or of :meth:`predict`.

        For 'tensor', segmentation logits at grid size.
        """
        if mode == 'loss':
            self._iteration.follow_message_hub()
        return super().forward(inputs, data_samples, mode)

    @torch.compiler.disable
    def _schedule(self) -> '_Schedule':
        """What counts at this iteration.

        Not compiled: a step that is compiled depends on what counts, not on the number.
        """
        step = self.schedule_step(self.iteration)
        return _Schedule(
            self.loss_schedule.active(step), self.training_labeler.uses_final_cam(step)
        )

    # ------------------------------------------------------- image -> tokens
    @station('tokens')
    def extract_feat(self, inputs: Tensor) -> Tokens:
        """Tokens of normalised images ``(B, 3, H, W)``."""
        return self.backbone(inputs)

    @station('gcr')
    def class_tokens(self, tokens: Tokens) -> Tensor:
        """Class tokens after GCR, Q ``(B, K, D)``, in float32."""
        if self.graph is None:
            return tokens.classes.float()
        with torch.autocast(tokens.classes.device.type, enabled=False):
            return self.graph(
                tokens.classes.float(), tokens.patches.flatten(2).transpose(1, 2).float()
            )

    def image_logits(self, tokens: Tokens) -> Tuple[Tensor, Tensor]:
        """Logits ``(B, K)`` of both classifiers on max-pooled patches."""
        pooled = F.adaptive_max_pool2d(tokens.patches, 1)
        aux_pooled = F.adaptive_max_pool2d(tokens.aux_patches, 1)
        return (
            classify(self.classifier, pooled).flatten(1),
            classify(self.aux_classifier, aux_pooled).flatten(1),
        )

    # -------------------------------------------------------- tokens -> maps
    def localize(
        self,
        inputs: Tensor,
        scales: Sequence[float] = (1.0,),
        lam_scales: Optional[Sequence[float]] = None,
    ) -> LocalizationMaps:
        """Localization maps, the one way to get them (MoRe, section 3.2).

        One pass over image and flip per scale serves all maps. No gradient.

        Args:
            inputs: Normalised images ``(B, 3, H, W)``.
            scales: Scales of the CAMs.
            lam_scales: Scales of LAM and raw attention; None for ``scales``.

        Returns:
            All maps, float32 ``(B, K, H, W)`` in [0, 1], of all K classes.

        Raises:
            ValueError: If a scale is not positive or makes the image smaller than
                a patch.
        """
        return self.localizer.localize(inputs, scales, lam_scales)

    # ------------------------------------------------------------- training
    def loss(self, inputs: Tensor, data_samples: List[SegDataSample]) -> Dict[str, Tensor]:
        """Weighted losses of one training step.

        Args:
            inputs: Normalised images ``(B, 3, H, W)``.
            data_samples: With ``gt_score``, multi-hot image labels ``(K,)``; those of
                images with a corrected mask also with ``corrected_sem_seg``.

        Returns:
            ``loss_cls, loss_cls_aux, loss_mct, loss_ptc, loss_cre, loss_ure,
            loss_seg, loss_energy``; those that do not count at
            ``self.iteration`` are absent. Parameters that only those reach get a
            zero gradient.

        Raises:
            ValueError: If a sample has no image labels, or no loss counts.
        """
        active, final_cam = self._schedule()
        if not active.names:
            raise ValueError(
                f'no loss counts at iteration {self.iteration}: leave `begin` out of one '
                f'of model.losses, {list(self.loss_schedule.losses)}'
            )
        image_labels = self._image_labels(data_samples, inputs)
        images = self.denormalize(inputs) if active.need_refined_labels else None

        tokens = self.extract_feat(inputs)
        outputs = self._outputs(tokens, active)
        labels = None
        if active.need_maps:
            present = present_classes(image_labels, _most_classes(data_samples))
            cams = self._training_cams(inputs, tokens, present)
            grid = tokens.patches.shape[-2:]
            corrected = None
            if images is not None:
                corrected = _corrected_labels(data_samples, images)
            labels = self.training_labeler.label(
                cams, present, grid, final_cam, images, corrected
            )
        return self._losses(active, outputs, image_labels, labels, images)

    def _training_cams(
        self, inputs: Tensor, tokens: Tokens, present: PresentClasses
    ) -> TrainingCAMs:
        """CAMs for the training labels, of the teacher's weights where there is one."""
        if self.teacher is None:
            return self.localizer.training_cams(inputs, tokens, present)
        return self.teacher.localizer.training_cams(inputs, classes=present)

    @station('heads')
    def _outputs(self, tokens: Tokens, active: ActiveLosses) -> '_Outputs':
        """What the losses read from the network, in float32, whatever it ran in."""
        cls, cls_aux = self.image_logits(tokens)
        segmentation = queries = None
        if active.need_refined_labels:
            segmentation = self.decode_head([tokens.patches]).float()
        if active.need_class_tokens:
            queries = self.class_tokens(tokens)
        return _Outputs(cls, cls_aux, tokens.patches.float(), queries, segmentation)

    @station('losses')
    def _losses(
        self,
        active: ActiveLosses,
        outputs: '_Outputs',
        image_labels: Tensor,
        labels: Optional[TrainingLabels],
        images: Optional[Tensor],
    ) -> Dict[str, Tensor]:
        """The active losses by their keys; idle parameters get a zero gradient."""
        cls, cls_aux, patches, queries, segmentation = outputs
        terms: Dict[str, tuple] = dict(
            cls=(cls, image_labels), cls_aux=(cls_aux, image_labels), mct=(queries,)
        )
        if labels is not None:
            terms.update(
                ptc=(patches, labels.affinity),
                cre=(queries, patches, labels.cre, image_labels),
                ure=(queries, patches, labels.ure, image_labels),
            )
        if labels is not None and segmentation is not None and images is not None:
            logits = self._logits_for(('seg', 'energy'), active, segmentation, images)
            terms.update(
                seg=(logits['seg'], labels.segmentation),
                energy=(logits['energy'], labels.segmentation, images),
            )
        for name, counts in self._counts_of_all_processes(active, labels).items():
            terms[name] += (counts,)
        losses = {}
        with torch.autocast(patches.device.type, enabled=False):
            for name in active.names:
                with record_function(f'more/loss_{name}'):
                    losses[f'loss_{name}'] = self.loss_schedule[name](*terms[name])
        return self._with_zero_gradients(losses, active)

    def _logits_for(
        self, names: Sequence[str], active: ActiveLosses, grid: Tensor, images: Tensor
    ) -> Dict[str, Tensor]:
        """Segmentation logits for the losses ``names``.

        At grid size for those that do not count and, if they are many, for those that
        resize them by themselves, with less memory; else at image size.
        """
        size = images.shape[-2:]
        few = fit_at_once(grid, size)
        at_image_size = [
            name
            for name in names
            if name in active.names
            and (few or not getattr(self.loss_schedule[name], 'resizes_logits', False))
        ]
        logits = dict.fromkeys(names, grid)
        if at_image_size:
            logits.update(dict.fromkeys(at_image_size, L.resize_map(grid, size)))
        return logits

    def _counts_of_all_processes(
        self, active: ActiveLosses, labels: Optional[TrainingLabels]
    ) -> Dict[str, BatchCounts]:
        """What the active losses average over; nothing without ``sync_counts``."""
        if not self.sync_counts or labels is None:
            return {}
        counted = dict(ptc=labels.affinity, seg=labels.segmentation)
        counts = {}
        for name in active.names:
            if name in counted:
                loss: Any = self.loss_schedule[name]
                counts[name] = loss.count(counted[name])
        return count_all_batches(counts)

    def _with_zero_gradients(
        self, losses: Dict[str, Tensor], active: ActiveLosses
    ) -> Dict[str, Tensor]:
        idle = [
            zero_gradient(module)
            for name, module in self.named_children()
            if name in REACHED_BY and not active.reach(name)
        ]
        if idle:
            first = next(iter(losses))
            losses[first] = losses[first] + sum(idle)
        return losses

    def denormalize(self, inputs: Tensor) -> Tensor:
        """Images in 0..255 from normalised ones, float32, not truncated."""
        preprocessor = self.data_preprocessor
        return inputs.float() * preprocessor.std + preprocessor.mean

    def _image_labels(self, data_samples: List[SegDataSample], inputs: Tensor) -> Tensor:
        """Multi-hot labels ``(B, K)`` of the data samples."""
        rows = []
        for sample in data_samples:
            score = sample.get('gt_score', None)
            if score is None or tuple(score.shape) != (self.num_classes,):
                found = 'none' if score is None else tuple(score.shape)
                raise ValueError(
                    'MoRe trains on image labels: expected `gt_score` of shape '
                    f'({self.num_classes},) on the data sample of '
                    f'{_image(sample)}, got '
                    f'{found}; use an image-level dataset whose classes fit '
                    'num_classes'
                )
            rows.append(score)
        return torch.stack(rows).to(inputs.device, torch.float32)

    # ------------------------------------------------------------- inference
    def encode_decode(
        self, inputs: Tensor, batch_img_metas: Optional[List[dict]] = None
    ) -> Tensor:
        """Segmentation logits ``(B, K+1, H, W)`` at the size of ``inputs``."""
        return L.resize_map(self._forward(inputs), inputs.shape[-2:])

    def _forward(
        self, inputs: Tensor, data_samples: Optional[List[SegDataSample]] = None
    ) -> Tensor:
        """Segmentation logits at grid size, ``(B, K+1, h, w)``."""
        return self.decode_head([self.extract_feat(inputs).patches])

    def predict(
        self, inputs: Tensor, data_samples: Optional[List[SegDataSample]] = None
    ) -> List[SegDataSample]:
        """Segment images; add the maps of ``self.localization_request``.

        Args:
            inputs: Normalised images ``(B, 3, H, W)``.
            data_samples: Their meta information; results are resized to
                ``ori_shape``.

        Returns:
            Data samples with ``seg_logits`` and ``pred_sem_seg`` (0 is
            background), ``pred_score (K,)`` in [0, 1], ``pred_label`` (indices of
            the classes with a score above .5; if there is none, of those that the
            segmentation shows on 5 patches at least), and what the request asks
            for, see :class:`LocalizationRequest`.

        Raises:
            ValueError: If the request wants maps of the classes of image labels and a
                sample has none.
        """
        request = self.localization_request
        if data_samples is None:
            data_samples = [SegDataSample() for _ in inputs]
        passes = self._run_request(inputs, data_samples, request)
        size = inputs.shape[-2:]
        for i, sample in enumerate(data_samples):
            logits = passes.segmentation[i]
            if request is None or request.logits:
                logits = to_original(logits, sample, input_size=size)
                sample.seg_logits = PixelData(data=logits)
                labels = logits.argmax(dim=0, keepdim=True)
            else:
                labels = labels_at_original(logits, sample, size)
            sample.pred_sem_seg = PixelData(data=labels)
            sample.set_field(passes.scores[i].sigmoid(), 'pred_score')
            sample.set_field(passes.predicted[i].nonzero().flatten(), 'pred_label')
            maps = {name: value[i] for name, value in passes.maps.items()}
            if passes.classes is not None:
                indices = passes.classes.of_image(i)
                sample.set_field(indices, 'map_indices')
                # an image's own classes come first among the channels
                maps = {name: value[: len(indices)] for name, value in maps.items()}
            for name, value in maps.items():
                sample.set_field(PixelData(data=to_original(value, sample)), name)
            if passes.segmentation_ms:
                of_scales = [logits[i] for logits in passes.segmentation_ms]
                merged = largest_at_original(of_scales, sample, size)
                sample.set_field(PixelData(data=merged), 'seg_logits_ms')
        return data_samples

    def _run_request(
        self,
        inputs: Tensor,
        data_samples: List[SegDataSample],
        request: Optional[LocalizationRequest],
    ) -> SharedPasses:
        """The passes that are asked for; without a request one over the images alone."""
        if request is None:
            tokens = self.extract_feat(inputs)
            logits = self.decode_head([tokens.patches]).float()
            scores, _ = self.image_logits(tokens)
            predicted = predicted_classes(scores, logits)
            return SharedPasses({}, None, scores, predicted, logits, ())
        labels = None
        if request.policy == 'image-labels':
            labels = _labels_of(data_samples, self.num_classes).to(inputs.device)
        return self.localizer.shared_passes(inputs, request, labels)


class _Schedule(NamedTuple):
    """What counts at an iteration."""

    active: ActiveLosses
    """The losses."""
    final_cam: bool
    """Whether CRE and URE take labels of the final CAM."""


class _Outputs(NamedTuple):
    """What the losses read from the network, float32."""

    cls: Tensor
    """Image logits ``(B, K)``."""
    cls_aux: Tensor
    """Image logits of the auxiliary classifier, ``(B, K)``."""
    patches: Tensor
    """Patch tokens ``(B, D, h, w)``."""
    queries: Optional[Tensor]
    """Class tokens after GCR, ``(B, K, D)``."""
    segmentation: Optional[Tensor]
    """Segmentation logits ``(B, K+1, h, w)``."""


def _most_classes(data_samples: List[SegDataSample]) -> Optional[int]:
    """Largest number of classes of an image, without asking the device.

    None if a sample lists none (``gt_label``), so that its ``gt_score`` decides.
    """
    labels = [sample.get('gt_label', None) for sample in data_samples]
    if any(label is None for label in labels):
        return None
    return max(len(label) for label in labels)


def _corrected_labels(
    data_samples: List[SegDataSample], images: Tensor
) -> Optional[Tensor]:
    """Labels ``(B, H, W)`` by people, 255 where there are none; None: no image has any.

    Args:
        data_samples: With ``corrected_sem_seg`` ``(1, H', W')`` where an image has one;
            what was padded to the right and below has none.
        images: ``(B, 3, H, W)``.
    """
    if not any('corrected_sem_seg' in sample for sample in data_samples):
        return None
    size = (len(images), *images.shape[-2:])
    labels = torch.full(size, L.IGNORE_INDEX, dtype=torch.long, device=images.device)
    for row, sample in zip(labels, data_samples):
        if 'corrected_sem_seg' in sample:
            (mask,) = sample.corrected_sem_seg.data
            row[: mask.shape[0], : mask.shape[1]] = mask
    return labels


def _labels_of(data_samples: List[SegDataSample], num_classes: int) -> Tensor:
    """Multi-hot ``(B, K)`` from ``gt_label``, or else ``gt_score``, of the samples."""
    rows = torch.zeros(len(data_samples), num_classes)
    for row, sample in zip(rows, data_samples):
        label, score = sample.get('gt_label', None), sample.get('gt_score', None)
        if label is not None:
            row[torch.as_tensor(label, dtype=torch.long).cpu()] = 1
        elif score is not None:
            row.copy_(score)
        else:
            raise ValueError(
                "maps of the policy 'image-labels' need `gt_label` or `gt_score` on the "
                f'data sample of {_image(sample)}'
            )
    return rows


def _image(sample: SegDataSample) -> str:
    return sample.metainfo.get('img_path', 'an image')
