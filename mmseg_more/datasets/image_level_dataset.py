import logging
import os.path as osp
from collections import Counter
from typing import Dict, List, Optional, Sequence, Union

import cv2
import mmengine.fileio as fileio
import numpy as np
from mmengine.logging import print_log

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from .image_labels import label_indices, name_few, read_label_file, read_voc_annotation

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png')


def voc_palette(num_colors: int) -> List[List[int]]:
    """The first colours of PASCAL VOC: the bits of the index dealt to r, g, b in turn."""
    return [
        [
            sum((index >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8))
            for channel in range(3)
        ]
        for index in range(num_colors)
    ]


@DATASETS.register_module()
class ImageLevelDataset(BaseSegDataset):
    """Images with image labels: which classes an image shows, not where.

    Masks are for validation: unless ``with_masks``, no mask is opened, listed or even
    looked for, and the mask folder may be missing.

    The labels come from ``label_file`` (JSON or CSV, see
    :func:`~mmseg_more.datasets.image_labels.read_label_file`) or from VOC annotations
    ``ID.xml`` in ``data_prefix['xml_path']``. An image without any class is kept (its
    multi-hot vector is zero everywhere) unless ``skip_unlabeled``; the number of such
    images is logged.

    All files are looked up when the dataset is built, so that what is missing is known
    before training starts. Config example::

        dict(type='ImageLevelDataset', data_root='data/mine',
             data_prefix=dict(img_path='images', seg_map_path='masks'),
             label_file='labels.csv',
             metainfo=dict(classes=('background', 'crack', 'rust')), pipeline=[...])

    Args:
        ann_file: Split file: one image ID (path below the image folder without suffix)
            per line. Empty: every image below the image folder.
        label_file: JSON or CSV of image labels.
        with_masks: Whether samples carry ``seg_map_path``. None: as ``test_mode``.
        skip_unlabeled: Whether to leave out images without any class.
        img_suffix: Suffixes images may have, in lower case.
        metainfo: ``classes`` (background first) and, optionally, ``palette`` (VOC's
            colours unless given). A choice of the dataset's own classes leaves the other
            ones out; any other names replace them.
        data_prefix: ``img_path``, ``seg_map_path`` and ``xml_path`` below ``data_root``.
        kwargs: As in :class:`mmseg.datasets.BaseSegDataset`.

    Each item of ``data_list`` has ``img_path``, ``img_id``, ``num_classes`` (K, without
    background), with labels ``gt_label`` (sorted indices 0..K-1) and with masks
    ``seg_map_path``. Without any source of labels there is no ``gt_label``, which only
    ``test_mode`` permits.

    Raises:
        ValueError, FileNotFoundError: When built, if the split is empty, lists an image
            twice or one that does not exist, or if a label is missing or unknown.
    """

    def __init__(
        self,
        ann_file: str = '',
        label_file: str = '',
        with_masks: Optional[bool] = None,
        skip_unlabeled: bool = False,
        img_suffix: Union[str, Sequence[str]] = IMAGE_SUFFIXES,
        metainfo: Optional[dict] = None,
        data_prefix: Optional[dict] = None,
        test_mode: bool = False,
        **kwargs,
    ) -> None:
        self.label_file = label_file
        self.skip_unlabeled = skip_unlabeled
        self.with_masks = test_mode if with_masks is None else with_masks
        suffixes = (img_suffix,) if isinstance(img_suffix, str) else tuple(img_suffix)
        super().__init__(
            ann_file=ann_file,
            img_suffix=suffixes,
            metainfo=metainfo,
            data_prefix=dict(img_path='')
            if data_prefix is None
            else {k: v for k, v in data_prefix.items() if v is not None},
            test_mode=test_mode,
            **kwargs,
        )

    # ------------------------------------------------------------------ meta information

    @classmethod
    def _load_metainfo(cls, metainfo: Optional[dict] = None) -> dict:
        loaded = super()._load_metainfo(metainfo)
        classes = tuple(loaded.get('classes') or ())
        if len(classes) < 2 or classes[0] != 'background':
            raise ValueError(
                'metainfo `classes` must begin with "background", followed '
                f'by the foreground classes; got {classes}'
            )
        twice = [name for name, count in Counter(classes).items() if count > 1]
        if twice:
            raise ValueError(f'metainfo `classes` names {name_few(twice)} twice')
        loaded['classes'] = classes
        return loaded

    @classmethod
    def get_label_map(cls, new_classes: Optional[Sequence] = None) -> Optional[Dict]:
        """As in mmseg for a choice of the dataset's classes; None for other classes."""
        if set(new_classes or ()) <= set(cls.METAINFO.get('classes', ())):
            return super().get_label_map(new_classes)
        return None

    def _update_palette(self) -> list:
        classes = self._metainfo['classes']
        own = list(classes) == list(self.METAINFO.get('classes', ()))
        palette = self._metainfo.get('palette', [])
        inherited = palette == self.METAINFO.get('palette', []) and not own
        if palette and not (inherited and self.label_map is None):
            return super()._update_palette()
        return voc_palette(len(classes))

    @property
    def num_classes(self) -> int:
        """K, the number of foreground classes."""
        return len(self._metainfo['classes']) - 1

    # ------------------------------------------------------------------------ data list

    def _join_prefix(self) -> None:
        super()._join_prefix()
        if self.label_file and not osp.isabs(self.label_file):
            self.label_file = osp.join(self.data_root, self.label_file)

    def load_data_list(self) -> List[dict]:
        """Find the images, their labels and, if asked for, their masks."""
        images = self._find_files('img_path', self.img_suffix)
        ids = self._read_split(images) if self.ann_file else sorted(images)
        if not ids:
            raise ValueError(
                f'{self.ann_file} lists no image'
                if self.ann_file
                else f'no image ({", ".join(self.img_suffix)}) below '
                f'{self.data_prefix["img_path"]}'
            )
        labels = self._load_labels(ids)
        if labels is not None:
            ids = self._without_unlabeled(ids, labels)
        masks = self._find_masks(ids) if self.with_masks else None
        data_list = []
        for image_id in ids:
            info = dict(
                img_path=images[image_id],
                img_id=image_id,
                num_classes=self.num_classes,
                label_map=self.label_map,
                reduce_zero_label=self.reduce_zero_label,
                seg_fields=[],
            )
            if labels is not None:
                info['gt_label'] = labels[image_id]
            if masks is not None:
                info['seg_map_path'] = masks[image_id]
            data_list.append(info)
        return data_list

    def _image_id(self, name: str, suffixes: Optional[Sequence[str]] = None) -> str:
        """The ID of an image from a file name, or from a line that may hold a suffix."""
        for suffix in suffixes or self.img_suffix:
            if name.lower().endswith(suffix):
                return name[: -len(suffix)]
        return name

    def _find_files(self, prefix: str, suffixes: Sequence[str]) -> Dict[str, str]:
        """The files with one of the suffixes below a folder, by image ID."""
        folder = self.data_prefix.get(prefix)
        if not folder:
            raise ValueError(
                f'`data_prefix` must name the folder {prefix!r}, got {self.data_prefix}'
            )
        if not fileio.isdir(folder, backend_args=self.backend_args):
            raise FileNotFoundError(
                f'the folder {folder} ({prefix}) does not exist; '
                'correct `data_root` or `data_prefix`'
            )
        found: Dict[str, str] = {}
        for name in fileio.list_dir_or_file(
            folder, list_dir=False, recursive=True, backend_args=self.backend_args
        ):
            if not name.lower().endswith(tuple(suffixes)):
                continue
            image_id = self._image_id(name, suffixes)
            if image_id in found:
                raise ValueError(
                    f'two files for {image_id!r}: {found[image_id]} and '
                    f'{osp.join(folder, name)}; keep one'
                )
            found[image_id] = osp.join(folder, name)
        return found

    def _read_split(self, images: Dict[str, str]) -> List[str]:
        if not fileio.isfile(self.ann_file, backend_args=self.backend_args):
            raise FileNotFoundError(
                f'the split file {self.ann_file} does not exist; '
                'correct `ann_file`, relative to `data_root`'
            )
        text = fileio.get_text(self.ann_file, backend_args=self.backend_args)
        ids = [self._image_id(line.strip()) for line in text.splitlines() if line.strip()]
        twice = [image_id for image_id, count in Counter(ids).items() if count > 1]
        if twice:
            raise ValueError(
                f'{self.ann_file} lists {len(twice)} images more than once: '
                f'{name_few(twice)}; remove the repetitions'
            )
        missing = [image_id for image_id in ids if image_id not in images]
        if missing:
            raise FileNotFoundError(
                f'{self.ann_file} lists {len(missing)} of {len(ids)} images that do not '
                f'exist in {self.data_prefix["img_path"]}: {name_few(missing)}; complete '
                'the folder or take them out of the split'
            )
        return ids

    def _find_masks(self, ids: List[str]) -> Dict[str, str]:
        masks = self._find_files('seg_map_path', (self.seg_map_suffix,))
        missing = [image_id for image_id in ids if image_id not in masks]
        if missing:
            raise FileNotFoundError(
                f'{len(missing)} of {len(ids)} images have no mask '
                f'({self.seg_map_suffix}) in {self.data_prefix["seg_map_path"]}: '
                f'{name_few(missing)}; add them, or set `with_masks=False` to do without'
            )
        return masks

    def _load_labels(self, ids: List[str]) -> Optional[Dict[str, List[int]]]:
        """Label indices by image ID, None if there is no source of labels."""
        source = self.label_file or self.data_prefix.get('xml_path')
        if self.label_file:
            found = {
                self._image_id(key): names for key, names in read_label_file(source).items()
            }
        elif source:
            found = self._find_files('xml_path', ('.xml',))
        elif self.test_mode:
            return None
        else:
            raise ValueError(
                'training needs image labels: give `label_file`, or '
                '`xml_path` in `data_prefix`'
            )
        missing = [image_id for image_id in ids if image_id not in found]
        if missing:
            raise ValueError(
                f'{source} has no labels for {len(missing)} of {len(ids)} images: '
                f'{name_few(missing)}; add them (an empty list for no class)'
            )
        if not self.label_file:
            found = {image_id: read_voc_annotation(found[image_id]) for image_id in ids}
        foreground = self._metainfo['classes'][1:]
        unused = set(self.METAINFO.get('classes', ())[1:]) if self.label_map else set()
        return {
            image_id: label_indices(
                found[image_id], foreground, unused, f'{source}, image {image_id!r}'
            )
            for image_id in ids
        }

    def _without_unlabeled(self, ids: List[str], labels: Dict[str, list]) -> List[str]:
        """Drop or keep the images of no class, and log how many there are."""
        empty = [image_id for image_id in ids if not labels[image_id]]
        if not empty:
            return ids
        print_log(
            f'{len(empty)} of {len(ids)} images have no class at all '
            f'({name_few(empty)}): '
            + (
                'left out'
                if self.skip_unlabeled
                else 'kept, with labels of zero everywhere'
            ),
            logger='current',
            level=logging.WARNING,
        )
        return [i for i in ids if labels[i]] if self.skip_unlabeled else ids

    # --------------------------------------------------------------------------- loading

    def prepare_data(self, idx: int):
        """Run the pipeline; if it fails on a broken file, say which file it is."""
        try:
            return super().prepare_data(idx)
        except Exception as error:
            self._raise_if_broken(self.get_data_info(idx), error)
            raise

    def _raise_if_broken(self, info: dict, error: Exception) -> None:
        for key in ('img_path', 'seg_map_path'):
            if key not in info:
                continue
            content = fileio.get(info[key], backend_args=self.backend_args)
            if (
                not content
                or cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
                is None
            ):
                raise ValueError(
                    f'{info[key]} ({len(content)} bytes) does not decode as an image; '
                    'replace the file or take it out of the split'
                ) from error
