"""Segmentations of VOC's test images, packed as the evaluation server takes them."""

import gzip
import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence

import numpy as np
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image

from mmseg.datasets import PascalVOCDataset
from mmseg.registry import HOOKS

from ..datasets.image_labels import name_few
from .config import prepare_mask_run
from .folder import MaskFolder
from .hook import PseudoLabelHook
from .images import MaskImage
from .recipe import MaskRecipe

ARCHIVES = ('.tgz', '.tar.gz', '.zip')
"""Suffixes that an export may have."""
COMPETITIONS = ('comp5', 'comp6')
"""Trained on VOC's own data alone; on any data, pretraining included."""


@HOOKS.register_module()
class VOCExportHook(PseudoLabelHook):
    """Write the file that is uploaded to the server of PASCAL VOC 2012.

    ``tools/test.py CONFIG CHECKPOINT --export-voc FILE`` puts it into the config
    (:func:`use_voc_export`). The segmentation of every image of the split, at the
    image's size, goes to ``results/VOC2012/Segmentation/comp6_test_cls/ID.png`` in
    a folder beside FILE (its name without suffix), which works as that of
    :class:`PseudoLabelHook`: with :class:`MaskLoop`, interrupted runs go on and processes
    share the images out. When every image is there, and nothing else, all masks are read
    again and checked, and FILE is written: the tree ``results/...``.

    Args:
        out_file: FILE, ending in .tgz, .tar.gz or .zip.
        competition: 'comp6' (trained on any data) or 'comp5'.
        options: Of :class:`PseudoLabelHook`: ``multi_scale``, ``scales``, ``crf``,
            ``num_workers``, ``backend_args``. The masks are of the segmentation, with all
            classes.

    Raises:
        ValueError: If FILE ends in something else, or the data set has not VOC's
            20 classes.
    """

    def __init__(self, out_file: str, competition: str = 'comp6', **options: Any) -> None:
        suffix = archive_suffix(out_file)
        if competition not in COMPETITIONS:
            raise ValueError(
                f'competition must be one of {", ".join(COMPETITIONS)}, got {competition!r}'
            )
        root = out_file[: -len(suffix)]
        super().__init__(root, source='seg', policy='all', **options)
        self.out_file = Path(out_file)
        self.folder = MaskFolder(
            root, f'results/VOC2012/Segmentation/{competition}_test_cls'
        )

    def check_data(
        self, meta: Mapping[str, Any], images: List[MaskImage], recipe: MaskRecipe
    ) -> None:
        """Raise ValueError if these are not VOC's classes, or IDs have folders."""
        expected = PascalVOCDataset.METAINFO['classes']
        if tuple(meta['classes']) != expected:
            wrong = [name for name in meta['classes'] if name not in expected]
            raise ValueError(
                f"the server evaluates background and VOC's {len(expected) - 1} "
                f'classes in their order; the data set has '
                f'{len(meta["classes"]) - 1} others ({name_few(wrong)})'
            )
        below = [image.name for image in images if '/' in image.name]
        if below:
            raise ValueError(
                f'the server wants ID.png in one folder, these images '
                f'lie in folders of their own: {name_few(below)}'
            )
        super().check_data(meta, images, recipe)

    def complete(self, runner: Runner) -> None:
        """Check all masks, and pack them."""
        masks: Dict[str, bytes] = {}
        for image in self.images:
            content = self.folder.mask_path(image.name).read_bytes()
            _check_mask(
                content,
                self.folder.entry(image.name)['size'],
                self.folder.mask_path(image.name),
            )
            masks[f'{image.name}.png'] = content
        extra = sorted({path.name for path in self.folder.masks.iterdir()} - {*masks})
        if extra:
            raise ValueError(
                f'{self.folder.masks} holds {len(extra)} files that are not of '
                f'this split: {name_few(extra)}; remove them, or export to another '
                'file, and start the same command again'
            )
        below = self.folder.masks.relative_to(self.folder.root).as_posix()
        self.folder.write(
            self.out_file,
            pack(
                {f'{below}/{name}': content for name, content in masks.items()},
                archive_suffix(self.out_file.name),
            ),
        )
        runner.logger.info(
            f'VOCExportHook: {self.out_file} holds the masks of {len(masks)} images'
        )


def use_voc_export(cfg: Config, out_file: str, split: str = 'test', **options: Any) -> None:
    """Have ``Runner.test`` export for the VOC server instead of evaluating.

    Neither masks nor image labels are needed. The server's images are those of
    ``test_dataloader.dataset.ann_file=ImageSets/Segmentation/test.txt``.

    Args:
        cfg: Complete config; changed. (With ``launch.use_tta``, call that first.)
        out_file: As in :class:`VOCExportHook`.
        split: 'train', 'val' or 'test': whose data.
        options: Other arguments of :class:`VOCExportHook`.

    Raises:
        ValueError: If an argument is wrong, or the config lacks the data.
    """
    hook = dict(options, type='VOCExportHook', out_file=out_file)
    prepare_mask_run(cfg, split, hook, with_labels=False)


def archive_suffix(path: str) -> str:
    """Which of ``ARCHIVES`` it is.

    Raises:
        ValueError: None of them.
    """
    for suffix in ARCHIVES:
        if path.endswith(suffix) and path != suffix:
            return suffix
    raise ValueError(
        f'an export for the VOC server ends in one of {", ".join(ARCHIVES)}, got {path!r}'
    )


def pack(files: Mapping[str, bytes], suffix: str) -> bytes:
    """An archive of some files; the same files give the same bytes.

    Args:
        files: Content by the path in the archive.
        suffix: One of ``ARCHIVES``.
    """
    buffer = io.BytesIO()
    if suffix == '.zip':
        with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as archive:
            for name, content in sorted(files.items()):
                archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
        return buffer.getvalue()
    with gzip.GzipFile(fileobj=buffer, mode='wb', mtime=0) as packed:
        with tarfile.open(fileobj=packed, mode='w') as archive:
            for name, content in sorted(files.items()):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _check_mask(content: bytes, size: Sequence[int], path: Path) -> None:
    """Raise ValueError unless it is a palette PNG of VOC's labels."""
    try:
        mask = Image.open(io.BytesIO(content))
        labels = np.asarray(mask)
    except OSError as error:
        raise ValueError(
            f'{path} is no whole PNG ({error}): delete it and start the same command again'
        ) from error
    if mask.mode != 'P' or labels.shape != tuple(size) or labels.max() > 20:
        raise ValueError(
            f'{path} is not a palette PNG of {size[0]}x{size[1]} labels in 0..20 '
            f'({mask.mode}, {labels.shape[0]}x{labels.shape[1]}, up to '
            f'{labels.max()}): delete it and start the same command again'
        )
