"""The images that masks are made of: names, shares, loading faults."""

import os.path as osp
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Tuple

from torch.utils.data import DataLoader, Dataset

from ..datasets.image_labels import name_few


class MaskImage(NamedTuple):
    """One image of the data set."""

    index: int
    """Position in the data set."""
    name: str
    """Path of its mask below the folder of the masks, without suffix."""
    path: str
    """Path of the image file."""
    labels: Optional[Tuple[int, ...]]
    """Indices ``0..K-1`` of its image labels; None if there are none."""


class LoadError(NamedTuple):
    """Stands for an image that could not be loaded."""

    message: str
    """Why."""


def list_images(dataset: Dataset) -> List[MaskImage]:
    """The images of a data set, with the names of their masks.

    A mask is called as its image: by the path below the image folder
    (``data_prefix['img_path']``), or by ``img_id`` where the image lies
    elsewhere, or else by the file name.

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
    images, paths = [], {}
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
        if not below.startswith('..'):
            return osp.splitext(below)[0]
    return info.get('img_id') or osp.splitext(osp.basename(path))[0]


def check_labels(images: List[MaskImage]) -> None:
    """Raise ValueError if image labels are missing."""
    missing = [image.path for image in images if image.labels is None]
    if missing:
        raise ValueError(
            f'{len(missing)} of {len(images)} images have no image labels '
            f'({name_few(missing)}): give the data set `label_file`, or let '
            "the model say which classes there are (classes='predicted')"
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


class _Share(Dataset):
    """Some images of a data set; what does not load becomes a LoadError."""

    def __init__(self, dataset: Dataset, images: List[MaskImage]) -> None:
        self.dataset = dataset
        self.images = images
        self.metainfo = dataset.metainfo

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.dataset[self.images[index].index]
        except Exception as error:  # one image must not end the run
            return LoadError(f'{type(error).__name__}: {error}')


class _Collate:
    """The collate function of the loader, around a LoadError."""

    def __init__(self, collate: Callable[[list], Any]) -> None:
        self.collate = collate

    def __call__(self, batch: list) -> Any:
        return batch[0] if isinstance(batch[0], LoadError) else self.collate(batch)


class MaskLoader:
    """One image at a time, so that no mask depends on its neighbours.

    It takes the place of the data loader of a test loop: the settings are those
    of ``loader``, the images are this process's share, without padding.

    Args:
        loader: The loader whose place it takes.
        images: The share.
        on_error: Called with an image that does not load, and the message. The
            network never sees it.
    """

    def __init__(
        self,
        loader: DataLoader,
        images: List[MaskImage],
        on_error: Callable[[MaskImage, str], None],
    ) -> None:
        workers = {}
        if loader.num_workers and images:
            workers = dict(
                num_workers=min(loader.num_workers, len(images)),
                prefetch_factor=loader.prefetch_factor,
                multiprocessing_context=loader.multiprocessing_context,
                worker_init_fn=loader.worker_init_fn,
            )
        self.dataset = _Share(loader.dataset, images)
        self.current: Optional[MaskImage] = None
        self._on_error = on_error
        self._loader = DataLoader(
            self.dataset,
            batch_size=1,
            collate_fn=_Collate(loader.collate_fn),
            pin_memory=loader.pin_memory,
            timeout=loader.timeout,
            **workers,
        )

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[Any]:
        """Batches of one; ``current`` is the image of the last one."""
        for image, batch in zip(self.dataset.images, self._loader):
            if isinstance(batch, LoadError):
                self._on_error(image, batch.message)
            else:
                self.current = image
                yield batch
