#!/bin/sh
# Makes a slim Debian into one that runs Prosody with Enjamb in the foreground: the steps of Containerfile.
# usage: container.sh DEB, as root in the image
set -eu
export DEBIAN_FRONTEND=noninteractive
# There is no init that could start services.
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
apt-get update -q
apt-get install -qy --no-install-recommends "$(realpath "$1")" lua-unbound ca-certificates
rm -rf /var/lib/apt/lists/* /usr/sbin/policy-rc.d

# Hosts are for who runs it, in conf.d.
rm -f /etc/prosody/conf.d/*
cat >/etc/prosody/prosody.cfg.lua <<"END"
-- Prosody with Enjamb in a container. Hosts are in conf.d.
modules_enabled = {
	"blocklist", "bookmarks", "carbons", "csi_simple", "dialback", "disco", "limits", "mam", "pep", "ping", "private", "roster", "saslauth",
	"smacks", "tls", "vcard4", "vcard_legacy",
}
gc = { mode = "generational" }
pidfile = "/run/prosody/prosody.pid"
log = { info = "*console" }
certificates = "certs"
limits = { c2s = { rate = "10kb/s" }, s2sin = { rate = "30kb/s" } }

Include "conf.d/*.cfg.lua"
END
chown root:prosody /etc/prosody/prosody.cfg.lua
chmod 640 /etc/prosody/prosody.cfg.lua
install -d -o prosody -g prosody /run/prosody
