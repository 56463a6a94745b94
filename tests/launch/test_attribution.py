"""Time and memory by part: the program's text, the trace, and both together on a tiny model."""

import dataclasses
import math

import jax
import pytest
from test_plan import RUN

from jaxlm import model
from jaxlm.config import ConfigError
from jaxlm.launch import attribution, estimate, hlo, parts, trace
from jaxlm.launch.plan import lower_step
from jaxlm.launch.slices import find_slice
from jaxlm.model.config import ComputeConfig
from jaxlm.parallel import MeshConfig

HOME = "/somewhere/jaxlm/model"
MADE = 'metadata={op_name="jit(f)/jvp()/dot_general" stack_frame_id=3}'
PROGRAM = f"""HloModule jit_run_chunk, is_scheduled=true

FileNames
1 "{HOME}/norm.py"
2 "{HOME}/decoder.py"
3 "{HOME}/feed_forward.py"

FunctionNames
1 "Norm.__call__"
2 "Block.__call__"
3 "FeedForward.__call__"

FileLocations
1 {{file_name_id=2 function_name_id=2 line=36 end_line=36 column=19 end_column=58}}
2 {{file_name_id=1 function_name_id=1 line=29 end_line=29 column=20 end_column=55}}
3 {{file_name_id=3 function_name_id=3 line=29 end_line=29 column=20 end_column=55}}

StackFrames
1 {{file_location_id=1 parent_frame_id=1}}
2 {{file_location_id=2 parent_frame_id=2}}
3 {{file_location_id=3 parent_frame_id=2}}


%add (a: f32[], b: f32[]) -> f32[] {{
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b), metadata={{op_name="reduce_sum" stack_frame_id=2}}
}}

%fused (p0: f32[3,8,16], p1: s32[], p2: f32[4,8]) -> f32[4,16] {{
  %p0 = f32[3,8,16]{{2,1,0}} parameter(0)
  %p1 = s32[] parameter(1)
  %p2 = f32[4,8]{{1,0}} parameter(2)
  %slice = f32[1,8,16]{{2,1,0}} dynamic-slice(%p0, %p1), dynamic_slice_sizes={{1,8,16}}
  %flat = f32[8,16]{{1,0}} bitcast(%slice)
  ROOT %dot.1 = f32[4,16]{{1,0}} dot(%p2, %flat), lhs_contracting_dims={{1}}, rhs_contracting_dims={{0}}, {MADE}
}}

%body (state: (s32[], f32[4,8], f32[3,8,16])) -> (s32[], f32[4,8], f32[3,8,16]) {{
  %state = (s32[], f32[4,8]{{1,0}}, /*index=2*/f32[3,8,16]{{2,1,0}}) parameter(0)
  %index = s32[] get-tuple-element(%state), index=0
  %x = f32[4,8]{{1,0}} get-tuple-element(%state), index=1
  %w = f32[3,8,16]{{2,1,0}} get-tuple-element(%state), index=2
  %wide = f32[4,16]{{1,0}} fusion(%w, %index, %x), kind=kOutput, calls=%fused
  %turned = f32[16,4]{{0,1}} copy(%wide)
  %total = f32[4]{{0}} reduce-window(%turned, %index), window={{size=16x1}}, to_apply=%add
  ROOT %next = (s32[], f32[4,8]{{1,0}}, f32[3,8,16]{{2,1,0}}) tuple(%index, %x, %w)
}}

%condition (state.1: (s32[], f32[4,8], f32[3,8,16])) -> pred[] {{
  %state.1 = (s32[], f32[4,8]{{1,0}}, f32[3,8,16]{{2,1,0}}) parameter(0)
  %limit = s32[] constant(3)
  %index.1 = s32[] get-tuple-element(%state.1), index=0
  ROOT %less = pred[] compare(%index.1, %limit), direction=LT
}}

ENTRY %main (start: (s32[], f32[4,8], f32[3,8,16])) -> (s32[], f32[4,8], f32[3,8,16]) {{
  %start = (s32[], f32[4,8]{{1,0}}, f32[3,8,16]{{2,1,0}}) parameter(0)
  ROOT %while.1 = (s32[], f32[4,8]{{1,0}}, f32[3,8,16]{{2,1,0}}) while(%start), condition=%condition, body=%body
}}
"""


def test_the_text_of_a_program_says_what_runs_how_often_and_who_asked_for_it():
    program = hlo.parse(PROGRAM)
    found = {each.name: (each, inside, times) for each, inside, times in program.executed}
    assert {name: times for name, (_, _, times) in found.items()} == {"wide": 3, "turned": 3, "total": 3}
    assert program.flops(*found["wide"][:2]) == 2 * 4 * 8 * 16
    # One layer of the three that the fusion takes a slice of, its index, the other factor and the result.
    assert program.traffic(*found["wide"][:2]) == 4 * (8 * 16 + 1 + 4 * 8 + 4 * 16)
    assert program.traffic(*found["turned"][:2]) == 4 * 2 * 64
    # The step of a sum has no name of its own.
    assert found["total"][0].frames == ((f"{HOME}/norm.py", "Norm.__call__"), (f"{HOME}/decoder.py", "Block.__call__"))
    assert {name: parts.part_of(program, each, inside) for name, (each, inside, _) in found.items()} == {
        "wide": parts.PROJECTIONS, "turned": parts.COPIES, "total": parts.NORMS}


@pytest.mark.parametrize(("left", "right", "result", "how", "flops"), [
    ("2048,1024", "1024,2816", "2048,2816", "dim_labels=bf_io->bf", 2048 * 1024 * 2816),
    ("2048,1024", "2048,2816", "1024,2816", "dim_labels=fb_io->bf", 2048 * 1024 * 2816),
    # Heads along a spatial axis of the kernel, and a batch of products along one of both.
    ("2048,1024,1", "8,128,1024", "2048,8,128",
     "window={size=8 pad=7_7 rhs_reversal=1}, dim_labels=bf0_0oi->b0f", 2048 * 1024 * 1024),
    ("2048,8,128", "2048,8,128", "8,2048,2048",
     "window={size=8 stride=7 lhs_dilate=8}, dim_labels=b0f_o0i->0bf", 8 * 2048 * 2048 * 128),
])
def test_products_on_a_tpu_are_convolutions_and_count_what_they_multiply(left, right, result, how, flops):
    text = (f"ENTRY %main (a: bf16[{left}], b: bf16[{right}]) -> bf16[{result}] {{\n"
            f"  %a = bf16[{left}] parameter(0)\n  %b = bf16[{right}] parameter(1)\n"
            f"  ROOT %c = bf16[{result}]{{1,0:T(8,128)(2,1)}} convolution(%a, %b), {how}\n}}\n")
    program = hlo.parse(text)
    (product, inside, _), = program.executed
    assert program.flops(product, inside) == 2 * flops


def events(*rows, stat=False):
    """Lines of a trace, ((name, start, end), ...) in nanoseconds."""
    names = list(dict.fromkeys(row[0] for row in rows))
    named = "stats {{ metadata_id: 1 str_value: \"{}\" }}"
    lines = "".join(
        f"events {{ metadata_id: {names.index(name) + 1} offset_ps: {1000 * start} duration_ps: {1000 * (end - start)} "
        f"{named.format(name) if stat else ''} }} " for name, start, end in rows)
    kinds = "".join(f'event_metadata {{ key: {i} value {{ id: {i} name: "{"kernel" if stat else name}" }} }} '
                    for i, name in enumerate(names, 1))
    return lines, kinds


def space(plane, line, rows, *, stat=False):
    lines, kinds = events(*rows, stat=stat)
    text = (f'planes {{ name: "{plane}" lines {{ name: "{line}" timestamp_ns: 100 {lines} }} {kinds} '
            'stat_metadata { key: 1 value { id: 1 name: "hlo_op" } } }')
    return jax.profiler.ProfileData.from_text_proto(text)


def test_a_cpu_trace_tells_ends_apart_and_a_gpu_trace_the_instruction_of_a_kernel():
    rows = (("dot.1", 0, 10), ("copy.2", 20, 25), ("end: dot.1", 40, 41), ("dot.1", 50, 60), ("end: dot.1", 70, 71),
            ("ThunkExecutor::Execute", 0, 90))
    found = trace.intervals(space("/host:CPU", "tf_XLAEigen/1", rows), {"dot.1", "copy.2"})
    assert sorted(found) == [("copy.2", 120, 125), ("dot.1", 100, 141), ("dot.1", 150, 171)]
    found = trace.intervals(space("/device:GPU:0", "Stream #13", rows[:2], stat=True), {"dot.1"})
    assert found == [("dot.1", 100, 110)]
    assert trace.intervals(space("/host:metadata", "x", rows), {"dot.1"}) == []


def test_moments_are_shared_and_sum_to_the_busy_time():
    runs = [trace.Interval("a", 0, 40), trace.Interval("b", 10, 20), trace.Interval("c", 60, 70),
            trace.Interval("d", 65, 65)]
    spent = trace.shared_seconds(runs)
    assert {name: round(1e9 * seconds) for name, seconds in spent.items()} == {"a": 35, "b": 5, "c": 10, "d": 0}


@pytest.fixture(scope="module")
def compiled():
    """A run and its step, compiled here."""
    compute = ComputeConfig(loss_chunks=2)
    run = RUN.replace(model=dataclasses.replace(RUN.model, compute=compute))
    return run, lower_step(run, jax.devices()).compile()


def test_every_part_of_a_compiled_step_is_found_and_the_products_are_those_of_the_formula(compiled):
    run, executable = compiled
    rows = [(row.part, row.flops, row.moved) for row in attribution.instructions(hlo.parse(executable.as_text()))]
    named = {part for part, _, _ in rows}
    assert set(parts.PARTS) - named <= {parts.COLLECTIVES, parts.OTHER}
    tokens, per_token = run.tokens_per_update, model.flops_per_token(run.model, run.data.sequence)
    assert sum(flops for _, flops, _ in rows) == pytest.approx(tokens * sum(per_token.values()))
    assert sum(flops for part, flops, _ in rows if part == parts.LOSS) == tokens * per_token["head"]
    scores = 3 * 4 * run.model.layers * run.data.sequence * run.model.query_width
    assert sum(flops for part, flops, _ in rows if part == parts.ATTENTION) == tokens * scores
    unknown = math.fsum(moved for part, _, moved in rows if part == parts.OTHER)
    assert unknown < 0.02 * math.fsum(moved for _, _, moved in rows)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["projections", "attention", "block"])
def test_what_remat_multiplies_again_is_what_the_formula_says(policy):
    compute = ComputeConfig(scan_layers=True, remat=True, remat_policy=policy, loss_chunks=2)
    run = RUN.replace(model=dataclasses.replace(RUN.model, compute=compute))
    text = lower_step(run, jax.devices()).compile().as_text()
    expected = estimate.work(run)
    assert sum(row.flops for row in attribution.instructions(hlo.parse(text))) == pytest.approx(
        expected.model_flops + expected.recomputed_flops)


def test_a_program_for_what_is_not_here_takes_the_least_time_of_each_instruction(compiled, monkeypatch):
    run, executable = compiled
    monkeypatch.setattr(attribution, "slice_devices", lambda where, slices: [])
    monkeypatch.setattr(attribution, "_compiled", lambda run, devices: executable)
    found = attribution.from_program(run, find_slice("v5e-1"))
    assert (found.source, found.usage, [row.part for row in found.rows]) == ("program", None, list(parts.PARTS))
    assert found.seconds == pytest.approx(sum(row.seconds for row in found.operations))
    longest = found.operations[0]
    assert longest.seconds == pytest.approx(max(longest.flops / 197e12, longest.moved / 819e9))


@pytest.mark.parametrize(("run", "updates", "said"), [
    (RUN, 0, "^updates = 0: must be at least 1$"),
    (RUN.replace(mesh=MeshConfig(data=2)), 1, r"^mesh = \(1, 2, 1, 1, 1\): must be one device on a CPU"),
])
def test_a_mistake_is_one_line(run, updates, said):
    with pytest.raises(ConfigError, match=said):
        attribution.measure(run, updates=updates)


@pytest.mark.tpu_compiler
def test_a_program_for_a_slice_says_what_each_part_computes_and_moves():
    # Widths of whole tiles, so that layouts on the chip pad little.
    wide = dataclasses.replace(RUN.model, width=512, heads=4, ff=1024, vocabulary=1024, sequence=128,
                               compute=ComputeConfig(scan_layers=True, dtype="bfloat16", attention="plain"))
    run = RUN.replace(model=wide, data=dataclasses.replace(RUN.data, sequence=128), mesh=MeshConfig(data=2, fsdp=2))
    found = attribution.from_program(run, find_slice("v5e-4"))
    assert (found.source, found.usage, [row.part for row in found.rows]) == ("program", None, list(parts.PARTS))
    spent = {row.part: row.seconds for row in found.rows}
    assert all(spent[part] > 0 for part in (parts.PROJECTIONS, parts.ATTENTION, parts.LOSS, parts.COLLECTIVES))
    assert spent[parts.OTHER] < 0.1 * found.seconds
    flops = run.tokens_per_update / 4 * sum(model.flops_per_token(run.model, 128).values())
    assert found.total.flops == pytest.approx(flops, rel=0.02)
