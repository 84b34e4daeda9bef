// Drive strophe.js in a headless Chromium by lines on standard input; see ../README.md (talk_spec.lua). What it does with the
// library is in strophe.mjs, which Node runs too. The browser is told by the DevTools protocol, and tells by a binding.

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import readline from "node:readline";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const { values: args } = parseArgs({
  options: {
    jid: { type: "string" },
    password: { type: "string" },
    url: { type: "string" },
    verbose: { type: "boolean", default: false },
  },
});

const here = path.dirname(fileURLToPath(import.meta.url));
const modules = process.env.ENJAMB_CLIENT_MODULES ?? here;
const require = createRequire(path.join(modules, "package.json"));
const { default: WebSocket } = await import(pathToFileURL(require.resolve("ws")));
const library = path.join(modules, "node_modules", "strophe.js", "dist", "strophe.umd.min.js");

// The page has an origin, as in life: strophe.js keeps what it needs to resume in sessionStorage.
const pages = {
  "/": ["text/html", "<!doctype html><title>talk</title><script src='strophe.js'></script><script type='module'>"
    + "import { drive } from './strophe.mjs';"
    + "window.begin = (args) => { window.driver = drive(window, args, (...fields) => window.tell(fields.join('\\t'))); };"
    + "window.tell('loaded');</script>"],
  "/strophe.js": ["text/javascript", readFileSync(library)],
  "/strophe.mjs": ["text/javascript", readFileSync(path.join(here, "strophe.mjs"))],
};
const server = http.createServer((request, response) => {
  const [type, text] = pages[request.url] ?? ["text/plain", ""];
  response.writeHead(pages[request.url] ? 200 : 404, { "Content-Type": type });
  response.end(text);
});
await new Promise((resolve) => { server.listen(0, "127.0.0.1", resolve); });

const profile = mkdtempSync(path.join(os.tmpdir(), "enjamb-chromium-"));
const browser = spawn("chromium", [
  "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
  "--disable-sync", `--user-data-dir=${profile}`, "--remote-debugging-port=0", "about:blank",
], { stdio: ["ignore", "ignore", "pipe"], env: { ...process.env, HOME: profile } });
const told = readline.createInterface({ input: browser.stderr });
const endpoint = await new Promise((resolve) => {
  told.on("line", (line) => {
    if (args.verbose) console.error(line);
    const found = line.match(/^DevTools listening on (\S+)/);
    if (found) resolve(found[1]);
  });
});

const devtools = new WebSocket(endpoint);
await new Promise((resolve) => { devtools.on("open", resolve); });
let number = 0;
const answers = new Map();
let session;
function call(method, params = {}) {
  number += 1;
  devtools.send(JSON.stringify({ id: number, method, params, sessionId: session }));
  return new Promise((resolve) => { answers.set(number, resolve); });
}
const evaluate = (expression) => call("Runtime.evaluate", { expression });

const loaded = new Promise((resolve) => {
  devtools.on("message", (data) => {
    const message = JSON.parse(data);
    if (message.id) {
      answers.get(message.id)?.(message.result);
      answers.delete(message.id);
    } else if (message.method === "Runtime.bindingCalled") {
      if (message.params.payload === "loaded") resolve();
      else process.stdout.write(`${message.params.payload}\n`);
    } else if (args.verbose && message.method === "Runtime.consoleAPICalled") {
      console.error(...message.params.args.map((arg) => arg.value));
    }
  });
});

const { targetId } = await call("Target.createTarget", { url: "about:blank" });
session = (await call("Target.attachToTarget", { targetId, flatten: true })).sessionId;
await call("Runtime.enable");
await call("Runtime.addBinding", { name: "tell" });
await call("Page.navigate", { url: `http://127.0.0.1:${server.address().port}/` });
await loaded;
await evaluate(`begin(${JSON.stringify({ ...args })})`);

function end() {
  browser.on("exit", () => {
    rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
    process.exit(0);
  });
  call("Browser.close");
  setTimeout(() => browser.kill("SIGKILL"), 3000);
}

const lines = readline.createInterface({ input: process.stdin });
lines.on("line", (line) => evaluate(`driver.obey(${JSON.stringify(line)})`));
lines.on("close", async () => {
  await evaluate("driver.end(() => {})");
  setTimeout(end, 500);
});
