"""What was learned of a model's masks, thresholds and confidence, and the file of it."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from ..datasets.image_labels import name_few
from ..files import write_bytes
from .confidence import ConfidenceCurves

CALIBRATION_VERSION = 1
"""Of the file's form."""
CALIBRATED_MAPS = ('cam', 'lam', 'fused')
"""Maps that have thresholds."""
_SOURCES = (*CALIBRATED_MAPS, 'seg')  # masks of these have a confidence
SCALE_KINDS = ('raw', 'ms')
"""Maps of scale 1, and those summed over several scales: each has its own thresholds."""
_KIND_TITLES = dict(raw='scale 1', ms='several scales')

_KEYS = ('version', 'thresholds', 'source', 'confidence')
_REMEDY = 'tools/test.py CONFIG CHECKPOINT --calibrate FILE writes one'
_THRESHOLDS_REMEDY = 'tools/test.py CONFIG CHECKPOINT --calibrate FILE chooses them'


@dataclass(frozen=True)
class MapThreshold:
    """The background threshold of one map.

    Args:
        bkg: In [0, 1): background where the map is at most this.
        classes: That of single classes by their names, in place of ``bkg``.
    """

    bkg: float
    classes: Mapping[str, float] = field(default_factory=dict)

    def of_classes(self, names: Sequence[str]) -> Optional[Tuple[float, ...]]:
        """The threshold of each of the K classes; None where all share ``bkg``.

        Args:
            names: Of the K classes in their order, without background.

        Raises:
            ValueError: If there is a threshold of a class that is not among them.
        """
        unknown = [name for name in self.classes if name not in names]
        if unknown:
            raise ValueError(
                f'thresholds of unknown classes ({name_few(unknown)}); the data set has '
                f'{name_few(list(names))}'
            )
        if not self.classes:
            return None
        return tuple(self.classes.get(name, self.bkg) for name in names)


@dataclass(frozen=True)
class Calibration:
    """Thresholds of maps, chosen without masks, and what calibrates confidence.

    ``tools/test.py CONFIG CHECKPOINT --calibrate FILE`` writes the thresholds, and
    ``--reliability JSON --fit-confidence FILE`` adds the curves, into one JSON file::

        {"version": 1,
         "thresholds": {"raw": {"cam": {"bkg": 0.14, "classes": {"ring": 0.2}}},
                        "ms": {"cam": {"bkg": 0.11, "classes": {}}}},
         "source": {"checkpoint": "iter_1400.pth", "num_images": 300, ...},
         "confidence": {"cam": {"pixel": {"edges": [0, 0.5, 1], "values": [0.4, 0.9]},
                                "foreground": {"edges": [0, 1], "values": [0.8]},
                                "image": {"edges": [0, 1], "values": [0.6]},
                                "settings": {"source": "cam", "bkg": 0.11, ...}}}}

    Each of the two halves may be missing.

    Args:
        thresholds: 'raw' (scale 1) and 'ms' (several scales) -> map name ->
            :class:`MapThreshold`. Either may be missing, and so may maps.
        source: Where the thresholds come from, for a reader: checkpoint, config, number of
            images, criterion and its values.
        confidence: What calibrates the confidence of masks, by what they are made of:
            'cam', 'lam', 'fused' or 'seg'.
        path: The file, which errors name.
    """

    thresholds: Mapping[str, Mapping[str, MapThreshold]] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)
    confidence: Mapping[str, ConfidenceCurves] = field(default_factory=dict)
    path: Optional[str] = field(default=None, compare=False)

    @classmethod
    def load(cls, path: Union[str, Path]) -> 'Calibration':
        """Read a file that :meth:`save` has written.

        Raises:
            FileNotFoundError: If there is none; says which command writes it.
            ValueError: If it is no such file; names the file and what is wrong.
        """
        try:
            content = json.loads(Path(path).expanduser().read_text(encoding='utf-8'))
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f'there is no calibration file {path}: {_REMEDY}'
            ) from error
        except ValueError as error:  # not JSON, or not UTF-8
            raise ValueError(f'{path} is not valid JSON ({error}): {_REMEDY}') from error
        try:
            return cls(**_parse(content), path=str(path))
        except ValueError as error:
            raise ValueError(
                f'{path} is no calibration file: {error}. Mend that, or begin anew: '
                f'{_REMEDY}'
            ) from error

    def save(self, path: Union[str, Path]) -> None:
        """Write the file, whole or not at all.

        Raises:
            OSError: If it cannot be written.
        """
        content = json.dumps(self.as_dict(), indent=1, allow_nan=False) + '\n'
        write_bytes(Path(path).expanduser(), content.encode())

    def as_dict(self) -> Dict[str, Any]:
        """What the file holds."""
        content: Dict[str, Any] = dict(
            version=CALIBRATION_VERSION,
            thresholds={
                kind: {
                    name: dict(bkg=value.bkg, classes=dict(value.classes))
                    for name, value in maps.items()
                }
                for kind, maps in self.thresholds.items()
            },
            source=dict(self.source),
        )
        if self.confidence:
            content['confidence'] = {
                source: curves.to_dict() for source, curves in self.confidence.items()
            }
        return content

    def without_thresholds(self) -> 'Calibration':
        """The confidence alone."""
        return replace(self, thresholds={}, source={})

    def with_confidence(self, curves: Mapping[str, ConfidenceCurves]) -> 'Calibration':
        """With these curves, each in place of what there was of its source."""
        return replace(self, confidence={**self.confidence, **curves})

    def of_kind(self, kind: str) -> Mapping[str, MapThreshold]:
        """Thresholds by the names of maps.

        Args:
            kind: Which of ``SCALE_KINDS``.

        Raises:
            ValueError: If there are none; names the file.
        """
        if not self.thresholds.get(kind):
            raise ValueError(
                f'{self} has no thresholds of maps of {_KIND_TITLES[kind]} '
                f'(thresholds.{kind}): {_THRESHOLDS_REMEDY}'
            )
        return self.thresholds[kind]

    def threshold(self, name: str, kind: str) -> MapThreshold:
        """That of a map.

        Args:
            name: Which of ``CALIBRATED_MAPS``.
            kind: Which of ``SCALE_KINDS``.

        Raises:
            ValueError: If there is none; names the file.
        """
        found = self.of_kind(kind).get(name)
        if found is None:
            raise ValueError(
                f'{self} has no threshold of the map {name!r} at {_KIND_TITLES[kind]} '
                f'(thresholds.{kind}.{name}): {_THRESHOLDS_REMEDY}'
            )
        return found

    def named(
        self, threshold: MapThreshold, classes: Sequence[str]
    ) -> Optional[Tuple[float, ...]]:
        """As :meth:`MapThreshold.of_classes`, with an error that names the file.

        Args:
            threshold: One of this calibration.
            classes: Names of the K classes, without background.
        """
        try:
            return threshold.of_classes(classes)
        except ValueError as error:
            raise ValueError(f'{self}: {error}') from error

    def __str__(self) -> str:
        return self.path or 'the calibration'


def check_replaceable(path: Union[str, Path]) -> None:
    """See that writing a calibration replaces nothing else.

    Args:
        path: File to write.

    Raises:
        ValueError: If it exists and is no calibration file, empty ones included.
        OSError: If it exists and cannot be read.
    """
    if not Path(path).expanduser().exists():
        return
    try:
        Calibration.load(path)
    except ValueError as error:
        raise ValueError(
            f'{path} exists and would be overwritten, but is no calibration file: give '
            'the name of a new file, or delete that one'
        ) from error


def as_calibration(value: Union[str, Path, Calibration]) -> Calibration:
    """The file, read; a :class:`Calibration` as it is."""
    return value if isinstance(value, Calibration) else Calibration.load(value)


def scale_kind(scales: Sequence[float]) -> str:
    """Which of ``SCALE_KINDS`` a map of these scales is."""
    return 'raw' if tuple(scales) in ((), (1.0,)) else 'ms'


def _parse(content: Any) -> Dict[str, Any]:
    """Fields of :class:`Calibration` from the content of a file, all checked."""
    _check_mapping(content, 'the file', _KEYS)
    version = content.get('version')
    if version != CALIBRATION_VERSION:
        raise ValueError(f'version must be {CALIBRATION_VERSION}, got {version!r}')
    if not {'thresholds', 'confidence'} & set(content):
        raise ValueError('`thresholds` and `confidence` are both missing')
    kinds = _check_mapping(content.get('thresholds', {}), 'thresholds', SCALE_KINDS)
    thresholds = {
        kind: {
            name: _parse_threshold(value, f'thresholds.{kind}.{name}')
            for name, value in _check_mapping(
                maps, f'thresholds.{kind}', CALIBRATED_MAPS
            ).items()
        }
        for kind, maps in kinds.items()
    }
    confidence = {
        name: _parse_curves(value, f'confidence.{name}')
        for name, value in _check_mapping(
            content.get('confidence', {}), 'confidence', _SOURCES
        ).items()
    }
    source = _check_mapping(content.get('source', {}), 'source')
    return dict(thresholds=thresholds, source=source, confidence=confidence)


def _parse_threshold(value: Any, where: str) -> MapThreshold:
    _check_mapping(value, where, ('bkg', 'classes'))
    if 'bkg' not in value:
        raise ValueError(f'`{where}.bkg` is missing')
    classes = _check_mapping(value.get('classes', {}), f'{where}.classes')
    return MapThreshold(
        _threshold(value['bkg'], f'{where}.bkg'),
        {name: _threshold(v, f'{where}.classes.{name}') for name, v in classes.items()},
    )


def _parse_curves(value: Any, where: str) -> ConfidenceCurves:
    try:
        return ConfidenceCurves.from_dict(value)
    except ValueError as error:
        raise ValueError(f'{where}: {error}') from error


def _threshold(value: Any, where: str) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value < 1:
        raise ValueError(f'{where} must be a number in [0, 1), got {value!r}')
    return float(value)


def _check_mapping(
    value: Any, where: str, known: Optional[Sequence[str]] = None
) -> Dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f'{where} must be an object, got {type(value).__name__}')
    unknown: List[str] = [] if known is None else [key for key in value if key not in known]
    if unknown:
        raise ValueError(
            f'{where} has unknown keys {sorted(unknown)}, known are '
            f'{", ".join(known or ())}'
        )
    return value
