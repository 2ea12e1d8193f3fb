"""Clean sets whose truth is known, and copies as they come about: for the tests and the study."""

import io
from collections.abc import Callable, Iterator

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2 import functional as transforms

TRAIN, VAL, SIDE = 1300, 497, 32
Sets = tuple[Tensor | list[str], Tensor | list[str]]


def digits(seed: int, side: int = SIDE) -> tuple[Tensor, Tensor]:
    """Real handwriting, uint8 of shape (N, 1, side, side), split at random."""
    small = torch.from_numpy(load_digits().images).float().unsqueeze(1) * 255 / 16
    order = torch.randperm(len(small), generator=torch.Generator().manual_seed(seed))
    shown = functional.interpolate(small[order], size=(side, side), mode="bilinear", antialias=True)
    pixels = shown.round().clamp(0, 255).to(torch.uint8)
    return pixels[:TRAIN], pixels[TRAIN:]


def _noise(pictures: Tensor, seed: int) -> Tensor:
    drawn = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(seed))
    return pictures + 0.05 * pictures.std() * drawn


def turned(pictures: Tensor, degrees: float) -> Tensor:
    """Pictures rotated around their middle."""
    bilinear = transforms.InterpolationMode.BILINEAR
    rotated: Tensor = transforms.rotate(pictures, degrees, interpolation=bilinear)
    return rotated


def _jpeg(pictures: Tensor, seed: int) -> Tensor:
    made = []
    for picture in pictures[:, 0]:
        file = io.BytesIO()
        Image.fromarray(picture.byte().numpy()).save(file, "JPEG", quality=30)
        made.append(torch.from_numpy(np.array(Image.open(file))))
    return torch.stack(made).unsqueeze(1).float()


COPIES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "noise of 5 %": _noise,
    "brightness × 0.7": lambda pictures, seed: 0.7 * pictures,
    "JPEG, quality 30": _jpeg,
    "rotation by 3 degrees": lambda pictures, seed: turned(pictures, 3.0),
    "shift by 1 of 32 pixels": lambda pictures, seed: pictures.roll(1, -1),
}


def copies(pictures: Tensor, kind: str, seed: int) -> Tensor:
    """Copies of these pictures, as uint8."""
    return COPIES[kind](pictures.float(), seed).round().clamp(0, 255).to(torch.uint8)


def planted(kind: str, seed: int, share: float, number: int = 1) -> tuple[Tensor, Tensor, int]:
    """Digits of which the first rows of validation have so many copies in training."""
    train, val = digits(seed)
    rows = round(share * len(val))
    more = [copies(val[:rows], kind, seed + place) for place in range(number)]
    return torch.cat([train, *more]), val, rows


WORDS = 400


def sentences(seed: int, number: int) -> list[str]:
    """Texts of 40 words, of which some are frequent, as in a language."""
    rng = np.random.default_rng(seed)
    letters = list("etaoinshrdlucmfwyp")
    alphabet = np.random.default_rng(0)
    words = ["".join(alphabet.choice(letters, alphabet.integers(2, 9))) for _ in range(WORDS)]
    weight = 1 / np.arange(1, WORDS + 1)
    return [" ".join(rng.choice(words, 40, p=weight / weight.sum())) for _ in range(number)]


def clean(seed: int) -> Iterator[tuple[str, Sets]]:
    """Pairs of clean sets, by their kind."""
    drawn = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=drawn)

    def integer(most: int, *shape: int) -> Tensor:
        return torch.randint(most, shape, generator=drawn)

    yield "pictures: digits", digits(seed)
    yield "Gaussian rows of 20", (normal(TRAIN, 20), normal(VAL, 20))
    yield "Gaussian rows of 192", (normal(TRAIN, 192), normal(VAL, 192))
    centres = 4 * normal(20, 16)
    near = [centres[integer(20, rows)] + normal(rows, 16) for rows in (TRAIN, VAL)]
    yield "20 clusters", (near[0], near[1])
    yield "a curved surface", _surface(normal, drawn)
    yield "integers 0 to 2, 8 columns", (integer(3, TRAIN, 8).float(), integer(3, VAL, 8).float())
    yield (
        "integers 0 to 9, 20 columns",
        (integer(10, TRAIN, 20).float(), integer(10, VAL, 20).float()),
    )
    rows = digits(seed, 8)
    yield "digits as 64 columns", (rows[0][:, 0].flatten(1), rows[1][:, 0].flatten(1))
    rare = [torch.rand(number, 30, generator=drawn) < 0.01 for number in (TRAIN, VAL)]
    mixed = [torch.cat([normal(len(each), 10), each.float()], 1) for each in rare]
    yield "10 Gaussian columns and 30 indicators of 1 %", (mixed[0], mixed[1])
    amounts = [
        torch.cat([normal(number, 6), (2 * normal(number, 6)).exp()], 1) for number in (TRAIN, VAL)
    ]
    yield "6 Gaussian and 6 lognormal columns", (amounts[0], amounts[1])
    yield "text", (sentences(2 * seed, 400), sentences(2 * seed + 1, 150))


def _surface(normal: Callable[..., Tensor], drawn: torch.Generator) -> tuple[Tensor, Tensor]:
    at = 6 * torch.rand(TRAIN + VAL, 2, generator=drawn)
    rows = torch.sin(at @ normal(2, 10)) + 0.01 * normal(TRAIN + VAL, 10)
    return rows[:TRAIN], rows[TRAIN:]
