"""Measurements of the training step, of the maps and of the data pipeline.

Used by ``tools/analysis/benchmark_*.py``; nothing else of the package needs it.
"""
