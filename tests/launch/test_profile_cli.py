"""`jaxlm profile`: what it prints, and one line for each mistake."""

import json
from pathlib import Path

import pytest

from jaxlm.cli import main
from jaxlm.launch import attribution, ceiling, parts

STUDY = str(Path(__file__).resolve().parents[1] / "sweep" / "tiny_study.py")


def call(capsys, *words):
    code = main(["profile", *words, "--allocator", "system"])
    out, err = capsys.readouterr()
    return code, out, err


def test_table_and_data_of_known_figures(capsys, monkeypatch):
    def known(run, *, updates):
        def row(part, seconds, flops=0.0, name="", op_name=""):
            return attribution.Row(part=part, seconds=seconds, flops=flops, moved=2e6, buffer=1024, name=name,
                                   op_name=op_name)

        return attribution.Attribution(
            run=run, device="a CPU", source="trace", updates=updates,
            rows=(row(parts.PROJECTIONS, 0.006, 3e9, "dot.1"), row(parts.NORMS, 0.002)),
            operations=(row(parts.PROJECTIONS, 0.005, 3e9, "dot.1", "jit(f)/dot_general"),),
            ceiling=ceiling.Ceiling(1e12, "X W"), usage=attribution.Usage(0.009, 0.010, 0.006, 12.0),
            memory={"temporaries": 2**20})

    monkeypatch.setattr(attribution, "measure", known)
    code, out, err = call(capsys, f"{STUDY}:trunk")
    assert (code, err) == (0, "") and "traced over 4 updates in a call" in out.splitlines()[0]
    rows = {line[:13].rstrip(): line[13:].split() for line in out.splitlines()}
    assert rows["projections"][:4] == ["6.000", "75.0%", "3.000", "50.0%"]
    assert rows["norms"][:4] == ["2.000", "25.0%", "-", "-"]
    assert rows["together"][:4] == ["8.000", "100.0%", "3.000", "37.5%"]
    for said in ("without the trace 9.000 ms, 16.000 ms of CPU time", "6.000 ms (37.5%), with 12 page faults",
                 "ceiling 1,000 GFLOP/s: X W", "temporaries 1.0 MiB", "jit(f)/dot_general"):
        assert said in out
    code, out, _ = call(capsys, f"{STUDY}:trunk", "--json")
    data = json.loads(out)
    assert code == 0 and (data["source"], data["updates"], data["seconds"], data["of_ceiling"]) == ("trace", 4, 0.008, 0.375)
    assert [(row["share"], row["of_ceiling"]) for row in data["parts"]] == [(0.75, 0.5), (0.25, None)]


@pytest.mark.slow
def test_parts_sum_to_the_step_in_the_table_and_as_data(capsys, monkeypatch):
    monkeypatch.setattr(ceiling, "TIMINGS", 1)
    measure, found = attribution.measure, []

    def once(run, *, updates):
        found.append(found[0] if found else measure(run, updates=updates))
        return found[0]

    monkeypatch.setattr(attribution, "measure", once)
    words = (f"{STUDY}:trunk", "--accumulation=2", "--model.compute.scan_layers=true", "--model.compute.remat=true")
    code, out, err = call(capsys, *words)
    assert (code, err) == (0, "") and "traced over 4 updates in a call" in out.splitlines()[0]
    rows = {line[:23].rstrip(): line[23:].split() for line in out.splitlines()}
    shown = [float(rows[part][0]) for part in (*parts.PARTS, parts.DISPATCH)]
    assert sum(shown) == pytest.approx(float(rows["together"][0]), abs=0.01)
    for said in ("of ceiling", "page faults", "ceiling ", "temporaries", "largest instructions"):
        assert said in out
    code, out, _ = call(capsys, *words, "--json")
    data = json.loads(out)
    assert code == 0 and (data["source"], data["updates"]) == ("trace", 4)
    assert sum(row["share"] for row in data["parts"]) == pytest.approx(1)
    assert sum(row["seconds"] for row in data["parts"]) == pytest.approx(data["seconds"])
    spent = {row["part"]: row["seconds"] for row in data["parts"]}
    assert all(spent[part] > 0 for part in (parts.PROJECTIONS, parts.ATTENTION, parts.LOSS, parts.NORMS))
    assert spent[parts.OTHER] < 0.1 * data["seconds"]
    assert data["memory"]["temporaries"] > 0 and data["memory"]["peak_resident"] > 2**20
    assert data["of_ceiling"] == pytest.approx(data["flops"] / data["seconds"]
                                               / data["ceiling"]["flops_per_second"])
    assert data["usage"]["wall"] > 0


@pytest.mark.parametrize(("words", "said"), [
    ((STUDY,), "must be STUDY:RUN"),
    ((f"{STUDY}:trunc",), "did you mean 'trunk'"),
    ((f"{STUDY}:trunk", "--updates", "0"), "updates = 0: must be at least 1"),
    ((f"{STUDY}:trunk", "--ops", "-1"), "ops = -1: must not be negative"),
    ((f"{STUDY}:trunk", "--model.wdth=3"), "model.wdth: no such option; did you mean 'width'?"),
    ((f"{STUDY}:trunk", "--slice", "v5e-5"), "slice 'v5e-5': no such slice"),
    ((f"{STUDY}:trunk", "--batch=8", "--slice", "h100-8"), "no compiler for devices that are not here"),
    ((f"{STUDY}:trunk", "--slice", "v5e-4", "--updates", "2"), "updates = 2: nothing runs with --slice"),
])
def test_a_mistake_is_one_line(capsys, words, said):
    code, out, err = call(capsys, *words)
    assert (code, out) == (2, "")
    assert said in err and err.count("\n") == 1
