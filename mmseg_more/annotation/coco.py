"""COCO's instances with run lengths, scores included."""

from pathlib import Path
from typing import Iterator, List, Tuple

import numpy as np

from ..datasets.preparation.coco_instances import read_instances
from ..datasets.preparation.coco_masks import draw_mask, import_mask_utils
from ..files import json_bytes
from .corrected import SPECIAL_LABELS, CorrectedMask, ImportSettings, check_number_of_pixels
from .source import MaskSource


def coco_files(source: MaskSource) -> Iterator[Tuple[str, bytes]]:
    """One JSON file: an annotation per class and image, ``category_id`` as in the masks.

    Raises:
        ImportError: If pycocotools is missing; says what to install.
    """
    coco_mask = import_mask_utils()
    images: List[dict] = []
    annotations: List[dict] = []
    for mask in source:
        height, width = mask.labels.shape
        image = dict(
            id=len(images) + 1,
            file_name=(source.prefix or '') + mask.image,
            height=height,
            width=width,
        )
        if mask.score is not None:
            image['score'] = mask.score
        images.append(image)
        for region in mask.regions:
            runs = coco_mask.encode(np.asfortranarray(region.pixels, np.uint8))
            annotation = dict(
                id=len(annotations) + 1,
                image_id=image['id'],
                category_id=region.label,
                segmentation=dict(size=[height, width], counts=runs['counts'].decode()),
                area=int(coco_mask.area(runs)),
                bbox=coco_mask.toBbox(runs).tolist(),
                iscrowd=0,
            )
            if region.score is not None:
                annotation['score'] = region.score
            annotations.append(annotation)
    categories = [
        dict(id=label, name=name) for label, name in source.named_labels().items()
    ]
    content = dict(images=images, annotations=annotations, categories=categories)
    yield 'instances.json', json_bytes(content)


def read_coco(path: Path, settings: ImportSettings) -> Iterator[CorrectedMask]:
    """The images of an instances file, larger objects beneath smaller ones.

    All images of the file count as annotated. Crowds are 255 and lie beneath all objects.

    Args:
        path: The JSON file.
        settings: What is known beside it.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If pycocotools or ijson is missing; says what to install.
        ValueError: If it is no instances file, or has an unknown category.
    """
    found = read_instances(path, settings.classes, SPECIAL_LABELS, with_folders=True)
    for name, size, regions in found:
        check_number_of_pixels(size, f'{path}, image {name!r}')
        labels = draw_mask(size, regions, uncovered=settings.uncovered)
        yield CorrectedMask(settings.image_name(name), labels)
