"""One QEMU process: started, looked at, killed and started again on the same disks."""
from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import qemu
from image import HostImage

# Seconds. A guest that only waits for this machine's processors complains of less.
LONGEST_STANDSTILL = 60


@dataclass(frozen=True)
class Variant:
    """How a test host differs from a plain one. Hosts of equal variants can be shared."""

    # ext4, xfs or btrfs: a second disk with it is mounted at `mount`, with what was there before.
    filesystem: str = ""
    mount: str = "/var/lib/nagaya"
    # Words for mkfs, and options in the fstab: "-O project,quota" and "prjquota".
    mkfs_options: str = ""
    mount_options: str = "defaults"
    disk_size: str = "8G"
    # MiB
    memory: int = 2048
    # One emulated processor does not race with another one: see Machine.hung().
    cpus: int = 1
    kernel_arguments: str = ""

    def __str__(self) -> str:
        plain = Variant()
        differing = (name for name in vars(self) if getattr(self, name) != getattr(plain, name))
        return " ".join(f"{name}={getattr(self, name)}" for name in differing)


class MachineFailed(Exception):
    """QEMU ended, or does not do what was asked of it."""


class MachineHung(MachineFailed):
    """The guest's kernel says that its emulated processor stands still."""


class Machine:
    """A guest with its own copies of the disks, in a directory that the caller removes."""

    def __init__(self, number: int, image: HostImage, media: Path, variant: Variant, directory: Path, linked: bool, resumes: Path | None = None):
        self.name = f"host-{'ab'[number - 1]}"
        self.number, self.image, self.media, self.variant, self.linked = number, image, media, variant, linked
        self.directory = directory
        self.serial = directory / f"{self.name}.serial"
        self.disks = [directory / f"{self.name}.root"]
        self.port = 0
        self.over = False
        self.process: subprocess.Popen[bytes] | None = None
        # What another one has saved, to begin with; later starts are boots.
        self.resumes = resumes
        # Raw copies, not overlays: what QEMU has written is in the kernel's hands, and killing QEMU loses no more.
        disk = self.resumes / "disk" if self.resumes else image.disk
        subprocess.run(["cp", "--sparse=always", "--reflink=auto", disk, self.disks[0]], check=True)
        if variant.filesystem:
            self.disks.append(directory / f"{self.name}.data")
            subprocess.run(["truncate", "-s", variant.disk_size, self.disks[1]], check=True)

    def start(self) -> None:
        if self.over:
            raise MachineFailed(f"{self.name}: not started again, as the tests are ending")
        # Between asking for a free port and QEMU's using it somebody else may take it.
        for _ in range(5):
            self.port = free_port()
            with open(self.directory / f"{self.name}.qemu", "wb") as log:
                self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            time.sleep(0.3)
            if self.process.poll() is None:
                self.resumes = None
                return
            if "host forwarding" not in self.complaint():
                break
        raise MachineFailed(f"{self.name}: QEMU does not start: {self.complaint()}")

    def complaint(self) -> str:
        return (self.directory / f"{self.name}.qemu").read_text(errors="replace").strip()

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def hung(self) -> str:
        """The guest kernel's word that a processor has stood still for a minute, or "".

        QEMU's emulation of several processors at once has such hangs, in any program of the guest's.
        """
        if not self.serial.exists():
            return ""
        lockups = re.findall(r"soft lockup - CPU#\d+ stuck for (\d+)s!.*", text := self.serial.read_text(errors="replace"))
        if not any(int(seconds) >= LONGEST_STANDSTILL for seconds in lockups):
            return ""
        return next(line for line in reversed(text.splitlines()) if "soft lockup" in line)

    def answers(self) -> bool:
        """Whether sshd greets. Asked before ssh itself, whose attempts cost a guest much that has just begun to boot."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def kill(self) -> None:
        """The power goes: what the guest has flushed to its disks is there at the next start."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def save(self, directory: Path) -> None:
        """Ends it, and leaves in the directory what a machine of its kind can go on from."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.monitor()))
            answers = connection.makefile()
            answers.readline()

            def ask(command: str, **arguments: str) -> dict:
                connection.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
                # Events come in between.
                while "event" in (answer := json.loads(answers.readline())):
                    pass
                if "return" not in answer:
                    raise MachineFailed(f"{self.name}: QEMU refuses {command}: {answer}")
                return answer["return"]

            ask("qmp_capabilities")
            # The guest runs on until the last of it is written, and so a machine that takes it on runs too.
            ask("migrate", uri=f"exec:cat >{directory}/state")
            saved = lambda: ask("query-migrate").get("status") in ("completed", "failed")
            until(120, "the machine's state is saved", saved)
            if (outcome := ask("query-migrate"))["status"] != "completed":
                raise MachineFailed(f"{self.name}: its state is not saved: {outcome}")
        self.end()
        self.disks[0].rename(directory / "disk")

    def monitor(self) -> Path:
        return self.directory / f"{self.name}.qmp"

    def end(self) -> None:
        """Kills it for good."""
        self.over = True
        self.kill()

    def command(self) -> list[str]:
        variant, number = self.variant, self.number
        arguments = f"{qemu.KERNEL_ARGUMENTS} systemd.hostname={self.name} {variant.kernel_arguments}".strip()
        words = [*qemu.machine(self.image.kernel, variant.cpus, variant.memory), *qemu.serial(self.serial)]
        words += ["-kernel", str(self.image.kernel), "-initrd", str(self.image.initrd), "-append", arguments]
        for disk in self.disks:
            words += qemu.drive(disk)
        words += ["-drive", f"file={self.media},if=virtio,format=raw,readonly=on"]
        # restrict: the guest reaches nothing outside.
        words += ["-netdev", f"user,id=ssh,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-:22"]
        words += ["-device", f"virtio-net-pci,netdev=ssh,mac=52:54:00:00:01:0{number}"]
        words += ["-qmp", f"unix:{self.monitor()},server=on,wait=off"]
        if self.resumes:
            words += ["-incoming", f"exec:cat {self.resumes}/state"]
        if self.linked:
            here, there = (f"{self.directory}/link{end}" for end in (number, 3 - number))
            link = f"dgram,id=link,local.type=unix,local.path={here},remote.type=unix,remote.path={there}"
            words += ["-netdev", link, "-device", f"virtio-net-pci,netdev=link,mac=52:54:00:00:02:0{number}"]
        return words


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def lacking() -> list[str]:
    """Debian packages to install before anything can be run."""
    programs = {
        "qemu-system-x86_64": "qemu-system-x86",
        "mmdebstrap": "mmdebstrap",
        "mkfs.ext4": "e2fsprogs",
        "ssh": "openssh-client",
        "zstd": "zstd",
        "setpriv": "util-linux",
        "git": "git",
    }
    return [package for program, package in programs.items() if not shutil.which(program)]


def until(seconds: float, what: str, done: Callable[[], bool], pause: float = 0.3) -> None:
    """Waits until `done()`; raises with `what` when that has not come after so many seconds."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise MachineFailed(f"not within {seconds:.0f} s: {what}")
        time.sleep(pause)
