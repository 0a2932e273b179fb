"""Procedurally drawn scenes: textured shapes among clutter, with their masks.

Classes differ by shape and by texture and never by colour. What makes the scenes hard for
image labels alone:

* the texture of an object is strong on one side and fades on the other, so that a
  classifier can be right from a part;
* some backgrounds co-occur with some classes (``WAVE_CLASSES``, ``GRAIN_CLASS``) and
  predict them without showing them;
* blobs, polygons and strokes, which belong to no class, lie among the objects;
* about half of the images hold a large region of one constant colour.

``NATURAL`` adds twenty classes with a long tail, a class that hardly ever comes without
another (a boat and its water), and photographs as backgrounds.

What makes them solvable: each object has one base colour that differs from its
surroundings, and a texture keeps its orientation within ``MAX_ROTATION``.
Coordinates are ``(x, y)`` in pixels; S is the side of the square images.
"""

from functools import lru_cache
from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple

import cv2
import numpy as np
from PIL import Image
from shapes_categories import SHAPES, TWENTY, Category

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
COMPANION_RATE = 0.85
PHOTOGRAPH_RATE = 0.7
PHOTOGRAPHS = Path(__file__).resolve().parent / 'photographs'


class World(NamedTuple):
    """What scenes are made of.

    Attributes:
        categories: The classes, in the order of their labels.
        tail: How often the last class is drawn, relative to the first; those in between
            decline geometrically.
        companions: Pairs of classes by name: with the first the second is drawn beneath it
            in ``COMPANION_RATE`` of all cases.
        photographs: Folder of the images that ``PHOTOGRAPH_RATE`` of the scenes have as
            background; None for drawn backgrounds alone.
    """

    categories: Tuple[Category, ...]
    tail: float = 1.0
    companions: Tuple[Tuple[str, str], ...] = ()
    photographs: Optional[Path] = None

    @property
    def classes(self) -> Tuple[str, ...]:
        """Names of the classes."""
        return tuple(category.name for category in self.categories)


DEMO = World(SHAPES)
NATURAL = World(TWENTY, tail=0.1, companions=(('boat', 'water'),), photographs=PHOTOGRAPHS)


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


def draw_scene(rng: np.random.Generator, size: int, world: World = DEMO) -> Scene:
    """Draw one scene of ``size`` x ``size`` pixels; ``rng`` is all that is random."""
    count = 1 + rng.choice(len(OBJECT_COUNT_PROBABILITY), p=OBJECT_COUNT_PROBABILITY)
    labels = _choose_labels(rng, count, world)
    poses, alphas = _place_objects(rng, labels, size, world)
    present = {pose.label for pose in poses}
    canvas = _draw_background(rng, present, size, world)
    for _ in range(rng.integers(4)):
        canvas = _draw_clutter(rng, canvas)
    owner = np.full((size, size), -1)
    for index, (pose, alpha) in enumerate(zip(poses, alphas)):
        canvas = _draw_object(rng, canvas, world.categories[pose.label], pose, alpha)
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


def _choose_labels(rng, count, world):
    """Labels of the objects from the lowest to the topmost."""
    number = len(world.categories)
    if world.tail == 1:
        labels = rng.integers(number, size=count)
    else:
        weights = world.tail ** (np.arange(number) / (number - 1))
        labels = rng.choice(number, size=count, p=weights / weights.sum())
    companions = {
        world.classes.index(a): world.classes.index(b) for a, b in world.companions
    }
    chosen = []
    for label in labels:
        if label in companions and rng.random() < COMPANION_RATE:
            chosen.append(companions[label])
        chosen.append(label)
    return chosen


def _place_objects(rng, labels, size, world):
    """Choose poses so that each object keeps a large enough part visible."""
    companions = dict(world.companions)
    poses, alphas, areas = [], [], []
    for label in labels:
        for attempt in range(30):
            last_resort = not poses and attempt == 29
            pose = _random_pose(rng, int(label), size, centered=last_resort)
            category = world.categories[label]
            if category.upright:
                pose = pose._replace(angle=0.2 * pose.angle)
            below = poses[-1] if poses else None
            if below and companions.get(category.name) == world.classes[below.label]:
                pose = pose._replace(center=(pose.center[0], below.center[1]))
            alpha, area = _rasterize(category, pose, size)
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


def _rasterize(category: Category, pose: Pose, size: int) -> Tuple[np.ndarray, float]:
    """Coverage (S, S) in [0, 1] within the frame, and the whole area in pixels."""
    cos, sin = np.cos(pose.angle), np.sin(pose.angle)
    rotation = np.array([[cos, sin], [-sin, cos]])
    polygons = [outline * pose.radius for outline in category.outline(pose.aspect)]
    areas = [cv2.contourArea(p.astype(np.float32)) for p in polygons]
    coverage = _fill([polygon @ rotation + pose.center for polygon in polygons], size)
    return coverage, areas[0] - sum(areas[1:])


def _fill(polygons, size):
    """Anti-aliased coverage (S, S) of polygons given in pixels (even-odd rule)."""
    large = np.zeros((size * SUPERSAMPLING,) * 2, np.uint8)
    corners = [np.rint(SUPERSAMPLING * p).astype(np.int32) for p in polygons]
    cv2.fillPoly(large, corners, 255)
    return cv2.resize(large, (size, size), interpolation=cv2.INTER_AREA) / 255.0


def _texture(category: Category, pose: Pose, period: float, size: int) -> np.ndarray:
    """The category's pattern (S, S) in about [-1, 1], in the object's own axes."""
    ys, xs = np.mgrid[:size, :size] + 0.5
    dx, dy = xs - pose.center[0], ys - pose.center[1]
    cos, sin = np.cos(pose.angle), np.sin(pose.angle)
    return category.texture(cos * dx + sin * dy, -sin * dx + cos * dy, period)


def _draw_object(rng, canvas, category, pose, alpha):
    """Paint one textured object; its texture fades along a random direction."""
    size = canvas.shape[0]
    color = _contrasting_color(rng, canvas, alpha)
    texture = _texture(category, pose, rng.uniform(6.3, 7.7) * size / NOMINAL_SIZE, size)
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


def _draw_background(rng, present, size, world):
    """A part of a photograph, or a drawn background.

    The latter is a gradient with soft noise, co-occurring textures, and a flat region in
    half of the scenes.
    """
    if world.photographs is not None and rng.random() < PHOTOGRAPH_RATE:
        return _part_of_photograph(rng, _load_photographs(world.photographs), size)
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


@lru_cache(maxsize=None)
def _load_photographs(folder):
    """The images of a folder in the order of their names, RGB uint8."""
    files = sorted(folder.glob('*.jpg'))
    if not files:
        raise FileNotFoundError(f'{folder} holds no photographs (*.jpg)')
    return [np.asarray(Image.open(file).convert('RGB')) for file in files]


def _part_of_photograph(rng, photographs, size):
    image = photographs[rng.integers(len(photographs))]
    side = int(min(image.shape[:2]) * rng.uniform(0.4, 1.0))
    y, x = (int(rng.integers(length - side + 1)) for length in image.shape[:2])
    part = cv2.resize(
        image[y : y + side, x : x + side], (size, size), interpolation=cv2.INTER_AREA
    ).astype(np.float64)
    return part[:, ::-1] if rng.random() < 0.5 else part


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
