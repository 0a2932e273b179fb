"""Gaussian filtering on the permutohedral lattice, in plain tensor operations.

Adams, Baek and Davis, "Fast High-Dimensional Filtering Using the Permutohedral
Lattice" (Eurographics 2010). Points in ``d`` dimensions are lifted into the plane
``sum_i x_i = 0`` of ``d + 1`` dimensions, whose lattice splits it into simplices.
Values are *splatted* on the ``d + 1`` vertices of each point's simplex, *blurred*
along the ``d + 1`` axes of the lattice and *sliced* at the points.

Everything runs on the device of the inputs, for all images and channels at
once. Positions of points are rounded in the order of operations of Krähenbühl's
implementation (pydensecrf), so that both choose the same simplices.

``B`` images, ``P = B*N`` points of all images, ``d`` features, ``M`` lattice
vertices that a point touches (of all images; at most ``(d + 1) P``), ``C`` channels.
"""

import math
from typing import List, NamedTuple, Sequence, Tuple

import torch
from torch import Tensor

from .weighted_sums import weighted_sums

_SIMD_WIDTH = 4  # pydensecrf handles points in groups of four
_KEPT_BUFFER = 2**25  # largest that glibc keeps for the next one, in bytes


class Lattice(NamedTuple):
    """The lattice of the points of a batch; indices are int32."""

    vertices: Tensor
    """Vertices of each point's simplex, ``(P, d + 1)`` in 0..M-1."""
    weights: Tensor
    """Barycentric coordinates of each point, float32 ``(P, d + 1)``, sum 1."""
    entries: Tensor
    """Points that touch a vertex, vertex by vertex, ``((d + 1) P, )``."""
    entry_weights: Tensor
    """Their barycentric coordinates, float32 ``((d + 1) P, )``."""
    starts: Tensor
    """First entry of each vertex, ``(M, )``."""
    neighbours: Tensor
    """The vertex itself and the two beside it on each axis, ``(d + 1, M, 3)``;
    a missing neighbour is the vertex itself."""
    taps: Tensor
    """Weights 1, 1/2, 1/2 of the blur, 0 for a missing neighbour, float32
    ``(d + 1, M, 3)``."""
    slice_weights: Tensor
    """What the vertices of a point count for in its result: ``weights`` times
    ``1 / (1 + 2^-d)``, pydensecrf's constant for the volume of the blur."""


class _Keys(NamedTuple):
    """How a vertex becomes an integer.

    The vertices are the sums ``sum_i a_i w_i`` with integers ``a_0 .. a_(d-1)``, where
    ``w_i`` is 1 on all axes but ``-d`` on axis ``i``; ``w_d = -(w_0 + .. + w_(d-1))``.
    A key is the sum of ``a_i`` times a stride; vertices and their neighbours
    never share one.
    """

    steps: List[int]
    """What ``w_i`` adds to a key, ``d + 1`` numbers."""
    image_stride: int
    """What the next image adds."""
    lowest: int
    """Key of the lowest corner of the first image, before it is moved to 0."""
    dtype: torch.dtype
    """The narrowest integer that holds all keys: half the width, half the time."""


def _float32(value: float) -> float:
    return torch.tensor(value, dtype=torch.float32).item()


def _scales(dims: int) -> List[float]:
    """Diagonal of the elevation matrix, for a blur of standard deviation 1."""
    spread = _float32(math.sqrt(2 / 3) * (dims + 1))
    return [_float32(1 / math.sqrt((i + 1) * (i + 2)) * spread) for i in range(dims)]


def _layout_keys(bounds: Sequence[Tuple[float, float]], batch_size: int) -> _Keys:
    """Keys for features within ``bounds``."""
    dims = len(bounds)
    # 0 lies within: see the filling points of build_lattice
    scaled = [
        (scale * min(low, 0), scale * max(high, 0))
        for scale, (low, high) in zip(_scales(dims), bounds)
    ]
    strides, lowest = [1], 0
    for axis in range(dims):
        # (d + 1) a = x_d - x_axis, see _elevate: the factor of each scaled feature
        factors = [0.0] * axis + [-1.0] * (dims - axis)
        factors[dims - 1] -= dims
        if axis:
            factors[axis - 1] += axis
        ends = [
            sorted((factor * low, factor * high))
            for factor, (low, high) in zip(factors, scaled)
        ]
        # the vertices of a point lie less than 2 beside it
        first, last = (
            math.floor(sum(end[0] for end in ends) / (dims + 1)) - 2,
            math.ceil(sum(end[1] for end in ends) / (dims + 1)) + 2,
        )
        lowest += first * strides[-1]
        strides.append(strides[-1] * (last - first + 2))  # 1 for the neighbours
    image_stride = strides.pop()
    largest = max(image_stride * batch_size, abs(lowest))
    if largest >= 2**62:
        raise ValueError(
            f'{batch_size} images with features in {tuple(bounds)} span more '
            'lattice vertices than an integer can tell apart; use wider '
            'kernels or smaller batches'
        )
    return _Keys(
        [*strides, -sum(strides)],
        image_stride,
        lowest,
        torch.int32 if largest < 2**31 else torch.int64,
    )


def _elevate(features: Tensor) -> Tensor:
    """Lift ``(d, P)`` into the plane of the lattice, ``(d + 1, P)``."""
    dims, count = features.shape
    elevated = features.new_empty(dims + 1, count)
    total = features.new_zeros(count)
    for axis, scale in reversed(list(enumerate(_scales(dims), start=1))):
        scaled = features[axis - 1] * scale
        torch.sub(total, axis * scaled, out=elevated[axis])
        total += scaled
    elevated[0] = total
    return elevated


def _enclosing_simplex(elevated: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """Simplices around points of the plane ``(d + 1, P)``.

    Returns:
        the simplices' vertex of remainder 0, divided by d + 1: whole numbers, float32
        ``(d + 1, P)``; rank of each axis by the distance from it, int64
        ``(d + 1, P)``, 0 for the largest; barycentric coordinates by
        remainder, ``(d + 1, P)``.
    """
    axes = len(elevated)
    inverse = _float32(1 / axes)
    origin = (elevated * inverse).round_()
    excess = origin.sum(dim=0)  # whole numbers: exact in any order
    offset = elevated - origin * axes
    rank = excess.to(torch.int8).repeat(axes, 1)
    for axis in range(axes - 1):
        below = (offset[axis] < offset[axis + 1 :]).view(torch.int8)
        rank[axis] += below.sum(dim=0, dtype=torch.int8)
        rank[axis + 1 :] += 1 - below  # at a tie the first axis goes first
    # Rounding may have left the plane: walk back along the axes rounded most.
    step = (rank < 0).view(torch.int8) - (rank >= axes).view(torch.int8)
    rank = rank.add_(step, alpha=axes).long()
    origin += step
    distance = torch.empty_like(elevated).scatter_(
        0, rank, (elevated - origin * axes).mul_(inverse)
    )
    # remainder r: distance of rank d - r minus distance of rank d - r + 1
    weights = distance.flip(0)
    weights[0] += 1 - distance[0]
    weights[1:] -= distance[1:].flip(0)
    return origin, rank, weights


def _vertex_keys(origin: Tensor, rank: Tensor, image: Tensor, layout: _Keys) -> Tensor:
    """Keys ``(d + 1, P)`` of the simplices' vertices, by remainder."""
    axes = len(rank)
    keys = torch.empty_like(rank, dtype=layout.dtype)
    torch.sub(image * layout.image_stride, layout.lowest, out=keys[0])
    steps = torch.empty_like(keys)
    for axis, step in enumerate(layout.steps):
        keys[0].sub_(origin[axis].to(keys.dtype), alpha=step)
        steps.scatter_(0, rank[axis : axis + 1], step)
    # remainder r is one step from r - 1, along the axis of rank d - r + 1
    for remainder in range(1, axes):
        torch.add(keys[remainder - 1], steps[axes - remainder], out=keys[remainder])
    return keys


def _blur_neighbours(keys: Tensor, steps: Sequence[int]) -> Tuple[Tensor, Tensor]:
    """Neighbours and taps of :class:`Lattice` for the sorted ``keys (M, )``."""
    count = len(keys)
    numbers = torch.arange(count + 1, device=keys.device, dtype=torch.int32)
    itself = numbers[:count]
    neighbours = itself[:, None].repeat(len(steps), 3).view(-1, count, 3)
    for axis, step in enumerate(steps):
        wanted = keys + step
        if step == 1:  # the next one, if any
            found = numbers[1:].clamp(max=count - 1).long()
        else:
            found = torch.searchsorted(keys, wanted).clamp_(max=count - 1)
        exists = keys.index_select(0, found) == wanted
        neighbours[axis, :, 1] = torch.where(exists, found, itself)
        # The relation is mutual: I am the other neighbour of the one I found.
        neighbours[axis, :, 2] = numbers.scatter(
            0, found.masked_fill_(~exists, count), itself
        )[:count]
    taps = (neighbours != itself[:, None]).float().mul_(0.5)
    taps[..., 0] = 1
    return neighbours, taps


@torch.no_grad()
def build_lattice(features: Tensor, bounds: Sequence[Tuple[float, float]]) -> Lattice:
    """Lattice of the points of a batch.

    On a GPU the host waits once, for the number of vertices. Positions get no
    gradient.

    Args:
        features: Positions in units of the kernel's standard deviation,
            ``(B, d, N)``; computed in float32.
        bounds: Lowest and highest value of each feature. Positions beyond are moved
            to the border.

    Returns:
        The lattice; points are numbered image by image.

    Raises:
        ValueError: If bounds and features do not fit, or there are too many
            possible vertices for keys of 64 bit.
    """
    batch_size, dims, count = features.shape
    if len(bounds) != dims or not batch_size * count:
        raise ValueError(
            'expected features (B, d, N) of at least one point, and '
            f'd bounds, got {tuple(features.shape)} and '
            f'{len(bounds)} bounds'
        )
    layout = _layout_keys(bounds, batch_size)
    points = torch.stack(
        [
            feature.clamp(*bound)
            for feature, bound in zip(features.float().unbind(1), bounds)
        ]
    ).flatten(1)
    images = torch.arange(batch_size, device=features.device, dtype=layout.dtype)
    owner = images.repeat_interleave(count)
    if count % _SIMD_WIDTH:
        # pydensecrf fills its last group with a point at 0, which brings its vertices
        # (without a value) into the lattice.
        points = torch.cat([points, points.new_zeros(dims, batch_size)], dim=1)
        owner = torch.cat([owner, images])
    origin, rank, weights = _enclosing_simplex(_elevate(points))
    total = batch_size * count
    weights[:, total:] = 0  # of the filling points

    keys, order = _vertex_keys(origin, rank, owner, layout).flatten().sort()
    is_first = torch.ones_like(keys, dtype=torch.bool)
    torch.ne(keys[1:], keys[:-1], out=is_first[1:])
    starts = is_first.nonzero().flatten()  # the host waits for its length
    vertices = (
        torch.empty_like(order, dtype=torch.int32)
        .scatter_(0, order, is_first.cumsum(0, dtype=torch.int32) - 1)
        .view_as(rank)
    )
    neighbours, taps = _blur_neighbours(keys.index_select(0, starts), layout.steps)
    points_of_corners = torch.arange(len(owner), device=keys.device, dtype=torch.int32)
    points_of_corners = points_of_corners.clamp_(max=total - 1).repeat(dims + 1)
    of_points = weights[:, :total].t().contiguous()
    return Lattice(
        vertices=vertices[:, :total].t().contiguous(),
        weights=of_points,
        entries=points_of_corners.index_select(0, order),
        entry_weights=weights.flatten().index_select(0, order),
        starts=starts.int(),
        neighbours=neighbours,
        taps=taps,
        slice_weights=of_points * (1 / (1 + 2**-dims)),
    )


def filter_on_lattice(lattice: Lattice, values: Tensor) -> Tensor:
    """Filter the values of the lattice's points with a Gaussian, not normalised.

    ``A_i = sum_j exp(-|f_i - f_j|^2 / 2) S_j`` over the points of one image, as the
    lattice approximates it.

    Args:
        lattice: From :func:`build_lattice`.
        values: ``(P, C)``; computed in float32.

    Returns:
        float32 ``(P, C)``.
    """
    channels = values.shape[1]
    # Buffers beyond this are taken from the system, and cleared by it, each time.
    num_parts = math.ceil(4 * channels * len(lattice.starts) / _KEPT_BUFFER)
    if num_parts > 1 and values.device.type == 'cpu':
        parts = values.split(math.ceil(channels / num_parts), dim=1)
        return torch.cat([_filter(lattice, part) for part in parts], dim=1)
    return _filter(lattice, values)


def _filter(lattice: Lattice, values: Tensor) -> Tensor:
    values = weighted_sums(
        values.float().contiguous(), lattice.entries, lattice.entry_weights, lattice.starts
    )
    for rows, taps in zip(lattice.neighbours, lattice.taps):
        values = weighted_sums(values, rows, taps)
    return weighted_sums(values, lattice.vertices, lattice.slice_weights)


@torch.no_grad()
def normalize_lattice(lattice: Lattice, weight: float = 1.0) -> Lattice:
    """Lattice of the symmetrically normalised kernel, times a weight.

    ``weight * n_i K_ij n_j`` with ``n = 1 / sqrt(K 1)``: pydensecrf's
    ``NORMALIZE_SYMMETRIC``. The factors go into the points' weights, so that
    filtering costs as much as without them.

    Args:
        lattice: From :func:`build_lattice`.
        weight: Factor of the kernel.
    """
    ones = lattice.weights.new_ones(len(lattice.weights), 1)
    norm = (filter_on_lattice(lattice, ones) + 1e-20).rsqrt()
    return lattice._replace(
        slice_weights=lattice.slice_weights * (weight * norm),
        entry_weights=lattice.entry_weights * norm[:, 0].index_select(0, lattice.entries),
    )
