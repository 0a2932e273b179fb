"""What can be drawn: categories that differ by outline and texture, never by colour.

``SHAPES`` are the six of the demo, ``TWENTY`` those of the harder data.
"""

from typing import Callable, List, NamedTuple, Tuple

import numpy as np

Texture = Callable[[np.ndarray, np.ndarray, float], np.ndarray]


class Category(NamedTuple):
    """One kind of object, in its own axes.

    Attributes:
        name: Of the class.
        outline: Ratio of the sides in (0, 1] -> polygons ``(n, 2)`` around the origin, of
            about radius 1; a second one is a hole.
        texture: ``u, v (S, S)`` in pixels and the period in pixels -> pattern ``(S, S)``
            in about [-1, 1].
        upright: Whether it is hardly ever rotated.
    """

    name: str
    outline: Callable[[float], List[np.ndarray]]
    texture: Texture
    upright: bool = False


def _regular(corners: int) -> np.ndarray:
    theta = np.arange(corners) * 2 * np.pi / corners
    return np.stack([np.cos(theta), np.sin(theta)], 1)


# ------------------------------------------------------------------- outlines
def _disk(aspect: float) -> List[np.ndarray]:
    return [_regular(72) * 0.95]


def _rectangle(aspect: float) -> List[np.ndarray]:
    half = np.array([0.88, 0.88 * aspect])
    return [np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half]


def _triangle(aspect: float) -> List[np.ndarray]:
    return [_regular(3) * [1.15, 1.25]]


def _cross(aspect: float) -> List[np.ndarray]:
    a, b = 1.05, 0.42
    quarter = [[a, -b], [a, b], [b, b]]
    corners = []
    for _ in range(4):
        corners += quarter
        quarter = [[-y, x] for x, y in quarter]
    return [np.array(corners)]


def _ring(aspect: float) -> List[np.ndarray]:
    return [_regular(72), _regular(72) * 0.42]


def _hexagon(aspect: float) -> List[np.ndarray]:
    return [_regular(6) * [1.0, 0.75 + 0.25 * aspect]]


# ------------------------------------------------------------------- textures
def _stripes(u: np.ndarray, v: np.ndarray, period: float) -> np.ndarray:
    return np.tanh(2.5 * np.sin(2 * np.pi / period * v))


def _checkerboard(u: np.ndarray, v: np.ndarray, period: float) -> np.ndarray:
    wave = 2 * np.pi / period
    return np.tanh(4 * np.sin(wave * 0.6 * u) * np.sin(wave * 0.6 * v))


def _dots(u: np.ndarray, v: np.ndarray, period: float) -> np.ndarray:
    """Bright dots in staggered rows."""
    half_row = (np.floor(v / period) % 2) * period / 2
    distance = np.hypot((u + half_row) % period - period / 2, v % period - period / 2)
    return np.tanh(2.0 * (period * 0.34 - distance))


def _grid(u: np.ndarray, v: np.ndarray, period: float) -> np.ndarray:
    """A grid of thin lines."""
    wave = 2 * np.pi / period
    lines = np.maximum(np.cos(wave * 0.85 * u), np.cos(wave * 0.85 * v))
    return np.tanh(5 * (lines - 0.6))


def _circles(u: np.ndarray, v: np.ndarray, period: float) -> np.ndarray:
    return np.tanh(2.5 * np.sin(2 * np.pi / period * 1.25 * np.hypot(u, v)))


def _zigzag(u: np.ndarray, v: np.ndarray, period: float) -> np.ndarray:
    zigzag = np.abs((v / (1.6 * period)) % 1 - 0.5) * 1.6 * period * 1.3
    return np.tanh(2.5 * np.sin(2 * np.pi / period * 0.9 * (u + zigzag)))


SHAPES: Tuple[Category, ...] = (
    Category('disk', _disk, _stripes),
    Category('rectangle', _rectangle, _checkerboard),
    Category('triangle', _triangle, _dots),
    Category('cross', _cross, _grid),
    Category('ring', _ring, _circles),
    Category('hexagon', _hexagon, _zigzag),
)
"""The classes of the demo, in their order."""


# ------------------------------------------------- outlines of the other fourteen
def _polygon(*corners: Tuple[float, float]) -> Callable[[float], List[np.ndarray]]:
    polygon = np.array(corners)
    return lambda aspect: [polygon * [1.0, 0.6 + 0.4 * aspect]]


def _wavy(
    lobes: int, depth: float, corners: int = 72
) -> Callable[[float], List[np.ndarray]]:
    """A circle whose radius swings ``lobes`` times by ``depth``."""
    theta = np.arange(corners) * 2 * np.pi / corners
    radius = 1 + depth * np.cos(lobes * theta)
    polygon = np.stack([np.cos(theta), np.sin(theta)], 1) * radius[:, None]
    return lambda aspect: [polygon * [1.0, 0.7 + 0.3 * aspect]]


def _star(aspect: float) -> List[np.ndarray]:
    radius = np.where(np.arange(10) % 2, 0.5, 1.2)
    return [_regular(10) * radius[:, None]]


def _crescent(aspect: float) -> List[np.ndarray]:
    outer = np.linspace(0.9, 2 * np.pi - 0.9, 48)
    inner = outer[::-1]
    return [
        np.concatenate(
            [
                np.stack([np.cos(outer), np.sin(outer)], 1) * 1.15,
                np.stack([0.75 * np.cos(inner) + 0.25, 0.85 * np.sin(inner)], 1),
            ]
        )
    ]


def _water(aspect: float) -> List[np.ndarray]:
    """As wide as any image; its waves are flat."""
    x = np.linspace(-5, 5, 80)
    top = np.stack([x, -0.5 + 0.06 * np.sin(5 * x)], 1)
    return [np.concatenate([top, [[5, 0.9], [-5, 0.9]]])]


# ------------------------------------------------- textures of the other fourteen
def _gratings(*parts: Tuple[float, float], sharpness: float = 2.5) -> Texture:
    """The sum of gratings, each an angle in degrees and a rate."""

    def texture(u: np.ndarray, v: np.ndarray, period: float) -> np.ndarray:
        total = sum(
            np.sin(
                2
                * np.pi
                / period
                * rate
                * (np.cos(np.radians(angle)) * u + np.sin(np.radians(angle)) * v)
            )
            for angle, rate in parts
        )
        return np.tanh(sharpness * total)

    return texture


def _bricks(u: np.ndarray, v: np.ndarray, period: float) -> np.ndarray:
    row = np.floor(v / period)
    joint_u = (u / (1.8 * period) + 0.5 * (row % 2)) % 1
    joint_v = (v / period) % 1
    return np.where((joint_u < 0.16) | (joint_v < 0.28), -1.0, 0.6)


def _scales(u: np.ndarray, v: np.ndarray, period: float) -> np.ndarray:
    row = np.floor(v / (0.6 * period))
    x = (u + (row % 2) * 0.6 * period) % (1.2 * period) - 0.6 * period
    y = v - row * 0.6 * period
    return np.tanh(1.2 * (np.hypot(x, y) - 0.55 * period))


def _spokes(u: np.ndarray, v: np.ndarray, period: float) -> np.ndarray:
    return np.tanh(2.5 * np.sin(13 * np.arctan2(v, u)))


def _spiral(u: np.ndarray, v: np.ndarray, period: float) -> np.ndarray:
    turn = 3 * np.arctan2(v, u)
    return np.tanh(2.5 * np.sin(2 * np.pi / period * np.hypot(u, v) + turn))


def _plus_signs(u: np.ndarray, v: np.ndarray, period: float) -> np.ndarray:
    side = 1.3 * period
    x, y = abs(u % side - side / 2), abs(v % side - side / 2)
    return np.where(
        (np.minimum(x, y) < 0.16 * side) & (np.maximum(x, y) < 0.4 * side), 1, -0.6
    )


def _rings(u: np.ndarray, v: np.ndarray, period: float) -> np.ndarray:
    side = 1.4 * period
    distance = np.hypot(u % side - side / 2, v % side - side / 2)
    return np.tanh(1.8 * (0.13 * side - abs(distance - 0.3 * side)))


def _dashes(u: np.ndarray, v: np.ndarray, period: float) -> np.ndarray:
    row = np.floor(v / (0.75 * period))
    dash = (u / (1.9 * period) + 0.37 * row) % 1 < 0.6
    return np.where(dash & ((v / (0.75 * period)) % 1 < 0.55), 1.0, -0.7)


def _waves(u: np.ndarray, v: np.ndarray, period: float) -> np.ndarray:
    wave = 2 * np.pi / period
    return np.tanh(2.5 * np.sin(wave * 0.8 * (v + 0.3 * period * np.sin(wave * 0.35 * u))))


def _ladder(u: np.ndarray, v: np.ndarray, period: float) -> np.ndarray:
    wave = 2 * np.pi / period
    return np.tanh(3 * np.sin(wave * 0.45 * u) * (0.4 + np.sin(wave * 1.2 * v)))


_BOAT = _polygon(
    (-1.2, 0), (-0.2, 0), (-0.2, -1.1), (0.6, 0), (1.2, 0), (0.7, 0.75), (-0.7, 0.75)
)  # fmt: skip
_ARROW = _polygon(
    (1.2, 0), (0.2, 1), (0.2, 0.45), (-1.1, 0.45), (-1.1, -0.45), (0.2, -0.45), (0.2, -1)
)  # fmt: skip
_CORNER = _polygon((-1, -1), (-0.1, -1), (-0.1, 0.1), (1, 0.1), (1, 1), (-1, 1))
_BAR = _polygon((-1.3, -0.6), (1.3, -0.6), (1.3, 0.6), (-1.3, 0.6))
_DIAMOND = _polygon((1.2, 0), (0, 1), (-1.2, 0), (0, -1))
_TRAPEZOID = _polygon((-1.1, 0.8), (1.1, 0.8), (0.6, -0.8), (-0.6, -0.8))
_DROP = _polygon(
    (-1.2, 0), (-0.2, 0.7), (0.4, 0.8), (0.9, 0.5), (1.1, 0), (0.9, -0.5), (0.4, -0.8),
    (-0.2, -0.7),
)  # fmt: skip
_TEE = _polygon(
    (-1.1, -1), (1.1, -1), (1.1, -0.2), (0.42, -0.2), (0.42, 1.1), (-0.42, 1.1),
    (-0.42, -0.2), (-1.1, -0.2),
)  # fmt: skip

TWENTY: Tuple[Category, ...] = (
    *SHAPES,
    Category('star', _star, _gratings((45, 1.0))),
    Category('boat', _BOAT, _bricks, upright=True),
    Category('arrow', _ARROW, _scales),
    Category('flower', _wavy(6, 0.25), _spokes),
    Category('crescent', _crescent, _spiral),
    Category('corner', _CORNER, _plus_signs),
    Category('bar', _BAR, _rings),
    Category('diamond', _DIAMOND, _gratings((45, 0.8), (135, 0.8))),
    Category('trapezoid', _TRAPEZOID, _dashes),
    Category('octagon', _wavy(1, 0, 8), _gratings((0, 1.1), (60, 1.1), (120, 1.1))),
    Category('gear', _wavy(9, 0.13), _ladder),
    Category('drop', _DROP, _gratings((20, 0.55), (20, 1.65))),
    Category('tee', _TEE, _gratings((0, 0.6), (90, 1.2), sharpness=1.5)),
    Category('water', _water, _waves, upright=True),
)
"""The classes of the demo and fourteen more, boat and water among them."""
