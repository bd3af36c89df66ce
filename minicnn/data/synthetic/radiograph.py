"""Draw one synthetic chest radiograph, with NumPy alone.

A radiograph maps how much tissue each ray has crossed, seen through a display curve. Here, outlines through a few
control points bound soft tissue, air and bone, their thicknesses are added, and an S-shaped curve turns the sum into
grey levels.
`_Body` is the anatomy of a patient, the same in every exam; `_Exam` is what differs between the exams of one patient:
pose, breath, exposure, and objects on the skin. `_Findings` is all that the label changes.

Body coordinates: x points to the right of the image (the patient's left), y down, and 1 is about 20 cm. Image
coordinates (u, v) run from -1 to 1. A thickness of 1 is that of a chest without air.
"""

from typing import NamedTuple

import numpy as np

from minicnn.core import random
from minicnn.core.arguments import Whole, check_all

__all__ = ["SIZE", "render", "view"]

SIZE = Whole(32, 2048)      # what the side of an image may be
_NUMBER = Whole(0, 2**64 - 1)

# The `epoch` word of the addresses of random numbers; the collection as a whole has word 0 (`phantom.py`).
_BODY, _EXAM, _FINDINGS, _GRAIN = 1, 2, 3, 4

_AP = 0.4           # the fraction of AP views; decided by the first draw of an exam
_SMALLEST = 128     # a smaller image is drawn at a multiple of its size and averaged, as a detector does
_STRIP = 16_384     # rays drawn at once: their arrays stay in the cache, and large images need no more memory


def render(seed, patient, image, positive, size=64):
    """Draw the radiograph at the address (seed, patient, image).

    The image depends on these numbers alone. With positive=True it shows findings inside the lungs; no pixel of the
    outer eighth on any side depends on it.

    Returns
    -------
    ndarray, shape (size, size), uint8

    Raises
    ------
    InputError
        size outside 32 .. 2048; seed, patient or image not a whole number from 0 to 2**64 - 1

    >>> render(seed=1, patient=0, image=0, positive=True).shape
    (64, 64)
    """
    constraints = {"seed": _NUMBER, "patient": _NUMBER, "image": _NUMBER, "size": SIZE}
    seed, patient, image, size = check_all("render", constraints, {"seed": seed, "patient": patient, "image": image,
                                                                   "size": size}).values()
    over = -(-_SMALLEST // size)
    side = size * over
    exam = _Exam(seed, image)
    body = _Body(seed, patient, exam)
    findings = _Findings(seed, image, body) if positive else None
    grain = random.words(seed, random.Stream.PHANTOM, _GRAIN, image, side * side // 4 + 1).view(np.uint8)
    u = ((np.arange(side) + 0.5) * (2 / side) - 1).astype(np.float32)
    pixels = np.empty((size, size), np.uint8)
    height = max(1, _STRIP // side // over) * over
    for top in range(0, side, height):
        v = u[top:top + height]
        rays = _aim(exam, body, u, v)
        thickness = _thickness(exam, body, findings, rays)
        noise = grain[2 * side * top:2 * side * (top + len(v))].reshape(len(v), 2, side)
        thickness += exam.grain * (0.6 + thickness) * (noise[:, 0].astype(np.float32) + noise[:, 1] - 255)
        grey = exam.develop(rays, thickness)
        if over > 1:
            grey = grey.reshape(len(v) // over, over, size, over).mean(axis=(1, 3))
        pixels[top // over:(top + len(v)) // over] = np.rint(grey)
    return pixels


def view(seed, image):
    """Return the view that `render` draws: "AP" (from the front, lying) or "PA" (from behind, standing).

    >>> view(seed=1, image=0)
    'PA'
    """
    return "AP" if _Draws(seed, _EXAM, image, 1).chance(_AP) else "PA"


def _thickness(exam, body, findings, rays):
    total = _soft_tissue(body, rays)
    _chest(exam, body, findings, rays, total)
    _girdle(body, rays, total)
    _midline(body, rays, total)
    _breasts(body, rays, total)
    _devices(exam, rays, total)
    return total + 0.03 * _field(exam.veil, rays)


# ---- Random numbers, curves, shapes ----------------------------------------------------------------------------------

class _Draws:
    """The uniforms of one address, one after the other."""

    def __init__(self, seed, purpose, index, n):
        self._values = random.uniforms(seed, random.Stream.PHANTOM, purpose, index, n)
        self._used = 0

    def between(self, low, high):
        self._used += 1
        return low + (high - low) * float(self._values[self._used - 1])

    def chance(self, probability):
        return self.between(0, 1) < probability

    def knots(self, *shape):
        """Numbers of mean 0 and variance 1 (float32)."""
        n = int(np.prod(shape))
        self._used += n
        return ((self._values[self._used - n:self._used] - 0.5) * 12**0.5).reshape(shape).astype(np.float32)


_GRID = np.linspace(-2, 2, 1025)


def _curves(*outlines, smooth=9):
    """Tabulate smooth curves through control points, one row for each: straight pieces, then two moving averages.

    Any curve then costs one look-up for each ray.
    """
    tables = np.array([np.interp(_GRID, *zip(*points)) for points in outlines])
    for _ in range(2):
        total = np.cumsum(np.pad(tables, ((0, 0), (smooth + 1, smooth)), mode="edge"), axis=1)
        tables = (total[:, 2 * smooth + 1:] - total[:, :-2 * smooth - 1]) / (2 * smooth + 1)
    return tables.astype(np.float32)


def _places(v):
    return ((v + 2) * 256).astype(np.int32)


def _at(table, places):
    return table.take(places, mode="clip")


def _step(v, width):
    """Rise smoothly from 0 to 1 while `v` goes from -width to width."""
    t = np.clip(v * (0.5 / width) + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def _positive(v):
    return np.clip(v, 0, 9)     # nothing is thicker; np.maximum(v, 0) takes three times as long


def _ball(q2):
    """The thickness of a ball at the squared distance q2 from its centre: sqrt(1 - q2), 0 outside."""
    return np.sqrt(_positive(1 - q2))


def _bell(q2):
    """Nearly exp(-q2 / 2), but exactly 0 from a distance of 3 on."""
    t = np.square(_positive(1 - q2 * (1 / 9)))
    return t * t


def _bone(d, half_width):
    """The thickness of a bone at distance d from its axis: hard at the surface, so brighter at the rims; 0 outside."""
    q2 = np.square(d * (1 / half_width))
    return _positive(1 - q2 * q2) * (0.7 + 0.5 * q2)


def _field(knots, rays):
    """A smooth random field over the image: the cubic B-spline of a square of knots, of about unit variance."""
    rows = sum(weight[:, None] * knots[first] for first, weight in _spline(knots, rays.v[:, 0]))
    return sum(weight * rows.take(first, axis=1) for first, weight in _spline(knots, rays.u[0])) * 1.9


def _spline(knots, where):
    """Return the four knots around each place, and their weights."""
    at = (where + 1) * (0.5 * (len(knots) - 3))
    first = at.astype(np.intp)
    t = at - first.astype(np.float32)
    weights = (1 - t)**3 / 6, (3 * t**3 - 6 * t**2 + 4) / 6, (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6, t**3 / 6
    return [(first + j, weight) for j, weight in enumerate(weights)]


class _Rays(NamedTuple):
    """Where the rays meet the image and the body."""

    u: np.ndarray       # (1, W) image coordinates
    v: np.ndarray       # (H, 1)
    x: np.ndarray       # (H, W) body coordinates
    y: np.ndarray
    ax: np.ndarray      # |x|
    col: np.ndarray     # the places of x, |x| and y in the tables of curves
    acol: np.ndarray
    row: np.ndarray
    left: np.ndarray    # 1 in the patient's left half, else 0

    def within(self, top=-2, bottom=2, width=2):
        """Return (slices, rays) of the part of the image with top < y < bottom and |x| < width."""
        y, x = self.y[:, [0, -1]], self.x[[0, -1]]
        rows = _span((y.max(1) > top) & (y.min(1) < bottom))
        cols = _span((x.max(0) > -width - 0.03) & (x.min(0) < width + 0.03))    # 0.03: a spine may be bent
        return (rows, cols), _Rays(self.u[:, cols], self.v[rows], *(a[rows, cols] for a in self[2:]))


def _span(mask):
    found = np.flatnonzero(mask)
    return slice(found[0], found[-1] + 1) if len(found) else slice(0, 0)


def _aim(exam, body, u, v):
    u, v = u[None, :], v[:, None]
    zoom, c, s = exam.zoom / body.size, float(np.cos(exam.angle)), float(np.sin(exam.angle))
    x = zoom * (c * u - s * v) + exam.dx
    y = zoom * exam.aspect * (s * u + c * v) + exam.dy
    x += body.bend * (y * y - 0.3) + body.lean * y
    ax = np.abs(x)
    return _Rays(u, v, x, y, ax, _places(x), _places(ax), _places(y), (x > 0).astype(np.int32))


# ---- Exam, body and findings -----------------------------------------------------------------------------------------

class _Exam:
    """One exam: pose, inspiration, exposure, haze, markers and devices."""

    def __init__(self, seed, image):
        d = _Draws(seed, _EXAM, image, 200)
        self.ap = d.chance(_AP)     # less inspiration, a larger heart
        self.breath = d.between(-0.05, 0.07) - 0.04 * self.ap
        self.zoom, self.aspect = d.between(0.98, 1.24), d.between(0.88, 1.04)
        self.angle = 0.16 * d.between(-1, 1)**3
        self.dx, self.dy = d.between(-0.1, 0.1), d.between(-0.1, 0.1)
        self.air, self.haze = d.between(0.76, 0.94), d.between(0, 0.34)
        self.veil, self.fog = d.knots(8, 8), d.knots(5, 5)
        self.shutter = [1.02 - 0.12 * d.between(0, 1) * d.chance(0.25) for _ in range(4)]
        self.marks = self._marks(d)
        self.discs, self.wires = self._devices(d)
        self.grain = d.between(0.00003, 0.00012)
        self.curve = self._curve(d)

    def _marks(self, d):
        """The lead markers: list of (bits, left edge, top, size of a bit)."""
        left, gap, top, bit = d.chance(0.5), d.between(0.06, 0.24), d.between(-0.94, -0.76), d.between(0.014, 0.022)
        words = ["L" if left else "R"] * d.chance(0.85) + [("AP" if self.ap else "PA")] * d.chance(0.5)
        marks = []
        for word in words:
            bits = np.zeros((9, 6 * len(word) + 1), np.float32)
            for i, letter in enumerate(word):
                bits[1:8, 6 * i + 1:6 * i + 6] = [[row >> b & 1 for b in (4, 3, 2, 1, 0)] for row in _LETTERS[letter]]
            marks.append((bits, 1 - gap - bits.shape[1] * bit if left else gap - 1, top, bit))
            top, bit = top + 10 * bit, bit / 2
        return marks

    def _devices(self, d):
        """Electrodes (x, y), and the wires and lines (table of x over y, top, bottom, half-width, thickness)."""
        discs, paths, rest = [], [], []
        if d.chance(0.3 + 0.15 * self.ap):
            for x, y in ((-0.4, -0.55), (0.42, -0.5), (-0.45, 0.35), (0.5, 0.45)):
                x, y, end = x + d.between(-0.12, 0.12), y + d.between(-0.15, 0.15), 1.5 if d.chance(0.6) else -1.5
                discs.append((x, y))
                paths.append([(y, x), (0.75 * y + 0.25 * end, x + d.between(-0.2, 0.2)),
                              (0.5 * y + 0.5 * end, x + d.between(-0.3, 0.3)), (end, d.between(-0.5, 0.5))])
                rest.append((min(y, end), max(y, end), 0.009, 0.13))
        if d.chance(0.08 + 0.1 * self.ap):      # a central venous line
            x = -d.between(0.18, 0.32)
            paths.append([(-1.5, x - 0.1), (-0.95, x), (-0.62, -0.2), (-0.45, -0.1), (-0.1, -0.12)])
            rest.append((-1.5, d.between(-0.25, 0), 0.012, 0.1))
        tables = _curves(*(sorted(path) for path in paths), smooth=24) if paths else []
        return discs, [(table, *more) for table, more in zip(tables, rest)]

    def _curve(self, d):
        """The grey level (0 to 255) of a thickness t, a table over t = -0.5 to 2.5 in steps of 0.001."""
        centre, width, bend = d.between(0.6, 0.8), d.between(0.2, 0.34), d.between(0.8, 1.25)
        black, span = d.between(0, 0.08), d.between(0.82, 0.92)
        s = 1 / (1 + np.exp((centre - np.linspace(-0.5, 2.5, 3001)) / width))
        none = 1 / (1 + np.exp(centre / width))
        return (255 * (black + span * np.clip((s - none) / (1 - none), 0, 1)**bend)).astype(np.float32)

    def develop(self, rays, thickness):
        """Return the grey level of each ray (float32, 0 to 255), with markers and shutters."""
        for bits, x, y, bit in self.marks:
            pixel = 2 / max(rays.x.shape[1], 1)
            bit = max(round(bit / pixel), 1) * pixel
            i = np.clip((rays.v - y) // bit, 0, 8).astype(np.intp)
            j = np.clip((rays.u - x) // bit, 0, bits.shape[1] - 1).astype(np.intp)
            thickness += 1.1 * bits[i, j]
        west, east, north, south = self.shutter
        thickness *= _step(rays.u + west, 0.01) * _step(east - rays.u, 0.01)
        thickness *= _step(rays.v + north, 0.01) * _step(south - rays.v, 0.01)
        return _at(self.curve, ((thickness + 0.5) * 1000).astype(np.int32))


_LETTERS = {"L": (16, 16, 16, 16, 16, 16, 31), "R": (30, 17, 17, 30, 20, 18, 17),
            "A": (14, 17, 17, 31, 17, 17, 17), "P": (30, 17, 17, 30, 16, 16, 16)}


class _Body:
    """The anatomy of one patient at the inspiration of an exam."""

    def __init__(self, seed, patient, exam):
        d = _Draws(seed, _BODY, patient, 1000)
        female = d.chance(0.5)
        self.size, self.depth, self.bone = d.between(0.94, 1.06), d.between(0.9, 1.2), d.between(0.7, 1.2)
        self.bend, self.lean = d.between(-0.05, 0.05), d.between(-0.03, 0.03)
        self.rib_gap, self.first_rib = d.between(0.125, 0.148), d.between(-0.84, -0.78)
        self.hoop_back, self.hoop_front = d.between(0.16, 0.26), d.between(0.24, 0.34)
        self.blade = d.between(-0.04, 0.1) - 0.08 * exam.ap
        self.breast = d.between(0.5, 1.2) * female, d.between(0.1, 0.28), d.between(0.28, 0.38)
        self.gas = d.between(0.3, 1.0) * d.chance(0.5), d.between(0.3, 0.44)
        self.vessels, self.hila = d.between(0.6, 1.4), d.between(0.5, 1.4)
        self.branches, self.wander = d.knots(3, 2, 128), d.knots(11, 11)
        self._outlines(d, female, exam)

    def _outlines(self, d, female, exam):
        w, bulge = d.between(0.68, 0.76), d.between(-0.03, 0.03)                        # half-width of the chest
        neck, slope, flank = d.between(0.24, 0.31), d.between(-0.06, 0.06), d.between(0.92, 1.06) + 0.03 * female
        heart, knob = d.between(0.86, 1.14) * (1 + 0.12 * exam.ap), d.between(0.8, 1.2)
        h = d.between(-0.04, 0.04) + 0.3 * exam.breath                                  # how low the heart lies
        right, left = d.between(0.38, 0.48) + exam.breath, d.between(0.42, 0.54) + exam.breath  # tops of the diaphragm
        angle, tilt = d.between(0.17, 0.26) - 0.5 * exam.breath, d.between(-0.06, 0.06) - 0.04 * exam.ap
        self.wall, self.outline, heart_right, heart_left, self.dome, self.clavicle = _curves(
            [(-0.87, 0), (-0.85, 0.2), (-0.79, 0.36), (-0.69, 0.47), (-0.53, 0.57 + bulge), (-0.3, 0.91 * w),
             (0, 0.98 * w), (0.35, w), (0.8, w), (1.2, 0.95 * w)],
            [(-2, neck + 0.3), (-1.5, neck + 0.1), (-1.15, neck), (-1.0, neck + 0.03), (-0.92 + slope, 0.5),
             (-0.84 + slope, 0.9), (-0.74 + slope, 1.16), (-0.6 + slope, 1.24), (-0.3, 1.14), (0, flank), (1.2, flank)],
            [(-0.9, 0.23), (-0.75, 0.17), (-0.55, 0.15), (-0.3, 0.145), (-0.12, 0.145), (-0.02 + h, 0.165 * heart),
             (0.08 + h, 0.2 * heart), (0.2 + h, 0.222 * heart), (0.32 + h, 0.215 * heart), (0.44 + h, 0.19),
             (0.8, 0.17)],
            [(-0.9, 0.23), (-0.75, 0.17), (-0.58, 0.15), (-0.48, 0.17 * knob), (-0.4, 0.21 * knob),
             (-0.32, 0.19 * knob), (-0.24, 0.16), (-0.16, 0.185), (-0.06, 0.2 * heart), (0.04 + h, 0.27 * heart),
             (0.14 + h, 0.35 * heart), (0.24 + h, 0.41 * heart), (0.34 + h, 0.44 * heart), (0.44 + h, 0.45 * heart),
             (0.54 + h, 0.43 * heart), (0.7 + h, 0.36 * heart), (0.9, 0.3)],
            [(-0.9, right + angle + 0.1), (-0.7, right + angle), (-0.58, right + 0.085), (-0.42, right + 0.01),
             (-0.3, right), (-0.18, right + 0.04), (0, right + 0.12), (0.14, left + 0.07), (0.28, left + 0.01),
             (0.38, left), (0.48, left + 0.03), (0.6, left + 0.1), (0.7, left + angle - 0.02),
             (0.9, left + angle + 0.08)],
            [(0, -0.58), (0.07, -0.6), (0.2, -0.63), (0.4, -0.70 - tilt / 2), (0.6, -0.765 - tilt), (0.8, -0.80 - tilt),
             (1.0, -0.79 - tilt)])
        self.silhouette = np.concatenate([heart_right, heart_left])     # of heart and mediastinum


class _Findings:
    """Hazy opacities in the periphery of both lungs, as the fraction of the air that is lost.

    The rest of the outer lung gains a third of it, and exams differ in haze, so that mean brightness predicts little.
    """

    def __init__(self, seed, image, body):
        d = _Draws(seed, _FINDINGS, image, 600)
        extent = d.between(0, 1)
        strength = d.between(0.40, 0.58) + 0.15 * extent
        self.patches, self.gain = [], 0
        for k in range(3 + int(6 * extent)):
            y, side = d.between(-0.45, 0.5), (-1)**k
            x = side * d.between(0.55, 0.95) * float(_at(body.wall, _places(np.float32(y))))
            rx, ry, share = d.between(0.08, 0.17), d.between(0.08, 0.2), strength * d.between(0.5, 1.2)
            self.patches.append((x, y, 1 / rx, 1 / ry, share))
            self.gain += 3 * rx * ry * share        # measured: a third of what the patch loses
        self.texture = d.knots(21, 21)

    def __call__(self, rays, a2):
        kept = np.ones_like(rays.x)
        for x, y, kx, ky, share in self.patches:
            kept *= 1 - share * _bell(np.square((rays.x - x) * kx) + np.square((rays.y - y) * ky))
        lost = (1 - kept) * np.clip(1 + 0.7 * _field(self.texture, rays), 0, 1.6) - self.gain * a2
        return lost * (np.clip(7.5 - 10 * np.abs(rays.u), 0, 1) * np.clip(7.5 - 10 * np.abs(rays.v), 0, 1))


# ---- The organs ------------------------------------------------------------------------------------------------------

_TRUNK_DEPTH, _CHEST_DEPTH, _BLADE_IN, _BLADE_OUT, _ACROMION = _curves(
    [(-1.4, 0.72), (-1.0, 0.55), (-0.85, 0.5), (-0.6, 0.72), (-0.2, 0.9), (0.4, 1.0), (0.9, 1.08)],
    [(-0.88, 0.1), (-0.75, 0.3), (-0.5, 0.54), (-0.1, 0.66), (0.4, 0.68)],
    [(-0.8, 0.69), (-0.6, 0.67), (-0.3, 0.72), (-0.05, 0.79), (0.05, 0.86)],
    [(-0.8, 1.06), (-0.6, 1.0), (-0.3, 0.92), (-0.05, 0.85), (0.05, 0.83)],
    [(0.6, -0.60), (0.8, -0.74), (1.0, -0.83), (1.2, -0.8)])


def _soft_tissue(body, rays):
    """Return the thickness of trunk, neck and arms, the bones of the arms included."""
    q2 = np.square(rays.ax / _at(body.outline, rays.row))
    total = np.sqrt(_positive(1 - q2 * q2)) * _at(_TRUNK_DEPTH * np.float32(body.depth), rays.row)
    part, at = rays.within(top=-0.9)
    arm = at.ax - 0.1 * at.y - 1.22
    limb = 0.6 * np.sqrt(_ball(np.square(arm * 5))) * _step(at.y + 0.66, 0.14)
    shaft = _bone(arm, 0.06) * _step(at.y + 0.62, 0.05)
    head = _ball((np.square(at.ax - 1.12) + np.square(at.y + 0.66)) * 80)
    total[part] = np.maximum(total[part], limb) + 0.2 * np.maximum(shaft, head)
    return total


def _chest(exam, body, findings, rays, total):
    """Subtract the air of the lungs; add heart, liver and ribs."""
    part, rays = rays.within(top=-0.9, width=0.78)
    if not rays.x.size:
        return
    wall = np.clip(_at(body.wall, rays.row), 0.01, 2)
    a2 = np.clip(np.square(rays.ax / wall), 0, 1)                                           # 1 at the chest wall
    hoop = np.sqrt(1 - a2)
    beside = _step(rays.ax - _at(body.silhouette, rays.row + len(_GRID) * rays.left), 0.045)    # 0 in the heart
    gap = _at(body.dome, rays.col) - rays.y
    above = _step(gap, 0.016)                                                               # 0 under the diaphragm
    under = (1 - above) * hoop
    total[part] += 0.15 * (1 - beside) * _step(rays.y + 0.15, 0.35) * above * hoop          # the heart
    total[part] += 0.08 * under * _step(0.25 - rays.x, 0.4)                                 # the liver
    gas, x = body.gas                                                                       # in the stomach
    if gas:
        total[part] -= 0.25 * gas * _step(1 - np.square((rays.x - x) * 7) - np.square((0.1 + gap) * 18), 0.6) * under
    if rays.y[0].min() > 1.1:
        return                                                                              # no lung, no ribs
    behind = _step(gap + 0.16, 0.1)                                                         # lung behind the dome
    air = np.sqrt(1 - a2 * a2) * beside * (0.84 * above + 0.16 * behind)
    air *= _at(_CHEST_DEPTH * np.float32(body.depth), rays.row)
    air *= exam.air * (1 - _vessels(body, rays) - exam.haze * (1 + _field(exam.fog, rays)))
    if findings:
        air *= 1 - findings(rays, a2)
    total[part] += _ribs(body, rays, a2, hoop, wall) - air


def _vessels(body, rays):
    """Return the fraction of the air taken by vessels: trees that start at the hila, branch, wander and thin out."""
    hx, hy = rays.ax - 0.13, rays.y + 0.1 - 0.05 * rays.left.astype(np.float32)
    r = np.sqrt(hx * hx + hy * hy)
    angle, wander = np.arctan2(hy, hx), _field(body.wander, rays) * r
    share = 0.2 * body.hila * _bell(np.square(hx * 15) + np.square(hy * 8))
    for (jitter, reach), k, start, width in zip(body.branches, (11, 25, 53), (None, 0.14, 0.3), (0.03, 0.02, 0.013)):
        turn = angle * (k / 6.2832) + wander * (0.06 * k)       # k vessels around each hilum
        i = np.rint(turn)
        place = i.astype(np.int32) + 64 * rays.left
        d = (turn - i - 0.14 * _at(jitter, place)) * (6.2832 / k) * r
        w = width * _positive(1 - r / (0.75 + 0.12 * _at(reach, place)))
        if start:
            w *= _step(r - start, 0.06)
        share += 7 * body.vessels * np.sqrt(_positive(w * w - d * d))
    return share


def _ribs(body, rays, a2, hoop, wall):
    """Return the thickness of tilted hoops: posterior ribs fall towards the chest wall, anterior ones from there."""
    y = 0.88 * rays.y - body.first_rib                          # they spread towards the base
    steep = a2 / (1.02 - a2) / (wall * wall)
    bones = 0
    for fall, sag, half_width, thick, last in ((-body.hoop_back, 0.5 * body.hoop_back, 0.034, 0.085, 10.5),
                                               (body.hoop_front, 0, 0.038, 0.042, 7.5)):
        u = (y - fall * hoop - sag * a2) * (1 / body.rib_gap)
        i = np.rint(u)
        d = (u - i) * body.rib_gap / np.sqrt(1 + fall * fall * steep)
        bone = _bone(d, half_width) * ((i > -0.5) & (i < last))
        if fall > 0:
            bone *= _step(a2 - 0.32, 0.22)                      # in front, ribs end in cartilage
        bones = bones + thick * body.bone * bone
    bones *= np.clip(1 / np.sqrt(1.12 - a2), 0, 2.2)            # at the wall they are seen along their length
    return bones * _step(0.985 - a2, 0.015) * _step(rays.ax - 0.06, 0.02) * _step(rays.y + 0.76, 0.05)


def _girdle(body, rays, total):
    """Add the clavicles and the shoulder blades."""
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
    """Add the spine; subtract the air of trachea and main bronchi."""
    part, at = rays.within(width=0.12)
    q2 = np.square(at.x * (1 / 0.095))
    level = (at.y + 0.9) * (1 / 0.12)
    level -= np.rint(level)
    disc = _bell(np.square(level * 7))
    pedicles = _bell(np.square((at.ax - 0.055) * 80) + np.square((np.abs(level) - 0.25) * 11))
    total[part] += body.bone * (0.14 * _positive(1 - q2 * q2) * (1 - 0.3 * disc) + 0.04 * pedicles)
    part, at = rays.within(bottom=-0.1, width=0.2)
    pipe = _ball(np.square((at.x - 0.01) * 22)) * _step(-0.34 - at.y, 0.05)
    bronchi = _ball(np.square((at.ax - 0.5 * at.y - 0.205) * 28)) * _step(at.y + 0.38, 0.05) * _step(-0.24 - at.y, 0.1)
    total[part] -= 0.1 * pipe + 0.06 * bronchi


def _breasts(body, rays, total):
    much, middle, size = body.breast
    if much:
        part, at = rays.within(middle - size, middle + size, 0.46 + size)
        x, y = (at.ax - 0.45) * (1 / size), (at.y - middle) * (1 / size)
        total[part] += 0.24 * much * _ball(x * x + y * y) * _step(y + 0.1, 0.8)


def _devices(exam, rays, total):
    """Add devices: electrodes and wires on the skin, venous lines."""
    for table, top, bottom, half_width, thick in exam.wires:
        part, at = rays.within(top, bottom)
        wire = _ball(np.square((at.x - _at(table, at.row)) * (1 / half_width)))
        total[part] += thick * wire * ((at.y > top) & (at.y < bottom))
    for x, y in exam.discs:
        part, at = rays.within(y - 0.06, y + 0.06, abs(x) + 0.06)
        q2 = np.square(at.x - x) + np.square(at.y - y)
        total[part] += 0.07 * (q2 < 0.05**2) + 0.35 * (q2 < 0.018**2)
