#!/bin/sh
# $1 is 0 at a removal, more at an upgrade, which stops nothing.
if [ "$1" -eq 0 ]; then
    if [ -d /run/systemd/system ]; then
        systemctl stop nagaya-schedule.timer nagaya-watch.service nagaya.service 'nagaya@*.service' || :
        systemctl stop nagaya-hostd.service nagaya-broker.socket nagaya-broker.service || :
    fi
    systemctl --no-reload disable nagaya-broker.socket nagaya.service nagaya-lxcfs.service nagaya-watch.service nagaya-schedule.timer || :
fi
exit 0
