"""The images that masks are made of, and what the masks are named."""

import os.path as osp
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ..datasets.image_labels import name_few
from ..files import leads_below


class MaskImage(NamedTuple):
    """One image of the data set."""

    position: int
    """Position in the data set."""
    name: str
    """Path of its mask below the folder of the masks, without suffix."""
    path: str
    """Path of the image file."""
    labels: Optional[Tuple[int, ...]]
    """Indices ``0..K-1`` of its image labels; None if there are none."""


def list_images(dataset: Any) -> List[MaskImage]:
    """The images of a data set, with the names of their masks.

    A mask is named after its image: the path below the image folder
    (``data_prefix['img_path']``), or ``img_id`` where the image lies elsewhere, or
    else (also if ``img_id`` leads out of a folder) the name of the file.

    Raises:
        ValueError: If it is no data set of MMEngine's kind, or two images would
            share a mask; names both.
    """
    if not hasattr(dataset, 'get_data_info'):
        raise ValueError(
            f"masks need a data set that lists its images, as MMSegmentation's "
            f'do; {type(dataset).__name__} has no `get_data_info`'
        )
    folder = getattr(dataset, 'data_prefix', {}).get('img_path')
    images: List[MaskImage] = []
    paths: Dict[str, str] = {}
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        name = _mask_name(info, folder)
        if name in paths:
            raise ValueError(
                f'{paths[name]} and {info["img_path"]} would share the mask '
                f'{name}.png: rename one of them, or make masks of one folder '
                'at a time'
            )
        paths[name] = info['img_path']
        labels = info.get('gt_label')
        images.append(
            MaskImage(
                index,
                name,
                info['img_path'],
                None if labels is None else tuple(int(i) for i in labels),
            )
        )
    return images


def _mask_name(info: dict, folder: Optional[str]) -> str:
    path = info['img_path']
    if folder:
        below = osp.relpath(path, folder)
        if leads_below(below):
            return osp.splitext(below)[0]
    image_id = str(info.get('img_id', ''))  # COCO's is a number
    return image_id if leads_below(image_id) else osp.splitext(osp.basename(path))[0]


def check_labels(images: List[MaskImage]) -> None:
    """Raise ValueError if image labels are missing."""
    missing = [image.path for image in images if image.labels is None]
    if missing:
        raise ValueError(
            f'{len(missing)} of {len(images)} images have no image labels '
            f'({name_few(missing)}): give the data set `label_file`, or let '
            "the model say which classes there are (policy='predicted')"
        )


def check_paths(images: List[MaskImage], masks: List[str]) -> None:
    """Raise ValueError if a mask would overwrite an image of the data set."""
    paths = {osp.realpath(image.path) for image in images}
    for mask in masks:
        if osp.realpath(mask) in paths:
            raise ValueError(
                f'the mask {mask} would overwrite an image of the '
                'data set: choose another folder for the masks'
            )
