import numpy as np
import pytest
import torch

from ptmetrics.errors import ConfigError
from ptmetrics.finetune.glyphs import CLASS_NAMES, font_files, render_glyphs


def test_glyphs_are_balanced_bright_on_dark_and_all_different() -> None:
    images, labels = render_glyphs(200, 32, 0)
    assert images.shape == (200, 1, 32, 32)
    assert images.dtype == torch.uint8
    counts = torch.bincount(labels, minlength=len(CLASS_NAMES))
    assert counts.max() - counts.min() <= 1
    assert images.float().mean() < 100  # dark ground
    assert (images.flatten(1).max(dim=1).values > 100).all()  # ink on every one
    assert len({image.numpy().tobytes() for image in images}) == 200


def test_the_same_arguments_give_the_same_glyphs() -> None:
    first, again, other = (render_glyphs(60, 16, seed) for seed in (5, 5, 6))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_drawing_glyphs_leaves_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    render_glyphs(10, 16, 0)
    assert torch.equal(torch.rand(2), expected)


def test_a_glyph_looks_like_its_class() -> None:
    """Nearest class mean, learned on some glyphs, knows others far above chance.

    Labels belong to their images.
    """
    images, labels = render_glyphs(4000, 16, 0)
    pixels = images.flatten(1).float().numpy()
    means = np.stack(
        [pixels[:3000][labels[:3000] == label].mean(axis=0) for label in range(len(CLASS_NAMES))]
    )
    distances = ((pixels[3000:, None] - means) ** 2).sum(axis=2)
    assert (distances.argmin(axis=1) == labels[3000:].numpy()).mean() > 10 / len(CLASS_NAMES)


def test_fonts_are_text_fonts_with_a_shape_for_every_class() -> None:
    from PIL import ImageFont

    assert len(font_files()) >= 15
    for path in font_files():
        font = ImageFont.truetype(str(path), 20)
        shapes = {(font.getmask(c).size, bytes(font.getmask(c))) for c in CLASS_NAMES}
        assert len(shapes) > 40  # a font without letters draws one box for all of them


@pytest.mark.parametrize(
    ("count", "size", "message"),
    [
        (0, 32, r"count: expected at least 1, got 0\. Ask for one glyph or more\."),
        (5, 7, r"image_size: expected at least 8, got 7\. Ask for larger glyphs\."),
    ],
)
def test_too_few_or_too_small_glyphs_are_refused(count: int, size: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        render_glyphs(count, size, 0)
