"""The test hosts' disks and the containers' template, built once and kept.

Everything lies in one cache directory, an entry a recipe: its name ends in a hash of all that goes
into it. Entries that nobody has used for two weeks are removed.
"""
from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
SUITES = {"debian12": "bookworm", "debian13": "trixie"}
PACKAGES = (
    "systemd-sysv libpam-systemd dbus dbus-user-session polkitd systemd-container apparmor "
    "linux-image-cloud-amd64 initramfs-tools zstd "
    "openssh-server rsync sudo cron procps python3 sqlite3 xz-utils "
    "iproute2 iputils-ping nftables dnsmasq-base passt "
    "uidmap lxcfs mmdebstrap xfsprogs btrfs-progs"
).split()
# Sparse: what is not written takes no room.
ROOT_SIZE = "8G"
KEPT_SECONDS = 14 * 86400


class BuildFailed(Exception):
    """An image or template could not be built."""


@dataclass(frozen=True)
class HostImage:
    """What a test host boots from. Machines work on copies of `disk`."""

    kernel: Path
    initrd: Path
    disk: Path


def cache_dir() -> Path:
    """Where everything is kept: NAGAYA_VM_CACHE, else nagaya-vm in the user's cache."""
    if chosen := os.environ.get("NAGAYA_VM_CACHE"):
        return Path(chosen).resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nagaya-vm"


def ssh_key() -> Path:
    """The private key that opens every test host; `.pub` lies beside it."""
    key = cache_dir() / "ssh-key"
    with locked("ssh-key"):
        if not key.exists():
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "nagaya-vm", "-f", str(key)]
            subprocess.run(words, check=True)
    return key


def build(hosts: set[str], say: Callable[[str], None]) -> tuple[dict[str, HostImage], Path]:
    """The images of these hosts, and the disk with the template; builds what is missing."""
    key = ssh_key()
    with ThreadPoolExecutor() as pool:
        media = pool.submit(media_disk, say)
        images = {name: pool.submit(host_image, name, key, say) for name in sorted(hosts)}
        built = {name: image.result() for name, image in images.items()}, media.result()
    drop_unused()
    return built


def host_image(name: str, key: Path, say: Callable[[str], None]) -> HostImage:
    script = HERE / "host-image.sh"
    recipe = [SUITES[name], PACKAGES, ROOT_SIZE, script.read_text(), key.with_suffix(".pub").read_text()]

    def fill(entry: Path) -> None:
        tree = entry / "tree"
        mmdebstrap(
            ["--variant=apt", f"--include={','.join(PACKAGES)}"]
            + [f'--extract-hook={script} before-packages "$1"', f'--customize-hook={script} customize "$1"']
            + [SUITES[name], str(tree)],
            {"KEY": str(key)},
        )
        for kind, target in (("vmlinuz", "kernel"), ("initrd.img", "initrd")):
            [found] = (tree / "boot").glob(f"{kind}-*")
            shutil.copy(found, entry / target)
        make_disk(entry / "disk", ROOT_SIZE, "vm-root", tree)
        shutil.rmtree(tree)

    entry = cached(name, recipe, fill, say)
    return HostImage(entry / "kernel", entry / "initrd", entry / "disk")


def media_disk(say: Callable[[str], None]) -> Path:
    """A disk holding debian12.tar.zst, made as the project's own recipe says."""
    recipe = tomllib.loads((PROJECT / "templates" / "debian12.toml").read_text())
    enable = " ".join(recipe["tweaks"]["enable"])

    def fill(entry: Path) -> None:
        tree = entry / "tree"
        tree.mkdir()
        mmdebstrap(
            [f"--variant={recipe['variant']}", f"--include={','.join(recipe['packages'])}"]
            + [f'--customize-hook=chroot "$1" systemctl enable {enable}']
            + ['--customize-hook=chroot "$1" passwd --quiet --lock root']
            + ['--customize-hook=rm -f "$1/etc/resolv.conf" "$1/etc/hostname"']
            + [recipe["suite"], str(tree / "debian12.tar.zst")],
            {},
        )
        make_disk(entry / "disk", "512M", "vm-media", tree)
        shutil.rmtree(tree)

    return cached("media", [recipe], fill, say) / "disk"


def mmdebstrap(words: list[str], variables: dict[str, str]) -> None:
    # dpkg's syncs are most of the time on a disk, and an unfinished tree is thrown away.
    call(["mmdebstrap", "--mode=root", "--dpkgopt=force-unsafe-io", *words], variables)


def make_disk(disk: Path, size: str, label: str, tree: Path) -> None:
    call(["truncate", "-s", size, str(disk)])
    call(["mkfs.ext4", "-q", "-L", label, "-E", "root_owner=0:0", "-d", str(tree), str(disk)])


def call(words: list[str], variables: dict[str, str] | None = None) -> None:
    environment = {**os.environ, **(variables or {}), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, errors="replace", timeout=1800)
    if done.returncode:
        raise BuildFailed(f"{' '.join(words)}: exit {done.returncode}\n{done.stderr[-4000:]}")


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
    """One process at a time, thread included, makes what `name` stands for."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    with open(cache_dir() / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def drop_unused() -> None:
    for entry in cache_dir().glob("*-????????????"):
        if entry.is_dir() and time.time() - entry.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(entry, ignore_errors=True)
