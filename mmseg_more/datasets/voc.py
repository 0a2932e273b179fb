"""PASCAL VOC 2012 with image labels."""

from typing import Optional

from mmseg.datasets import PascalVOCDataset
from mmseg.registry import DATASETS

from .image_level_dataset import ImageLevelDataset


@DATASETS.register_module()
class VOCImageLevelDataset(ImageLevelDataset):
    """A folder in the layout of PASCAL VOC 2012, used with its image labels.

    ``ImageSets/Segmentation/*.txt`` list the images, ``Annotations/ID.xml`` give the
    labels (all objects, the difficult ones too) unless a ``label_file`` is given, and
    ``SegmentationClass/ID.png`` the masks for validation. The classes are VOC's 20 and
    background; ``metainfo`` chooses some of them, or replaces them for another dataset in
    this layout. A choice of VOC's classes for validation says what the masks count::

        # VOC's own masks, in which a dog is 12: it becomes 2, a horse becomes 255
        dict(type='VOCImageLevelDataset', data_root='data/VOCdevkit/VOC2012',
             metainfo=dict(classes=('background', 'cat', 'dog')),
             mask_numbering='dataset', ...)
        # masks of your own, in which a dog is 2
        dict(type='VOCImageLevelDataset', data_root='data/mine',
             metainfo=dict(classes=('background', 'cat', 'dog')),
             mask_numbering='metainfo', ...)

    Args:
        ann_file: Split file below ``data_root``.
        data_prefix: Folders that differ from the layout (``img_path``, ``seg_map_path``,
            ``xml_path``).
        kwargs: As in :class:`ImageLevelDataset`.
    """

    METAINFO = dict(PascalVOCDataset.METAINFO)
    LAYOUT = dict(
        img_path='JPEGImages', seg_map_path='SegmentationClass', xml_path='Annotations'
    )

    def __init__(
        self,
        ann_file: str = 'ImageSets/Segmentation/train.txt',
        data_prefix: Optional[dict] = None,
        **kwargs,
    ) -> None:
        super().__init__(
            ann_file=ann_file, data_prefix={**self.LAYOUT, **(data_prefix or {})}, **kwargs
        )
