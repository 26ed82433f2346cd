// Holds both modules against the budgets, against the recorded runs and against each other.
// Run ./build first; needs node and nothing else.

import { readFileSync } from "node:fs";

const BUDGET = 40 * 1024;
const LEVELS = ["simd128", "fallback"];
const OPTIMIZERS = ["SGD", "Momentum", "Adagrad", "Adam", "RMSProp"];
// layers, units, batch, truncation, echo step, optimizer, learning rate, seed
const TUTORIAL = [3, 4, 5, 15, 3, 2, 0.3, 7];
const RECORDED_STEPS = 2000;

let failed = 0;

/** Prints a line, marked if it does not hold. */
function check(holds, line) {
  console.log(`${holds ? "ok    " : "FAILED"} ${line}`);
  if (!holds) failed += 1;
}

async function load(path) {
  const bytes = readFileSync(new URL(path, import.meta.url));
  const { instance } = await WebAssembly.instantiate(bytes);
  return { bytes, ...instance.exports };
}

/** The settings with another value in one place. */
const but = (settings, place, value) => settings.map((old, k) => (k === place ? value : old));

const hex = (hash) => (hash >>> 0).toString(16).padStart(8, "0");
const number = (n) => Math.round(n).toLocaleString("en");

/** The losses of so many steps. */
function losses(module, settings, steps) {
  const status = module.begin(...settings);
  if (status !== 0) throw new Error(`begin(${settings}): expected status 0, got ${status}`);
  return Float32Array.from({ length: steps }, () => module.step());
}

function describe(bytes) {
  const compiled = new WebAssembly.Module(bytes);
  return { imports: WebAssembly.Module.imports(compiled).length, exports: WebAssembly.Module.exports(compiled).length };
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** The least time of a step in ns, of several rounds: the machine may be busy. */
function time(module, settings, steps) {
  losses(module, settings, steps);
  let least = Infinity;
  for (let round = 0; round < 9; round += 1) {
    const start = performance.now();
    for (let step = 0; step < steps; step += 1) module.step();
    least = Math.min(least, ((performance.now() - start) * 1e6) / steps);
  }
  return least;
}

const modules = {};
for (const level of LEVELS) modules[level] = await load(`site/echo-${level}.wasm`);

for (const level of LEVELS) {
  const module = modules[level];
  const size = module.bytes.length;
  check(size <= BUDGET, `${level}: ${number(size)} of ${number(BUDGET)} bytes`);
  check(module.has_simd128() === Number(level === "simd128"), `${level}: has_simd128 gives ${module.has_simd128()}`);
  const { imports, exports } = describe(module.bytes);
  check(imports === 0, `${level}: ${imports} imports, ${exports} exports`);
  const place = module.bytes.indexOf(".rs");
  check(place < 0, `${level}: no place of a panic in its data, ${place < 0 ? "none" : `one at byte ${place}`} found`);
}

// The recorded runs: sizes as types in a module of their own, and at run time in the page's.
for (const level of LEVELS) {
  const replay = await load(`target/replay-${level}.wasm`);
  for (const run of ["infer", "train_1", "train_5", "quantized"]) {
    const [got, recorded] = [hex(replay[`replay_${run}`]()), hex(replay[`recorded_${run}`]())];
    check(got === recorded, `${level}: replay of ${run}: recorded ${recorded}, got ${got}`);
  }
  const module = modules[level];
  const run = losses(module, TUTORIAL, RECORDED_STEPS);
  const [got, recorded] = [hex(module.fingerprint()), hex(module.recorded())];
  check(got === recorded, `${level}: the page's own run: recorded ${recorded}, got ${got}`);
  const last = mean(run.slice(-100));
  check(last < 0.01, `${level}: mean of the last 100 losses after ${number(RECORDED_STEPS)} steps: ${last.toExponential(2)}`);
}

// Both modules give the same bits, whatever the settings.
const various = [
  [1, 1, 1, 1, 0, 0, 0.5, 0],
  [1, 4, 5, 15, 3, 1, 0.1, 1],
  [2, 5, 7, 10, 1, 2, 0.3, 2],
  [3, 8, 3, 4, 2, 3, 0.01, 3],
  [4, 13, 2, 9, 5, 4, 0.01, 4],
  [8, 3, 6, 5, 3, 2, 0.3, 5],
  [2, 48, 4, 12, 3, 3, 0.01, 6],
  [1, 64, 9, 100, 31, 2, 0.1, 2 ** 31 - 1],
  [3, 4, 100, 10, 3, 3, 0.01, 8],
];
for (const settings of various) {
  const steps = 50;
  const [a, b] = LEVELS.map((level) => new Uint32Array(losses(modules[level], settings, steps).buffer));
  const finite = new Float32Array(a.buffer).every(Number.isFinite);
  const same = finite && a.every((bits, step) => bits === b[step]);
  check(same, `the same ${steps} losses in both modules, layers units batch truncation echo: ${settings.slice(0, 5).join(" ")}, ${OPTIMIZERS[settings[5]]}`);
}

// The rates that the page suggests are ones at which each optimizer learns.
const page = readFileSync(new URL("site/index.html", import.meta.url), "utf8");
OPTIMIZERS.forEach((name, optimizer) => {
  const rate = Number(page.match(new RegExp(`value="${optimizer}" data-rate="([^"]*)"`))[1]);
  const settings = but(but(TUTORIAL, 5, optimizer), 6, rate);
  const run = losses(modules.simd128, settings, 6000);
  check(mean(run.slice(-100)) < 0.05, `${name} at ${rate} learns: ${mean(run.slice(-100)).toExponential(2)} after ${number(run.length)} steps`);
});

// The page's limits are the module's, and what is beyond them is refused by a status.
const fields = ["layers", "units", "batch", "truncation", "echo", undefined, "rate"];
for (const level of LEVELS) {
  const module = modules[level];
  fields.forEach((field, place) => {
    if (!field) return;
    const tag = page.match(new RegExp(`<input [^>]*id="${field}"[^>]*>`))[0];
    const [min, max] = ["min", "max"].map((name) => Number(tag.match(new RegExp(` ${name}="([^"]*)"`))[1]));
    const status = place < 5 ? place + 2 : 8;
    const beyond = place < 5 ? [min - 1, max + 1] : [min / 2, max * 1.01, NaN, Infinity, -1];
    const statuses = beyond.map((value) => module.begin(...but(TUTORIAL, place, value)));
    check(statuses.every((got) => got === status), `${level}: ${field} of ${beyond.join(", ")}: expected status ${status}, got ${statuses.join(", ")}`);
    const inside = [min, max].map((value) => module.begin(...but(TUTORIAL, place, value)));
    check(inside.every((got) => got === 0), `${level}: ${field} of ${min} and ${max}: expected status 0, got ${inside.join(", ")}`);
  });
  losses(module, TUTORIAL, 10);
  const fingerprint = module.fingerprint();
  const unknown = module.begin(...but(TUTORIAL, 5, 5));
  check(unknown === 7, `${level}: optimizer 5: expected status 7, got ${unknown}`);
  const largest = [8, 64, 200, 100];
  const status = module.begin(...largest, 3, 3, 0.01, 7);
  const [needed, capacity] = [module.needed(...largest, 3) >>> 0, module.capacity() >>> 0];
  check(status === 1 && needed > capacity, `${level}: the largest sizes need ${number(needed)} numbers of ${number(capacity)}: status ${status}`);
  check(module.fingerprint() === fingerprint && Number.isFinite(module.step()), `${level}: the run goes on after what was refused`);
}

// Times, for the reader: no budget, machines differ.
for (const [name, settings, steps] of [
  ["the tutorial's step", TUTORIAL, 3000],
  ["a step of 3 × 16 units", but(TUTORIAL, 1, 16), 500],
  ["a step of 3 × 64 units", but(TUTORIAL, 1, 64), 50],
]) {
  const [simd, fallback] = LEVELS.map((level) => time(modules[level], settings, steps));
  console.log(`time   ${name}: ${number(simd)} ns with SIMD128, ${number(fallback)} ns without (${(fallback / simd).toFixed(1)} times)`);
}

if (failed > 0) {
  console.error(`${failed} checks failed`);
  process.exit(1);
}
console.log("every check held");
