// The page: its settings, training in slices of frames, and the two kinds of pictures.
"use strict";

const $ = (id) => document.getElementById(id);
/** Milliseconds of a frame that training may take; the rest is for drawing and the reader. */
const SLICE = 12;
/** Batch rows that get a panel. */
const PANELS = 5;
/** Milliseconds between pictures of the batch while it runs: bits that change faster flicker. */
const CALM = matchMedia("(prefers-reduced-motion: reduce)").matches ? 2000 : 400;
/** In the order of the module's statuses from 2 on. */
const SIZES = ["layers", "units", "batch", "truncation", "echo"];
const NUMBERS = [...SIZES, "rate", "seed"];
/** The run that was recorded on a desktop, and after how many steps. */
const RECORDED = { layers: 3, units: 4, batch: 5, truncation: 15, echo: 3, optimizer: 2, rate: 0.3, seed: 7 };
const RECORDED_STEPS = 2000;

let module; // the exports of the WebAssembly module
let run; // the run in progress
let running = false;
/** Whether the run is not that of the settings, which were refused, or has gone out of bounds. */
let stale = false;

const whole = (n) => Math.round(n).toLocaleString("en");
const short = (n) => (Number.isFinite(n) ? n.toPrecision(3) : String(n));

// ---- the module

async function fetchBytes(name) {
  const help = "expected beside this page, served over http (./build makes it)";
  let answer;
  try {
    answer = await fetch(name);
  } catch {
    throw new Error(`${name}: ${help}, got no answer`);
  }
  if (!answer.ok) throw new Error(`${name}: ${help}, got HTTP ${answer.status}`);
  return answer.arrayBuffer();
}

/** The module with SIMD128 where the browser has it and nobody asks for the other one. */
async function load() {
  const wanted = new URLSearchParams(location.search).get("simd") !== "off";
  let bytes = wanted && (await fetchBytes("echo-simd128.wasm"));
  if (!bytes || !WebAssembly.validate(bytes)) bytes = await fetchBytes("echo-fallback.wasm");
  module = (await WebAssembly.instantiate(bytes)).instance.exports;
  $("level").textContent = module.has_simd128() ? "with SIMD128" : "without SIMD128 (fallback)";
  $("module").textContent = `${(bytes.byteLength / 1024).toFixed(1)} KiB`;
}

// ---- settings

/** What is wrong with a field: what it is, what is expected, what came; or nothing. */
function complaint(input) {
  const { min, max, validity, value } = input;
  const isWhole = input.id !== "rate";
  const number = Number(value);
  const fine = value !== "" && number >= Number(min) && number <= Number(max) && (!isWhole || Number.isInteger(number));
  if (fine) return "";
  const name = input.labels[0].textContent;
  const got = validity.badInput ? "something that is no number" : value === "" ? "nothing" : value;
  return `${name}: expected a ${isWhole ? "whole " : ""}number from ${min} to ${max}, got ${got}.`;
}

function showError(text, id) {
  for (const input of $("settings").elements) {
    input.removeAttribute("aria-invalid");
    input.removeAttribute("aria-describedby");
  }
  if (id) {
    $(id).setAttribute("aria-invalid", "true");
    $(id).setAttribute("aria-describedby", "error");
  }
  $("error").textContent = text;
}

/** The settings as numbers, or nothing, after saying what is wrong. */
function read() {
  for (const id of NUMBERS) {
    const text = complaint($(id));
    if (text) return void showError(text, id);
  }
  return Object.fromEntries([...NUMBERS, "optimizer"].map((id) => [id, Number($(id).value)]));
}

/** Begins anew; false, and the old run stays, if the settings do not do. */
function reset() {
  pause();
  stale = true;
  const now = read();
  if (!now) return false;
  const sizes = SIZES.map((id) => now[id]);
  const status = module.begin(...sizes, now.optimizer, now.rate, now.seed);
  if (status !== 0) {
    const [layers, units, batch, truncation] = sizes;
    const needed = module.needed(layers, units, batch, truncation, now.optimizer) >>> 0;
    const fields = [...SIZES, "optimizer", "rate"];
    const field = fields[status - 2];
    if (field) showError(`${$(field).labels[0].textContent}: the module does not take ${$(field).value}.`, field);
    else showError(`Layers, units, batch, truncation: expected buffers of at most ${whole(module.capacity())} numbers in all, got ${whole(needed)}.`, "batch");
    return false;
  }
  showError("");
  stale = false;
  run = { ...now, count: 0, loss: NaN, mean: NaN, curve: new Curve(), speed: NaN, cost: NaN, fingerprint: 0 };
  run.recorded = Object.entries(RECORDED).every(([id, value]) => run[id] === value);
  $("weights").textContent = whole(module.parameters());
  $("replay").textContent = "";
  makePanels();
  drawAll();
  tell();
  return true;
}

// ---- training

/** The losses in at most so many buckets of lowest, highest and sum: a long run takes no more room. */
class Curve {
  static MOST = 2048;
  size = 1; // steps in a bucket
  buckets = [];
  filled = 0; // steps in the last bucket
  add(loss) {
    if (this.filled === this.size || this.buckets.length === 0) {
      if (this.buckets.length === Curve.MOST) this.halve();
      this.buckets.push({ low: loss, high: loss, sum: loss });
      this.filled = 1;
      return;
    }
    const last = this.buckets[this.buckets.length - 1];
    last.low = Math.min(last.low, loss);
    last.high = Math.max(last.high, loss);
    last.sum += loss;
    this.filled += 1;
  }
  halve() {
    const { buckets } = this;
    this.buckets = [];
    for (let k = 0; k < buckets.length; k += 2) {
      const [a, b] = [buckets[k], buckets[k + 1]];
      this.buckets.push({ low: Math.min(a.low, b.low), high: Math.max(a.high, b.high), sum: a.sum + b.sum });
    }
    this.size *= 2;
  }
}

/** One training step; false if the loss is no number any more. */
function train() {
  const loss = module.step();
  run.count += 1;
  run.loss = loss;
  if (!Number.isFinite(loss)) {
    stale = true;
    showError(`Learning rate: expected a finite loss, got ${loss} at step ${whole(run.count)}. A smaller rate may help.`, "rate");
    return false;
  }
  // The mean of all for the first hundred, of about the last hundred from then on.
  run.mean = run.count === 1 ? loss : run.mean + (loss - run.mean) / Math.min(run.count, 100);
  run.curve.add(loss);
  if (run.count === RECORDED_STEPS) run.fingerprint = module.fingerprint() >>> 0;
  return true;
}

let next = 0; // the frame that is asked for
let owed = 0; // steps that the pace asks for and no frame has done yet
let before = 0; // time of the last frame
let since = { time: 0, count: 0 }; // when the speed was last told
let drawn = 0; // time of the last picture of the batch

function frame(now) {
  const pace = Number($("pace").value);
  // The first frame may have begun before Start was pressed.
  const passed = Math.min(Math.max(now - before, 0), 100);
  owed = pace === Infinity ? Infinity : Math.min(owed + (pace * passed) / 1000, pace);
  before = now;
  const start = performance.now();
  const first = run.count;
  let end = start;
  let fine = true;
  while (fine && owed >= 1 && end - start < SLICE) {
    fine = train();
    owed -= 1;
    end = performance.now();
  }
  const done = run.count - first;
  if (done > 0) {
    const cost = (end - start) / done;
    run.cost = Number.isNaN(run.cost) ? cost : run.cost + (cost - run.cost) / 20;
  }
  if (now - since.time >= 500) {
    run.speed = ((run.count - since.count) * 1000) / (now - since.time);
    since = { time: now, count: run.count };
  }
  if (!fine) return pause();
  drawFigures();
  drawLoss();
  if (now - drawn >= CALM) {
    drawRows();
    drawn = now;
  }
  next = requestAnimationFrame(frame);
}

function start() {
  if (stale && !reset()) return;
  running = true;
  owed = 1;
  before = drawn = performance.now();
  since = { time: before, count: run.count };
  $("run").textContent = "Pause";
  $("status").textContent = "Training";
  next = requestAnimationFrame(frame);
}

function pause() {
  if (!running) return;
  running = false;
  cancelAnimationFrame(next);
  $("run").textContent = "Start";
  drawAll();
  tell();
}

function one() {
  pause();
  if (stale && !reset()) return;
  train();
  drawAll();
  tell();
}

// ---- pictures

function drawAll() {
  drawFigures();
  drawLoss();
  drawRows();
}

/** What a screen reader says, and only when the reader did something: not of every frame. */
function tell() {
  const at = run.count === 0 ? "Ready: 0 steps" : `At step ${whole(run.count)}, loss ${short(run.loss)}`;
  $("status").textContent = at;
  $("loss").setAttribute("aria-label", `Loss curve. ${at}, mean of the last 100 ${short(run.mean)}`);
}

function drawFigures() {
  const number = (id, value, text) => ($(id).textContent = Number.isNaN(value) ? "–" : text(value));
  $("steps").textContent = whole(run.count);
  number("now", run.loss, short);
  number("mean", run.mean, short);
  number("speed", run.speed, whole);
  number("cost", run.cost, (ms) => (ms < 1 ? `${short(ms * 1000)} µs` : `${short(ms)} ms`));
  if (run.recorded && run.count >= RECORDED_STEPS && $("replay").textContent === "") {
    const same = run.fingerprint === module.recorded() >>> 0;
    $("replay").textContent = same
      ? `✓ The first ${whole(RECORDED_STEPS)} losses have the very bits that were recorded on a desktop.`
      : `The first ${whole(RECORDED_STEPS)} losses are not those that were recorded on a desktop.`;
  }
}

/** A canvas ready to draw on in CSS pixels, sharp on every screen, and the page's colours. */
function canvas(element) {
  const { clientWidth: width, clientHeight: height } = element;
  const scale = devicePixelRatio || 1;
  const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
  if (element.width !== w || element.height !== h) [element.width, element.height] = [w, h];
  const pen = element.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = "12px system-ui, sans-serif";
  const style = getComputedStyle(document.documentElement);
  return { pen, width, height, colour: (name) => style.getPropertyValue(`--${name}`).trim() };
}

/** Steps between ticks, so that about `most` of them cover `range`. */
function tick(range, most) {
  const unit = 10 ** Math.floor(Math.log10(Math.max(range / most, 1)));
  return [1, 2, 5, 10].map((n) => n * unit).find((step) => range / step <= most);
}

const SUPERSCRIPT = "⁰¹²³⁴⁵⁶⁷⁸⁹";
const power = (n) => `10${n < 0 ? "⁻" : ""}${[...String(Math.abs(n))].map((digit) => SUPERSCRIPT[digit]).join("")}`;

function drawLoss() {
  const { pen, width, height, colour } = canvas($("loss"));
  const { buckets, size } = run.curve;
  const [left, right, top, bottom] = [42, width - 10, 8, height - 24];
  // A loss of exactly zero has no logarithm: it is drawn at the bottom.
  let [low, high] = [0.1, 1];
  for (const bucket of buckets) {
    if (bucket.low > 0) low = Math.min(low, bucket.low);
    high = Math.max(high, bucket.high);
  }
  const [floor, ceiling] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const level = (exponent) => bottom - ((exponent - floor) / (ceiling - floor)) * (bottom - top);
  const y = (loss) => level(Math.log10(Math.max(loss, low)));
  const steps = Math.max(run.count, 100);
  const x = (step) => left + ((right - left) * (step - 0.5)) / steps;

  pen.textBaseline = "middle";
  pen.textAlign = "right";
  pen.lineWidth = 1;
  for (let n = floor; n <= ceiling; n += Math.ceil((ceiling - floor) / 8)) {
    const at = Math.round(level(n)) + 0.5;
    pen.fillStyle = colour("grid");
    pen.fillRect(left, at - 0.5, right - left, 1);
    pen.fillStyle = colour("soft");
    pen.fillText(power(n), left - 8, at);
  }
  pen.textBaseline = "alphabetic";
  pen.textAlign = "center";
  const apart = tick(steps, width < 500 ? 4 : 8);
  for (let step = 0; step <= steps; step += apart) {
    const at = Math.round(x(step + 0.5));
    pen.fillStyle = colour("grid");
    pen.fillRect(at, top, 1, bottom - top);
    pen.fillStyle = colour("soft");
    pen.textAlign = step === 0 ? "left" : at > right - 20 ? "right" : "center";
    pen.fillText(whole(step), at, height - 6);
  }
  // Who guesses has ln 2.
  pen.strokeStyle = colour("soft");
  pen.setLineDash([4, 4]);
  pen.beginPath();
  pen.moveTo(left, y(Math.LN2));
  pen.lineTo(right, y(Math.LN2));
  pen.stroke();
  pen.setLineDash([]);
  pen.textAlign = "right";
  pen.fillStyle = colour("soft");
  pen.fillText("guessing", right - 2, y(Math.LN2) + 14);

  const middle = (k) => x(k * size + 1 + (lengthOf(k) - 1) / 2);
  const lengthOf = (k) => (k === buckets.length - 1 ? run.curve.filled : size);
  if (size > 1) {
    pen.fillStyle = colour("band");
    pen.beginPath();
    buckets.forEach((bucket, k) => pen.lineTo(middle(k), y(bucket.high)));
    for (let k = buckets.length - 1; k >= 0; k -= 1) pen.lineTo(middle(k), y(buckets[k].low));
    pen.fill();
  }
  pen.strokeStyle = colour("accent");
  pen.lineWidth = 1.5;
  pen.lineJoin = "round";
  pen.beginPath();
  buckets.forEach((bucket, k) => pen.lineTo(middle(k), y(bucket.sum / lengthOf(k))));
  pen.stroke();
  if (buckets.length > 0) {
    pen.fillStyle = colour("accent");
    pen.beginPath();
    pen.arc(middle(buckets.length - 1), y(run.loss), 3, 0, 2 * Math.PI);
    pen.fill();
  }
}

let panels = [];

function makePanels() {
  const count = Math.min(PANELS, run.batch);
  if (panels.length === count) return;
  panels = Array.from({ length: count }, (_, row) => {
    const element = document.createElement("canvas");
    element.setAttribute("role", "img");
    const caption = document.createElement("figcaption");
    caption.textContent = `Row ${row}`;
    const figure = document.createElement("figure");
    figure.append(caption, element);
    return figure;
  });
  $("rows").replaceChildren(...panels);
}

function drawRows() {
  const rows = run.batch * run.truncation;
  // The views are made anew each time: they end when the memory grows.
  const memory = module.memory.buffer;
  const x = new Float32Array(memory, module.x(), rows);
  const labels = new Uint32Array(memory, module.labels(), rows);
  const probabilities = new Float32Array(memory, module.probabilities(), 2 * rows);
  const isRight = (k) => probabilities[2 * k + 1] > probabilities[2 * k] === (labels[k] === 1);
  let right = 0;
  for (let k = 0; k < rows; k += 1) right += isRight(k);
  $("right").textContent = run.count === 0 ? "–" : `${whole(right)} of ${whole(rows)}`;
  panels.forEach((figure, row) => {
    const element = figure.querySelector("canvas");
    const { pen, width, height, colour } = canvas(element);
    const base = height - 18;
    const tall = base - 4;
    const apart = width / run.truncation;
    let missed = 0;
    const bar = (t, part, share, name) => {
      pen.fillStyle = colour(name);
      pen.fillRect((t + (1 - part) / 2) * apart, base - share * tall, part * apart, share * tall);
    };
    if (run.count > 0) {
      for (let t = 0; t < run.truncation; t += 1) {
        const k = t * run.batch + row;
        missed += !isRight(k);
        if (x[k] === 1) bar(t, 0.9, 1, "input");
        if (labels[k] === 1) bar(t, 0.9, 0.5, "label");
        bar(t, 0.42, 0.5 * probabilities[2 * k + 1], "prediction");
      }
    }
    pen.fillStyle = colour("line");
    pen.fillRect(0, base, width, 1);
    pen.fillStyle = colour("soft");
    const every = tick(run.truncation, width / 28);
    for (let t = 0; t < run.truncation; t += every) {
      pen.textAlign = "center";
      pen.fillText(String(t), (t + 0.5) * apart, height - 4);
    }
    const text = run.count === 0 ? "no step yet" : `${run.truncation - missed} of ${run.truncation} right`;
    figure.querySelector("figcaption").textContent = `Row ${row}: ${text}`;
    element.setAttribute("aria-label", `Bars of input, label and prediction of row ${row}: ${text}`);
  });
}

// ---- begin

$("run").addEventListener("click", () => (running ? pause() : start()));
$("step").addEventListener("click", one);
$("reset").addEventListener("click", reset);
$("settings").addEventListener("submit", (event) => event.preventDefault());
for (const id of NUMBERS) $(id).addEventListener("change", reset);
$("optimizer").addEventListener("change", () => {
  // A rate at which this one learns the echo; those of the others are not for it.
  $("rate").value = $("optimizer").selectedOptions[0].dataset.rate;
  reset();
});

load().then(
  () => {
    for (const id of ["run", "step", "reset"]) $(id).disabled = false;
    reset();
    new ResizeObserver(drawAll).observe($("rows"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  },
  (error) => {
    showError(error.message);
    $("status").textContent = "Not loaded";
  },
);
