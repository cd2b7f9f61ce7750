"""A scene of the storybook world in motion: camera, characters, what they hold and ride, and the weather."""

import math
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import cv2
import numpy as np

from storycli.world.scenery import HEIGHT, MARGIN, WIDTH, Scenery, ground_depth, paint
from storycli.world.sprites import Canvas, Sprite, View, paste, shadow
from storycli.world.words import Scene

if TYPE_CHECKING:
    from storycli.world.generator import World

UNITS = 128
FRAMES_PER_SECOND = 8
TALLEST = 106
RELIEF = 0.16


@dataclass(slots=True)
class _Placement:
    x: float
    y: float
    height: float
    rotation: float = 0.0
    stretch: tuple[float, float] = (1.0, 1.0)
    phase: int = 0


@dataclass(slots=True)
class Stage:
    """One scene with everything drawn from its seed decided; ``frame`` paints any moment of it."""

    world: "World"
    scene: Scene
    scenery: Scenery = field(init=False)
    draw: dict[str, float] = field(init=False)
    particles: np.ndarray = field(init=False)
    backdrop: Canvas | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        rng = random.Random(f"picture {self.scene.seed}")
        action = self.world.actions[self.scene.action]
        self.scenery = paint(self.world, self.scene, rng)
        low, high = action.span
        self.draw = {
            "size": rng.uniform(0.92, 1.08),
            "foot": MARGIN[1] + UNITS * rng.uniform(0.87, 0.95),
            "centre": WIDTH / 2 + rng.uniform(-14, 14) * (0.5 if high else 1),
            "span": rng.uniform(low, high),
            "phase": rng.random(),
            "pace": rng.uniform(0.85, 1.15),
            "companion": rng.choice((-1, 1)) * rng.uniform(40, 50),
            "hops": rng.choice((1.0, 1.25, 1.5)),
        }
        self.particles = np.array(
            [[rng.random(), rng.random(), rng.uniform(0.6, 1.3)] for _ in range(rng.randint(20, 40))]
        )

    @property
    def sign(self) -> int:
        return 1 if self.scene.direction == "right" else -1

    def frame(self, index: int, num_frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Paint frame ``index`` of ``num_frames``: rgb uint8 (h,w,3), depth uint8 (h,w), mask bool (h,w)."""
        part = index / max(1, num_frames - 1)
        seconds = index / FRAMES_PER_SECOND
        zoom, pan = self._camera(part)
        view = self._view(zoom, pan)
        canvas = self._backdrop(zoom, pan)
        self._companion(canvas, view, seconds)
        self._hero(canvas, view, part, seconds, 0.7 * pan)
        if self.scenery.fore is not None:
            self.scenery.fore.over(canvas, zoom, pan * 1.25, self.world.size)
        picture = np.clip(canvas.colour + 0.5, 0, 255).astype(np.uint8)
        self._weather(picture, seconds)
        return picture, np.clip(canvas.depth * 255 + 0.5, 0, 255).astype(np.uint8), canvas.mask > 0.5

    # ---- camera ------------------------------------------------------------------------------------------

    def _camera(self, part: float) -> tuple[float, float]:
        match self.scene.camera:
            case "pan left":
                return 1.0, 9 - 18 * part
            case "pan right":
                return 1.0, 18 * part - 9
            case "zoom in":
                return 1 + 0.13 * part, 0.0
            case "zoom out":
                return 1.13 - 0.13 * part, 0.0
        return 1.0, 0.0

    def _view(self, zoom: float, pan: float) -> View:
        scale = self.world.scale * zoom
        half = self.world.size / 2
        return View(scale, half - scale * (WIDTH / 2 + pan), half - scale * HEIGHT / 2)

    def _backdrop(self, zoom: float, pan: float) -> Canvas:
        moving = self.scene.camera != "still"
        if self.backdrop is None or moving:
            far = self.scenery.far.seen(zoom, pan * 0.5, self.world.size)
            self.backdrop = Canvas(far.colour, far.depth, np.zeros_like(far.depth))
            self.scenery.near.over(self.backdrop, zoom, pan, self.world.size)
        if moving:
            return self.backdrop
        return Canvas(self.backdrop.colour.copy(), self.backdrop.depth.copy(), np.zeros_like(self.backdrop.depth))

    # ---- characters --------------------------------------------------------------------------------------

    def _companion(self, canvas: Canvas, view: View, seconds: float) -> None:
        if not self.scene.companion:
            return
        x, y = WIDTH / 2 + self.draw["companion"], self.draw["foot"] - 9
        look = self.world.characters[self.scene.companion]
        sway = math.sin(2 * math.pi * (seconds * 0.7 + self.draw["phase"]))
        shadow(canvas, view, x, y, look.height * 0.5, 0.34)
        paste(
            canvas, view, self.world.sprite(self.scene.companion), x, y, look.height * 0.76,
            near=ground_depth(y, self.scenery.horizon), relief=RELIEF, rotation=0.03 * sway,
            flip=look.kind == "side" and x < WIDTH / 2, tone=self.scenery.tone, foreground=1.0,
        )  # fmt: skip

    def _hero(self, canvas: Canvas, view: View, part: float, seconds: float, followed: float) -> None:
        """``followed``: how far the camera has come along with whoever is on the way."""
        scene, action = self.scene, self.world.actions[self.scene.action]
        look = self.world.characters[scene.character]
        sprite = self.world.sprite(scene.character, action.pose)
        beat = 2 * math.pi * (seconds * self.draw["pace"] + self.draw["phase"])
        at = self._placement(part, seconds, beat, look.kind)
        at.x += followed if action.span[1] else 0.0
        at.phase = round(beat / (2 * math.pi) * len(sprite.phases))
        ground = at.y if scene.action == "approach" else self.draw["foot"]
        near = ground_depth(ground, self.scenery.horizon)
        pose = dict(
            relief=RELIEF, phase=at.phase, tone=self.scenery.tone, foreground=1.0,
            stretch=at.stretch, rotation=at.rotation,
            flip=self.sign > 0 if look.kind == "side" else self.sign < 0 and look.kind != "front",
        )  # fmt: skip
        if action.ride:
            self._ride(canvas, view, sprite, at, near, pose, beat)
            return
        height_above = max(0.0, ground - at.y)
        fade = 1 - min(0.6, height_above / 70)
        if scene.action != "swim":
            shadow(
                canvas, view, at.x, ground, at.height * (1.05 if scene.action == "sleep" else 0.7) * fade, 0.45 * fade
            )
        if scene.action == "sleep":
            half = at.height * sprite.width / sprite.height / 2
            pose["flip"] = False
            paste(canvas, view, sprite, at.x, at.y - 0.92 * half, at.height, near=near, centred=True, **pose)
            self._snores(canvas, view, at, half, seconds, near)
        else:
            paste(canvas, view, sprite, at.x, at.y, at.height, near=near, **pose)
        if action.hold:
            self._held(canvas, view, at, near, beat)

    def _placement(self, part: float, seconds: float, beat: float, kind: str) -> _Placement:
        draw, sign = self.draw, self.sign
        height = min(TALLEST - 4, self.world.characters[self.scene.character].height * draw["size"])
        at = _Placement(draw["centre"] + sign * draw["span"] * (part - 0.5), draw["foot"], height)
        stiff = kind in ("front", "side")
        wave = math.sin(beat)
        match self.scene.action:
            case "walk" if stiff:
                at.y -= 3 * abs(wave)
                at.rotation = 0.08 * wave if kind == "front" else 0.04 * wave
            case "run":
                at.y -= 5 * abs(math.sin(2 * beat)) if stiff else 2 * abs(math.sin(2 * beat))
                at.rotation = 0.09 * sign + 0.03 * math.sin(2 * beat)
            case "jump":
                rise = abs(math.sin(math.pi * (seconds * draw["hops"] + draw["phase"])))
                at.y += 2 - 17 * rise
                at.stretch = (1.05 - 0.08 * rise, 0.93 + 0.09 * rise)
            case "dance":
                at.x += 6 * wave
                at.rotation = (0.2 if stiff else 0.14) * wave
                at.stretch = (1 - 0.04 * math.sin(2 * beat), 1 + 0.05 * math.sin(2 * beat))
            case "fly" | "swim":
                at.height *= 0.86
                at.y = MARGIN[1] + UNITS * (0.83 if self.scene.action == "fly" else 0.8) + 5 * math.sin(beat * 0.7)
                at.rotation = sign * ((0.0 if kind == "side" else 0.38) + 0.08 * math.cos(beat * 0.7))
            case "approach":
                nearness = 0.15 + 0.85 * part
                at.height *= 0.62 + 0.4 * nearness
                horizon = self.scenery.horizon
                at.y = horizon + (draw["foot"] - horizon) * (0.55 + 0.45 * nearness) - (2 * abs(wave) if stiff else 0)
                at.rotation = 0.05 * wave if stiff else 0.0
            case "sleep":
                at.height *= 0.96
                at.rotation = -sign * 1.42
                at.stretch = (1 + 0.03 * wave, 1.0)
            case _:
                at.stretch = (1.0, 1 + 0.018 * wave)
                at.rotation = 0.02 * wave
        return at

    def _ride(
        self, canvas: Canvas, view: View, sprite: Sprite, at: _Placement, near: float, pose: dict, beat: float
    ) -> None:
        ride = self.world.actions[self.scene.action].ride
        vehicle = self.world.thing(ride.code)
        flip = self.scene.direction != ride.faces
        look = dict(tone=self.scenery.tone, foreground=1.0, relief=RELIEF * 0.6, flip=flip)
        x, seat = at.x - ride.back * self.sign, ride.seat * ride.height
        if ride.wheels:
            y, look["rotation"] = at.y - 1.2 * abs(math.sin(beat * 2)), 0.02 * math.sin(beat * 2)
            shadow(canvas, view, at.x, at.y, ride.height * 1.25, 0.45)
        else:
            y, look["rotation"] = at.y + 1.5 * math.sin(beat), 0.06 * math.sin(beat * 0.6)
            pose = pose | dict(rotation=look["rotation"])
        if ride.hull:
            paste(canvas, view, vehicle, at.x, y, ride.height, near=near, **look)
        near_rider, near_front = (near + 0.03, near + 0.05) if ride.hull else (near, near + 0.03)
        paste(canvas, view, sprite, x, y - seat, at.height * ride.rider, near=near_rider, **pose)
        front = self.world.thing(ride.code, ride.hull)
        paste(canvas, view, front, at.x, y, ride.height, near=near_front, **look)

    def _snores(self, canvas: Canvas, view: View, at: _Placement, half: float, seconds: float, near: float) -> None:
        rise = (seconds * 0.5 + self.draw["phase"]) % 1
        x, y = at.x - self.sign * at.height * 0.3, at.y - 1.9 * half - 4 - 14 * rise
        paste(
            canvas, view, self.world.thing("1f4a4"), x, y, 14 + 8 * rise, near=near + 0.1, relief=0.03, foreground=1.0
        )

    def _held(self, canvas: Canvas, view: View, at: _Placement, near: float, beat: float) -> None:
        held, sway = self.world.actions[self.scene.action].hold, math.sin(beat)
        x = at.x + self.sign * held.across * at.height
        y = at.y - (held.up + held.lift * max(0.0, sway)) * at.height
        paste(
            canvas, view, self.world.thing(held.code), x, y, held.height, near=near + 0.1, relief=0.06,
            rotation=held.turn * sway, tone=self.scenery.tone, foreground=1.0,
        )  # fmt: skip

    # ---- what falls --------------------------------------------------------------------------------------

    def _weather(self, picture: np.ndarray, seconds: float) -> None:
        kind = self.scene.weather or ("bubbles" if self.world.places[self.scene.place].setting == "underwater" else "")
        if not kind:
            return
        size, fine = self.world.size, 16
        speed, drift = {"snow": (0.22, 0.04), "rain": (1.1, 0.0), "petals": (0.18, 0.07), "bubbles": (-0.2, 0.02)}[kind]
        for x, y, weight in self.particles[:12] if kind == "bubbles" else self.particles:
            column = (x + drift * math.sin(2 * math.pi * (0.5 * seconds + x)) - 0.12 * seconds * (kind == "rain")) % 1
            row = (y + speed * weight * seconds) % 1
            at = (round(column * size * fine), round(row * size * fine))
            unit = self.world.scale * fine * weight
            if kind == "rain":
                end = (at[0] - round(1.2 * unit), at[1] + round(6 * unit))
                cv2.line(picture, at, end, (206, 224, 244), max(1, round(self.world.scale)), cv2.LINE_AA, 4)
            elif kind == "petals":
                cv2.ellipse(
                    picture,
                    at,
                    (round(2.6 * unit), round(1.5 * unit)),
                    x * 360,
                    0,
                    360,
                    (250, 150, 184),
                    -1,
                    cv2.LINE_AA,
                    4,
                )
            elif kind == "bubbles":
                cv2.circle(
                    picture, at, round(2.2 * unit), (168, 220, 248), max(1, round(self.world.scale)), cv2.LINE_AA, 4
                )
            else:
                cv2.circle(picture, at, round(1.5 * unit), (255, 255, 255), -1, cv2.LINE_AA, 4)
