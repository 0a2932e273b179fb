"""MoRe as a file for other runtimes: ONNX, ``torch.export``, TorchScript."""

from .formats import FORMATS, SUFFIXES, export_network, load_exported, serialize
from .graphs import DeployedGraph, LocalizationGraph, SegmentationGraph
from .metadata import describe
from .verification import TOLERANCE, largest_difference

__all__ = [
    'FORMATS',
    'SUFFIXES',
    'TOLERANCE',
    'DeployedGraph',
    'LocalizationGraph',
    'SegmentationGraph',
    'describe',
    'export_network',
    'largest_difference',
    'load_exported',
    'serialize',
]
