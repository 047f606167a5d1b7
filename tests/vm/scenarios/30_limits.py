"""Limits hold at start and live, are read back, and keep a hostile guest's neighbour quick."""
from __future__ import annotations

import statistics
import time

from host import Host
from machine import Variant

HOSTS = ["debian12"]
VARIANT = Variant(cpus=2)
INSTALLED = True
ALONE = True
MIB = 1 << 20
HOG = "nagaya exec noisy -- sh -c"


def run(host: Host) -> None:
    host.run("nagaya launch debian12 noisy --wait -c limits.memory=256MiB -c limits.processes=200 -c limits.cpu=1")
    host.run("nagaya launch debian12 quiet --wait")
    at_start(host)
    live(host)
    refused(host)
    out_of_reach(host)
    memory_ends_inside(host)
    processes_end_inside(host)
    cpu_time_is_measured(host)
    writing_is_slowed(host)
    neighbour_stays_quick(host)
    outlives_the_monitor(host)


def payload(host: Host, name: str) -> str:
    return host.json(f"nagaya info {name} --format json")["cgroup"] + "/payload"


def read(host: Host, name: str, file: str) -> str:
    return host.out(f"cat {payload(host, name)}/{file}")


def number(host: Host, name: str, file: str, key: str) -> int:
    return int(host.out(f"awk '$1 == \"{key}\" {{ print $2 }}' {payload(host, name)}/{file}"))


def at_start(host: Host) -> None:
    assert read(host, "noisy", "memory.max") == str(256 * MIB)
    assert read(host, "noisy", "pids.max") == "200"
    assert read(host, "noisy", "cpuset.cpus") in ("0", "1")
    assert host.out("nagaya exec noisy -- nproc") == "1"
    assert read(host, "quiet", "memory.max") == "max"
    limits = host.json("nagaya info noisy --format json")["limits"]
    assert limits["memory.max"] == str(256 * MIB), limits
    assert f"memory.max {256 * MIB}" in host.out("nagaya info noisy")


def live(host: Host) -> None:
    host.run("nagaya config set noisy limits.memory=300MiB limits.memory.swap=false limits.cpu=0-1 "
             "limits.cpu.allowance=50% limits.cpu.priority=0")
    for file, value in {
        "memory.max": str(300 * MIB),
        "memory.swap.max": "0",
        "cpuset.cpus": "0-1",
        "cpu.weight": "25",
    }.items():
        assert read(host, "noisy", file) == value, file
    assert host.out("nagaya exec noisy -- nproc") == "2"
    huge_pages(host)
    host.run("nagaya config set noisy limits.memory=10% limits.memory.enforce=soft")
    assert read(host, "noisy", "memory.max") == "max"
    assert read(host, "noisy", "memory.high") != "max"
    host.run("nagaya config unset noisy limits.memory.enforce limits.memory.swap limits.cpu limits.cpu.allowance "
             "limits.cpu.priority")
    host.run("nagaya config set noisy limits.memory=256MiB")
    for file, value in {
        "memory.max": str(256 * MIB),
        "memory.high": "max",
        "memory.swap.max": "max",
        "cpuset.cpus": "0-1",
        "cpu.weight": "100",
    }.items():
        assert read(host, "noisy", file) == value, file
    assert host.out("nagaya exec noisy -- nproc") == "2"


def huge_pages(host: Host) -> None:
    """systemd does not hand the controller on, and not every kernel has it."""
    if "hugetlb" not in host.out("cat /sys/fs/cgroup/cgroup.controllers").split():
        host.fails("nagaya config set noisy limits.hugepages.2MB=4MiB", 3, "no 'hugetlb' controller")
        return
    host.run("nagaya config set noisy limits.hugepages.2MB=4MiB")
    assert read(host, "noisy", "hugetlb.2MB.max") == str(4 * MIB)
    host.run("nagaya config unset noisy limits.hugepages.2MB")
    assert read(host, "noisy", "hugetlb.2MB.max") == "max"


def refused(host: Host) -> None:
    before = host.out("nagaya config show noisy")
    host.fails("nagaya config set noisy limits.processes=50 limits.cpu=99", 1, "this host has 2 CPUs")
    host.fails("nagaya config set noisy limits.processes=50 limits.cpu=0,7", 1, "there is no CPU 7")
    host.fails("nagaya config set noisy limits.memory=0", 1, "limits.memory cannot be '0'")
    # No disk is shared out by weight until its scheduler is one that does.
    host.run("echo none >/sys/block/vda/queue/scheduler")
    host.fails("nagaya config set noisy limits.processes=50 limits.disk.priority=9", 3, "queue/scheduler")
    assert host.out("nagaya config show noisy") == before
    assert read(host, "noisy", "pids.max") == "200"


def out_of_reach(host: Host) -> None:
    for file in ("memory.max", "pids.max", "cpu.max", "cpuset.cpus"):
        # The guest's root sees no such file to write, or may not.
        host.fails(f"nagaya exec noisy -- sh -c 'echo max >/sys/fs/cgroup/{file}'")
    assert read(host, "noisy", "pids.max") == "200"


def memory_ends_inside(host: Host) -> None:
    init = host.json("nagaya info noisy --format json")["pid"]
    host.run("nagaya config set noisy limits.memory.swap=false")
    host.fails(f"{HOG} 'head -c 600M /dev/zero | tail'")
    assert number(host, "noisy", "memory.events", "oom_kill") > 0
    assert host.json("nagaya info noisy --format json")["pid"] == init
    assert number(host, "quiet", "memory.events", "oom_kill") == 0
    assert int(read(host, "noisy", "memory.peak")) <= 256 * MIB
    assert "CONSTRAINT_NONE" not in host.out("dmesg | grep oom-kill: || true")


def processes_end_inside(host: Host) -> None:
    said = host.attempt(f"{HOG} 'for n in $(seq 400); do sleep 20 & done 2>&1 >/dev/null | head -n 3'", timeout=120)
    assert "fork" in said.stdout + said.stderr, said
    assert int(read(host, "noisy", "pids.current")) <= 200
    host.run("nagaya exec quiet -- sh -c 'for n in $(seq 300); do sleep 1 & done; wait'")
    host.run("nagaya restart --force noisy && nagaya exec noisy -- true")


def cpu_time_is_measured(host: Host) -> None:
    host.run("nagaya config set noisy limits.cpu.allowance=20ms/100ms")
    assert read(host, "noisy", "cpu.max") == "20000 100000"
    before, begun = number(host, "noisy", "cpu.stat", "usage_usec"), time.monotonic()
    host.attempt(f"{HOG} 'timeout 10 sh -c \"while :; do :; done\"'")
    used = (number(host, "noisy", "cpu.stat", "usage_usec") - before) / 1e6
    passed = time.monotonic() - begun
    assert 0.1 * passed < used < 0.25 * passed, f"{used} s of CPU time in {passed} s"
    host.run("nagaya config unset noisy limits.cpu.allowance")
    assert read(host, "noisy", "cpu.max") == "max 100000"


def writing_is_slowed(host: Host) -> None:
    write = "dd if=/dev/zero of=/root/big bs=1M count=12 oflag=direct"
    timed = f"nagaya exec noisy -- sh -c 'a=$(date +%s%N); {write} 2>/dev/null; echo $((($(date +%s%N) - a) / 1000000))'"
    free = int(host.out(timed))
    host.run("nagaya config set noisy limits.write=2MiB limits.read=500iops")
    line = read(host, "noisy", "io.max")
    assert line.endswith(f"rbps=max wbps={2 * MIB} riops=500 wiops=max"), line
    slowed = int(host.out(timed))
    assert slowed > 4000 and slowed > 2 * free, f"{free} ms without a limit, {slowed} ms with it"
    host.run("nagaya config unset noisy limits.write limits.read")
    assert read(host, "noisy", "io.max") == ""
    if host.ok("modprobe bfq && echo bfq >/sys/block/vda/queue/scheduler"):
        host.run("nagaya config set noisy limits.disk.priority=10")
        assert read(host, "noisy", "io.bfq.weight").splitlines()[0] == "default 200"
        host.run("nagaya config unset noisy limits.disk.priority && echo none >/sys/block/vda/queue/scheduler")


def latency(host: Host) -> float:
    """Milliseconds of an exec, the median of some."""
    script = "for n in $(seq 15); do a=$(date +%s%N); nagaya exec quiet -- true; echo $((($(date +%s%N) - a) / 1000)); done"
    return statistics.median(int(line) for line in host.out(script).splitlines()) / 1000


def neighbour_stays_quick(host: Host) -> None:
    host.run("nagaya config set noisy limits.cpu=1 limits.processes=200 limits.memory=256MiB limits.memory.swap=false "
             "limits.cpu.allowance=50%")
    latency(host)
    idle = latency(host)
    # A shell that cannot fork gives up: this one fills its share first, and then forks at the edge of it.
    bomb = "n=0; while [ \\$n -lt 160 ]; do sleep 200 & n=\\$((n + 1)); done; while :; do (:); done"
    burst = "b() { b | b & }; b; sleep 200"
    memory = "while :; do head -c 600M /dev/zero | tail; done"
    spin = "while :; do :; done"
    for hog in (spin, memory, bomb, burst):
        host.run(f"nohup setsid {HOG} 'exec timeout 200 sh -c \"{hog}\"' >/dev/null 2>&1 </dev/null &")
    host.wait_for(f"test $(cat {payload(host, 'noisy')}/pids.current) -gt 150", 60)
    busy = latency(host)
    print(f"exec in the neighbour: {idle:.1f} ms idle, {busy:.1f} ms beside the hogs")
    assert busy <= 2 * idle, f"{idle} ms idle, {busy} ms beside the hogs"
    loads = host.json("nagaya top --format json")
    assert loads[0]["name"] == "noisy", loads
    host.run("nagaya stop --force noisy")


def outlives_the_monitor(host: Host) -> None:
    host.run("nagaya start noisy")
    host.run(f"kill -9 {host.json('nagaya info noisy --format json')['monitor_pid']}")
    host.run("nagaya exec noisy -- true")
    assert read(host, "noisy", "memory.max") == str(256 * MIB)
    assert read(host, "noisy", "pids.max") == "200"
