#!/bin/sh
# Accounts, directories and services. $1 is 1 at the first installation, more at an upgrade.
# Restarts nothing that holds containers.
systemd-sysusers nagaya.conf || :
systemd-tmpfiles --create nagaya.conf || :
if [ "$1" -eq 1 ]; then
    systemctl --no-reload preset nagaya-broker.socket nagaya.service nagaya-lxcfs.service nagaya-watch.service nagaya-schedule.timer || :
fi
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
    # They are to leave our links alone from the first on. udev reads its rules by itself.
    if systemctl --quiet is-active systemd-networkd.service; then networkctl reload || :; fi
    if systemctl --quiet is-active NetworkManager.service; then nmcli general reload conf || :; fi
    /usr/lib/systemd/systemd-sysctl --prefix=/net/ipv4/neigh --prefix=/net/ipv6/neigh || :
    systemctl reload dbus.service || systemctl reload dbus-broker.service || :
    # Starting what runs does nothing; what the administrator or the distribution left off stays off.
    for unit in nagaya-broker.socket nagaya.service nagaya-watch.service nagaya-schedule.timer; do
        if systemctl is-enabled --quiet "$unit"; then systemctl start "$unit" || :; fi
    done
    if [ "$1" -gt 1 ]; then
        systemctl try-restart nagaya-hostd.service nagaya-broker.service nagaya-watch.service || :
    fi
fi
# What firewalld does not know it has not read yet.
if command -v firewall-cmd >/dev/null && firewall-cmd --quiet --state 2>/dev/null; then
    firewall-cmd --get-zones | grep -qw nagaya || firewall-cmd --quiet --reload || :
fi
exit 0
