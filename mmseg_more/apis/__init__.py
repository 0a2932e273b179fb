"""What users call from Python: conversion of checkpoint files."""
from .model_conversion import (ConversionReport, class_names,
                               convert_official_checkpoint,
                               convert_vit_checkpoint, read_checkpoint,
                               write_checkpoint)

__all__ = [
    'ConversionReport', 'class_names', 'convert_official_checkpoint',
    'convert_vit_checkpoint', 'read_checkpoint', 'write_checkpoint'
]
