"""Two ordinary users neither see nor harm each other; grants bound them; polkit's refusal is final."""
from host import Host

HOSTS = ["debian12"]
INSTALLED = True
SHARES_HOST = True


def run(host: Host) -> None:
    ann, bob = host.logged_in("ann"), host.logged_in("bob")
    # Bob is in no group: polkit would ask for an administrator's password, and nobody can type it.
    bob.fails("nagaya list", code=1, says="nagaya grant bob allow=true")
    host.run("test ! -e /var/lib/nagaya-users/1002")
    host.run("usermod -aG nagaya ann && nagaya grant bob allow=true containers=1 memory=512MiB processes=300 cpu=150")
    for user in (ann, bob):
        user.import_template()
        user.run("nagaya launch debian12 one")
    seen = {user.name: user.json("nagaya info one --format json") for user in (ann, bob)}
    assert seen["ann"]["cgroup"] != seen["bob"]["cgroup"]
    bob.run("nagaya delete --force one")
    assert ann.json("nagaya info one --format json")["pid"] == seen["ann"]["pid"]
    bob.run("nagaya launch debian12 one")
    bounds(host, bob)
    stored(host, ann, bob)
    harm(host, ann, bob, seen["ann"])
    host.run("nagaya grant bob allow=false")
    bob.fails("nagaya restart --force one", code=1, says="barred")
    host.run("nagaya grant bob allow=true")


def bounds(host: Host, bob) -> None:
    bob.fails("nagaya launch debian12 two", code=1, says="as your grant allows (1 of 1)")
    slice_dir = "/sys/fs/cgroup/nagaya.slice/nagaya-u1002.slice"
    assert host.out(f"cat {slice_dir}/memory.max") == str(512 << 20)
    assert host.out(f"cat {slice_dir}/pids.max") == "300"
    assert host.out(f"cat {slice_dir}/cpu.max").split()[0] == "150000"
    bob.run("nagaya config set one limits.memory=256MiB")
    assert host.out(f"cat {slice_dir}/nagaya-u1002-*.scope/payload/memory.max") == str(256 << 20)
    bob.fails("nagaya config set one limits.memory=1GiB", code=1, says="above your grant")
    bob.fails("nagaya config set one limits.processes=1000", code=1, says="above your grant")
    assert host.out(f"cat {slice_dir}/nagaya-u1002-*.scope/payload/memory.max") == str(256 << 20)


def stored(host: Host, ann, bob) -> None:
    """A pool where the administrator says, closed to the other user, and a volume."""
    host.run("mkdir -p /srv/pools")
    ann.fails("nagaya storage create fast /srv/pools", code=1, says="granted")
    host.run("nagaya grant ann pools=/srv/pools")
    ann.run("nagaya storage create fast /srv/pools")
    ann.run("nagaya storage volume create fast mail")
    ann.run("nagaya launch debian12 two --storage fast -d mail,type=disk,pool=fast,source=mail,path=/srv/mail")
    ann.run("nagaya exec two -- sh -c 'echo dear >/srv/mail/one'")
    assert host.out("cat /srv/pools/nagaya-1001/pool/volumes/mail/one") == "dear"
    bob.fails("ls /srv/pools/nagaya-1001/pool")
    bob.fails("nagaya storage create fast /srv/pools", code=1, says="granted")
    ann.run("nagaya delete --force two && nagaya storage volume delete fast mail && nagaya storage delete fast")
    host.fails("ls /srv/pools/nagaya-1001")


def harm(host: Host, ann, bob, of_ann: dict) -> None:
    bob.fails(f"kill -9 {of_ann['pid']}")
    bob.fails(f"ls /proc/{of_ann['pid']}/root/ /var/lib/nagaya-users/1001 /run/nagaya-users/1001")
    bob.fails(f"echo 1 > {of_ann['cgroup']}/payload/cgroup.kill")
    bob.fails("nagaya --owner ann list", code=1, says="only root")
    address = of_ann["addresses"][0].split("/")[0]
    host.run(f"ping -c 1 -W 5 {address}")
    bob.fails(f"nagaya exec one -- timeout 5 bash -c 'echo > /dev/tcp/{address}/9'")
    said = bob.fails(f"nagaya exec one -- timeout 5 bash -c 'echo > /dev/tcp/{address}/9'")
    # A refused connection would be an answer; there is to be none.
    assert "refused" not in said, said
    assert ann.out("nagaya exec one -- echo here") == "here"
