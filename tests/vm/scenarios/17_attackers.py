"""Programs in guests of root's and of an ordinary user's lie in wait for whoever enters, and get nothing."""
import os
import subprocess
import tempfile
import time
from pathlib import Path

from host import Host
from machine import until

HOSTS = ["debian12"]
INSTALLED = True
ATTACKER = Path(__file__).parents[2] / "root" / "attacker.c"
# Of each guest. The whole suite needs an end; NAGAYA_VM_EXECS=1000 takes half an hour.
EXECS = int(os.environ.get("NAGAYA_VM_EXECS", "40"))
ARM = "touch /root/watch /root/report; /root/attacker </dev/null >/dev/null 2>&1"


def run(host: Host) -> None:
    host.run("usermod -aG nagaya ann")
    ann = host.logged_in("ann")
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory) / "attacker"
        subprocess.run(["gcc", "-static", "-O1", "-o", program, ATTACKER], check=True)
        host.copy(program, "/tmp/attacker")
    for user in (host, ann):
        user.import_template()
        user.run("nagaya launch debian12 victim --wait=running")
        user.run("nagaya exec victim -- sh -c 'cat >/root/attacker && chmod 755 /root/attacker' </tmp/attacker")
        arm(user)
    for user in (host, ann):
        entered(user, EXECS)
        # Whose monitor dies is looked after by another one, which is attacked from its first step on.
        for _ in range(2):
            host.run(f"kill -9 {user.json('nagaya info victim --format json')['monitor_pid']}")
            user.wait_for("nagaya exec victim -- true", 30)
        got_nothing(user, EXECS)
    for user in (host, ann):
        for again in ("nagaya restart victim", "nagaya exec victim -- reboot", "nagaya restart --force victim"):
            arm(user)
            before = user.json("nagaya info victim --format json")["pid"]
            # The attacker may get at a 'reboot' of the guest's own, which is its right.
            for _ in range(3):
                user.attempt(again)
                if rebooted(user, before):
                    break
            else:
                raise AssertionError(f"'{again}' has made no other boot")
            user.wait_for("nagaya exec victim -- true", 120)
        arm(user)
        entered(user, 10)
        got_nothing(user, 10)


def rebooted(user, before: int) -> bool:
    """Whether the guest has another init than `before` within half a minute."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if user.json("nagaya info victim --format json").get("pid") not in (None, before):
            return True
        time.sleep(1)
    return False


def arm(user) -> None:
    """The attacker goes to the background by itself, and adds to /root/report."""
    user.run(f"nagaya exec victim -- sh -c '{ARM}'")


def entered(user, times: int) -> None:
    """Nobody has to be let in while the attacker has its hands on the program; but it must end."""
    user.run(
        f"for n in $(seq {times}); do timeout 60 nagaya exec victim -- true; [ $? != 124 ] || exit 1; done;"
        " for n in $(seq 5); do timeout 60 nagaya exec -t victim --user nobody -- true; echo exit | timeout 60 nagaya shell victim; done; true",
        timeout=60 + 6 * times,
    )


def got_nothing(user, execs: int) -> None:
    """An attacker tells what it has done when it may end; one whose boot is over has told only of escapes."""
    told = "nagaya exec victim -- grep -c '^seen ' /root/report"
    before = int(user.attempt(told).stdout or 0)
    user.run("nagaya exec victim -- rm /root/watch")
    until(60, "the attacker has ended", lambda: int(user.attempt(told).stdout or 0) > before)
    report = user.out("nagaya exec victim -- cat /root/report")
    assert "ESCAPE" not in report, report
    seen = int(report.splitlines()[-1].split()[1].rstrip(","))
    assert seen > execs / 2, f"the attacker has seen too few to have tried: {report}"
