//! Few rows on several cores: each takes some of the units of every layer.
//!
//! A step of one row reads every weight once, so cores that share the units share the
//! reading. After each step they hand each other their part of the hidden state, through
//! atomics, and wait for one another by spinning: at some hundred nanoseconds a step it
//! pays for layers of a hundred units or more. The bits are those of one core.

use crate::Error;
use crate::exchange::{Ending, Exchange, LINE};
use crate::parallel::{check, cut_rows, gather, scatter};
use fused_lstm::{ArgumentError, LayerShape, LayerUnits, Model, NetworkShape, Zigzag};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvError, Sender, TryRecvError, channel};
use std::time::{Duration, Instant};

/// Layers of fewer units are not worth a second core.
const FEWEST_UNITS: usize = 128;
/// Time steps that go through all layers together.
const STEPS: usize = 128;

/// Inference with the units of every layer in parts, packed for one model and batch.
///
/// ```
/// use fused_lstm::{Extent, Model, NetworkShape};
/// use fused_lstm_driver::units::InferUnits;
///
/// let shape = NetworkShape::new(1, &[48]);
/// let extent = Extent { steps: 3, batch: 1 };
/// let params = vec![0.1; shape.params_len()];
/// let model = Model::new(shape, &params)?;
/// let (x, mut y, mut state) = ([0.5; 3], [0.0; 144], [0.0; 96]);
/// InferUnits::new(model, extent.batch, 2)?.infer(extent.steps, &x, &mut state, &mut y)?;
///
/// let (mut same, mut state) = ([0.0; 144], [0.0; 96]);
/// model.infer(extent, &x, &mut state, &mut same, &mut vec![0.0; shape.scratch_len(extent)])?;
/// assert_eq!(y, same);
/// # Ok::<(), fused_lstm_driver::Error>(())
/// ```
#[derive(Debug)]
pub struct InferUnits {
    plan: Arc<Plan>,
    /// The caller's part.
    first: Part,
    workers: Vec<Worker>,
}

/// What all threads know.
#[derive(Debug)]
struct Plan {
    batch: usize,
    layers: Vec<LayerShape>,
    exchange: Exchange,
}

/// A thread that waits for its part of a sequence, and ends when nobody can send one any more.
#[derive(Debug)]
struct Worker {
    /// Not there while it is at work.
    part: Option<Part>,
    tasks: Sender<(Part, Arc<[f32]>)>,
    results: Receiver<(Part, Result<(), ArgumentError>)>,
}

/// What one thread has to itself.
#[derive(Debug)]
struct Part {
    index: usize,
    layers: Vec<LayerPart>,
    /// The input of a layer and its output, `[STEPS, B, H]`, of all units.
    x: Vec<f32>,
    y: Vec<f32>,
    /// `[STEPS, B, 4, U]`.
    sums: Vec<f32>,
    /// After a step, `[B, U]`.
    h: Vec<f32>,
}

/// A thread's share of a layer.
#[derive(Debug)]
struct LayerPart {
    /// Of all parts, and its own.
    all: Vec<Range<usize>>,
    units: Range<usize>,
    packed: Vec<f32>,
    /// `[B, U]`.
    c: Vec<f32>,
    /// Before the first step, `[B, H]`, of all units.
    h: Vec<f32>,
    zigzag: Zigzag,
}

/// The units of each part: whole lines, as equal as they can be.
fn cut_units(hidden: usize, parts: usize) -> Vec<Range<usize>> {
    let lines = cut_rows(hidden.div_ceil(LINE), parts).into_iter();
    lines
        .map(|lines| lines.start * LINE..hidden.min(lines.end * LINE))
        .collect()
}

/// Whether `parts` cores are better used by units than by rows: if there are fewer rows
/// than cores, and every layer has 128 units or more.
///
/// ```
/// use fused_lstm::NetworkShape;
/// let shape = NetworkShape::new(1, &[256]);
/// assert!(fused_lstm_driver::units::pays(shape, 1, 2));
/// assert!(!fused_lstm_driver::units::pays(shape, 2, 2));
/// ```
pub fn pays(shape: NetworkShape, batch: usize, parts: usize) -> bool {
    batch < parts && shape.hidden.iter().all(|&hidden| hidden >= FEWEST_UNITS)
}

impl InferUnits {
    /// Packs the model for so many threads, and starts them, but for the caller's own; fewer if
    /// a layer has not 16 units for each.
    pub fn new(model: Model, batch: usize, threads: usize) -> Result<Self, Error> {
        let layers: Vec<LayerShape> = model.shape().layers().collect();
        let lines = layers.iter().map(|layer| layer.hidden.div_ceil(LINE));
        let threads = threads.clamp(1, lines.min().unwrap_or(1).max(1));
        let parts = (1..threads).map(|part| Part::new(model, batch, part, threads));
        let first = Part::new(model, batch, 0, threads)?;
        let parts: Vec<Part> = parts.collect::<Result<_, _>>()?;
        let plan = Arc::new(Plan {
            batch,
            layers,
            // The first parts are the largest.
            exchange: Exchange::new(threads, first.h.len()),
        });
        let start = |part| Worker::start(&plan, part);
        let workers = parts.into_iter().map(start).collect::<Result<_, _>>();
        Ok(Self {
            workers: workers.map_err(|source| Error::Thread { source })?,
            first,
            plan,
        })
    }

    /// [`Model::infer`] on the caller's thread and the workers: `x` `[T, B, I]` is read,
    /// `state` advanced, `y` `[T, B, H]` overwritten.
    pub fn infer(
        &mut self,
        steps: usize,
        x: &[f32],
        state: &mut [f32],
        y: &mut [f32],
    ) -> Result<(), Error> {
        let Plan {
            batch,
            layers,
            exchange,
        } = &*self.plan;
        let rows = steps.saturating_mul(*batch);
        let inputs = layers.first().map_or(0, |layer| layer.inputs);
        let outputs = layers.last().map_or(0, |layer| layer.hidden);
        check("x", rows.saturating_mul(inputs), x.len())?;
        check("y", rows.saturating_mul(outputs), y.len())?;
        let states = layers.iter().map(|layer| layer.state_len(*batch));
        check("state", states.sum(), state.len())?;
        if rows == 0 {
            return Ok(());
        }
        exchange.begin();
        self.first.read(&self.plan, state);
        if !self.workers.is_empty() {
            let x: Arc<[f32]> = x.into();
            for (worker, index) in self.workers.iter_mut().zip(1..) {
                if !worker.send(&self.plan, state, &x) {
                    exchange.end(index);
                }
            }
        }
        let ending = Ending(exchange, self.first.index);
        let mut done = self.first.run(&self.plan, x, y).map_err(Error::from);
        drop(ending);
        for worker in &mut self.workers {
            done = done.and(worker.receive(exchange));
        }
        done?;
        self.first.write(&self.plan, state);
        for part in self
            .workers
            .iter()
            .filter_map(|worker| worker.part.as_ref())
        {
            part.write(&self.plan, state);
        }
        Ok(())
    }
}

impl Worker {
    fn start(plan: &Arc<Plan>, part: Part) -> io::Result<Self> {
        let (tasks, own_tasks) = channel::<(Part, Arc<[f32]>)>();
        let (own_results, results) = channel();
        let plan = Arc::clone(plan);
        std::thread::Builder::new().spawn(move || {
            while let Ok((mut part, x)) = receive(&own_tasks, &plan.exchange) {
                let ending = Ending(&plan.exchange, part.index);
                let done = part.run(&plan, &x, &mut []);
                drop(ending);
                if own_results.send((part, done)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self {
            part: Some(part),
            tasks,
            results,
        })
    }

    /// Whether the thread takes its part of the sequence `x` from `state` on.
    fn send(&mut self, plan: &Plan, state: &[f32], x: &Arc<[f32]>) -> bool {
        self.part.take().is_some_and(|mut part| {
            part.read(plan, state);
            self.tasks.send((part, Arc::clone(x))).is_ok()
        })
    }

    /// Waits until the thread is done.
    fn receive(&mut self, exchange: &Exchange) -> Result<(), Error> {
        let ended = |_| Error::Thread {
            source: io::Error::other("it has ended"),
        };
        let (part, done) = receive(&self.results, exchange).map_err(ended)?;
        self.part = Some(part);
        Ok(done?)
    }
}

/// [`Receiver::recv`], spinning for a while if every thread has a core: waking one takes tens of
/// microseconds.
fn receive<T>(from: &Receiver<T>, exchange: &Exchange) -> Result<T, RecvError> {
    const SPIN: Duration = Duration::from_micros(200);
    let start = Instant::now();
    while exchange.may_spin() && start.elapsed() < SPIN {
        match from.try_recv() {
            Ok(value) => return Ok(value),
            Err(TryRecvError::Disconnected) => return Err(RecvError),
            Err(TryRecvError::Empty) => std::hint::spin_loop(),
        }
    }
    from.recv()
}

impl Part {
    fn new(model: Model, batch: usize, part: usize, parts: usize) -> Result<Self, Error> {
        let (mut layers, mut params) = (Vec::new(), model.params());
        let (mut widest, mut most) = (0, 0);
        for layer in model.shape().layers() {
            let (own, rest) = params.split_at(layer.params_len());
            params = rest;
            let all = cut_units(layer.hidden, parts);
            let units = all[part].clone();
            let mut packed = vec![0.0; LayerUnits::packed_len(layer, units.len())];
            LayerUnits::pack(layer, units.clone(), own, &mut packed)?;
            (widest, most) = (widest.max(layer.hidden), most.max(units.len()));
            layers.push(LayerPart {
                packed,
                c: vec![0.0; batch * units.len()],
                h: vec![0.0; batch * layer.hidden],
                zigzag: Zigzag::default(),
                all,
                units,
            });
        }
        Ok(Self {
            index: part,
            layers,
            x: vec![0.0; STEPS * batch * widest],
            y: vec![0.0; STEPS * batch * widest],
            sums: vec![0.0; STEPS * batch * 4 * most],
            h: vec![0.0; batch * most],
        })
    }

    /// Takes its units of the cell states, and all of the hidden states.
    fn read(&mut self, plan: &Plan, mut state: &[f32]) {
        let Plan { batch, layers, .. } = plan;
        for (layer, own) in layers.iter().zip(&mut self.layers) {
            let (c, h);
            (c, state) = state.split_at(batch * layer.hidden);
            (h, state) = state.split_at(batch * layer.hidden);
            gather(c, layer.hidden, 1, &own.units, &mut own.c);
            own.h.copy_from_slice(h);
        }
    }

    /// Gives its units of the cell states back, and the hidden states, which every part has.
    fn write(&self, plan: &Plan, mut state: &mut [f32]) {
        let Plan { batch, layers, .. } = plan;
        for (layer, own) in layers.iter().zip(&self.layers) {
            let (c, h);
            (c, state) = state.split_at_mut(batch * layer.hidden);
            (h, state) = state.split_at_mut(batch * layer.hidden);
            scatter(&own.c, layer.hidden, 1, &own.units, c);
            h.copy_from_slice(&own.h);
        }
    }

    /// The sequence, beside all other parts; `y` is left alone if it is empty.
    fn run(&mut self, plan: &Plan, x: &[f32], y: &mut [f32]) -> Result<(), ArgumentError> {
        let Plan {
            batch,
            layers,
            exchange,
        } = plan;
        let (Some(first), Some(last)) = (layers.first(), layers.last()) else {
            return Ok(());
        };
        let batch = *batch;
        let mut results = y.chunks_mut(STEPS * batch * last.hidden);
        let mut done = 0;
        for input in x.chunks(STEPS * batch * first.inputs) {
            let rows = input.len() / first.inputs;
            for (number, (layer, own)) in layers.iter().zip(&mut self.layers).enumerate() {
                let (hidden, units) = (layer.hidden, own.units.len());
                let input = if number == 0 {
                    input
                } else {
                    &self.x[..rows * layer.inputs]
                };
                let output = &mut self.y[..rows * hidden];
                let sums = &mut self.sums[..rows * 4 * units];
                let view = LayerUnits::new(*layer, units, &own.packed)?;
                view.input_preact(rows, input, sums)?;
                let mut before = &own.h[..];
                let h = &mut self.h[..batch * units];
                let steps = sums.chunks_exact_mut(batch * 4 * units);
                for (sums, after) in steps.zip(output.chunks_exact_mut(batch * hidden)) {
                    view.step(batch, before, sums, &mut own.c, h, &mut own.zigzag)?;
                    done += 1;
                    exchange.leave(self.index, done, h);
                    scatter(h, hidden, 1, &own.units, after);
                    for (part, units) in own.all.iter().enumerate() {
                        if part != self.index {
                            exchange.take(part, done, units, hidden, after);
                        }
                    }
                    before = after;
                }
                let last = output.len() - own.h.len();
                own.h.copy_from_slice(&output[last..]);
                std::mem::swap(&mut self.x, &mut self.y);
            }
            if let Some(result) = results.next() {
                result.copy_from_slice(&self.x[..result.len()]);
            }
        }
        Ok(())
    }
}
