"""The test hosts' disks and the containers' template, built with mmdebstrap."""
from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cache import cache_dir, cached, drop_unused, locked

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
SUITES = {"debian12": "bookworm", "debian13": "trixie"}
PACKAGES = (
    "systemd-sysv libpam-systemd dbus dbus-user-session polkitd systemd-container apparmor "
    "linux-image-cloud-amd64 initramfs-tools zstd "
    "openssh-server rsync sudo cron e2fsprogs procps python3 sqlite3 xz-utils "
    "iproute2 iputils-ping nftables dnsmasq-base passt "
    "uidmap lxcfs mmdebstrap xfsprogs btrfs-progs"
).split()
# Sparse: what is not written takes no room.
ROOT_SIZE = "8G"
BUILD_SECONDS = 1800


class BuildFailed(Exception):
    """An image or template could not be built."""


@dataclass(frozen=True)
class HostImage:
    """What a test host boots from. Machines work on copies of `disk`."""

    kernel: Path
    initrd: Path
    disk: Path


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
            ["--variant=apt", "--skip=cleanup/apt/lists", f"--include={','.join(PACKAGES)}"]
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
    try:
        done = subprocess.run(words, env=environment, capture_output=True, text=True, errors="replace", timeout=BUILD_SECONDS)
    except subprocess.TimeoutExpired:
        raise BuildFailed(f"{' '.join(words)}: has not ended after {BUILD_SECONDS} s") from None
    if done.returncode:
        raise BuildFailed(f"{' '.join(words)}: exit {done.returncode}\n{done.stderr[-4000:]}")
