#!/bin/sh
# Makes a Debian tree a test host; mmdebstrap runs it. $1: the step, $2: the tree.
# KEY is the path of the ssh key that everybody on the host accepts.
set -eu
step=$1 tree=$2

# Before the packages: an initrd of the few modules for disk and network is unpacked in no time.
before_packages() {
  mkdir -p "$tree/etc/initramfs-tools/conf.d" "$tree/usr/share/initramfs-tools/modules.d"
  printf 'MODULES=list\nCOMPRESS=zstd\n' >"$tree/etc/initramfs-tools/conf.d/vm"
  printf '%s\n' virtio_pci virtio_blk virtio_net ext4 crc32c_generic crc32c_intel >"$tree/usr/share/initramfs-tools/modules.d/vm"
}

users() {
  chroot "$tree" useradd --create-home --shell /bin/bash --uid 1001 ann
  chroot "$tree" useradd --create-home --shell /bin/bash --uid 1002 bob
  for home in root home/ann home/bob; do
    mkdir -p "$tree/$home/.ssh"
    cp "$KEY.pub" "$tree/$home/.ssh/authorized_keys"
    # The hosts of a pair log in to one another.
    cp "$KEY" "$tree/$home/.ssh/id_ed25519"
    chmod 0700 "$tree/$home/.ssh"
    chmod 0600 "$tree/$home/.ssh/id_ed25519"
  done
  chroot "$tree" chown -R ann: /home/ann
  chroot "$tree" chown -R bob: /home/bob
  printf 'StrictHostKeyChecking accept-new\n' >"$tree/etc/ssh/ssh_config.d/vm.conf"
}

# Packages that scenarios install themselves, for it matters when they come: a repository, the only one
# that apt knows. Not compressed, as that would be most of the time on an emulated processor.
archives() {
  debs="$tree/srv/debs"
  mkdir -p "$debs/partial"
  for package in docker.io firewalld ufw; do
    chroot "$tree" apt-get install --yes -qq --download-only -o Dir::Cache::archives=/srv/debs "$package"
  done
  rm -rf "$debs/partial" "$debs/lock"
  for deb in "$debs"/*.deb; do
    dpkg-deb --raw-extract "$deb" "$debs/content"
    dpkg-deb -Znone --build "$debs/content" "$deb" >/dev/null
    rm -rf "$debs/content"
    dpkg-deb --field "$deb"
    printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "${deb##*/}" "$(stat -c %s "$deb")" "$(sha256sum <"$deb" | cut -d ' ' -f 1)"
  done >"$debs/Packages"
  chmod -R a+rX "$debs"
  rm -f "$tree"/etc/apt/sources.list "$tree"/etc/apt/sources.list.d/*
  echo 'deb [trusted=yes] file:/srv/debs ./' >"$tree/etc/apt/sources.list.d/debs.list"
  chroot "$tree" apt-get update -q
}

# Addresses without waiting for DHCP; the cards are told apart by their hardware addresses.
network() {
  cat >"$tree/etc/systemd/network/10-ssh.network" <<TEXT
[Match]
MACAddress=52:54:00:00:01:01 52:54:00:00:01:02
[Network]
Address=10.0.2.15/24
Gateway=10.0.2.2
TEXT
  for number in 1 2; do
    cat >"$tree/etc/systemd/network/10-link$number.network" <<TEXT
[Match]
MACAddress=52:54:00:00:02:0$number
[Network]
Address=10.77.0.$number/24
TEXT
  done
  printf '%s\n' '127.0.0.1 localhost' '::1 localhost' '10.77.0.1 host-a' '10.77.0.2 host-b' >"$tree/etc/hosts"
  : >"$tree/etc/resolv.conf"
  rm -f "$tree/etc/hostname"
}

units() {
  chroot "$tree" systemctl enable systemd-networkd.service
  # Nothing that only costs time, or that changes the host while a test looks at it.
  chroot "$tree" systemctl mask apt-daily.timer apt-daily-upgrade.timer man-db.timer dpkg-db-backup.timer \
    e2scrub_all.timer e2scrub_reap.service fstrim.timer logrotate.timer systemd-networkd-wait-online.service
}

finish() {
  echo 'LANG=C.UTF-8' >"$tree/etc/default/locale"
  cat >"$tree/etc/fstab" <<TEXT
LABEL=vm-root / ext4 defaults 0 0
LABEL=vm-media /srv/media ext4 ro,nofail 0 0
TEXT
  mkdir -p "$tree/srv/media"
  # Empty, not absent: every boot of the image is another machine, and none is a first boot.
  : >"$tree/etc/machine-id"
  rm -f "$tree/var/lib/dbus/machine-id"
}

case $step in
  before-packages) before_packages ;;
  customize)
    users
    archives
    network
    units
    finish
    ;;
  *) echo "host-image.sh: no step '$step'" >&2; exit 2 ;;
esac
