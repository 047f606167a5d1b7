#!/bin/sh
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
    systemctl reload dbus.service || systemctl reload dbus-broker.service || :
fi
exit 0
