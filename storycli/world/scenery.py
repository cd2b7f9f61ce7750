"""Scenery of the storybook world: sky, ground and things in three layers, each with depth."""

import random
from dataclasses import dataclass

import cv2
import numpy as np

from storycli.world.sprites import Canvas, View, paste

MARGIN = (24, 16)
WIDTH, HEIGHT = 128 + 2 * MARGIN[0], 128 + 2 * MARGIN[1]
_FINE = 16


@dataclass(frozen=True, slots=True)
class Layer:
    """A painted sheet larger than the picture: premultiplied RGB or RGBA uint8, and depth float32."""

    colour: np.ndarray
    depth: np.ndarray

    @classmethod
    def of(cls, canvas: Canvas) -> "Layer":
        return cls(np.clip(canvas.colour + 0.5, 0, 255).astype(np.uint8), canvas.depth)

    def seen(self, zoom: float, pan: float, size: int) -> Canvas:
        """What a camera sees of it: float32 colour (size, size, channels) and depth (size, size)."""
        scale = self.depth.shape[1] / WIDTH
        dx = size / 2 - zoom * scale * (WIDTH / 2 + pan)
        dy = size / 2 - zoom * scale * HEIGHT / 2
        if zoom == 1 and pan == 0:
            rows, columns = (slice(round(-offset), round(-offset) + size) for offset in (dy, dx))
            return Canvas(self.colour[rows, columns].astype(np.float32), self.depth[rows, columns].copy())
        shift = 0.5 * (zoom - 1)
        matrix = np.array([[zoom, 0, dx + shift], [0, zoom, dy + shift]])
        options = dict(flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        colour = cv2.warpAffine(self.colour, matrix, (size, size), **options).astype(np.float32)
        return Canvas(colour, cv2.warpAffine(self.depth, matrix, (size, size), **options))

    def over(self, canvas: Canvas, zoom: float, pan: float, size: int) -> None:
        """Put what the camera sees of this RGBA layer over ``canvas``, in place."""
        seen = self.seen(zoom, pan, size)
        clear = 1 - seen.colour[..., 3] * (1 / 255)
        canvas.colour[...] = canvas.colour * clear[..., None] + seen.colour[..., :3]
        canvas.depth[...] = canvas.depth * clear + seen.depth
        canvas.mask[...] *= clear


@dataclass(frozen=True, slots=True)
class Scenery:
    """The layers of a place; ``horizon`` in units of the 176 x 160 sheet; ``tone`` dims characters at night."""

    far: Layer
    near: Layer
    fore: Layer | None
    horizon: float
    tone: float


def ground_depth(y: float | np.ndarray, horizon: float) -> float | np.ndarray:
    """Depth of the ground plane at sheet row ``y``, 1 = near."""
    return 0.18 + 0.62 * np.clip((y - horizon) / (HEIGHT - horizon), 0, 1)


def paint(world, scene, rng: random.Random) -> Scenery:
    """Paint the place of ``scene`` with everything that ``rng`` decides."""
    place, ride = world.places[scene.place], world.actions[scene.action].ride
    at_sea = place.pattern == "sea" and ride is not None and not ride.wheels
    horizon = place.horizon * HEIGHT + rng.uniform(-5, 5)
    colours = [
        np.clip(np.array(c, np.float32) + [rng.uniform(-12, 12) for _ in range(3)], 0, 255) for c in place.colours
    ]
    brush = _Brush(world, rng, horizon, View(world.scale))
    far = brush.sky(place, colours[0], colours[1])
    near = brush.ground(place, colours[2], colours[3], at_sea=at_sea)
    brush.middle(near, place, at_sea=at_sea)
    return Scenery(Layer.of(far), Layer.of(near), brush.fore(place), horizon, place.tone)


@dataclass(slots=True)
class _Brush:
    world: object
    rng: random.Random
    horizon: float
    view: View

    def _rows(self) -> np.ndarray:
        """Sheet rows of the pixel centres, in units."""
        count = round(HEIGHT * self.view.scale)
        return (np.arange(count, dtype=np.float32) + 0.5) / self.view.scale

    def _blank(self, channels: int) -> Canvas:
        shape = (round(HEIGHT * self.view.scale), round(WIDTH * self.view.scale))
        return Canvas(np.zeros((*shape, channels), np.float32), np.zeros(shape, np.float32))

    def _thing(self, canvas, code, x, y, height, near, relief, flip=False) -> None:
        paste(canvas, self.view, self.world.thing(code), x, y, height, near=near, relief=relief, flip=flip)

    def _polygon(self, image, points, colour) -> None:
        corners = np.round(np.array(points) * self.view.scale * _FINE).astype(np.int32)
        cv2.fillPoly(image, [corners], tuple(float(c) for c in colour), cv2.LINE_AA, 4)

    def _line(self, image, start, end, colour, width=1.0) -> None:
        """A line as a thin polygon, so that it is equally wide at every size."""
        (x0, y0), (x1, y1) = start, end
        length = max(1e-6, float(np.hypot(x1 - x0, y1 - y0)))
        u, v = -(y1 - y0) / length * width / 2, (x1 - x0) / length * width / 2
        self._polygon(image, [(x0 + u, y0 + v), (x1 + u, y1 + v), (x1 - u, y1 - v), (x0 - u, y0 - v)], colour)

    # ---- sky and walls -----------------------------------------------------------------------------------

    def sky(self, place, top, bottom) -> Canvas:
        canvas, rng, horizon = self._blank(3), self.rng, self.horizon
        part = np.clip(self._rows() / horizon, 0, 1)[:, None, None]
        image = np.broadcast_to(top * (1 - part) + bottom * part, canvas.colour.shape).astype(np.uint8)
        image = np.ascontiguousarray(image)
        self._sky_pattern(image, place, bottom)
        canvas.colour[...] = image
        wall = place.setting == "indoors"
        canvas.depth[...] = 0.16 if wall else (0.03 + 0.05 * part[..., 0])
        if place.clouds:
            for _ in range(rng.randint(1, 3)):
                self._thing(
                    canvas,
                    "2601",
                    rng.uniform(0, WIDTH),
                    rng.uniform(30, 0.6 * horizon),
                    rng.uniform(16, 28),
                    0.05,
                    0.03,
                )
            if rng.random() < 0.5:
                self._thing(canvas, "2600", rng.uniform(0, WIDTH), rng.uniform(40, 52), 24, 0.04, 0.02)
        for code, height in place.sky:
            x, y = rng.uniform(10, WIDTH - 10), rng.uniform(height + 10, max(height + 14, 0.72 * horizon))
            self._thing(canvas, code, x, y, height * rng.uniform(0.85, 1.1), 0.18 if wall else 0.08, 0.04)
        count = max(2, len(place.far)) if place.far else 0
        columns = [(index + rng.uniform(0.15, 0.85)) * WIDTH / count for index in range(count)]
        rng.shuffle(columns)
        for index, x in enumerate(columns):
            code, height = place.far[index % len(place.far)]
            self._thing(canvas, code, x, horizon + rng.uniform(2, 5), height * rng.uniform(0.85, 1.1), 0.14, 0.05)
        return canvas

    def _sky_pattern(self, image, place, bottom) -> None:
        rng, horizon = self.rng, self.horizon
        if place.pattern in ("red carpet", "tiles"):
            for x in range(8, WIDTH, 26):
                self._line(image, (x, 0), (x, horizon), bottom * 0.9, 1.6)
        if place.pattern == "tiles":
            for y in range(10, int(horizon), 20):
                self._line(image, (0, y), (WIDTH, y), bottom * 0.93, 1.6)
        if place.pattern == "stars":
            for _ in range(34):
                x, y = rng.uniform(0, WIDTH), rng.uniform(2, horizon - 4)
                self._polygon(image, [(x - 0.8, y), (x, y - 0.8), (x + 0.8, y), (x, y + 0.8)], (232, 232, 250))
        if place.pattern == "rays":
            for _ in range(4):
                x, beams = rng.uniform(0, WIDTH), image.copy()
                self._polygon(beams, [(x, 0), (x + 16, 0), (x + 40, horizon), (x + 4, horizon)], (126, 206, 246))
                image[...] = cv2.addWeighted(image, 0.8, beams, 0.2, 0)

    # ---- ground ------------------------------------------------------------------------------------------

    def ground(self, place, far, near, at_sea: bool) -> Canvas:
        canvas, horizon = self._blank(4), self.horizon
        rows = self._rows()
        part = np.clip((rows - horizon) / (HEIGHT - horizon), 0, 1)[:, None, None]
        image = np.broadcast_to(far * (1 - part) + near * part, (*canvas.depth.shape, 3)).astype(np.uint8)
        image = np.ascontiguousarray(image)
        self._ground_pattern(image, place, far, at_sea)
        cover = np.clip((rows - horizon) * self.view.scale + 0.5, 0, 1)[:, None]
        canvas.colour[..., :3] = image * cover[..., None]
        canvas.colour[..., 3] = 255 * cover
        canvas.depth[...] = cover * ground_depth(rows, horizon)[:, None]
        return canvas

    def _ground_pattern(self, image, place, far, at_sea: bool) -> None:
        horizon, deep = self.horizon, HEIGHT - self.horizon
        if place.pattern == "sea":
            shore = HEIGHT if at_sea else horizon + 0.34 * deep
            rows = self._rows()
            part = np.clip((rows - horizon) / (shore - horizon), 0, 1)[:, None, None]
            water = np.array((40, 122, 204)) * (1 - part) + np.array((86, 190, 226)) * part
            wet = (rows < shore)[:, None, None]
            image[...] = np.where(wet, water, image).astype(np.uint8)
            for index in range(7 if at_sea else 3):
                y = horizon + 5 + (7 + 1.2 * index) * index
                self._line(image, (0, y), (WIDTH, y), (150, 216, 238), 1.2)
        if place.pattern == "road":
            top = horizon + 0.32 * deep
            self._polygon(image, [(0, top), (WIDTH, top), (WIDTH, HEIGHT), (0, HEIGHT)], (84, 88, 100))
            for x in range(-10, WIDTH, 36):
                self._line(
                    image, (x, top + 0.5 * (HEIGHT - top)), (x + 18, top + 0.5 * (HEIGHT - top)), (244, 224, 130), 2.4
                )
        if place.pattern in ("red carpet", "blue rug"):
            edge, cloth = (
                ((226, 176, 76), (196, 44, 62)) if place.pattern == "red carpet" else ((120, 150, 212), (156, 186, 234))
            )
            middle = WIDTH / 2
            for narrow, colour in ((0, edge), (6, cloth)):
                top, bottom = horizon + 5 + narrow / 2, HEIGHT - 6 - narrow / 2
                wide_top, wide_bottom = 42 - narrow, 84 - 1.6 * narrow
                self._polygon(
                    image,
                    [
                        (middle - wide_top, top),
                        (middle + wide_top, top),
                        (middle + wide_bottom, bottom),
                        (middle - wide_bottom, bottom),
                    ],
                    colour,
                )
        if place.pattern == "tiles":
            for x in range(-40, WIDTH + 40, 22):
                self._line(image, (x, horizon), (WIDTH / 2 + (x - WIDTH / 2) * 2.2, HEIGHT), far * 0.9, 1.2)

    # ---- things ------------------------------------------------------------------------------------------

    def middle(self, canvas: Canvas, place, at_sea: bool) -> None:
        rng, horizon = self.rng, self.horizon
        count = rng.randint(1, 2) if place.setting == "indoors" else rng.randint(2, 4)
        columns = [(index + rng.uniform(0.1, 0.9)) * WIDTH / count for index in range(count)]
        chosen = [
            (horizon + rng.uniform(6, 18), x, *rng.choice(place.middle), rng.uniform(0.85, 1.12), rng.random() < 0.5)
            for x in columns
        ]
        for y, x, code, height, factor, flip in sorted(chosen):
            if not at_sea:
                self._thing(canvas, code, x, y, height * factor, ground_depth(y, horizon) + 0.02, 0.08, flip)

    def fore(self, place) -> Layer | None:
        rng = self.rng
        if not place.fore or rng.random() < 0.5:
            return None
        canvas = self._blank(4)
        for _ in range(rng.randint(1, 2)):
            code, height = rng.choice(place.fore)
            x = rng.choice((rng.uniform(MARGIN[0], 0.32 * WIDTH), rng.uniform(0.68 * WIDTH, WIDTH - MARGIN[0])))
            self._thing(
                canvas, code, x, HEIGHT - MARGIN[1] + rng.uniform(-3, 4), height * rng.uniform(0.9, 1.2), 0.86, 0.1
            )
        return Layer.of(canvas)
