"""The domain: procedural clips of one or two moving shapes, and captions that describe them.

Every process is stationary: straight motions leave at one edge and enter at the opposite one, all
others are periodic. So a minute of video is as well defined as a second of it.
A Scene is plain data; render() draws any window of it (any frames, any crop) in one batch.
"""
import dataclasses
import math
import random

import torch

WIDTH, HEIGHT, FPS = 96, 64, 16

COLOURS = {
    "red": (0.86, 0.12, 0.12), "green": (0.10, 0.66, 0.20), "blue": (0.14, 0.26, 0.88),
    "yellow": (0.96, 0.88, 0.14), "orange": (0.97, 0.53, 0.06), "purple": (0.56, 0.16, 0.70),
    "white": (0.97, 0.97, 0.97), "black": (0.04, 0.04, 0.04),
}
BACKGROUNDS = {k: COLOURS[k] for k in ("red", "green", "blue", "yellow", "white", "black")}
BACKGROUNDS["gray"] = (0.50, 0.50, 0.50)
PATTERNS = ("plain", "gradient", "checker")
SHAPES = ("circle", "square", "triangle", "star")
RADII = {"small": 12.0, "": 16.0, "large": 22.0}
SPEEDS = {"slowly": 12.0, "": 24.0, "quickly": 40.0}  # pixels a second, straight motions only
HEADINGS = {"right": (1, 0), "left": (-1, 0), "up": (0, -1), "down": (0, 1),
            "diagonal": (math.sqrt(0.5), math.sqrt(0.5))}
MOTIONS = (*HEADINGS, "bounce", "orbit", "pulse", "spin", "still")
PERIOD = {"bounce": 1.0, "orbit": 2.0, "pulse": 1.0, "spin": 2.0}  # seconds
CHECKER_CELL = 16


@dataclasses.dataclass
class Scene:
    shapes: list            # one or two of SHAPES
    colours: list           # as many of COLOURS
    background: str
    pattern: str
    motion: str             # of both objects, which therefore never meet
    size: str = ""
    speed: str = ""
    x: float = WIDTH / 2    # the place around which it moves, or at time 0
    y: float = HEIGHT / 2
    phase: float = 0.0      # of a period
    centred: bool = False   # begins where a video from text begins, see centred()
    rgb: list = None        # free colours instead of named ones (VAE training only)
    background_rgb: tuple = None


# ---- drawing scenes by chance ----

def held_out(shape, colour, motion):
    """One combination in eleven is never trained on; tests use only these."""
    return (SHAPES.index(shape) * 7 + list(COLOURS).index(colour) * 3 + MOTIONS.index(motion) * 5) % 11 == 0


def possible(shape, colour, background, motion):
    """A turning circle shows nothing, nor does an object on its own colour."""
    return colour != background and not (shape == "circle" and motion == "spin")


def random_scene(rng, test=False, motions=MOTIONS, two=0.1):
    """test: only held-out combinations, one object, plain attributes."""
    while True:
        shape, colour = rng.choice(SHAPES), rng.choice(list(COLOURS))
        motion, background = rng.choice(motions), rng.choice(list(BACKGROUNDS))
        if possible(shape, colour, background, motion) and held_out(shape, colour, motion) == test:
            break
    scene = Scene([shape], [colour], background, rng.choices(PATTERNS, (70, 15, 15))[0], motion)
    place(scene, rng)
    if test:
        return scene
    if rng.random() < two:
        add_second(scene, rng)
    else:
        scene.size = rng.choices(list(RADII), (20, 60, 20))[0]
    if motion in HEADINGS:
        scene.speed = rng.choices(list(SPEEDS), (15, 70, 15))[0]
    place(scene, rng)
    return scene


def add_second(scene, rng):
    """Another object half a picture away; both are small, so that they stay apart."""
    while True:
        shape, colour = rng.choice(SHAPES), rng.choice(list(COLOURS))
        other = (shape, colour) != (scene.shapes[0], scene.colours[0])
        if other and possible(shape, colour, scene.background, scene.motion) and not held_out(
                shape, colour, scene.motion):
            break
    scene.shapes.append(shape)
    scene.colours.append(colour)
    scene.size = "small"


def place(scene, rng):
    """Where it starts. What moves straight or stands may be anywhere but cut by an edge at first."""
    r = RADII[scene.size]
    scene.phase = rng.random()
    margin_x, margin_y = min(r + 2, WIDTH / 2), min(r + 2, HEIGHT / 2)
    scene.x, scene.y = rng.uniform(margin_x, WIDTH - margin_x), rng.uniform(margin_y, HEIGHT - margin_y)
    if scene.motion == "orbit":
        a = orbit_radius(r)
        scene.x = rng.uniform(min(r + a, WIDTH / 2), max(WIDTH - r - a, WIDTH / 2))
        scene.y = HEIGHT / 2
    elif scene.motion == "bounce":
        scene.y = HEIGHT - r - 3


def centred(scene):
    """The scene as a video from text begins: in the middle, at the beginning of a period. A caption
    says nothing about places; a model that has to invent them needs far longer to learn to move them.
    From other places it learns to go on when it is given the first picture."""
    x = WIDTH / 2 if len(scene.shapes) == 1 else WIDTH / 4
    y = HEIGHT - RADII[scene.size] - 3 if scene.motion == "bounce" else HEIGHT / 2
    return dataclasses.replace(scene, x=x, y=y, phase=0.0, centred=True)


def free_colours(scene, rng):
    """Any colours, so that the VAE learns colours and not a palette."""
    while True:
        scene.rgb = [tuple(rng.random() for _ in range(3)) for _ in scene.shapes]
        scene.background_rgb = tuple(rng.random() for _ in range(3))
        if all(max(abs(a - b) for a, b in zip(c, scene.background_rgb)) > 0.3 for c in scene.rgb):
            return


# ---- where an object is at a time ----

def orbit_radius(r):
    return min(14.0, HEIGHT / 2 - r)


def pose(scene, seconds):
    """x, y, radius, angle at the times of a tensor."""
    r = torch.full_like(seconds, RADII[scene.size])
    x, y = torch.full_like(seconds, scene.x), torch.full_like(seconds, scene.y)
    angle = torch.zeros_like(seconds)
    turn = seconds / PERIOD.get(scene.motion, 1.0) + scene.phase
    if scene.motion in HEADINGS:
        dx, dy = HEADINGS[scene.motion]
        x, y = x + dx * SPEEDS[scene.speed] * seconds, y + dy * SPEEDS[scene.speed] * seconds
    elif scene.motion == "bounce":
        y = y - min(26.0, HEIGHT - 2 * RADII[scene.size] - 5) * (math.pi * turn).sin().abs()
    elif scene.motion == "orbit":
        a = orbit_radius(RADII[scene.size])
        x, y = x + a * (2 * math.pi * turn).cos(), y + a * (2 * math.pi * turn).sin()
    elif scene.motion == "pulse":
        r = r * (1 + (0.2 if scene.size == "large" else 0.35) * (2 * math.pi * turn).sin())
    elif scene.motion == "spin":
        angle = 2 * math.pi * turn
    return x, y, r, angle


# ---- drawing ----

def star_edge():
    """The line from a tip of the star to the next notch, as unit normal and distance, radius 1."""
    tip, notch, half = 1.28, 0.62, math.pi / 5
    dx, dy = notch * math.cos(half) - tip, notch * math.sin(half)
    length = math.hypot(dx, dy)
    return dy / length, -dx / length, dy / length * tip


# A sector of each shape: how many there are, where the first one's middle points (y is down), and
# its straight edge: normal x, normal y, distance from the centre at radius 1.
SECTORS = {"square": (4, 0.0, 1.0, 0.0, 0.86), "triangle": (3, math.pi / 2, 1.0, 0.0, 0.68),
           "star": (5, -math.pi / 2, *star_edge())}


def distance(shape, dx, dy, r, angle):
    """Signed distance to the outline, negative inside. dx, dy: from the centre, y down."""
    rho = (dx * dx + dy * dy).sqrt()
    if shape == "circle":
        return rho - r
    sectors, start, nx, ny, edge = SECTORS[shape]
    step = 2 * math.pi / sectors
    theta = torch.remainder(torch.atan2(dy, dx) - (angle + start - step / 2), step) - step / 2
    return rho * (nx * theta.cos() + ny * theta.abs().sin()) - r * edge


def shade(rgb):
    """The second colour of a gradient or a checker: darker, or lighter where it is nearly black."""
    bright = max(rgb) > 0.3
    return tuple(c * 0.62 if bright else c + 0.26 for c in rgb)


def draw_background(rgb, pattern, xs, ys):
    """[3, h, w] at pixel columns xs and rows ys."""
    a, b = torch.tensor(rgb).view(3, 1, 1), torch.tensor(shade(rgb)).view(3, 1, 1)
    if pattern == "plain":
        mix = torch.zeros(1, len(ys), len(xs))
    elif pattern == "gradient":
        mix = (ys / (HEIGHT - 1)).view(1, -1, 1).expand(1, len(ys), len(xs))
    else:
        cell = (xs // CHECKER_CELL).view(1, 1, -1) + (ys // CHECKER_CELL).view(1, -1, 1)
        mix = torch.remainder(cell, 2)
    return a + (b - a) * mix


def wrapped(d, size):
    return torch.remainder(d + size / 2, size) - size / 2


def render(scene, frames, first=0, crop=(0, 0, WIDTH, HEIGHT)):
    """[3, frames, h, w] in [-1, 1], and a weight [1, frames, h, w]: 0 far from objects, 1 inside one
    and up to 2 at its outline. crop: left, top, width, height."""
    left, top, w, h = crop
    xs, ys = torch.arange(left, left + w).float(), torch.arange(top, top + h).float()
    seconds = torch.arange(first, first + frames).float() / FPS
    rgb = scene.background_rgb or BACKGROUNDS[scene.background]
    out = draw_background(rgb, scene.pattern, xs, ys).unsqueeze(1).repeat(1, frames, 1, 1)
    weight = torch.zeros(1, frames, h, w)
    x, y, r, angle = (p.view(-1, 1, 1) for p in pose(scene, seconds))
    for i, shape in enumerate(scene.shapes):  # objects are i half pictures apart
        dx = wrapped(xs.view(1, 1, -1) + 0.5 - x - i * WIDTH / 2, WIDTH)
        dy = wrapped(ys.view(1, -1, 1) + 0.5 - y, HEIGHT)
        d = distance(shape, *torch.broadcast_tensors(dx, dy), r, angle).unsqueeze(0)
        alpha = (0.5 - d).clamp(0, 1)
        colour = torch.tensor((scene.rgb or [COLOURS[c] for c in scene.colours])[i]).view(3, 1, 1, 1)
        out = out + (colour - out) * alpha
        weight = torch.maximum(weight, alpha + (1 - d.abs() / 3).clamp(0, 1))
    return out * 2 - 1, weight


def edge_crop(scene, rng, first, w, h):
    """A crop that has a piece of an outline in it."""
    x, y, r, _ = (float(p) for p in pose(scene, torch.tensor(first / FPS)))
    way = rng.uniform(0, 2 * math.pi)
    x = (x + r * math.cos(way) + rng.uniform(-w, w) / 4) % WIDTH
    y = (y + r * math.sin(way) + rng.uniform(-h, h) / 4) % HEIGHT
    return (int(min(max(x - w / 2, 0), WIDTH - w)), int(min(max(y - h / 2, 0), HEIGHT - h)), w, h)


# ---- captions ----

# Singular and plural, "{}" is where the adverb goes.
PHRASES = {
    "right": (("moves{} to the right", "move{} to the right"), ("moves{} right", "move{} right"),
              ("slides{} right", "slide{} right")),
    "left": (("moves{} to the left", "move{} to the left"), ("moves{} left", "move{} left"),
             ("slides{} left", "slide{} left")),
    "up": (("moves{} up", "move{} up"), ("rises{}", "rise{}"), ("goes{} up", "go{} up")),
    "down": (("moves{} down", "move{} down"), ("falls{}", "fall{}"), ("goes{} down", "go{} down")),
    "diagonal": (("moves{} diagonally", "move{} diagonally"), ("slides{} diagonally", "slide{} diagonally")),
    "bounce": (("bounces", "bounce"), ("bounces up and down", "bounce up and down"), ("jumps", "jump")),
    "orbit": (("circles around", "circle around"), ("moves in a circle", "move in a circle")),
    "pulse": (("pulses", "pulse"), ("grows and shrinks", "grow and shrink")),
    "spin": (("spins", "spin"), ("turns around", "turn around"), ("rotates", "rotate")),
    "still": (("stays still", "stay still"), ("does not move", "do not move"), ("stands still", "stand still")),
}
PLACES = {
    "plain": ("on a {} background", "in front of a {} background", "on {}", "on a plain {} background"),
    "gradient": ("on a {} gradient background", "on a {} gradient"),
    "checker": ("on a {} checkered background", "on a {} checkerboard"),
}


def caption(scene, rng, plain=False):
    """plain: the wording that documents use, without variation."""
    pick = (lambda options: options[0]) if plain else rng.choice
    size = "" if len(scene.shapes) == 2 and (plain or rng.random() < 0.6) else scene.size  # two are always small
    names = [f"{size} {c} {s}".strip() for c, s in zip(scene.colours, scene.shapes)]
    names = [f"{pick(('an' if name[0] == 'o' else 'a', 'one', 'the'))} {name}" for name in names]
    adverb = f" {scene.speed}" if scene.speed else ""
    verb = pick(PHRASES[scene.motion])[len(names) - 1].format(adverb)
    place = pick(PLACES[scene.pattern]).format(scene.background)
    who = " and ".join(names)
    if plain or rng.random() < 0.75:
        text = f"{who} {verb} {place}"
    else:
        text = f"{place}, {who} {verb}"
    if not plain and rng.random() < 0.3:
        text += "."
    return text


def sample(rng, **options):
    """A scene to train on."""
    return random_scene(rng, **options)


def test_set(n, seed=1):
    """n held-out scenes with their captions, all different."""
    rng, seen, out = random.Random(seed), set(), []
    while len(out) < n:
        scene = random_scene(rng, test=True)
        text = caption(scene, rng, plain=True)
        if text not in seen:
            seen.add(text)
            out.append((scene, text))
    return out


def main():
    """Prints tests/demo/captions.tsv."""
    print("# caption, shape, colour, background, pattern, motion: what tools/train_demo/data.py, test_set() makes.")
    for scene, text in test_set(64):
        print(text, scene.shapes[0], scene.colours[0], scene.background, scene.pattern, scene.motion, sep="\t")


if __name__ == "__main__":
    main()
