"""What an inferencer makes of every image: the mask, and maps beside it."""

from typing import Any, NamedTuple, Optional, Sequence, Tuple, Union

from ..masks import PREDICTION, MaskRecipe
from ..models.structures import MAP_NAMES, MASK_SCALES, LocalizationRequest

INFERENCE_POLICIES = ('predicted', 'all')
"""Which classes may appear in the mask of an image without labels."""


class InferenceSettings(NamedTuple):
    """What is made of every image; build it by :func:`make_settings`."""

    recipe: MaskRecipe
    """How masks are made; resolved, but for a threshold that is not given."""
    maps: Tuple[str, ...]
    """Maps to return, out of ``MAP_NAMES``."""
    request: Optional[LocalizationRequest]
    """What to ask the segmentor for; None: its plain prediction will do."""
    keep_logits: bool
    """Whether the segmentation's logits are returned, at the image's size."""
    confidence_maps: bool
    """Whether the confidence of each pixel is returned."""


def make_settings(
    maps: Union[str, Sequence[str]] = (),
    keep_logits: bool = False,
    confidence_maps: bool = False,
    **options: Any,
) -> InferenceSettings:
    """Check the arguments of a user, and fill in what they leave open.

    Args:
        maps: Maps to return, out of 'cam', 'lam', 'fused' and 'attention'.
        keep_logits: Whether the segmentation's logits are wanted at the image's size.
        confidence_maps: Whether the confidence of each pixel is wanted.
        options: What differs from the plain prediction (:data:`PREDICTION`), by the names
            of :class:`MaskRecipe`. ``policy`` is 'predicted' or 'all'; left out, it is
            'all' for the segmentation and 'predicted' for maps.

    Raises:
        ValueError: If an argument is none of these.
    """
    maps = (maps,) if isinstance(maps, str) else tuple(maps)
    unknown = [name for name in maps if name not in MAP_NAMES]
    if unknown:
        raise ValueError(f'maps must be out of {", ".join(MAP_NAMES)}, got {unknown}')
    # None is no limit of pixels, and of all others what was not given
    options = {
        key: value
        for key, value in options.items()
        if value is not None or key == 'max_pixels'
    }
    source = options.get('source', PREDICTION.source)
    if options.get('policy') == 'all' and source != 'seg':
        raise ValueError(
            "the policy 'all' (--classes all) is for the segmentation: a localization map "
            f"tells where a class is, not whether; with source {source!r} take 'predicted'"
        )
    recipe = PREDICTION.replace(**options)
    if recipe.policy is None:
        recipe = recipe.replace(policy='all' if recipe.source == 'seg' else 'predicted')
    if recipe.policy not in INFERENCE_POLICIES:
        raise ValueError(
            f'policy must be one of {", ".join(INFERENCE_POLICIES)}, got {recipe.policy!r}'
        )
    recipe = recipe.resolve(localizes=True, with_labels=False)
    beside = None
    if maps:
        map_scales = MASK_SCALES if recipe.scales else (1.0,)
        if recipe.source != 'seg' and recipe.scales:
            map_scales = tuple(recipe.scales)
        beside = LocalizationRequest(
            maps=maps, cam_scales=(), lam_scales=(), ms_scales=map_scales, logits=False
        )
    request = recipe.request(beside)
    needs_logits = recipe.source == 'seg' and not recipe.scales  # its confidence does
    if request is not None:
        request = request._replace(logits=keep_logits or needs_logits)
    return InferenceSettings(recipe, maps, request, keep_logits, confidence_maps)
