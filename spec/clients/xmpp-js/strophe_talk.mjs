// Drive strophe.js over a WebSocket, in Node with the DOM and the socket that the library brings for it, by lines on standard
// input; see ../README.md (talk_spec.lua). What it does with the library is in strophe.mjs, which a browser runs too.

import { createRequire } from "node:module";
import path from "node:path";
import readline from "node:readline";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { drive } from "./strophe.mjs";

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
const { Strophe, $msg, $pres } = await import(pathToFileURL(require.resolve("strophe.js")));

const driver = drive({ Strophe, $msg, $pres }, args, (...fields) => process.stdout.write(`${fields.join("\t")}\n`));
const lines = readline.createInterface({ input: process.stdin });
lines.on("line", driver.obey);
lines.on("close", () => {
  setTimeout(() => process.exit(0), 1000);
  driver.end(() => process.exit(0));
});
