"""How fast the device multiplies matrices of the network's sizes."""

import statistics
import time
from typing import List, Tuple

import torch
from torch import nn

from .flops import num_tokens


def synchronize(device: torch.device) -> None:
    """Wait for the device, so that a clock shows finished work."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def linear_shapes(
    backbone: nn.Module, images: int, size: Tuple[int, int]
) -> List[Tuple[int, int, int]]:
    """Products ``(rows, inner, columns)`` of the linear layers of one block.

    ``rows`` are the tokens of ``images`` images of ``size`` pixels; for a ViT of D
    channels: D x 3D, D x D, D x 4D and 4D x D.
    """
    rows = images * num_tokens(backbone, size)
    return [
        (rows, m.in_features, m.out_features)
        for m in backbone.layers[0].modules()
        if isinstance(m, nn.Linear)
    ]


class GemmMeter:
    """Rate of plain matrix products, FLOP/s: what the network could reach at best.

    One measurement runs the linear layers of one block as ``torch.mm`` into buffers that
    exist, again and again for ``seconds``, and divides all FLOPs by all the time: each
    product counts as much as it does in the network. Machines are noisy, and processors
    slow down when hot: measure before, between and after what is compared with it; the
    rate is the median of the measurements.

    Args:
        shapes: Products ``(rows, inner, columns)``, see :func:`linear_shapes`.
        dtype: Type of the operands.
        device: Where to multiply.
        seconds: Least duration of a measurement.
    """

    def __init__(
        self,
        shapes: List[Tuple[int, int, int]],
        dtype: torch.dtype,
        device: torch.device,
        seconds: float = 0.3,
    ) -> None:
        self.device, self.seconds = device, seconds
        self.rates: List[float] = []
        self._flops = sum(2 * rows * inner * columns for rows, inner, columns in shapes)
        options = dict(dtype=dtype, device=device)
        # the layout of nn.Linear: weights (columns, inner)
        self._products = [
            (
                torch.randn(rows, inner, **options),
                torch.randn(columns, inner, **options).t(),
                torch.empty(rows, columns, **options),
            )
            for rows, inner, columns in shapes
        ]
        self._run()  # the first call initialises the library

    @torch.no_grad()
    def _run(self) -> None:
        for left, right, out in self._products:
            torch.mm(left, right, out=out)

    def measure(self) -> float:
        """Take one measurement, FLOP/s."""
        synchronize(self.device)
        rounds, start = 0, time.perf_counter()
        while True:
            self._run()
            rounds += 1
            if self.device.type == 'cpu' or rounds % 10 == 0:
                synchronize(self.device)
                elapsed = time.perf_counter() - start
                if elapsed >= self.seconds:
                    break
        self.rates.append(rounds * self._flops / elapsed)
        return self.rates[-1]

    @property
    def rate(self) -> float:
        """Median of the measurements, FLOP/s."""
        return statistics.median(self.rates)
