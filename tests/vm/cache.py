"""What is built once and kept: one directory, an entry a recipe.

An entry's name ends in a hash of all that goes into it. Entries that nobody has used for two weeks are
removed.
"""
from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

KEPT_SECONDS = 14 * 86400


def cache_dir() -> Path:
    """Where everything is kept: NAGAYA_VM_CACHE, else nagaya-vm in the user's cache."""
    if chosen := os.environ.get("NAGAYA_VM_CACHE"):
        return Path(chosen).resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nagaya-vm"


def cached(name: str, recipe: list, fill: Callable[[Path], None], say: Callable[[str], None]) -> Path:
    """The entry of this recipe; `fill` makes it in an empty directory if it is not there."""
    text = json.dumps([name, *recipe], sort_keys=True)
    entry = cache_dir() / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    with locked(name):
        if not entry.exists():
            say(f"building {name} in {entry.parent}")
            started = time.monotonic()
            unfinished = entry.with_name(f"{name}.unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            try:
                fill(unfinished)
                unfinished.rename(entry)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
            say(f"built {name} in {time.monotonic() - started:.0f} s")
        os.utime(entry)
    return entry


@contextmanager
def locked(name: str) -> Iterator[None]:
    """One process at a time, and one thread of it, makes what `name` stands for."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    with open(cache_dir() / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def drop_unused() -> None:
    for entry in cache_dir().glob("*-????????????"):
        if entry.is_dir() and time.time() - entry.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(entry, ignore_errors=True)


def working_directory() -> Path:
    """A directory for the disks of this process; those of processes that are no more are removed."""
    parent = cache_dir() / "run"
    parent.mkdir(parents=True, exist_ok=True)
    for other in parent.iterdir():
        if other.name == str(os.getpid()) or not Path("/proc", other.name).exists():
            shutil.rmtree(other, ignore_errors=True)
    mine = parent / str(os.getpid())
    mine.mkdir()
    return mine
