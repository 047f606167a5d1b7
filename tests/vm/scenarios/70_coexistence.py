"""Traffic passes and filters hold beside Docker, firewalld and ufw, whichever came first."""
from host import Host

HOSTS = ["debian12"]
INSTALLED = True
BEFORE_RELEASE = True

# A machine outside, behind an interface of the host's: what it reaches came through FORWARD.
WORLD = """
ip netns add world
ip link add world0 type veth peer name eth0 netns world
ip address add 198.51.100.1/24 dev world0
ip link set world0 up
ip -n world address add 198.51.100.2/24 dev eth0
ip -n world link set eth0 up
ip -n world link set lo up
ip -n world route add default via 198.51.100.1
systemd-run -q --unit world -p NetworkNamespacePath=/run/netns/world python3 -m http.server 7777 --directory /etc/ssh
"""


def run(host: Host) -> None:
    host.run("systemctl enable --now nagaya")
    host.run("nagaya network create dmz ipv4.address=10.20.0.1/24 ipv6.address=fd00:20::1/64 ipv4.nat=false")
    host.run(WORLD)
    for name, ip in (("web", "10.20.0.10"), ("shut", "10.20.0.11")):
        host.run(f"nagaya launch debian12 {name} --network dmz --ip {ip} --wait=running")
        host.run(f"nagaya exec {name} -- systemd-run -q python3 -m http.server 8000 || nagaya exec {name} -- true")
    host.run("nagaya firewall deny shut in any")
    passes(host, "alone")

    # They come after nagaya, which notices by itself.
    for package, start in (
        # Docker itself drops only where it was the one to switch forwarding on.
        ("docker.io", "systemctl start docker && iptables -P FORWARD DROP && ip6tables -P FORWARD DROP"),
        ("ufw", "ufw --force enable"),
        ("firewalld", "ufw --force disable && systemctl start firewalld"),
    ):
        host.install(package)
        host.run(start)
        passes(host, f"after {package}")
        found = host.out("nagaya doctor || true")
        assert {"docker.io": "Docker", "ufw": "ufw", "firewalld": "firewalld"}[package] in found, found
        if package == "docker.io":
            # Both drop all but what our chain lets pass, which somebody empties.
            host.run("iptables -F nagaya-fwd && ip6tables -F nagaya-fwd")
            passes(host, "after our chain was emptied")

    # And before it: the host boots with them.
    host.run("systemctl enable docker firewalld")
    host.reboot()
    host.run(WORLD)
    for name in ("web", "shut"):
        host.wait_for(f"nagaya exec {name} -- true", 180)
    passes(host, "after a boot")
    # firewall-cmd itself gives up on an answer after 25 seconds, which an emulated processor may need.
    host.run("systemctl reload firewalld")
    host.wait_for("firewall-cmd --state", 180)
    passes(host, "after firewalld has reloaded")
    host.run("systemctl restart docker")
    passes(host, "after Docker was restarted")

    # Emptied by somebody, it is whole again within five seconds.
    host.run("nft flush ruleset")
    host.wait_for("nft list table inet nagaya >/dev/null", 5)
    host.run("ip netns exec world ping -c 1 -W 2 10.20.0.10")
    assert not host.ok("ip netns exec world ping -c 1 -W 2 10.20.0.11")


def passes(host: Host, when: str) -> None:
    """Out of a guest and into one; what is denied stays so."""
    host.wait_for("nagaya exec web -- ping -c 1 -W 2 198.51.100.2", 10)
    host.wait_for("ip netns exec world ping -c 1 -W 2 10.20.0.10", 10)
    assert not host.ok("ip netns exec world ping -c 1 -W 2 10.20.0.11"), when
    host.run("nagaya exec shut -- ping -c 1 -W 2 198.51.100.2")
