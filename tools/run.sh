#!/bin/sh
# Starts a Prosody on loopback with Enjamb in it, two accounts and a room service, and stays in the foreground.
# usage: run.sh TREE DIR; ports from C2S_PORT and HTTP_PORT
set -eu
tree=$(cd "$1" && pwd)
mkdir -p "$2"
dir=$(cd "$2" && pwd)
prosody=${PROSODY:-prosody}

# The given port, or the next one above it that nobody uses. lua-socket comes with Prosody.
free_port() {
	lua5.4 - "$1" <<-"EOF"
		local socket, port = require "socket", tonumber(arg[1])
		while not socket.bind("127.0.0.1", port) do port = port + 1 end
		print(port)
	EOF
}
c2s=$(free_port "${C2S_PORT:-5222}") http=$(free_port "${HTTP_PORT:-5280}")

mkdir -p "$dir/data/localhost/accounts"
for user in juliet romeo; do
	account=$dir/data/localhost/accounts/$user.dat
	[ -e "$account" ] || echo "return { password = \"secret\" };" >"$account"
done
if ! [ -e "$dir/localhost.crt" ]; then
	openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=localhost -addext subjectAltName=DNS:localhost,DNS:rooms.localhost \
		-keyout "$dir/localhost.key" -out "$dir/localhost.crt" 2>/dev/null
fi
cat >"$dir/prosody.cfg.lua" <<EOF
-- Made anew by each 'make run'.
installer_plugin_path = "$tree"
data_path = "$dir/data"
pidfile = "$dir/prosody.pid"
run_as_root = true
interfaces = { "127.0.0.1" }
c2s_ports = { $c2s }
http_ports = { $http }
http_interfaces = { "127.0.0.1" }
https_ports = { }
s2s_ports = { }
modules_disabled = { "s2s" }
modules_enabled = {
	"roster", "saslauth", "tls", "disco", "carbons", "pep", "ping", "blocklist", "bookmarks", "vcard4", "mam", "csi_simple",
	"posix", "websocket", "bosh", "admin_shell", "smacks",
}
authentication = "internal_hashed"
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
consider_websocket_secure = true
consider_bosh_secure = true
certificates = "$dir"
ssl = { key = "$dir/localhost.key", certificate = "$dir/localhost.crt" }
log = { info = "*console", debug = "$dir/debug.log" }

VirtualHost "localhost"
	modules_enabled = { "minimix" }
Component "rooms.localhost" "muc"
	modules_enabled = { "muc_mam" }
EOF
cat <<EOF

Prosody with Enjamb, on loopback only. Connect any XMPP client to

    127.0.0.1 port $c2s     juliet@localhost  password: secret
                            romeo@localhost   password: secret
    (STARTTLS with a self-signed certificate; unencrypted is allowed too)
    WebSocket ws://127.0.0.1:$http/xmpp-websocket    BOSH http://127.0.0.1:$http/http-bind
    rooms at rooms.localhost

Configuration, data and debug log are in $dir. Ctrl-C ends it.

EOF
exec "$prosody" -F --config "$dir/prosody.cfg.lua"
