"""A test host as scenarios see it: commands by ssh, reboots, and what every scenario needs installed."""
from __future__ import annotations

import json
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from image import ssh_key
from machine import Machine, MachineFailed, MachineHung, until

# Without KVM a guest is some ten times slower than this machine.
PATIENCE = 300
BOOT_SECONDS = 600
SSH_LOST = 255
TEMPLATE = "/srv/media/debian12.tar.zst"


class Failed(AssertionError):
    """A command on a host did not do what the scenario says."""

    def __init__(self, where: str, command: str, why: str, output: str):
        indented = "".join(f"\n    {line}" for line in output.strip().splitlines()[-80:])
        super().__init__(f"{where}: {command}\n  {why}{indented}")


class Shell:
    """Runs commands as one user, each in the user's login shell."""

    def __init__(self, machine: Machine, user: str, tell: Callable[[str], None] | None = None, stays: bool = True):
        """`tell` is told of each command. One that `stays` logs in once, else each command is a login."""
        self.machine, self.name, self.tell, self.stays = machine, user, tell, stays
        self.control = machine.directory / f"{machine.name}.{user}.ssh"

    def options(self) -> list[str]:
        options = {
            "IdentityFile": str(ssh_key()),
            "IdentitiesOnly": "yes",
            "BatchMode": "yes",
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
            "LogLevel": "ERROR",
            "ConnectTimeout": "60",
            "ServerAliveInterval": "15",
            "ServerAliveCountMax": "8",
            # Not the newest of exchanges and ciphers: the guest's processor is emulated.
            "KexAlgorithms": "curve25519-sha256",
            "Ciphers": "aes128-gcm@openssh.com",
        }
        if self.stays:
            options |= {"ControlMaster": "auto", "ControlPath": str(self.control), "ControlPersist": "600"}
        return ["-F", "none"] + [word for name, value in options.items() for word in ("-o", f"{name}={value}")]

    def ssh(self) -> list[str]:
        return ["ssh", *self.options(), "-p", str(self.machine.port), f"{self.name}@127.0.0.1"]

    def attempt(
        self, command: str, input: str | bytes = b"", timeout: float = PATIENCE, silent: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Runs it and judges nothing."""
        if self.tell and not silent:
            self.tell(f"     {self.where()}: {command}")
        sent = input.encode() if isinstance(input, str) else input
        started = time.monotonic()
        try:
            done = subprocess.run([*self.ssh(), command], input=sent, capture_output=True, timeout=timeout)
        except subprocess.TimeoutExpired as late:
            said = (late.stdout or b"") + (late.stderr or b"")
            raise Failed(self.where(), command, f"has not ended after {timeout:.0f} s", said.decode(errors="replace")) from None
        if self.tell and not silent:
            self.tell(f"     {self.where()}: {time.monotonic() - started:.1f} s")
        texts = (stream.decode(errors="replace") for stream in (done.stdout, done.stderr))
        return subprocess.CompletedProcess(command, done.returncode, *texts)

    def run(self, command: str, input: str | bytes = b"", timeout: float = PATIENCE) -> str:
        """Its standard output as it is. An exit code other than 0 fails the scenario."""
        done = self.attempt(command, input, timeout)
        if done.returncode == SSH_LOST:
            raise Failed(self.where(), command, "the ssh connection failed", done.stderr)
        if done.returncode:
            raise Failed(self.where(), command, f"exit code {done.returncode}", done.stdout + done.stderr)
        return done.stdout

    def out(self, command: str, timeout: float = PATIENCE) -> str:
        """Its standard output without white space around it."""
        return self.run(command, timeout=timeout).strip()

    def json(self, command: str, timeout: float = PATIENCE) -> Any:
        """What its standard output says as JSON."""
        return json.loads(self.run(command, timeout=timeout))

    def ok(self, command: str, timeout: float = PATIENCE) -> bool:
        """Whether it ends with 0."""
        return self.attempt(command, timeout=timeout).returncode == 0

    def fails(self, command: str, code: int | None = None, says: str = "", timeout: float = PATIENCE) -> str:
        """It must end with this code (any but 0, if None) and say this; returns all it printed."""
        done = self.attempt(command, timeout=timeout)
        said = done.stdout + done.stderr
        if done.returncode == 0 or (code is not None and done.returncode != code):
            raise Failed(self.where(), command, f"exit code {done.returncode}, not {code or 'a failure'}", said)
        if says not in said:
            raise Failed(self.where(), command, f"does not say '{says}', but", said)
        return said

    def wait_for(self, command: str, seconds: float = 60) -> None:
        """Repeats it until it ends with 0. The host does so itself, as each login costs it more than most commands."""
        repeated = (
            f"end=$((SECONDS + {seconds:.0f})); until ( {command}\n); do code=$?; "
            "[ $SECONDS -le $end ] || exit $code; sleep 0.3; done"
        )
        end = time.monotonic() + seconds
        while (done := self.attempt(repeated, timeout=seconds + PATIENCE)).returncode:
            if not self.machine.running():
                raise MachineFailed(f"{self.machine.name}: QEMU has ended: {self.machine.complaint()}")
            if done.returncode != SSH_LOST or time.monotonic() > end:
                why = f"still exit code {done.returncode} after {seconds:.0f} s"
                raise Failed(self.where(), command, why, done.stdout + done.stderr)
            time.sleep(0.5)

    def import_template(self, name: str = "debian12") -> None:
        """Makes the Debian 12 archive a template of this user's, if it is not one yet."""
        if not self.ok(f"nagaya template show {shlex.quote(name)}"):
            self.run(f"nagaya template import {TEMPLATE} --name {shlex.quote(name)}", timeout=600)

    def delete_containers(self) -> None:
        names = [shlex.quote(container["name"]) for container in self.json("nagaya list --format json")]
        if names:
            self.run(f"nagaya delete --force {' '.join(names)}")

    def where(self) -> str:
        return f"{self.name}@{self.machine.name}"


class Host(Shell):
    """A test host. Its own commands are root's."""

    users = ("ann", "bob")

    def __init__(self, machine: Machine, package: Path | None, tell: Callable[[str], None] | None = None):
        super().__init__(machine, "root", tell)
        self.package = package
        self.package_installed = False
        self.address = f"10.77.0.{machine.number}"

    def user(self, name: str) -> Shell:
        """An ordinary user. Each command is a login of its own by ssh, and so a logind session."""
        return Shell(self.machine, name, self.tell, stays=False)

    def logged_in(self, name: str) -> Shell:
        """An ordinary user who logs in with the first command, and stays so until the next boot."""
        return Shell(self.machine, name, self.tell)

    def set_clock(self) -> None:
        """A host that goes on from what was saved has the time of then."""
        self.run(f"date -s @{time.time():.3f}")

    def prepare(self) -> None:
        """Mounts the variant's second disk where it belongs. Once, after the first boot."""
        variant = self.machine.variant
        if not variant.filesystem:
            return
        mount, options = variant.mount, f"{variant.mkfs_options} -L vm-data"
        self.run(f"mkfs.{variant.filesystem} {options} /dev/vdb && mkdir -p {mount}")
        self.run(f"mount -o {variant.mount_options} /dev/vdb /mnt && cp -a {mount}/. /mnt && umount /mnt")
        self.run(f"echo 'LABEL=vm-data {mount} {variant.filesystem} {variant.mount_options} 0 0' >>/etc/fstab")
        self.run(f"systemctl daemon-reload && mount {mount}")

    def reboot(self) -> None:
        """An orderly reboot; returns when the host is up again."""
        before = self.boot_id()
        # The connection may go before or after the command has ended.
        self.attempt("systemctl reboot")
        self.disconnect()
        self.wait_until_up(before)

    def power_cut(self) -> None:
        """Takes the power away at once, and boots from the same disks."""
        before = self.boot_id()
        self.machine.kill()
        self.disconnect()
        self.machine.start()
        self.wait_until_up(before)

    def boot_id(self) -> str:
        return self.out("cat /proc/sys/kernel/random/boot_id")

    def wait_until_up(self, before: str) -> None:
        """Until systemd has done its boot, and it is not the one of `before`."""

        def up() -> bool:
            if not self.machine.running():
                raise MachineFailed(f"{self.machine.name}: QEMU has ended: {self.machine.complaint()}")
            if not self.machine.answers():
                if standstill := self.machine.hung():
                    raise MachineHung(standstill)
                return False
            command = "cat /proc/sys/kernel/random/boot_id; systemctl is-system-running --wait"
            done = self.attempt(command, timeout=BOOT_SECONDS, silent=True)
            words = done.stdout.split()
            if len(words) == 2 and words[0] != before and words[1] in ("running", "degraded"):
                return True
            self.disconnect()
            return False

        until(BOOT_SECONDS, f"{self.machine.name} has booted", up)
        # No part of the boot, so that an image can be booted without it; this waits for its disk.
        self.run("systemctl start srv-media.mount")

    def disconnect(self) -> None:
        """Ends the shared connections, which do not notice by themselves that the host is another."""
        for control in self.machine.directory.glob(f"{self.machine.name}.*.ssh"):
            words = ["ssh", "-F", "none", "-o", f"ControlPath={control}", "-O", "exit", "127.0.0.1"]
            subprocess.run(words, capture_output=True, timeout=30)
            control.unlink(missing_ok=True)

    def copy(self, source: Path | str, target: str) -> None:
        """Puts a file of this machine into the host, as root."""
        words = ["scp", "-q", *self.options(), "-P", str(self.machine.port), str(source), f"root@127.0.0.1:{target}"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE)
        if done.returncode:
            raise Failed(self.where(), f"scp {source} {target}", f"exit code {done.returncode}", done.stderr)

    def install_package(self, package: Path | None = None) -> None:
        """Installs the project's package, once a host: what it depends on is there."""
        path = package or self.package
        if path is None:
            raise Failed(self.where(), "install_package", "there is no package: build it, or name it with --package", "")
        if package is None and self.package_installed:
            return
        self.copy(path, f"/tmp/{path.name}")
        self.run(f"DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends /tmp/{path.name}")
        self.package_installed = package is None

    def install_all(self) -> None:
        """The package, and root's template."""
        if self.ok("command -v nagaya"):
            self.package_installed = True
        self.install_package()
        self.import_template()

    def install(self, package: str) -> None:
        """Installs a package of Debian's that the image holds (/srv/debs)."""
        options = "-o Dpkg::Options::=--force-unsafe-io --no-install-recommends"
        self.run(f"DEBIAN_FRONTEND=noninteractive apt-get install -y -q {options} {package}", timeout=600)

    def clean(self) -> None:
        """Deletes everybody's containers, for the next scenario on this host."""
        if self.ok("command -v nagaya"):
            for user in (self, *(self.logged_in(name) for name in self.users)):
                user.delete_containers()
        # The next scenario's logins are its own.
        self.disconnect()

    def save_evidence(self, directory: Path) -> None:
        """What tells afterwards why a scenario failed, into one directory."""
        name = self.machine.name
        if self.machine.serial.exists():
            (directory / f"{name}.serial").write_bytes(self.machine.serial.read_bytes())
        commands = {
            "journal": "journalctl --no-pager -b -o short-precise",
            "journal-before": "journalctl --no-pager -b -1 -o short-precise",
            "failed-units": "systemctl --no-pager list-units --failed --full",
        }
        for what, command in commands.items():
            try:
                done = self.attempt(command, timeout=60)
            except Failed:
                continue
            if done.returncode == 0:
                (directory / f"{name}.{what}").write_text(done.stdout)
