#!/usr/bin/env python3
"""Measures what an operator waits for: medians of the commands as they are typed.

Run as root. Containers are named bench-PID-N and are deleted whatever happens.

    launch      create from the cached template and start, until the command returns
    to_running  the same, until systemd in the guest says "running" or "degraded"
    exec        run /bin/true in a running container
    list        list all containers, with --containers of them there
    stop        clean shutdown of a booted guest
    delete      delete a stopped container
"""
import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time

HEALTHY = ("running", "degraded")


class Bench:
    def __init__(self, options):
        self.options = options
        self.names = []
        self.seconds = {}

    def nagaya(self, *words, check=True):
        command = [self.options.nagaya, *words]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()[-300:]}")
        return done.stdout.strip()

    def put(self, metric, started):
        self.seconds.setdefault(metric, []).append(time.monotonic() - started)

    def timed(self, metric, *words):
        started = time.monotonic()
        self.nagaya(*words)
        self.put(metric, started)

    def name(self):
        self.names.append(f"bench-{os.getpid()}-{len(self.names)}")
        return self.names[-1]

    def launch(self, name):
        self.nagaya("launch", self.options.template, name)

    def wait_until_running(self, name):
        end = time.monotonic() + 120
        while self.nagaya("exec", name, "--", "systemctl", "is-system-running", check=False) not in HEALTHY:
            if time.monotonic() > end:
                raise RuntimeError(f"{name} was not running after 120 s")
            time.sleep(0.01)

    def delete(self, name):
        self.nagaya("delete", "--force", name, check=False)
        self.names.remove(name)

    def one_life(self):
        name = self.name()
        started = time.monotonic()
        self.launch(name)
        self.put("launch", started)
        self.wait_until_running(name)
        self.put("to_running", started)
        for _ in range(5):
            self.timed("exec", "exec", name, "--", "/bin/true")
        self.timed("stop", "stop", name)
        self.timed("delete", "delete", name)
        self.names.remove(name)

    def lists(self):
        for _ in range(self.options.containers):
            self.launch(self.name())
        for _ in range(max(5, self.options.runs)):
            self.timed("list", "list")

    def run(self):
        # The first launch may build the template, which is not what is measured.
        first = self.name()
        self.launch(first)
        self.delete(first)
        for _ in range(self.options.runs):
            self.one_life()
        self.lists()

    def clean_up(self):
        for name in list(self.names):
            self.delete(name)

    def report(self):
        print(f"{'':<12}{'median':>12}{'fastest':>12}{'slowest':>12}  runs")
        for metric, values in self.seconds.items():
            numbers = (statistics.median(values), min(values), max(values))
            print(f"{metric:<12}" + "".join(f"{1000 * n:>9.1f} ms" for n in numbers) + f"  {len(values)}")
        if self.options.json:
            with open(self.options.json, "w", encoding="utf-8") as out:
                json.dump(self.seconds, out, indent=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nagaya", default="target/release/nagaya", help="the binary to measure")
    parser.add_argument("--template", default="debian12")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--containers", type=int, default=3, help="how many there are for list")
    parser.add_argument("--json", default="", help="write every single time to this file, in seconds")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("containers are launched on this host: run it as root")
    if not os.access(options.nagaya, os.X_OK):
        sys.exit(f"there is no {options.nagaya}: run 'make' first")
    # So that a terminated run cleans up as an interrupted one does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    bench = Bench(options)
    try:
        bench.run()
        bench.report()
    finally:
        bench.clean_up()


if __name__ == "__main__":
    main()
