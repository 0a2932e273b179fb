"""Dense CRF on the probabilities of one image (docs/method.md, section 8)."""

from functools import lru_cache
from importlib.util import find_spec
from typing import List, NamedTuple, Optional, Sequence, TypeVar, Union

import numpy as np
import torch
from torch import Tensor

from ..localization.bilateral import (
    BACKENDS,
    bilateral_lattice,
    import_densecrf,
    spatial_lattice,
)
from ..localization.permutohedral import Lattice, filter_on_lattice, normalize_lattice
from .confidence import MaskConfidence, expected_iou
from .probabilities import ClassProbabilities, strong_channels

CLASS_EPSILON = 0.02
"""Classes whose probability stays below this all over an image are left out.

Those that are the largest of a pixel all the same, as one of more than 50 can be, stay. The
others cannot win. What they take part in are ties of two other classes:
without them .005 % of the pixels of 50 images of noise (500x375, 21 classes, 9 of
them left) got another label, and none on the shapes; with .05 it was more than
.01 %. ``benchmarks/masks.py`` measures it."""
_LOWEST = 1e-5  # probabilities are clipped here, as pydensecrf's unary_from_softmax does
# From so many channels on, softmax over the last dimension is the faster layout.
_MANY_CHANNELS = 16
# The spatial kernel of larger batches is not kept: it takes some 130 bytes a pixel.
_LARGEST_KEPT = 2**19

# Up to here pydensecrf is the faster on a CPU: see benchmarks/crf.py.
_SMALL_IMAGE = 8192

Array = TypeVar('Array', np.ndarray, Tensor)
Image = Union[np.ndarray, Tensor]


class DenseCRFOptions(NamedTuple):
    """Settings of the fully connected CRF; defaults are MoRe's."""

    num_iters: int = 10
    """Mean-field iterations."""
    gaussian_sxy: float = 1.0
    """Width of the smoothness kernel, in pixels."""
    gaussian_weight: float = 3.0
    """Weight of the smoothness kernel."""
    bilateral_sxy: float = 67.0
    """Spatial width of the appearance kernel, in pixels."""
    bilateral_srgb: float = 3.0
    """Colour width of the appearance kernel, in 8-bit levels."""
    bilateral_weight: float = 4.0
    """Weight of the appearance kernel."""


class _LabelsAndMeans(NamedTuple):
    mask: np.ndarray
    """Dense labels ``(H, W)`` uint8, 0 = background."""
    confidence: np.ndarray
    """Mean refined probability of the pixels that each channel won, float32
    ``(C,)`` in [0, 1]; NaN for a channel that won none."""


class CRFMask(_LabelsAndMeans):
    """The refined labels of one image; it unpacks as ``mask`` and ``confidence``."""

    mask_confidence: Optional[MaskConfidence] = None
    """Of each pixel and of the mask, by the refined probabilities."""
    probs: Optional[np.ndarray] = None
    """The refined probabilities, float32 ``(C, H, W)``, if they were asked for."""


def dense_crf(
    image: Image,
    probs: Array,
    options: DenseCRFOptions = DenseCRFOptions(),
    epsilon: float = 0.0,
    backend: str = 'auto',
) -> Array:
    """Refine the class probabilities of one image.

    Krähenbühl & Koltun, 2011: Potts model with a spatial and a bilateral kernel, both
    normalised symmetrically, solved by mean-field iterations from the probabilities.
    Peak memory for a textured image of 375x500 with 2 and 21 channels: the lattice 205
    and 404 MB, pydensecrf 77 and 232 MB (``benchmarks/crf.py``).

    Args:
        image: RGB, uint8 ``(H, W, 3)``, array or tensor.
        probs: Probabilities ``(C, H, W)`` in [0, 1] (clipped at 1e-5), the
            background first; an array, or a tensor on any device.
        options: Kernel widths, weights and iterations.
        epsilon: Channels but the background whose largest probability in the
            image is below this, and that are the largest of no pixel, are left out, which
            saves their share of the time; they come back as 0. Defaults to 0: all take
            part.
        backend: ``'lattice'``: tensor operations on the device of ``probs``;
            ``'pydensecrf'``: on the CPU; ``'auto'``: see :func:`choose_crf_backend`.

    Returns:
        Refined probabilities, float32 ``(C, H, W)``: an array for an array, else a
        tensor on the device of ``probs``.

    Raises:
        ValueError: If the shapes, the image type or the probabilities (not
            finite) do not fit, or for an unknown backend.
        ImportError: If pydensecrf is asked for and missing; says how to install it.
    """
    (refined,) = dense_crf_batch([image], [probs], options, epsilon, backend)
    return refined


def dense_crf_batch(
    images: Sequence[Image],
    probs: Sequence[Array],
    options: DenseCRFOptions = DenseCRFOptions(),
    epsilon: float = 0.0,
    backend: str = 'auto',
) -> List[Array]:
    """Refine the class probabilities of several images of one size.

    On a GPU all of them go through one lattice: equal to :func:`dense_crf` within 1e-5
    (rounding). On a CPU, where that saves nothing, it is :func:`dense_crf` of one after
    the other.

    Args:
        images: As for :func:`dense_crf`, all of one size.
        probs: As for :func:`dense_crf`; each image has its own number of channels.
            Tensors are on one device.
        options: As for :func:`dense_crf`.
        epsilon: As for :func:`dense_crf`, by image.
        backend: As for :func:`dense_crf`.

    Returns:
        Refined probabilities of each image, as of :func:`dense_crf`.

    Raises:
        ValueError: As :func:`dense_crf`, or if sizes differ.
        ImportError: As :func:`dense_crf`.
    """
    if len(images) != len(probs):
        raise ValueError(
            'dense_crf_batch expects probabilities of each image, got '
            f'{len(images)} images and {len(probs)} probabilities'
        )
    for image, prob in zip(images, probs):
        check_crf_inputs(image, prob)
    sizes = {tuple(prob.shape[1:]) for prob in probs}
    if len(sizes) > 1:
        raise ValueError(f'dense_crf_batch expects images of one size, got {sorted(sizes)}')
    tensors = [_as_tensor(prob) for prob in probs]
    if all(tensor.device.type == 'cpu' for tensor in tensors):
        refined = [
            _refine([image], [tensor], options, epsilon, backend)[0]
            for image, tensor in zip(images, tensors)
        ]
    else:
        refined = _refine(images, tensors, options, epsilon, backend)
    return [
        out if isinstance(prob, Tensor) else out.numpy()
        for prob, out in zip(probs, refined)
    ]


def dense_crf_mask(
    image: Image,
    probs: Union[np.ndarray, Tensor],
    labels: Union[np.ndarray, Tensor],
    options: DenseCRFOptions = DenseCRFOptions(),
    epsilon: float = CLASS_EPSILON,
    backend: str = 'auto',
    keep_probs: bool = False,
) -> CRFMask:
    """Refine and give each pixel the dense label of its strongest channel.

    Args:
        image: RGB, uint8 ``(H, W, 3)``, array or tensor.
        probs: Probabilities ``(C, H, W)`` in [0, 1], the background first; an array, or
            a tensor on any device.
        labels: Dense label of each channel, integer ``(C,)`` in 0..254.
        options: As in :func:`dense_crf`.
        epsilon: As in :func:`dense_crf`. Defaults to ``CLASS_EPSILON``.
        backend: As in :func:`dense_crf`.
        keep_probs: Whether the refined probabilities are handed on too.

    Raises:
        ValueError: As :func:`dense_crf`, or if the labels do not fit.
        ImportError: As :func:`dense_crf`.
    """
    check_crf_inputs(image, probs)
    dense_labels = check_crf_labels(labels, len(probs))
    refined = dense_crf(image, _as_tensor(probs), options, epsilon, backend)
    return label_pixels(refined, dense_labels, keep_probs)


def label_pixels(
    refined: Union[np.ndarray, Tensor],
    labels: Union[np.ndarray, Tensor],
    keep_probs: bool = False,
) -> CRFMask:
    """Give each pixel the dense label of its strongest channel.

    Of a tensor the winners, their probabilities and sums are copied to the host.

    Args:
        refined: Refined probabilities ``(C, H, W)``.
        labels: Dense label of each channel, integer ``(C,)`` in 0..254.
        keep_probs: Whether the probabilities are handed on too.

    Raises:
        ValueError: If the labels do not fit.
    """
    dense_labels = check_crf_labels(labels, len(refined))
    tensor = torch.as_tensor(refined)
    best, winner = tensor.max(0)
    channel, prob = winner.cpu().numpy().ravel(), best.cpu().numpy().ravel()
    count = np.bincount(channel, minlength=len(refined))
    total = np.bincount(channel, prob, minlength=len(refined))
    confidence = np.divide(total, count, out=np.full(len(refined), np.nan), where=count > 0)
    mask = dense_labels[channel].reshape(tuple(best.shape))
    channels = torch.arange(len(tensor), device=tensor.device)
    labelled = CRFMask(mask, confidence.astype(np.float32))
    labelled.mask_confidence = MaskConfidence(
        prob.reshape(mask.shape), expected_iou(winner, ClassProbabilities(tensor, channels))
    )
    if keep_probs:
        labelled.probs = tensor.cpu().numpy()
    return labelled


def check_crf_inputs(image: Image, probs: Union[np.ndarray, Tensor]) -> None:
    """Check what :func:`dense_crf` refines.

    Raises:
        ValueError: If the shapes, the image type or the probabilities (not
            finite) do not fit.
    """
    expected = (*probs.shape[1:], 3)
    if (
        image.dtype not in (np.uint8, torch.uint8)
        or probs.ndim != 3
        or 0 in probs.shape
        or tuple(image.shape) != expected
    ):
        raise ValueError(
            f'dense_crf expects a uint8 RGB image of shape {expected} for '
            f'probabilities of shape {tuple(probs.shape)}, none of them empty, got '
            f'{image.dtype} {tuple(image.shape)}'
        )
    finite = torch.isfinite(probs) if isinstance(probs, Tensor) else np.isfinite(probs)
    if not finite.all():
        raise ValueError('dense_crf expects finite probabilities, got NaN or infinity')


def check_crf_labels(labels: Union[np.ndarray, Tensor], channels: int) -> np.ndarray:
    """Dense labels of ``channels`` channels as uint8 ``(C,)``.

    Raises:
        ValueError: If they are not integers in 0..254, one for each channel.
    """
    array = _as_array(labels)
    if (
        array.shape != (channels,)
        or not np.issubdtype(array.dtype, np.integer)
        or array.min() < 0
        or array.max() > 254
    ):
        raise ValueError(
            'expected an integer label in 0..254 for each of the '
            f'{channels} channels, got {array.dtype} {array.tolist()}'
        )
    return array.astype(np.uint8)


def choose_crf_backend(backend: str, probs: Tensor) -> str:
    """Who refines ``probs``, ``(C, H, W)``: 'lattice' or 'pydensecrf'.

    ``'auto'`` is the lattice, except on the CPU for images of up to 8192 pixels, where
    pydensecrf is the faster if it is installed.

    Raises:
        ValueError: For an unknown name.
    """
    if backend not in BACKENDS:
        raise ValueError(f'backend must be one of {BACKENDS}, got {backend!r}')
    if backend != 'auto':
        return backend
    small = probs.device.type == 'cpu' and probs[0].numel() <= _SMALL_IMAGE
    return 'pydensecrf' if small and find_spec('pydensecrf') is not None else 'lattice'


def _as_array(values: Union[np.ndarray, Tensor]) -> np.ndarray:
    return values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _as_tensor(values: Union[np.ndarray, Tensor]) -> Tensor:
    if isinstance(values, Tensor):
        return values
    return torch.from_numpy(np.require(values, requirements=('C', 'W')))


def _refine(
    images: Sequence[Image],
    probs: Sequence[Tensor],
    options: DenseCRFOptions,
    epsilon: float,
    backend: str,
) -> List[Tensor]:
    """:func:`dense_crf` of several images, on the lattice of all of them."""
    keeps = [strong_channels(prob, epsilon) for prob in probs]
    kept = [prob[keep].float() for prob, keep in zip(probs, keeps)]
    if choose_crf_backend(backend, kept[0]) == 'pydensecrf':
        strong = [
            _by_pydensecrf(_as_array(image), prob, options)
            for image, prob in zip(images, kept)
        ]
    else:
        pixels = torch.stack([_as_tensor(image).to(probs[0].device) for image in images])
        strong = _mean_field(pixels, kept, options)
    refined = [torch.zeros_like(prob, dtype=torch.float32) for prob in probs]
    for out, keep, values in zip(refined, keeps, strong):
        out[keep] = values
    return refined


@torch.no_grad()
def _mean_field(
    images: Tensor, probs: Sequence[Tensor], options: DenseCRFOptions
) -> List[Tensor]:
    """Mean-field inference on the lattice.

    Args:
        images: uint8 ``(B, H, W, 3)``.
        probs: float32 ``(C_b, H, W)`` of each image; those of fewer channels are filled
            up by channels of probability 0, which stay 0.
        options: Weights, widths and number of the updates.

    Returns:
        float32 ``(C_b, H, W)`` of each image.
    """
    batch_size, height, width, _ = images.shape
    channels = max(len(prob) for prob in probs)
    if channels == 1:
        return [torch.ones_like(prob) for prob in probs]  # the only class takes everything
    logits = _log_probs(probs, channels)
    dim = 0
    if channels >= _MANY_CHANNELS:
        logits, dim = logits.t().contiguous(), 1

    small = batch_size * height * width <= _LARGEST_KEPT
    spatial_kernel = _spatial_kernel if small else _spatial_kernel.__wrapped__
    kernels = (
        spatial_kernel(
            batch_size,
            height,
            width,
            options.gaussian_sxy,
            options.gaussian_weight,
            images.device,
        ),
        normalize_lattice(
            bilateral_lattice(
                images.permute(0, 3, 1, 2), options.bilateral_srgb, options.bilateral_sxy
            ),
            options.bilateral_weight,
        ),
    )
    current = logits.softmax(dim)
    for _ in range(options.num_iters):
        points = current if dim else current.t().contiguous()
        messages = filter_on_lattice(kernels[0], points)
        messages += filter_on_lattice(kernels[1], points)
        current = (logits + (messages if dim else messages.t())).softmax(dim)
    refined = current.t() if dim else current
    refined = refined.reshape(channels, batch_size, height, width)
    return [refined[: len(prob), index] for index, prob in enumerate(probs)]


def _log_probs(probs: Sequence[Tensor], channels: int) -> Tensor:
    """Logarithms of clipped probabilities, ``(C, B * N)``, -inf where there is none."""
    pixels = probs[0][0].numel()
    logs = probs[0].new_full((channels, len(probs), pixels), -torch.inf)
    for index, prob in enumerate(probs):
        torch.log(prob.flatten(1).clamp(_LOWEST, 1), out=logs[: len(prob), index])
    return logs.flatten(1)


@lru_cache(maxsize=2)
def _spatial_kernel(
    batch_size: int,
    height: int,
    width: int,
    sigma_xy: float,
    weight: float,
    device: torch.device,
) -> Lattice:
    """The smoothness kernel; it depends on the size alone, so the latest are kept."""
    lattice = spatial_lattice(batch_size, height, width, sigma_xy, device)
    return normalize_lattice(lattice, weight)


def _by_pydensecrf(image: np.ndarray, probs: Tensor, options: DenseCRFOptions) -> Tensor:
    """As :func:`_mean_field` of one image; tensors of a GPU travel over the host."""
    channels, height, width = probs.shape
    if channels == 1:
        return torch.ones_like(probs)
    densecrf = import_densecrf()
    from pydensecrf.utils import unary_from_softmax

    crf = densecrf.DenseCRF2D(width, height, channels)
    crf.setUnaryEnergy(np.ascontiguousarray(unary_from_softmax(_as_array(probs))))
    crf.addPairwiseGaussian(sxy=options.gaussian_sxy, compat=options.gaussian_weight)
    crf.addPairwiseBilateral(
        sxy=options.bilateral_sxy,
        srgb=options.bilateral_srgb,
        rgbim=np.require(image, requirements=('C', 'W')),
        compat=options.bilateral_weight,
    )
    refined = np.asarray(crf.inference(options.num_iters), np.float32)
    return torch.from_numpy(refined).view(channels, height, width).to(probs.device)
