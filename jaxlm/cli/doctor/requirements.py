"""What the package asks for and what is installed, read from package metadata without importing anything."""

import dataclasses
import re
from importlib import metadata

_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9._-]+)\s*(?:\[([^\]]*)\])?\s*\(?([^;)]*)\)?\s*(?:;(.*))?")
_COMPARE = {
    ">=": lambda a, b: a >= b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, "<": lambda a, b: a < b,
    "==": lambda a, b: a == b, "!=": lambda a, b: a != b,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Package:
    """A package asked for: name, the versions wanted (empty: any), and the one installed (None: not)."""

    name: str
    wanted: str
    installed: str | None

    @property
    def fits(self) -> bool:
        """Whether a version is installed that is wanted."""
        return self.installed is not None and satisfies(self.installed, self.wanted)


def wanted(distribution: str = "jaxlm") -> dict[str, list[Package]]:
    """Returns the packages that each extra of `distribution` asks for; those always needed under ''.

    Raises `ModuleNotFoundError` where the distribution is not installed.
    """
    try:
        texts = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        text = f"the package {distribution!r} is not installed: pip install -e ."
        raise ModuleNotFoundError(text, name=distribution) from None
    extras: dict[str, list[Package]] = {}
    for text in texts:
        name, nested, versions, marker = _REQUIREMENT.fullmatch(text).groups(default="")
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", marker)
        if not extra and marker:  # a condition on Python or the platform: whoever installed has judged it
            continue
        packages = extras.setdefault(extra[1] if extra else "", [])
        installed = _installed(name)
        packages.append(Package(name=name, wanted=versions.strip(), installed=installed))
        for further in filter(None, (part.strip() for part in nested.split(","))):
            packages += wanted(name).get(further, []) if installed else []
    return extras


def satisfies(version: str, wanted: str) -> bool:
    """Whether a version meets comma-separated conditions such as `>=0.10,<0.13`; only the numbers count."""
    for condition in filter(None, (part.strip() for part in wanted.split(","))):
        match = re.match(r"(>=|<=|==|!=|>|<)\s*(.+)", condition)
        if match is None:
            continue
        have, asked = _padded(_numbers(version), _numbers(match[2]))
        if match[2].endswith(".*"):
            digits = len(_numbers(match[2]))
            have, asked = have[:digits], asked[:digits]
        if not _COMPARE[match[1]](have, asked):
            return False
    return True


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> list[int]:
    match = re.match(r"\d+(?:\.\d+)*", version)
    return [int(part) for part in match[0].split(".")] if match else [0]


def _padded(a: list[int], b: list[int]) -> tuple[list[int], list[int]]:
    length = max(len(a), len(b))
    return a + [0] * (length - len(a)), b + [0] * (length - len(b))
