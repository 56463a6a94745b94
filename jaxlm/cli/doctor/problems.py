"""Why a run would not be exact here, judged from facts alone."""

from typing import Any

from jaxlm.cli.doctor.facts import ASSUMED, Facts

DETERMINISTIC = ("--xla_gpu_deterministic_ops", "--xla_gpu_exclude_nondeterministic_ops")
FAST_MATH = "--xla_cpu_enable_fast_math"
WORKER = "worker.py"  # a study's worker is pinned to one core of the CPU


def problems(facts: Facts) -> list[str]:
    """Returns one line for each reason; an empty list where runs are exact here."""
    lines = []
    for extra in ("", "train"):
        for package in facts.packages.get(extra, []):
            if not package.fits:
                have = f"{package.installed} is installed" if package.installed else "is not installed"
                lines.append(f"{package.name} {have}, jaxlm asks for {package.name}{package.wanted}")
    if facts.device_error:
        lines.append(f"JAX starts no device: {facts.device_error}")
    lines += _flags(facts)
    for name, assumed in ASSUMED.items():
        if facts.settings[name] != assumed:
            lines.append(f"{name} is {facts.settings[name]}, jaxlm assumes {assumed}: no record says so, "
                         f"so another start would differ; unset {name.upper()}")
    lines += _place(facts)
    lines += _self_test(facts)
    for name, attempt in facts.unfinished if facts.conditions else ():
        lines += [f"{name} would not go on bit for bit: {line}"
                  for line in _conditions(attempt, facts.conditions)]
    return lines


def _flags(facts: Facts) -> list[str]:
    flags = dict(_flag(word) for word in facts.environment.get("XLA_FLAGS", "").split())
    lines = []
    gpu = facts.conditions.get("platform") in ("gpu", "cuda", "rocm")
    if gpu and not any(flags.get(name) for name in DETERMINISTIC):
        lines.append(f"GPU without deterministic operations: set XLA_FLAGS={DETERMINISTIC[0]}=true")
    if flags.get(FAST_MATH):
        lines.append(f"XLA_FLAGS has {FAST_MATH}: results are not those of recorded runs")
    return lines


def _place(facts: Facts) -> list[str]:
    place = facts.place
    lines = []
    if place.write_error:
        lines.append(f"{place.tried} cannot hold records: {place.write_error}")
    if place.lock_error:
        lines.append(f"{place.tried} has no working locks, so two processes could write one run: "
                     f"{place.lock_error}")
    return lines


def _self_test(facts: Facts) -> list[str]:
    test = facts.self_test
    if test.error:
        return [] if facts.device_error else [f"the self-test failed: {test.error}"]
    return [f"self-test: {what} is not equal in {len(lines)} fields: {lines[0]}" for what, lines in (
        ("a run trained twice", test.repeated), ("a run stopped and restored", test.resumed)) if lines]


def _conditions(attempt: dict[str, Any], here: dict[str, Any]) -> list[str]:
    from jaxlm.train.conditions import differing

    command = attempt.get("command") or [""]
    if command[0] == WORKER:
        here = here | {"cpu_threads": 1} | ({"platform": "cpu"} if attempt.get("platform") == "cpu" else {})
    # The mesh is asked for by whoever starts the run, and is no property of this machine.
    return differing(attempt, here | {key: attempt.get(key, {}) for key in ("mesh", "compiler_options")})


def _flag(word: str) -> tuple[str, bool]:
    name, _, value = word.partition("=")
    return name, value.lower() not in ("false", "0")
