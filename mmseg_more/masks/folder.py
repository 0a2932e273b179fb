"""A folder of masks that survives whatever ends the run that fills it."""

import hashlib
import io
import json
import os
import re
from logging import WARNING
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Union

import numpy as np
import torch.nn.functional as F
from mmengine.logging import print_log

from ..datasets.image_labels import name_few
from ..files import leads_below, write_bytes
from ..localization import resize_map
from ..version import __version__
from .lock import FolderLock
from .probabilities import ClassProbabilities

MANIFEST = 'manifest.json'
CONFIDENCE = 'confidence'
"""Folder of the confidence of pixels, below that of the manifest."""
# left behind by a killed `write_bytes`
_UNFINISHED = re.compile(r'\.(.+\.(png|npz|tgz|zip|tar\.gz)|manifest\.json)\.\w{8}')
_NOTHING = '(nothing)'


SOFT_STRIDE = 4
"""Soft maps have one value for so many pixels in each direction."""


class MaskFolder:
    """Masks ``NAME.png``, and ``manifest.json`` that says how they were made.

    While a run goes on, every process appends what it has finished to a journal of
    its own, ``.journal-RANK.jsonl``; the journals are folded into the manifest
    when the next run begins, or at the end. An entry is written after its mask,
    so a mask that has one is whole; it holds size and hash of the files, and where one was
    cut or overwritten since, the image is done again. One run at a time has the folder,
    see :class:`~mmseg_more.masks.lock.FolderLock`.

    ``manifest.json``: ``complete`` (every image of the last run's split has a
    mask), ``settings`` and ``checkpoint`` (what the masks are made by),
    ``classes``, ``palette``, ``version`` (of this package), ``images`` (name ->
    entry), ``failed`` (name -> what went wrong), ``without_class`` (names of the
    images in which no class may appear: their masks are background). ``files`` of an
    entry: ``mask``, ``soft`` and ``confidence``, of those that were written the number of
    ``bytes`` and the ``sha256``. Entries of earlier versions have none: their files need
    only be there and not be empty.

    Args:
        root: The folder with the manifest.
        masks: Folder of the masks, below ``root``.
    """

    def __init__(self, root: Union[str, Path], masks: str = '') -> None:
        self.root = Path(root)
        self.masks = self.root / masks
        self._lock = FolderLock(self.root)
        self._journal: Optional[int] = None
        self._manifest: Dict[str, Any] = {}
        self._written: Dict[Path, Dict[str, Any]] = {}  # since the last record of its image

    # ----------------------------------------------------------------- paths
    def mask_path(self, name: str) -> Path:
        """Where the mask of an image goes."""
        return self.masks / f'{name}.png'

    def soft_path(self, name: str) -> Path:
        """Where the soft map of an image goes."""
        return self.root / 'soft' / f'{name}.npz'

    def confidence_path(self, name: str) -> Path:
        """Where the confidence of the pixels of an image goes."""
        return self.root / CONFIDENCE / f'{name}.png'

    def write(self, path: Path, content: bytes) -> None:
        """Write a file, whole or not at all.

        Raises:
            OSError: If the disk is full, say; names the file and the remedy.
        """
        try:
            write_bytes(path, content)
        except OSError as error:
            raise _explained(error, path) from error
        self._written[path] = fingerprint(content)

    def _paths(self, name: str) -> Dict[str, Path]:
        """The files of an image, by the names that its entry gives them."""
        return dict(
            mask=self.mask_path(name),
            soft=self.soft_path(name),
            confidence=self.confidence_path(name),
        )

    # ------------------------------------------------------------------ lock
    def acquire(self) -> None:
        """Have the folder for oneself, from before :meth:`start` on (in one process).

        Raises:
            BlockingIOError: If another run has it; says which.
            OSError: If nothing can be written there.
        """
        probe = self.root / f'.writable-{os.getpid()}'
        self.write(probe, b'')
        probe.unlink()
        self._lock.acquire()

    def check_free(self) -> None:
        """Raise what :meth:`acquire` would, as far as it can be seen by now."""
        if self.root.is_dir() and not self._lock.held:
            self.acquire()
            self.release()

    def release(self) -> None:
        """Let others have it."""
        self._lock.release()

    # -------------------------------------------------------- start of a run
    def start(
        self,
        identity: Mapping[str, Any],
        checkpoint: Mapping[str, Any],
        expected: Mapping[str, Optional[List[str]]],
        soft_maps: bool = False,
        confidence_maps: bool = False,
    ) -> List[str]:
        """Begin, or go on with, the masks of some images (in one process).

        Args:
            identity: ``settings``, ``classes``, ``palette``: with the weights
                all that decides on the masks.
            checkpoint: ``weights_sha256``, and where they come from.
            expected: Name -> classes of its image labels; None where these do
                not decide. An image whose labels have changed is done again.
            soft_maps: Whether an image needs a soft map to be finished.
            confidence_maps: Whether it needs the confidence of its pixels.

        Returns:
            Names of the images that are finished.

        Raises:
            ValueError: If the folder holds masks of another kind, or files that
                no manifest explains.
            OSError: If it cannot be written.
        """
        identity = _as_json(identity)
        manifest = self.check(identity, expected, checkpoint)
        self._manifest = dict(
            complete=False,
            **identity,
            checkpoint=dict(checkpoint),
            version=__version__,
            images=manifest['images'],
            failed=manifest['failed'],
        )
        self._remove_unfinished()
        self._read_journals()
        beside = soft_maps * ['soft'] + confidence_maps * ['confidence']
        masks = [name for name in expected if self._has(name, expected[name], ['mask'])]
        done = [name for name in masks if self._has(name, expected[name], beside)]
        changed = sorted(set(expected) & set(manifest['images']) - set(done))
        if changed:
            print_log(
                f'{len(changed)} masks in {self.masks} are made again, since they or files '
                'beside them were cut, overwritten or deleted after they were finished, or '
                f'the labels of their images have changed: {name_few(changed)}',
                'current',
                WARNING,
            )
        for name in set(changed) - set(masks):
            del manifest['images'][name]
        self._write_manifest()
        return done

    def check(
        self,
        identity: Mapping[str, Any],
        names: Iterable[str],
        checkpoint: Optional[Mapping[str, Any]] = None,
    ) -> Dict[str, Any]:
        """What the folder holds already, which must be of the same kind.

        Args:
            identity: As in :meth:`start`.
            names: Of the images that are to get masks.
            checkpoint: As in :meth:`start`; None where the weights are not known yet.

        Returns:
            The manifest, with no images where there is none.

        Raises:
            ValueError: As :meth:`start`.
        """
        path = self.root / MANIFEST
        if not path.exists():
            foreign = self._pngs(names)
            if foreign:
                raise ValueError(
                    f'{self.root} has no {MANIFEST} that says how its {len(foreign)} PNGs '
                    f'were made ({name_few(foreign)}): give another folder for the masks'
                )
            return dict(images={}, failed={})
        manifest, identity = read_manifest(path), _as_json(identity)
        different = list(
            _differences({key: manifest.get(key) for key in identity}, identity)
        )
        used = manifest['checkpoint']
        if checkpoint and used.get('weights_sha256') != checkpoint['weights_sha256']:
            different.insert(
                0,
                f'the checkpoint is another one: {_describe(used)} there, '
                f'{_describe(checkpoint)} now',
            )
        if different:
            more = f'; and {len(different) - 5} more' if len(different) > 5 else ''
            raise ValueError(
                f'{self.root} holds masks made in another way: '
                f'{"; ".join(different[:5])}{more}. Choose another folder for '
                'these masks, or delete that one to start again'
            )
        return manifest

    def _pngs(self, names: Iterable[str]) -> List[str]:
        """PNGs in the folders that the masks of these images go to; hidden ones aside."""
        folders = {self.masks, *(self.mask_path(name).parent for name in names)}
        return sorted(
            str(path.relative_to(self.masks))
            for folder in folders
            for path in folder.glob('*.png')
            if not path.name.startswith('.')
        )

    def _has(self, name: str, labels: Optional[List[str]], kinds: Sequence[str]) -> bool:
        """Whether files of an image are there, whole, and of these labels."""
        entry = self._manifest['images'].get(name)
        if entry is None or labels is not None and entry['classes'] != labels:
            return False
        noted, paths = entry.get('files', {}), self._paths(name)
        return isinstance(noted, dict) and all(
            _is_whole(paths[kind], noted.get(kind, {})) for kind in kinds
        )

    def _remove_unfinished(self) -> None:
        for folder, _, names in os.walk(self.root):
            for name in names:
                if _UNFINISHED.fullmatch(name):
                    os.unlink(os.path.join(folder, name))

    # ---------------------------------------------------------- during a run
    def open_journal(self, rank: int) -> None:
        """From now on :meth:`record` works."""
        self._journal = os.open(
            self.root / f'.journal-{rank}.jsonl',
            os.O_WRONLY | os.O_CREAT | os.O_APPEND,
            0o644,
        )

    def record(self, name: str, entry: Mapping[str, Any]) -> None:
        """Note that an image is finished, or has ``error``.

        Raises:
            OSError: As :meth:`write`.
            RuntimeError: If no journal is open.
        """
        if self._journal is None:
            raise RuntimeError('record() before open_journal()')
        files = {
            kind: self._written.pop(path)
            for kind, path in self._paths(name).items()
            if path in self._written
        }
        if 'error' not in entry:
            entry = dict(entry, files=files)
        line = (json.dumps({'image': name, **entry}) + '\n').encode()
        try:
            written = os.write(self._journal, line)
            if written < len(line):  # the last that a full disk takes
                os.write(self._journal, line[written:])
        except OSError as error:
            raise _explained(error, self.root) from error

    def close_journal(self) -> None:
        """End of this process's share."""
        if self._journal is not None:
            os.close(self._journal)
            self._journal = None

    # ---------------------------------------------------------- end of a run
    def finish(self, names: Sequence[str]) -> Dict[str, str]:
        """Fold the journals into the manifest (in one process).

        Args:
            names: All images of the split.

        Returns:
            Those of them that have no mask, with the reason.
        """
        self._read_journals()
        self._write_manifest(names)
        images, failed = self._manifest['images'], self._manifest['failed']
        return {
            name: failed.get(name, 'no process has reported it')
            for name in names
            if name not in images
        }

    def entry(self, name: str) -> dict:
        """What the manifest says of an image, after :meth:`finish`."""
        return self._manifest['images'][name]

    def _journals(self) -> List[Path]:
        return sorted(self.root.glob('.journal-*.jsonl'))

    def _read_journals(self) -> None:
        """Put what the journals say into the manifest."""
        images, failed = self._manifest['images'], self._manifest['failed']
        for entry in _entries(self._journals()):
            name = entry.pop('image')
            images.pop(name, None)
            failed.pop(name, None)
            if 'error' in entry:
                failed[name] = entry['error']
            else:
                images[name] = entry

    def _write_manifest(self, names: Optional[Sequence[str]] = None) -> None:
        """Write it, with what the journals have said, and remove these."""
        manifest = self._manifest
        for part in ('images', 'failed'):
            manifest[part] = dict(sorted(manifest[part].items()))
        manifest['without_class'] = [
            name for name, entry in manifest['images'].items() if not entry['classes']
        ]
        manifest['complete'] = names is not None and all(
            name in manifest['images'] for name in names
        )
        content = json.dumps(manifest, indent=1, allow_nan=False) + '\n'
        self.write(self.root / MANIFEST, content.encode())
        for journal in self._journals():
            journal.unlink()


def read_manifest(path: Union[str, Path]) -> dict:
    """The manifest of a folder of masks.

    Raises:
        ValueError: If it is none, or an image in it has a name by which a file would be
            read or written outside of the folder.
    """
    try:
        manifest = json.loads(Path(path).read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(f'{path} is not valid JSON: {error}') from error
    if not isinstance(manifest, dict) or not all(
        isinstance(manifest.get(key), dict)
        for key in ('settings', 'checkpoint', 'images', 'failed')
    ):
        raise ValueError(
            f'{path} is not the manifest of a folder of masks: choose another folder'
        )
    for name in manifest['images']:
        if not leads_below(name):
            raise ValueError(
                f'{path} names an image {name!r}, which lies outside of any folder: the '
                'file has been changed; do not use it'
            )
    return manifest


def _as_json(value: Mapping[str, Any]) -> Dict[str, Any]:
    """The value as it comes back from a JSON file: lists for tuples."""
    return json.loads(json.dumps(value, default=str))


def fingerprint(content: bytes) -> Dict[str, Any]:
    """What tells a file from one that was cut or overwritten."""
    return dict(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def _is_whole(path: Path, noted: Any) -> bool:
    """Whether a file is what was written there.

    Args:
        path: The file.
        noted: Its fingerprint; empty of an earlier version, which noted none.
    """
    if not path.is_file():
        return False
    if noted == {}:
        # a file of no bytes: the machine, not only the process, went down
        return path.stat().st_size > 0
    return noted == fingerprint(path.read_bytes())


def _entries(journals: List[Path]) -> Iterator[dict]:
    for journal in journals:
        for line in journal.read_bytes().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # torn by the end of its process: the image is redone
            # a machine that went down may have left anything behind the last whole line
            if isinstance(entry, dict) and 'image' in entry:
                yield entry


def _differences(there: Any, now: Any, path: str = '') -> Iterator[str]:
    """Where two JSON values differ, in words."""
    if isinstance(there, dict) and isinstance(now, dict):
        for key in dict.fromkeys((*there, *now)):
            yield from _differences(
                there.get(key, _NOTHING),
                now.get(key, _NOTHING),
                f'{path}.{key}' if path else key,
            )
    elif isinstance(there, list) and isinstance(now, list) and (len(there) == len(now)):
        for index, pair in enumerate(zip(there, now)):
            yield from _differences(*pair, f'{path}[{index}]')
    elif there != now:
        yield f'{path} is {_short(there)} there, {_short(now)} now'


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f'{text[:60]}...'


def _describe(checkpoint: Mapping[str, Any]) -> str:
    digest = str(checkpoint.get('weights_sha256'))[:12]
    return f'{checkpoint.get("path") or "weights of a training"} ({digest})'


def _explained(error: OSError, path: Path) -> OSError:
    return OSError(
        error.errno,
        f'{error.strerror} (what is finished stays: make room or '
        'give the rights, and start the same command again)',
        str(path),
    )


def soft_map(
    probabilities: ClassProbabilities, size: Optional[Sequence[int]] = None
) -> bytes:
    """A small file of class probabilities, before any CRF.

    Keys of the ``.npz``: ``probs`` uint8 ``(C, h, w)``, probability times 255, the
    mean over ``SOFT_STRIDE`` x ``SOFT_STRIDE`` pixels, ``h = max(1, H // 4)``;
    ``labels`` uint8 ``(C,)``, the dense label of each channel (0 is the
    background, first); ``size`` int32, ``(H, W)``.

    Args:
        probabilities: Of one image.
        size: ``(H, W)``, if the probabilities are of a lower one than the image.
    """
    height, width = probabilities.probs.shape[-2:] if size is None else size
    small = (max(1, height // SOFT_STRIDE), max(1, width // SOFT_STRIDE))
    probs = probabilities.probs
    if small[0] > probs.shape[1] or small[1] > probs.shape[2]:
        probs = resize_map(probs[None], small)[0]
    probs = F.adaptive_avg_pool2d(probs, small)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        probs=(probs * 255).round().byte().cpu().numpy(),
        labels=probabilities.labels.byte().cpu().numpy(),
        size=np.array((height, width), np.int32),
    )
    return buffer.getvalue()
