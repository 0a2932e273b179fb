"""What users call from Python: inference, and conversion of checkpoint files."""

from .inference_results import ImageResult
from .inference_settings import InferenceSettings, make_settings
from .inferencer import MoReInferencer
from .model_conversion import (
    ConversionReport,
    class_names,
    convert_official_checkpoint,
    convert_vit_checkpoint,
    read_checkpoint,
    write_checkpoint,
)

__all__ = [
    'ConversionReport',
    'ImageResult',
    'InferenceSettings',
    'MoReInferencer',
    'class_names',
    'convert_official_checkpoint',
    'convert_vit_checkpoint',
    'make_settings',
    'read_checkpoint',
    'write_checkpoint',
]
