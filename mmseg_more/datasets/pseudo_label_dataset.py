"""Masks that a network wrote, in place of those of the truth."""

import json
import os.path as osp
from typing import Container, Dict, List, Optional

from mmseg.registry import DATASETS

from .image_labels import name_few
from .voc import VOCImageLevelDataset

_REMEDY = (
    'write the masks by `python tools/test.py CONFIG CHECKPOINT --pseudo-labels '
    'DIR --split train` (the same command again goes on where it stopped)'
)


@DATASETS.register_module()
class PseudoLabelDataset(VOCImageLevelDataset):
    """Images with the masks that :class:`PseudoLabelHook` wrote, for a second stage.

    No truth is read, and no image label: what a stock model needs is in the folder of the
    masks and in its ``manifest.json``. The masks count the classes of ``metainfo``, also
    where these are a choice of VOC's: so they were written, and the manifest says of which
    classes. Config example::

        dict(type='PseudoLabelDataset', pseudo_dir='work_dirs/demo/pseudo_labels',
             data_root='data/VOCdevkit/VOC2012',
             ann_file='ImageSets/Segmentation/train_aug.txt',
             pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadMask'), ...])

    Args:
        pseudo_dir: Folder of the masks; relative to the current folder, not to
            ``data_root``.
        ann_file: Split file below ``data_root``. Empty: every image below the image
            folder.
        data_prefix: ``img_path``, unless it is VOC's ``JPEGImages``.
        kwargs: As in :class:`VOCImageLevelDataset`, ``with_masks`` and
            ``mask_numbering`` aside, which are given.

    Each item of ``data_list`` has ``img_path``, ``img_id``, ``num_classes`` and
    ``seg_map_path``; masks hold 0 for background, ``k + 1`` for class ``k``.

    Raises:
        FileNotFoundError, ValueError: When built, if the folder or its manifest is
            missing, if the masks are of other classes, or if an image has none.
    """

    def __init__(
        self,
        pseudo_dir: str,
        ann_file: str = 'ImageSets/Segmentation/train.txt',
        data_prefix: Optional[dict] = None,
        **kwargs,
    ) -> None:
        self.pseudo_dir = pseudo_dir
        folders = dict(xml_path=None, **(data_prefix or {}))
        folders['seg_map_path'] = osp.abspath(pseudo_dir)
        super().__init__(
            ann_file=ann_file,
            data_prefix=folders,
            with_masks=True,
            mask_numbering='metainfo',
            **kwargs,
        )

    def load_data_list(self) -> List[dict]:
        """As in the base class, after a look into the manifest."""
        self._manifest = self._read_manifest()
        theirs, ours = self._manifest['classes'], list(self._metainfo['classes'])
        if list(theirs) != ours:
            raise ValueError(
                f'the masks in {self.pseudo_dir} are of {len(theirs)} classes '
                f'({name_few(theirs)}), this data set has {len(ours)} ({name_few(ours)}): '
                'choose the folder that fits, or set `metainfo`'
            )
        return super().load_data_list()

    def _read_manifest(self) -> dict:
        if not osp.isdir(self.pseudo_dir):
            raise FileNotFoundError(
                f'the folder of pseudo labels {self.pseudo_dir} does not exist: {_REMEDY}'
            )
        path = osp.join(self.pseudo_dir, 'manifest.json')
        try:
            with open(path, encoding='utf-8') as file:
                manifest = json.load(file)
        except FileNotFoundError:
            raise FileNotFoundError(
                f'{self.pseudo_dir} holds no manifest.json: {_REMEDY}; for masks of '
                'another origin use VOCImageLevelDataset with `with_masks=True`'
            ) from None
        except ValueError as error:
            raise ValueError(f'{path} is not valid JSON: {error}') from error
        if not isinstance(manifest, dict) or not {'classes', 'images'} <= manifest.keys():
            raise ValueError(f'{path} is not the manifest of a folder of masks: {_REMEDY}')
        return manifest

    def _find_masks(self, ids: List[str]) -> Dict[str, str]:
        """Masks that the manifest calls finished, by image ID."""
        files = self._find_files('seg_map_path', (self.seg_map_suffix,))
        done = self._manifest['images']
        missing = [
            image_id for image_id in ids if image_id not in done or image_id not in files
        ]
        if missing:
            failed = self._manifest.get('failed', {})
            known = [
                f'{image_id!r} failed ({failed[image_id]})'
                for image_id in missing
                if image_id in failed
            ]
            raise FileNotFoundError(
                f'{len(missing)} of {len(ids)} images have no finished mask in '
                f'{self.pseudo_dir}: {"; ".join(known[:3]) or name_few(missing)}: {_REMEDY}'
                '; take an image that cannot be read out of the split'
            )
        return files

    def _load_labels(self, ids: List[str], images: Container[str]) -> None:
        """None are needed."""
        return None
