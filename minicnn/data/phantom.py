"""Synthetic chest radiographs, drawn from a seed with NumPy alone.

A radiograph is a map of how much tissue each ray has crossed, seen through a display curve. So is this one: outlines
through a few control points say where there is soft tissue, air and bone, their thicknesses are added up, and an
S-shaped curve turns the sum into grey. Patients differ in anatomy; the images of one patient differ in pose, breath,
exposure and what lies on the skin. A positive image differs from the negative one of the same address in its findings
and in nothing else: hazy, soft-edged patches in the outer parts of both lungs. No pixel of the outer eighth of the
picture depends on the label.

Body coordinates: x grows to the right of the picture (the patient's left), y downwards, and 1 is about 20 cm.
"""

from typing import NamedTuple

import numpy as np

from minicnn import streams

__all__ = ["render"]

# What a block of random numbers is for: the `epoch` word of its address.
_PLAN, _PATIENT, _EXAM, _FINDINGS, _GRAIN = range(5)


class _Draws:
    """Hand out the uniforms of one address, one after the other."""

    def __init__(self, seed, purpose, index, n):
        self._values = streams.uniforms(seed, streams.Stream.PHANTOM, purpose, index, n)
        self._used = 0

    def between(self, low, high):
        self._used += 1
        return low + (high - low) * float(self._values[self._used - 1])

    def chance(self, probability):
        return self.between(0, 1) < probability

    def knots(self, *shape):
        """Random float32 numbers of mean 0 and variance 1."""
        n = int(np.prod(shape))
        self._used += n
        return ((self._values[self._used - n:self._used] - 0.5) * 12**0.5).reshape(shape).astype(np.float32)


# Outlines are tables over [-2, 2]: any curve then costs one take().
_GRID = np.linspace(-2, 2, 1025)
_SMOOTH = 9


def _curves(*outlines):
    """Tables of smooth curves through control points, one row for each: straight pieces, then two moving averages."""
    tables = np.array([np.interp(_GRID, *zip(*points)) for points in outlines])
    for _ in range(2):
        total = np.cumsum(np.pad(tables, ((0, 0), (_SMOOTH + 1, _SMOOTH)), mode="edge"), axis=1)
        tables = (total[:, 2 * _SMOOTH + 1:] - total[:, :-2 * _SMOOTH - 1]) / (2 * _SMOOTH + 1)
    return tables.astype(np.float32)


_TRUNK_DEPTH, _CHEST_DEPTH, _BLADE_IN, _BLADE_OUT, _ACROMION = _curves(
    [(-1.4, 0.72), (-1.0, 0.55), (-0.85, 0.5), (-0.6, 0.72), (-0.2, 0.9), (0.4, 1.0), (0.9, 1.08)],
    [(-0.88, 0.1), (-0.75, 0.3), (-0.5, 0.54), (-0.1, 0.66), (0.4, 0.68)],
    [(-0.8, 0.69), (-0.6, 0.67), (-0.3, 0.72), (-0.05, 0.79), (0.05, 0.86)],
    [(-0.8, 1.06), (-0.6, 1.0), (-0.3, 0.92), (-0.05, 0.85), (0.05, 0.83)],
    [(0.6, -0.60), (0.8, -0.74), (1.0, -0.83), (1.2, -0.8)])


class _Rays(NamedTuple):
    """Where the rays meet the body; the places of x, |x| and y in the tables; 1 for the patient's left."""

    x: np.ndarray
    y: np.ndarray
    ax: np.ndarray
    col: np.ndarray
    acol: np.ndarray
    row: np.ndarray
    left: np.ndarray

    def within(self, top=-2, bottom=2, width=2):
        """Return (slices, rays) of the part of the picture with top < y < bottom and |x| < width."""
        y = self.y[:, ::max(len(self.y[0]) - 1, 1)]
        x = self.x[::max(len(self.x) - 1, 1)]
        part = (_span((y.max(1) > top) & (y.min(1) < bottom)),
                _span((x.max(0) > -width - 0.03) & (x.min(0) < width + 0.03)))
        return part, _Rays(*(v[part] for v in self))


def _span(mask):
    found = np.flatnonzero(mask)
    return slice(found[0], found[-1] + 1) if len(found) else slice(0, 0)


def _places(v):
    return ((v + 2) * 256).astype(np.int32).astype(np.intp)


def _at(table, places):
    return table.take(places, mode="clip")


def _step(v, width):
    """Rise smoothly from 0 to 1 while `v` goes from -width to width."""
    t = np.clip(v * (0.5 / width) + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def _positive(v):
    return np.clip(v, 0, 9)     # three times as fast as np.maximum(v, 0)


def _ball(q2):
    """The thickness of a ball over its disc, from the squared distance: sqrt(1 - q2), 0 outside."""
    return np.sqrt(_positive(1 - q2))


def _bell(q2):
    """Nearly exp(-q2 / 2), but exactly 0 from a distance of 3 on."""
    t = _positive(1 - q2 * (1 / 9))
    t *= t
    return t * t


def _bone(d, half_width):
    """The thickness of a bone at distance `d` from its axis: a cortex, so brighter towards the rims; 0 outside."""
    q2 = np.square(d * (1 / half_width))
    return _positive(1 - q2 * q2) * (0.7 + 0.5 * q2)


def _field(knots, rows, size):
    """A smooth random field of about unit variance: the cubic B-spline over a square of knots."""
    return _spline(_spline(knots, rows, size).T, range(size), size).T * 1.9


def _spline(knots, rows, size):
    at = (np.arange(rows.start, rows.stop) + 0.5) / size * (len(knots) - 3)
    first = at.astype(np.intp)
    t = (at - first).astype(np.float32)[:, None]
    weights = ((1 - t) ** 3 / 6, (3 * t**3 - 6 * t**2 + 4) / 6, (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6, t**3 / 6)
    return sum(w * knots[first + j] for j, w in enumerate(weights))


class _Anatomy:
    """The body of one patient, breathing in as deep as in this exam."""

    def __init__(self, seed, patient, ap, breath):
        d = _Draws(seed, _PATIENT, patient, 1000)
        female = d.chance(0.5)
        self.size = d.between(0.94, 1.06)
        self.depth = d.between(0.9, 1.2)
        self.bone = d.between(0.7, 1.2)
        self.bend, self.lean = d.between(-0.05, 0.05), d.between(-0.03, 0.03)
        w = d.between(0.68, 0.76)                       # half-width of the chest
        bulge = d.between(-0.03, 0.03)
        neck, slope = d.between(0.24, 0.31), d.between(-0.06, 0.06)
        flank = d.between(0.92, 1.06) + 0.03 * female
        heart, knob = d.between(0.86, 1.14) * (1.12 if ap else 1), d.between(0.8, 1.2)
        h = d.between(-0.04, 0.04) + 0.3 * breath
        right, left = d.between(0.38, 0.48) + breath, d.between(0.42, 0.54) + breath    # the tops of the diaphragm
        angle = d.between(0.17, 0.26) - 0.5 * breath
        tilt = d.between(-0.06, 0.06) - (0.04 if ap else 0)
        self.wall, self.outline, heart_right, heart_left, self.dome, self.clavicle = _curves(
            [(-0.86, 0), (-0.82, 0.24), (-0.72, 0.40), (-0.55, 0.54 + bulge), (-0.3, 0.91 * w), (0, 0.98 * w), (0.35, w),
             (0.8, w), (1.2, 0.95 * w)],
            [(-2, neck + 0.3), (-1.5, neck + 0.1), (-1.15, neck), (-1.0, neck + 0.03), (-0.92 + slope, 0.5),
             (-0.84 + slope, 0.9), (-0.74 + slope, 1.16), (-0.6 + slope, 1.24), (-0.3, 1.14), (0, flank), (1.2, flank)],
            [(-0.9, 0.27), (-0.75, 0.2), (-0.55, 0.16), (-0.3, 0.145), (-0.12, 0.145), (-0.02 + h, 0.165 * heart),
             (0.08 + h, 0.2 * heart), (0.2 + h, 0.222 * heart), (0.32 + h, 0.215 * heart), (0.44 + h, 0.19), (0.8, 0.17)],
            [(-0.9, 0.27), (-0.75, 0.2), (-0.58, 0.155), (-0.48, 0.17 * knob), (-0.4, 0.21 * knob),
             (-0.32, 0.19 * knob), (-0.24, 0.16), (-0.16, 0.185), (-0.06, 0.2 * heart), (0.04 + h, 0.27 * heart),
             (0.14 + h, 0.35 * heart), (0.24 + h, 0.41 * heart), (0.34 + h, 0.44 * heart), (0.44 + h, 0.45 * heart),
             (0.54 + h, 0.43 * heart), (0.7 + h, 0.36 * heart), (0.9, 0.3)],
            [(-0.9, right + angle + 0.1), (-0.7, right + angle), (-0.58, right + 0.085), (-0.42, right + 0.01),
             (-0.3, right), (-0.18, right + 0.04), (0, right + 0.12), (0.14, left + 0.07), (0.28, left + 0.01),
             (0.38, left), (0.48, left + 0.03), (0.6, left + 0.1), (0.7, left + angle - 0.02), (0.9, left + angle + 0.08)],
            [(0, -0.58), (0.07, -0.6), (0.2, -0.63), (0.4, -0.70 - tilt / 2), (0.6, -0.765 - tilt), (0.8, -0.80 - tilt),
             (1.0, -0.79 - tilt)])
        self.silhouette = np.concatenate([heart_right, heart_left])
        self.rib_gap, self.first_rib = d.between(0.125, 0.148), d.between(-0.84, -0.78)
        self.hoop_back, self.hoop_front = d.between(0.16, 0.26), d.between(0.24, 0.34)
        self.blade = d.between(-0.04, 0.1) - (0.08 if ap else 0)
        self.breast = (d.between(0.5, 1.2) * female, d.between(0.1, 0.28), d.between(0.28, 0.38))
        self.gas = (d.between(0.3, 1.0) * d.chance(0.5), d.between(0.3, 0.44))
        self.vessels, self.hila = d.between(0.6, 1.4), d.between(0.5, 1.4)
        self.branches, self.wander = d.knots(3, 2, 128), d.knots(11, 11)


def _soft_tissue(body, rays):
    """Trunk, neck and arms."""
    q2 = np.square(rays.ax / _at(body.outline, rays.row))
    total = np.sqrt(_positive(1 - q2 * q2)) * _at(_TRUNK_DEPTH * np.float32(body.depth), rays.row)
    part, at = rays.within(top=-0.9)
    arm = at.ax - 0.1 * at.y - 1.22
    limb = 0.6 * np.sqrt(_ball(np.square(arm * 5))) * _step(at.y + 0.66, 0.14)
    total[part] = np.maximum(total[part], limb)
    shaft = _bone(arm, 0.06) * _step(at.y + 0.62, 0.05)
    head = _ball((np.square(at.ax - 1.12) + np.square(at.y + 0.66)) * 80)
    total[part] += 0.2 * np.maximum(shaft, head)
    return total


def _chest(body, rays, total, exam, rows, size):
    """Air in the lungs, and what lies in it and around it."""
    wall = np.clip(_at(body.wall, rays.row), 0.01, 2)
    a2 = np.clip(np.square(rays.ax / wall), 0, 1)           # 1 at the chest wall
    hoop = np.sqrt(1 - a2)
    beside = _step(rays.ax - _at(body.silhouette, rays.row + 1025 * rays.left), 0.045)  # 0 in heart and mediastinum
    gap = _at(body.dome, rays.col) - rays.y
    above = _step(gap, 0.016)                               # 0 below the diaphragm
    total += 0.15 * (1 - beside) * _step(rays.y + 0.15, 0.35) * above * hoop                # heart
    below = (1 - above) * hoop
    total += 0.08 * below * _step(0.25 - rays.x, 0.4)                                       # liver
    much, at = body.gas
    if much:
        bubble = np.square((rays.x - at) * 7) + np.square((0.1 + gap) * 18)
        total -= 0.25 * much * _step(1 - bubble, 0.6) * below
    if rays.y[0].min() < 0.85:
        # Behind the dome, lung reaches down further.
        air = np.sqrt(1 - a2 * a2) * beside * (0.84 * above + 0.16 * _step(gap + 0.16, 0.1))
        air *= _at(_CHEST_DEPTH * np.float32(body.depth), rays.row)
        loss = _vessels(body, rays, rows, size)
        findings = exam.findings(rays) if exam.findings else 0
        total -= air * exam.air * (1 - loss) * (1 - findings)
        total += _ribs(body, rays, a2, hoop, wall)


def _vessels(body, rays, field):
    """The share of the air that vessels take: trees that start at the hila, branch, wander and thin out."""
    hx, hy = rays.ax - 0.13, rays.y + 0.1 - 0.05 * rays.left.astype(np.float32)
    r = np.sqrt(hx * hx + hy * hy)
    angle = np.arctan2(hy, hx)
    wander = field * r
    loss = 0
    for (jitter, reach), k, start, width in zip(body.branches, (11, 25, 53), (-1, 0.14, 0.3), (0.03, 0.02, 0.013)):
        u = angle * (k / 6.2832) + wander * (0.06 * k)
        i = np.rint(u)
        place = i.astype(np.int32) + 64 * rays.left
        d = (u - i - 0.14 * _at(jitter, place)) * (6.2832 / k) * r
        w = width * _positive(1 - r / (0.75 + 0.12 * _at(reach, place)))
        if start > 0:
            w *= _step(r - start, 0.06)
        loss = loss + np.sqrt(_positive(w * w - d * d))
    return 7 * body.vessels * loss + 0.2 * body.hila * _bell(np.square(hx * 15) + np.square(hy * 8))


def _ribs(body, rays, a2, hoop, wall):
    """Tilted hoops: the back half falls towards the chest wall, the front half from there towards the middle."""
    y = 0.88 * rays.y - body.first_rib                      # they spread towards the base
    steep = a2 / (1.02 - a2) / (wall * wall)
    bones = 0
    for fall, sag, half_width, thick, last in ((-body.hoop_back, 0.5 * body.hoop_back, 0.034, 0.085, 9.5),
                                               (body.hoop_front, 0, 0.038, 0.042, 7.5)):
        u = (y - fall * hoop - sag * a2) * (1 / body.rib_gap)
        i = np.rint(u)
        d = (u - i) * body.rib_gap / np.sqrt(1 + fall * fall * steep)
        bone = _bone(d, half_width) * ((i > -0.5) & (i < last))
        if fall > 0:
            bone *= _step(a2 - 0.32, 0.22)                  # in front, ribs end in cartilage
        bones = bones + thick * body.bone * bone
    seen_along = np.clip(1 / np.sqrt(1.12 - a2), 0, 2.2)
    return bones * seen_along * _step(0.95 - a2, 0.04) * _step(rays.ax - 0.06, 0.02)


def _girdle(body, rays, total):
    """Clavicles and shoulder blades."""
    part, at = rays.within(-1.0, -0.45)
    clavicle = _bone(at.y - _at(body.clavicle, at.acol), 0.036) * _step(at.ax - 0.07, 0.02) * _step(0.95 - at.ax, 0.05)
    acromion = _bone(at.y - _at(_ACROMION, at.acol), 0.03) * _step(at.ax - 0.7, 0.06) * _step(1.08 - at.ax, 0.03)
    total[part] += body.bone * (0.14 * clavicle + 0.07 * acromion)
    part, at = rays.within(-0.85, 0.06)
    ax = at.ax - body.blade
    outer = _at(_BLADE_OUT, at.row) - ax
    blade = _step(ax - _at(_BLADE_IN, at.row), 0.02) * _step(outer, 0.03) * _step(at.y + 0.78, 0.03)
    rim = _bone(outer, 0.03) * _step(at.y + 0.6, 0.05) * _step(-at.y, 0.05)
    total[part] += 0.06 * body.bone * (blade + rim)


def _midline(body, rays, total):
    """Spine, windpipe and main bronchi."""
    part, at = rays.within(width=0.12)
    q2 = np.square(at.x * (1 / 0.095))
    level = (at.y + 0.9) * (1 / 0.12)
    level -= np.rint(level)
    disc = _bell(np.square(level * 7))
    pedicles = _bell(np.square((at.ax - 0.055) * 80) + np.square((np.abs(level) - 0.25) * 11))
    total[part] += body.bone * (0.15 * _positive(1 - q2 * q2) * (1 - 0.3 * disc) + 0.04 * pedicles)
    part, at = rays.within(bottom=-0.1, width=0.2)
    pipe = _ball(np.square((at.x - 0.01) * 22)) * _step(-0.34 - at.y, 0.05)
    bronchi = _ball(np.square((at.ax - 0.5 * at.y - 0.205) * 28)) * _step(at.y + 0.38, 0.05) * _step(-0.24 - at.y, 0.1)
    total[part] -= 0.1 * pipe + 0.06 * bronchi


def _breasts(body, rays, total):
    much, middle, size = body.breast
    if much:
        part, at = rays.within(middle - size, middle + size, 0.46 + size)
        bx, by = (at.ax - 0.45) * (1 / size), (at.y - middle) * (1 / size)
        total[part] += 0.2 * much * np.sqrt(_ball(bx * bx + by * by)) * _step(by + 0.1, 0.8)


class _Findings:
    """Hazy patches in the outer parts of both lungs, given as the share of the air that is lost."""

    def __init__(self, seed, image, body, window):
        d = _Draws(seed, _FINDINGS, image, 600)
        self.extent = d.between(0, 1)
        self.strength = d.between(0.36, 0.54) + 0.15 * self.extent
        self.patches = []
        for k in range(3 + int(6 * self.extent)):
            cy = d.between(-0.45, 0.5)
            cx = (-1) ** k * d.between(0.55, 0.95) * float(body.wall[int((cy + 2) * 256)])
            self.patches.append((cx, cy, 1 / d.between(0.08, 0.17), 1 / d.between(0.08, 0.2), d.between(0.5, 1.2)))
        self.knots = d.knots(21, 21)
        self.window = window
        self.texture = 0.45

    def __call__(self, rays):
        keep = np.ones_like(rays.x)
        for cx, cy, kx, ky, weight in self.patches:
            q2 = np.square((rays.x - cx) * kx) + np.square((rays.y - cy) * ky)
            keep *= 1 - self.strength * weight * _bell(q2)
        return 1 - keep


class _Exam:
    """How one image is taken: pose, breath, exposure, and what is not the patient."""

    def __init__(self, seed, image):
        d = _Draws(seed, _EXAM, image, 200)
        self.ap = d.chance(0.4)
        self.breath = d.between(-0.05, 0.07) - 0.04 * self.ap
        self.zoom, self.aspect = d.between(0.98, 1.24), d.between(0.88, 1.04)
        self.angle = 0.16 * d.between(-1, 1) ** 3
        self.dx, self.dy = d.between(-0.11, 0.11), d.between(-0.11, 0.11)
        self.air = d.between(0.76, 0.94)
        self.haze = d.between(0, 0.34)
        self.veil, self.fog = d.knots(8, 8), d.knots(5, 5)
        self.shutter = [1.02 - 0.12 * d.between(0, 1) * d.chance(0.25) for _ in range(4)]
        self.mark = (d.chance(0.5), d.between(0.03, 0.12), d.between(0.03, 0.12), d.between(0.05, 0.08), d.chance(0.6), d.chance(0.5))
        self.discs, self.wires = [], []
        if d.chance(0.3 + 0.15 * self.ap):
            for x, y in ((-0.4, -0.55), (0.42, -0.5), (-0.45, 0.35), (0.5, 0.45)):
                x, y = x + d.between(-0.12, 0.12), y + d.between(-0.15, 0.15)
                self.discs.append((x, y))
                end = 1.5 if d.chance(0.6) else -1.5
                path = [(y, x), (y + (end - y) * 0.25, x + d.between(-0.2, 0.2)),
                        (y + (end - y) * 0.5, x + d.between(-0.3, 0.3)), (end, d.between(-0.5, 0.5))]
                self.wires.append((path, min(y, end), max(y, end), 0.009, 0.13))
        if d.chance(0.08 + 0.1 * self.ap):
            side = d.between(0.18, 0.32)
            self.wires.append(([(-1.5, -side - 0.1), (-0.95, -side), (-0.62, -0.2), (-0.45, -0.1), (-0.1, -0.12)],
                               -1.5, d.between(-0.25, 0), 0.012, 0.1))
        if self.wires:
            self.wires = [(table, *rest) for table, (_, *rest) in
                          zip(_curves(*(sorted(path) for path, *_ in self.wires)), self.wires)]
        self.grain = d.between(0.003, 0.012)
        centre, width = d.between(0.6, 0.8), d.between(0.2, 0.34)
        bend, black, span = d.between(0.8, 1.25), d.between(0, 0.08), d.between(0.82, 0.95)
        t = np.linspace(-0.5, 2, 2501)
        curve = 1 / (1 + np.exp((centre - t) / width))
        zero = 1 / (1 + np.exp(centre / width))
        self.curve = (black + span * np.clip((curve - zero) / (1 - zero), 0, 1) ** bend).astype(np.float32)


def render(seed, patient, image, positive, size=64):
    over = max(1, -(-128 // size))
    m = size * over
    exam = _Exam(seed, image)
    body = _Anatomy(seed, patient, exam.ap, exam.breath)
    across = (np.arange(m) + 0.5) / m * 2 - 1
    findings = _Findings(seed, image, body, None) if positive else None
    picture = np.empty((size, size), np.uint8)
    height = min(m, max(over, 16384 // m // over * over))
    grain = streams.words(seed, streams.Stream.PHANTOM, _GRAIN, image, m * m // 4).view(np.uint8).reshape(2, m, m)
    mark = _mark(exam, m)
    lit = [_step(across + a, 0.01).astype(np.float32) * _step(b - across, 0.01).astype(np.float32) for a, b in (exam.shutter[:2], exam.shutter[2:])]
    for start in range(0, m, height):
        rows = range(start, min(start + height, m))
        rays = _rays(body, exam, across, across[rows.start:rows.stop])
        total = _soft_tissue(body, rays)
        part, at = rays.within(top=-0.9, width=0.78)
        exam.findings = findings
        _chest2(body, at, total, part, exam, rows, m, across, findings)
        _girdle(body, rays, total)
        _midline(body, rays, total)
        _breasts(body, rays, total)
        _belongings(exam, rays, total)
        total += 0.03 * _field(exam.veil, rows, m)
        noise = (grain[0, rows.start:rows.stop].astype(np.float32) + grain[1, rows.start:rows.stop] - 255) * (1 / 104)
        total += exam.grain * noise * (0.6 + total)
        total += mark[rows.start:rows.stop]
        total *= lit[0][rows.start:rows.stop, None] * lit[1]
        grey = _at(exam.curve, ((total + 0.5) * 1000).astype(np.int32))
        if over > 1:
            grey = grey.reshape(len(rows) // over, over, size, over).mean(axis=(1, 3))
        picture[rows.start // over:rows.stop // over] = np.rint(np.clip(grey, 0, 1) * 255)
    return picture


def _chest2(body, rays, total, part, exam, rows, m, across, findings):
    if not rays.x.size:
        return
    wall = np.clip(_at(body.wall, rays.row), 0.01, 2)
    a2 = np.clip(np.square(rays.ax / wall), 0, 1)           # 1 at the chest wall
    hoop = np.sqrt(1 - a2)
    beside = _step(rays.ax - _at(body.silhouette, rays.row + 1025 * rays.left), 0.045)  # 0 in heart and mediastinum
    gap = _at(body.dome, rays.col) - rays.y
    above = _step(gap, 0.016)                               # 0 below the diaphragm
    t = total[part]
    t += 0.15 * (1 - beside) * _step(rays.y + 0.15, 0.35) * above * hoop                # heart
    below = (1 - above) * hoop
    t += 0.08 * below * _step(0.25 - rays.x, 0.4)                                       # liver
    much, at = body.gas
    if much:
        bubble = np.square((rays.x - at) * 7) + np.square((0.1 + gap) * 18)
        t -= 0.25 * much * _step(1 - bubble, 0.6) * below
    if rays.y[0].min() < 0.85:
        # Behind the dome, lung reaches down further.
        air = np.sqrt(1 - a2 * a2) * beside * (0.84 * above + 0.16 * _step(gap + 0.16, 0.1))
        air *= _at(_CHEST_DEPTH * np.float32(body.depth), rays.row)
        rr = range(rows.start + part[0].start, rows.start + part[0].stop)
        loss = _vessels(body, rays, _field(body.wander, rr, m)[:, part[1]])
        loss = loss + exam.haze * (1 + _field(exam.fog, rr, m)[:, part[1]])
        air *= exam.air * (1 - loss)
        if findings:
            o = findings(rays) * np.clip(1 + findings.texture * _field(findings.knots, rr, m)[:, part[1]], 0, 1.6)
            ramp = np.clip((0.75 - np.abs(across)) * 10, 0, 1).astype(np.float32)
            o *= ramp[rr.start:rr.stop, None] * ramp[part[1]]
            air *= 1 - o
        t -= air
        t += _ribs(body, rays, a2, hoop, wall)


def _rays(body, exam, px, py):
    zoom = exam.zoom / body.size
    c, s = np.cos(exam.angle), np.sin(exam.angle)
    x = (zoom * (c * px[None, :] - s * py[:, None]) + exam.dx).astype(np.float32)
    y = (zoom * exam.aspect * (s * px[None, :] + c * py[:, None]) + exam.dy).astype(np.float32)
    x += body.bend * (y * y - 0.3) + body.lean * y
    ax = np.abs(x)
    return _Rays(x, y, ax, _places(x), _places(ax), _places(y), (x > 0).astype(np.int32))


_LETTERS = {"L": (16, 16, 16, 16, 16, 16, 31), "R": (30, 17, 17, 30, 20, 18, 17),
            "A": (14, 17, 17, 31, 17, 17, 17), "P": (30, 17, 17, 30, 16, 16, 16)}


def _mark(exam, m):
    left, dx, dy, high, view, drawn = exam.mark
    mark = np.zeros((m, m), np.float32)
    k = max(1, round(high * m / 7))
    y = int(dy * m)
    for word in (["L" if left else "R"] + (["AP" if exam.ap else "PA"] if view else [])):
        bits = np.hstack([np.array([[row >> b & 1 for b in (4, 3, 2, 1, 0)] + [0] for row in _LETTERS[c]]) for c in word])
        bits = bits.repeat(k, 0).repeat(k, 1)
        x = m - int(dx * m) - bits.shape[1] if left else int(dx * m)
        mark[y:y + bits.shape[0], x:x + bits.shape[1]] = 1.1 * bits
        y += 9 * k
        k = max(1, k // 2)
    return mark


def _belongings(exam, rays, total):
    for table, top, bottom, half_width, thick in exam.wires:
        part, at = rays.within(top, bottom)
        total[part] += thick * _ball(np.square((at.x - _at(table, at.row)) * (1 / half_width))) * ((at.y > top) & (at.y < bottom))
    for x, y in exam.discs:
        part, at = rays.within(y - 0.06, y + 0.06, abs(x) + 0.06)
        q2 = np.square(at.x - x) + np.square(at.y - y)
        total[part] += 0.07 * (q2 < 0.05**2) + 0.35 * (q2 < 0.018**2)


def _plan(n, patients, seed):
    P = streams.Stream.PHANTOM
    order = streams.permutation(seed, P, _PLAN, n)
    number = np.argsort(streams.words(seed, P, _PLAN, 1, patients), kind="stable")
    u = streams.uniforms(seed, P, _PLAN, 2, n)
    positives = n // 2
    p1 = max(1, patients * positives // n)
    labels = np.zeros(n, np.uint8)
    owner = np.zeros(n, np.int64)
    for label, count, first, ps in ((1, positives, 0, p1), (0, n - positives, p1, patients - p1)):
        who = first + np.where(np.arange(count) < ps, np.arange(count), (u[:count] * ps).astype(int))
        images = order[:positives] if label else order[positives:]
        u = u[count:]
        labels[images] = label
        owner[images] = number[who]
    return labels, owner


class Phantoms(NamedTuple):
    images: np.ndarray
    labels: np.ndarray
    patient_ids: list
    names: list


def generate(n=820, patients=None, seed=0, size=64):
    patients = patients or round(n * 540 / 820)
    labels, owner = _plan(n, patients, seed)
    images = np.stack([render(seed, int(owner[i]), i, bool(labels[i]), size) for i in range(n)])
    return Phantoms(images, labels, [f"patient_{o:05d}" for o in owner], [f"{i:05d}.png" for i in range(n)])
