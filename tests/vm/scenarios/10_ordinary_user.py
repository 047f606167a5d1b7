"""An ordinary user has machines after installing the package and joining a group: limits, logout, reboot."""
from host import Host

HOSTS = ["debian12", "debian13"]


def run(host: Host) -> None:
    host.install_package()
    ann = host.user("ann")
    said = ann.fails("nagaya list", code=1, says="adduser ann nagaya")
    assert "password" not in said.lower(), said
    host.run("adduser ann nagaya || usermod -aG nagaya ann")
    ann.import_template()
    ann.run("nagaya launch debian12 mine --wait=network")
    assert ann.out("nagaya exec mine -- id -u") == "0"
    no_right_is_left_open(host)
    it_is_a_unit(host, ann)

    # What ssh, cron, su and a login shell start are the same machines.
    host.run("su ann -c 'nagaya stop mine'")
    host.run("su - ann -c 'nagaya start mine'")
    cron = "* * * * * ann /usr/bin/nagaya launch debian12 by-cron > /tmp/by-cron.log 2>&1 && rm -f /etc/cron.d/launch\n"
    host.run("cat > /etc/cron.d/launch", input=cron)
    ann.wait_for("nagaya exec by-cron -- true", 120)
    host.run("rm -f /etc/cron.d/launch")

    # Each of these commands was a login of its own; what they started has outlived them all.
    host.run("loginctl terminate-user ann || true")
    before = pids(ann)
    assert len(before) == 2 and all(before.values()), before
    # Stopped by its owner, or powered off from inside, it stays so; what ran does so again.
    ann.run("nagaya launch debian12 off --wait=running --timeout 240")
    ann.run("nagaya stop by-cron")
    ann.run("nagaya exec off -- systemctl poweroff || true")
    ann.wait_for("nagaya list --format csv | grep -q '^off,.*stopped'", 60)
    host.reboot()
    ann.wait_for("nagaya exec mine -- true", 120)
    assert states(ann) == {"mine": "running", "by-cron": "stopped", "off": "stopped"}, states(ann)


def states(ann) -> dict[str, str]:
    return {row["name"]: row["state"] for row in ann.json("nagaya list --format json")}


def pids(ann) -> dict[str, int]:
    return {row["name"]: row["pid"] for row in ann.json("nagaya list --format json")}


def it_is_a_unit(host: Host, ann) -> None:
    [row] = ann.json("nagaya list --format json")
    unit = f"nagaya-u1001-{row['id']}.scope"
    cgroup = host.out(f"cat /proc/{row['pid']}/cgroup")
    assert f"/nagaya.slice/nagaya-u1001.slice/{unit}/payload" in cgroup, cgroup
    assert host.out(f"systemctl show -P Delegate {unit}") == "yes"
    assert host.out(f"systemctl show -P Description {unit}") == "Container mine of ann"
    first = host.out(f"awk '{{print $2}}' /proc/{row['pid']}/uid_map")
    assert host.out(f"stat -c %u /proc/{row['pid']}") == first != "0"


def no_right_is_left_open(host: Host) -> None:
    """No setuid program comes with the package, and hostd has no capability."""
    assert host.out("dpkg -L nagaya | xargs -d '\\n' stat -c '%a %n' 2>/dev/null | grep -E '^[2467][0-7]{3} ' || true") == ""
    pid = host.out("systemctl show -P MainPID nagaya-hostd.service")
    assert pid != "0", "hostd does not run"
    assert host.out(f"awk '/^CapEff|^NoNewPrivs/ {{print $2}}' /proc/{pid}/status").split() == ["0000000000000000", "1"]
