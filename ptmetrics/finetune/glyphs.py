"""The source task: printed glyphs, drawn from the fonts that matplotlib ships, without a download.

47 classes: the digits, the capitals, and the small letters whose shape differs from their capital
(the classes of EMNIST "balanced"). The digits are among them: a model pre-trained here has seen
*printed* digits, never handwriting. Every glyph is bent, thickened, blurred and coarsened at
random, which is what makes the features carry over.
"""

from functools import cache
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

from ptmetrics.errors import ConfigError, DependencyError

CLASS_NAMES = tuple("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt")
_FAMILIES = (
    "DejaVuSans",
    "DejaVuSerif",
    "STIXGeneral",
    "cmb10",
    "cmr10",
    "cmss10",
    "cmti10",
    "cmtt10",
)
_MASTER = 48  # pixels; each (font, class, stroke) is drawn once at this size
_STROKES = (0, 1, 2)  # extra pixels around the outline
_COARSE = (8, 11, 16)  # resolutions to pass through; the target's handwriting was scanned at 8
_BATCH = 1000  # glyphs bent at a time, to bound memory


def font_files() -> list[Path]:
    """The text fonts (no symbol or display fonts) inside the installed matplotlib, sorted by name.

    Raises:
        DependencyError: If matplotlib, or every font that is known here, is missing.
    """
    cure = "Run pip install 'ptmetrics[demo]', or choose another [source]."
    try:
        from matplotlib import get_data_path
    except ImportError as error:
        rule = "matplotlib, for its font files"
        raise DependencyError("glyphs", rule, "no such package", cure) from error
    folder = Path(get_data_path()) / "fonts" / "ttf"
    known = [path for path in sorted(folder.glob("*.ttf")) if path.stem.startswith(_FAMILIES)]
    fonts = [path for path in known if "Display" not in path.stem]
    if not fonts:
        raise DependencyError("glyphs", f"text fonts in {folder}", "none", cure)
    return fonts


def render_glyphs(count: int, image_size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw glyphs: the same arguments give the same glyphs; about 3,000 a second.

    Args:
        count: How many; each class occurs equally often, to within one.
        image_size: Height and width in pixels, at least 8.
        seed: Of fonts, strokes, bends and noise.

    Returns:
        Images, uint8 of shape (count, 1, image_size, image_size), bright on dark; labels, int64 of
        shape (count,), indices into `CLASS_NAMES`.

    Raises:
        DependencyError: If matplotlib is missing.
        ConfigError: If `count` or `image_size` is too small.
    """
    if count < 1:
        raise ConfigError("count", "at least 1", str(count), "Ask for one glyph or more.")
    if image_size < min(_COARSE):
        rule = f"at least {min(_COARSE)}"
        raise ConfigError("image_size", rule, str(image_size), "Ask for larger glyphs.")
    masters = _masters(tuple(font_files()))
    fonts, _, strokes = masters.shape[:3]
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randperm(count, generator=rng) % len(CLASS_NAMES)
    font = torch.randint(fonts, (count,), generator=rng)
    stroke = torch.randint(strokes, (count,), generator=rng)
    chosen = masters[font, labels, stroke].unsqueeze(1)
    parts = [_degrade(_bend(part, image_size, rng), rng) for part in torch.split(chosen, _BATCH)]
    return torch.cat(parts).mul(255).round().to(torch.uint8), labels


@cache
def _masters(files: tuple[Path, ...]) -> Tensor:
    """Every (font, class, stroke) once: uint8 of shape (fonts, classes, strokes, 48, 48)."""
    fonts = [ImageFont.truetype(str(path), _MASTER) for path in files]
    drawn = [
        _draw(font, character, stroke)
        for font in fonts
        for character in CLASS_NAMES
        for stroke in _STROKES
    ]
    return torch.stack(drawn).view(-1, len(CLASS_NAMES), len(_STROKES), _MASTER, _MASTER)


def _draw(font: ImageFont.FreeTypeFont, character: str, stroke: int) -> Tensor:
    """One glyph, cut to its ink, scaled to fill the master and put in its middle."""
    left, top, right, bottom = map(round, font.getbbox(character, stroke_width=stroke))
    ink = Image.new("L", (max(1, right - left), max(1, bottom - top)))
    ImageDraw.Draw(ink).text((-left, -top), character, fill=255, font=font, stroke_width=stroke)
    scale = (_MASTER - 8) / max(ink.size)
    width = max(1, round(ink.width * scale))
    height = max(1, round(ink.height * scale))
    ink = ink.resize((width, height), Image.Resampling.BILINEAR)
    master = Image.new("L", (_MASTER, _MASTER))
    master.paste(ink, ((_MASTER - ink.width) // 2, (_MASTER - ink.height) // 2))
    return torch.frombuffer(bytearray(master.tobytes()), dtype=torch.uint8).view(_MASTER, _MASTER)


def _uniform(shape: tuple[int, ...], low: float, high: float, rng: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=rng) * (high - low) + low


def _bend(masters: Tensor, image_size: int, rng: torch.Generator) -> Tensor:
    """Warp by a random affine map and a smooth random field, the way no two hands write alike."""
    count = len(masters)
    angle = _uniform((count,), -0.3, 0.3, rng)
    shear = _uniform((count,), -0.35, 0.35, rng)
    width = _uniform((count,), 0.7, 1.4, rng)
    height = _uniform((count,), 0.8, 1.2, rng)
    shift = _uniform((count, 2), -0.12, 0.12, rng)
    cos = angle.cos()
    sin = angle.sin()
    rows = [width * cos, shear - sin, shift[:, 0], sin, height * cos, shift[:, 1]]
    theta = torch.stack(rows, dim=1).view(count, 2, 3)
    grid = functional.affine_grid(theta, [count, 1, image_size, image_size], align_corners=False)
    field = _uniform((count, 2, 4, 4), -0.2, 0.2, rng)
    field = functional.interpolate(
        field, size=(image_size, image_size), mode="bicubic", align_corners=True
    )
    return functional.grid_sample(
        masters / 255, grid + field.permute(0, 2, 3, 1), align_corners=False
    )


def _degrade(images: Tensor, rng: torch.Generator) -> Tensor:
    """Pass each glyph through one of the resolutions in `_COARSE`, fade it and add noise."""
    size = images.shape[-1]
    level = torch.randint(len(_COARSE), (len(images),), generator=rng)
    out = images
    for index, coarse in enumerate(_COARSE):
        low = functional.interpolate(images, size=(coarse, coarse), mode="area")
        back = functional.interpolate(low, size=(size, size), mode="bilinear", align_corners=False)
        out = torch.where((level == index).view(-1, 1, 1, 1), back, out)
    contrast = _uniform((len(images), 1, 1, 1), 0.6, 1.1, rng)
    noise = torch.randn(images.shape, generator=rng)
    noise *= _uniform((len(images), 1, 1, 1), 0.0, 0.06, rng)
    return (out * contrast + noise).clamp(0, 1)
