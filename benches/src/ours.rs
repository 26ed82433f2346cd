//! Every workload through our APIs, as closures to be timed.

use crate::numbers::Numbers;
use crate::workload::{CLASSES, Head, Mode, Workload};
use bytemuck::zeroed_box;
use fused_lstm::loss::softmax;
use fused_lstm::optimizer::{Adagrad, Adam, Sgd};
use fused_lstm::{
    Aligned, Backward, Buffers, Classifier, ClassifierWorkspace, Extent, Flat, LayerShape,
    LossGradient, Lstm, Model, NarrowLayer, Network, NetworkShape, Packed, PackedModel, Stack,
    Storage, Stream, Zigzag,
};
use fused_lstm_driver::parallel::{InferParts, TrainParts};
use fused_lstm_driver::units::{self, InferUnits};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

/// The rate of the update where the gradient is given: small, because the same step
/// is repeated for as long as it is timed.
pub const SGD_RATE: f32 = 1e-3;
/// The rate of the echo tutorials' optimizers.
pub const ECHO_RATE: f32 = 0.3;

/// Which way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// Sizes as types.
    Fixed,
    /// Sizes as types, weights packed.
    Packed,
    /// Sizes known when it runs.
    RunTime,
    /// Weights stored in fewer bits, sizes known when it runs: one layer and one row.
    Narrow(Storage),
    /// The rows of the batch, or the units if there are fewer rows, on so many threads;
    /// inference with packed kernels.
    Threads(usize),
}

impl Api {
    /// As the tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Packed => "packed",
            Self::RunTime | Self::Threads(_) => "run-time",
            Self::Narrow(Storage::F16) => "f16",
            Self::Narrow(_) => "int8",
        }
    }

    /// Threads that it takes.
    pub fn threads(self) -> usize {
        match self {
            Self::Threads(threads) => threads,
            _ => 1,
        }
    }
}

/// A workload with all its buffers. Every call of [`run`](Run::run) does it once more.
pub trait Run {
    /// Once more.
    fn run(&mut self);
    /// What came out: the output of inference, the parameters after training.
    fn outcome(&self) -> &[f32];
}

/// The workload through one API, if that has it: sizes as types are compiled in
/// for the smaller ones of [`Workload::all`].
pub fn prepare(workload: &Workload, api: Api) -> Option<Box<dyn Run>> {
    match api {
        Api::RunTime => Some(Box::new(RunTime::new(workload.clone()))),
        Api::Fixed => fixed(workload),
        Api::Packed => packed(workload),
        Api::Threads(threads) => on_threads(workload, threads),
        Api::Narrow(storage) => narrow(workload, storage),
    }
}

/// A layer whose weights are stored in fewer bits.
struct Narrow {
    layer: NarrowLayer<'static>,
    extent: Extent,
    stream: bool,
    x: Vec<f32>,
    state: Vec<f32>,
    y: Vec<f32>,
    zigzag: Zigzag,
    scratch: Vec<f32>,
}

fn narrow(workload: &Workload, storage: Storage) -> Option<Box<dyn Run>> {
    let extent = workload.extent();
    let hidden = workload.hidden();
    if workload.mode == Mode::Train || workload.head != Head::None || extent.batch > 1 {
        return None;
    }
    let [units] = hidden[..] else { return None };
    let shape = LayerShape::new(workload.inputs, units);
    let numbers = workload.numbers();
    let len = storage.words_len(shape);
    // For as long as the benchmark runs, and aligned to a cache line.
    let room = vec![0; len + 16].leak();
    let start = room.as_ptr().align_offset(64);
    let words = &mut room[start..start + len];
    Some(Box::new(Narrow {
        layer: NarrowLayer::pack(shape, storage, &numbers.params, 1.0, words).ok()?,
        extent,
        stream: workload.mode == Mode::Stream,
        x: numbers.x,
        state: vec![0.0; shape.state_len(1)],
        y: vec![0.0; extent.rows() * units],
        zigzag: Zigzag::NEW,
        scratch: vec![0.0; NarrowLayer::scratch_for(shape)],
    }))
}

impl Run for Narrow {
    fn run(&mut self) {
        let (x, state, scratch) = (&self.x, &mut self.state, &mut self.scratch);
        let done = if self.stream {
            self.layer.step(1, x, state, &mut self.zigzag, scratch)
        } else {
            state.fill(0.0);
            self.layer.run(self.extent, x, state, &mut self.y, scratch)
        };
        done.expect("every buffer has the length that the shape gives");
    }

    fn outcome(&self) -> &[f32] {
        &self.y
    }
}

struct RunTime {
    workload: Workload,
    hidden: Vec<usize>,
    numbers: Numbers,
    state: Vec<f32>,
    y: Vec<f32>,
    logits: Vec<f32>,
    scratch: Vec<f32>,
    cache: Vec<f32>,
    workspace: Vec<f32>,
    gradients: Vec<f32>,
    dstate: Vec<f32>,
    slots: Vec<f32>,
    updates: u32,
}

impl RunTime {
    fn new(workload: Workload) -> Self {
        let hidden = workload.hidden();
        let (shape, extent) = (workload.shape(&hidden), workload.extent());
        let numbers = workload.numbers();
        let train = workload.mode == Mode::Train;
        let only = |wanted: bool, len: usize| vec![0.0; if wanted { len } else { 0 }];
        let params = numbers.params.len();
        let mut slots = only(train && workload.head != Head::None, 2 * params);
        if workload.head == Head::Adagrad {
            slots.truncate(params);
            slots.fill(0.1);
        }
        Self {
            state: vec![0.0; shape.state_len(extent.batch)],
            y: only(!train, workload.rows() * workload.hidden),
            logits: vec![0.0; shape.logits_len(extent)],
            scratch: only(!train, shape.scratch_len(extent)),
            cache: only(train, shape.cache_len(extent)),
            workspace: only(train, shape.workspace_len(extent)),
            gradients: only(train, params),
            dstate: only(train, shape.state_len(extent.batch)),
            slots,
            updates: 0,
            hidden,
            numbers,
            workload,
        }
    }

    fn infer(&mut self) -> Result<(), fused_lstm::ArgumentError> {
        let extent = self.workload.extent();
        let model = Model::new(self.workload.shape(&self.hidden), &self.numbers.params)?;
        if self.workload.mode == Mode::Infer {
            self.state.fill(0.0);
        }
        let (x, state) = (&self.numbers.x, &mut self.state);
        model.infer(extent, x, state, &mut self.y, &mut self.scratch)?;
        if self.workload.head != Head::None {
            model.logits(extent, &self.y, &mut self.logits)?;
            softmax(CLASSES, &mut self.logits)?;
        }
        Ok(())
    }

    fn train(&mut self) -> Result<(), fused_lstm::ArgumentError> {
        let extent = self.workload.extent();
        let Numbers {
            params,
            x,
            dy,
            labels,
        } = &mut self.numbers;
        let model = Model::new(self.workload.shape(&self.hidden), params)?;
        let gradients = &mut self.gradients;
        gradients.fill(0.0);
        self.state.fill(0.0);
        if self.workload.head == Head::None {
            model.forward(extent, x, &mut self.state, &mut self.cache)?;
            self.dstate.fill(0.0);
            model.backward(
                extent,
                Backward {
                    x,
                    dy,
                    dstate: &mut self.dstate,
                    cache: &mut self.cache,
                    gradients,
                    dx: None,
                    workspace: &mut self.workspace,
                },
            )?;
            return Sgd::new(SGD_RATE).update(params, gradients);
        }
        model.loss_gradient(
            extent,
            labels,
            LossGradient {
                x,
                state: &mut self.state,
                gradients,
                outputs: &mut self.logits,
                cache: &mut self.cache,
                workspace: &mut self.workspace,
            },
        )?;
        self.updates += 1;
        update(
            self.workload.head,
            self.updates,
            params,
            gradients,
            &mut self.slots,
        )
    }
}

fn update(
    head: Head,
    step: u32,
    params: &mut [f32],
    gradients: &[f32],
    slots: &mut [f32],
) -> Result<(), fused_lstm::ArgumentError> {
    match head {
        Head::Adam => Adam::tensorflow(ECHO_RATE).update(step, params, gradients, slots),
        _ => Adagrad::tensorflow(ECHO_RATE).update(params, gradients, slots),
    }
}

impl Run for RunTime {
    fn run(&mut self) {
        let done = if self.workload.mode == Mode::Train {
            self.train()
        } else {
            self.infer()
        };
        done.expect("every buffer has the length that the shape gives");
    }

    fn outcome(&self) -> &[f32] {
        match (self.workload.mode, self.workload.head) {
            (Mode::Train, _) => &self.numbers.params,
            (_, Head::None) => &self.y,
            _ => &self.logits,
        }
    }
}

/// The rows of a batch on several threads, or the units if there are too few rows: inference
/// with packed kernels, or a training step.
struct OnThreads {
    steps: usize,
    shape: NetworkShape<'static>,
    numbers: Numbers,
    state: Vec<f32>,
    pool: ThreadPool,
    task: Task,
}

enum Task {
    Infer {
        parts: InferParts,
        model: PackedModel<'static>,
        y: Vec<f32>,
    },
    Units {
        units: InferUnits,
        y: Vec<f32>,
    },
    Train {
        parts: TrainParts,
        gradients: Vec<f32>,
    },
}

fn on_threads(workload: &Workload, threads: usize) -> Option<Box<dyn Run>> {
    let of_units = workload.batch < threads;
    if workload.mode == Mode::Stream || workload.head != Head::None {
        return None;
    }
    let pool = ThreadPoolBuilder::new().num_threads(threads).build().ok()?;
    // For as long as the benchmark runs: a model borrows all that it is made of.
    let shape = workload.shape(workload.hidden().leak());
    let (extent, numbers) = (workload.extent(), workload.numbers());
    let task = if of_units {
        if workload.mode == Mode::Train || !units::pays(shape, workload.batch, threads) {
            return None;
        }
        let model = Model::new(shape, &numbers.params).ok()?;
        Task::Units {
            units: InferUnits::new(model, workload.batch, threads).ok()?,
            y: vec![0.0; workload.rows() * workload.hidden],
        }
    } else if workload.mode == Mode::Infer {
        let panels = vec![0.0; shape.packed_len()].leak();
        let params = numbers.params.clone().leak();
        let rows = workload.batch / threads;
        let model = Model::new(shape, params);
        Task::Infer {
            parts: InferParts::new(shape, extent, threads),
            model: model
                .and_then(|model| PackedModel::new(model, rows, panels))
                .ok()?,
            y: vec![0.0; workload.rows() * workload.hidden],
        }
    } else {
        Task::Train {
            parts: TrainParts::new(shape, extent, threads),
            gradients: vec![0.0; shape.params_len()],
        }
    };
    Some(Box::new(OnThreads {
        steps: extent.steps,
        state: vec![0.0; shape.state_len(extent.batch)],
        shape,
        numbers,
        pool,
        task,
    }))
}

impl Run for OnThreads {
    fn run(&mut self) {
        self.state.fill(0.0);
        let Numbers { params, x, dy, .. } = &mut self.numbers;
        let (shape, state) = (self.shape, &mut self.state);
        let done = match &mut self.task {
            Task::Infer { parts, model, y } => self
                .pool
                .install(|| parts.infer_packed(*model, x, state, y)),
            Task::Units { units, y } => units.infer(self.steps, x, state, y),
            Task::Train { parts, gradients } => {
                gradients.fill(0.0);
                Model::new(shape, params)
                    .map_err(fused_lstm_driver::Error::from)
                    .and_then(|model| {
                        self.pool
                            .install(|| parts.gradient(model, x, dy, state, gradients))
                    })
                    .and_then(|()| {
                        let sgd = Sgd::new(SGD_RATE);
                        let pieces = params.par_chunks_mut(1 << 14);
                        let pieces = pieces.zip(gradients.par_chunks(1 << 14));
                        self.pool
                            .install(|| pieces.try_for_each(|(to, by)| sgd.update(to, by)))?;
                        Ok(())
                    })
            }
        };
        done.expect("every buffer has the length that the shape gives");
    }

    fn outcome(&self) -> &[f32] {
        match &self.task {
            Task::Infer { y, .. } | Task::Units { y, .. } => y,
            Task::Train { .. } => &self.numbers.params,
        }
    }
}

/// Aligned to a cache line.
fn boxed<F: Flat>(values: &[f32]) -> Box<Aligned<F>> {
    let mut buffer: Box<Aligned<F>> = zeroed_box();
    buffer.as_flat_mut().copy_from_slice(values);
    buffer
}

struct FixedInfer<N: Network, const T: usize, const B: usize> {
    net: Box<Aligned<N>>,
    x: Box<Aligned<N::Input<T, B>>>,
    state: Box<Aligned<N::State<B>>>,
    y: Box<Aligned<N::Output<T, B>>>,
    scratch: Box<Aligned<N::Scratch<T, B>>>,
    fresh: bool,
}

impl<N: Network, const T: usize, const B: usize> FixedInfer<N, T, B> {
    fn boxed(workload: &Workload) -> Box<dyn Run> {
        let numbers = workload.numbers();
        Box::new(Self {
            net: boxed(&numbers.params),
            x: boxed(&numbers.x),
            state: zeroed_box(),
            y: zeroed_box(),
            scratch: zeroed_box(),
            fresh: workload.mode == Mode::Infer,
        })
    }
}

impl<N: Network, const T: usize, const B: usize> Run for FixedInfer<N, T, B> {
    fn run(&mut self) {
        if self.fresh {
            self.state.as_flat_mut().fill(0.0);
        }
        self.net
            .infer::<T, B>(&self.x, &mut self.state, &mut self.y, &mut self.scratch);
    }
    fn outcome(&self) -> &[f32] {
        self.y.as_flat()
    }
}

struct PackedSteps<N: Network> {
    net: Box<Packed<N>>,
    x: Box<Aligned<N::Input<1, 1>>>,
    stream: Box<Aligned<Stream<N, 1>>>,
    y: Box<Aligned<N::Output<1, 1>>>,
}

impl<N: Network> PackedSteps<N> {
    fn boxed(workload: &Workload) -> Box<dyn Run> {
        let numbers = workload.numbers();
        let mut net: Box<Packed<N>> = zeroed_box();
        net.pack(&boxed(&numbers.params));
        Box::new(Self {
            net,
            x: boxed(&numbers.x),
            stream: Box::new(Aligned(Stream::ZERO)),
            y: zeroed_box(),
        })
    }
}

impl<N: Network> Run for PackedSteps<N> {
    fn run(&mut self) {
        self.net.step(&self.x, &mut self.stream, &mut self.y);
    }
    fn outcome(&self) -> &[f32] {
        self.y.as_flat()
    }
}

struct FixedTrain<N: Network, const T: usize, const B: usize> {
    net: Box<Aligned<N>>,
    x: Box<Aligned<N::Input<T, B>>>,
    dy: Box<Aligned<N::Output<T, B>>>,
    state: Box<Aligned<N::State<B>>>,
    cache: Box<Aligned<N::Cache<T, B>>>,
    workspace: Box<Aligned<N::Workspace<T, B>>>,
    gradients: Box<Aligned<N>>,
}

impl<N: Network, const T: usize, const B: usize> FixedTrain<N, T, B> {
    fn boxed(workload: &Workload) -> Box<dyn Run> {
        let numbers = workload.numbers();
        Box::new(Self {
            net: boxed(&numbers.params),
            x: boxed(&numbers.x),
            dy: boxed(&numbers.dy),
            state: zeroed_box(),
            cache: zeroed_box(),
            workspace: zeroed_box(),
            gradients: zeroed_box(),
        })
    }
}

impl<N: Network, const T: usize, const B: usize> Run for FixedTrain<N, T, B> {
    fn run(&mut self) {
        self.state.as_flat_mut().fill(0.0);
        self.gradients.as_flat_mut().fill(0.0);
        self.net
            .forward::<T, B>(&self.x, &mut self.state, &mut self.cache);
        self.state.as_flat_mut().fill(0.0);
        self.net.backward::<T, B>(
            &self.x,
            &self.dy,
            &mut self.state,
            &mut self.cache,
            &mut self.gradients,
            None,
            &mut self.workspace,
        );
        Sgd::new(SGD_RATE)
            .update(self.net.as_flat_mut(), self.gradients.as_flat())
            .expect("the sizes are types");
    }
    fn outcome(&self) -> &[f32] {
        self.net.as_flat()
    }
}

struct FixedEchoStep<N: Network> {
    net: Box<Aligned<Classifier<N, 4, CLASSES>>>,
    x: Box<Aligned<N::Input<1, 1>>>,
    state: Box<Aligned<N::State<1>>>,
    y: Box<Aligned<N::Output<1, 1>>>,
    scratch: Box<Aligned<N::Scratch<1, 1>>>,
    probabilities: [[[f32; CLASSES]; 1]; 1],
}

impl<N: Network> Run for FixedEchoStep<N> {
    fn run(&mut self) {
        let (y, p) = (&mut self.y, &mut self.probabilities);
        self.net
            .infer::<1, 1>(&self.x, &mut self.state, y, p, &mut self.scratch);
    }
    fn outcome(&self) -> &[f32] {
        self.probabilities.as_flat()
    }
}

type EchoWorkspace<N, const T: usize, const B: usize> =
    ClassifierWorkspace<<N as Buffers>::Workspace<T, B>, T, B, 4, CLASSES>;

struct FixedEcho<N: Network, const T: usize, const B: usize> {
    head: Head,
    net: Box<Aligned<Classifier<N, 4, CLASSES>>>,
    x: Box<Aligned<N::Input<T, B>>>,
    labels: Box<[[u32; B]; T]>,
    state: Box<Aligned<N::State<B>>>,
    cache: Box<Aligned<N::Cache<T, B>>>,
    workspace: Box<Aligned<EchoWorkspace<N, T, B>>>,
    gradients: Box<Aligned<Classifier<N, 4, CLASSES>>>,
    probabilities: Box<Aligned<[[[f32; CLASSES]; B]; T]>>,
    slots: Vec<f32>,
    updates: u32,
}

impl<N: Network, const T: usize, const B: usize> FixedEcho<N, T, B> {
    fn boxed(workload: &Workload) -> Box<dyn Run> {
        let numbers = workload.numbers();
        let mut labels: Box<[[u32; B]; T]> = zeroed_box();
        labels.as_flattened_mut().copy_from_slice(&numbers.labels);
        Box::new(Self {
            head: workload.head,
            net: boxed(&numbers.params),
            x: boxed(&numbers.x),
            labels,
            state: zeroed_box(),
            cache: zeroed_box(),
            workspace: zeroed_box(),
            gradients: zeroed_box(),
            probabilities: zeroed_box(),
            slots: match workload.head {
                Head::Adam => vec![0.0; 2 * numbers.params.len()],
                _ => vec![0.1; numbers.params.len()],
            },
            updates: 0,
        })
    }
}

impl<N: Network, const T: usize, const B: usize> Run for FixedEcho<N, T, B> {
    fn run(&mut self) {
        self.state.as_flat_mut().fill(0.0);
        self.gradients.as_flat_mut().fill(0.0);
        self.updates += 1;
        let done = self
            .net
            .loss_gradient::<T, B>(
                &self.x,
                &self.labels,
                &mut self.state,
                &mut self.gradients,
                &mut self.probabilities,
                &mut self.cache,
                &mut self.workspace,
            )
            .and_then(|_| {
                let (params, gradients) = (self.net.as_flat_mut(), self.gradients.as_flat());
                update(self.head, self.updates, params, gradients, &mut self.slots)
            });
        done.expect("the labels are bits and the sizes are types");
    }
    fn outcome(&self) -> &[f32] {
        self.net.as_flat()
    }
}

type Layers3<const I: usize, const H: usize> = Stack<Stack<Lstm<I, H>, Lstm<H, H>>, Lstm<H, H>>;
type Layers2<const I: usize, const H: usize> = Stack<Lstm<I, H>, Lstm<H, H>>;

/// The sizes that are compiled in.
fn fixed(workload: &Workload) -> Option<Box<dyn Run>> {
    let Workload {
        mode,
        head,
        inputs,
        hidden,
        layers,
        batch,
        steps,
    } = *workload;
    macro_rules! one_of {
        ($($mode:ident $head:ident [$i:literal, $h:literal, $l:literal, $b:literal, $t:literal] => $run:expr;)*) => {
            match (mode, head, [inputs, hidden, layers, batch, steps]) {
                $((Mode::$mode, Head::$head, [$i, $h, $l, $b, $t]) => Some($run(workload)),)*
                _ => None,
            }
        };
    }
    one_of! {
        Stream None [1, 4, 1, 1, 1] => FixedInfer::<Lstm<1, 4>, 1, 1>::boxed;
        Stream None [1, 8, 1, 1, 1] => FixedInfer::<Lstm<1, 8>, 1, 1>::boxed;
        Stream None [1, 16, 1, 1, 1] => FixedInfer::<Lstm<1, 16>, 1, 1>::boxed;
        Stream None [1, 20, 1, 1, 1] => FixedInfer::<Lstm<1, 20>, 1, 1>::boxed;
        Stream None [1, 32, 1, 1, 1] => FixedInfer::<Lstm<1, 32>, 1, 1>::boxed;
        Stream None [1, 40, 1, 1, 1] => FixedInfer::<Lstm<1, 40>, 1, 1>::boxed;
        Stream None [1, 64, 1, 1, 1] => FixedInfer::<Lstm<1, 64>, 1, 1>::boxed;
        Stream None [1, 128, 1, 1, 1] => FixedInfer::<Lstm<1, 128>, 1, 1>::boxed;
        Stream None [1, 256, 1, 1, 1] => FixedInfer::<Lstm<1, 256>, 1, 1>::boxed;
        Stream None [1, 512, 1, 1, 1] => FixedInfer::<Lstm<1, 512>, 1, 1>::boxed;
        Stream Adagrad [1, 4, 3, 1, 1] => echo_step;
        Infer None [64, 64, 1, 1, 128] => FixedInfer::<Lstm<64, 64>, 128, 1>::boxed;
        Infer None [128, 128, 1, 1, 128] => FixedInfer::<Lstm<128, 128>, 128, 1>::boxed;
        Infer None [128, 128, 1, 32, 64] => FixedInfer::<Lstm<128, 128>, 64, 32>::boxed;
        Train Adagrad [1, 4, 3, 5, 15] => FixedEcho::<Layers3<1, 4>, 15, 5>::boxed;
        Train Adam [1, 4, 1, 100, 10] => FixedEcho::<Lstm<1, 4>, 10, 100>::boxed;
        Train None [8, 32, 2, 16, 32] => FixedTrain::<Layers2<8, 32>, 32, 16>::boxed;
        Train None [32, 64, 2, 32, 50] => FixedTrain::<Layers2<32, 64>, 50, 32>::boxed;
    }
}

/// Inference with kernels that were packed before.
struct PackedInfer {
    model: PackedModel<'static>,
    extent: Extent,
    x: Vec<f32>,
    state: Vec<f32>,
    y: Vec<f32>,
    scratch: Vec<f32>,
}

impl PackedInfer {
    fn boxed(workload: &Workload) -> Box<dyn Run> {
        // For as long as the benchmark runs: a model borrows all that it is made of.
        let hidden = workload.hidden().leak();
        let (shape, extent) = (workload.shape(hidden), workload.extent());
        let numbers = workload.numbers();
        let panels = vec![0.0; shape.packed_len()].leak();
        let model = Model::new(shape, numbers.params.leak())
            .and_then(|model| PackedModel::new(model, extent.batch, panels));
        Box::new(Self {
            model: model.expect("every buffer has the length that the shape gives"),
            extent,
            x: numbers.x,
            state: vec![0.0; shape.state_len(extent.batch)],
            y: vec![0.0; workload.rows() * workload.hidden],
            scratch: vec![0.0; shape.packed_scratch_len(extent)],
        })
    }
}

impl Run for PackedInfer {
    fn run(&mut self) {
        self.state.fill(0.0);
        let (x, state, y) = (&self.x, &mut self.state, &mut self.y);
        let done = self
            .model
            .infer(self.extent, x, state, y, &mut self.scratch);
        done.expect("every buffer has the length that the shape gives");
    }
    fn outcome(&self) -> &[f32] {
        &self.y
    }
}

/// The sizes that are compiled in packed, and inference behind the run-time API.
fn packed(workload: &Workload) -> Option<Box<dyn Run>> {
    if (workload.mode, workload.head) == (Mode::Infer, Head::None) {
        return Some(PackedInfer::boxed(workload));
    }
    let streams = *workload
        == Workload {
            mode: Mode::Stream,
            head: Head::None,
            inputs: 1,
            layers: 1,
            batch: 1,
            steps: 1,
            ..*workload
        };
    if !streams {
        return None;
    }
    match workload.hidden {
        8 => Some(PackedSteps::<Lstm<1, 8>>::boxed(workload)),
        16 => Some(PackedSteps::<Lstm<1, 16>>::boxed(workload)),
        20 => Some(PackedSteps::<Lstm<1, 20>>::boxed(workload)),
        32 => Some(PackedSteps::<Lstm<1, 32>>::boxed(workload)),
        40 => Some(PackedSteps::<Lstm<1, 40>>::boxed(workload)),
        64 => Some(PackedSteps::<Lstm<1, 64>>::boxed(workload)),
        128 => Some(PackedSteps::<Lstm<1, 128>>::boxed(workload)),
        256 => Some(PackedSteps::<Lstm<1, 256>>::boxed(workload)),
        512 => Some(PackedSteps::<Lstm<1, 512>>::boxed(workload)),
        _ => None,
    }
}

fn echo_step(workload: &Workload) -> Box<dyn Run> {
    let numbers = workload.numbers();
    Box::new(FixedEchoStep::<Layers3<1, 4>> {
        net: boxed(&numbers.params),
        x: boxed(&numbers.x),
        state: zeroed_box(),
        y: zeroed_box(),
        scratch: zeroed_box(),
        probabilities: Flat::ZERO,
    })
}
