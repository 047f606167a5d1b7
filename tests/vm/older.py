"""Packages of released versions, made once from the commits that were released."""
from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from cache import cached
from image import PROJECT, BuildFailed

COMMITS = {"0.1.0": "6bc15a028a9d73dfe225090e0cc211ee39f4cd53"}


def package(version: str, say: Callable[[str], None] = print) -> Path:
    """The package that `make deb` of that version's commit makes."""
    commit = COMMITS[version]
    architecture = subprocess.check_output(["dpkg", "--print-architecture"], text=True).strip()
    entry = cached(f"nagaya-{version}", [commit, architecture], lambda to: fill(version, commit, to), say)
    return next(entry.glob("*.deb"))


def fill(version: str, commit: str, to: Path) -> None:
    fetch(version, commit)
    source, target, here = to / "source", to / "target", PROJECT / "target"
    source.mkdir()
    archive = subprocess.run(["git", "-C", str(PROJECT), "archive", commit], stdout=subprocess.PIPE, check=True)
    subprocess.run(["tar", "-x", "-C", str(source)], input=archive.stdout, check=True)
    # What other crates were built to for this version need not be built again.
    for built in filter(Path.is_dir, [here / "release", *here.glob("*/release")]):
        shutil.copytree(built, target / built.relative_to(here), symlinks=True, copy_function=copy)
    target.mkdir(exist_ok=True)
    (here / "tools").mkdir(parents=True, exist_ok=True)
    (target / "tools").symlink_to(here / "tools")
    made = subprocess.run(
        ["make", "-C", str(source), "deb"], env={**os.environ, "CARGO_TARGET_DIR": str(target)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    if made.returncode != 0:
        raise BuildFailed(f"make deb of version {version}, commit {commit}:\n{made.stdout}")
    for deb in (target / "debian").glob("*.deb"):
        deb.rename(to / deb.name)
    shutil.rmtree(source)
    shutil.rmtree(target)


def copy(source: str, target: str) -> str:
    """With its times, by which cargo tells what is fresh. What cargo has just replaced is not wanted."""
    try:
        return shutil.copy2(source, target, follow_symlinks=False)
    except FileNotFoundError:
        return target


def fetch(version: str, commit: str) -> None:
    """Makes sure that the commit is here. A shallow clone lacks it, and asks where it came from."""
    git = ["git", "-C", str(PROJECT)]
    if subprocess.run([*git, "cat-file", "-e", f"{commit}^{{commit}}"], stderr=subprocess.DEVNULL).returncode == 0:
        return
    fetched = subprocess.run([*git, "fetch", "-q", "--depth=1", "origin", commit], capture_output=True, text=True)
    if fetched.returncode != 0:
        raise BuildFailed(
            f"version {version}, from which an upgrade is tested, is not in this clone and cannot be fetched: commit "
            f"{commit}: {fetched.stderr.strip()}; try: git fetch --unshallow"
        )
