"""A folder of images and what each of them shows."""

import logging
import os.path as osp
from collections import Counter
from typing import Container, Dict, List, Optional, Sequence, Union

import cv2
import mmengine.fileio as fileio
import numpy as np
import torch
from mmengine.logging import print_log

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from ..image_files import IMAGE_SUFFIXES, decode_image, files_below
from .image_labels import label_indices, name_few, read_label_file, read_voc_annotation
from .mask_file import check_image_labels, read_corrected_mask, read_mask_file
from .transforms import with_corrected_masks

PREFIXES = ('img_path', 'seg_map_path', 'xml_path')
"""What `data_prefix` of a dataset may name."""
MASK_NUMBERINGS = ('metainfo', 'dataset')
# Masks are PNGs of 8 bits whose value 255 stands for "ignored": 0 is background, and 254
# the last class.
MAX_CLASSES = 254


def voc_palette(num_colors: int) -> List[List[int]]:
    """The first colours of PASCAL VOC: the bits of the index dealt to r, g, b in turn."""
    return [
        [
            sum((index >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8))
            for channel in range(3)
        ]
        for index in range(num_colors)
    ]


class BrokenImage(ValueError):
    """A file of a sample cannot be read, or is no image."""


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
        metainfo: ``classes`` (background first, 254 others at most) and, optionally,
            ``palette`` (VOC's colours unless given). A choice of the dataset's own classes
            leaves the other ones out; any other names replace them.
        mask_numbering: What the values of the masks count: ``'metainfo'``, the classes of
            ``metainfo``; ``'dataset'``, all classes that the dataset itself has (VOC's 20,
            whatever is chosen of them). The names cannot tell masks of one's own, with
            VOC's class names, from a choice of VOC's classes in VOC's masks: where masks
            are read and ``metainfo`` chooses or reorders classes of the dataset, it must be
            said. None where it does not.
        mask_file: ``masks.json`` of corrected masks
            (:mod:`~mmseg_more.datasets.mask_file`), relative to the current folder: where a
            person has labelled the pixels of a training image, they are labels of its
            segmentation losses. The masks count the classes of ``metainfo``. Not read in
            ``test_mode``. None: no image has one.
        max_broken: Share of the images, in [0, 1], that may turn out to be unreadable in
            training. Each is left out, with a warning, and another image takes its place;
            beyond this share, and outside of training, a broken image is an error.
        data_prefix: ``img_path``, ``seg_map_path`` and ``xml_path`` below ``data_root``.
        kwargs: As in :class:`mmseg.datasets.BaseSegDataset`.

    Each item of ``data_list`` has ``img_path``, ``img_id``, ``num_classes`` (K, without
    background), with labels ``gt_label`` (sorted indices 0..K-1), with masks
    ``seg_map_path``, and those of ``mask_file`` ``corrected_mask``. Without any source of
    labels there is no ``gt_label``, which only ``test_mode`` permits.

    Raises:
        ValueError, FileNotFoundError: When built, if the split is empty, lists an image
            twice or one that does not exist, if a label is missing or unknown, if there
            are too many classes, if the masks could be numbered in two ways, or if a
            corrected mask does not fit its image, its labels or the pipeline.
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
        mask_numbering: Optional[str] = None,
        mask_file: Optional[str] = None,
        max_broken: float = 0.01,
        lazy_init: bool = False,
        **kwargs,
    ) -> None:
        self.label_file = label_file
        self.mask_file = None if test_mode else mask_file
        if self.mask_file is not None:
            if with_masks:
                raise ValueError(
                    '`with_masks` and `mask_file` both give an image a mask: leave one out'
                )
            kwargs['pipeline'] = with_corrected_masks(kwargs.get('pipeline', ()))
        self.skip_unlabeled = skip_unlabeled
        self.with_masks = test_mode if with_masks is None else with_masks
        self.mask_numbering = mask_numbering
        if not 0 <= max_broken <= 1:
            raise ValueError(f'`max_broken` is a share in [0, 1], got {max_broken}')
        unknown = set(data_prefix or ()) - set(PREFIXES)
        if unknown:
            raise ValueError(
                f'`data_prefix` names folders {list(PREFIXES)}, got {sorted(unknown)}'
            )
        self.max_broken = max_broken
        self._is_broken: Optional[torch.Tensor] = None
        suffixes = (img_suffix,) if isinstance(img_suffix, str) else tuple(img_suffix)
        super().__init__(
            ann_file=ann_file,
            img_suffix=suffixes,
            metainfo=metainfo,
            data_prefix=dict(img_path='')
            if data_prefix is None
            else {k: v for k, v in data_prefix.items() if v is not None},
            test_mode=test_mode,
            # the files are looked up below, when it is known what the masks count
            lazy_init=True,
            **kwargs,
        )
        self.label_map = self._metainfo['label_map'] = self._mask_label_map()
        if not lazy_init:
            self.full_init()

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
        if len(classes) > MAX_CLASSES + 1:
            raise ValueError(
                f'metainfo `classes` names {len(classes) - 1} classes beside the '
                f'background; masks of 8 bits, with 255 for "ignored", tell {MAX_CLASSES} '
                'apart at most'
            )
        loaded['classes'] = classes
        return loaded

    @classmethod
    def get_label_map(cls, new_classes: Optional[Sequence] = None) -> Optional[Dict]:
        """As in mmseg for a choice of the dataset's classes; None for other classes."""
        if set(new_classes or ()) <= set(cls.METAINFO.get('classes', ())):
            return super().get_label_map(new_classes)
        return None

    def _mask_label_map(self) -> Optional[Dict[int, int]]:
        """New value by old value of the masks; None where they stay as they are."""
        numbering = self.mask_numbering
        if numbering not in (None, *MASK_NUMBERINGS):
            raise ValueError(
                f'`mask_numbering` must be one of {MASK_NUMBERINGS} or None, got '
                f'{numbering!r}'
            )
        own, chosen = self.METAINFO.get('classes', ()), self._metainfo['classes']
        if numbering == 'dataset' and not set(chosen) <= set(own):
            raise ValueError(
                f"`mask_numbering='dataset'` needs a choice of the {len(own)} classes of "
                f'{type(self).__name__}; the classes are {name_few(chosen)}'
            )
        return None if numbering == 'metainfo' else self.get_label_map(chosen)

    def _check_mask_numbering(self) -> None:
        if self.mask_numbering is None and self.label_map is not None:
            own, chosen = self.METAINFO['classes'], self._metainfo['classes']
            name = chosen[-1]
            raise ValueError(
                f'`metainfo` chooses or reorders classes of {type(self).__name__}, and the '
                'masks may count either. Masks that come with the dataset count all its '
                f'{len(own) - 1} classes ({name!r} is {own.index(name)}): set '
                "`mask_numbering='dataset'`. Masks of your own count those of `metainfo` "
                f"({name!r} is {chosen.index(name)}): set `mask_numbering='metainfo'`."
            )

    def _update_palette(self) -> list:
        own, chosen = self.METAINFO.get('classes', ()), self._metainfo['classes']
        palette = self._metainfo.get('palette') or []
        if not palette or palette == self.METAINFO.get('palette'):
            if not set(chosen) <= set(own):
                return voc_palette(len(chosen))
            colors = self.METAINFO.get('palette') or voc_palette(len(own))
            return [colors[own.index(name)] for name in chosen]
        return super()._update_palette()

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
        if self.with_masks:
            self._check_mask_numbering()
        images = self._find_files('img_path', self.img_suffix)
        ids = self._read_split(images) if self.ann_file else sorted(images)
        if not ids:
            raise ValueError(
                f'{self.ann_file} lists no image'
                if self.ann_file
                else f'no image ({", ".join(self.img_suffix)}) below '
                f'{self.data_prefix["img_path"]}'
            )
        labels = self._load_labels(ids, images)
        if labels is not None:
            ids = self._without_unlabeled(ids, labels)
        masks = self._find_masks(ids) if self.with_masks else None
        corrected = self._find_corrected(ids, images, labels or {})
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
            if image_id in corrected:
                info['corrected_mask'] = corrected[image_id]
            data_list.append(info)
        return data_list

    def _image_id(self, name: str, suffixes: Optional[Sequence[str]] = None) -> str:
        """The ID of an image from the name of its file; one without a suffix stays."""
        for suffix in suffixes or self.img_suffix:
            if name.lower().endswith(suffix.lower()):
                return name[: -len(suffix)]
        return name

    def _named_id(self, name: str, images: Container[str]) -> str:
        """The ID of an image that a list or label file names, with suffix or without.

        What is an image's ID as it stands is that one: ``photo.jpg`` of ``photo.jpg.png``.
        """
        return name if name in images else self._image_id(name)

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
        others: List[str] = []
        names = (
            files_below(folder)  # a link may lead to a folder around it
            if osp.isdir(folder)
            else fileio.list_dir_or_file(
                folder, list_dir=False, recursive=True, backend_args=self.backend_args
            )
        )
        for name in names:
            if not name.lower().endswith(tuple(suffix.lower() for suffix in suffixes)):
                others.append(name)
                continue
            image_id = self._image_id(name, suffixes)
            if image_id in found:
                raise ValueError(
                    f'two files for {image_id!r}: {found[image_id]} and '
                    f'{osp.join(folder, name)}; keep one'
                )
            found[image_id] = osp.join(folder, name)
        if others and prefix == 'img_path':
            print_log(
                f'{len(others)} files in {folder} are left out, as they are not '
                f'{", ".join(suffixes)}: {name_few(sorted(others))}',
                logger='current',
                level=logging.WARNING,
            )
        return found

    def _read_split(self, images: Dict[str, str]) -> List[str]:
        if not fileio.isfile(self.ann_file, backend_args=self.backend_args):
            raise FileNotFoundError(
                f'the split file {self.ann_file} does not exist; '
                'correct `ann_file`, relative to `data_root`'
            )
        content = fileio.get(self.ann_file, backend_args=self.backend_args)
        try:
            text = content.decode('utf-8-sig')  # Windows may begin it with a mark
        except UnicodeDecodeError as error:
            raise ValueError(
                f'the split file {self.ann_file} is not text in UTF-8 ({error}); save it '
                'as UTF-8'
            ) from error
        lines = [line.rstrip('\r') for line in text.split('\n')]
        ids = [
            line if line in images else self._named_id(line.strip(), images)
            for line in lines
            if line.strip()
        ]
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
                f'{name_few(missing)}; add them, or set `with_masks=False` to do without '
                '(the pipeline then has no LoadAnnotations, and the evaluator no metric '
                'that compares with masks)'
            )
        return masks

    def _find_corrected(
        self, ids: List[str], images: Dict[str, str], labels: Dict[str, List[int]]
    ) -> Dict[str, str]:
        """Paths of the corrected masks by image ID, each compared with image and labels.

        Args:
            ids: The images of the split.
            images: Paths of all images of the folder by ID.
            labels: Label indices by image ID.
        """
        if self.mask_file is None:
            return {}
        classes = self._metainfo['classes']
        content = read_mask_file(self.mask_file)
        if content.classes != list(classes):
            raise ValueError(
                f'the masks of {self.mask_file} are of the {len(content.classes)} classes '
                f'{name_few(content.classes, 10)}, this data set has {len(classes)}, '
                f'{name_few(classes, 10)}: import them with the classes of the data set'
            )
        masks = {self._named_id(name, images): path for name, path in content.masks.items()}
        unknown = [image_id for image_id in masks if image_id not in images]
        if unknown or len(masks) < len(content.masks):
            problem = (
                f'of images that are not in {self.data_prefix["img_path"]}: '
                f'{name_few(unknown)}'
                if unknown
                else 'twice for an image, with and without suffix'
            )
            raise ValueError(f'{self.mask_file} names masks {problem}; correct its entries')
        in_split = [image_id for image_id in ids if image_id in masks]
        for image_id in in_split:
            self._check_corrected(
                masks[image_id],
                images[image_id],
                labels[image_id],
                f'{self.mask_file}, image {image_id!r}',
            )
        print_log(
            f'{self.mask_file}: {len(in_split)} of {len(ids)} images have a corrected mask'
            + (
                f'; {len(masks) - len(in_split)} others are not in the split'
                if len(in_split) < len(masks)
                else ''
            ),
            logger='current',
            level=logging.INFO if in_split else logging.WARNING,
        )
        return {image_id: masks[image_id] for image_id in in_split}

    def _check_corrected(
        self, mask_path: str, image_path: str, image_labels: List[int], where: str
    ) -> None:
        """Raise ValueError unless a mask fits its image and the labels of it."""
        mask = read_corrected_mask(mask_path, self.num_classes)
        check_image_labels(mask, image_labels, self._metainfo['classes'][1:], where)
        image = decode_image(fileio.get(image_path, self.backend_args))
        if image is not None and mask.shape != image.shape[:2]:  # None: left out later
            raise ValueError(
                f'{where}: the mask has {mask.shape[0]}x{mask.shape[1]} pixels, the image '
                f'{image.shape[0]}x{image.shape[1]}: correct the image that is trained on'
            )

    def _load_labels(
        self, ids: List[str], images: Container[str]
    ) -> Optional[Dict[str, List[int]]]:
        """Label indices by image ID, None if there is no source of labels.

        Args:
            ids: The images of the split.
            images: All IDs that the folder holds.
        """
        classes, own = self._metainfo['classes'], self.METAINFO.get('classes', ())
        unused = set(own) - set(classes) if set(classes) <= set(own) else set()
        if self.label_file:
            source = self.label_file
            keys = read_label_file(source)
            image_ids = [self._named_id(key, images) for key in keys]
            labels = dict(zip(image_ids, keys.values()))
            if len(labels) < len(keys):
                counts = Counter(image_ids)
                twice = [image_id for image_id, count in counts.items() if count > 1]
                raise ValueError(
                    f'{source} lists {len(twice)} images more than once, with and without '
                    f'suffix: {name_few(twice)}; keep one line of each'
                )
            self._check_labelled(ids, labels, source)
            self._name_labels_without_image(labels, images, {*classes[1:], *unused})
        elif self.data_prefix.get('xml_path'):
            source = self.data_prefix['xml_path']
            annotations = self._find_files('xml_path', ('.xml',))
            self._check_labelled(ids, annotations, source)
            labels = {
                image_id: read_voc_annotation(annotations[image_id]) for image_id in ids
            }
        elif self.test_mode:
            return None
        else:
            raise ValueError(
                'training needs image labels: give `label_file`, or '
                '`xml_path` in `data_prefix`'
            )
        return {
            image_id: label_indices(
                labels[image_id], classes[1:], unused, f'{source}, image {image_id!r}'
            )
            for image_id in ids
        }

    @staticmethod
    def _check_labelled(ids: List[str], labelled: Container[str], source: str) -> None:
        missing = [image_id for image_id in ids if image_id not in labelled]
        if missing:
            raise ValueError(
                f'{source} has no labels for {len(missing)} of {len(ids)} images: '
                f'{name_few(missing)}; add them (an empty list for no class)'
            )

    def _name_labels_without_image(
        self, labels: Dict[str, List[str]], images: Container[str], known: Container[str]
    ) -> None:
        """Log which labels are of no image in the folder, and what is odd about them."""
        orphans = [image_id for image_id in labels if image_id not in images]
        if not orphans:
            return
        names = dict.fromkeys(name for image_id in orphans for name in labels[image_id])
        unknown = [name for name in names if name not in known]
        print_log(
            f'{self.label_file} has labels of {len(orphans)} images that are not in '
            f'{self.data_prefix["img_path"]}, and are passed over: {name_few(orphans)}'
            + (f'; their classes {name_few(unknown)} are not known' if unknown else ''),
            logger='current',
            level=logging.WARNING,
        )

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

    def full_init(self) -> None:
        """Look up all files."""
        super().full_init()
        if self._is_broken is None:
            # shared with the processes that load: each sees what the others have found
            self._is_broken = torch.zeros(len(self), dtype=torch.bool).share_memory_()

    def broken_images(self) -> List[str]:
        """Paths of the images that training has left out so far, in any process."""
        if self._is_broken is None:
            return []
        indices = self._is_broken.nonzero().flatten().tolist()
        return [self.get_data_info(index)['img_path'] for index in indices]

    def prepare_data(self, idx: int) -> Optional[dict]:
        """Run the pipeline.

        Returns:
            The sample; None for a broken one in training, for which ``__getitem__`` takes
            another.

        Raises:
            BrokenImage: If a file of the sample is broken and that is not to be passed
                over; names it.
        """
        try:
            return super().prepare_data(idx)
        except Exception as error:
            info = self.get_data_info(idx)
            problem = self._broken_file(info)
            if problem is None:
                self._raise_if_squeezed(info, error)
                raise
            if self.test_mode or self._is_broken is None:
                raise BrokenImage(
                    f'{problem}; replace the file or take it out of the split'
                ) from error
            self._leave_out(idx, problem, error)
            return None

    def _leave_out(self, index: int, problem: str, error: Exception) -> None:
        """Count a broken sample, and raise if there are too many."""
        assert self._is_broken is not None
        first = not self._is_broken[index]
        self._is_broken[index] = True
        broken, allowed = self.broken_images(), int(self.max_broken * len(self))
        if len(broken) > allowed:
            raise BrokenImage(
                f'{problem}; replace the file or take it out of the split. (Of {len(self)} '
                f'images {len(broken)} are broken, {name_few(broken)}; '
                f'`max_broken={self.max_broken}` allows {allowed}.)'
            ) from error
        if first:
            print_log(
                f'{problem}: left out, {len(broken)} of {allowed} that may be',
                logger='current',
                level=logging.WARNING,
            )

    def _broken_file(self, info: dict) -> Optional[str]:
        """What is wrong with a file of the sample; None: each is an image."""
        for key in ('img_path', 'seg_map_path'):
            if key not in info:
                continue
            try:
                content = fileio.get(info[key], backend_args=self.backend_args)
            except OSError as error:
                return f'{info[key]} cannot be read ({error.strerror or error})'
            decode = decode_image if key == 'img_path' else _decode
            if not content or decode(content) is None:
                return f'{info[key]} ({len(content)} bytes) does not decode as an image'
        return None

    def _raise_if_squeezed(self, info: dict, error: Exception) -> None:
        if 'seg_map_path' not in info:
            return
        mask = _decode(fileio.get(info['seg_map_path'], backend_args=self.backend_args))
        if mask is not None and 1 in mask.shape[:2]:
            raise ValueError(
                f'{info["seg_map_path"]} has {mask.shape[0]}x{mask.shape[1]} pixels, and '
                "LoadAnnotations drops a side of one pixel: use dict(type='LoadMask') "
                f'in its place in the pipeline ({error})'
            ) from error


def _decode(content: bytes) -> Optional[np.ndarray]:
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
