"""Base of the metrics whose figures are means over the classes."""

from abc import abstractmethod
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from mmengine.logging import MMLogger, print_log
from torch import Tensor

from ..counting import CountingMetric
from ..report import format_classes, write_json


class ClassFigure(NamedTuple):
    """A figure of the data set, in percent; NaN where it is not defined."""

    total: float
    """Over all classes."""
    classes: Optional[Tensor] = None
    """Of each class of the data set ``(C,)``, background first where there is one; None
    where it is not shown by class."""


class ClasswiseMetric(CountingMetric):
    """Counts of each image by class; figures that are shown in a table by class.

    A subclass says what is counted in an image (:meth:`_count`) and what figures the sums
    give (:meth:`_figures`). It keeps these sums, not images, and in distributed runs every
    image counts once, see :class:`~mmseg_more.evaluation.counting.CountingMetric`.

    Args:
        ignore_index: Label of pixels that do not count. Defaults to 255.
        out_json: File to write the figures to after each evaluation, those
            of single classes as ``KEY/CLASS``. Undefined figures (NaN) are ``null``.
            Defaults to None.
        collect_device: As in :class:`BaseMetric`. Defaults to 'cpu'.
        prefix: As in :class:`BaseMetric`; leave it out to get the keys as
            they are documented. Defaults to None.
    """

    title: str
    """What the table shows."""

    def __init__(
        self,
        ignore_index: int = 255,
        out_json: Optional[str] = None,
        collect_device: str = 'cpu',
        prefix: Optional[str] = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.ignore_index = ignore_index
        self.out_json = out_json

    @abstractmethod
    def _count(self, sample: dict) -> Dict[str, Tensor]:
        """Counts of one image, on the CPU."""

    @abstractmethod
    def _figures(self) -> Dict[str, ClassFigure]:
        """Figures by their keys, from the sums in ``self._counts``."""

    def _class_names(self) -> Sequence[str]:
        """Names of the labels, background first where the data set has one."""
        names = (self.dataset_meta or {}).get('classes')
        if not names:
            raise ValueError(
                f'{type(self).__name__} needs dataset_meta["classes"], the names of the '
                'labels: give the data set a METAINFO or metainfo=dict(classes=...)'
            )
        return names

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count one batch.

        Args:
            data_batch: Not used.
            data_samples: Samples of the model as dicts.
        """
        for sample in data_samples:
            counts = self._count(sample)
            self._add(self._new_image(()), counts)

    def compute_metrics(self, results: List[tuple]) -> Dict[str, float]:
        """Figures from the summed counts.

        Args:
            results: As many as there are images, all empty.
        """
        if not results:
            raise ValueError('no image was evaluated: the data set is empty')
        figures = self._figures()
        names = self._class_names()
        print_log(
            f'{self.title} over {len(results)} images, in percent:\n'
            + format_classes(
                {key: (figure.total, figure.classes) for key, figure in figures.items()},
                names,
            ),
            MMLogger.get_current_instance(),
        )
        metrics = {key: figure.total for key, figure in figures.items()}
        if self.out_json:
            written = dict(metrics)
            for key, figure in figures.items():
                if figure.classes is not None:
                    written.update(
                        {
                            f'{key}/{name}': value
                            for name, value in zip(names, figure.classes.tolist())
                        }
                    )
            write_json(self.out_json, written)
        return metrics
