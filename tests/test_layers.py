"""Imports point down: a static walk over every import, and what importing the ground really pulls in."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]

# Floor of each package. A package imports lower floors and itself; those on the ground also each other.
GROUND = 0
FLOORS = {
    "jaxlm.allocator": GROUND, "jaxlm.config": GROUND, "jaxlm.params": GROUND,
    "jaxlm.optim": GROUND, "jaxlm.schedules": GROUND, "jaxlm.losses": GROUND,
    "jaxlm.model": 1, "jaxlm.data": 1, "jaxlm.parallel": 1,
    "jaxlm.train": 2,
    "jaxlm.recipes": 3,
    "jaxlm.sweep": 4, "jaxlm.launch": 4,
    "jaxlm.cli": 5,
}
# scaling stands apart on the ground: it imports nothing of jaxlm, and serves the trainer and all above.
USES_SCALING = FLOORS["jaxlm.train"]

# What a module may import at its top level besides the standard library; extras are imported where used.
THIRD_PARTY = {"ground": {"jax", "optax", "numpy"}, "scaling": {"jax", "numpy", "scipy"}}

GROUND_PACKAGES = ("jaxlm.optim", "jaxlm.schedules", "jaxlm.losses", "jaxlm.params")
SCALING_PACKAGES = ("scaling",)
EXTRAS = ("flax", "orbax", "grain", "tensorstore", "matplotlib", "tensorflow", "pandas", "tokenizers",
          "pyarrow")

# jax and its companions come first: what they read while they start is not ours to judge.
IMPORT_SCRIPT = """
import importlib, pkgutil, sys
EXTRAS, PACKAGES, OTHER = {extras!r}, {packages!r}, {other!r}

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in EXTRAS:
            raise ImportError(f"blocked: {{name}}")

sys.meta_path.insert(0, Blocker())
import jax, numpy, optax, scipy.optimize, scipy.special, scipy.stats

opened = []
def note(event, arguments):
    if event == "open" and not str(arguments[0]).endswith((".py", ".pyc", ".so")):
        opened.append(str(arguments[0]))
sys.addaudithook(note)

for name in PACKAGES:
    package = importlib.import_module(name)
    if {walk}:
        for module in pkgutil.walk_packages(package.__path__, name + "."):
            importlib.import_module(module.name)

from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized(), "a device was started"
assert not opened, f"files were read: {{opened}}"
pulled = sorted(name for name in sys.modules if name.partition(".")[0] == OTHER)
assert not pulled, f"imported {{pulled}}"
"""


def run_import(packages: tuple[str, ...], other: str, *, walk: bool) -> None:
    script = IMPORT_SCRIPT.format(extras=EXTRAS, packages=packages, other=other, walk=walk)
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True,
                          timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


def test_importing_the_ground_needs_no_extra_and_starts_nothing():
    run_import(GROUND_PACKAGES, "scaling", walk=True)


def test_importing_scaling_needs_no_extra_and_nothing_of_jaxlm():
    run_import(SCALING_PACKAGES, "jaxlm", walk=False)


def module_name(path: pathlib.Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(node: ast.AST, path: pathlib.Path) -> list[str]:
    """The modules that an import statement names, `from package import name` counted as package.name."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        package = path.relative_to(ROOT).parent.parts
        base = ".".join([*package[:len(package) - node.level + 1], *filter(None, [node.module])])
    return [f"{base}.{alias.name}" for alias in node.names]


def package_of(module: str) -> str:
    """`jaxlm.x` for a module of jaxlm, else the first part of the name."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "jaxlm" else parts[0]


def all_imports(top: str) -> list[tuple[pathlib.Path, int, str]]:
    """(file, line, module) of every import under the folder `top`, those inside functions included."""
    found = []
    for path in sorted((ROOT / top).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found += [(path, node.lineno, name) for name in imported(node, path)]
    return found


def may_import(importer: str, target: str) -> bool:
    if target == "scaling":
        return FLOORS[importer] >= USES_SCALING
    if importer == target:
        return True
    if FLOORS[importer] == GROUND:
        return FLOORS[target] == GROUND and importer != "jaxlm.config"
    return FLOORS[target] < FLOORS[importer]


def test_every_module_of_jaxlm_stands_on_a_floor():
    present = {package_of(module_name(path)) for path in (ROOT / "jaxlm").rglob("*.py")} - {"jaxlm"}
    assert present <= set(FLOORS), f"not in the table of floors: {sorted(present - set(FLOORS))}"


@pytest.mark.parametrize("importer", FLOORS)
def test_imports_of_jaxlm_point_down(importer):
    wrong = []
    for path, line, module in all_imports("jaxlm"):
        target = package_of(module)
        if package_of(module_name(path)) != importer or target.partition(".")[0] not in ("jaxlm", "scaling"):
            continue
        if target != "scaling" and target not in FLOORS or not may_import(importer, target):
            wrong.append(f"{path.relative_to(ROOT)}:{line} imports {module}")
    assert not wrong, "\n".join(wrong)


def test_the_package_itself_imports_nothing_of_its_floors():
    wrong = [f"line {line} imports {module}" for path, line, module in all_imports("jaxlm")
             if module_name(path) == "jaxlm" and module.partition(".")[0] in ("jaxlm", "scaling")]
    assert not wrong, "\n".join(wrong)


def test_scaling_imports_nothing_of_jaxlm():
    wrong = [f"{path.relative_to(ROOT)}:{line} imports {module}"
             for path, line, module in all_imports("scaling") if module.partition(".")[0] == "jaxlm"]
    assert not wrong, "\n".join(wrong)


def top_level_imports(path: pathlib.Path) -> list[str]:
    """The modules imported when the file is: not inside functions, not for a type checker only."""
    names, nodes = [], list(ast.parse(path.read_text(encoding="utf-8")).body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            nodes += node.orelse
            continue
        names += imported(node, path)
        nodes += ast.iter_child_nodes(node)
    return names


@pytest.mark.parametrize("folder", ["scaling", *(name.replace(".", "/") for name in GROUND_PACKAGES)])
def test_the_ground_imports_its_base_packages_only(folder):
    own = {"scaling"} if folder == "scaling" else {"jaxlm"}
    allowed = own | THIRD_PARTY["scaling" if folder == "scaling" else "ground"] | sys.stdlib_module_names
    wrong = [f"{path.relative_to(ROOT)} imports {module}" for path in sorted((ROOT / folder).rglob("*.py"))
             for module in top_level_imports(path) if module.partition(".")[0] not in allowed]
    assert not wrong, "\n".join(wrong)
