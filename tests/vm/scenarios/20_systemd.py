"""Containers are systemd's units: scopes, nagaya@, machinectl, boot and shutdown, a crash of lxcfs."""
from host import Host

HOSTS = ["debian12"]
INSTALLED = True


def run(host: Host) -> None:
    host.run("systemctl enable --now nagaya.service")
    host.run("nagaya launch debian12 web01 --wait", timeout=600)
    host.run("nagaya config set web01 snapshots.schedule='* * * * *' snapshots.retention='1 hourly'")
    scopes(host)
    machined(host)
    nothing_of_systemds_ends_it(host)
    killed_monitor(host)
    stop_and_start(host)
    lxcfs(host)
    template_unit(host)
    schedule(host)
    autostart(host)


def schedule(host: Host) -> None:
    """The timer has made snapshots since the beginning, and kept the latest."""
    assert show(host, "nagaya-schedule.timer", "ActiveState") == "active"
    host.wait_for("nagaya snapshot list web01 --format json | grep -q '\"is_automatic\": true'", 150)
    host.run("nagaya config unset web01 snapshots.schedule")
    assert show(host, "nagaya-schedule.service", "Result") == "success"
    assert len(host.json("nagaya snapshot list web01 --format json")) <= 2


def info(host: Host, name: str) -> dict:
    return host.json(f"nagaya info {name} --format json")


def scope_of(host: Host, name: str) -> str:
    return f"nagaya-{info(host, name)['id']}.scope"


def show(host: Host, unit: str, name: str) -> str:
    return host.out(f"systemctl show --value --property {name} {unit}")


def scopes(host: Host) -> None:
    scope = scope_of(host, "web01")
    assert show(host, scope, "Description") == "Container web01"
    assert show(host, scope, "Slice") == "nagaya.slice"
    assert show(host, scope, "Delegate") == "yes"
    assert show(host, scope, "TasksMax") == "infinity"
    assert show(host, scope, "ActiveState") == "active"
    group = show(host, scope, "ControlGroup")
    assert group == f"/nagaya.slice/{scope}", group
    assert info(host, "web01")["cgroup"] == f"/sys/fs/cgroup{group}"
    init, monitor = info(host, "web01")["pid"], info(host, "web01")["monitor_pid"]
    assert f"0::{group}/payload" in host.out(f"cat /proc/{init}/cgroup")
    assert host.out(f"cat /proc/{monitor}/cgroup") == f"0::{group}/monitor"
    for controller in ("cpu", "memory", "pids"):
        assert controller in host.out(f"cat /sys/fs/cgroup{group}/payload/cgroup.controllers")
    host.wait_for("nagaya exec web01 -- systemctl is-system-running", 240)
    # One writer: nothing of nagaya's lies beside systemd's own.
    host.fails("ls -d /sys/fs/cgroup/nagaya")


def machined(host: Host) -> None:
    host.wait_for("machinectl show web01", 30)
    assert host.out("machinectl show web01 --value --property Class") == "container"
    assert host.out("machinectl show web01 --value --property Service") == "nagaya"
    assert host.out("machinectl show web01 --value --property Unit") == scope_of(host, "web01")
    assert host.out("machinectl show web01 --value --property Leader") == str(info(host, "web01")["pid"])
    assert "web01" in host.out("machinectl list --no-legend")
    assert "web01" in host.out("machinectl status web01 --no-pager")
    # It wants a terminal.
    said = host.out("script -qec 'machinectl shell web01 /usr/bin/id -un' /dev/null")
    assert "Connected to machine web01" in said and "root" in said, said
    # The next look at a guest that has rebooted tells machined of its new init.
    before = info(host, "web01")["pid"]
    host.attempt("nagaya exec web01 -- systemctl reboot")
    host.wait_for(f"nagaya info web01 --format json | grep '\"pid\"' | grep -qv ' {before},'", 120)
    host.wait_for("nagaya exec web01 -- systemctl is-system-running", 240)
    host.wait_for(
        "test \"$(machinectl show web01 --value --property Leader)\" = "
        "\"$(nagaya info web01 --format json | python3 -c 'import json, sys; print(json.load(sys.stdin)[\"pid\"])')\"",
        30,
    )


def nothing_of_systemds_ends_it(host: Host) -> None:
    before = info(host, "web01")
    host.run("systemctl daemon-reload && systemctl daemon-reexec")
    host.run("systemctl restart nagaya.service")
    host.run("systemctl restart systemd-machined.service")
    host.attempt("systemctl restart dbus.service")
    after = info(host, "web01")
    assert (before["pid"], before["monitor_pid"]) == (after["pid"], after["monitor_pid"])
    host.run("nagaya exec web01 -- true")
    assert show(host, scope_of(host, "web01"), "ActiveState") == "active"


def killed_monitor(host: Host) -> None:
    before = info(host, "web01")
    host.run(f"kill -9 {before['monitor_pid']}")
    host.run("nagaya exec web01 -- true")
    after = info(host, "web01")
    assert before["pid"] == after["pid"] and before["monitor_pid"] != after["monitor_pid"], (before, after)
    assert after["cgroup"] == before["cgroup"]


def stop_and_start(host: Host) -> None:
    scope = scope_of(host, "web01")
    host.run("nagaya stop web01", timeout=300)
    host.fails(f"systemctl is-active {scope}")
    host.fails(f"ls -d /sys/fs/cgroup/nagaya.slice/{scope}")
    host.fails("machinectl show web01")
    for _ in range(3):
        host.run("nagaya start web01 && nagaya stop --force web01")
    host.run("nagaya start web01 --wait", timeout=600)
    assert host.out("systemctl list-units --failed --plain --no-legend") == ""
    # A scope that systemd ends leaves nothing half.
    host.run(f"systemctl kill --signal=KILL {scope}")
    host.wait_for("nagaya info web01 --format json | grep -q '\"stopped\"'", 30)
    host.run("nagaya start web01 --wait", timeout=600)
    # One that it stops shuts down as for anybody else.
    host.run(f"systemctl stop {scope}")
    said = host.out("nagaya info web01 | grep 'Last end'")
    assert said.endswith("shut down"), said
    host.run("nagaya start web01 --wait", timeout=600)


def lxcfs(host: Host) -> None:
    seen = "nagaya exec web01 -- grep -c fuse.lxcfs /proc/self/mountinfo"
    mounts = host.out(seen)
    assert int(mounts) >= 5, mounts
    pid = info(host, "web01")["pid"]
    host.run("systemctl kill --signal=KILL lxcfs.service")
    host.wait_for("! cat /var/lib/lxcfs/proc/uptime", 30)
    host.fails("nagaya exec web01 -- cat /proc/meminfo")
    # Its unit takes the dead mount away only where fusermount is installed.
    host.run("systemctl stop lxcfs.service; umount -l /var/lib/lxcfs; systemctl reset-failed lxcfs.service || true")
    host.run("systemctl start lxcfs.service")
    # nagaya-lxcfs.service is started with it.
    host.wait_for("nagaya exec web01 -- cat /proc/meminfo /proc/uptime", 60)
    assert host.out(seen) == mounts
    assert info(host, "web01")["pid"] == pid


def template_unit(host: Host) -> None:
    host.run("nagaya create debian12 unit01")
    host.run("systemctl start nagaya@unit01.service", timeout=600)
    assert show(host, "nagaya@unit01.service", "ActiveState") == "active"
    assert info(host, "unit01")["ready"] is True
    host.wait_for("journalctl -u nagaya@unit01.service | grep -q 'Welcome to\\|Reached target\\|login:'", 60)
    before = info(host, "unit01")["pid"]
    host.attempt("nagaya exec unit01 -- systemctl reboot")
    host.wait_for(f"nagaya info unit01 --format json | grep '\"pid\"' | grep -qv ' {before},'", 120)
    assert show(host, "nagaya@unit01.service", "ActiveState") == "active"
    host.wait_for("nagaya exec unit01 -- systemctl is-system-running", 240)
    # A crash is answered by a new start.
    crashed = info(host, "unit01")["pid"]
    host.run(f"kill -9 {crashed}")
    host.wait_for(f"nagaya info unit01 --format json | grep '\"pid\"' | grep -qv -e ' {crashed},' -e null", 120)
    host.wait_for("systemctl is-active nagaya@unit01.service", 240)
    host.run("systemctl stop nagaya@unit01.service", timeout=300)
    assert show(host, "nagaya@unit01.service", "Result") == "success"
    assert info(host, "unit01")["state"] == "stopped"
    assert info(host, "unit01")["wanted_up"] is False


def autostart(host: Host) -> None:
    for name in ("off01", "stopped01"):
        host.run(f"nagaya launch debian12 {name} --wait", timeout=600)
    host.run("nagaya stop stopped01", timeout=300)
    host.attempt("nagaya exec off01 -- systemctl poweroff")
    host.wait_for("nagaya info off01 --format json | grep -q '\"stopped\"'", 120)
    host.run("nagaya exec web01 -- sh -c 'echo kept > /root/kept; sync'")
    host.reboot()
    host.wait_for("nagaya exec web01 -- true", 120)
    assert host.out("nagaya exec web01 -- cat /root/kept") == "kept"
    # The guest was shut down, not killed: its own journal says so.
    said = host.out("nagaya logs web01")
    assert "Power-Off" in said or "Powering off" in said or "System Power Off" in said, said[-3000:]
    states = {row["name"]: row["state"] for row in host.json("nagaya list --format json")}
    assert states["off01"] == states["stopped01"] == states["unit01"] == "stopped", states
    assert show(host, "nagaya.service", "ActiveState") == "active"

    host.power_cut()
    host.wait_for("nagaya exec web01 -- true", 120)
    states = {row["name"]: row["state"] for row in host.json("nagaya list --format json")}
    assert states["off01"] == states["stopped01"] == "stopped", states
    assert show(host, scope_of(host, "web01"), "ActiveState") == "active"
