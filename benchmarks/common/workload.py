"""What is measured: a MoRe config at some size, random weights, random images."""

import argparse
import copy
from contextlib import nullcontext
from typing import Any, ContextManager, Dict, Optional, Tuple
from unittest import mock

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import init_default_scope
from torch import nn

from mmseg_more.engine import launch
from mmseg_more.engine.command_line import add_config_options
from mmseg_more.models.backbones.families import FAMILIES
from mmseg_more.models.segmentors.more import MAX_CLASSES, MoRe

from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from .report import quiet

DTYPES = ('float32', 'tf32', 'bfloat16', 'float16')
"""How the network computes: float32 in full or with TF32 products, or autocast."""
_MAX_CLASSES = 3  # per image: VOC and COCO have 1.5 and 2.9 on average


def add_arguments(parser: argparse.ArgumentParser, batch_size: int) -> None:
    """Arguments that all benchmarks of the network take."""
    parser.add_argument('config', help='config of the model')
    parser.add_argument(
        '--size',
        type=int,
        help="side of the square images in pixels; default: the config's training crop",
    )
    parser.add_argument(
        '--batch-size', type=int, default=batch_size, help='images per batch'
    )
    parser.add_argument('--iters', type=int, default=3, help='timed rounds')
    parser.add_argument('--warmup', type=int, default=1, help='rounds before them')
    parser.add_argument(
        '--device',
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='device to run on',
    )
    parser.add_argument(
        '--dtype',
        default='float32',
        choices=DTYPES,
        help='tf32: float32 with products in TF32 (GPU); bfloat16, float16: autocast',
    )
    parser.add_argument(
        '--arch',
        choices=list(FAMILIES['vit'].archs),
        help="another ViT than the config's, such as deit-tiny",
    )
    parser.add_argument(
        '--num-classes', type=int, help="K, foreground classes; default: the config's"
    )
    parser.add_argument('--json', '--out', dest='json', help='JSON file to write')
    add_config_options(parser)


def load(parser: argparse.ArgumentParser, args: argparse.Namespace) -> Config:
    """Config that ``args`` describe; ends the program with a message if it cannot be."""
    for name in ('size', 'batch_size', 'iters', 'num_classes'):
        value = getattr(args, name, None)
        if value is not None and value < 1:
            parser.error(f'--{name.replace("_", "-")} must be at least 1, got {value}')
    if args.warmup < 0:
        parser.error(f'--warmup must not be negative, got {args.warmup}')
    try:
        cfg = launch.load_config(args.config, args.cfg_options)
        check_dtype(args.dtype, torch.device(args.device))
    except (FileNotFoundError, ValueError, RuntimeError) as error:
        parser.error(str(error))
    return adapt_config(cfg, args.size, args.num_classes, args.arch)


def check_dtype(dtype: str, device: torch.device) -> None:
    """Raise ValueError if ``device`` is missing or does not compute in ``dtype``."""
    if device.type == 'cuda' and not torch.cuda.is_available():
        raise ValueError('--device cuda: PyTorch sees no GPU here; use --device cpu')
    if device.type != 'cuda' and dtype in ('tf32', 'float16'):
        raise ValueError(
            f'--dtype {dtype} needs a GPU; on {device.type} there are float32 and bfloat16'
        )


def adapt_config(
    cfg: Config,
    size: Optional[int] = None,
    num_classes: Optional[int] = None,
    arch: Optional[str] = None,
    num_scales: Optional[int] = None,
) -> Config:
    """Copy of ``cfg`` at another size; None keeps what the config says.

    Args:
        cfg: Config with a model :class:`MoRe`.
        size: Side of the training images in pixels.
        num_classes: K.
        arch: Name of a ViT in mmpretrain's table.
        num_scales: Scales of the CAM in training: the first of 1, .5, .75, 1.5, 1.25,
            1.75, 2.
    """
    cfg = copy.deepcopy(cfg)
    model = cfg.model
    model.pretrained = None  # random weights cost the same
    model.backbone.init_cfg = None
    if size is not None:
        model.data_preprocessor.size = (size, size)
    # K and D stand in one place: the other parts take them from there
    for part, key in (
        ('backbone', 'num_classes'),
        ('decode_head', 'num_classes'),
        ('decode_head', 'in_channels'),
        ('graph', 'embed_dims'),
    ):
        if model.get(part) is not None:
            model[part].pop(key, None)
    if num_classes is not None:
        model.num_classes = num_classes
    if arch is not None:
        model.backbone.arch = arch
    if num_scales is not None:
        model.localization = dict(
            scales=(1.0, 0.5, 0.75, 1.5, 1.25, 1.75, 2.0)[:num_scales]
        )
    return cfg


def image_size(cfg: Config) -> Tuple[int, int]:
    """``(H, W)`` of the training images."""
    height, width = cfg.model.data_preprocessor.size
    return int(height), int(width)


def build_model(cfg: Config, device: torch.device, seed: int = 0) -> nn.Module:
    """The segmentor with random weights, of any number of classes.

    The limit of the model is that of masks of 8 bit, which nobody writes here.
    """
    torch.manual_seed(seed)
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    limit = f'{MoRe.__module__}.MAX_CLASSES'
    with quiet(), mock.patch(limit, max(cfg.model.num_classes, MAX_CLASSES)):
        model = MODELS.build(cfg.model)
        model.init_weights()
    return model.to(device)


def build_optimizer(
    cfg: Config, model: nn.Module, dtype: str, device: torch.device
) -> OptimWrapper:
    """The config's optimizer wrapper, computing in ``dtype``."""
    wrapper = dict(cfg.optim_wrapper)
    if dtype in ('bfloat16', 'float16'):
        wrapper.pop('loss_scale', None)
        wrapper['dtype'] = dtype
        if device.type == 'cuda':
            wrapper['type'] = 'AmpOptimWrapper'
            scaled = dtype == 'float16'
            wrapper['loss_scale'] = 'dynamic' if scaled else dict(enabled=False)
        else:
            wrapper['type'] = 'CPUAmpOptimWrapper'
    with quiet():
        return build_optim_wrapper(model, wrapper)


def compute_dtype(dtype: str) -> torch.dtype:
    """Type of the operands of the network's products."""
    return torch.float32 if dtype == 'tf32' else getattr(torch, dtype)


def autocast(dtype: str, device: torch.device) -> ContextManager:
    """Inference in ``dtype``."""
    if dtype in ('float32', 'tf32'):
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, dtype))


def set_tf32(dtype: str) -> None:
    """Allow products in TF32 if ``dtype`` is 'tf32', and only then."""
    allowed = dtype == 'tf32'
    torch.set_float32_matmul_precision('high' if allowed else 'highest')
    torch.backends.cudnn.allow_tf32 = allowed


def random_images(
    count: int, size: Tuple[int, int], generator: torch.Generator
) -> torch.Tensor:
    """uint8 ``(count, 3, H, W)``, smooth with a little noise, as photographs are.

    White noise would be unfair to what depends on the image: in the lattice of the
    energy hardly two of its pixels share a vertex.
    """
    coarse = 255 * torch.rand(count, 3, 8, 8, generator=generator)
    images = F.interpolate(coarse, size=size, mode='bilinear', align_corners=False)
    noise = torch.randn(images.shape, generator=generator)
    return (images + 8 * noise).clamp_(0, 255).byte()


def random_batch(
    model: Any, batch_size: int, size: Tuple[int, int], seed: int = 0
) -> Dict[str, list]:
    """A batch as the data loader gives it: uint8 images, 1 to 3 classes each.

    Args:
        model: The segmentor, or its config; it has ``num_classes``.
        batch_size: Images.
        size: ``(H, W)`` of each.
        seed: Of images and labels.
    """
    generator = torch.Generator().manual_seed(seed)
    images, samples = random_images(batch_size, size, generator), []
    limit = min(_MAX_CLASSES, model.num_classes)
    for _ in range(batch_size):
        count = int(torch.randint(1, limit + 1, (1,), generator=generator))
        # the label of a later one would be that of ignored pixels
        choice = min(model.num_classes, MAX_CLASSES)
        label = torch.randperm(choice, generator=generator)[:count].sort()[0]
        score = torch.zeros(model.num_classes)
        score[label] = 1
        sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size))
        sample.set_field(label, 'gt_label')
        sample.set_field(score, 'gt_score')
        samples.append(sample)
    return dict(inputs=list(images), data_samples=samples)
