"""Order-preserving keys: a float's own leading bits say which row of a histogram it belongs to.

The leading bits of a float are its sign, exponent and first digits, so cutting the rest off never
turns an order round. Rows are therefore as fine near 0 as far away, whatever the scale of the
scores: 1,024 an octave where evenly spaced thresholds would put all scores of a rare class into
one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

OCTAVES = 31  # of float16: subnormal, 30 exponents
HALF_DIGITS = 10  # of float16, behind the leading 1
FLOAT_DIGITS = 23
LARGEST = 65536  # where the octaves end
SCALE = 2.0**-112  # moves float16's subnormals onto float32's
TAIL_BLOCKS, MIDDLE_BLOCKS = 26, 5  # of 1,024 rows, on each side of probability 0.5


def steps_between(score: Tensor, value: Tensor) -> Tensor:
    """How many floats of their type lie between scores and the values of their rows: 0 where equal.

    Within a row no two scores have the same number, so that equal numbers are equal scores.

    Args:
        score: Float32 or float64, of the sign of `value`.
        value: Floating point of the same shape, which the type of the scores holds.

    Returns:
        Int32 or int64, below 0 where a score is nearer to 0 than the value.
    """
    kind = torch.int64 if score.dtype == torch.float64 else torch.int32
    return score.view(kind) - value.to(score.dtype).view(kind)


@dataclass(frozen=True)
class FloatKeys:
    """Rows of the range of float16, with as many binary digits as wanted.

    With 10 digits a row is one float16 value and what rounds to it: exact for float16, and for
    bfloat16 from 7.6e-6 to 65504. With fewer or more, a row is an interval from its value away from
    0.

    Codes are not in the order of the scores: those below 0 come first, the smaller magnitude first.
    One pass less for each batch; `order` puts the rows right once, when scores are computed.

    Attributes:
        digits: Binary digits behind the leading 1: 6 for 4,033 rows, 10 for 64,513, 16 for
            4,128,769.
    """

    digits: int = HALF_DIGITS

    @property
    def top(self) -> int:
        """Code of the magnitude of infinity."""
        return OCTAVES << self.digits

    @property
    def zero(self) -> int:
        """Row of score 0; the rows before it hold what is negative."""
        return (OCTAVES + 1) << self.digits

    @property
    def rows(self) -> int:
        """Number of rows; a few between −∞ and 0 stay empty."""
        return self.zero + self.top + 1

    def code(self, score: Tensor) -> tuple[Tensor, Tensor]:
        """Codes of float32 or float64 scores, and how far each is from its row's value, in floats.

        Args:
            score: Any shape, no NaN where the code is used. −0 counts as 0.

        Returns:
            Integer codes; `steps_between` each score and the value of its row.
        """
        if self.digits > HALF_DIGITS:
            return self._fine(score)
        score = score + 0.0
        half = score.half()
        code = half.view(torch.int16)
        if self.digits < HALF_DIGITS:
            cut = HALF_DIGITS - self.digits
            code = code >> cut
            half = (code << cut).view(torch.float16)
        return code, steps_between(score, half)

    def _fine(self, score: Tensor) -> tuple[Tensor, Tensor]:
        magnitude = score.abs()
        scaled = magnitude.float().clamp(max=LARGEST) * SCALE
        cut = FLOAT_DIGITS - self.digits
        row = scaled.view(torch.int32) >> cut
        code = torch.add(row, score.lt(0), alpha=-self.zero)
        value = (row << cut).view(torch.float32) / SCALE
        return code, steps_between(magnitude, value)

    def order(self, device: torch.device) -> Tensor:
        """Rows from the lowest score to the highest, int64 of shape (2 · top + 2,)."""
        magnitude = torch.arange(self.top + 1, device=device)
        return torch.cat((magnitude.flip(0), magnitude + self.zero))

    def values(self, device: torch.device) -> Tensor:
        """A score of each row of `order`, float64: what it is rounded to, or the middle of what is cut to it."""
        bits = torch.arange(self.top + 2, device=device, dtype=torch.int32) << (
            FLOAT_DIGITS - self.digits
        )
        values = bits.view(torch.float32).double() / SCALE
        magnitude = values[:-1]
        if self.digits < HALF_DIGITS:
            magnitude = (values[:-1] + values[1:]) / 2
        return torch.cat((-magnitude.flip(0), magnitude))

    @property
    def first_positive(self) -> int:
        """How many rows of `order` lie below score 0."""
        return self.top + 1

    def position(self, score: Tensor) -> Tensor:
        """Place in `order` of each score, int64."""
        code = self.code(score)[0].long()
        return torch.where(code < 0, self.top - (code + self.zero), self.first_positive + code)


@dataclass(frozen=True)
class ProbabilityKeys:
    """63,492 rows of the range [0, 1], the same seen from 0 and from 1: 1,024 an octave towards 0, ½ and 1.

    Exact for every float16, and for bfloat16 from 1e-9 on, whatever lies near 1: with p the
    distances 1 − p and ½ − p are multiples of the same power of two, so that they are float16
    numbers too. The logit is neither.

    A probability below ¼ has the row of float16(2¹³ p), one up to ½ that of float16(2⁻⁸ (½ − p));
    the upper half mirrors the lower one. Codes of the upper half are negative; `order` puts the
    rows right, as in `FloatKeys`.
    """

    digits: int = HALF_DIGITS
    tail: int = TAIL_BLOCKS << HALF_DIGITS  # code of ¼ in the tail
    middle: int = MIDDLE_BLOCKS << HALF_DIGITS  # code of ¼ in the middle, before its own offset

    @property
    def zero(self) -> int:
        """Row of probability 0, and the number of rows of a half."""
        return self.tail + self.middle + 2

    @property
    def rows(self) -> int:
        """Number of rows."""
        return 2 * self.zero

    @property
    def first_positive(self) -> int:
        """How many rows of `order` lie below ½."""
        return self.zero

    def code(self, score: Tensor) -> tuple[Tensor, Tensor]:
        """Codes of probabilities, and how far each is from its row's value, as of `FloatKeys`. −0 counts as 0."""
        p = score if score.dtype == torch.float64 else score.float()
        # Comparisons and choices in floats are several times quicker on a CPU than in bools.
        upper, inner = torch.empty_like(p), torch.empty_like(p)
        torch.ge(p, 0.5, out=upper)
        near = torch.minimum(p, 1 - p)  # to 0 or 1; exact
        torch.ge(near, 0.25, out=inner)
        to_middle = torch.rsub(near, 0.5 * 2.0**-8, alpha=2.0**-8).mul_(inner)
        scaled = (
            near.mul_(2.0**13).mul_(1 - inner).add_(to_middle)
        )  # one of both is 0; 0 + x turns −0 to 0
        half = scaled.half()
        block = inner.mul_(self.tail + 1).sub_(upper, alpha=self.zero)
        return half.view(torch.int16) + block.short(), steps_between(scaled, half)

    def order(self, device: torch.device) -> Tensor:
        """Rows from probability 0 to 1, int64."""
        tail = torch.arange(self.tail + 1, device=device)
        middle = torch.arange(self.tail + 1, self.zero, device=device)
        return torch.cat((tail + self.zero, middle.flip(0) + self.zero, middle, tail.flip(0)))

    def values(self, device: torch.device) -> Tensor:
        """The value of each row of `order`, a probability in float64."""
        codes = torch.arange(max(self.tail, self.middle) + 1, device=device, dtype=torch.int16)
        values = codes.view(torch.float16).double()
        tail, middle = values[: self.tail + 1] / 2.0**13, 0.5 - values[: self.middle + 1] * 2.0**8
        return torch.cat((tail, middle.flip(0), 1 - middle, 1 - tail.flip(0)))

    def position(self, score: Tensor) -> Tensor:
        """Place in `order` of each probability, int64."""
        place = self.order(score.device).argsort()
        return place[self.code(score)[0].long() + self.zero]


CurveKeys = FloatKeys | ProbabilityKeys
