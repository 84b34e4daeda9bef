#!/bin/sh
# Builds Prosody of a checkout and installs it to /usr/local, where its prosodyctl is found before that of Debian. Run in a chroot which has
# Debian's, for the user and the Lua libraries; the checkout is at /prosody.
set -eu
cp -r /prosody /tmp/build
cd /tmp/build
# What Prosody says it is, where its own version control is not there to ask.
[ -e .hg ] || [ -e .hg_archival.txt ] || [ -e prosody.release ] || echo trunk >prosody.release
./configure --lua-version=5.4 --with-lua-include=/usr/include/lua5.4 --runwith=lua5.4 --idn-library=icu --prefix=/usr/local \
	--sysconfdir=/etc/prosody --datadir=/var/lib/prosody
make -s
make -s install
# Debian's configuration is for its own; one like it is what a host needs here.
cat >/etc/prosody/prosody.cfg.lua <<"END"
pidfile = "/run/prosody/prosody.pid"
modules_enabled = { "roster", "saslauth", "tls", "disco", "carbons", "pep", "blocklist", "smacks", "csi_simple", "ping", "posix" }
log = { info = "/var/log/prosody/prosody.log" }
Include "conf.d/*.cfg.lua"
END
chown root:prosody /etc/prosody/prosody.cfg.lua
