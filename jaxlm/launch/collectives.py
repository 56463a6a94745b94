"""The collectives of a compiled program, read from its text: kinds, counts, bytes that each device receives.

Loop bodies count as often as they run: the loops over layers and over micro-batches state their length. The outer
loop over the updates of a call has none that is known to the compiler and counts once, so figures are per update.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping

import numpy as np

# Bytes that a member of a group of g receives for a result of `size` bytes, by algorithms that are optimal in bytes
# (Thakur et al. 2005, "Optimization of Collective Communication Operations in MPICH").
_RECEIVED = {
    "all-gather": lambda size, g: size * (g - 1) / g,
    "reduce-scatter": lambda size, g: size * (g - 1),
    "all-reduce": lambda size, g: 2 * size * (g - 1) / g,
    "all-to-all": lambda size, g: size * (g - 1) / g,
    "collective-permute": lambda size, g: size,
}

_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?[\w.\-]+ = (.*?) ([a-z][\w\-]*)\(")
_ARRAY = re.compile(r"\b([a-z]+)(\d*)\w*\[([\d,]*)\]")
_CALLED = re.compile(r"\b(?:calls|to_apply|body|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
# What differs between the parts of one collective: layouts, names of computations, notes for later stages.
_LAYOUT = re.compile(r"\{[\d,]+:[^}]*\}|, (?:to_apply|metadata|frontend_attributes|backend_config)=.*$")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_LIMIT = re.compile(r" s\d+\[\]\S* constant\((\d+)\)")
_LISTED = re.compile(r"(?:replica_groups|source_target_pairs)=\{\{([\d,{}]+)\}\}")
_IOTA = re.compile(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))? \{([^}]*)\}")
_AXIS = re.compile(r"'(\w+)'(?::\((\d+)\)(\d+))?")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Collective:
    """All collectives of one kind over groups of one size.

    Attributes:
      kind: "all-gather", "all-reduce", "reduce-scatter", "all-to-all" or "collective-permute".
      devices: members of a group; 2 for a permute.
      crosses: whether groups span slices, so that bytes move over the data-centre network.
      count: how many run in an update.
      bytes: what each device receives by them in an update.
    """

    kind: str
    devices: int
    crosses: bool
    count: int
    bytes: float


def collectives(text: str, slices: int = 1) -> tuple[Collective, ...]:
    """Returns the collectives in the text of a compiled program, by kind and group, most bytes first.

    Args:
      text: of `jax.stages.Compiled.as_text()`.
      slices: over how many slices the devices lie, in equal runs of the program's device numbers.
    """
    computations, entry = _computations(text)
    stated = re.search(r"num_partitions=(\d+)", text)
    devices = int(stated.group(1)) if stated else 1
    totals: dict[tuple[str, int, bool], list[float]] = {}
    parts: set[tuple[str, str]] = set()
    for (kind, received), line, times, fused in _walk(computations, entry, 1):
        if fused and (kind, line) in parts:
            continue
        parts.add((kind, line))
        groups = _groups(line, devices)
        members = groups.shape[-1]
        if members > 1:
            number = groups // max(devices // slices, 1)
            total = totals.setdefault((kind, members, bool((number != number[:, :1]).any())), [0, 0.0])
            total[0] += times
            total[1] += times * _RECEIVED[received](_size(line, members), members)
    kinds = [Collective(kind=kind, devices=members, crosses=crosses, count=int(count), bytes=total)
             for (kind, members, crosses), (count, total) in totals.items()]
    return tuple(sorted(kinds, key=lambda each: -each.bytes))


def donated(text: str) -> int:
    """Returns how many results of the program lie in the place of an argument."""
    header = text.partition("\n")[0]
    return header.count("-alias)") if "input_output_alias" in header else 0


def _computations(text: str) -> tuple[Mapping[str, list[str]], str]:
    """Every computation's lines by its name, and the name of the entry."""
    found: dict[str, list[str]] = {}
    entry, lines = "", []
    for line in text.splitlines():
        if header := _HEADER.match(line):
            lines = found.setdefault(header.group(2), [])
            entry = header.group(2) if header.group(1) else entry
        else:
            lines.append(line)
    return found, entry


def _walk(computations: Mapping[str, list[str]], name: str, times: int, fused: bool = False) -> Iterator[tuple]:
    """Yields every collective that `name` and its callees run.

    As ((kind, kind by which its bytes count), line, how often, whether in a fusion). A collective that the compiler
    spreads over other work stands in several fusions, each time with the same channel, kind and shape; lines in
    fusions are cut down to what these have in common, so that equal ones are one.
    """
    # Under that name a fusion is one reduce-scatter, written as an all-reduce of which each device keeps its part.
    scattered = "all-reduce-scatter" in name
    for line in computations.get(name, ()):
        instruction = _INSTRUCTION.match(line)
        operation = instruction.group(2) if instruction else ""
        kind = operation.removesuffix("-start")
        if kind in _RECEIVED:
            if fused:
                line = _LAYOUT.sub("", f"x = {instruction.group(1)} {operation}({line.partition('), ')[2]}")
            whole = scattered and kind == "all-reduce"
            yield ("reduce-scatter", "all-gather") if whole else (kind, kind), line, times, fused
        elif operation in ("while", "call", "fusion", "conditional", "async-start", "custom-call"):
            called = _CALLED.findall(line)
            for branches in _BRANCHES.findall(line):
                called += [branch.strip().lstrip("%") for branch in branches.split(",")]
            trips = _trips(line, computations) if operation == "while" else 1
            for target in called:
                yield from _walk(computations, target, times * trips, fused or operation == "fusion")


def _trips(line: str, computations: Mapping[str, list[str]]) -> int:
    """How often a loop runs: as stated, else the one number that its condition compares with, else 1."""
    if stated := _TRIPS.search(line):
        return int(stated.group(1))
    condition = re.search(r"condition=%?([\w.\-]+)", line)
    limits = [int(limit) for each in computations.get(condition.group(1), ()) for limit in _LIMIT.findall(each)]
    return limits[0] if len(limits) == 1 else 1


def _size(line: str, members: int) -> float:
    """Bytes of the result; of the start of an asynchronous one, whose result holds the operands too, that part."""
    instruction = _INSTRUCTION.match(line)
    total = sum(_bytes(*found) for found in _ARRAY.findall(instruction.group(1)))
    if instruction.group(2) == "all-gather-start":
        return total * members / (members + 1)
    return total / 2 if instruction.group(2) == "collective-permute-start" else total


def _bytes(kind: str, bits: str, shape: str) -> int:
    lengths = [int(length) for length in shape.split(",") if length]
    return math.prod(lengths) * (int(bits) if bits else 8) // 8  # a pred takes a byte, a token is empty


def _groups(line: str, devices: int) -> np.ndarray:
    """The groups of device numbers, (groups, members)."""
    if found := _IOTA.search(line):
        shape, order, axes = map(_numbers, found.groups())
        return _iota(order, axes).reshape(shape)
    if found := _MESH.search(line):
        return _mesh_groups(*found.groups())
    if found := _LISTED.search(line):
        return np.array([_numbers(group) for group in found.group(1).split("},{")])
    return np.arange(devices).reshape(1, -1)


def _mesh_groups(mesh: str, order: str | None, axes: str | None, chosen: str) -> np.ndarray:
    """Groups along the axes `chosen`, such as "'a','b':(2)4" (of b the factor 4 after 2), of a named mesh."""
    lengths = {name: int(length) for name, length in re.findall(r"'(\w+)'=(\d+)", mesh)}
    split, inside = [], []
    picked = {name: (int(before), int(size)) if size else (1, lengths[name])
              for name, before, size in _AXIS.findall(chosen)}
    for name, length in lengths.items():
        before, size = picked.get(name, (length, 1))
        inside += [False, name in picked, False]
        split += [before, size, length // (before * size)]
    numbers = _iota(_numbers(order) or list(lengths.values()), _numbers(axes)).reshape(split)
    kept = [axis for axis, within in enumerate(inside) if not within]
    members = math.prod(size for size, within in zip(split, inside, strict=True) if within)
    return numbers.transpose(kept + [axis for axis, within in enumerate(inside) if within]).reshape(-1, members)


def _iota(lengths: list[int], axes: list[int]) -> np.ndarray:
    numbers = np.arange(math.prod(lengths)).reshape(lengths)
    return numbers.transpose(axes) if axes else numbers


def _numbers(text: str | None) -> list[int]:
    return [int(number) for number in (text or "").split(",") if number]
