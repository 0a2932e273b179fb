"""Whether a training on a CPU leaves its fastest arithmetic unused."""

import time
from typing import Optional, Sequence

import torch
from mmengine.optim import OptimWrapper
from torch.distributed.tensor import DTensor

from ..models import MoRe
from ..models.backbones.encoder_layer import EncoderLayer

_WORTH_SAYING = 1.5  # times as fast
_ROUNDS = 3


def amp_hint(
    model: MoRe, optim_wrapper: OptimWrapper, size: Sequence[int]
) -> Optional[str]:
    """What to say of a training in float32 on a CPU that is much faster in bfloat16.

    Measured, on one block of the network and one image, which takes a fraction of a step.

    Args:
        model: The segmentor.
        optim_wrapper: Of its training.
        size: ``(H, W)`` of the training images, in pixels.

    Returns:
        None if it is not on a CPU, is in mixed precision already, or gains little, and
        where no process has the block as a whole.
    """
    backbone = model.backbone
    on_cpu = backbone.cls_token.device.type == 'cpu'
    if not on_cpu or type(optim_wrapper) is not OptimWrapper:
        return None
    if isinstance(backbone.cls_token, DTensor):
        return None
    patches = (size[0] // backbone.patch_size) * (size[1] // backbone.patch_size)
    gain = bfloat16_gain(backbone.layers[0], backbone.num_extra_tokens + patches)
    if gain < _WORTH_SAYING:
        return None
    return (
        f'On this CPU a block of the network runs {gain:.1f} times as fast in bfloat16 as '
        'in float32: --amp trains in it.'
    )


@torch.no_grad()
def bfloat16_gain(layer: EncoderLayer, num_tokens: int) -> float:
    """How many times as fast a block of a ViT runs in bfloat16 on this CPU.

    Args:
        layer: The block.
        num_tokens: Of the image.
    """
    tokens = torch.zeros(1, num_tokens, layer.embed_dims)

    def seconds(enabled: bool) -> float:
        times = []
        # the first round prepares what later ones use
        for _ in range(1 + _ROUNDS):
            start = time.perf_counter()
            with torch.autocast('cpu', dtype=torch.bfloat16, enabled=enabled):
                # not the call, which may be compiled
                type(layer).forward(layer, tokens)
            times.append(time.perf_counter() - start)
        return min(times[1:])

    with torch.random.fork_rng(devices=[]):  # stochastic depth draws
        return seconds(enabled=False) / seconds(enabled=True)
