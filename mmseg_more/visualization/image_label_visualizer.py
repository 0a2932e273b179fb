"""MMSegmentation's visualizer, for images whose only truth is an image label."""

from typing import Any, List, Optional, Sequence

import mmcv
import numpy as np
from mmengine.dist import master_only

from mmseg.registry import VISUALIZERS
from mmseg.structures import SegDataSample
from mmseg.visualization import SegLocalVisualizer

from .drawing import list_names


@VISUALIZERS.register_module()
class ImageLabelVisualizer(SegLocalVisualizer):
    """``SegLocalVisualizer`` that writes image labels where there is no true mask.

    So MMSegmentation's ``browse_dataset.py`` shows what a training on image labels sees:
    the image as it is cropped and jittered, and the names of its classes. Samples that
    have a true mask are drawn as by the parent, whose arguments it takes.

    Example:
        >>> visualizer = dict(
        ...     type='ImageLabelVisualizer', vis_backends=[dict(type='LocalVisBackend')])
    """

    @master_only
    def add_datasample(
        self,
        name: str,
        image: np.ndarray,
        data_sample: Optional[SegDataSample] = None,
        draw_gt: bool = True,
        draw_pred: bool = True,
        show: bool = False,
        wait_time: float = 0,
        out_file: Optional[str] = None,
        step: int = 0,
        with_labels: Optional[bool] = True,
    ) -> None:
        """Draw a sample, to a window, a file or all backends, as the parent does.

        Args:
            name: Name of the picture.
            image: ``(H, W, 3)`` uint8 RGB.
            data_sample: With ``gt_label`` (class indices from 0,
                without background) and no ``gt_sem_seg``, the names are written into the
                image; a prediction (``pred_sem_seg``) gets the image without them.
            draw_gt: Whether to draw mask or labels. Defaults to True.
            draw_pred: Whether to draw the prediction. Defaults to True.
            show: Whether to open a window and nothing else. Defaults to False.
            wait_time: Seconds the window stays; 0: until it is closed.
            out_file: File to write instead of the backends.
            step: Step of the training, for the backends. Defaults to 0.
            with_labels: Whether names are written into masks.
        """
        if not draw_gt or data_sample is None or not _has_labels_alone(data_sample):
            parent: Any = super().add_datasample
            parent(
                name,
                image,
                data_sample,
                draw_gt,
                draw_pred,
                show,
                wait_time,
                out_file,
                step,
                with_labels,
            )
            return
        classes = self.dataset_meta['classes']
        picture = list_names(image, _names(data_sample, classes))
        if draw_pred and 'pred_sem_seg' in data_sample:
            mask = self._draw_sem_seg(
                image,
                data_sample.pred_sem_seg,
                classes,
                self.dataset_meta['palette'],
                with_labels,
            )
            enlarged = len(picture) // len(image)
            mask = mask.repeat(enlarged, 0).repeat(enlarged, 1)
            picture = np.concatenate((picture, mask), axis=1)
        if show:
            self.show(picture, win_name=name, wait_time=wait_time)
        if out_file is not None:
            mmcv.imwrite(mmcv.rgb2bgr(picture), out_file)
        else:
            self.add_image(name, picture, step)


def _has_labels_alone(sample: SegDataSample) -> bool:
    return 'gt_label' in sample and 'gt_sem_seg' not in sample


def _names(sample: SegDataSample, classes: Sequence[str]) -> List[str]:
    """Names of the classes of an image label; ``classes`` begins with the background."""
    return [classes[int(label) + 1] for label in sample.gt_label] or ['(no class)']
