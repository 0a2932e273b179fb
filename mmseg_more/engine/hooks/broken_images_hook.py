"""Names the images that a training has left out."""

from typing import Any, List

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmseg.registry import HOOKS


@HOOKS.register_module()
class BrokenImagesHook(Hook):
    """Name all images that could not be read, at the end of the training.

    ``ImageLevelDataset`` leaves them out, up to its ``max_broken``, with a warning each; in
    the log of a long training nobody finds those again. Of several processes each names
    those that it has met.

    Example:
        >>> default_hooks = dict(broken_images=dict(type='BrokenImagesHook'))
    """

    def after_train(self, runner: Runner) -> None:
        """Write the warning."""
        names = broken_images(runner.train_dataloader.dataset)
        if names:
            runner.logger.warning(
                f'{len(names)} images could not be read and were left out of this '
                f'training; replace them: {", ".join(names)}'
            )


def broken_images(dataset: Any) -> List[str]:
    """Paths of the images that a data set, or the one that it wraps, has left out."""
    if hasattr(dataset, 'broken_images'):
        return dataset.broken_images()
    wrapped = [getattr(dataset, 'dataset', None), *getattr(dataset, 'datasets', [])]
    return [name for inner in wrapped if inner is not None for name in broken_images(inner)]
