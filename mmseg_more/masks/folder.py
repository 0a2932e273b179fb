"""A folder of masks that survives whatever ends the run that fills it."""

import io
import json
import os
import re
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Union

import numpy as np
import torch.nn.functional as F

from ..datasets.image_labels import name_few
from ..files import write_bytes
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
    so a mask that has one is whole. One run at a time has the folder, see
    :class:`~mmseg_more.masks.lock.FolderLock`.

    ``manifest.json``: ``complete`` (every image of the last run's split has a
    mask), ``settings`` and ``checkpoint`` (what the masks are made by),
    ``classes``, ``palette``, ``version`` (of this package), ``images`` (name ->
    entry), ``failed`` (name -> what went wrong), ``without_class`` (names of the
    images in which no class may appear: their masks are background).

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
        self._fold()
        beside = soft_maps * [self.soft_path] + confidence_maps * [self.confidence_path]
        return [
            name
            for name, labels in expected.items()
            if self._is_finished(name, labels, [path(name) for path in beside])
        ]

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
            taken = [name for name in names if self.mask_path(name).exists()]
            if taken:
                raise ValueError(
                    f'{self.masks} holds {len(taken)} files that would be '
                    f'overwritten ({name_few(taken)}), and no {MANIFEST}: choose '
                    'a new folder for the masks'
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

    def _is_finished(
        self, name: str, labels: Optional[List[str]], beside: Sequence[Path]
    ) -> bool:
        entry = self._manifest['images'].get(name)
        if entry is None or labels is not None and entry['classes'] != labels:
            return False
        paths = [self.mask_path(name), *beside]
        # a file of no bytes: the machine, not only the process, went down
        return all(path.is_file() and path.stat().st_size for path in paths)

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
        self._fold(names)
        images, failed = self._manifest['images'], self._manifest['failed']
        return {
            name: failed.get(name, 'no process has reported it')
            for name in names
            if name not in images
        }

    def entry(self, name: str) -> dict:
        """What the manifest says of an image, after :meth:`finish`."""
        return self._manifest['images'][name]

    def _fold(self, names: Optional[Sequence[str]] = None) -> None:
        """Write the manifest with what the journals say, and remove them."""
        manifest = self._manifest
        images, failed = manifest['images'], manifest['failed']
        journals = sorted(self.root.glob('.journal-*.jsonl'))
        for entry in _read_journals(journals):
            name = entry.pop('image')
            images.pop(name, None)
            failed.pop(name, None)
            if 'error' in entry:
                failed[name] = entry['error']
            else:
                images[name] = entry
        for part in ('images', 'failed'):
            manifest[part] = dict(sorted(manifest[part].items()))
        manifest['without_class'] = [
            name for name, entry in manifest['images'].items() if not entry['classes']
        ]
        manifest['complete'] = names is not None and all(name in images for name in names)
        content = json.dumps(manifest, indent=1, allow_nan=False) + '\n'
        self.write(self.root / MANIFEST, content.encode())
        for journal in journals:
            journal.unlink()


def read_manifest(path: Union[str, Path]) -> dict:
    """The manifest of a folder of masks.

    Raises:
        ValueError: If it is none.
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
    return manifest


def _as_json(value: Mapping[str, Any]) -> Dict[str, Any]:
    """The value as it comes back from a JSON file: lists for tuples."""
    return json.loads(json.dumps(value, default=str))


def _read_journals(journals: List[Path]) -> Iterator[dict]:
    for journal in journals:
        for line in journal.read_bytes().splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue  # torn by the end of its process: the image is redone


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


def soft_map(probabilities: ClassProbabilities) -> bytes:
    """A small file of class probabilities, before any CRF.

    Keys of the ``.npz``: ``probs`` uint8 ``(C, h, w)``, probability times 255, the
    mean over ``SOFT_STRIDE`` x ``SOFT_STRIDE`` pixels, ``h = max(1, H // 4)``;
    ``labels`` uint8 ``(C,)``, the dense label of each channel (0 is the
    background, first); ``size`` int32, ``(H, W)``.
    """
    height, width = probabilities.probs.shape[-2:]
    small = F.adaptive_avg_pool2d(
        probabilities.probs, (max(1, height // SOFT_STRIDE), max(1, width // SOFT_STRIDE))
    )
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        probs=(small * 255).round().byte().cpu().numpy(),
        labels=probabilities.labels.byte().cpu().numpy(),
        size=np.array((height, width), np.int32),
    )
    return buffer.getvalue()
