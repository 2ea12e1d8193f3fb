"""What all ranks of `torch.distributed` counted, as one: they meet, tell what they bring, and add it up.

A sync is a meeting in the store of the default process group, where a rank that does not come is
named when the time is up; then two collectives of process groups of our own: a header of fixed
size, and one reduce of all counts of all metrics. Only where the headers show that ranks bring
unlike things is there one more, of texts.

Nothing collective happens before the first sync.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist
from torch import Tensor

from ptmetrics.counts.accumulator import Accumulator
from ptmetrics.counts.cell import Cell
from ptmetrics.errors import RanksError

PROTOCOL = 1
TIMEOUT_S = 60.0
"""How long a rank waits for the others, by default."""
FACTS = 8
"""Whole numbers in a header that are the caller's."""
MOST_SLOT_BYTES = 1 << 30  # of what has a place of its own for each rank
MOST_LETTERS = 1000  # letters of what a rank counts, in an error
HALF = 1 << 32

Part = tuple[Cell, Tensor]
Places = Mapping[str, Sequence[Accumulator]]
NO_NUMBERS: Mapping[str, Sequence[int]] = {}
Rooms = dict[str, list[int]]
"""By place, what each of its metrics has room for: weights, 1, and groups, 2."""
_ADDED = Cell("further")


class Merged(NamedTuple):
    """What a sync gives; the same on all ranks.

    Attributes:
        places: What all ranks counted, by place.
        numbers: The sums of the caller's numbers, by place.
        facts: The caller's numbers of each rank.
    """

    places: dict[str, list[Accumulator]]
    numbers: dict[str, list[int]]
    facts: list[list[int]]


def sync(
    own: Places,
    like: Sequence[Accumulator],
    *,
    name: str = "metrics",
    about: str = "",
    numbers: Mapping[str, Sequence[int]] = NO_NUMBERS,
    facts: Sequence[int] = (),
    timeout_s: float = TIMEOUT_S,
) -> Merged:
    """Merge what all ranks counted; what they hold stays as it is.

    All of them have to call it, with counts of the same configuration.

    Args:
        own: Counts of this rank by place, such as a split; another rank may have other places.
        like: What is counted at each place, for those that this rank has not.
        name: Who syncs: its syncs are numbered.
        about: What is merged, which is the same on all ranks.
        numbers: Further whole numbers to add up, as many at each place.
        facts: Up to 8 whole numbers to tell the other ranks.
        timeout_s: How long to wait for them.

    Raises:
        RanksError: If a rank did not come, or counts something else; on each rank that came.

    Example:
        >>> from ptmetrics.counts.subgroups import Subgroups
        >>> none = Subgroups.checked((), False)
        >>> rows = Accumulator([Cell("rows")], {}, none, (), torch.device("cpu"))
        >>> sync({"val": [rows]}, [rows], facts=[7]).facts  # of a process that is alone
        [[7]]
    """
    world = world_of_now()
    if world is None:
        sums = {place: list(each) for place, each in numbers.items()}
        copies = {place: copy.deepcopy(list(each)) for place, each in own.items()}
        return Merged(copies, sums, [list(facts)])
    world.meet(name, timeout_s)
    try:
        return _merged(world, own, like, about, numbers, facts)
    except RanksError:
        raise
    except Exception as error:  # of torch, when a rank stops in the middle
        raise world.lost(name, timeout_s, error) from error


def _merged(
    world: World,
    own: Places,
    like: Sequence[Accumulator],
    about: str,
    numbers: Mapping[str, Sequence[int]],
    facts: Sequence[int],
) -> Merged:
    mine = [each for counts in own.values() for each in counts]
    home = _home_of(mine or like)
    rooms: Rooms = {}
    for place, counts in own.items():
        rooms[place] = [each.weighted + 2 * each.grouped for each in counts]
    metrics = [[each.digest, each.config_text] for each in like]
    each_number = max(map(len, numbers.values()), default=0)
    text = json.dumps([about, metrics, rooms], sort_keys=True)
    digest = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
    header = [PROTOCOL, digest, len(text.encode()), int(home.type == "cuda"), each_number]
    told = world.exchange([*header, *facts, *[0] * (FACTS - len(facts))])
    if {row[0] for row in told} != {PROTOCOL}:
        got = ", ".join(f"{row[0]} on rank {rank}" for rank, row in enumerate(told))
        cure = "Install the same version of ptmetrics for all ranks."
        raise RanksError("ranks", "one protocol of ptmetrics", got, cure)
    if len({row[1] for row in told}) > 1:
        texts = world.texts(text, max(row[2] for row in told))
        rooms = agreed_rooms([json.loads(each) for each in texts])
    if not all(row[3] for row in told):
        home = torch.device("cpu")
    ready: dict[str, list[Accumulator]] = {}
    for place in sorted(rooms):
        pairs = zip(own.get(place) or like, rooms[place], strict=True)
        ready[place] = [_with_room(each, room, place in own) for each, room in pairs]
    each_number = max(row[4] for row in told)
    sums = {place: list(numbers.get(place) or [0] * each_number) for place in ready}
    facts_of_all = [row[len(header) :][: len(facts)] for row in told]
    places = _reduced(world, ready, sums, home)
    return Merged(places, sums, facts_of_all)


def _reduced(
    world: World, counts: Places, sums: dict[str, list[int]], home: torch.device
) -> dict[str, list[Accumulator]]:
    """The data: one reduce of everything; `sums` are added up in place."""
    each = [one for brought in counts.values() for one in brought]
    parts = [part for one in each for part in _parts_of(one)]
    parts = [(cell, tensor.to(home)) for cell, tensor in parts]
    further = [one.updates for one in each]
    for numbers in sums.values():
        further.extend(numbers)
    parts.append((_ADDED, torch.tensor(further, device=home)))
    packed = pack(parts, world.rank, world.size)
    world.add_up(packed)
    *tensors, added = unpack(packed, parts, world.size)
    merged = iter(tensors)
    totals = iter(added.tolist())
    found = []
    for one in each:
        whole = one.fresh()
        whole.adopt({name: next(merged) for name in _names_of(one)}, next(totals))
        found.append(whole)
    for numbers in sums.values():
        numbers[:] = [next(totals) for _ in numbers]
    ready = iter(found)
    return {place: [next(ready) for _ in brought] for place, brought in counts.items()}


def agreed_rooms(told: Sequence[Any]) -> Rooms:
    """The places of all ranks, and what any of them has room for, of their descriptions.

    Raises:
        RanksError: If they count different things.
    """
    about, metrics, _ = told[0]
    rooms: Rooms = {}
    for rank, (its_about, its_metrics, its_rooms) in enumerate(told):
        if its_about != about:
            got = f"{about or 'nothing'} on rank 0 and {its_about or 'nothing'} on rank {rank}"
            cure = "Let all ranks call it equally often."
            raise RanksError("ranks", "a sync of the same on all ranks", got, cure)
        if its_metrics != metrics:
            got = f"on rank 0 {_described_metrics(metrics)}, on rank {rank} {_described_metrics(its_metrics)}"
            cure = "Build them with the same arguments, in the same order, on all ranks."
            raise RanksError("metrics", "the same metrics on all ranks", got, cure)
        for place, each in its_rooms.items():
            known = rooms.setdefault(place, each)
            rooms[place] = [one | other for one, other in zip(known, each, strict=True)]
    return rooms


def _described_metrics(metrics: Sequence[Sequence[str]]) -> str:
    return "; ".join(f"{config} ({digest})" for digest, config in metrics)[:MOST_LETTERS]


# From counts to one vector, and back.


def pack(parts: Sequence[Part], rank: int, ranks: int) -> Tensor:
    """One float64 vector, such that the sum of those of all ranks holds what they counted.

    Sums are added up: whole numbers exactly, as their upper and lower 32 bits. What merges in
    another way stands in a slot of its rank, beside zeros for the others.

    Args:
        parts: Cells and their tensors, on one device.
        rank: Whose they are.
        ranks: How many there are.

    Raises:
        RanksError: If there are too many ranks for what needs slots.

    Example:
        >>> top = Cell("top", (), torch.float64, "max")
        >>> parts = [(Cell("rows"), torch.tensor(3)), (top, torch.tensor(0.5).double())]
        >>> pack(parts, 1, 2).tolist()
        [0.0, 3.0, 0.0, 0.5]
    """
    summed = [torch.zeros(0, dtype=torch.float64, device=parts[0][1].device)]
    slot = list(summed)
    for cell, tensor in parts:
        vectors = summed if cell.merge == "sum" else slot
        vectors.append(_as_float64(tensor))
    own = torch.cat(slot)
    if 8 * ranks * len(own) > MOST_SLOT_BYTES:
        rule = f"at most {MOST_SLOT_BYTES >> 20} MiB of what {ranks} ranks keep in an order"
        got = f"{8 * ranks * len(own) >> 20} MiB"
        raise RanksError("metrics", rule, got, "Pass a smaller capacity.")
    slots = own.new_zeros(ranks, len(own))
    slots[rank] = own
    return torch.cat((*summed, slots.reshape(-1)))


def unpack(packed: Tensor, parts: Sequence[Part], ranks: int) -> list[Tensor]:
    """What all ranks counted, of the sum of their vectors; slots are merged in the order of the ranks.

    Args:
        packed: The sum.
        parts: As they were packed on any rank: their cells and shapes.
        ranks: How many there are.
    """
    sizes = []
    for _, tensor in parts:
        sizes.append(tensor.numel() * (1 if tensor.is_floating_point() else 2))
    summed = sum(size for size, (cell, _) in zip(sizes, parts, strict=True) if cell.merge == "sum")
    slots = packed[summed:].view(ranks, sum(sizes) - summed)
    in_sums = 0
    in_slots = 0
    merged = []
    for size, (cell, like) in zip(sizes, parts, strict=True):
        if cell.merge == "sum":
            each = packed[None, in_sums : in_sums + size]
            in_sums += size
        else:
            each = slots[:, in_slots : in_slots + size]
            in_slots += size
        first, *others = [_as_it_was(one, like) for one in each]
        for other in others:
            cell.merge_(first, other)
        merged.append(first)
    return merged


def _as_float64(tensor: Tensor) -> Tensor:
    flat = tensor.reshape(-1)
    if not flat.is_floating_point():
        flat = torch.cat((flat >> 32, flat & (HALF - 1)))
    return flat.double()


def _as_it_was(vector: Tensor, like: Tensor) -> Tensor:
    if like.is_floating_point():
        return vector.reshape(like.shape).clone()
    whole = vector.long()
    size = like.numel()
    return (whole[:size] * HALF + whole[size:]).reshape(like.shape)  # modulo 2⁶⁴, as int64 is


def _names_of(counts: Accumulator) -> list[str]:
    return [name for name in counts.layout if name in counts.state]


def _parts_of(counts: Accumulator) -> list[Part]:
    return [(counts.layout[name], counts.state[name]) for name in _names_of(counts)]


def _home_of(counts: Sequence[Accumulator]) -> torch.device:
    """Where to pack: on the accelerator, if there is one."""
    devices = [each.device for each in counts]
    return next((device for device in devices if device.type != "cpu"), torch.device("cpu"))


def _with_room(counts: Accumulator, room: int, counted: bool = True) -> Accumulator:
    """A copy with room for the weights and groups of other ranks; empty where this one counted nothing."""
    if counted and room == counts.weighted + 2 * counts.grouped:
        return counts
    other = counts.fresh()
    if counted:
        other.merge([counts])
    if room & 1:
        other.weigh()
    if room & 2:
        other.make_room_for_groups()
    return other


def gathered(own: bytes, name: str, timeout_s: float = TIMEOUT_S) -> list[bytes]:
    """What each rank brings, on rank 0; nothing on the others. All of them have to call it.

    One collective of sizes and one of bytes, on the host: rank 0 holds the largest of them once
    for each rank.

    Args:
        own: Of this rank.
        name: What is gathered: its gatherings are numbered.
        timeout_s: How long to wait for the other ranks.

    Raises:
        RanksError: If a rank did not come.

    Example:
        >>> gathered(b"of a process that is alone", "example")
        [b'of a process that is alone']
    """
    world = world_of_now()
    if world is None:
        return [own]
    world.meet(name, timeout_s)
    try:
        return world.gather(own)
    except Exception as error:  # of torch, when a rank stops in the middle
        raise world.lost(name, timeout_s, error) from error


# The ranks.


class World:
    """The default process group as we use it: a store to meet in, and groups of our own.

    Attributes:
        rank: Number of this process.
        size: Number of all.
    """

    def __init__(self) -> None:
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()
        self._store = dist.distributed_c10d._get_default_store()
        self._timeout_s = TIMEOUT_S
        self._control: Any = None
        self._data: Any = None  # on the accelerator
        self._numbers = Counter[str]()  # of the syncs, by name
        self._absent: dict[str, tuple[int, list[int]]] = {}  # from the last one, and its number

    def meet(self, name: str, timeout_s: float) -> None:
        """Wait until all ranks have come, or agree with those that did on who has not.

        Who did not come is waited for again only once it has shown that it was late.

        Raises:
            RanksError: If one did not come in time; it names them.
        """
        name = f"ptmetrics/{name}"  # others keep keys in the store as well
        self._numbers[name] += 1
        self._timeout_s = timeout_s
        number = self._numbers[name]
        try:
            outcome = self._outcome(name, number, timeout_s)
        except RuntimeError as error:
            cure = "The process that holds it, that of rank 0 or the launcher, has ended."
            got = f"none: {str(error).partition(chr(10))[0]}"
            raise RanksError("ranks", "an answer of the store", got, cure) from error
        if outcome == "met":
            self._absent.pop(name, None)
            return
        missing = [int(rank) for rank in outcome.split(",")]
        self._absent[name] = number, missing
        listed = f"none from rank {outcome.replace(',', ', ')} in {timeout_s:g} s"
        cure = "Let every rank call it, or opt out with Monitor(sync=False)."
        raise RanksError("ranks", f"a sync with all {self.size} ranks", listed, cure)

    def _outcome(self, name: str, number: int, timeout_s: float) -> str:
        store = self._store
        place = f"{name}/{number}/outcome"
        before, absent = self._absent.get(name, (0, []))
        waits = not any(self._last(name, rank) < before for rank in absent)
        store.set(f"{name}/rank{self.rank}", str(number))
        if store.add(f"{name}/{number}/come", 1) == self.size:
            return _text(store.compare_set(place, "", "met"))
        if waits:
            try:
                store.wait([place], timedelta(seconds=timeout_s))
            except RuntimeError:  # the time is up
                waits = False
        if not waits and not store.check([place]):
            missing = [r for r in range(self.size) if self._last(name, r) < number]
            store.compare_set(place, "", ",".join(map(str, missing)) or "met")
        return _text(store.get(place))

    def _last(self, name: str, rank: int) -> int:
        """The number of the last sync that a rank has come to."""
        key = f"{name}/rank{rank}"
        if not self._store.check([key]):
            return 0
        return int(self._store.get(key))

    def lost(self, name: str, timeout_s: float, error: Exception) -> RanksError:
        """Something failed in the middle of a sync: who is not there any more?"""
        self._control = None
        self._data = None
        try:
            self.meet(f"{name}/lost", timeout_s)
        except RanksError as missing:
            return missing
        got = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        return RanksError("ranks", "a sync that all ranks finish", got, "See the log of each rank.")

    def exchange(self, numbers: Sequence[int]) -> list[list[int]]:
        """The header: as many numbers of each rank."""
        return self._gathered(torch.tensor(numbers)).tolist()

    def texts(self, text: str, size: int) -> list[str]:
        """A text of each rank, of so many bytes at most."""
        own = torch.tensor(list(text.encode().ljust(size)), dtype=torch.uint8)
        return [bytes(row).decode() for row in self._gathered(own).tolist()]

    def _gathered(self, own: Tensor) -> Tensor:
        if self._control is None:
            self._control = self._new_group(backend="gloo")
        each = own.new_empty(self.size, len(own))
        dist.all_gather(list(each.unbind()), own, group=self._control)
        return each

    def gather(self, own: bytes) -> list[bytes]:
        """The bytes of each rank, on rank 0."""
        sizes = [row[0] for row in self.exchange([len(own)])]
        room = torch.zeros(max(1, *sizes), dtype=torch.uint8)
        room[: len(own)] = torch.frombuffer(bytearray(own or b"0"), dtype=torch.uint8)[: len(own)]
        each = None
        if self.rank == 0:
            each = [torch.empty_like(room) for _ in sizes]
        dist.gather(room, each, 0, self._control)
        pairs = zip(each or [], sizes, strict=False)
        return [part[:size].numpy().tobytes() for part, size in pairs]

    def add_up(self, packed: Tensor) -> None:
        """The data: the sum over all ranks, in place, and the same to the last bit on each."""
        group = self._control
        if packed.device.type != "cpu":
            if self._data is None:
                self._data = self._new_group()
            group = self._data
        dist.all_reduce(packed, group=group)

    def _new_group(self, **options: Any) -> Any:
        return dist.new_group(timeout=timedelta(seconds=self._timeout_s), **options)


_WORLDS: WeakKeyDictionary[Any, World] = WeakKeyDictionary()  # by their process group


def world_of_now() -> World | None:
    """The ranks that train together; None where this process is alone."""
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return None
    group = dist.group.WORLD
    if group not in _WORLDS:
        _WORLDS[group] = World()
    return _WORLDS[group]


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode()
