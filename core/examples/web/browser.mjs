// Opens the page in Chromium, as a reader with a keyboard would, and takes its pictures.
//
//     node browser.mjs [FOLDER FOR THE SCREENSHOTS]
//
// Needs node, chromium (or what comes as CHROMIUM) and nothing else: Chromium is spoken to
// through a pipe. Run ./build first.

import { spawn } from "node:child_process";
import { createReadStream, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const SITE = fileURLToPath(new URL("site/", import.meta.url));
const SHOTS = process.argv[2];
/** Milliseconds that anything may take on a busy machine. */
const PATIENCE = 60_000;

// ---- the page's server: every file as bytes, so that nothing depends on its type

const server = createServer((request, answer) => {
  const path = new URL(request.url, "http://x").pathname;
  const file = join(SITE, normalize(path === "/" ? "index.html" : path));
  if (!file.startsWith(SITE) || !existsSync(file)) return answer.writeHead(404).end();
  const type = file.endsWith(".html") ? "text/html" : file.endsWith(".js") ? "text/javascript" : "application/octet-stream";
  answer.writeHead(200, { "content-type": type });
  createReadStream(file).pipe(answer);
});

// ---- Chromium, through its pipe: JSON, each message ended by a zero

const profile = mkdtempSync(join(tmpdir(), "fused-lstm-web-"));
const chromium = spawn(
  process.env.CHROMIUM ?? "chromium",
  [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--remote-debugging-pipe", `--user-data-dir=${profile}`,
  ],
  // In a group of its own, so that all its processes can be ended together.
  { stdio: ["ignore", "ignore", "pipe", "pipe", "pipe"], detached: true },
);
let words = "";
chromium.stderr.on("data", (data) => (words = (words + data).slice(-4000)));
const ended = new Promise((resolve) => {
  chromium.on("exit", (code, signal) => resolve(`code ${code ?? signal}: ${words}`));
  chromium.on("error", (error) => resolve(error.message));
});

const waiting = new Map();
/** What went wrong in the page: exceptions, console errors, requests that failed. */
const problems = [];
let session;
let last = 0;
let pending = Buffer.alloc(0);

chromium.stdio[4].on("data", (data) => {
  pending = Buffer.concat([pending, data]);
  for (let end; (end = pending.indexOf(0)) >= 0; pending = pending.subarray(end + 1)) {
    hear(JSON.parse(pending.subarray(0, end).toString()));
  }
});
chromium.stdio[3].on("error", () => {});

function hear({ id, error, result, method, params }) {
  if (id !== undefined) {
    const { resolve, reject, timer } = waiting.get(id);
    clearTimeout(timer);
    waiting.delete(id);
    return error ? reject(new Error(error.message)) : resolve(result);
  }
  if (method === "Runtime.exceptionThrown") problems.push(`exception: ${params.exceptionDetails.exception?.description ?? params.exceptionDetails.text}`);
  if (method === "Runtime.consoleAPICalled" && ["error", "warning", "assert"].includes(params.type)) problems.push(`console: ${JSON.stringify(params.args.map((arg) => arg.value))}`);
  if (method === "Log.entryAdded" && ["error", "warning"].includes(params.entry.level)) problems.push(`log: ${params.entry.text} ${params.entry.url ?? ""}`);
  if (method === "Network.loadingFailed") problems.push(`request: ${params.errorText}`);
  if (method === "Network.responseReceived" && params.response.status >= 400) problems.push(`request: HTTP ${params.response.status} of ${params.response.url}`);
}

/** One command, of the page's session once there is one. */
function tell(method, params = {}) {
  last += 1;
  const id = last;
  const message = { id, method, params, ...(session && { sessionId: session }) };
  chromium.stdio[3].write(`${JSON.stringify(message)}\0`);
  return new Promise((resolve, reject) => {
    const late = () => reject(new Error(`${method}: expected an answer of Chromium, got none in ${PATIENCE / 1000} s`));
    const timer = setTimeout(late, PATIENCE);
    waiting.set(id, { resolve, reject, timer });
    ended.then((how) => reject(new Error(`${method}: expected an answer of Chromium, but it ended with ${how}`)));
  });
}

// ---- what a reader does and sees

/** The value of an expression in the page. */
async function see(expression) {
  const { result, exceptionDetails } = await tell("Runtime.evaluate", { expression, returnByValue: true, awaitPromise: true });
  if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.exception?.description ?? exceptionDetails.text}`);
  return result.value;
}

const text = (id) => see(`document.getElementById("${id}").textContent`);
/** A figure that the page shows; NaN if it shows none. */
const figure = async (id) => Number.parseFloat((await text(id)).replaceAll(",", ""));
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function until(what, holds) {
  for (const start = Date.now(); Date.now() - start < PATIENCE; await sleep(50)) if (await holds()) return;
  throw new Error(`waited ${PATIENCE / 1000} s for ${what}`);
}

const KEYS = {
  Tab: { key: "Tab", code: "Tab", windowsVirtualKeyCode: 9 },
  Enter: { key: "Enter", code: "Enter", windowsVirtualKeyCode: 13, text: "\r" },
  Space: { key: " ", code: "Space", windowsVirtualKeyCode: 32, text: " " },
  Down: { key: "ArrowDown", code: "ArrowDown", windowsVirtualKeyCode: 40 },
};

async function press(name, modifiers = 0) {
  await tell("Input.dispatchKeyEvent", { type: KEYS[name].text ? "keyDown" : "rawKeyDown", ...KEYS[name], modifiers });
  await tell("Input.dispatchKeyEvent", { type: "keyUp", ...KEYS[name], modifiers });
}

/** Goes to a control by Tab alone, on from where the focus is. */
async function tabTo(id) {
  for (let presses = 0; presses < 40; presses += 1) {
    if ((await see("document.activeElement.id")) === id) return;
    await press("Tab");
  }
  throw new Error(`${id} is not reached by Tab`);
}

/** Overwrites a field, and leaves it by Tab. */
async function type(id, value) {
  await tabTo(id);
  await see(`document.getElementById("${id}").select()`);
  await tell("Input.insertText", { text: value });
  await press("Tab");
}

async function open(query = "") {
  await tell("Page.navigate", { url: `http://127.0.0.1:${server.address().port}/${query}` });
  await until("the module to be loaded", async () => (await see(`location.search`)) === query && (await see(`document.readyState === "complete" && document.getElementById("run") !== null && !document.getElementById("run").disabled`)));
}

async function screen(width, height, scale = 1, scheme = "light") {
  await tell("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: scale, mobile: false });
  await tell("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
  await see("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => resolve(0))))");
}

async function shoot(name) {
  if (!SHOTS) return;
  const height = await see("document.documentElement.scrollHeight");
  const width = await see("document.documentElement.clientWidth");
  const { data } = await tell("Page.captureScreenshot", { captureBeyondViewport: true, clip: { x: 0, y: 0, width, height, scale: 1 } });
  writeFileSync(join(SHOTS, `${name}.png`), Buffer.from(data, "base64"));
}

function check(holds, line) {
  if (!holds) throw new Error(line);
  console.log(`ok     ${line}`);
}

// ---- the visit

async function visit() {
  const { targetId } = await tell("Target.createTarget", { url: "about:blank" });
  ({ sessionId: session } = await tell("Target.attachToTarget", { targetId, flatten: true }));
  for (const domain of ["Page", "Runtime", "Log", "Network"]) await tell(`${domain}.enable`);
  await screen(1240, 900);

  await open();
  check((await text("level")) === "with SIMD128", `the module: ${await text("level")}, ${await text("module")}`);
  check((await figure("steps")) === 0, `0 steps at first, got ${await text("steps")}`);

  await tabTo("run");
  check(await see(`document.activeElement.matches(":focus-visible") && getComputedStyle(document.activeElement).outlineStyle !== "none"`), "the focus is visible");
  await press("Enter");
  await until("training by Enter on Start", async () => (await figure("steps")) > 0);
  check((await text("run")) === "Pause", "Start has become Pause");
  await until("a mean loss below 0.01", async () => (await figure("mean")) < 0.01);
  check(true, `mean of the last losses ${await text("mean")} at step ${await text("steps")}`);
  await until("the fingerprint of 2,000 steps", async () => (await text("replay")) !== "");
  check((await text("replay")).startsWith("✓"), await text("replay"));

  await press("Space");
  check((await text("run")) === "Start", "Space on Pause pauses");
  const paused = await figure("steps");
  await sleep(300);
  check((await figure("steps")) === paused, `still at step ${paused} 0.3 s later`);
  check((await text("status")).includes(paused.toLocaleString("en")), `status: ${await text("status")}`);
  await see("document.activeElement.blur()");
  await shoot("desktop");
  await screen(1240, 900, 1, "dark");
  await shoot("dark");
  await screen(360, 740, 2);
  check(await see("document.documentElement.scrollWidth <= 360 && document.body.scrollWidth <= 360"), "no horizontal scroll at 360 px");
  await shoot("narrow");
  await screen(1240, 900);

  await tabTo("step");
  await press("Enter");
  check((await figure("steps")) === paused + 1, "Step is one step");
  await tabTo("reset");
  await press("Enter");
  check((await figure("steps")) === 0 && (await text("mean")) === "–", "Reset goes back to step 0");

  await tabTo("step");
  await press("Space");
  check((await figure("steps")) === 1, "Step from the start");
  await type("units", "7");
  check((await figure("steps")) === 0, "a changed size resets");
  check((await figure("weights")) === 4 * 7 * 9 + 2 * 4 * 7 * 15 + 16, `${await text("weights")} weights with 7 units`);
  for (const [id, value, expected] of [
    ["units", "0", "Units: expected a whole number from 1 to 64, got 0."],
    ["layers", "2.5", "Layers: expected a whole number from 1 to 8, got 2.5."],
    ["rate", "", "Learning rate: expected a number from 0.000001 to 10, got nothing."],
    ["seed", "-1", "Seed: expected a whole number from 0 to 2147483647, got -1."],
  ]) {
    const good = await see(`document.getElementById("${id}").value`);
    await type(id, value);
    check((await text("error")) === expected && (await see(`document.getElementById("${id}").getAttribute("aria-invalid")`)) === "true", `error: ${await text("error")}`);
    await tabTo("run");
    await press("Enter");
    check((await text("run")) === "Start" && (await text("error")) === expected, "… and Start does not start");
    if (id === "units") await shoot("error");
    await type(id, good);
    check((await text("error")) === "", "… until it is put right");
  }
  await type("units", "64");
  await type("batch", "200");
  await type("truncation", "100");
  check((await text("error")).startsWith("Layers, units, batch, truncation: expected buffers of at most"), `error: ${await text("error")}`);
  await type("batch", "5");
  await type("truncation", "15");
  await type("units", "4");
  check((await text("error")) === "" && (await figure("steps")) === 0, "sizes that fit are taken again");

  for (let optimizer = 0; optimizer < 5; optimizer += 1) {
    await see(`{ const list = document.getElementById("optimizer"); list.value = "${optimizer}"; list.dispatchEvent(new Event("change")); }`);
    check((await figure("steps")) === 0, `a changed optimizer resets: step ${await text("steps")}`);
    await tabTo("run");
    await press("Enter");
    const name = await see(`document.getElementById("optimizer").selectedOptions[0].textContent`);
    await until(`100 steps of ${name}`, async () => (await figure("steps")) >= 100);
    await press("Enter");
    check((await text("error")) === "" && (await figure("mean")) > 0, `${name} runs: mean loss ${await text("mean")} at step ${await text("steps")}`);
  }
  await tabTo("pace");
  await press("Down");
  const pace = await see(`document.getElementById("pace").value`);
  check(pace === "Infinity", `Down takes the next pace: expected Infinity, got ${pace}`);
  await tabTo("run");
  await press("Enter");
  await until("steps as fast as it goes", async () => (await figure("steps")) >= 5000);
  check((await text("error")) === "", `as fast as it goes: ${await text("steps")} steps, one takes ${await text("cost")}`);
  await press("Enter");
  // Twice within a frame: there is one loop still, and it goes on.
  await see(`for (let k = 0; k < 3; k += 1) document.getElementById("run").click()`);
  const before = await figure("steps");
  await until("more steps after Start, Pause, Start at once", async () => (await figure("steps")) > before + 1000);
  await press("Enter");
  await shoot("fast");

  await open("?simd=off");
  check((await text("level")).includes("fallback"), `the module: ${await text("level")}, ${await text("module")}`);
  await tabTo("run");
  await press("Enter");
  await until("the fingerprint of 2,000 steps", async () => (await text("replay")) !== "");
  check((await text("replay")).startsWith("✓"), `without SIMD128: ${await text("replay")}`);
  check(problems.length === 0, `${problems.length} errors of console, page and requests ${problems.join("; ")}`);
}

async function end() {
  // Chromium is asked first, so that it leaves its profile in peace, and then made to.
  session = undefined;
  const asked = tell("Browser.close").catch(() => {});
  await Promise.race([asked.then(() => ended), sleep(3000)]);
  try {
    process.kill(-chromium.pid, "SIGKILL");
  } catch {
    // All its processes are gone already.
  }
  await Promise.race([ended, sleep(3000)]);
  server.close();
  server.closeAllConnections();
  rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
}

let code = 0;
try {
  if (SHOTS) mkdirSync(SHOTS, { recursive: true });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  await visit();
  console.log("every check held");
} catch (error) {
  console.error(`FAILED ${error.message}`);
  for (const problem of problems) console.error(`       ${problem}`);
  code = 1;
} finally {
  await end();
}
process.exit(code);
