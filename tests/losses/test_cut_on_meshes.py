"""The loss in chunks on eight forced devices: values and gradients of one device, and what each device holds."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

MESHES = [{}, {"data": 2, "fsdp": 2, "tensor": 2}, {"tensor": 8}, {"fsdp": 2, "tensor": 2, "sequence": 2}]
BATCH, TIME, VOCABULARY, WIDTH, CHUNKS = 8, 16, 512, 16, 4

PROGRAM = """
import json, sys
import jax, numpy as np
from jaxlm.launch.collectives import collectives
from jaxlm.losses import cut_cross_entropy
from jaxlm.parallel import ACTIVATIONS, MeshConfig, make_mesh
from jaxlm.params.activations import constrain, on_mesh, rows

batch, time, vocabulary, width, chunks = json.loads(sys.argv[2])
rng = np.random.default_rng(0)
h, w = (rng.normal(size=shape).astype(np.float32) for shape in ((batch, time, width), (vocabulary, width)))
targets = rng.integers(0, vocabulary, (batch, time))

for layout in json.loads(sys.argv[1]):
    def loss(h, w, targets):
        w = constrain(w, "vocab", None)
        return sum(cut_cross_entropy(rows(constrain(h, "batch", "time", None)), w, rows(targets), z_loss=0.1,
                                     soft_cap=5.0, chunks=chunks))

    # As many rows as there are devices, and one more: those are left to the compiler.
    for size in (batch, batch - 1):
        step = jax.jit(on_mesh(jax.value_and_grad(loss, (0, 1)), make_mesh(MeshConfig(**layout)), ACTIVATIONS))
        arguments = h[:size], w, targets[:size]
        text = step.lower(*arguments).compile().as_text()
        value, (dh, dw) = step(*arguments)
        print(json.dumps({"loss": float(value), "dh": np.ravel(dh).tolist(), "dw": np.ravel(dw).tolist(), "text": text,
                          "reduced": [each.count for each in collectives(text) if each.kind == "all-reduce"]}))
"""


@pytest.fixture(scope="module")
def found():
    """What each mesh did, with rows that its devices divide and with others: [mesh][0 or 1]."""
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", PROGRAM, json.dumps(MESHES),
                           json.dumps([BATCH, TIME, VOCABULARY, WIDTH, CHUNKS])],
                          env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return list(zip(lines[::2], lines[1::2], strict=True))


@pytest.mark.parametrize("mesh", range(1, len(MESHES)), ids=lambda index: str(MESHES[index]))
@pytest.mark.parametrize("divided", [True, False])
def test_every_mesh_finds_what_one_device_finds(found, mesh, divided):
    one, many = found[0][not divided], found[mesh][not divided]
    np.testing.assert_allclose(many["loss"], one["loss"], rtol=1e-6)
    for name in ("dh", "dw"):
        np.testing.assert_allclose(many[name], one[name], rtol=0, atol=2e-6 * np.abs(one[name]).max())


@pytest.mark.parametrize("mesh", range(1, len(MESHES)), ids=lambda index: str(MESHES[index]))
def test_no_device_holds_more_than_its_chunk_of_logits_and_its_part_of_the_table(found, mesh):
    layout, text = MESHES[mesh], found[mesh][0]["text"]
    tensor = layout.get("tensor", 1)
    own_rows, own_columns = BATCH * TIME * tensor // 8, VOCABULARY // tensor
    shapes = {tuple(map(int, shape.split(","))) for shape in re.findall(r"\bf32\[(\d+(?:,\d+)+)\]", text)}
    inside = [shape for shape in shapes if own_columns in shape or VOCABULARY in shape]
    chunk, part = own_rows // CHUNKS * own_columns, own_columns * WIDTH
    assert inside and max(map(np.prod, inside)) <= max(chunk, part)
    assert "all-gather" not in text


def test_the_gradient_of_the_table_is_reduced_once_and_not_for_each_chunk(found):
    # Four in the loop for each chunk (maximum, sum, target, dH), others once.
    fsdp_and_tensor = found[1][0]
    assert sum(fsdp_and_tensor["reduced"]) <= 5 * CHUNKS + 2
    assert not [line for line in fsdp_and_tensor["text"].splitlines()
                if " all-reduce" in line and f"{WIDTH},{VOCABULARY // 2}]" in line and "while/body" in line]
