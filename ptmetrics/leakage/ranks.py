"""What several ranks have seen of a set, as one: packed on each, joined where all of it is held against another."""

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ptmetrics.distributed import gathered, world_of_now
from ptmetrics.leakage.samples import Fingerprints
from ptmetrics.record.samples import order_of_ranks

MOST_OF_RANKS = 2**30
"""Of all ranks together, which rank 0 holds; features are left out where they would be more."""
Sets = Mapping[str, Fingerprints | str]
"""Samples by the name of their set; or why they cannot be compared."""


def of_all_ranks(sets: Sets, timeout_s: float) -> dict[str, Fingerprints | str]:
    """The samples of all ranks, on rank 0; nothing on the others. All of them have to call it.

    Args:
        sets: Those of this rank.
        timeout_s: How long to wait for the other ranks.

    Raises:
        RanksError: If one did not come.

    Example:
        >>> import torch
        >>> kept = Fingerprints("val")
        >>> kept.add(torch.rand(4, 3))
        >>> of_all_ranks({"val": kept, "test": "no inputs"}, 60.0)["val"].rows
        4
    """
    ranks = 1
    world = world_of_now()
    if world is not None:
        ranks = world.size
    return joined(gathered(packed(sets, MOST_OF_RANKS // ranks), "leakage", timeout_s))


def packed(sets: Sets, most_bytes: int) -> bytes:
    """The samples as bytes, of which hashes and features take at most so many."""
    about: dict[str, Any] = {}
    arrays: dict[str, Any] = {}
    room = most_bytes - sum(16 * kept.rows for kept in sets.values() if not isinstance(kept, str))
    for name, kept in sets.items():
        if isinstance(kept, str) or room < 0:
            why = f"its ranks have more than {most_bytes >> 20} MiB of hashes each"
            about[name] = {"why": kept if isinstance(kept, str) else why}
            continue
        arrays[f"{name}/hashes"] = kept.hashes()
        told = {"kind": kept.kind, "form": kept.form, "labels": kept.labels}
        about[name] = {**told, "near": kept.near, "why_not": kept.why_not}
        if kept.near and kept.features().nbytes <= room:
            arrays[f"{name}/features"] = kept.features()
            room -= kept.features().nbytes
        elif kept.near:
            why = f"features of more than {most_bytes >> 20} MiB a rank; call pm.audit instead"
            about[name].update(near=False, why_not=why)
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def joined(messages: Sequence[bytes]) -> dict[str, Fingerprints | str]:
    """The sets of all ranks, of what `packed` made on each; rows stand in the order of the data."""
    ranks = [np.load(io.BytesIO(message), allow_pickle=False) for message in messages]
    about = [json.loads(rank["about"].tobytes()) for rank in ranks]
    found: dict[str, Fingerprints | str] = {}
    for name in dict.fromkeys(name for told in about for name in told):
        why = [told[name]["why"] for told in about if "why" in told.get(name, {})]
        shares = [
            (told[name], rank) for told, rank in zip(about, ranks, strict=True) if name in told
        ]
        if why:
            found[name] = why[0]
        else:
            found[name] = _joined_set(name, shares)
    return found


def _joined_set(name: str, shares: Sequence[tuple[Any, Any]]) -> Fingerprints | str:
    rows = [len(told["labels"]) for told, _ in shares]
    filled = [share for share, number in zip(shares, rows, strict=True) if number]
    forms = sorted({told["form"] or str(told["kind"]) for told, _ in filled})
    if len(forms) != 1:
        return f"its ranks have seen {' and '.join(forms) or 'no samples'}"
    order = np.argsort(order_of_ranks(rows))
    first = filled[0][0]
    near = all(told["near"] for told, _ in filled)
    why_not = next((told["why_not"] for told, _ in filled if told["why_not"]), "")
    labels = [label for told, _ in filled for label in told["labels"]]
    features = None
    if near:
        features = np.concatenate([each[f"{name}/features"] for _, each in filled])[order]
    whole = Fingerprints.of_arrays(
        name,
        np.concatenate([each[f"{name}/hashes"] for _, each in filled])[order],
        features,
        [labels[place] for place in order],
    )
    whole.kind, whole.form, whole.why_not = first["kind"], first["form"], why_not
    return whole
