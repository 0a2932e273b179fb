"""Procedurally drawn scenes: textured shapes among clutter, with their masks.

Six classes differ by shape and by texture and never by colour. What makes the scenes
hard for image labels alone:

* the texture of an object is strong on one side and fades on the other, so that a
  classifier can be right from a part;
* some backgrounds co-occur with some classes (``WAVE_CLASSES``, ``GRAIN_CLASS``) and
  predict them without showing them;
* blobs, polygons and strokes, which belong to no class, lie among the objects;
* about half of the images hold a large region of one constant colour.

What makes them solvable: each object has one base colour that differs from its
surroundings, and a texture keeps its orientation within ``MAX_ROTATION``.
Coordinates are ``(x, y)`` in pixels; S is the side of the square images.
"""

from typing import List, NamedTuple, Tuple

import cv2
import numpy as np

CLASSES = ('disk', 'rectangle', 'triangle', 'cross', 'ring', 'hexagon')
SUPERSAMPLING = 4
NOMINAL_SIZE = 96  # lengths below are in pixels of an image of this size
DIAMETER = (30.0, 60.0)
MAX_ROTATION = 0.4  # radians either way: a texture keeps its rough orientation
OBJECT_COUNT_PROBABILITY = (0.35, 0.40, 0.25)  # of 1, 2, 3 objects
MIN_VISIBLE_FRACTION = 0.4
MIN_VISIBLE_PIXELS = 150
WEAK_TEXTURE = 0.4  # contrast on the faded side, relative to the strong side
# how often a background texture shows with and without its classes
COOCCURRENCE, BASE_RATE = 0.6, 0.2
WAVE_CLASSES = (0, 3)
GRAIN_CLASS = 2


class Scene(NamedTuple):
    """One drawn image.

    Attributes:
        image: (S, S, 3) uint8, RGB.
        mask: (S, S) uint8, 0 = background, k + 1 = class k.
        boxes: (class, (xmin, ymin, xmax, ymax)) of each object's visible pixels,
            0-based and inclusive.
    """

    image: np.ndarray
    mask: np.ndarray
    boxes: List[Tuple[int, Tuple[int, int, int, int]]]


class Pose(NamedTuple):
    """Where an object lies.

    Attributes:
        label: Class, 0-based without background.
        center: (x, y) in pixels.
        radius: In pixels.
        angle: In radians.
        aspect: Ratio of the sides, in (0, 1].
    """

    label: int
    center: Tuple[float, float]
    radius: float
    angle: float
    aspect: float


def draw_scene(rng: np.random.Generator, size: int) -> Scene:
    """Draw one scene of ``size`` x ``size`` pixels; ``rng`` is all that is random."""
    count = 1 + rng.choice(len(OBJECT_COUNT_PROBABILITY), p=OBJECT_COUNT_PROBABILITY)
    labels = rng.integers(len(CLASSES), size=count)
    poses, alphas = _place_objects(rng, labels, size)
    present = {pose.label for pose in poses}
    canvas = _draw_background(rng, present, size)
    for _ in range(rng.integers(4)):
        canvas = _draw_clutter(rng, canvas)
    owner = np.full((size, size), -1)
    for index, (pose, alpha) in enumerate(zip(poses, alphas)):
        canvas = _draw_object(rng, canvas, pose, alpha)
        owner[alpha >= 0.5] = index
    canvas += rng.normal(0, 3.0, canvas.shape)
    mask = np.zeros((size, size), np.uint8)
    boxes = []
    for index, pose in enumerate(poses):
        ys, xs = np.nonzero(owner == index)
        mask[ys, xs] = pose.label + 1
        boxes.append(
            (pose.label, (int(xs.min()), int(ys.min()), int(xs.max()), int(ys.max())))
        )
    return Scene(np.clip(np.rint(canvas), 0, 255).astype(np.uint8), mask, boxes)


def _place_objects(rng, labels, size):
    """Choose poses so that each object keeps a large enough part visible."""
    poses, alphas, areas = [], [], []
    for label in labels:
        for attempt in range(30):
            last_resort = not poses and attempt == 29
            pose = _random_pose(rng, int(label), size, centered=last_resort)
            alpha, area = _rasterize(pose, size)
            visible = _visible_pixels(alphas + [alpha])
            needed = [
                max(
                    MIN_VISIBLE_PIXELS * (size / NOMINAL_SIZE) ** 2,
                    MIN_VISIBLE_FRACTION * a,
                )
                for a in areas + [area]
            ]
            if all(v >= n for v, n in zip(visible, needed)):
                poses.append(pose)
                alphas.append(alpha)
                areas.append(area)
                break
    return poses, alphas


def _visible_pixels(alphas):
    visible, free = [], np.ones_like(alphas[0], dtype=bool)
    for alpha in reversed(alphas):
        inside = alpha >= 0.5
        visible.append(int((inside & free).sum()))
        free &= ~inside
    return visible[::-1]


def _random_pose(rng, label, size, centered):
    radius = rng.uniform(*DIAMETER) / 2 * size / NOMINAL_SIZE
    center = (0.5, 0.5) if centered else rng.uniform(0.08, 0.92, 2)
    return Pose(
        label,
        (center[0] * size, center[1] * size),
        radius,
        rng.uniform(-MAX_ROTATION, MAX_ROTATION),
        rng.uniform(0.65, 1),
    )


def _outline(pose: Pose) -> List[np.ndarray]:
    """Polygons (n, 2) of the unrotated object around the origin; a second is a hole."""

    def regular(corners, start=0.0):
        theta = start + np.arange(corners) * 2 * np.pi / corners
        return np.stack([np.cos(theta), np.sin(theta)], 1)

    name = CLASSES[pose.label]
    if name == 'disk':
        polygons = [regular(72) * 0.95]
    elif name == 'rectangle':
        half = np.array([0.88, 0.88 * pose.aspect])
        polygons = [np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half]
    elif name == 'triangle':
        polygons = [regular(3) * [1.15, 1.25]]
    elif name == 'cross':
        a, b = 1.05, 0.42
        polygons = [
            np.array(
                [
                    [a, -b],
                    [a, b],
                    [b, b],
                    [b, a],
                    [-b, a],
                    [-b, b],
                    [-a, b],
                    [-a, -b],
                    [-b, -b],
                    [-b, -a],
                    [b, -a],
                    [b, -b],
                ]
            )
        ]
    elif name == 'ring':
        polygons = [regular(72), regular(72) * 0.42]
    else:
        polygons = [regular(6) * [1.0, 0.75 + 0.25 * pose.aspect]]
    return [polygon * pose.radius for polygon in polygons]


def _rasterize(pose: Pose, size: int) -> Tuple[np.ndarray, float]:
    """Coverage (S, S) in [0, 1] within the frame, and the whole area in pixels."""
    cos, sin = np.cos(pose.angle), np.sin(pose.angle)
    rotation = np.array([[cos, sin], [-sin, cos]])
    polygons = _outline(pose)
    areas = [cv2.contourArea(p.astype(np.float32)) for p in polygons]
    coverage = _fill([polygon @ rotation + pose.center for polygon in polygons], size)
    return coverage, areas[0] - sum(areas[1:])


def _fill(polygons, size):
    """Anti-aliased coverage (S, S) of polygons given in pixels (even-odd rule)."""
    large = np.zeros((size * SUPERSAMPLING,) * 2, np.uint8)
    corners = [np.rint(SUPERSAMPLING * p).astype(np.int32) for p in polygons]
    cv2.fillPoly(large, corners, 255)
    return cv2.resize(large, (size, size), interpolation=cv2.INTER_AREA) / 255.0


def _texture(pose: Pose, period: float, size: int) -> np.ndarray:
    """The class's pattern (S, S) in about [-1, 1], in the object's own axes."""
    ys, xs = np.mgrid[:size, :size] + 0.5
    dx, dy = xs - pose.center[0], ys - pose.center[1]
    cos, sin = np.cos(pose.angle), np.sin(pose.angle)
    u, v = cos * dx + sin * dy, -sin * dx + cos * dy
    wave = 2 * np.pi / period
    name = CLASSES[pose.label]
    if name == 'disk':  # stripes
        return np.tanh(2.5 * np.sin(wave * v))
    if name == 'rectangle':  # checkerboard
        return np.tanh(4 * np.sin(wave * 0.6 * u) * np.sin(wave * 0.6 * v))
    if name == 'triangle':  # bright dots in staggered rows
        half_row = (np.floor(v / period) % 2) * period / 2
        distance = np.hypot((u + half_row) % period - period / 2, v % period - period / 2)
        return np.tanh(2.0 * (period * 0.34 - distance))
    if name == 'cross':  # a grid of thin lines
        lines = np.maximum(np.cos(wave * 0.85 * u), np.cos(wave * 0.85 * v))
        return np.tanh(5 * (lines - 0.6))
    if name == 'ring':  # concentric circles
        return np.tanh(2.5 * np.sin(wave * 1.25 * np.hypot(u, v)))
    zigzag = np.abs((v / (1.6 * period)) % 1 - 0.5) * 1.6 * period * 1.3
    return np.tanh(2.5 * np.sin(wave * 0.9 * (u + zigzag)))


def _draw_object(rng, canvas, pose, alpha):
    """Paint one textured object; its texture fades along a random direction."""
    size = canvas.shape[0]
    color = _contrasting_color(rng, canvas, alpha)
    texture = _texture(pose, rng.uniform(6.3, 7.7) * size / NOMINAL_SIZE, size)
    texture -= (texture * alpha).sum() / alpha.sum()
    ys, xs = np.mgrid[:size, :size] + 0.5
    theta = rng.uniform(0, 2 * np.pi)
    along = (
        (xs - pose.center[0]) * np.cos(theta) + (ys - pose.center[1]) * np.sin(theta)
    ) / pose.radius
    fade = 1 - (1 - WEAK_TEXTURE) * _smoothstep(along, -0.4, 0.6)
    amplitude = rng.uniform(58, 75) * rng.uniform(0.8, 1.0, 3)
    painted = color + amplitude * (fade * texture)[..., None]
    return canvas + alpha[..., None] * (painted - canvas)


def _smoothstep(x, low, high):
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _contrasting_color(rng, canvas, alpha, tries=12):
    """A random colour that differs from the surroundings along most of the outline."""
    inside = (alpha > 0).astype(np.uint8)
    around = (cv2.dilate(inside, np.ones((9, 9), np.uint8)) > 0) & (alpha < 0.5)
    pixels = canvas[around] if around.any() else canvas[alpha > 0]
    best, best_distance = None, -1.0
    for _ in range(tries):
        color = _random_color(rng, saturation=(0.25, 0.9))
        distance = np.quantile(np.linalg.norm(pixels - color, axis=1), 0.1)
        if distance > best_distance:
            best, best_distance = color, distance
        if distance > 75:
            break
    return best


def _random_color(rng, saturation):
    """RGB (3,) float in [45, 210]: room for texture on both sides."""
    hue = rng.uniform(0, 6)
    pure = np.clip(np.abs((hue + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    value = rng.uniform(0.45, 1.0)
    return 45 + 165 * value * (1 - rng.uniform(*saturation) * (1 - pure))


def _draw_background(rng, present, size):
    """A gradient with soft noise, co-occurring textures, and a flat region in half."""
    ys, xs = np.mgrid[:size, :size] / size - 0.5
    theta = rng.uniform(0, 2 * np.pi)
    ramp = (np.cos(theta) * xs + np.sin(theta) * ys + 0.5)[..., None]
    color = _random_color(rng, saturation=(0.0, 0.45))
    canvas = color + ramp * (np.clip(color + rng.uniform(-40, 40, 3), 45, 210) - color)
    canvas += 7 * _smooth_noise(rng, size, sigma=5.0)[..., None]
    if rng.random() < (COOCCURRENCE if present & set(WAVE_CLASSES) else BASE_RATE):
        canvas += _waves(rng, xs, ys)[..., None]
    if rng.random() < (COOCCURRENCE if GRAIN_CLASS in present else BASE_RATE):
        canvas += 11 * _smooth_noise(rng, size, sigma=0.6)[..., None]
    if rng.random() < 0.5:
        theta = rng.choice(4) * np.pi / 2 + rng.uniform(-0.3, 0.3)
        flat = np.cos(theta) * xs + np.sin(theta) * ys > rng.uniform(-0.05, 0.25)
        canvas[flat] = _random_color(rng, saturation=(0.0, 0.45))
    return canvas


def _waves(rng, xs, ys):
    theta = rng.uniform(0, 2 * np.pi)
    u = np.cos(theta) * xs + np.sin(theta) * ys
    v = -np.sin(theta) * xs + np.cos(theta) * ys
    phase = rng.uniform(0, 2 * np.pi)
    return 9 * np.sin(2 * np.pi * 5 * u + 1.5 * np.sin(2 * np.pi * 2 * v + phase))


def _smooth_noise(rng, size, sigma):
    noise = cv2.GaussianBlur(rng.normal(0, 1, (size, size)), (0, 0), sigma)
    return noise / noise.std()


def _draw_clutter(rng, canvas):
    """Paint one thing of no class: blob or polygon (flat or noisy), or thin stroke."""
    size = canvas.shape[0]
    center, kind = rng.uniform(0, size, 2), rng.choice(3)
    if kind == 2:
        theta, length = rng.uniform(0, np.pi), rng.uniform(0.3, 0.9) * size
        along = np.array([np.cos(theta), np.sin(theta)]) * length / 2
        across = np.array([-np.sin(theta), np.cos(theta)])
        across = across * rng.uniform(0.8, 2.2) * size / NOMINAL_SIZE
        polygon = np.stack(
            [along + across, along - across, -along - across, -along + across]
        )
    else:
        corners = 48 if kind == 0 else rng.integers(4, 8)
        theta = np.arange(corners) * 2 * np.pi / corners + rng.uniform(0, 2 * np.pi)
        radius = 1 + 0.25 * np.sin(2 * theta + rng.uniform(0, 6))
        radius = radius + 0.15 * np.sin(3 * theta + rng.uniform(0, 6))
        radius = radius * rng.uniform(7, 17) * size / NOMINAL_SIZE
        polygon = np.stack([np.cos(theta), np.sin(theta)], 1) * radius[:, None]
    alpha = _fill([polygon + center], size)[..., None]
    painted = _random_color(rng, saturation=(0.2, 0.9)) + np.zeros_like(canvas)
    if kind != 2 and rng.random() < 0.5:
        painted += 14 * _smooth_noise(rng, size, sigma=rng.uniform(0.6, 1.5))[..., None]
    return canvas + alpha * (painted - canvas)
