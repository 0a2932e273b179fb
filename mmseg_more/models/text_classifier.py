"""A classifier of patches that starts from, or stays at, vectors of class names."""

from typing import Mapping, NamedTuple

import torch
from torch import Tensor, nn

from ..text_vectors import TextVectors, read_text_vectors

# Of a row: the size, on average, with which PyTorch starts a convolution
_NORM = 3**-0.5


class TextClassifierOptions(NamedTuple):
    """Where the classifier starts."""

    file: str
    """File of vectors, see :mod:`mmseg_more.text_vectors`. Read when the weights are
    initialised: later runs have them from the checkpoint."""
    frozen: bool = False
    """Whether it stays there, but for a factor that all logits share."""


class FrozenClassifier(nn.Conv2d):
    """1x1 convolution without bias, of which one common factor is trained.

    ``y_k = exp(logit_scale) w_k . x``: directions and relative sizes of the rows stay.

    Args:
        embed_dims: D.
        num_classes: K.
    """

    def __init__(self, embed_dims: int, num_classes: int) -> None:
        super().__init__(embed_dims, num_classes, 1, bias=False)
        self.weight.requires_grad_(False)
        self.logit_scale = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, K, h, w)`` of patches ``(B, D, h, w)``."""
        return super().forward(x) * self.logit_scale.exp()


def text_classifier_options(settings: Mapping) -> TextClassifierOptions:
    """Check the options of a config.

    Raises:
        ValueError: For an unknown key, or without a file.
    """
    known = TextClassifierOptions._fields
    if set(settings) - set(known) or not settings.get('file'):
        raise ValueError(
            f'text_classifier takes {", ".join(known)} and needs file, got {dict(settings)}'
        )
    return TextClassifierOptions(**settings)


def start_from_text(classifier: nn.Conv2d, file: str) -> None:
    """Set the weights of a classifier to :func:`classifier_rows` of a file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it has another number of classes or channels.
    """
    found = read_text_vectors(file)
    expected = (classifier.out_channels, classifier.in_channels)
    if found.vectors.shape != expected:
        raise ValueError(
            f'text_classifier.file={file} has {found.vectors.shape[0]} classes of '
            f'{found.vectors.shape[1]} channels, the model {expected[0]} of {expected[1]}: '
            'make it for the classes of the data set, with the text tower of the backbone'
        )
    with torch.no_grad():
        classifier.weight.copy_(classifier_rows(found)[..., None, None])


def classifier_rows(found: TextVectors) -> Tensor:
    r"""Rows of a classifier without bias, ``(K, D)``.

    ``w_k = s (t_k - mean_j b_j)``: a patch has a positive logit where it is more similar to
    the vector of the class, ``t_k``, than to those of the background, ``b_j``, on average.
    Without background words ``w_k = s t_k``. The factor ``s`` gives the rows, on average,
    the norm ``1 / sqrt(3)`` of a random start, to which learning rates and schedules
    are fitted.
    """
    rows = torch.from_numpy(found.vectors).float()
    if len(found.background):
        rows = rows - torch.from_numpy(found.background_vectors).float().mean(dim=0)
    return rows * (_NORM / rows.norm(dim=1).mean())
