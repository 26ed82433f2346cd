//! Other libraries that do the same, each in a process of its own: see
//! `peers/README.md` for the lines that go back and forth.

use crate::workload::{Head, Mode, Workload};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The ones there are, in the order of the tables.
pub const NAMES: [&str; 9] = [
    "onednn",
    "onnxruntime",
    "torch",
    "jax",
    "tensorflow",
    "tract",
    "rten",
    "candle",
    "burn",
];

/// A library that waits for work.
pub struct Peer {
    /// Its name, of [`NAMES`].
    pub name: &'static str,
    /// Threads that it may use.
    pub threads: usize,
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

/// What a peer says of a workload.
pub enum Answer {
    /// It does all of it.
    Whole,
    /// It does less: why.
    Part(String),
    /// It cannot do it: why.
    No(String),
}

impl Peer {
    /// Starts a peer that `peers/build` has put into `built`.
    pub fn start(name: &'static str, threads: usize, built: &Path) -> io::Result<Self> {
        let python = built.join("venv/bin/python");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/peers.py");
        let mut command = match name {
            "onednn" => Command::new(built.join("onednn")),
            "burn" | "candle" | "rten" | "tract" => {
                let mut command = Command::new(built.join("rust/release/peers-rust"));
                command.arg(name);
                command
            }
            _ => {
                let mut command = Command::new(&python);
                command.arg("-W").arg("ignore").arg(script).arg(name);
                command
            }
        };
        let mut child = command
            .arg(threads.to_string())
            .env("PEERS_PYTHON", &python)
            .env("OMP_NUM_THREADS", threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let gone = || io::Error::other("no pipe to the peer");
        let to = child.stdin.take().ok_or_else(gone)?;
        let from = BufReader::new(child.stdout.take().ok_or_else(gone)?);
        Ok(Self {
            name,
            threads,
            child,
            to,
            from,
        })
    }

    fn ask(&mut self, line: &str) -> io::Result<String> {
        writeln!(self.to, "{line}")?;
        self.to.flush()?;
        let mut answer = String::new();
        if self.from.read_line(&mut answer)? == 0 {
            return Err(io::Error::other("it has stopped"));
        }
        Ok(answer.trim().to_owned())
    }

    /// Makes the peer ready for a workload; the outcome of doing it once is in the
    /// file `outcome` afterwards.
    pub fn load(&mut self, workload: &Workload, numbers: &Path, outcome: &Path) -> Answer {
        let Workload {
            mode,
            head,
            inputs,
            hidden,
            layers,
            batch,
            steps,
        } = workload;
        let mode = match mode {
            Mode::Stream => "stream",
            Mode::Infer => "infer",
            Mode::Train => "train",
        };
        let head = match head {
            Head::None => "none",
            Head::Adagrad => "adagrad",
            Head::Adam => "adam",
        };
        let line = format!(
            "load {mode} {head} {inputs} {hidden} {layers} {batch} {steps} {} {}",
            numbers.display(),
            outcome.display()
        );
        match self.ask(&line) {
            Err(e) => Answer::No(e.to_string()),
            Ok(answer) => match answer.split_once(' ').unwrap_or((&answer, "")) {
                ("ok", _) => Answer::Whole,
                ("partial", why) => Answer::Part(why.to_owned()),
                (_, why) => Answer::No(why.to_owned()),
            },
        }
    }

    /// Nanoseconds a call, for about so many seconds.
    pub fn time(&mut self, seconds: f64) -> Vec<f64> {
        let answer = self.ask(&format!("time {seconds}")).unwrap_or_default();
        answer
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have stopped by itself; then there is nothing to end.
        let _ = writeln!(self.to, "quit").and_then(|()| self.to.flush());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes the numbers of a workload to a file for the peers.
pub fn write_numbers(workload: &Workload, path: &PathBuf) -> io::Result<()> {
    let numbers = workload.numbers();
    let mut bytes = Vec::new();
    for values in [&numbers.params, &numbers.x, &numbers.dy] {
        bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    }
    bytes.extend(numbers.labels.iter().flat_map(|v| v.to_le_bytes()));
    std::fs::write(path, bytes)
}

/// The largest difference from ours in a file of the peer's, if it has as many numbers.
pub fn difference(ours: &[f32], path: &Path) -> Option<f32> {
    let bytes = std::fs::read(path).ok()?;
    let (theirs, _) = bytes.as_chunks::<4>();
    if theirs.len() != ours.len() {
        return None;
    }
    let differences = theirs
        .iter()
        .zip(ours)
        .map(|(t, o)| (f32::from_le_bytes(*t) - o).abs());
    // Not `max`, which would pass over a NaN.
    Some(differences.fold(0.0, |a, b| if b <= a { a } else { b }))
}
