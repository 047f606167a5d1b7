"""Scenario files, and what has to be booted for them."""
from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from image import HERE, SUITES
from machine import Variant

SCENARIOS = HERE / "scenarios"


class Malformed(Exception):
    """A scenario file does not say what it must."""


@dataclass(frozen=True)
class Case:
    """A scenario on given hosts."""

    scenario: str
    about: str
    run: Callable[..., None]
    # One word a host that it boots at the same time.
    kinds: tuple[str, ...]
    variant: Variant
    shares_host: bool
    # Measures times, and so runs beside nothing else.
    alone: bool
    # It begins where the package and root's template are there.
    installed: bool
    # A released version whose package it begins with; empty: none.
    older: str
    # It takes long and seldom finds something: run before a release, and not for each change.
    before_release: bool

    def title(self) -> str:
        return " ".join(filter(None, [self.scenario, *self.kinds, str(self.variant)]))


@dataclass
class Group:
    """Cases that run one after another on the same hosts."""

    kinds: tuple[str, ...]
    variant: Variant
    cases: list[Case] = field(default_factory=list)

    def alone(self) -> bool:
        return any(case.alone for case in self.cases)


def load(path: Path, kinds: list[str] | None) -> list[Case]:
    """The cases of one file. `kinds` replaces the hosts that it asks for, and gives a case each."""
    spec = importlib.util.spec_from_file_location(f"scenario_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise Malformed(f"{path} is not Python")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not module.__doc__ or not hasattr(module, "run"):
        raise Malformed(f"{path} needs a docstring and a function run")

    hosts: list[str] = getattr(module, "HOSTS", ["debian12"])
    at_once = len(inspect.signature(module.run).parameters)
    if unknown := set(hosts) - set(SUITES):
        raise Malformed(f"{path}: HOSTS has {', '.join(unknown)}, not one of {', '.join(SUITES)}")
    if at_once == 1:
        wanted = [(kind,) for kind in kinds or hosts]
    elif at_once == 2 and len(hosts) == 2:
        wanted = [(kind, kind) for kind in kinds] if kinds else [(hosts[0], hosts[1])]
    else:
        raise Malformed(f"{path}: run takes one host, or two where HOSTS names two")

    variants = getattr(module, "VARIANT", Variant())
    if isinstance(variants, Variant):
        variants = [variants]
    about = inspect.cleandoc(module.__doc__).splitlines()[0]
    ways = (getattr(module, "SHARES_HOST", False), getattr(module, "ALONE", False), getattr(module, "INSTALLED", False))
    ways += (getattr(module, "OLDER", ""), getattr(module, "BEFORE_RELEASE", False))
    return [Case(path.stem, about, module.run, kind, variant, *ways) for kind in wanted for variant in variants]


def find(only: list[str], kinds: list[str] | None) -> list[Case]:
    """All cases in order, or those of the scenarios whose names contain one of `only`."""
    paths = sorted(SCENARIOS.glob("[0-9]*_*.py"))
    for word in only:
        if not any(word in path.stem for path in paths):
            raise Malformed(f"no scenario is called '{word}'; --list names them")
    return [
        case for path in paths if not only or any(word in path.stem for word in only) for case in load(path, kinds)
    ]


def groups(cases: list[Case]) -> list[Group]:
    """What shares a boot comes together, in the place of the first; anything else is alone."""
    found: list[Group] = []
    shared: dict[tuple[tuple[str, ...], Variant, bool], Group] = {}
    for case in cases:
        key = (case.kinds, case.variant, case.installed)
        if case.shares_host and key in shared:
            shared[key].cases.append(case)
            continue
        group = Group(case.kinds, case.variant, [case])
        found.append(group)
        if case.shares_host:
            shared[key] = group
    return found
