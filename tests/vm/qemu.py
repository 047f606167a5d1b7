"""What every QEMU process here has in common, and how it executes the guest's instructions."""
from __future__ import annotations

import subprocess
from pathlib import Path

from cache import cache_dir, locked

# No QEMU outlives the thread that started it.
QEMU = ["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-nodefaults", "-display", "none"]
# Without the modules that an emulated processor has udev load for nothing, and without zeroing memory twice.
KERNEL_ARGUMENTS = "console=ttyS0 root=LABEL=vm-root rw quiet mitigations=off init_on_alloc=0 module_blacklist=kvm_amd,powernow_k8"
# Emulated, a 'rep movsb' goes byte by byte: without erms (enhanced rep movsb), kernel and libc copy words. Each
# stac and clac (smap) ends a block of translated code, and a fifth level of page tables (la57) is one more to walk.
PROCESSORS = {"kvm": ("kvm", "max"), "tcg": ("tcg,thread=multi,tb-size=512", "max,erms=off,smap=off,la57=off")}
PROBE_SECONDS = 15


def machine(kernel: Path, cpus: int, memory: int) -> list[str]:
    """A machine of so many processors and MiB, and a source of random numbers."""
    accelerator, processor = PROCESSORS[fastest(kernel)]
    words = ["-machine", "q35", "-accel", accelerator, "-cpu", processor, "-smp", str(cpus), "-m", str(memory)]
    return [*QEMU, *words, "-device", "virtio-rng-pci"]


def version() -> str:
    return subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True, check=True).stdout


def drive(disk: Path) -> list[str]:
    """A disk of the guest's. Flushes need not reach the real one: QEMU may be killed, but not the kernel that it wrote to."""
    return ["-drive", f"file={disk},if=virtio,format=raw,cache=unsafe,discard=unmap"]


def serial(log: Path) -> list[str]:
    return ["-chardev", f"file,id=serial,path={log},append=on", "-serial", "chardev:serial"]


def fastest(kernel: Path) -> str:
    """KVM where it really runs the kernel: there are machines whose /dev/kvm does not. Found out once a boot."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    answer = cache_dir() / "accelerator"
    with locked("accelerator"):
        known = answer.read_text().split() if answer.exists() else []
        if known[:1] != [boot]:
            known = [boot, "kvm" if Path("/dev/kvm").exists() and kvm_runs(kernel) else "tcg"]
            answer.write_text(" ".join(known))
    return known[1]


def kvm_runs(kernel: Path) -> bool:
    """Whether the kernel gets as far as missing its root file system, at which it resets the machine."""
    words = [*QEMU, "-accel", "kvm", "-cpu", "max", "-m", "512", "-no-reboot", "-serial", "stdio"]
    words += ["-kernel", str(kernel), "-append", "console=ttyS0 panic=-1"]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return b"Kernel panic" in done.stdout
