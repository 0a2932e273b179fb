"""Images that are reduced to a number of pixels when they are loaded."""

from typing import Any, Dict, Optional, Sequence, Tuple

from .large_images import shrink_image, worked_size
from .memory import free_bytes, memory_error
from .recipe import MaskRecipe

FULL_SHAPE = 'full_shape'
"""Meta information of the data sample of a reduced image: ``(H, W)`` of its file."""


class LimitedPipeline:
    """A test pipeline behind whose loading step large images are reduced.

    So all that follows is of the lower size: the network's input where the pipeline does
    not resize, each view of ``TestTimeAug``, and the results, since these are of
    ``ori_shape``.

    Args:
        transforms: The steps; the first loads the image.
        recipe: Of the masks, resolved; its ``max_pixels`` is the limit.
        num_classes: ``K``, without background.
    """

    def __init__(
        self, transforms: Sequence[Any], recipe: MaskRecipe, num_classes: int
    ) -> None:
        self.transforms = list(transforms)
        self.recipe = recipe
        self.num_classes = num_classes

    def __call__(self, results: Dict[str, Any]) -> Any:
        """Run the steps; data samples of a reduced image get ``full_shape``.

        Raises:
            MemoryError: As :func:`limit_loaded`.
        """
        loader, *others = self.transforms
        packed = loader(results)
        full = limit_loaded(packed, self.recipe, self.num_classes)
        for transform in others:
            packed = transform(packed)
        if full is not None:
            samples = packed['data_samples']
            for sample in samples if isinstance(samples, list) else [samples]:
                sample.set_metainfo({FULL_SHAPE: full})
        return packed


def limit_loaded(
    results: Dict[str, Any], recipe: MaskRecipe, num_classes: int
) -> Optional[Tuple[int, int]]:
    """Reduce what ``LoadImageFromFile`` has loaded, in place.

    Args:
        results: With ``img``; ``gt_label`` counts for the estimate.
        recipe: Of the masks, resolved.
        num_classes: ``K``, without background.

    Returns:
        Size ``(H, W)`` of the image as it was; None if it is within the limit.

    Raises:
        MemoryError: If the maps would take more memory than is free.
    """
    full = results['img'].shape[:2]
    low = worked_size(full, recipe.max_pixels)
    need = recipe.map_bytes(low, num_classes, results.get('gt_label'))
    error = memory_error(need, free_bytes(), low)
    if error is not None:
        raise MemoryError(error)
    if low == full:
        return None
    results['img'] = shrink_image(results['img'], low)
    results['img_shape'] = results['ori_shape'] = low
    return full
