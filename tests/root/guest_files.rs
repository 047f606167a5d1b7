//! What a guest finds at a boot of what the one before has left, and what it may change.

use super::host::{Host, until};

/// SIGRTMIN+5: what makes a systemd reboot.
fn reboot(host: &Host, name: &str) {
    let boots = host.info(name)["boots"].as_u64();
    host.nagaya(&["exec", name, "--", "kill", "-39", "1"]);
    until(30, "another boot", || host.info(name)["boots"].as_u64() > boots);
    until(30, "programs run again", || host.nagaya(&["exec", name, "--", "true"]).status.success());
}

#[test]
fn a_guest_comes_up_again_whatever_it_has_left() {
    let host = Host::new();
    host.launch("web");
    let address = host.address("web");
    // As the halt scripts of sysvinit and busybox leave their root; with files of ours to be written.
    host.sh("web", "echo readonly > /etc/behave; rm /etc/hostname /etc/hosts");
    host.sh("web", "ip link set eth0 down; ip link set eth0 name wan0 address 02:00:00:00:00:99 mtu 1280");
    reboot(&host, "web");
    assert_eq!(host.sh("web", "touch /root/new; hostname; cat /etc/hostname"), "web\nweb");
    assert!(host.sh("web", "ip address show eth0").contains(&address));
    super::host::run_tool("ping", &["-c1", "-W2", &address]);
    // Nor does it stay down for what cannot be written.
    host.sh(
        "web",
        "rm /etc/resolv.conf; mkdir /etc/resolv.conf; rm /etc/hostname; ln -s /no/where /etc/hostname",
    );
    reboot(&host, "web");
    assert!(host.sh("web", "ls -d /etc/resolv.conf/.").contains("/etc/resolv.conf"));
    let told = host.ok(&["logs", "web"]);
    assert!(told.contains("[nagaya] cannot write the guest's /etc/resolv.conf: "), "{told}");
}

#[test]
fn what_a_customer_changes_stays() {
    let host = Host::new();
    host.launch("web");
    host.sh("web", "echo mail.customer.example > /etc/hostname; echo options timeout:1 >> /etc/resolv.conf");
    reboot(&host, "web");
    assert_eq!(host.sh("web", "hostname"), "mail.customer.example");
    assert!(host.sh("web", "cat /etc/hosts").contains("127.0.1.1 mail.customer.example mail"));
    assert!(host.sh("web", "cat /etc/resolv.conf").ends_with("options timeout:1"));
    host.ok(&["config", "set", "web", "hostname=set.customer.example"]);
    host.ok(&["restart", "--force", "web"]);
    assert_eq!(host.sh("web", "hostname"), "set.customer.example");
    assert!(host.sh("web", "cat /etc/resolv.conf").ends_with("options timeout:1"));
}

#[test]
fn a_guest_has_the_settings_of_a_machine_and_may_set_its_own() {
    let host = Host::new();
    host.launch("web");
    let settings = "cat /proc/sys/net/ipv4/ping_group_range /proc/sys/net/ipv4/ip_forward";
    let settings = host.sh("web", settings);
    assert_eq!(settings.split_whitespace().collect::<Vec<_>>(), ["0", "65535", "0"]);
    // Its own IPC namespace's, and no others (Linux 5.19).
    let own = "echo 16384 > /proc/sys/kernel/msgmax && echo 12 > /proc/sys/fs/mqueue/msg_max && \
               cat /proc/sys/kernel/msgmax /proc/sys/fs/mqueue/msg_max";
    assert_eq!(host.sh("web", own), "16384\n12");
    for name in ["kernel/core_pattern", "vm/swappiness", "fs/file-max", "kernel/printk"] {
        let said = host.sh("web", &format!("(echo 1 > /proc/sys/{name}) 2>&1 || true"));
        assert!(said.contains("Read-only file system"), "{name}: {said}");
    }
}
