"""Networks with DHCP and names, and the firewall, of root and of an ordinary user, through a reboot."""
from host import Host

HOSTS = ["debian12"]
INSTALLED = True


def run(host: Host) -> None:
    host.run("systemctl enable --now nagaya nagaya-watch")
    host.run("usermod -aG nagaya ann && nagaya grant ann networks=2 ports=8000-8099")
    ann = host.logged_in("ann")
    for user, network, subnet in ((host, "dmz", "10.20.0"), (ann, "lab", "10.30.0")):
        user.import_template()
        user.run(
            f"nagaya network create {network} ipv4.address={subnet}.1/24 ipv6.address=fd00:{subnet[3:5]}::1/64"
            f" ipv4.dhcp=true ipv6.dhcp=true dns.domain={network}.example"
        )
        user.run(f"nagaya launch debian12 web --network {network} --ip {subnet}.10 -c boot.autostart=true --wait=network")
        user.run(f"nagaya launch debian12 db --network {network} --ip {subnet}.11 -c boot.autostart=true --wait=network")
        names(host, user, network, subnet)
        user.run("nagaya firewall default web in=deny")
        user.run("nagaya firewall allow web tcp 8000 --from 192.0.2.0/24")
        user.run("nagaya firewall allow web icmp")
        rules(host, user)
    pid = ann.json("nagaya info web --format json")["pid"]
    serve = f"systemd-run -q -p NetworkNamespacePath=/proc/{pid}/ns/net python3 -m http.server 80 --directory /etc/ssh"
    host.run(serve)
    said = ann.fails("nagaya forward add web tcp 9000:80", code=1)
    assert "port 9000" in said and "nagaya grant" in said, said
    ann.run("nagaya forward add web tcp 8001:80")
    forwarded(host)
    # One user's rules and machines are nothing to the other.
    assert not ann.ok("nagaya exec web -- timeout 3 bash -c 'echo > /dev/tcp/10.20.0.11/22'")
    ann.run("nagaya exec db -- ping -c 1 -W 5 10.30.0.10")
    ann.run("nagaya firewall block 10.30.0.11 --from web --for 1h")
    assert not ann.ok("nagaya exec db -- ping -c 1 -W 2 10.30.0.10")

    # What has died is there again, as are rules that somebody has emptied.
    host.run("pkill -KILL -x dnsmasq; nft flush ruleset")
    host.wait_for("nft list table inet nagaya >/dev/null && nft list table inet nagaya-1001 >/dev/null", 10)
    for user, network, subnet in ((host, "dmz", "10.20.0"), (ann, "lab", "10.30.0")):
        user.run("nagaya restart db")
        names(host, user, network, subnet)
    assert not ann.ok("nagaya exec db -- ping -c 1 -W 2 10.30.0.10"), "blocks are put back too"

    host.run("loginctl enable-linger ann")
    host.reboot()
    for user, network, subnet in ((host, "dmz", "10.20.0"), (ann, "lab", "10.30.0")):
        user.wait_for("nagaya exec web -- true && nagaya exec db -- true", 180)
        names(host, user, network, subnet)
        rules(host, user)
    assert not ann.ok("nagaya exec db -- ping -c 1 -W 2 10.30.0.10")


def names(host: Host, user, network: str, subnet: str) -> None:
    """One dnsmasq for the network, which is not root's, answers forward and reverse."""
    for lookup, answer in ((f"ahostsv4 web.{network}.example", f"{subnet}.10"), (f"hosts {subnet}.10", f"web.{network}.example")):
        user.wait_for(f"nagaya exec db -- getent {lookup}", 30)
        assert answer in user.out(f"nagaya exec db -- getent {lookup}")
    servers = host.out("ps -o user= -C dnsmasq").split()
    assert servers and "root" not in servers, servers


def rules(host: Host, user) -> None:
    listed = user.json("nagaya firewall rules --format json")
    assert [row["number"] for row in listed if row["target"] == "web"], listed
    table = "nagaya" if user is host else "nagaya-1001"
    assert "192.0.2.0/24" in host.out(f"nft list table inet {table}")
    address = user.json("nagaya info web --format json")["addresses"][0].split("/")[0]
    assert not user.ok(f"nagaya exec db -- timeout 3 bash -c 'echo > /dev/tcp/{address}/8000'")


def forwarded(host: Host) -> None:
    ask = "exec 3<>/dev/tcp/10.30.0.1/8001; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; head -n 1 <&3"
    host.wait_for(f'timeout 5 bash -c "{ask}" | grep -q "200 OK"', 20)
