"""Random scenes with exact depth: textured grounds, walls, boxes, trees, people and animals of ellipsoids.

They look like nothing in particular, on purpose. A depth network that has learnt from them as well as from the
storybook world relies on what both share with real footage: the ground that comes nearer towards the bottom,
what hides what, shading, contact shadows, haze, and texture that grows finer with distance.

Everything is seen from a camera at the origin, x to the right, y down, z ahead, through rays with z = 1, so that
1 / t along a ray is the inverse depth, and the inverse depth of a plane is linear in the picture.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

Array = np.ndarray
BANK = 512  # side of the textures


@dataclass(frozen=True, kw_only=True, slots=True)
class Camera:
    """``rays`` (h, w, 3) with z = 1; ``normal`` of the ground, which is 1 below the camera."""

    rays: Array
    normal: Array
    focal: float

    @property
    def ground(self) -> Array:
        """Inverse depth of the ground (h, w), at most 0 above the horizon."""
        return self.rays @ self.normal


def scene(rng: np.random.Generator, size: int = 128) -> tuple[Array, Array]:
    """One picture: (size, size, 3) uint8 RGB and its inverse depth (size, size) float32 in [0, 1], 1 = near."""
    camera = random_camera(rng, size)
    while np.mean(camera.ground > 0.06) < 0.1:  # it looks at the sky
        camera = random_camera(rng, size)
    colour, near = backdrop(rng, camera)
    light = unit(rng.normal(size=3) + (0, -1.5, -1))
    for _ in range(rng.integers(1, 7)):
        draw_figure(rng, camera, light, colour, near)
    haze = rng.random() * 0.8 if rng.random() < 0.5 else 0.0
    fog = haze * np.exp(-near / (0.25 * near.max()))[..., None]
    colour = colour * (1 - fog) + rng.random(3, np.float32) * fog
    return (colour.clip(0, 1) * 255).astype(np.uint8), (near / near.max()).astype(np.float32)


def random_camera(rng: np.random.Generator, size: int) -> Camera:
    focal = rng.uniform(0.8, 2.2)  # in half widths of the picture
    pitch, roll = rng.normal(0.15, 0.18), rng.normal(0, 0.04)
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(axis / focal, axis / focal)
    rays = np.stack([x, y, np.ones_like(x)], axis=-1)
    normal = np.array([np.sin(roll), np.cos(pitch) * np.cos(roll), np.sin(pitch)], np.float32)
    return Camera(rays=rays, normal=normal, focal=focal * size / 2)


def backdrop(rng: np.random.Generator, camera: Camera) -> tuple[Array, Array]:
    """The ground and what stands at its end: a far background, or the walls of a room."""
    far = rng.uniform(0.01, 0.1)
    walls = [np.array([0, 0, far])]
    if rng.random() < 0.35:
        walls = [np.array([0, 0, rng.uniform(0.12, 0.5)])]
        for side in (-1, 1):
            if rng.random() < 0.6:
                walls.append(np.array([side * rng.uniform(0.3, 0.8), 0, rng.uniform(0, 0.1)]))
        if rng.random() < 0.4:
            walls.append(-camera.normal / rng.uniform(0.6, 2))
    colour, near = paint_ground(rng, camera), camera.ground
    for wall in walls:
        distance = camera.rays @ wall.astype(np.float32)
        scale = BANK * rng.uniform(0.2, 1)
        picture = sample(texture(rng), camera.rays[..., 0] * scale, camera.rays[..., 1] * scale)
        if wall is walls[0]:
            picture = picture * rng.uniform(0.2, 1) + gradient(rng, camera) * 0.6
        colour = np.where((distance > near)[..., None], picture, colour)
        near = np.maximum(distance, near)
    return colour, near


def paint_ground(rng: np.random.Generator, camera: Camera) -> Array:
    points = camera.rays / np.maximum(camera.ground, 1e-3)[..., None] * (BANK * rng.uniform(0.05, 0.5))
    turn = rng.uniform(0, 2 * np.pi)
    u = points[..., 0] * np.cos(turn) + points[..., 2] * np.sin(turn)
    v = points[..., 2] * np.cos(turn) - points[..., 0] * np.sin(turn)
    strength = np.minimum(1, camera.ground * 6).clip(0.1)[..., None]  # fine texture blurs in the distance
    picture = sample(texture(rng), u, v)
    return picture * strength + picture.mean((0, 1)) * (1 - strength)


def gradient(rng: np.random.Generator, camera: Camera) -> Array:
    top, bottom = rng.random((2, 3), np.float32)
    share = np.linspace(0, 1, len(camera.rays), dtype=np.float32)[:, None, None]
    return np.broadcast_to(top * (1 - share) + bottom * share, camera.rays.shape)


# Things that stand on the ground: (centre, radii) of their ellipsoids, in heights, (right, up, ahead)
PERSON = (
    ((0, 0.68, 0), (0.14, 0.2, 0.09)),
    ((0, 0.92, 0), (0.08, 0.1, 0.09)),
    ((-0.08, 0.25, 0), (0.06, 0.26, 0.07)),
    ((0.08, 0.25, 0), (0.06, 0.26, 0.07)),
    ((-0.19, 0.62, 0), (0.045, 0.22, 0.05)),
    ((0.19, 0.62, 0), (0.045, 0.22, 0.05)),
)
ANIMAL = (
    ((0, 0.6, 0), (0.55, 0.25, 0.22)),
    ((0.55, 0.85, 0), (0.2, 0.2, 0.17)),
    ((-0.35, 0.22, -0.1), (0.08, 0.25, 0.08)),
    ((-0.35, 0.22, 0.1), (0.08, 0.25, 0.08)),
    ((0.35, 0.22, -0.1), (0.08, 0.25, 0.08)),
    ((0.35, 0.22, 0.1), (0.08, 0.25, 0.08)),
)
TREE = (((0, 0.3, 0), (0.05, 0.35, 0.05)), ((0, 0.75, 0), (0.3, 0.32, 0.3)), ((0.12, 0.6, -0.1), (0.2, 0.18, 0.2)))
BALL = (((0, 0.5, 0), (0.5, 0.5, 0.5)),)
PLUSH = (((0, 0.3, 0), (0.25, 0.3, 0.2)), ((0, 0.72, 0), (0.3, 0.28, 0.26)), ((0.2, 0.1, -0.1), (0.1, 0.1, 0.16)))
FIGURES = (PERSON, PERSON, ANIMAL, TREE, BALL, PLUSH)


def draw_figure(rng: np.random.Generator, camera: Camera, light: Array, colour: Array, near: Array) -> None:
    """Stands something on the ground, with its shadow; ``colour`` and ``near`` are changed in place."""
    rows, columns = np.nonzero(camera.ground > 0.06)
    if not len(rows):
        return
    at = rng.integers(len(rows))
    ray = camera.rays[rows[at], columns[at]]
    foot = ray / (ray @ camera.normal)
    height = rng.uniform(0.3, 1.6)
    cast_shadow(camera, foot, height * rng.uniform(0.2, 0.6), rng.uniform(0.2, 0.7), colour, near)
    if rng.random() < 0.25:
        half = height * rng.uniform(0.2, 0.8, 3) * (0.5, 0.6, 0.5)
        centre = foot - camera.normal * half[1]
        draw_box(rng, camera, light, centre, half, colour, near)
        return
    turn = rng.uniform(0, 2 * np.pi)
    lean = rng.normal(0, 0.08)
    for place, radii in FIGURES[rng.integers(len(FIGURES))]:
        right, up, ahead = np.array(place) * height * rng.uniform(0.95, 1.05, 3)
        right, ahead = right * np.cos(turn) - ahead * np.sin(turn), right * np.sin(turn) + ahead * np.cos(turn)
        centre = foot - camera.normal * up + np.array([right + lean * up, 0, ahead])
        wide = np.hypot(radii[0] * np.cos(turn), radii[2] * np.sin(turn))
        deep = np.hypot(radii[0] * np.sin(turn), radii[2] * np.cos(turn))
        draw_ellipsoid(rng, camera, light, centre, np.array([wide, radii[1], deep]) * height, colour, near)


def cast_shadow(camera: Camera, foot: Array, radius: float, depth: float, colour: Array, near: Array) -> None:
    inverse = np.maximum(camera.ground, 1e-3)[..., None]
    apart = np.square(camera.rays / inverse - foot).sum(-1) / radius**2
    shade = 1 - depth * np.exp(-apart) * (near <= camera.ground)
    colour *= shade[..., None]


def draw_ellipsoid(rng, camera: Camera, light: Array, centre: Array, radii: Array, colour: Array, near: Array) -> None:
    window = project(camera, centre, radii.max())
    if window is None:
        return
    rays = camera.rays[window] / radii
    origin = -centre / radii
    a, b, c = np.square(rays).sum(-1), rays @ origin, origin @ origin - 1
    root = b * b - a * c
    t = (-b - np.sqrt(root.clip(0))) / a
    normal = unit((origin + t[..., None] * rays) / radii)
    paint(rng, window, (root > 0) & (t > 0.05), 1 / np.maximum(t, 0.05), normal @ light, colour, near)


def draw_box(rng, camera: Camera, light: Array, centre: Array, half: Array, colour: Array, near: Array) -> None:
    window = project(camera, centre, float(np.linalg.norm(half)))
    if window is None:
        return
    turn = rng.uniform(0, np.pi / 2)
    axes = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    rays = camera.rays[window] @ axes.T
    rays = np.where(np.abs(rays) < 1e-6, 1e-6, rays)
    middle = axes @ centre
    enter = np.minimum((middle - half) / rays, (middle + half) / rays)
    leave = np.maximum((middle - half) / rays, (middle + half) / rays).min(-1)
    t, face = enter.max(-1), enter.argmax(-1)
    normal = -np.sign(np.take_along_axis(rays, face[..., None], -1)) * axes[face]
    paint(rng, window, (t < leave) & (t > 0.05), 1 / np.maximum(t, 0.05), normal @ light, colour, near)


def project(camera: Camera, centre: Array, radius: float) -> tuple[slice, slice] | None:
    """The part of the picture where a ball may be seen, or None."""
    z = centre[2] - radius
    if z < 0.1:
        return None
    size = len(camera.rays)
    middle = centre[:2] / centre[2] * camera.focal + size / 2
    reach = 1.2 * radius / z * camera.focal + 2
    left, top = np.clip(middle - reach, 0, size).astype(int)
    right, bottom = np.clip(middle + reach, 0, size).astype(int)
    return (slice(top, bottom), slice(left, right)) if right > left and bottom > top else None


def paint(rng, window, hit: Array, inverse: Array, light: Array, colour: Array, near: Array) -> None:
    """Colours the pixels that are hit and nearer than what is there."""
    front = hit & (inverse > near[window])
    height, width = front.shape
    top, left = rng.integers(0, BANK - 128, 2)
    pattern = texture(rng)[top : top + height, left : left + width]
    base = rng.random(3, np.float32) * (1 - (share := rng.uniform(0, 0.6))) + pattern * share
    shaded = base * (rng.uniform(0.3, 0.8) + rng.uniform(0.2, 0.6) * light.clip(-0.3))[..., None]
    colour[window][front] = shaded[front]
    near[window][front] = inverse[front]


def texture(rng: np.random.Generator) -> Array:
    """One of a few dozen textures (BANK, BANK, 3) float32 in [0, 1], freshly coloured."""
    return textures()[rng.integers(len(textures()))]


@lru_cache
def textures() -> tuple[Array, ...]:
    """Clouds, stripes, checks and grains, all from one fixed seed."""
    rng = np.random.default_rng(0)
    return tuple(make_texture(rng) for _ in range(48))


def make_texture(rng: np.random.Generator) -> Array:
    field = np.zeros((BANK, BANK), np.float32)
    roughness = rng.uniform(0.4, 1.2)
    for octave in range(2, 10):
        coarse = rng.normal(size=(2**octave, 2**octave)).astype(np.float32)
        field += cv2.resize(coarse, (BANK, BANK), interpolation=cv2.INTER_CUBIC) * 2 ** (-roughness * octave)
    kind = rng.integers(4)
    if kind:
        x, y = np.meshgrid(np.arange(BANK), np.arange(BANK))
        period, turn = rng.uniform(8, 80), rng.uniform(0, np.pi)
        wave = np.sin(2 * np.pi * (x * np.cos(turn) + y * np.sin(turn)) / period + (kind == 1) * 2 * field)
        if kind == 3:
            wave = wave * np.sin(2 * np.pi * (y * np.cos(turn) - x * np.sin(turn)) / period)
        field = field / field.std() + rng.uniform(1, 4) * (np.sign(wave) if rng.random() < 0.4 else wave)
    level = (field - field.min()) / np.ptp(field)
    low, high = rng.random((2, 3), np.float32)
    return low + (high - low) * level[..., None]


def sample(picture: Array, u: Array, v: Array) -> Array:
    """The texture at places (u, v) in its pixels, repeated by mirroring."""
    u, v = (np.mod(axis, 2 * BANK).astype(np.float32) for axis in (u, v))
    u, v = (np.minimum(axis, 2 * BANK - 1 - axis).clip(0, BANK - 1) for axis in (u, v))
    return cv2.remap(picture, u, v, cv2.INTER_LINEAR)


def unit(vector: Array) -> Array:
    return vector / np.maximum(np.linalg.norm(vector, axis=-1, keepdims=True), 1e-6)
