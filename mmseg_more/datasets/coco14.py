"""COCO 2014 with image labels."""

import re
from typing import Optional, Sequence

from mmseg.registry import DATASETS

from .image_level_dataset import ImageLevelDataset, voc_palette

# in the order of COCO's category ids, which run to 90 with gaps
CLASSES = (
    'background',
    'person',
    'bicycle',
    'car',
    'motorcycle',
    'airplane',
    'bus',
    'train',
    'truck',
    'boat',
    'traffic light',
    'fire hydrant',
    'stop sign',
    'parking meter',
    'bench',
    'bird',
    'cat',
    'dog',
    'horse',
    'sheep',
    'cow',
    'elephant',
    'bear',
    'zebra',
    'giraffe',
    'backpack',
    'umbrella',
    'handbag',
    'tie',
    'suitcase',
    'frisbee',
    'skis',
    'snowboard',
    'sports ball',
    'kite',
    'baseball bat',
    'baseball glove',
    'skateboard',
    'surfboard',
    'tennis racket',
    'bottle',
    'wine glass',
    'cup',
    'fork',
    'knife',
    'spoon',
    'bowl',
    'banana',
    'apple',
    'sandwich',
    'orange',
    'broccoli',
    'carrot',
    'hot dog',
    'pizza',
    'donut',
    'cake',
    'chair',
    'couch',
    'potted plant',
    'bed',
    'dining table',
    'toilet',
    'tv',
    'laptop',
    'mouse',
    'remote',
    'keyboard',
    'cell phone',
    'microwave',
    'oven',
    'toaster',
    'sink',
    'refrigerator',
    'book',
    'clock',
    'vase',
    'scissors',
    'teddy bear',
    'hair drier',
    'toothbrush',
)


@DATASETS.register_module()
class COCO14ImageLevelDataset(ImageLevelDataset):
    """COCO 2014 (80 classes and background), used with its image labels.

    The labels come from ``annotations/instances_*.json`` (crowds included) or another
    label file. Images are identified by their number: ``COCO_val2014_000000000042.jpg``,
    ``000000000042.png`` and the line ``42`` of a split file mean the same image.

    Validation masks are PNGs with 0 = background, k = the k-th of the 80 classes (not
    COCO's category id) and 255 = ignored.

    Args:
        label_file: Instances JSON or a label file, below ``data_root``.
        ann_file: Split file below ``data_root``; empty: all images of the folder.
        data_prefix: ``img_path`` and, for validation, ``seg_map_path``.
        skip_unlabeled: Leave out images of no class, as is customary: that makes 82081
            of 82783 training and 40137 of 40504 validation images.
        kwargs: As in :class:`ImageLevelDataset`.
    """

    METAINFO = dict(classes=CLASSES, palette=voc_palette(len(CLASSES)))

    def __init__(
        self,
        label_file: str = 'annotations/instances_train2014.json',
        ann_file: str = '',
        data_prefix: Optional[dict] = None,
        skip_unlabeled: bool = True,
        **kwargs,
    ) -> None:
        super().__init__(
            ann_file=ann_file,
            label_file=label_file,
            data_prefix={'img_path': 'train2014', **(data_prefix or {})},
            skip_unlabeled=skip_unlabeled,
            **kwargs,
        )

    def _image_id(self, name: str, suffixes: Optional[Sequence[str]] = None) -> str:
        """The image's number in 12 digits; any other name as it is."""
        stem = super()._image_id(name, suffixes)
        number = re.search(r'(\d+)$', stem)
        return f'{int(number.group(1)):012d}' if number else stem
