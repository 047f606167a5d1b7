"""The power fails during launch, stop and delete: the database is sound, nothing is half made, what ran comes back."""
import random
import subprocess
import time

from host import Host

INSTALLED = True
STATE = "/var/lib/nagaya"


def run(host: Host) -> None:
    host.run("nagaya launch debian12 stays")
    host.run("nagaya launch debian12 rests && nagaya stop --force rests")
    # What the cut may not lose is on disk.
    host.run("sync")
    for number, busy in enumerate(
        [
            "for n in $(seq 100); do nagaya launch debian12 new$n; done",
            "while true; do nagaya restart --force stays; done",
            "for n in $(seq 100); do nagaya launch debian12 gone$n; nagaya delete --force gone$n; done",
        ]
    ):
        cut_during(host, busy)
        judge(host, number)


def cut_during(host: Host, busy: str) -> None:
    seed = time.time_ns()
    delay = random.Random(seed).uniform(1.0, 6.0)
    print(f"     seed {seed}: the power fails after {delay:.2f} s of: {busy}")
    work = subprocess.Popen([*host.ssh(), busy], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(delay)
    host.power_cut()
    work.kill()
    work.wait()


def judge(host: Host, number: int) -> None:
    host.wait_for("systemctl is-active nagaya.service", 120)
    rows = host.json("nagaya list --format json")
    states = {row["name"]: row["state"] for row in rows}
    assert host.out(f"sqlite3 {STATE}/nagaya.db 'PRAGMA integrity_check'") == "ok"
    assert host.out(f"sqlite3 {STATE}/nagaya.db \"SELECT count(*) FROM container WHERE phase <> 'settled'\"") == "0"
    # In the middle of a restart it may have been wanted down for a moment.
    assert states["stays"] == "running" or number == 1, states
    assert states["rests"] == "stopped", states
    assert not set(states.values()) & {"busy", "frozen"}, states
    # A directory for each container, and none for nobody.
    ids = {row["id"] for row in rows}
    for where in (f"{STATE}/containers", f"{STATE}/pool/containers"):
        assert set(host.out(f"ls {where}").split()) == ids, f"{where} of {ids}"
    assert host.out(f"ls {STATE}/pool/tmp 2>/dev/null || true") == ""
    for row in rows:
        host.run(f"test -s {STATE}/containers/{row['id']}/manifest.toml")
    # Each can be started, used and deleted.
    if states["stays"] != "running":
        host.run("nagaya start stays")
    for name in states:
        if name not in ("stays", "rests"):
            host.run(f"nagaya delete --force {name}")
    assert host.out("nagaya exec stays -- echo here") == "here"
    host.run("sync")
