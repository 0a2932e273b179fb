"""Image labels of a user's own data, in whatever form they are there.

* JSON: ``{"ID": ["class", ...]}`` or COCO instances;
* CSV with any delimiter, as it is written by hand or by other programs;
* VOC XML: a folder of annotations;
* the names of the folders that the images lie in.

Data sets read the strict forms of :mod:`~mmseg_more.datasets.image_labels`; what is read
here is written as such a file by ``make_config``.
"""

from collections import Counter
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Sequence, Union

from ..image_files import files_below, without_suffix
from .image_labels import (
    ImageLabels,
    coco_labels,
    name_few,
    read_json_object,
    read_label_file,
    read_voc_annotation,
)
from .label_table import read_label_table

FOLDER_NAMES = 'folders'
"""In place of a file: an image's class is the first folder of its path."""
NO_CLASS = 'background'
"""A name that stands for no class at all, in any case of its letters."""


class LabelSource(NamedTuple):
    """Labels as they were found."""

    form: str
    """What they were read from, for a person."""
    labels: ImageLabels
    """Class names by the image's name in the source: often a path, often with a suffix."""


class MatchedLabels(NamedTuple):
    """Labels and images that belong together, and what is left of both."""

    labels: ImageLabels
    """Class names by image ID, without repetitions and without ``NO_CLASS``, sorted by
    the ID."""
    unlabelled: List[str]
    """IDs of images without labels."""
    orphans: List[str]
    """Names of labelled images that do not exist."""


def read_labels(source: Union[str, Path], images: Sequence[str]) -> LabelSource:
    """Read image labels in any form.

    Args:
        source: JSON or CSV file (.csv, .tsv, .txt), folder of VOC XML, or
            ``FOLDER_NAMES``.
        images: Paths of the images below their folder, for ``FOLDER_NAMES``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is of another kind, or malformed; says where.
    """
    if str(source) == FOLDER_NAMES and not Path(source).exists():
        in_folders = {image: image.split('/') for image in images if '/' in image}
        labels = {image: parts[:1] for image, parts in in_folders.items()}
        return LabelSource('names of folders', labels)
    path = Path(source)
    if path.is_dir():
        return LabelSource('VOC XML', _read_voc_folder(path))
    if path.suffix.lower() in ('.csv', '.tsv', '.txt') and path.is_file():
        return LabelSource(*read_label_table(path))
    if path.suffix.lower() == '.json' and path.is_file():
        content = read_json_object(path)
        if {'images', 'annotations', 'categories'} <= content.keys():
            return LabelSource('COCO JSON', coco_labels(content, path))
        return LabelSource('JSON', read_label_file(path))
    if not path.exists():
        raise FileNotFoundError(
            f'the labels {path} do not exist; give a JSON or CSV file, a folder of VOC '
            f'XML, or the word {FOLDER_NAMES!r} where the folders have the classes as names'
        )
    raise ValueError(
        f'{path}: labels are a .json or .csv (.tsv, .txt) file, a folder of VOC XML, or '
        f'the word {FOLDER_NAMES!r}'
    )


def _read_voc_folder(folder: Path) -> ImageLabels:
    annotations = sorted(
        folder / name for name in files_below(str(folder)) if name.lower().endswith('.xml')
    )
    if not annotations:
        raise ValueError(
            f'the folder {folder} holds no annotation (.xml); for classes that are the '
            f'names of folders give the word {FOLDER_NAMES!r}'
        )
    return {
        path.relative_to(folder).with_suffix('').as_posix(): read_voc_annotation(path)
        for path in annotations
    }


def match_labels(labels: ImageLabels, images: Sequence[str]) -> MatchedLabels:
    """Find the image of each label.

    A name in the labels may carry a suffix, begin with folders that lead to the images,
    or be the bare name of an image that lies in a subfolder, if only one is called so.

    Args:
        labels: As a source has them.
        images: Paths of the images below their folder.

    Raises:
        ValueError: If two names in the labels mean one image ID, and differ.
    """
    ids = {without_suffix(image) for image in images}
    bare_names = Counter(map(_bare_name, ids))
    by_bare_name = {_bare_name(image_id): image_id for image_id in ids}
    matched: Dict[str, List[str]] = {}
    names_in_source: Dict[str, str] = {}
    orphans = []
    for name, classes in labels.items():
        parts = _parts(name)
        image_id = next((end for end in _ends(parts) if end in ids), None)
        if image_id is None and len(parts) == 1 and bare_names[parts[0]] == 1:
            image_id = by_bare_name[parts[0]]
        if image_id is None:
            orphans.append(name)
            continue
        kept = [c for c in dict.fromkeys(classes) if c.lower() != NO_CLASS]
        if image_id in matched and set(matched[image_id]) != set(kept):
            files = [image for image in images if without_suffix(image) == image_id]
            remedy = (
                'keep one'
                if len(files) == 1
                else f'{name_few(files)} are {len(files)} images of one name: rename all '
                'but one, in the labels too'
            )
            raise ValueError(
                f'the labels name the image {image_id!r} twice, as '
                f'{names_in_source[image_id]!r} and {name!r}, with different classes: '
                f'{matched[image_id]} and {kept}; {remedy}'
            )
        matched[image_id], names_in_source[image_id] = kept, name
    return MatchedLabels(
        {image_id: matched[image_id] for image_id in sorted(matched)},
        sorted(ids - matched.keys()),
        orphans,
    )


def _bare_name(image_id: str) -> str:
    return image_id.rsplit('/', 1)[-1]


def _parts(name: str) -> List[str]:
    """Folders and name without suffix, whatever system wrote the path."""
    path = without_suffix(name.replace('\\', '/'))
    return [part for part in path.split('/') if part not in ('', '.')]


def _ends(parts: Sequence[str]) -> Iterator[str]:
    """The path, and what is left of it without its first folders."""
    for start in range(len(parts)):
        yield '/'.join(parts[start:])
