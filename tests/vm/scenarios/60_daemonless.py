"""Without hostd an ordinary user has machines below the user's own systemd, or is told which two ways lead out."""
from host import Host

HOSTS = ["debian12"]
INSTALLED = True


def run(host: Host) -> None:
    # A host on which nobody has installed the service: only the program is there.
    host.run("systemctl disable --now nagaya.service nagaya-broker.socket; systemctl mask nagaya-hostd.service")
    host.run("rm /usr/share/dbus-1/system-services/org.nagaya.Host1.service && busctl call org.freedesktop.DBus / org.freedesktop.DBus ReloadConfig")
    host.run("grep -q ^ann: /etc/subuid || usermod --add-subuids 300000-365535 --add-subgids 300000-365535 ann")
    ann = host.user("ann")
    refused_without_ids(host)
    ann.import_template()
    # Neither a systemd of the user's nor a cgroup that may be written.
    host.run("grep -q ^bob: /etc/subuid || usermod --add-subuids 400000-465535 --add-subgids 400000-465535 bob")
    host.run("su bob -c 'nagaya template import /srv/media/debian12.tar.zst --name debian12'", timeout=600)
    said = host.fails("su bob -c 'nagaya launch debian12 nowhere'", says="Two ways lead out")
    assert "loginctl enable-linger bob" in said and "nagaya-hostd" in said, said
    host.fails("su bob -c 'nagaya info nowhere'", code=1)

    host.run("loginctl enable-linger ann")
    ann.run("nagaya launch debian12 mine --wait=running", timeout=600)
    row = ann.json("nagaya info mine --format json")
    cgroup = host.out(f"cat /proc/{row['pid']}/cgroup")
    assert "/user@1001.service/" in cgroup and ".scope/payload" in cgroup, cgroup
    start = int(host.out("grep ^ann: /etc/subuid | head -1 | cut -d: -f2"))
    assert host.out(f"awk '{{print $2}}' /proc/{row['pid']}/uid_map") == str(start)
    assert ann.out("nagaya exec mine -- id -u") == "0"
    assert "nagaya" not in host.out("ip -o link; nft list tables")
    ann.run("nagaya doctor || true")
    assert any("hostd" in note for note in row["notes"]), row["notes"]

    # It outlives the logins, and memory can be limited where the user's systemd has been given the controller.
    assert ann.out("nagaya exec mine -- echo here") == "here"
    ann.run("nagaya config set mine limits.memory=256MiB")
    assert host.out(f"cat {row['cgroup']}/payload/memory.max") == str(256 << 20)

    ann.run("systemctl --user enable nagaya.service")
    ann.run("systemctl --user start nagaya.service")
    host.reboot()
    ann.wait_for("nagaya exec mine -- true", 120)
    ann.run("nagaya stop mine")
    ann.run("nagaya setup --remove --yes")
    host.run("test ! -e /home/ann/.local/share/nagaya")


def refused_without_ids(host: Host) -> None:
    host.run("useradd --create-home --key SUB_UID_COUNT=0 --key SUB_GID_COUNT=0 nobodys; sed -i /^nobodys:/d /etc/subuid /etc/subgid")
    host.fails("su nobodys -c 'nagaya launch debian12 x'", says="add the line 'nobodys:")
    host.run("userdel --remove nobodys 2>/dev/null")
