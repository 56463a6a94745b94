"""Four sizes of language models on five slices, planned by the compiler: the table of experiments/pods.md.

    python experiments/bench/pods.py                  every cell that is not in pods.json yet, then the table
    python experiments/bench/pods.py llama-7b v5e-16  only the cells of these models and slices
    python experiments/bench/pods.py --table          the table of what is there

Needs the extra `tpu`, and JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 in the environment where there is no TPU. A cell takes
two to three minutes of a core and 2 GiB (measured: llama-7b on v5e-256, 151 s). Interrupted, the same command goes on;
cells are compiled again where their run changes, so remove pods.json after a change of the training step.
The models are also runs for other commands:

    jaxlm plan experiments/bench/pods.py:llama-7b --slice v5e-256 --layouts
"""

import argparse
import dataclasses
import datetime
import json
import sys
import time
from pathlib import Path
from typing import Any

import jax

from jaxlm.config import ConfigError, config_hash, require
from jaxlm.data import DataConfig
from jaxlm.launch.layouts import best_layout, rank_layouts
from jaxlm.launch.plan import plan
from jaxlm.launch.slices import GIB, Slice, find_slice
from jaxlm.launch.summary import summary
from jaxlm.model import ModelConfig, parameter_counts
from jaxlm.model.config import ComputeConfig
from jaxlm.parallel import AXES, MeshConfig
from jaxlm.sweep import Stage, Study
from jaxlm.train import EvalConfig, RunConfig

FOLDER = Path(__file__).resolve().parents[1]
RESULTS, TABLE, LOG = (FOLDER / name for name in ("pods.json", "pods.md", "pods.log.txt"))
SLICES = ("v5e-16", "v5e-256", "v5p-128", "v5p-1024", "v6e-256")
TOKENS_PER_PARAMETER = 20  # Hoffmann et al. 2022, arXiv 2203.15556, table 3
SEQUENCE = 2048

_LLAMA = {"vocabulary": 32000, "sequence": SEQUENCE,
          "compute": ComputeConfig(scan_layers=True, remat=True, dtype="bfloat16")}
# GPT-2 small with its vocabulary rounded up to a multiple of 128 (Radford et al. 2019); TinyLlama 1.1B (Zhang et al.
# 2024, arXiv 2401.02385); LLaMA 7B (Touvron et al. 2023, arXiv 2302.13971); Llama 2 70B (arXiv 2307.09288).
MODELS = {
    "gpt-125m": ModelConfig(**_LLAMA | {"vocabulary": 50304}, layers=12, width=768, heads=12, norm="layernorm",
                            positions="learned", activation="gelu", tied=True),
    "llama-1b": ModelConfig(**_LLAMA, layers=22, width=2048, heads=32, kv_heads=4, ff=5632),
    "llama-7b": ModelConfig(**_LLAMA, layers=32, width=4096, heads=32, ff=11008),
    "llama-70b": ModelConfig(**_LLAMA, layers=80, width=8192, heads=64, kv_heads=8, ff=28672),
}
SEQUENCES_PER_CHIP = {"gpt-125m": 4}  # else 1
# Measured with a 6.74 B prototype before this code: GiB of arguments and temporaries, and the mesh.
KNOWN = {("llama-7b", "v5e-256"): (1.18, 6.7, MeshConfig(data=4, fsdp=64)),
         ("llama-7b", "v5p-128"): (1.18, 10.6, MeshConfig(fsdp=64)),
         ("llama-7b", "v6e-256"): (.30, 5.8, MeshConfig(fsdp=256))}


def study() -> Study:
    """The four models as runs for one chip, each on a batch of 256 sequences."""
    runs = tuple(_run(name, 256) for name in MODELS)
    return Study(name="pods", question="Which slices hold which models, and how fast can they be?",
                 stages=(Stage(title="models", runs=runs),))


def _run(name: str, batch: int) -> RunConfig:
    tokens = TOKENS_PER_PARAMETER * parameter_counts(MODELS[name]).total
    return RunConfig(name=name, updates=-(-tokens // (batch * SEQUENCE)), batch=batch, model=MODELS[name],
                     data=DataConfig(sequence=SEQUENCE), evaluation=EvalConfig(sequences=2048))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One compilation: a model on a slice, on a mesh of its own or on the first of the ranking."""

    name: str
    where: Slice
    mesh: MeshConfig | None = None

    @property
    def run(self) -> RunConfig:
        """The run, with a batch of as many sequences per chip as `SEQUENCES_PER_CHIP` says."""
        base = _run(self.name, self.where.chips * SEQUENCES_PER_CHIP.get(self.name, 1))
        return base.replace(mesh=self.mesh) if self.mesh else best_layout(base, self.where)

    @property
    def title(self) -> str:
        """The cell in the table."""
        return f"{self.name} {self.where.name}" + (f" {_mesh(dict(zip(AXES, self.mesh.shape, strict=True)))}" if self.mesh else "")


def cells() -> list[Cell]:
    """Every model on every slice, the meshes that known figures belong to first where the ranking takes another."""
    found = []
    for name in MODELS:
        for where in map(find_slice, SLICES):
            _, _, mesh = KNOWN.get((name, where.name), (None, None, None))
            if mesh and Cell(name=name, where=where).run.mesh != mesh:
                found.append(Cell(name=name, where=where, mesh=mesh))
            found.append(Cell(name=name, where=where))
    return found


def main() -> int:
    """Fills the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", help="names of models and slices")
    parser.add_argument("--table", action="store_true", help="compile nothing")
    args = parser.parse_args()
    try:
        for word in args.only:
            require(word in (*MODELS, *SLICES), "only", word, f"must be among {', '.join((*MODELS, *SLICES))}")
    except ConfigError as error:
        print(f"pods: {error}", file=sys.stderr)
        return 2
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    everything = cells()
    # Words of one kind leave the other kind whole.
    names, places = (set(args.only) & set(known) or set(known) for known in (MODELS, SLICES))
    for cell in everything:
        if not args.table and cell.name in names and cell.where.name in places:
            compile_cell(cell, results)
    TABLE.write_text(table(everything, results) + "\n")
    print(f"wrote {TABLE}")
    return 0


def compile_cell(cell: Cell, results: dict[str, Any]) -> None:
    """Adds the plan of a cell to `results` and to the file, unless it is there."""
    run = cell.run
    digest = config_hash({"run": run.identity, "mesh": dict(zip(AXES, run.mesh.shape, strict=True)), "slice": cell.where.name})
    if results.get(cell.title, {}).get("digest") == digest:
        return
    say(f"{cell.title}: {_mesh(dict(zip(AXES, run.mesh.shape, strict=True)))}, batch {run.batch}")
    began, cpu = time.time(), time.process_time()
    # What the parameters and their state alone exceed needs no compiler to be refused.
    state_fits = plan(run, cell.where, compiled=False).held.state < cell.where.chip.usable_bytes
    made = plan(run, cell.where, compiled=state_fits)
    if state_fits and made.source == "formula":
        raise SystemExit(f"pods: {made.note}")
    jax.clear_caches()
    results[cell.title] = summary(made) | {
        "digest": digest, "batch": run.batch, "estimated_temporaries": made.held.temporaries,
        "cpu_seconds": round(time.process_time() - cpu), "versions": versions(),
        "layouts": [summary(each) for each in rank_layouts(run.replace(mesh=MeshConfig()), cell.where, count=3)]}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    verdict = "compiled" if made.program else "refused by the compiler" if state_fits else "refused by formula"
    say(f"{cell.title}: {verdict}, {made.needed / GIB:.2f} GiB of {made.capacity / GIB:.2f}; "
        f"{time.process_time() - cpu:.0f} CPU-s, {time.time() - began:.0f} s")


def versions() -> str:
    """The compiler and JAX."""
    from importlib import metadata

    return f"jax {jax.__version__}, libtpu {metadata.version('libtpu')}"


def say(line: str) -> None:
    """Prints a line and appends it to the log."""
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
    print(line, flush=True)
    with LOG.open("a") as log:
        log.write(f"{stamp} {line}\n")


def table(everything: list[Cell], results: dict[str, Any]) -> str:
    """Returns the Markdown of all cells that are there."""
    there = [(cell, results[cell.title]) for cell in everything if cell.title in results]
    used = sorted({result["versions"] for _, result in there})
    lines = [
        "# Models on slices, planned by the compiler", "",
        f"Made by `python experiments/bench/pods.py` ({'; '.join(used)}); log in pods.log.txt, figures in pods.json.",
        "AdamW with float32 parameters and state, bfloat16 compute, full remat, scan over layers, sequences of",
        f"{SEQUENCE}, one per chip and update (gpt-125m: four), no accumulation. Bytes are GiB per chip. Times are what",
        "peak figures allow (`jaxlm/launch/estimate.py`), collectives the compiler's, nothing was measured on a TPU.", "",
        "| model | slice | mesh | | state | temporaries (by formula) | all | of HBM | donated | received by collectives | "
        "update at least | MFU at most | chip-hours for 20 tokens a parameter |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
        *(_row(cell, result) for cell, result in there), "", "## Collectives of an update", "",
        "| model | slice | kind | devices | count | GiB received by a chip |", "|---|---|---|---|---|---|",
        *(line for cell, result in there for line in _collective_rows(cell, result)), "",
        "## Layouts", "", "Ranked by formula, not measured: the three best of each.", "",
        "| model | slice | mesh: least time of an update, bytes |", "|---|---|---|",
        *(_layout_row(cell, result) for cell, result in there if cell.mesh is None), "",
        "## Against what was known", "",
        "| model | slice | mesh | arguments, GiB: known, now | temporaries, GiB: known, now |", "|---|---|---|---|---|",
        *(line for cell, result in there for line in _known_row(cell, result))]
    missing = [cell.title for cell in everything if cell.title not in results]
    return "\n".join(lines + ([f"\nNot compiled yet: {', '.join(missing)}."] if missing else []))


def _row(cell: Cell, result: dict[str, Any]) -> str:
    held, step = result["bytes_per_device"], result["step_seconds"]
    compiled = result["donated"] is not None
    verdict = "compiled" + ("" if result["fits"] else ", too large") if compiled else "refused" if result["source"] == "compiler" else "state too large"
    temporaries = f"{_gib(held['temporaries'])} ({_gib(result['estimated_temporaries'])})" if compiled else "-"
    received = sum(each["bytes"] for each in result["collectives"] or ())
    donated = {True: "yes", False: "NO", None: "-"}[result["donated"]]
    return "| " + " | ".join([
        cell.name, cell.where.name, _mesh(result["mesh"]), verdict, _gib(held["parameters"] + held["optimizer"]),
        temporaries, _gib(held["needed"]), f"{held['share']:.0%}", donated,
        _gib(received) if compiled else "-", f"{step['least']:.3g} s ({step['limit']})", f"{result['mfu_ceiling']:.0%}",
        f"{result['chip_hours']:.3g}" if result["chip_hours"] < 1000 else f"{result['chip_hours']:.0f}"]) + " |"


def _collective_rows(cell: Cell, result: dict[str, Any]) -> list[str]:
    return [f"| {cell.name} | {cell.where.name} {_mesh(result['mesh'])} | {each['kind']} | {each['devices']} | "
            f"{each['count']} | {each['bytes'] / GIB:.2f} |"
            for each in result["collectives"] or () if each["bytes"] > GIB / 200]


def _layout_row(cell: Cell, result: dict[str, Any]) -> str:
    ranked = "; ".join(f"{_mesh(each['mesh'])}: {each['step_seconds']['least']:.3g} s, "
                       f"{_gib(each['bytes_per_device']['needed'])}" + ("" if each["fits"] else " (too large)")
                       for each in result["layouts"])
    return f"| {cell.name} | {cell.where.name} | {ranked} |"


def _known_row(cell: Cell, result: dict[str, Any]) -> list[str]:
    arguments, temporaries, mesh = KNOWN.get((cell.name, cell.where.name), (0, 0, None))
    if mesh is None or result["mesh"] != {axis: n for axis, n in dict(zip(AXES, mesh.shape, strict=True)).items() if n > 1}:
        return []
    held = result["bytes_per_device"]
    now = [f"{held[part] / GIB:.2f}" if held[part] else "-" for part in ("arguments", "temporaries")]
    return [f"| {cell.name} | {cell.where.name} | {_mesh(result['mesh'])} | {arguments:.2f}, {now[0]} | "
            f"{temporaries:.1f}, {now[1]} |"]


def _mesh(lengths: dict[str, int]) -> str:
    return " ".join(f"{axis}={length}" for axis, length in lengths.items() if length > 1)


def _gib(count: float) -> str:
    return f"{count / GIB:.2f}"


if __name__ == "__main__":
    sys.exit(main())
