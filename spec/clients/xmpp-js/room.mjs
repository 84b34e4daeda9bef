// Drive @xmpp/client in a chat room by lines on standard input; see ../README.md.
// It has no plugin for rooms: the roster is what the presences that come add up to.

import { createRequire } from "node:module";
import path from "node:path";
import readline from "node:readline";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { webcrypto } from "node:crypto";

const { values: args } = parseArgs({
  options: {
    jid: { type: "string" },
    password: { type: "string" },
    host: { type: "string" },
    port: { type: "string" },
    verbose: { type: "boolean", default: false },
  },
});

const modules = process.env.ENJAMB_CLIENT_MODULES
  ?? path.dirname(fileURLToPath(import.meta.url));
const require = createRequire(path.join(modules, "package.json"));

process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";
process.removeAllListeners("warning");
globalThis.crypto ??= webcrypto;

const { client, xml, jid } = await import(pathToFileURL(require.resolve("@xmpp/client")));

const MUC = "http://jabber.org/protocol/muc";
const say = (...fields) => process.stdout.write(`${fields.join("\t")}\n`);

const address = jid(args.jid);
const entity = client({
  service: `xmpp://${args.host}:${args.port}`,
  domain: address.domain,
  resource: address.resource,
  username: address.local,
  password: args.password,
});

let room;
let nick;
let joining = null;
const occupants = new Set();

if (args.verbose) {
  entity.on("element", (element) => console.error("<", `${element}`));
  entity.on("send", (element) => console.error(">", `${element}`));
}
entity.on("error", (error) => {
  if (args.verbose) console.error("!", error);
});
entity.on("online", async (full) => {
  await entity.send(xml("presence"));
  say("ready", full.toString());
});

function onPresence(stanza, from) {
  const x = stanza.getChild("x", `${MUC}#user`);
  const codes = (x?.getChildren("status") ?? []).map((status) => status.attrs.code);
  if (stanza.attrs.type === "error") return say("failed", "presence", `${stanza}`);
  if (stanza.attrs.type === "unavailable") {
    occupants.delete(from.resource);
    if (codes.includes("110") && codes.includes("303")) {
      nick = x.getChild("item").attrs.nick;
    } else if (codes.includes("110")) {
      occupants.clear();
      say("left");
    }
    return undefined;
  }
  occupants.add(from.resource);
  if (codes.includes("110")) {
    if (joining) {
      nick = from.resource;
      joining.self = true;
    } else if (from.resource === nick) {
      say("renamed", nick);
    }
  }
  return undefined;
}

function onMessage(stanza, from) {
  const body = stanza.getChildText("body");
  if (body === null && stanza.getChild("subject") && joining?.self) {
    say("joined", nick, String(joining.history), stanza.getChildText("subject") ?? "");
    joining = null;
  } else if (body) {
    const late = stanza.getChild("delay", "urn:xmpp:delay");
    if (late && joining) joining.history += 1;
    say(late ? "history" : "heard", from.resource, stanza.attrs.id, body);
  }
}

entity.on("stanza", (stanza) => {
  const from = jid(stanza.attrs.from ?? args.jid);
  if (from.bare().toString() !== room) return;
  if (stanza.is("presence")) onPresence(stanza, from);
  else if (stanza.is("message") && stanza.attrs.type === "groupchat") onMessage(stanza, from);
});

const commands = {
  join(to, as) {
    room = to;
    joining = { self: false, history: 0 };
    return entity.send(xml("presence", { to: `${to}/${as}` },
      xml("x", { xmlns: MUC }, xml("history", { maxstanzas: "5" }))));
  },
  nick: (as) => entity.send(xml("presence", { to: `${room}/${as}` })),
  leave: () => entity.send(xml("presence", { to: `${room}/${nick}`, type: "unavailable" })),
  say: (text) => entity.send(
    xml("message", { type: "groupchat", to: room, id: `js-${Math.random()}` }, xml("body", {}, text)),
  ),
  roster: () => say("roster", ...[...occupants].sort((a, b) => (Buffer.compare(Buffer.from(a), Buffer.from(b))))),
  async ping() {
    const result = await entity.iqCaller.request(
      xml("iq", { type: "get", to: `${room}/${nick}` }, xml("ping", { xmlns: "urn:xmpp:ping" })),
    );
    say("pinged", result.attrs.type === "result" ? "yes" : "no");
  },
};

const lines = readline.createInterface({ input: process.stdin });
lines.on("line", async (line) => {
  const [command, ...fields] = line.split("\t");
  try {
    await commands[command](...fields);
  } catch (error) {
    say("failed", line, String(error));
  }
});
lines.on("close", async () => {
  entity.reconnect.stop();
  setTimeout(() => process.exit(0), 1000);
  await entity.stop().catch(() => {});
  process.exit(0);
});

entity.start().catch((error) => {
  console.error(error);
  process.exit(1);
});
