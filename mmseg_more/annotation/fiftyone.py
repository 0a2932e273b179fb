"""FiftyOne: samples with `Segmentation` masks, as ``LegacyFiftyOneDataset`` reads them."""

import base64
import io
import zlib
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np

from ..files import json_bytes
from .source import MaskSource


def fiftyone_files(source: MaskSource) -> Iterator[Tuple[str, bytes]]:
    """``samples.json`` and ``metadata.json``.

    A sample has ``prediction`` (the mask), ``score`` of the image, and the scores of its
    classes as ``class_scores``.
    """
    if source.prefix is not None:
        prefix = source.prefix
    elif source.images is not None:
        prefix = f'{Path(source.images).resolve().as_posix()}/'
    else:
        prefix = 'data/'
    samples: List[dict] = []
    for mask in source:
        scores = [
            dict(_cls='Classification', label=region.name, confidence=region.score)
            for region in mask.regions
            if region.score is not None
        ]
        sample: Dict[str, Any] = dict(
            filepath=prefix + mask.image,
            prediction=dict(_cls='Segmentation', mask=_packed(mask.labels)),
            class_scores=dict(_cls='Classifications', classifications=scores),
        )
        if mask.score is not None:
            sample['score'] = mask.score
        samples.append(sample)
    yield 'samples.json', json_bytes(dict(samples=samples))
    targets = {0: source.classes[0], **source.named_labels()}
    info = dict(
        classes=dict(prediction=list(targets.values())),
        mask_targets=dict(prediction={str(label): name for label, name in targets.items()}),
    )
    metadata = dict(media_type='image', info=info)
    yield 'metadata.json', json_bytes(metadata)


def _packed(labels: np.ndarray) -> dict:
    """An array as FiftyOne's data base holds it, in MongoDB's extended JSON."""
    buffer = io.BytesIO()
    np.save(buffer, labels, allow_pickle=False)
    text = base64.b64encode(zlib.compress(buffer.getvalue())).decode()
    return {'$binary': {'base64': text, 'subType': '00'}}
