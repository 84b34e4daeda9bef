// Drive @xmpp/client through a connection that breaks; see ../README.md.
// The packages are found under the folder named by ENJAMB_CLIENT_MODULES, by
// default the one this file is in.

import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { webcrypto } from "node:crypto";

const { values: args } = parseArgs({
  options: {
    jid: { type: "string" },
    password: { type: "string" },
    host: { type: "string" },
    port: { type: "string" },
    url: { type: "string" }, // ws: or wss:, instead of host and port
    to: { type: "string" },
    prefix: { type: "string" },
    receive: { type: "string" },
    send: { type: "string" },
    interval: { type: "string" },
    verbose: { type: "boolean", default: false },
  },
});

const modules = process.env.ENJAMB_CLIENT_MODULES
  ?? path.dirname(fileURLToPath(import.meta.url));
const require = createRequire(path.join(modules, "package.json"));

// Self-signed certificate, and Node's warning about accepting it kept quiet.
process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";
process.removeAllListeners("warning");

// What the library takes for granted and Node 18 does not have as globals (the
// WebSocket: Node 20 neither).
globalThis.crypto ??= webcrypto;
const { default: WebSocket } = await import(pathToFileURL(require.resolve("ws")));
globalThis.WebSocket = WebSocket;

const { client, xml, jid } = await import(pathToFileURL(require.resolve("@xmpp/client")));

const SM = "urn:xmpp:sm:3";
const say = (...words) => process.stdout.write(`${words.join(" ")}\n`);

const address = jid(args.jid);
const entity = client({
  service: args.url ?? `xmpp://${args.host}:${args.port}`,
  domain: address.domain,
  resource: address.resource,
  username: address.local,
  password: args.password,
});
const { streamManagement, reconnect } = entity;
reconnect.delay = 300;

let live = false;
let received = 0;
let sent = 0;
let wake = () => {};
let retry = []; // messages whose send() failed

if (args.verbose) {
  entity.on("element", (element) => console.error("<", `${element}`));
  entity.on("send", (element) => console.error(">", `${element}`));
  entity.on("status", (status) => console.error("=", status));
}
entity.on("error", (error) => {
  if (args.verbose) console.error("!", error);
});

entity.on("nonza", (element) => {
  if (element.is("enabled", SM)) {
    // Not before the library has set its counters: it does so a few
    // microtasks after this event, and forgets the stanzas that it has
    // counted by then.
    setImmediate(async () => {
      await entity.send(xml("presence"));
      up("ready", entity.jid);
    });
  } else if (element.is("failed", SM)) {
    say("failed");
  }
});

streamManagement.on("resumed", () => {
  // Emitted before the library marks itself online.
  setImmediate(async () => {
    const again = retry;
    retry = [];
    for (const message of again) {
      say("retry", message.getChildText("body"));
      await deliver(message);
    }
    up("resumed");
  });
});

entity.on("disconnect", () => {
  if (live) say("disconnected");
  live = false;
});

function up(...words) {
  say(...words);
  live = true;
  wake();
}

entity.on("stanza", (stanza) => {
  if (!stanza.is("message")) return;
  if (stanza.attrs.type === "error") return say("bounced", stanza.getChildText("body"));
  say("message", stanza.getChildText("body"));
  received += 1;
  checkDone();
});

function checkDone() {
  if (received === Number(args.receive) && sent === Number(args.send)) say("done");
}

// The library takes a stanza into its SM queue only once it is written, so one
// whose writing failed is the application's to send again.
async function deliver(message) {
  try {
    await entity.send(message);
  } catch {
    retry.push(message);
  }
}

async function sendNumbered() {
  for (let number = 1; number <= Number(args.send); number += 1) {
    await new Promise((resolve) => setTimeout(resolve, Number(args.interval)));
    while (!live) {
      await new Promise((resolve) => {
        wake = resolve;
      });
    }
    const name = `${args.prefix}${number}`;
    await deliver(
      xml("message", { type: "chat", to: args.to, id: name }, xml("body", {}, name)),
    );
    sent = number;
  }
  checkDone();
}

// Until standard input is closed.
process.stdin.resume();
process.stdin.on("end", async () => {
  reconnect.stop();
  setTimeout(() => process.exit(0), 1000);
  await entity.stop().catch(() => {});
  process.exit(0);
});

entity.start().catch((error) => {
  console.error(error);
  process.exit(1);
});
sendNumbered();
