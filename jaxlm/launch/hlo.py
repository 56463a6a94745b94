"""The text of a compiled program as data: which instructions run, how often, with what operations and bytes.

`jax.stages.Compiled.as_text()` is the description of a program that every platform gives, whether its devices are
here or not. Loops over layers, micro-batches and chunks state their length; the outer loop over the updates of a call
does not and counts once, so figures are per update.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

# Run other instructions, and no work of their own.
CONTAINERS = frozenset({"while", "call", "conditional", "async-start"})
# Name a place in memory, or the end of what has been counted where it starts.
FREE = frozenset({"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "async-done",
                  "all-gather-done", "all-reduce-done", "collective-permute-done", "copy-done", "partition-id"})
_SLICES = frozenset({"slice", "dynamic-slice", "gather"})

_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s*(ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)$")
_ARRAY = re.compile(r"\b[a-z]+(\d*)\w*\[([\d,]*)\](\{[^}]*\})?")
_NAME = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(r"\b(?:calls|body|true_computation|false_computation)=%?([\w.\-]+)")
_APPLIED = re.compile(r"\bto_apply=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_LIMIT = re.compile(r" s\d+\[\]\S* constant\((\d+)\)")
_NAMED = re.compile(r'^(\d+) "(.*)"$')
_LOCATION = re.compile(r"^(\d+) \{file_name_id=(\d+) function_name_id=(\d+)")
_FRAME = re.compile(r"^(\d+) \{file_location_id=(\d+)(?: parent_frame_id=(\d+))?")
_CONTRACTED = re.compile(r'lhs_contracting_(?:dims=\{|dimensions":\[)([\d,"]*)[}\]]')
_LABELS = re.compile(r"dim_labels=(\w+)_(\w+)->(\w+)")
_WINDOW = re.compile(r"window=\{([^}]*)\}")
_OP_NAME, _FRAME_ID = re.compile(r'op_name="([^"]*)"'), re.compile(r"stack_frame_id=(\d+)")
_GEMM = re.compile(r'custom_call_target="[^"]*(?:gemm|matmul)[^"]*"', re.IGNORECASE)


class Array(NamedTuple):
    """An array of a program: bits of an entry, lengths of its axes, whether it lies in the device's main memory."""

    bits: int
    shape: tuple[int, ...]
    far: bool

    @property
    def bytes(self) -> int:
        """Bytes that it fills."""
        return math.prod(self.shape) * self.bits // 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Instruction:
    """One line of a program.

    Attributes:
      name: unique in the program; what traces call it by.
      opcode: "dot", "fusion", "copy".
      arrays: of its result.
      operands: names of instructions of the same computation.
      called: names of the computations that it runs; of what a reduction applies to pairs, none.
      op_name: the path of the JAX operation that it was made from.
      frames: where that was called, (file, function), innermost first.
      root: whether its result is that of the computation.
      line: all of it.
    """

    name: str
    opcode: str
    arrays: tuple[Array, ...]
    operands: tuple[str, ...]
    called: tuple[str, ...]
    op_name: str
    frames: tuple[tuple[str, str], ...]
    root: bool
    line: str

    @property
    def bytes(self) -> int:
        """Bytes of its result."""
        return sum(array.bytes for array in self.arrays)

    @property
    def stored(self) -> int:
        """Bytes of its result in the device's main memory; a TPU keeps some on the chip."""
        return sum(array.bytes for array in self.arrays if array.far)

    @property
    def is_product(self) -> bool:
        """Whether it multiplies matrices."""
        return self.opcode in ("dot", "convolution") or bool(self.opcode == "custom-call" and _GEMM.search(self.line))


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program: the instructions of each computation by name, in the order in which they run."""

    computations: Mapping[str, Mapping[str, Instruction]]
    entry: str

    @functools.cached_property
    def executed(self) -> tuple[tuple[Instruction, str, int], ...]:
        """(instruction, its computation, how often it runs) of everything that does work; fusions are whole."""
        return tuple(self._walk(self.entry, 1))

    def inner(self, instruction: Instruction, inside: str) -> Iterator[tuple[Instruction, str]]:
        """Yields what `instruction` of the computation `inside` consists of: itself, or of a fusion its parts."""
        if instruction.opcode != "fusion":
            yield instruction, inside
            return
        for called in instruction.called:
            for each in self.computations.get(called, {}).values():
                yield from self.inner(each, called)

    def flops(self, instruction: Instruction, inside: str) -> float:
        """Returns the operations of its products of matrices; a multiply-add is 2. Kernels state none and count 0."""
        return sum(_product_flops(each, self.computations[where])
                   for each, where in self.inner(instruction, inside) if each.is_product)

    def traffic(self, instruction: Instruction, inside: str) -> float:
        """Returns the bytes of main memory that it reads and writes, once each; of what it slices, the slices."""
        if instruction.opcode != "fusion":
            return _moved(instruction, self.computations[inside])
        body = self.computations.get(instruction.called[0], {}) if instruction.called else {}
        written = sum(_written(each, body) for each in body.values() if each.root)
        return min(written, instruction.stored) + sum(
            _read(parameter, body) for parameter in body.values() if parameter.opcode == "parameter")

    def _walk(self, name: str, times: int) -> Iterator[tuple[Instruction, str, int]]:
        for instruction in self.computations.get(name, {}).values():
            if instruction.opcode in CONTAINERS:
                trips = _trips(instruction.line, self.computations) if instruction.opcode == "while" else 1
                for called in instruction.called:
                    yield from self._walk(called, times * trips)
            elif instruction.opcode not in FREE:
                yield instruction, name, times


def parse(text: str) -> Program:
    """Returns the program whose text it is."""
    frames = _frames(text)
    computations: dict[str, dict[str, Instruction]] = {}
    entry, lines = "", {}
    for line in text.splitlines():
        if header := _HEADER.match(line):
            lines = computations.setdefault(header.group(2), {})
            entry = header.group(2) if header.group(1) else entry
        elif found := _INSTRUCTION.match(line):
            lines[found.group(2)] = _instruction(found, line, frames, computations)
    return Program(computations, entry)


def _instruction(found: re.Match, line: str, frames: Mapping[int, tuple],
                 computations: Mapping[str, Mapping[str, Instruction]]) -> Instruction:
    root, name, result, opcode, rest = found.groups()
    applied = _APPLIED.findall(rest)
    op_name, made_by = _origin(rest, frames)
    if not op_name and applied:  # the steps of a large sum are known by what they apply, which stands before them
        last = next((each for each in computations.get(applied[0], {}).values() if each.root), None)
        op_name, made_by = (last.op_name, last.frames) if last else ("", ())
    called = _CALLED.findall(rest) + (applied if opcode == "call" else [])
    for branches in _BRANCHES.findall(rest):
        called += [branch.strip().lstrip("%") for branch in branches.split(",")]
    return Instruction(
        name=name, opcode=opcode, arrays=_arrays(result), operands=tuple(_NAME.findall(rest.partition("), ")[0])),
        called=tuple(called), op_name=op_name, frames=made_by, root=bool(root), line=line)


def _origin(rest: str, frames: Mapping[int, tuple]) -> tuple[str, tuple]:
    """The name and the frames that the end of a line states."""
    op_name, frame = _OP_NAME.search(rest), _FRAME_ID.search(rest)
    return op_name.group(1) if op_name else "", frames.get(int(frame.group(1)), ()) if frame else ()


def _arrays(text: str) -> tuple[Array, ...]:
    # A truth value takes a byte. S(1) and above in a layout are other memories than the main one.
    return tuple(Array(int(bits) if bits else 8, tuple(int(length) for length in shape.split(",") if length),
                       far="S(" not in layout) for bits, shape, layout in _ARRAY.findall(text))


def _frames(text: str) -> dict[int, tuple[tuple[str, str], ...]]:
    """(file, function) of each stack frame and of those that called it, by the frame's number."""
    tables: dict[str, dict[int, tuple]] = {"FileNames": {}, "FunctionNames": {}, "FileLocations": {}, "StackFrames": {}}
    forms = dict(zip(tables, (_NAMED, _NAMED, _LOCATION, _FRAME), strict=True))
    section = ""
    for line in text.splitlines():
        if line in tables:
            section = line
        elif line.startswith(("ENTRY", "%")):
            break
        elif section and (found := forms[section].match(line)):
            tables[section][int(found.group(1))] = found.groups()[1:]
    files, functions, locations, stack = tables.values()
    # Frame 1 has no caller, and some versions write numbers of callers one too high.
    offset = int(stack[1][1] or 0) if 1 in stack else 0
    chains: dict[int, tuple[tuple[str, str], ...]] = {}
    for number, (location, caller) in sorted(stack.items()):
        file, function = locations[int(location)]
        own = files[int(file)][0], functions[int(function)][0]
        chains[number] = (own, *chains.get(int(caller or 0) - offset, ()))
    return chains


def _trips(line: str, computations: Mapping[str, Mapping[str, Instruction]]) -> int:
    """How often a loop runs: as stated, else the one number that its condition compares with, else 1."""
    if stated := _TRIPS.search(line):
        return int(stated.group(1))
    condition = re.search(r"condition=%?([\w.\-]+)", line)
    lines = computations.get(condition.group(1), {}) if condition else {}
    limits = [int(limit) for each in lines.values() for limit in _LIMIT.findall(each.line)]
    return limits[0] if len(limits) == 1 else 1


def _product_flops(product: Instruction, lines: Mapping[str, Instruction]) -> float:
    left, right = (lines[name].arrays[0].shape for name in product.operands[:2])
    result = product.arrays[0].shape
    if product.opcode == "convolution":
        return _convolution_flops(product.line, left, right, result)
    contracted = _CONTRACTED.search(product.line)
    axes = re.findall(r"\d+", contracted.group(1)) if contracted else []
    return 2 * math.prod(result) * math.prod(left[int(axis)] for axis in axes)


def _convolution_flops(line: str, left: tuple, right: tuple, result: tuple) -> float:
    """The form that products take on a TPU; a batch of them goes along a spatial axis whose windows meet one entry."""
    of_left, of_right, of_result = _LABELS.search(line).groups()
    window = _WINDOW.search(line)
    fields = dict(each.split("=") for each in window.group(1).split()) if window else {}
    total = 2 * right[of_right.index("i")] * result[of_result.index("b")] * result[of_result.index("f")]
    for axis in range(len(of_left) - 2):
        lengths = (left[of_left.index(str(axis))], right[of_right.index(str(axis))], result[of_result.index(str(axis))])
        total *= _pairs(lengths, {name: text.split("x")[axis] for name, text in fields.items()})
    return total


def _pairs(lengths: tuple[int, int, int], window: Mapping[str, str]) -> int:
    """How many (output, kernel) positions of a spatial axis meet an entry of the input."""
    entries, kernel, outputs = lengths
    stride, dilate, spread = (int(window.get(name, 1)) for name in ("stride", "lhs_dilate", "rhs_dilate"))
    low = int(window.get("pad", "0_0").partition("_")[0])
    positions = (output * stride + index * spread - low for output in range(outputs) for index in range(kernel))
    return sum(place % dilate == 0 and 0 <= place // dilate < entries for place in positions)


def _moved(instruction: Instruction, lines: Mapping[str, Instruction]) -> float:
    if instruction.opcode.endswith("-start"):  # its result holds what it reads too
        return instruction.stored
    if instruction.opcode in _SLICES:
        return 2 * instruction.stored
    if instruction.opcode == "dynamic-update-slice":
        return 2 * _written(instruction, lines)
    return instruction.stored + sum(lines[name].stored for name in instruction.operands if name in lines)


def _written(root: Instruction, body: Mapping[str, Instruction]) -> float:
    """Bytes of a result; of an array that is updated in place, those of the update."""
    if root.opcode == "tuple":
        return sum(_written(body[name], body) for name in root.operands if name in body)
    if root.opcode == "bitcast" and root.operands[0] in body:
        return _written(body[root.operands[0]], body)
    if root.opcode == "dynamic-update-slice" and root.operands[1] in body:
        return body[root.operands[1]].stored
    return root.stored


def _read(parameter: Instruction, body: Mapping[str, Instruction]) -> float:
    """Bytes that a fusion reads of a parameter: all, unless it only takes slices of it or writes into it."""
    total = 0
    for user in body.values():
        if parameter.name not in user.operands:
            continue
        if user.opcode in _SLICES and user.operands[0] == parameter.name:
            total += user.bytes
        elif user.opcode != "dynamic-update-slice" or user.operands[0] != parameter.name:
            return parameter.stored
    return min(total, parameter.stored)
