#!/usr/bin/env python3
"""Runs scenarios on Debian hosts in QEMU guests, each with its own systemd, D-Bus and kernel.

Run as root. The first run builds the hosts' images and needs a Debian mirror; later ones need nothing
from outside, and the hosts reach nothing but each other.
"""
from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import shutil
import signal
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import older
import qemu
import scenario
from cache import cache_dir, cached, working_directory
from host import Host
from image import PROJECT, SUITES, BuildFailed, HostImage, build
from machine import Machine, MachineFailed, Variant, lacking
from scenario import Case, Group, Malformed

LOGS = PROJECT / "target" / "vm-logs"
JOURNAL_LINES = 60
# A guest's and that of its QEMU.
HOST_MEMORY = 3 << 30


class Run:
    """One call of this program: what it was told, and what became of the cases."""

    def __init__(self, options: argparse.Namespace, images: dict[str, HostImage], media: Path):
        self.options, self.images, self.media = options, images, media
        self.directory = working_directory()
        self.passed: list[Case] = []
        self.failed: list[Case] = []
        # Those whose emulated host hung, and that were run once more.
        self.hung: list[Case] = []
        self.machines: list[Machine] = []
        # Hosts that are up, by kind and whether the package is installed: what plain ones go on from.
        self.saved: dict[tuple[str, bool], Path] = {}
        self.interrupted = threading.Event()
        self.printing = threading.Lock()

    def say(self, text: str) -> None:
        with self.printing:
            print(text, flush=True)

    def save_hosts(self, cases: list[Case]) -> None:
        """Has one host of each kind boot, and where that is wanted be installed, and keeps it as it is then."""
        installed = {kind for case in cases if case.installed and self.options.package for kind in case.kinds}

        def save(kind: str) -> None:
            machinery = [qemu.version(), Path(qemu.__file__).read_text()]
            recipe = [str(self.images[kind].disk), str(self.media), *machinery]
            self.saved[kind, False] = cached(f"{kind}-up", recipe, lambda to: self.save(kind, None, to), self.say)
            if kind in installed:
                recipe += [str(self.saved[kind, False]), hashlib.sha256(self.options.package.read_bytes()).hexdigest()]
                fill = lambda to: self.save(kind, self.saved[kind, False], to)
                self.saved[kind, True] = cached(f"{kind}-installed", recipe, fill, self.say)

        with ThreadPoolExecutor(self.options.jobs) as pool:
            list(pool.map(save, self.images))

    def save(self, kind: str, resumes: Path | None, to: Path) -> None:
        """One that boots, or one that goes on from what was saved and has everything installed."""
        directory = self.directory / f"{kind}-saved"
        directory.mkdir()
        machine = Machine(1, self.images[kind], self.media, Variant(), directory, False, resumes)
        self.machines.append(machine)
        host = Host(machine, self.options.package)
        try:
            machine.start()
            host.wait_until_up("")
            if resumes:
                host.set_clock()
                host.install_all()
            # Its disk is booted from as well.
            host.run("sync")
            host.disconnect()
            machine.save(to)
        finally:
            machine.end()
            shutil.rmtree(directory)

    def run_group(self, number: int, group: Group) -> None:
        """Runs its cases, on new hosts again after one that failed, and once more the one whose host hung."""
        left = list(group.cases)
        while left and not self.interrupted.is_set():
            directory = self.directory / str(number)
            directory.mkdir()
            hosts: list[Host] = []
            try:
                left = self.run_cases(left, directory, hosts)
                if self.options.keep:
                    self.keep(hosts)
            finally:
                for host in hosts:
                    host.disconnect()
                    host.machine.end()
                shutil.rmtree(directory)

    def run_cases(self, cases: list[Case], directory: Path, hosts: list[Host]) -> list[Case]:
        """Boots hosts and runs cases until one fails; returns those that were not run."""
        started = time.monotonic()
        try:
            self.boot(cases[0], directory, hosts)
        except Exception as error:
            return self.after_failure(cases, hosts, error, started)
        for position, case in enumerate(cases):
            started = time.monotonic()
            try:
                case.run(*hosts)
                if position + 1 < len(cases):
                    for host in hosts:
                        host.clean()
            except Exception as error:
                return self.after_failure(cases[position:], hosts, error, started)
            self.passed.append(case)
            self.say(f"pass {case.title()} ({time.monotonic() - started:.0f} s)")
        return []

    def boot(self, case: Case, directory: Path, hosts: list[Host]) -> None:
        started = time.monotonic()
        linked = len(case.kinds) > 1
        for number, kind in enumerate(case.kinds, 1):
            image, saved = self.origin(kind, case)
            machine = Machine(number, image, self.media, case.variant, directory, linked, saved)
            self.machines.append(machine)
            hosts.append(Host(machine, self.options.package, self.say if self.options.verbose else None))
        for host in hosts:
            host.machine.start()
        for host in hosts:
            host.wait_until_up("")
            host.set_clock()
            host.prepare()
            if case.installed:
                host.install_all()
        what = " ".join(filter(None, [" and ".join(case.kinds), str(case.variant)]))
        self.say(f"     booted {what} in {time.monotonic() - started:.0f} s")

    def origin(self, kind: str, case: Case) -> tuple[HostImage, Path | None]:
        """What a host of this case begins from: the image, and one that is up."""
        image = self.images[kind]
        # Of a pair, each is to be a machine of its own.
        if len(case.kinds) > 1:
            return image, None
        saved = self.saved.get((kind, case.installed)) or self.saved[kind, False]
        if case.variant == Variant():
            return image, saved
        # It boots, but from a disk on which all that is done that only a first boot does.
        return replace(image, disk=saved / "disk"), None

    def after_failure(self, cases: list[Case], hosts: list[Host], error: Exception, started: float) -> list[Case]:
        """What is left to run: a host that hung has judged nothing, but a case is not tried more than twice."""
        case, rest = cases[0], cases[1:]
        for standstill in filter(None, (host.machine.hung() for host in hosts)):
            if case in self.hung:
                break
            self.hung.append(case)
            self.say(f"HUNG {case.title()} ({time.monotonic() - started:.0f} s), once more: {standstill}")
            return cases
        self.report_failure(case, hosts, error, started)
        return rest

    def report_failure(self, case: Case, hosts: list[Host], error: Exception, started: float) -> None:
        if self.interrupted.is_set():
            return
        seconds = time.monotonic() - started
        self.failed.append(case)
        evidence = self.options.logs / case.title().replace(" ", "-").replace("/", "_")
        shutil.rmtree(evidence, ignore_errors=True)
        evidence.mkdir(parents=True)
        text = f"FAIL {case.title()} ({seconds:.0f} s)\n{story(error)}\n"
        for host in hosts:
            host.save_evidence(evidence)
            for what in ("journal", "serial"):
                saved = evidence / f"{host.machine.name}.{what}"
                if saved.exists():
                    lines = saved.read_text(errors="replace").splitlines()[-JOURNAL_LINES:]
                    text += f"--- the end of {saved}\n" + "".join(f"    {line}\n" for line in lines)
                    break
        (evidence / "failure").write_text(text)
        self.say(f"{text}--- all of it: {evidence}")

    def keep(self, hosts: list[Host]) -> None:
        for host in hosts:
            self.say(f"kept {host.machine.name}: {shlex.join(host.ssh())}")
        self.say("Ctrl-C ends them.")
        self.interrupted.wait()

    def close(self) -> None:
        """Ends every QEMU, and with it whatever waits for one."""
        self.interrupted.set()
        for machine in self.machines:
            machine.end()


def story(error: Exception) -> str:
    """What went wrong, and the lines of the scenario that led there."""
    text = f"  {error or type(error).__name__}"
    if not isinstance(error, (AssertionError, MachineFailed)):
        text = f"  {type(error).__name__}: {error}"
    for frame in traceback.extract_tb(error.__traceback__):
        if Path(frame.filename).parent == scenario.SCENARIOS:
            text += f"\n  {Path(frame.filename).name}:{frame.lineno}: {frame.line}"
    return text


def newest_package() -> Path | None:
    packages = (PROJECT / "target" / "debian").glob("nagaya_*.deb")
    return max(packages, key=lambda path: path.stat().st_mtime, default=None)


def hosts_at_once() -> int:
    """One more than there are processors, as a host waits for a quarter of its time; but each has memory to itself."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min((os.cpu_count() or 1) + 1, memory // HOST_MEMORY))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="scenarios whose names contain this")
    parser.add_argument("--each-change", action="store_true", help="leave out what is run before a release alone")
    parser.add_argument("--hosts", help="run on these instead, a case each: debian12,debian13")
    parser.add_argument("--package", type=Path, default=newest_package(), help="what install_package installs")
    parser.add_argument("--jobs", type=int, default=hosts_at_once(), help="hosts at the same time (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave the hosts running until Ctrl-C")
    parser.add_argument("--verbose", action="store_true", help="print each command that runs on a host")
    parser.add_argument("--logs", type=Path, default=LOGS, help="where failures leave their journals")
    parser.add_argument("--list", action="store_true", help="list what would run")
    parser.add_argument("--build", action="store_true", help="only build the images")
    return parser.parse_args()


def hosts_of(options: argparse.Namespace) -> list[str] | None:
    if not options.hosts:
        return None
    kinds = options.hosts.split(",")
    if unknown := set(kinds) - set(SUITES):
        raise Malformed(f"--hosts: {', '.join(unknown)} is not one of {', '.join(SUITES)}")
    return kinds


def main() -> int:
    options = arguments()
    cases = scenario.find(options.only, hosts_of(options))
    if options.each_change:
        cases = [case for case in cases if not case.before_release]
    if options.list:
        for case in cases:
            print(f"{case.title()}: {case.about}")
        return 0
    if packages := lacking():
        raise MachineFailed(f"programs are missing: apt-get install --no-install-recommends {' '.join(packages)}")
    if os.geteuid() != 0:
        raise MachineFailed("only root can build the images and their file systems: run it as root")
    kinds = set(SUITES) if options.build else {kind for case in cases for kind in case.kinds}
    images, media = build(kinds, lambda text: print(text, flush=True))
    run = Run(options, images, media)
    # One process makes the older packages, most of the time one that links, beside hosts that boot.
    with ThreadPoolExecutor(1) as pool:
        older_packages = [pool.submit(older.package, version, run.say) for version in {case.older for case in cases} - {""}]
        run.save_hosts(cases)
    for package in older_packages:
        package.result()
    return 0 if options.build else run_all(run, scenario.groups(cases))


def run_all(run: Run, groups: list[Group]) -> int:
    numbered = list(enumerate(groups))
    with ThreadPoolExecutor(max(1, run.options.jobs)) as pool:
        try:
            # The last are the longest: nobody waits for them alone when they come first.
            together = [each for each in reversed(numbered) if not each[1].alone()]
            running = [pool.submit(run.run_group, *each) for each in together]
            for future in running:
                future.result()
            for each in numbered:
                if each[1].alone():
                    run.run_group(*each)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            run.close()
    print(f"{len(run.passed)} passed, {len(run.failed)} failed, {len(run.hung)} run once more")
    return 1 if run.failed or not run.passed else 0


def end(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    try:
        code = main()
    except KeyboardInterrupt:
        code = 130
    except (BuildFailed, MachineFailed, Malformed) as error:
        print(f"run.py: {error}", file=sys.stderr)
        code = 1
    finally:
        with suppress(FileNotFoundError):
            shutil.rmtree(cache_dir() / "run" / str(os.getpid()))
    sys.exit(code)
