"""The three formats: how a network becomes a file, and a file a function again."""

import importlib
import io
import json
import os
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Dict, Mapping, NamedTuple, Sequence, Tuple, Union

import torch
from torch import Tensor
from torch.export import Dim

from ..files import write_bytes
from .graphs import DeployedGraph
from .verification import largest_difference

SUFFIXES = dict(onnx='.onnx', export='.pt2', torchscript='.pt')
"""Formats, and how their files end."""
FORMATS = tuple(SUFFIXES)
"""ONNX, ``torch.export`` and TorchScript."""
_METADATA = 'metadata.json'  # in the files of PyTorch; ONNX has properties
_DYNAMIC_AXES = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
_AXES = {0: 'batch', 2: 'height', 3: 'width'}
_PROTOBUF_LIMIT = 2**31  # bytes


class ExportedNetwork(NamedTuple):
    """A network that was read from a file."""

    run: Callable[[Tensor], Tuple[Tensor, ...]]
    """Normalised images ``(B, 3, H, W)``, float32, to the outputs."""
    metadata: Dict[str, Any]
    """See :func:`~mmseg_more.deployment.describe`."""


def export_network(
    graph: DeployedGraph,
    path: Union[str, 'os.PathLike'],
    format: str,
    metadata: Mapping[str, Any],
    check: bool = True,
) -> float:
    """Write a network that runs without this package.

    It takes every batch size, height and width (both sides at least two patches).

    Args:
        graph: The network, on the CPU, float32, in evaluation mode.
        path: The file; it is whole, and has passed the check, or is not there.
        format: One of :data:`FORMATS`.
        metadata: Of :func:`~mmseg_more.deployment.describe`; goes into the file.
        check: Whether to compare what was made with the segmentor before it is written.

    Returns:
        The largest difference from the segmentor; NaN without the check.

    Raises:
        ValueError: If the format is unknown, the network is too large for ONNX, or what
            was made does not give what the segmentor does.
        ImportError: If a package that ONNX needs is missing; says how to install it.
        OSError: If the file cannot be written.
    """
    content = serialize(graph, format, metadata)
    difference = float('nan')
    if check:
        difference = largest_difference(graph, load_exported(content, format).run)
    write_bytes(Path(path), content)
    return difference


def serialize(graph: DeployedGraph, format: str, metadata: Mapping[str, Any]) -> bytes:
    """The content of the file, see :func:`export_network`."""
    writers = dict(onnx=_to_onnx, export=_to_export, torchscript=_to_torchscript)
    if format not in writers:
        raise ValueError(f'format must be one of {", ".join(FORMATS)}, got {format!r}')
    # neither a single image nor a square, which an exporter would take for constants
    backbone = graph.model.backbone
    side = backbone.patch_size * max(backbone.grid_size[0], 4)
    images = torch.zeros(2, 3, side, side + backbone.patch_size)
    with torch.no_grad():
        return writers[format](graph, images, metadata)


def load_exported(source: Union[bytes, str, 'os.PathLike'], format: str) -> ExportedNetwork:
    """Read an exported network, to run it on the CPU.

    Args:
        source: The file, or its content.
        format: Of it.

    Raises:
        ValueError: If the format is unknown.
        ImportError: As :func:`export_network`.
        OSError: If the file cannot be read.
    """
    readers = dict(onnx=_from_onnx, export=_from_export, torchscript=_from_torchscript)
    if format not in readers:
        raise ValueError(f'format must be one of {", ".join(FORMATS)}, got {format!r}')
    return readers[format](
        source if isinstance(source, bytes) else Path(source).read_bytes()
    )


def _to_onnx(graph: DeployedGraph, images: Tensor, metadata: Mapping[str, Any]) -> bytes:
    _require('onnx')
    _require('onnxscript')
    weights = sum(value.nbytes for value in graph.state_dict().values())
    if weights >= _PROTOBUF_LIMIT:
        raise ValueError(
            f'the weights have {weights} bytes, a file of ONNX at most {_PROTOBUF_LIMIT}: '
            "use the format 'export'"
        )
    program = torch.onnx.export(
        graph,
        (images,),
        dynamo=True,
        verbose=False,
        input_names=['images'],
        output_names=list(graph.output_names),
        dynamic_shapes=(_DYNAMIC_AXES,),
    )
    assert program is not None, 'dynamo=True returns the program'
    model = program.model_proto
    _name_axes(model.graph)
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=json.dumps(value, ensure_ascii=False))
    return model.SerializeToString()


def _name_axes(graph: Any) -> None:
    """Call the dynamic axes of inputs and outputs 'batch', 'height' and 'width'."""
    (images,) = graph.input
    shape = images.type.tensor_type.shape.dim
    names = {shape[axis].dim_param: name for axis, name in _AXES.items()}
    for value in (images, *graph.output):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param in names:
                size.dim_param = names[size.dim_param]
    del graph.value_info[:]  # shapes in between, in the old names; runtimes infer them


def _from_onnx(content: bytes) -> ExportedNetwork:
    session = _require('onnxruntime').InferenceSession(
        content, providers=['CPUExecutionProvider']
    )
    properties = session.get_modelmeta().custom_metadata_map

    def run(images: Tensor) -> Tuple[Tensor, ...]:
        outputs = session.run(None, {'images': images.numpy()})
        return tuple(torch.from_numpy(value) for value in outputs)

    return ExportedNetwork(
        run, {key: json.loads(value) for key, value in properties.items()}
    )


def _to_export(graph: DeployedGraph, images: Tensor, metadata: Mapping[str, Any]) -> bytes:
    program = torch.export.export(graph, (images,), dynamic_shapes=(_DYNAMIC_AXES,))
    file = io.BytesIO()
    extra = {_METADATA: json.dumps(metadata, ensure_ascii=False)}
    torch.export.save(program, file, extra_files=extra)
    return file.getvalue()


def _from_export(content: bytes) -> ExportedNetwork:
    extra = {_METADATA: ''}
    program = torch.export.load(io.BytesIO(content), extra_files=extra)
    return ExportedNetwork(_as_function(program.module()), json.loads(extra[_METADATA]))


def _to_torchscript(
    graph: DeployedGraph, images: Tensor, metadata: Mapping[str, Any]
) -> bytes:
    file = io.BytesIO()
    extra = {_METADATA: json.dumps(metadata, ensure_ascii=False)}
    with warnings.catch_warnings():
        # PyTorch advises torch.export, which is here as well
        warnings.simplefilter('ignore', FutureWarning)
        warnings.simplefilter('ignore', DeprecationWarning)
        # What becomes a constant there is one: K, and that a grid is not its image.
        for module in (r'localization\.maps', r'models\.graph'):
            warnings.filterwarnings(
                'ignore', '', torch.jit.TracerWarning, rf'mmseg_more\.{module}'
            )
        # the check that tracing makes would run once more on the images of one size
        traced = torch.jit.trace(graph, images, check_trace=False)
        torch.jit.save(traced, file, _extra_files=extra)
    return file.getvalue()


def _from_torchscript(content: bytes) -> ExportedNetwork:
    extra = {_METADATA: ''}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', FutureWarning)
        warnings.simplefilter('ignore', DeprecationWarning)
        module = torch.jit.load(io.BytesIO(content), 'cpu', _extra_files=extra)
    return ExportedNetwork(_as_function(module), json.loads(extra[_METADATA]))


def _as_function(
    module: Callable[[Tensor], Union[Tensor, Sequence[Tensor]]],
) -> Callable[[Tensor], Tuple[Tensor, ...]]:
    """A module of one or several outputs as a function of several."""

    @torch.no_grad()
    def run(images: Tensor) -> Tuple[Tensor, ...]:
        outputs = module(images)
        return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)

    return run


def _require(package: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"the format 'onnx' needs the package {error.name}: "
            'pip install onnx onnxscript onnxruntime'
        ) from error
