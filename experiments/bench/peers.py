"""Adapters to the training steps of public JAX trainers, in the shape of the standard step.

Each function imports its peer from the path of its process and returns a function that makes one update by the peer's
own step and returns its loss. Rematerialisation, soft caps, clipping and further norms are off, layers are unrolled
where the peer can; what is left of its own are positions, biases of norms, metrics, and how it writes the step.
Checked against the revisions named; a peer that does not import or run is left out of a comparison, with its error.
"""

import functools
import importlib
import sys
from collections.abc import Callable
from unittest import mock

import numpy as np

Advance = Callable[[], float]


def nanodo(sizes: dict[str, int], dtype: str) -> Advance:
    """google-deepmind/nanodo 10aefde: learned positions, tied head, AdamW inside MultiSteps, its metrics."""
    # Imported at the top of its files, used by its data pipeline, logs and checkpoints only.
    _stub("tensorflow_datasets", "sentencepiece", "clu", "grain.python", "orbax.checkpoint")
    import jax
    from nanodo import model_factory, train

    config = _Settings(
        batch_size=sizes["batch"],
        model=_Settings(D=sizes["width"], H=sizes["heads"], L=sizes["sequence"], N=sizes["layers"],
                        F=sizes["feed_forward"], dtype=dtype, remat=False),
        opt=_Settings(optimizer="adamw", b1=0.9, b2=0.95, eps=1e-8, weight_decay=0.1, peak_learning_rate=1e-3,
                      init_learning_rate=1e-3, final_learning_rate=1e-3, warmup_steps=0, num_train_steps=10**6,
                      decay_type="constant_without_warmup"))
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    module, get_loss_fn = model_factory.get_model_and_loss(config, sizes["vocabulary"])
    shardings, state = train._init_train_state(config, module, rng=jax.random.PRNGKey(0), mesh=mesh)
    trainer = train.Trainer(config, state, mesh, shardings, get_loss_fn)
    # Its loss is over the pairs within a sequence, and 0 is its padding.
    tokens = np.random.default_rng(0).integers(1, sizes["vocabulary"], (sizes["batch"], sizes["sequence"]), np.int32)
    return lambda: float(jax.device_get(trainer.do_step(1, tokens))["train_loss"])


def simply(sizes: dict[str, int], dtype: str) -> Advance:
    """google-deepmind/simply e14c061: no positions at all, tied head, its Adam with decay, accuracy beside the loss."""
    import jax
    from simply import config_lib, model_lib
    from simply.utils import optimizers, sharding

    config = config_lib.BaseExperimentConfig(
        seq_len=sizes["sequence"], vocab_size=sizes["vocabulary"], model_dim=sizes["width"], n_heads=sizes["heads"],
        per_head_dim=sizes["width"] // sizes["heads"], n_layers=sizes["layers"], batch_size=sizes["batch"],
        expand_factor=sizes["feed_forward"] / sizes["width"], use_scan=False, use_remat=False, use_rmsnorm=False,
        use_post_ln=False, use_per_dim_scale=False, use_gated_activation_in_ffn=False, activation_dtype_name=dtype,
        output_layer_use_bias=False, ffn_use_bias=False, attn_soft_cap=-1.0, output_logits_soft_cap=-1.0,
        position_encoding=None, optimizer=optimizers.Adam(beta1=0.9, beta2=0.95, epsilon=1e-8), weight_decay=0.1,
        clip_grad_norm=-1.0, clip_local_update_rms=-1.0)
    sharding.set_mesh(mesh_shape=None, axis_names=config.sharding_config.mesh_axis_names)
    model, _ = model_lib.create_model(config, config.sharding_config)
    state = model_lib.get_init_state(config, config.sharding_config, None, "")
    step = jax.jit(functools.partial(
        model_lib.train_one_step, model=model, opt=config.optimizer, weight_decay=config.weight_decay,
        clip_grad_norm=config.clip_grad_norm, clip_local_update_rms=config.clip_local_update_rms),
        donate_argnames=["state"])
    inputs, targets = _batch(sizes)
    batch = {"decoder_input_tokens": inputs, "decoder_target_tokens": targets}

    def advance() -> float:
        nonlocal state
        loss, state, _ = step(state=state, batch=batch, lr=1e-3)
        return float(loss)

    return advance


def levanter(sizes: dict[str, int], dtype: str) -> Advance:
    """stanford-crfm/levanter 9263f81: its GPT-2, whose layers are always scanned, and its trainer without hooks."""
    import haliax
    import jax
    import jmp
    from levanter.models import gpt2, lm_model
    from levanter.optim import AdamConfig
    from levanter.tracker import NoopConfig
    from levanter.trainer import Trainer, TrainerConfig

    model = gpt2.Gpt2Config(
        seq_len=sizes["sequence"], hidden_dim=sizes["width"], num_layers=sizes["layers"], num_heads=sizes["heads"],
        mlp_scale=sizes["feed_forward"] // sizes["width"], gradient_checkpointing=False, use_bias=False)
    optimizer = AdamConfig(learning_rate=1e-3, weight_decay=0.1, beta1=0.9, beta2=0.95, epsilon=1e-8,
                           max_grad_norm=None, warmup=0, lr_schedule="constant").build(10**6)
    policy = f"p=f32,c={'bf16' if dtype == 'bfloat16' else 'f32'},o=f32"
    config = TrainerConfig(id="bench", tracker=NoopConfig(), mp=jmp.get_policy(policy), log_jaxprs=False,
                           log_xla_hlo=False, train_batch_size=sizes["batch"], load_checkpoint=False)
    batch, position = haliax.Axis("batch", sizes["batch"]), haliax.Axis("position", sizes["sequence"])
    trainer = Trainer(config, optimizer, lm_model.compute_next_token_loss, add_default_hooks=False)
    trainer.__enter__()
    vocabulary = haliax.Axis("vocab", sizes["vocabulary"])
    state = trainer.initial_state(jax.random.PRNGKey(0),
                                  model_init=lambda: model.build(vocabulary, key=jax.random.PRNGKey(1)))
    tokens = haliax.named(jax.numpy.asarray(_batch(sizes)[0]), (batch, position))
    example = haliax.vmap(lm_model.LmExample.causal, batch)(tokens)

    def advance() -> float:
        nonlocal state
        info = trainer.train_step(state, example)
        state = info.state
        return float(info.loss)

    return advance


class _Settings(dict):
    """A table whose entries are attributes too."""

    __getattr__ = dict.__getitem__


def _stub(*names: str) -> None:
    """Puts a stand-in for each module that is not installed."""
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            sys.modules[name] = mock.MagicMock()


def _batch(sizes: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.random.default_rng(0).integers(
        0, sizes["vocabulary"], (sizes["batch"], sizes["sequence"] + 1), np.int32)
    return tokens[:, :-1].copy(), tokens[:, 1:].copy()
