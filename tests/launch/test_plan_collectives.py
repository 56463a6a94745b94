"""Collectives read from compiled text: of the forms that the compilers write, and of a program of known traffic."""

import os
import subprocess
import sys

import pytest

from jaxlm.launch.collectives import Collective, collectives, donated

PROGRAM = """\
HloModule jit_step, is_scheduled=true, input_output_alias={{ {{0}}: (0, {{}}, may-alias), {{1}}: (2, {{}}, must-alias) }}, num_partitions=8

%add (a: f32[], b: f32[]) -> f32[] {{
  ROOT %sum = f32[] add(f32[] %a, f32[] %b)
}}

%condition (p: (s32[], f32[16])) -> pred[] {{
  %constant.1 = s32[]{{:T(128)}} constant(5)
  %p = (s32[], f32[16]{{0}}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  ROOT %lt = pred[] compare(%i, %constant.1), direction=LT
}}

%scattering.all-reduce-scatter.1 (x: f32[16]) -> f32[4] {{
  %x = f32[16]{{0}} parameter(0)
  %all-reduce.9 = f32[16]{{0:T(8)}} all-reduce(%x), channel_id=9, replica_groups={{{{0,1,2,3}},{{4,5,6,7}}}}, to_apply=%add
  ROOT %mine = f32[4]{{0}} dynamic-slice(%all-reduce.9, %x)
}}

%body (p: (s32[], f32[16])) -> (s32[], f32[16]) {{
  %p = (s32[], f32[16]{{0}}) parameter(0)
  %x = f32[16]{{0}} get-tuple-element(%p), index=1
{lines}
}}

ENTRY %main (x: f32[16]) -> f32[16] {{
  %x = f32[16]{{0}} parameter(0)
  %loop = (s32[], /*index=1*/f32[16]{{0:T(8)S(1)}}) while(%start), condition=%condition, body=%body
}}
"""


def one(line: str, **kwargs) -> Collective:
    found = collectives(PROGRAM.format(lines="  " + line), **kwargs)
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize(("groups", "devices"), [
    ("replica_groups={{0,1},{2,3},{4,5},{6,7}}", 2),
    ("replica_groups=[2,4]<=[8]", 4),
    ("replica_groups=[4,2]<=[2,4]T(1,0)", 2),
    ("replica_groups=mesh['axis_0'=2,'axis_1'=4] {'axis_1'}", 4),
    ("replica_groups=mesh['a'=1,'b'=4,'c'=2], device_ids=([2,4]T(1,0)) {'b'}", 4),
    ("replica_groups=mesh['a'=8] {'a':(2)4}", 4),
    ("replica_groups={}", 8),
])
def test_groups_of_all_forms(groups, devices):
    found = one(f"%r = bf16[1024]{{0}} all-gather(%x), channel_id=1, {groups}, dimensions={{0}}")
    assert (found.kind, found.devices, found.count) == ("all-gather", devices, 5)
    assert found.bytes == 5 * 2048 * (devices - 1) / devices


@pytest.mark.parametrize(("instruction", "kind", "received"), [
    ("f32[64]{0} all-reduce(%x), channel_id=1, replica_groups=[2,4]<=[8], to_apply=%add",
     "all-reduce", 2 * 256 * 3 / 4),
    ("(f32[64]{0}, bf16[32]{0}) all-reduce(%x, %y), channel_id=1, replica_groups=[2,4]<=[8], to_apply=%add",
     "all-reduce", 2 * 320 * 3 / 4),
    ("f32[16]{0} reduce-scatter(%x), channel_id=1, replica_groups=[2,4]<=[8], dimensions={0}, to_apply=%add",
     "reduce-scatter", 64 * 3),
    ("(f32[16]{0}, f32[64]{0}) all-gather-start(%x), channel_id=1, replica_groups=[2,4]<=[8], dimensions={0}",
     "all-gather", 256 * 3 / 4),
    ("pred[64]{0} all-to-all(%x), channel_id=1, replica_groups=[2,4]<=[8], dimensions={0}", "all-to-all", 64 * 3 / 4),
    ("f32[64]{0} collective-permute(%x), channel_id=1, source_target_pairs={{0,1},{1,2}}", "collective-permute", 256),
    ("f32[4]{0} fusion(%x), kind=kCustom, calls=%scattering.all-reduce-scatter.1", "reduce-scatter", 64 * 3 / 4),
])
def test_bytes_of_each_kind(instruction, kind, received):
    found = one(f"%r = {instruction}")
    assert (found.kind, found.bytes) == (kind, 5 * received)


def test_parts_of_one_in_several_fusions_count_once_and_a_done_not_at_all():
    part = "%a = f32[64]{0:T(8)} all-gather(%x), channel_id=4, replica_groups=[2,4]<=[8], dimensions={0}"
    text = PROGRAM.format(lines="\n".join(f"  %f{i} = f32[64]{{0}} fusion(%x), calls=%part.{i}" for i in (1, 2)) + """
  %d = f32[64]{0} all-gather-done(%f2)""")
    for i, layout in ((1, "{0:T(8)}"), (2, "{0:T(8)S(1)}")):
        text += f"\n%part.{i} (x: f32[16]) -> f32[64] {{\n  {part.replace('{0:T(8)}', layout)}\n}}\n"
    assert [(found.kind, found.count) for found in collectives(text)] == [("all-gather", 5)]


def test_collectives_of_one_channel_outside_fusions_count_each():
    part = "{name} = f32[64]{{0}} all-gather(%x), channel_id=1, replica_groups=[2,4]<=[8], dimensions={{0}}"
    assert one("\n  ".join(part.format(name=name) for name in ("%a", "%b"))).count == 10


@pytest.mark.parametrize(("groups", "crosses"), [("[2,4]<=[8]", False), ("[4,2]<=[2,4]T(1,0)", True)])
def test_groups_over_two_slices_cross(groups, crosses):
    line = f"%r = f32[64]{{0}} all-reduce(%x), channel_id=1, replica_groups={groups}, to_apply=%add"
    assert one(line, slices=2).crosses is crosses


def test_a_loop_without_a_stated_length_counts_once():
    text = PROGRAM.format(lines="  %r = f32[64]{0} all-to-all(%x), channel_id=1, replica_groups=[1,8]<=[8]")
    assert collectives(text.replace("s32[]{:T(128)} constant(5)", "s32[] parameter(1)"))[0].count == 1


def test_a_group_of_one_moves_nothing():
    assert not collectives(PROGRAM.format(lines="  %r = f32[64]{0} all-reduce(%x), replica_groups=[8,1]<=[8]"))


def test_donated_results_are_counted():
    assert donated(PROGRAM.format(lines="")) == 2
    assert donated("HloModule jit_f, num_partitions=2") == 0


KNOWN = """
import jax, jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec as P
from jaxlm.launch.collectives import collectives

mesh = jax.make_mesh((2, 4), ("a", "b"), axis_types=(AxisType.Auto,) * 2)

def step(x):
    def body(total, _):
        y = jax.lax.all_gather(total, "b", tiled=True)             # 3/4 of 4 * 256 bytes
        return jax.lax.psum_scatter(y * total.sum(), "b", tiled=True) + 1, None
    return jax.lax.psum(jax.lax.scan(body, x, None, length=7)[0], "a")

step = jax.shard_map(step, mesh=mesh, in_specs=P(("a", "b")), out_specs=P("b"), check_vma=False)
for found in collectives(jax.jit(step).lower(jnp.zeros(512)).compile().as_text()):
    print(found.kind, found.devices, found.count, found.bytes)
"""


def test_a_compiled_loop_has_the_traffic_that_was_written():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", KNOWN], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted(done.stdout.splitlines()) == [
        "all-gather 4 7 5376.0", "all-reduce 2 1 256.0", "reduce-scatter 4 7 5376.0"]
