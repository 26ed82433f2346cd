//! What is measured: sizes, what is done with them, and what that costs at least.

use std::fmt;
use std::str::FromStr;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One call of T steps, state carried from call to call.
    Stream,
    /// One sequence from a state, without a cache.
    Infer,
    /// Forward, backward, the gradients of all parameters, the update.
    Train,
}

/// What closes the network in training or inference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// Nothing: in training the gradient of the output is given, and the update is
    /// gradient descent.
    None,
    /// Two classes and softmax cross-entropy, Adagrad.
    Adagrad,
    /// Two classes and softmax cross-entropy, Adam.
    Adam,
}

/// Sizes, and what is done with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// What is done.
    pub mode: Mode,
    /// What closes the network.
    pub head: Head,
    /// Inputs, I.
    pub inputs: usize,
    /// Hidden units, H, of every layer.
    pub hidden: usize,
    /// Layers, L.
    pub layers: usize,
    /// Batch rows, B.
    pub batch: usize,
    /// Time steps, T.
    pub steps: usize,
}

/// Classes of a head.
pub const CLASSES: usize = 2;

impl Workload {
    /// `I,H,L,B,T`.
    pub fn parse(mode: Mode, sizes: &str) -> Result<Self, String> {
        let numbers: Result<Vec<usize>, _> = sizes
            .split(',')
            .map(|n| usize::from_str(n.trim()))
            .collect();
        let wrong = || format!("--workload: expected five sizes I,H,L,B,T above 0, got '{sizes}'");
        let numbers = numbers.map_err(|_| wrong())?;
        let &[inputs, hidden, layers, batch, steps] = numbers.as_slice() else {
            return Err(wrong());
        };
        if numbers.contains(&0) || numbers.iter().any(|&n| n > 1 << 16) {
            return Err(wrong());
        }
        Ok(Self {
            mode,
            head: Head::None,
            inputs,
            hidden,
            layers,
            batch,
            steps,
        })
    }

    fn of(mode: Mode, head: Head, [inputs, hidden, layers, batch, steps]: [usize; 5]) -> Self {
        Self {
            mode,
            head,
            inputs,
            hidden,
            layers,
            batch,
            steps,
        }
    }

    /// The ones that the tables show.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for hidden in [8, 16, 20, 32, 40, 64, 128, 256, 512] {
            all.push(Self::of(Mode::Stream, Head::None, [1, hidden, 1, 1, 1]));
        }
        all.push(Self::of(Mode::Stream, Head::Adagrad, [1, 4, 3, 1, 1]));
        for sizes in [
            [64, 64, 1, 1, 128],
            [128, 128, 1, 1, 128],
            [512, 512, 1, 1, 100],
            [128, 128, 1, 32, 64],
            [256, 256, 2, 32, 64],
            [512, 512, 1, 64, 50],
            [1024, 1024, 1, 32, 25],
            [1500, 1500, 2, 20, 35],
        ] {
            all.push(Self::of(Mode::Infer, Head::None, sizes));
        }
        all.push(Self::of(Mode::Train, Head::Adagrad, [1, 4, 3, 5, 15]));
        all.push(Self::of(Mode::Train, Head::Adam, [1, 4, 1, 100, 10]));
        for sizes in [
            [8, 32, 2, 16, 32],
            [32, 64, 2, 32, 50],
            [128, 128, 1, 32, 64],
            [256, 256, 2, 32, 64],
            [512, 512, 1, 64, 50],
            [650, 650, 2, 20, 35],
            [1024, 1024, 1, 32, 25],
            [1500, 1500, 2, 20, 35],
        ] {
            all.push(Self::of(Mode::Train, Head::None, sizes));
        }
        all
    }

    /// Rows of all steps, T·B.
    pub fn rows(&self) -> usize {
        self.steps * self.batch
    }

    /// Hidden units of each layer.
    pub fn hidden(&self) -> Vec<usize> {
        vec![self.hidden; self.layers]
    }

    /// Multiplications and additions of the products that the task cannot do
    /// without: gates; in training also the gradients of the kernels, of the hidden
    /// states, and of the inputs of every layer but the first.
    pub fn flops(&self) -> f64 {
        let layer = |inputs: usize, index: usize| {
            let gates = inputs + self.hidden;
            let products = match self.mode {
                Mode::Stream | Mode::Infer => gates,
                Mode::Train => 2 * gates + self.hidden + if index > 0 { inputs } else { 0 },
            };
            2.0 * (4 * self.hidden * products * self.rows()) as f64
        };
        (0..self.layers)
            .map(|index| layer(if index == 0 { self.inputs } else { self.hidden }, index))
            .sum()
    }

    /// Bytes of the kernels and biases.
    pub fn weight_bytes(&self) -> usize {
        (0..self.layers)
            .map(|index| {
                let inputs = if index == 0 { self.inputs } else { self.hidden };
                4 * 4 * self.hidden * (inputs + self.hidden + 1)
            })
            .sum()
    }

    /// Bytes of weights that have to be read from memory or cache at least: the
    /// recurrent kernels once for every step (in training once more backwards),
    /// the others once for every call.
    pub fn bytes(&self) -> f64 {
        let recurrent = 4 * 4 * self.hidden * self.hidden * self.layers;
        let passes = if self.mode == Mode::Train { 2 } else { 1 };
        (passes * (recurrent * (self.steps - 1) + self.weight_bytes())) as f64
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            mode,
            head,
            inputs,
            hidden,
            layers,
            batch,
            steps,
        } = self;
        match (mode, head) {
            (Mode::Stream, Head::None) => write!(f, "A_stream_I{inputs}_H{hidden}")?,
            (Mode::Stream, _) => write!(f, "A_echo_I{inputs}_H{hidden}_L{layers}_softmax")?,
            (Mode::Infer, _) => write!(f, "B_I{inputs}_H{hidden}_L{layers}_B{batch}_T{steps}")?,
            (Mode::Train, Head::None) => {
                write!(f, "C_I{inputs}_H{hidden}_L{layers}_B{batch}_T{steps}")?;
            }
            (Mode::Train, head) => write!(
                f,
                "C_echo_I{inputs}_H{hidden}_L{layers}_B{batch}_T{steps}_{}",
                if *head == Head::Adam {
                    "adam"
                } else {
                    "adagrad"
                }
            )?,
        }
        if (*mode, *head) == (Mode::Stream, Head::None) && (*layers, *batch, *steps) != (1, 1, 1) {
            write!(f, "_L{layers}_B{batch}_T{steps}")?;
        }
        Ok(())
    }
}
