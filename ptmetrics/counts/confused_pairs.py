"""The most confused pairs of many classes in constant memory: a sketch that adds up bit for bit."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ptmetrics.counts.batch import Batch
from ptmetrics.counts.cell import Cell

# Odd multipliers, one a row: the golden ratio and constants of known 64-bit mixers, as signed
# integers.
MULTIPLIERS = (
    -7046029254386353131,
    -4417276706812531889,
    1609587929392839161,
    -8796714831421723037,
)
LOG_BUCKETS = 12
ROWS_AT_ONCE = 1 << 14  # bounds the memory that an update takes for a moment


@dataclass(frozen=True)
class ConfusedPairs:
    """Errors by hashed pair: int64 of shape (4, buckets, 1 + bits), 4.6 MiB for 200,000 classes.

    A bucket holds how many errors fell into it, and for each bit of the pair's code, actual · C +
    predicted, how many had that bit. A pair with most of a bucket spells its own code there. Rows
    count once, whatever they weigh.

    Attributes:
        num_classes: C.
        log_buckets: Base-2 logarithm of the number of buckets a row.
    """

    num_classes: int
    log_buckets: int = LOG_BUCKETS

    @property
    def bits(self) -> int:
        """Binary digits of a code."""
        return (self.num_classes**2 - 1).bit_length()

    def cell(self) -> Cell:
        """One table."""
        shape = (len(MULTIPLIERS), 1 << self.log_buckets, 1 + self.bits)
        return Cell("pairs", shape, scope="whole", weigh=False)

    def count(self, code: Tensor, batch: Batch) -> Callable[[Tensor], None]:
        """Four additions by index; a row that is no error adds 0.

        Args:
            code: Actual · C + predicted of each row.
            batch: Says which rows count, those of a weight that is refused later not among them.
        """

        def add_(table: Tensor) -> None:
            errors = code
            if batch.counted is not None:
                errors = torch.where(batch.counted, code, self.num_classes**2)
            for some in torch.split(errors, ROWS_AT_ONCE):
                source = self._columns(some) * self._is_error(some).unsqueeze(1)
                for row, bucket in enumerate(self._buckets(some)):
                    table[row].index_add_(0, bucket, source)

        return add_

    def heaviest(self, table: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
        """The pairs with the highest certified counts, highest first; no host sync.

        Args:
            table: The cell.
            most: K, how many to return.

        Returns:
            Codes, lower and upper bounds of their counts, int64 of shape (K,). Where there are
            fewer pairs, the lower bounds of the rest are 0.

        Source: bit counts a bucket as in Cormode and Muthukrishnan 2005 (group testing).
        """
        ones = table[..., 1:]
        total = table[..., :1]
        place = 1 << torch.arange(self.bits, device=table.device)
        code = ((2 * ones > total) * place).sum(-1).reshape(-1)
        low, high = self.bounds(table, code)
        code, order = code.sort()
        repeated = torch.cat((code.new_zeros(1), (code[1:] == code[:-1]).long()))
        low, high = low[order] * (1 - repeated), high[order]
        best = low.topk(most).indices
        return code[best], low[best], high[best]

    def bounds(self, table: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
        """Certified bounds of the number of errors of each pair, the tightest over the four rows.

        Another pair in the bucket differs in one bit at least, so that the others are no more than
        the counts that do not fit, summed over the bits; and no pair has more errors than fit it in
        its worst bit.
        """
        bits = self._columns(code)[:, 1:].bool()
        low = torch.zeros_like(code)
        high = torch.full_like(code, torch.iinfo(torch.int64).max)
        for row, bucket in zip(table, self._buckets(code), strict=True):
            cells = row[bucket]
            total, ones = cells[:, 0], cells[:, 1:]
            fit = torch.where(bits, ones, total.unsqueeze(1) - ones)
            low = torch.maximum(low, total - (total.unsqueeze(1) - fit).sum(1))
            high = torch.minimum(high, fit.amin(1))
        known = self._is_error(code)
        return torch.where(known, low, 0), torch.where(known, high, 0)

    def _is_error(self, code: Tensor) -> Tensor:
        # The diagonal is every (C + 1)-th cell, and the spare cell C² is no pair.
        return (code < self.num_classes**2) & (code.remainder(self.num_classes + 1) != 0)

    def _columns(self, code: Tensor) -> Tensor:
        """1 and the bits of each code, lowest first: int64 of shape (rows, 1 + bits)."""
        marked = (code << 1) | 1
        return (marked.unsqueeze(1) >> torch.arange(1 + self.bits, device=code.device)) & 1

    def _buckets(self, code: Tensor) -> list[Tensor]:
        """Multiplicative hash modulo 2⁶⁴, top bits."""
        mask = (1 << self.log_buckets) - 1
        return [(code * multiplier >> (64 - self.log_buckets)) & mask for multiplier in MULTIPLIERS]
