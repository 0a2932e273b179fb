"""The segmentor MoRe: image -> tokens -> maps -> pseudo labels -> losses."""

from typing import Dict, List, Mapping, Optional

import torch
from mmengine.structures import PixelData
from torch import Tensor, nn

from mmseg.models.segmentors import BaseSegmentor
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from ... import localization as L
from ...localization.present import present_classes
from ..loss_schedule import (
    DEFAULT_LOSSES,
    REACHED_BY,
    ActiveLosses,
    LossSchedule,
    zero_gradient,
)
from ..structures import LocalizationRequest, Tokens
from .localization_mixin import LocalizationMixin
from .original_shape import is_padded, to_original
from .pseudo_labels import PseudoLabeler


@MODELS.register_module()
class MoRe(LocalizationMixin, BaseSegmentor):
    """MoRe: class-patch attention needs regularization (AAAI 2025).

    Args:
        backbone: Config of :class:`MoReViT`.
        graph: Config of :class:`GraphCategoryRepresentation`; None leaves the class
            tokens as they are (the paper's ablation without GCR).
        decode_head: Config of :class:`LargeFOVHead`, ``num_classes`` is K + 1.
        num_classes: K, foreground classes.
        localization: ``scales`` of the CAM passes in training, by default ``(1.0,
            0.5, 0.75, 1.5)``; ``chunk_size``, images (flips count) per pass without
            a gradient, by default None: all on a GPU, on a CPU what is fastest.
        pseudo_label: Arguments of :class:`PseudoLabeler`. Defaults to VOC's.
        losses: Name -> config, see :class:`LossSchedule`; losses that are not
            named are not used. None takes ``DEFAULT_LOSSES`` (VOC).
        pretrained: File of a plain ViT to start from, short for the backbone's
            ``init_cfg``, as in MMSegmentation's other segmentors.
        train_cfg: Accepted because MMSegmentation's tools pass it; nothing
            to set.
        test_cfg: None or ``dict(mode='whole')``, the only mode.
        data_preprocessor: ``SegDataPreProcessor`` with ``mean`` and ``std``.
        init_cfg: Initialisation of the whole model.

    Raises:
        ValueError: If the numbers of classes of the parts disagree, a
            config names something unknown, or mean and std are missing.
    """

    def __init__(
        self,
        backbone: dict,
        graph: Optional[dict],
        decode_head: dict,
        num_classes: int,
        localization: Optional[dict] = None,
        pseudo_label: Optional[dict] = None,
        losses: Optional[Mapping[str, dict]] = None,
        pretrained: Optional[str] = None,
        train_cfg: Optional[dict] = None,
        test_cfg: Optional[dict] = None,
        data_preprocessor: Optional[dict] = None,
        init_cfg: Optional[dict] = None,
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
        self.num_classes = num_classes
        if pretrained is not None:
            backbone = dict(
                backbone, init_cfg=dict(type='Pretrained', checkpoint=pretrained)
            )
        self.backbone = MODELS.build(backbone)
        self.graph = None if graph is None else MODELS.build(graph)
        self.decode_head = MODELS.build(decode_head)
        dims = self.backbone.embed_dims
        self.classifier = nn.Conv2d(dims, num_classes, 1, bias=False)
        self.aux_classifier = nn.Conv2d(dims, num_classes, 1, bias=False)
        self._check_parts()
        self._set_localization(**(localization or {}))
        self.pseudo_labeler = PseudoLabeler(**(pseudo_label or {}))
        self.loss_schedule = LossSchedule(DEFAULT_LOSSES if losses is None else losses)
        self.align_corners = False
        self.iteration = 0
        self.localization_request: Optional[LocalizationRequest] = None

    def _check_parts(self) -> None:
        counts = {
            'num_classes': self.num_classes,
            'backbone.num_classes': self.backbone.num_classes,
            'decode_head.num_classes - 1': self.decode_head.num_classes - 1,
        }
        if len(set(counts.values())) > 1:
            raise ValueError(
                f'the parts of MoRe disagree on the number of foreground classes: {counts}'
            )
        dims = {
            'backbone': self.backbone.embed_dims,
            'decode_head.in_channels': self.decode_head.in_channels,
        }
        if self.graph is not None:
            dims['graph.embed_dims'] = self.graph.embed_dims
        if len(set(dims.values())) > 1:
            raise ValueError(
                f'the parts of MoRe disagree on the number of channels: {dims}'
            )
        if not hasattr(self.data_preprocessor, 'mean'):
            raise ValueError(
                'MoRe de-normalises images for its pseudo labels: '
                'data_preprocessor needs `mean` and `std`, as in '
                "dict(type='SegDataPreProcessor', mean=[...], std=[...])"
            )

    def extract_feat(self, inputs: Tensor) -> Tokens:
        """Tokens of normalised images ``(B, 3, H, W)``."""
        return self.backbone(inputs)

    def class_tokens(self, tokens: Tokens) -> Tensor:
        """Class tokens after GCR, Q ``(B, K, D)``, in float32."""
        if self.graph is None:
            return tokens.classes.float()
        with torch.autocast(tokens.classes.device.type, enabled=False):
            return self.graph(
                tokens.classes.float(), tokens.patches.flatten(2).transpose(1, 2).float()
            )

    def encode_decode(
        self, inputs: Tensor, batch_img_metas: Optional[List[dict]] = None
    ) -> Tensor:
        """Segmentation logits ``(B, K+1, H, W)`` at the size of ``inputs``."""
        logits = self.decode_head(self.extract_feat(inputs).patches)
        return L.resize_map(logits, inputs.shape[-2:])

    def _forward(self, inputs: Tensor, data_samples=None) -> Tensor:
        """Segmentation logits at grid size, ``(B, K+1, h, w)``."""
        return self.decode_head(self.extract_feat(inputs).patches)

    def denormalize(self, inputs: Tensor) -> Tensor:
        """Images in 0..255 from normalised ones, float32, not truncated."""
        preprocessor = self.data_preprocessor
        return inputs.float() * preprocessor.std + preprocessor.mean

    def loss(self, inputs: Tensor, data_samples: List[SegDataSample]) -> Dict[str, Tensor]:
        """Weighted losses of one training step.

        Args:
            inputs: Normalised images ``(B, 3, H, W)``.
            data_samples: With ``gt_score``, multi-hot image labels ``(K,)``.

        Returns:
            ``loss_cls, loss_cls_aux, loss_mct, loss_ptc, loss_cre, loss_ure,
            loss_seg, loss_energy``; those that do not count at
            ``self.iteration`` are absent. Parameters that only those reach get a
            zero gradient.
        """
        labels = self._image_labels(data_samples, inputs)
        active = self.loss_schedule.active(self.iteration)
        tokens = self.extract_feat(inputs)
        cls, cls_aux = self._image_logits(tokens)
        segmentation = (
            self.decode_head(tokens.patches) if active.need_refined_labels else None
        )
        cams = None
        if active.need_maps:
            max_classes = _max_classes(data_samples)
            present = present_classes(labels, max_classes)
            cams = self.training_cams(inputs, tokens, present)

        # Losses and labels in float32, whatever the network ran in.
        with torch.autocast(inputs.device.type, enabled=False):
            tokens = Tokens(*(t if t is None else t.float() for t in tokens))
            queries = self.class_tokens(tokens) if active.need_class_tokens else None
            terms = dict(cls=(cls, labels), cls_aux=(cls_aux, labels), mct=(queries,))
            if cams is not None:
                patches = tokens.patches
                targets = self.pseudo_labeler.patch_labels(
                    cams.cam, cams.cam_aux, present.real, self.iteration, patches.shape[-2:]
                )
                targets = type(targets)(*map(present.name_labels, targets))
                terms.update(
                    ptc=(patches, targets.affinity),
                    cre=(queries, patches, targets.cre, labels),
                    ure=(queries, patches, targets.ure, labels),
                )
            if segmentation is not None:
                images = self.denormalize(inputs)
                refined = self.pseudo_labeler.refined_labels(
                    images, cams.cam, present.real, max_classes
                )
                refined = present.name_labels(refined)
                logits = L.resize_map(segmentation.float(), inputs.shape[-2:])
                terms.update(seg=(logits, refined), energy=(logits, refined, images))
            losses = {
                f'loss_{name}': self.loss_schedule[name](*terms[name])
                for name in active.names
            }
        return self._with_zero_gradients(losses, active)

    def _with_zero_gradients(
        self, losses: Dict[str, Tensor], active: ActiveLosses
    ) -> Dict[str, Tensor]:
        idle = [
            zero_gradient(module)
            for name, module in self.named_children()
            if name in REACHED_BY and not active.reach(name)
        ]
        if idle and losses:
            first = next(iter(losses))
            losses[first] = losses[first] + sum(idle)
        return losses

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
                    f'{sample.metainfo.get("img_path", "an image")}, got '
                    f'{found}; use an image-level dataset whose classes fit '
                    'num_classes'
                )
            rows.append(score)
        return torch.stack(rows).to(inputs.device, torch.float32)

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
            for as PixelData ``(K, H, W)``.
        """
        request, results = self.localization_request, {}
        if request is None:
            tokens = self.extract_feat(inputs)
            logits = self.decode_head(tokens.patches).float()
            scores = self._image_logits(tokens)[0].float()
        else:
            passes = self.shared_passes(inputs, request)
            logits, scores = passes.segmentation, passes.scores
            results.update(passes.maps)
            if passes.segmentation_ms is not None:
                results['seg_logits_ms'] = passes.segmentation_ms
        if data_samples is not None:
            results = {
                name: [to_original(*pair) for pair in zip(value, data_samples)]
                for name, value in results.items()
            }
        present = self._predicted_classes(scores, logits)
        if data_samples is None or any(map(is_padded, data_samples)):
            # else straight from the grid to the original size
            logits = L.resize_map(logits, inputs.shape[-2:])
        data_samples = self.postprocess_result(logits, data_samples)
        for i, sample in enumerate(data_samples):
            sample.set_field(scores[i].sigmoid(), 'pred_score')
            sample.set_field(present[i].nonzero().flatten(), 'pred_label')
            for name, values in results.items():
                sample.set_field(PixelData(data=values[i]), name)
        return data_samples

    @staticmethod
    def _predicted_classes(
        scores: Tensor, segmentation: Tensor, min_patches: int = 5
    ) -> Tensor:
        """Classes of images without labels, bool ``(B, K)``.

        Those with a logit above 0; for an image that has none, those that the
        segmentation ``(B, K+1, h, w)`` shows on ``min_patches`` at least.
        """
        classes = torch.arange(1, segmentation.shape[1], device=segmentation.device)
        labels = segmentation.argmax(dim=1).flatten(1)
        shown = (labels[:, None] == classes[:, None]).sum(-1) >= min_patches
        present = scores > 0
        return torch.where(present.any(dim=1, keepdim=True), present, shown)


def _max_classes(data_samples: List[SegDataSample]) -> Optional[int]:
    """Largest number of classes of an image, without asking the device.

    None if a sample lists none (``gt_label``), so that its ``gt_score`` decides.
    """
    labels = [sample.get('gt_label', None) for sample in data_samples]
    if any(label is None for label in labels):
        return None
    return max(len(label) for label in labels)
