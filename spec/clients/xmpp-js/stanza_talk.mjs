// Drive stanza.js over a WebSocket by lines on standard input; see ../README.md (talk_spec.lua).

import { createRequire } from "node:module";
import path from "node:path";
import readline from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const { values: args } = parseArgs({
  options: {
    jid: { type: "string" },
    password: { type: "string" },
    url: { type: "string" },
    verbose: { type: "boolean", default: false },
  },
});

const modules = process.env.ENJAMB_CLIENT_MODULES ?? path.dirname(fileURLToPath(import.meta.url));
const require = createRequire(path.join(modules, "package.json"));
const { createClient } = require("stanza");

// It writes each socket error to the console.
if (!args.verbose) console.error = () => {};
const say = (...fields) => process.stdout.write(`${fields.join("\t")}\n`);

const client = createClient({
  jid: args.jid,
  resource: args.jid.split("/")[1],
  password: args.password,
  transports: { websocket: args.url },
  autoReconnect: true,
  maxReconnectBackoff: 0.3,
});

// It asks for acks without looking whether that could be written, and a promise that nobody waits for ends Node.
process.on("unhandledRejection", (error) => {
  if (error.message !== "Socket closed") throw error;
});

let live = false;
let room;
let waiting = [];

// A write into a socket that is closing has the library miss that it closed: its stream has failed by then and never ends. Its
// keep-alive would find that, in time.
let gone;
setInterval(() => {
  const { transport } = client;
  if (transport?.socket?.readyState !== 3) gone = undefined;
  else if (gone !== transport) gone = transport;
  else transport.disconnect(false);
}, 300);

if (args.verbose) client.on("raw:*", (direction, data) => console.error(direction, data));

function comeAlive(...words) {
  say(...words);
  live = true;
  const lines = waiting;
  waiting = [];
  lines.forEach(obey);
}

// The library (12.22.1) does not keep what it has sent again, but counts on as if it did: after the next cut it takes for handled
// as many as it had sent again before (Client.js: a replay is not tracked). So count as the server does, and tell what it forgot.
const bodies = new Map(); // by id, of messages that are not known to be handled
let written = []; // ids of all that the server counts
let unhandled = new Set(); // of these messages, what is not sent again yet
client.on("message:sent", (message) => bodies.set(message.id, message.body));
client.on("raw:outgoing", (data) => {
  if (/^<enable /.test(data)) written = [];
  if (!/^<(message|presence|iq) /.test(data)) return;
  const id = data.match(/ id="([^"]*)"/)?.[1];
  written.push(id);
  if (unhandled.delete(id)) return;
  unhandled.forEach((forgotten) => say("forgotten", bodies.get(forgotten))); // something new: it has sent again all that it will
  unhandled.clear();
});
client.on("raw:incoming", (data) => {
  const h = /^<resumed /.test(data) && data.match(/ h=['"](\d+)/);
  if (!h) return;
  written.splice(Number(h[1]));
  written.forEach((id) => bodies.delete(id));
  unhandled = new Set(bodies.keys());
});

client.on("session:started", () => {
  client.sendPresence();
  comeAlive("ready", client.jid);
});
client.on("stream:management:resumed", () => comeAlive("resumed"));
client.on("stanza:failed", ({ kind }) => say("failed", kind));
client.on("disconnected", () => {
  if (live) say("disconnected");
  live = false;
});
client.on("message", (message) => {
  if (!message.body) return;
  if (message.type === "error") say("bounced", message.body);
  else if (message.type === "groupchat") say("heard", message.from.split("/")[1], message.body);
  else say("message", message.body);
});

const commands = {
  async join(to, nick) {
    room = to;
    const presence = await client.joinRoom(to, nick);
    say("joined", presence.from.split("/")[1]);
  },
  say: (body) => client.sendMessage({ to: room, type: "groupchat", body }),
  tell: (to, body) => client.sendMessage({ to, type: "chat", body }),
};

function obey(line) {
  if (!live) {
    waiting.push(line);
    return;
  }
  const [command, ...fields] = line.split("\t");
  Promise.resolve(commands[command](...fields)).catch((error) => say("failed", line, String(error)));
}

const lines = readline.createInterface({ input: process.stdin });
lines.on("line", obey);
lines.on("close", () => {
  setTimeout(() => process.exit(0), 1000);
  client.on("disconnected", () => process.exit(0));
  client.disconnect();
});

client.connect();
