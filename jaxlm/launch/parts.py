"""Which part of a training step an instruction of the compiled program belongs to.

The compiler keeps with every instruction the stack of calls that made it, in backward passes that of the forward
operation: the innermost call into a file that is named here decides, and where there is none the operation's name.
A fusion goes to its largest product of matrices, without one to the part of most of its results.
"""

import collections
import re

from jaxlm.launch.hlo import FREE, Instruction, Program

PROJECTIONS, ATTENTION, LOSS, NORMS = "projections", "attention", "loss and head", "norms"
ACTIVATION, EMBEDDING, OPTIMIZER = "activation", "embedding and residuals", "optimizer and metrics"
COPIES, COLLECTIVES, OTHER, DISPATCH = "copies and transposes", "collectives", "other", "dispatch"
# In this order in tables.
PARTS = (PROJECTIONS, ATTENTION, LOSS, NORMS, ACTIVATION, EMBEDDING, OPTIMIZER, COPIES, COLLECTIVES, OTHER)

# (end of a folder or file, start of the function's qualified name): part of products, part of the rest.
_CALLS: tuple[tuple[str, str, str, str], ...] = (
    ("jaxlm/losses/", "", LOSS, LOSS),
    ("jaxlm/model/norm.py", "", NORMS, NORMS),
    ("jaxlm/model/rope.py", "", ATTENTION, ATTENTION),
    ("jaxlm/model/causal.py", "", ATTENTION, ATTENTION),
    ("jaxlm/model/kernels.py", "", ATTENTION, ATTENTION),
    ("jaxlm/model/attention.py", "Attention.", PROJECTIONS, ATTENTION),
    ("jaxlm/model/attention.py", "", ATTENTION, ATTENTION),
    ("jaxlm/model/feed_forward.py", "", PROJECTIONS, ACTIVATION),
    ("jaxlm/model/decoder.py", "Head.", LOSS, LOSS),
    ("jaxlm/model/decoder.py", "Decoder.unembed", LOSS, LOSS),
    ("jaxlm/model/decoder.py", "Embedding.", EMBEDDING, EMBEDDING),
    ("jaxlm/model/decoder.py", "Block.", EMBEDDING, EMBEDDING),
    ("jaxlm/model/decoder.py", "Decoder.hidden", EMBEDDING, EMBEDDING),
    ("jaxlm/train/step.py", "loss_fn", LOSS, LOSS),
    ("jaxlm/train/step.py", "update.<locals>.microbatch", OTHER, OTHER),
    ("jaxlm/train/step.py", "update", OPTIMIZER, OPTIMIZER),
    ("jaxlm/train/step.py", "run_chunk", OPTIMIZER, OPTIMIZER),
    ("jaxlm/train/diagnostics.py", "", OPTIMIZER, OPTIMIZER),
    ("jaxlm/optim/", "", OPTIMIZER, OPTIMIZER),
    ("/optax/", "", OPTIMIZER, OPTIMIZER),
)
# For what comes without calls, or with those of its first use only: names of kernels and of functions that JAX keeps.
_NAMES = ((re.compile("fmha|splash|flash|attention", re.IGNORECASE), ATTENTION), (re.compile("silu|gelu"), ACTIVATION))

_MOVES = frozenset({"copy", "copy-start", "transpose", "reshape", "slice", "slice-start", "slice-done", "dynamic-slice",
                    "dynamic-update-slice", "concatenate", "pad", "broadcast", "convert", "bitcast-convert",
                    "reverse", "iota"})
_COLLECTIVE = re.compile("^(all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)")


def part_of(program: Program, instruction: Instruction, inside: str) -> str:
    """Returns the part, one of `PARTS`, of an instruction of the computation `inside`."""
    inner = [(each, where) for each, where in program.inner(instruction, inside) if each.opcode not in FREE]
    products = [(each, where) for each, where in inner if each.is_product]
    if products:
        return _part(max(products, key=lambda each: program.flops(*each))[0])
    if any(_COLLECTIVE.match(each.opcode) for each, _ in inner):
        return COLLECTIVES
    working = [each for each, _ in inner if each.opcode not in _MOVES]
    if not working:
        return COPIES if inner else OTHER
    votes: collections.Counter = collections.Counter()
    for each in working:
        votes[_part(each)] += each.bytes
    known = {part: count for part, count in votes.items() if part != OTHER} or votes
    return max(known, key=known.__getitem__)


def _part(instruction: Instruction) -> str:
    for file, function in instruction.frames:
        for place, start, of_products, of_rest in _CALLS:
            if place in file and function.startswith(start):
                return of_products if instruction.is_product else of_rest
    described = f"{instruction.op_name} {instruction.line.partition('custom_call_target=')[2][:80]}"
    return next((part for pattern, part in _NAMES if pattern.search(described)), OTHER)
