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

if (args.verbose) client.on("raw:*", (direction, data) => console.error(direction, data));

function comeAlive(...words) {
  say(...words);
  live = true;
  const lines = waiting;
  waiting = [];
  lines.forEach(obey);
}

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
