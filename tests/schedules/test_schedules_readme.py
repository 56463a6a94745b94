"""Every Python block of the README runs as it stands, one after the other, and its tables name what there is."""

import pathlib
import re
import typing

import numpy as np

from jaxlm import schedules

README = pathlib.Path(__file__).resolve().parents[2] / "jaxlm" / "schedules" / "README.md"


def test_blocks_run(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 4
    names: dict = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), names)
    np.testing.assert_allclose(names["at_once"], names["recorded"], rtol=0, atol=4e-7 * 3e-3)
    assert names["rates"].shape == (2_000,)
    assert str(names["updates"]) in capsys.readouterr().out


def test_every_constructor_and_every_configuration_stands_in_the_tables():
    text = README.read_text()
    for config in typing.get_args(schedules.ScheduleConfig):
        assert f"`{config.__name__}`" in text
    named = set(re.findall(r"`(\w+)\(", text))
    assert all(hasattr(schedules, name) for name in named)
    assert {"cyclic_cosine", "infinite", "power", "rewarm_redecay", "step_decay", "wsd_s"} <= named
