"""What who runs an exported network has to know of it."""

from typing import Any, Dict, List, Mapping, Optional

from torch import Tensor, nn

from ..engine.type_name import type_name
from ..version import __version__
from .graphs import DeployedGraph, LocalizationGraph


def describe(
    graph: DeployedGraph,
    dataset_meta: Mapping[str, Any],
    pipeline: Optional[List[Mapping[str, Any]]] = None,
) -> Dict[str, Any]:
    """The metadata of an exported network: plain values, as JSON has them.

    Args:
        graph: The network.
        dataset_meta: ``classes`` and ``palette`` of the K + 1 labels, background first.
        pipeline: Test pipeline of the config, for the size that it gives images.

    Returns:
        ``output`` ('seg' or 'maps'), ``source`` (which maps; None), ``classes``,
        ``palette``, ``channels`` ('RGB' or 'BGR'), ``mean`` and ``std`` of these channels
        in 0..255, ``input_size`` (``[H, W]`` that images were tested at; None: they keep
        theirs, or their aspect ratio), ``patch_size``, ``mmseg_more`` (version).
    """
    preprocessor = graph.model.data_preprocessor
    is_maps = isinstance(graph, LocalizationGraph)
    return dict(
        output='maps' if is_maps else 'seg',
        source=graph.source if is_maps else None,
        classes=list(dataset_meta['classes']),
        palette=[list(color) for color in dataset_meta['palette']],
        channels='RGB' if _converts_channels(preprocessor) else 'BGR',
        mean=_decimals(preprocessor.mean),
        std=_decimals(preprocessor.std),
        input_size=_input_size(pipeline or []),
        patch_size=graph.model.backbone.patch_size,
        mmseg_more=__version__,
    )


def _converts_channels(preprocessor: nn.Module) -> bool:
    """Whether BGR becomes RGB; OneDL's MMSegmentation has another name for it."""
    if hasattr(preprocessor, 'channel_conversion'):
        return bool(preprocessor.channel_conversion)
    return bool(preprocessor._channel_conversion)


def _decimals(values: Tensor) -> List[float]:
    """Float32 values as a person writes them: 123.675, not 123.67500305."""
    return [float(str(value)) for value in values.flatten().float().cpu().numpy()]


def _input_size(pipeline: List[Mapping[str, Any]]) -> Optional[List[int]]:
    """``[H, W]`` that the last Resize of the pipeline gives to every image."""
    steps = [step for step in pipeline if type_name(step) == 'Resize']
    if not steps or steps[-1].get('keep_ratio') or 'scale' not in steps[-1]:
        return None
    scale = steps[-1]['scale']
    width, height = (scale, scale) if isinstance(scale, int) else scale
    return [height, width]
