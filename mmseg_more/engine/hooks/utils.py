"""What several hooks need."""

from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import nn


def unwrap_model(model: nn.Module, attribute: str) -> nn.Module:
    """Return the model inside its wrappers, checked to have ``attribute``.

    A hook writes on the model itself: on a wrapper (DistributedDataParallel)
    the attribute would be set without the model ever reading it. A model for
    test-time augmentation counts as a wrapper.

    Args:
        model (nn.Module): The runner's model, wrapped or not.
        attribute (str): Attribute that the caller is going to write.

    Raises:
        AttributeError: The model has no such attribute.
    """
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    if not hasattr(model, attribute):
        raise AttributeError(
            f'{type(model).__name__} has no attribute "{attribute}": the hook '
            'that writes it works with the segmentor "MoRe" (or a model that '
            'defines it). Use such a model or remove the hook from '
            '"custom_hooks".'
        )
    return model
