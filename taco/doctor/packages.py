"""Python and the installed packages, against what the project's own metadata asks for."""

from collections.abc import Callable, Collection, Sequence
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from taco.doctor.findings import Finding, ok, wrong

DISTRIBUTION = "taco-rewards"

VersionOf = Callable[[str], str]
"""A package's name to its installed version; raises PackageNotFoundError."""


def check_python(version: str, wanted: str) -> Finding:
    """The interpreter, against `requires-python`."""
    if SpecifierSet(wanted).contains(version, prereleases=True):
        return ok("python", version)
    return wrong("python", f"expected {wanted}, got {version}", "make the environment with another")


def check_packages(
    lines: Sequence[str], extras: Collection[str], version_of: VersionOf = metadata.version
) -> Finding:
    """Every package that is asked for, in a version that will do.

    Args:
        lines: requirements as package metadata has them.
        extras: those that this run needs, beside what everything needs.
        version_of: what is installed.
    """
    wanted = [one for line in lines if _applies(one := Requirement(line), extras)]
    problems = [problem for one in wanted if (problem := _problem(one, version_of))]
    if not problems:
        return ok("packages", f"{len(wanted)}, all in the versions that are asked for")
    named = f"[{','.join(sorted(extras))}]" if extras else ""
    return wrong("packages", "; ".join(problems), f"pip install --upgrade '{DISTRIBUTION}{named}'")


def installed_requirements() -> list[str]:
    """What the installed project asks for."""
    return metadata.requires(DISTRIBUTION) or []


def required_python() -> str:
    """Which interpreters the installed project takes."""
    return str(metadata.metadata(DISTRIBUTION)["Requires-Python"])


def _applies(requirement: Requirement, extras: Collection[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": name}) for name in ("", *extras))


def _problem(requirement: Requirement, version_of: VersionOf) -> str | None:
    try:
        version = version_of(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement.name} is not installed"
    if requirement.specifier.contains(version, prereleases=True):
        return None
    return f"{requirement.name}: expected {requirement.specifier}, got {version}"
