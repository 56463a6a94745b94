"""`jaxlm memory`: what every optimizer's state would take for a model, before anything is allocated."""

import argparse
import dataclasses
from typing import Any

from jaxlm.cli import table
from jaxlm.config import ConfigError, from_dict, nearest, require

# The 1B Llama of the GaLore family (Zhao et al. 2024, 2403.03507): 1339.1 M parameters, untied head.
LLAMA_1B = {"vocabulary": 32000, "sequence": 256, "layers": 24, "width": 2048, "heads": 32, "ff": 5461}


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "memory", help="bytes of optimizer state for a model, by optimizer", allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Prints the optimizer state of a run's model (or of a Llama of 1.3 billion parameters) for every\n"
                    "optimizer, or for those that are named, with hyperparameters where wanted. Nothing is allocated.\n\n"
                    "  jaxlm memory\n"
                    "  jaxlm memory --model quickstart:w48-s0-trunk\n"
                    "  jaxlm memory adamw galore:rank=512 frugal:density=0.5 --fsdp 8")
    parser.add_argument("optimizers", nargs="*", metavar="OPTIMIZER[:FIELD=VALUE,...]", help="all of them by default")
    parser.add_argument("--model", metavar="STUDY:RUN", help="the model of this run (default: the Llama)")
    parser.add_argument("--fsdp", type=int, default=1, metavar="N", help="split over N devices, fully sharded data parallel")
    parser.add_argument("--tensor", type=int, default=1, metavar="N", help="and over N devices as tensor parallel")
    parser.set_defaults(run=run, command="memory")


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Runs the command."""
    from jaxlm import model

    for name in ("fsdp", "tensor"):
        require(getattr(args, name) >= 1, name, getattr(args, name), "must be at least 1")
    configs = [parse(word) for word in args.optimizers] or _all()
    config = _model(args.model)
    infos = model.param_infos(config)
    count = model.parameter_counts(config).total
    print(f"{count / 1e6:.1f} M parameters, {table.size(4 * count)} in float32; state as it is stored:\n")
    rows = []
    for optimizer, label in configs:
        found = _bytes(optimizer, infos, args.fsdp, args.tensor)
        rows.append((label, f"{found.elements / count:.3f}", table.size(found.total),
                     f"{found.total / (4 * count):.3f}", table.size(found.per_device)))
    titles = ["optimizer", "elements / parameter", "state", "state / parameters", "per device"]
    alone = args.fsdp * args.tensor == 1
    print(table.render(titles[:-1] if alone else titles, [row[:-1] if alone else row for row in rows],
                       left=("optimizer",)))
    return 0


def parse(word: str) -> tuple[Any, str]:
    """Returns the configuration that "KIND:FIELD=VALUE,..." names, and the word; raises `ConfigError`."""
    import json

    from jaxlm.optim.registry import OPTIMIZERS

    kind, _, rest = word.partition(":")
    if kind not in OPTIMIZERS:
        raise ConfigError(f"optimizer = {kind!r}: no such optimizer{nearest(kind, list(OPTIMIZERS))}")
    fields = {}
    for part in filter(None, rest.split(",")):
        name, separator, text = part.partition("=")
        require(bool(separator and text), "optimizer", word, "must be KIND or KIND:FIELD=VALUE,...")
        try:
            fields[name] = json.loads(text)
        except json.JSONDecodeError:
            fields[name] = text
    return from_dict(OPTIMIZERS[kind], fields, "optimizer"), word


def _all() -> list[tuple[Any, str]]:
    from jaxlm.optim.registry import OPTIMIZERS

    return [(cls(), _label(cls())) for cls in OPTIMIZERS.values()]


def _label(config: Any) -> str:
    """The kind, with those defaults that decide the memory."""
    shown = [f"{field.name}={getattr(config, field.name)}" for field in dataclasses.fields(config)
             if field.name in ("rank", "density", "history")]
    return config.kind + (":" + ",".join(shown) if shown else "")


def _model(target: str | None) -> Any:
    from jaxlm.model import ModelConfig

    if target is None:
        return ModelConfig(**LLAMA_1B)
    from jaxlm.sweep import load_study

    name, separator, run_name = target.rpartition(":")
    require(bool(separator and name and run_name), "model", target, "must be STUDY:RUN")
    return load_study(name).run(run_name).model


def _bytes(optimizer: Any, infos: Any, fsdp: int, tensor: int) -> Any:
    import jax
    import jax.numpy as jnp
    from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

    from jaxlm import params
    from jaxlm.optim import make_optimizer
    from jaxlm.optim.memory import state_bytes
    from jaxlm.parallel import AXES, RULES, MeshConfig

    shapes = jax.tree.map(lambda info: jax.ShapeDtypeStruct(info.shape, jnp.float32), infos)
    mesh = AbstractMesh(MeshConfig(fsdp=fsdp, tensor=tensor).shape, AXES)
    specs = params.partition_specs(infos, RULES)
    params.check_divides(infos, specs, mesh)
    shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs,
                             is_leaf=lambda x: isinstance(x, PartitionSpec))
    return state_bytes(make_optimizer(optimizer, infos, clip_norm=None), shapes, shardings)
