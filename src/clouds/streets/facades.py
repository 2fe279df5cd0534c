"""Facades as textures: wall material, windows, doors, shop fronts, balconies, under a given light."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from clouds.streets.light import Rgb
from clouds.streets.scene import Scene
from clouds.streets.surfaces import WALL_PPM, coloured, f32, ramp, wall_crop

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


# wall colours of a palette; a material may bring its own
PALETTES: dict[str, tuple[Rgb, ...]] = {
    "sand": ((206, 188, 156), (222, 208, 182), (198, 174, 142), (228, 222, 208), (186, 164, 138)),
    "brick": ((158, 92, 72), (142, 84, 66), (178, 116, 92), (206, 190, 168), (126, 80, 68)),
    "pastel": ((226, 196, 152), (204, 152, 130), (160, 188, 176), (222, 214, 170), (176, 190, 210), (214, 170, 168)),
    "grey": ((168, 168, 168), (140, 143, 148), (192, 190, 186), (116, 118, 122), (206, 204, 200)),
    "earth": ((164, 126, 92), (184, 152, 116), (138, 104, 82), (202, 178, 140), (120, 98, 82)),
    "nordic": ((150, 62, 50), (214, 186, 110), (226, 226, 220), (92, 112, 126), (110, 128, 100)),
}
OWN: dict[str, tuple[Rgb, ...]] = {
    "brick": ((150, 88, 70), (134, 82, 68), (172, 120, 98), (164, 140, 118)),
    "stone": ((176, 168, 152), (156, 150, 140), (194, 184, 162)),
    "panel": ((178, 176, 170), (158, 160, 160), (192, 186, 172)),
    "glass": ((112, 128, 142), (96, 112, 120), (130, 142, 148)),
    "metal": ((158, 164, 170), (176, 172, 162), (128, 138, 146)),
}
DOORS = np.array([(84, 56, 38), (58, 42, 34), (110, 80, 54), (48, 62, 54), (52, 60, 76), (96, 40, 36), (170, 166, 156)])
MATERIALS = ("plaster", "brick", "stone", "panel", "glass", "timber", "metal")


@dataclass(frozen=True)
class Style:
    material: str
    wall: Rgb
    trim: Rgb
    bay: float
    window: tuple[float, float]  # shares of the bay and of the storey
    balconies: bool
    bars: int


def style_of(scene: Scene, rng: np.random.Generator) -> Style:
    name = scene.architecture
    if name == "mixed":
        name = MATERIALS[int(rng.integers(len(MATERIALS)))]
    colours = OWN[name] if name in OWN and rng.random() < 0.75 else PALETTES[scene.palette]
    base, k = colours[int(rng.integers(len(colours)))], float(rng.uniform(0.85, 1.1))
    wall = [min(max(v * k + d, 20.0), 245.0) for v, d in zip(base, rng.uniform(-8, 8, 3).tolist(), strict=True)]
    paint = (226, 224, 218) if rng.random() < 0.7 else (60, 58, 56)
    trim = [v * 0.4 + p * 0.6 for v, p in zip(wall, paint, strict=True)]
    wide = name in ("glass", "panel", "metal")
    return Style(
        name,
        (wall[0], wall[1], wall[2]),
        (trim[0], trim[1], trim[2]),
        float(rng.uniform(2.2, 4.2) if wide else rng.uniform(1.9, 3.4)),
        (
            float(rng.uniform(0.7, 0.92) if name == "glass" else rng.uniform(0.35, 0.62)),
            float(rng.uniform(0.6, 0.85) if name == "glass" else rng.uniform(0.42, 0.62)),
        ),
        bool(rng.random() < 0.28 and name in ("plaster", "panel", "brick")),
        int(rng.integers(0, 3)),
    )


def _window(w: int, h: int, style: Style, light: Rgb, lit: float, rng: np.random.Generator) -> U8:
    """One window (h, w, 3): frame, glass that mirrors sky and street, curtains; or lit from inside."""
    top, bottom = rng.uniform(0.25, 0.75), rng.uniform(0.12, 0.3)
    glass = ramp(top, bottom, h)[:, None, None] * f32([150, 168, 186])
    glass = np.repeat(glass, w, axis=1) * f32(light)
    if rng.random() < 0.4:  # curtain or blind
        cut = max(1, int(h * rng.uniform(0.2, 0.9)))
        glass[:cut] = glass[:cut] * 0.35 + f32([205, 200, 190]) * f32(light) * 0.5
    if lit > 0:
        tone = f32([255, 206, 132]) if rng.random() < 0.75 else f32([222, 232, 246])
        glow = ramp(1.0, 0.6, h)[:, None, None] * tone * np.float32(rng.uniform(0.45, 1.0))
        glass = glass + glow * lit * ramp(0.75, 1.1, w)[None, :, None]
    pane: U8 = np.minimum(glass, 255).astype(np.uint8)
    if w >= 5 and h >= 5:
        frame = tuple(int(min(255, c * k)) for c, k in zip(style.trim, light, strict=True))
        t = max(1, w // 12)
        cv2.rectangle(pane, (0, 0), (w - 1, h - 1), frame, t)
        for i in range(style.bars):
            x = w * (i + 1) // (style.bars + 1)
            cv2.line(pane, (x, 0), (x, h), frame, max(1, t // 2))
        if style.bars and h > w:
            cv2.line(pane, (0, h // 3), (w, h // 3), frame, max(1, t // 2))
    return np.asarray(pane, dtype=np.uint8)


def _shop(w: int, h: int, light: Rgb, lit: float, rng: np.random.Generator) -> U8:
    """A shop front (h, w, 3): panes with blurred goods, a sign band with letters, perhaps an awning."""
    grey = rng.uniform(20, 150, (4, max(2, w // 12), 1))
    small = (0.7 * grey + 0.3 * rng.uniform(20, 150, (*grey.shape[:2], 3))).astype(np.float32) * f32([1, 0.95, 0.88])
    goods = cv2.resize(small, (w, h), interpolation=cv2.INTER_LINEAR) * (f32(light) * 0.6 + np.float32(lit * 1.2))
    front: U8 = np.clip(goods + lit * f32([70, 56, 34]), 0, 255).astype(np.uint8)
    dark = tuple(int(v * k) for v, k in zip(rng.uniform(25, 90, 3), light, strict=True))
    for x in range(0, w, max(4, int(h * rng.uniform(0.5, 1.0)))):
        cv2.line(front, (x, 0), (x, h), dark, max(1, h // 22))
    cv2.rectangle(front, (0, int(h * 0.86)), (w, h), dark, -1)
    band = max(2, int(h * rng.uniform(0.18, 0.28)))
    colour = rng.uniform(20, 225, 3)
    strength = np.array(light) + lit * 0.7
    cv2.rectangle(front, (0, 0), (w, band), tuple(int(v) for v in np.minimum(255, colour * strength)), -1)
    ink = np.minimum(255, (235 if colour.mean() < 130 else 30) * strength)
    x = int(w * rng.uniform(0.08, 0.3))
    while x < w * 0.75 and band > 3:
        step = max(1, int(band * rng.uniform(0.2, 0.5)))
        cv2.line(front, (x, int(band * 0.3)), (x + int(rng.integers(-1, 2)), int(band * 0.75)),
                 tuple(int(v) for v in ink), max(1, band // 7))
        x += step + int(band * 0.12)
    if rng.random() < 0.3:
        cloth = rng.uniform(60, 220, 3) * light
        cv2.rectangle(front, (0, band), (w, band + int(h * 0.14)), tuple(int(min(255, v)) for v in cloth), -1)
        front[band + int(h * 0.14):band + int(h * 0.2)] //= 2
    return np.asarray(front, dtype=np.uint8)


def _far_windows(picture: U8, style: Style, width: float, storeys: int, light: Rgb, night: float, shop: bool,
                 rng: np.random.Generator) -> None:
    """Windows of a facade too far off for frames and doors: all at once, one tone a window, in place."""
    h, w = picture.shape[:2]
    bays = max(1, round(width / style.bay))
    y, x = np.arange(h) * (storeys / h), np.arange(w) * (bays / w)
    row, column = y.astype(int), x.astype(int)
    dy, dx = np.abs(y - row - 0.48), np.abs(x - column - 0.5)
    tones = rng.uniform(0.25, 0.6, (storeys, bays, 1)) * np.array([150.0, 168.0, 186.0]) * np.array(light)
    if night > 0.2:
        lit = rng.random((storeys, bays, 1)) < rng.uniform(0.1, 0.5)
        tones += lit * np.array([255.0, 206.0, 132.0]) * rng.uniform(0.4, 0.9, (storeys, bays, 1)) * night
    if style.material != "glass":
        down, along = np.flatnonzero(dy < style.window[1] / 2 + 0.05), np.flatnonzero(dx < style.window[0] / 2 + 0.06)
        picture[down[:, None], along] = np.minimum(np.array(style.trim) * light, 255).astype(np.uint8)
    down, along = np.flatnonzero(dy < style.window[1] / 2), np.flatnonzero(dx < style.window[0] / 2)
    cells = np.minimum(tones, 255).astype(np.uint8)
    picture[down[:, None], along] = cells[row[down]][:, column[along]]
    if shop:
        front = int((storeys - 1) * h / storeys) + 1
        glass = rng.uniform(25, 90, 3) * light + night * np.array([110, 95, 70])
        picture[front:] = np.minimum(glass, 255).astype(np.uint8)
        picture[front:front + max(1, (h - front) // 4)] = np.minimum(
            rng.uniform(30, 220, 3) * (np.array(light) + 0.6 * night), 255).astype(np.uint8)


def facade(scene: Scene, style: Style, width: float, height: float, storeys: int, shop: bool, ppm: float,
           light: Rgb, night: float, rng: np.random.Generator, blind: bool = False) -> U8:
    """Texture (height * ppm, width * ppm, 3) of a facade under this light (lit windows keep their own)."""
    ppm = min(ppm, math.sqrt(90000 / (width * height)))
    level = min(range(len(WALL_PPM)), key=lambda i: abs(math.log(WALL_PPM[i] / ppm)))
    ppm = WALL_PPM[level]
    w, h = max(4, round(width * ppm)), max(4, round(height * ppm))
    grain = wall_crop(style.material, level, h, w, rng)
    shade = ramp(1.04, 0.88, h) if night < 0.4 else ramp(0.5, 1.25, h)
    shade[: max(1, int(0.5 * ppm))] *= 0.72  # under the eaves
    shade[-max(1, int(0.5 * ppm)):] *= 0.86  # splashed foot
    grain = cv2.multiply(grain, np.broadcast_to(shade[:, None], grain.shape).astype(np.float32), dtype=cv2.CV_8U)
    picture = coloured(grain, style.wall, light, scene.texture)
    if blind:
        return picture
    if level >= 2:
        _far_windows(picture, style, width, storeys, light, night, shop, rng)
        return picture
    floor = h / max(storeys, 1)
    bays = max(1, round(width / style.bay))
    bay = w / bays
    ww, wh = max(2, int(bay * style.window[0])), max(2, int(floor * style.window[1]))
    trim = tuple(int(min(255, c * k)) for c, k in zip(style.trim, light, strict=True))
    variants = [_window(ww, wh, style, light, 0.0, rng) for _ in range(4 if ppm > 4 else 2)]
    glowing = [_window(ww, wh, style, light, night, rng) for _ in range(3)] if night > 0.2 else []
    share = float(rng.uniform(0.1, 0.5)) if night > 0.2 else 0.0
    ground_shop = shop and storeys >= 1 and floor > 4
    choice, lit = rng.integers(0, 12, (storeys, bays)), rng.random((storeys, bays)) < share
    door = int(rng.integers(bays)) if not ground_shop else -1
    for k in range(storeys):
        y = int(k * floor + (floor - wh) * 0.45)
        if k == storeys - 1 and ground_shop:
            break
        cornice = int((k + 1) * floor)
        if style.bars != 1 and k < storeys - 1 and ppm > 4 and k == storeys - 2:
            cv2.line(picture, (0, cornice), (w, cornice), trim, max(1, int(0.12 * ppm)))
        for j in range(bays):
            x = int((j + 0.5) * bay - ww / 2)
            if k == storeys - 1 and j == door:
                dw, dh = min(ww, int(1.3 * ppm) + 1), min(int(2.3 * ppm) + 1, int(floor))
                wood = tuple(int(v) for v in DOORS[int(rng.integers(len(DOORS)))] * np.array(light))
                cv2.rectangle(picture, (x - 1, h - dh - 1), (x + dw + 1, h), trim, -1)
                cv2.rectangle(picture, (x, h - dh), (x + dw, h), wood, -1)
                continue
            c = int(choice[k, j])
            pane = glowing[c % 3] if lit[k, j] and glowing else variants[c % len(variants)]
            if style.material != "glass" and ppm > 4:
                e = max(1, int(0.1 * ppm))
                picture[max(0, y - e):y + wh + e, max(0, x - e):x + ww + e] = trim
                picture[y + wh + e:y + wh + 2 * e, max(0, x - e):x + ww + e] //= 2
            piece = picture[y:y + wh, x:x + ww]
            piece[:] = pane[:piece.shape[0], :piece.shape[1]]
            if style.balconies and k < storeys - 1 and c % 2 == 0 and ppm > 4:
                y1, y2 = y + int(wh * 0.55), y + wh + max(1, int(0.12 * ppm))
                x0, x1 = max(0, x - int(0.35 * ppm)), min(w, x + ww + int(0.35 * ppm))
                picture[y1:y2, x0:x1:max(2, int(0.16 * ppm))] //= 2
                picture[y1:y1 + max(1, int(0.06 * ppm)), x0:x1] //= 3
                picture[y2:y2 + max(1, int(0.18 * ppm)), x0:x1] = trim
    if ground_shop:
        y = int((storeys - 1) * floor)
        picture[y:h, :] = _shop(w, h - y, light, night if rng.random() < 0.75 else 0.0, rng)
    elif ppm > 4:
        picture[h - max(1, int(0.5 * ppm)):] = picture[h - max(1, int(0.5 * ppm)):] // 4 * 3
    if ppm > 4:
        cv2.rectangle(picture, (0, 0), (w, max(1, int(0.25 * ppm))), trim, -1)
        x = int(rng.integers(w))
        picture[:, x:x + max(1, int(0.1 * ppm))] //= 2  # drain pipe
    return picture
