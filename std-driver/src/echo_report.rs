//! What `train` tells of a run: lines and a bar for people, the log and the picture.
//!
//! If one of them fails, a run that will be saved goes on without it; one that will not has
//! nothing else to give, and ends.

use crate::args::Train;
use crate::complain;
use fused_lstm_driver::curve::Curve;
use fused_lstm_driver::files::is_standard_output;
use fused_lstm_driver::log::Log;
use fused_lstm_driver::train::{Step, Trainer};
use fused_lstm_driver::{Error, one_line, plot};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::fmt;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Steps between two lines, and between two pictures.
const EVERY: u64 = 100;

pub struct Reports {
    log: Option<Log>,
    plot: Option<PathBuf>,
    curve: Curve,
    printer: Printer,
    will_be_saved: bool,
    failed: bool,
}

impl Reports {
    /// Opens the log, and reads it if the run goes on.
    pub fn new(arguments: &Train, trainer: &Trainer) -> Result<Self, Error> {
        let files = &arguments.files;
        let (log, rows) = match &files.log {
            Some(path) if files.resume.is_some() => {
                let per_epoch = trainer.settings().steps_per_epoch();
                let (log, rows) = Log::resume(path, trainer.done(), per_epoch)?;
                (Some(log), rows)
            }
            Some(path) => (Some(Log::create(path)?), Vec::new()),
            None => (None, Vec::new()),
        };
        // Lines between the bytes of a file would spoil it.
        let written = [&files.save, &files.log].into_iter().flatten();
        let to_standard_output = written.clone().any(|path| is_standard_output(path));
        let mut curve = Curve::default();
        rows.into_iter().for_each(|row| curve.add(row));
        Ok(Self {
            log,
            plot: files.plot.clone(),
            curve,
            printer: Printer::new(arguments.quiet || to_standard_output, trainer),
            will_be_saved: files.save.is_some(),
            failed: false,
        })
    }

    /// Whether anybody or any file still gets something of the run.
    pub fn are_wanted(&self) -> bool {
        let files = self.will_be_saved || self.log.is_some() || self.plot.is_some();
        files || !self.printer.unread
    }

    /// Whether something has failed, and the run has gone on.
    pub fn failed(&self) -> bool {
        self.failed
    }

    pub fn say(&mut self, line: &str) -> Result<(), Error> {
        if line.is_empty() {
            return Ok(());
        }
        let said = self.printer.say(line);
        self.printed(said)
    }

    pub fn step(&mut self, trainer: &Trainer, step: Step) -> Result<(), Error> {
        if let Some(log) = &mut self.log {
            let written = log.write(step.into());
            self.logged(written)?;
        }
        let printed = self.printer.step(step);
        self.printed(printed)?;
        if self.plot.is_some() {
            self.curve.add(step.into());
            if step.batch.is_multiple_of(EVERY) {
                self.draw(trainer)?;
            }
        }
        Ok(())
    }

    /// Puts the log on the disk, before a checkpoint of its last step.
    pub fn sync(&mut self) -> Result<(), Error> {
        match &mut self.log {
            Some(log) => {
                let written = log.sync();
                self.logged(written)
            }
            None => Ok(()),
        }
    }

    /// The last picture and the summary; `saved` is where the run was saved.
    pub fn end(&mut self, trainer: &Trainer, saved: Option<&Path>) -> Result<(), Error> {
        if let Some(log) = &mut self.log {
            let written = log.flush();
            self.logged(written)?;
        }
        if trainer.done() > self.printer.first {
            self.draw(trainer)?;
        }
        let printed = self.printer.end(trainer, saved);
        self.printed(printed)
    }

    fn draw(&mut self, trainer: &Trainer) -> Result<(), Error> {
        let Some(path) = &self.plot else {
            return Ok(());
        };
        let drawn = plot::draw(path, trainer, &self.curve);
        if drawn.is_err() {
            self.plot = None;
        }
        self.go_on(drawn)
    }

    fn logged(&mut self, result: Result<(), Error>) -> Result<(), Error> {
        if result.is_err() {
            self.log = None;
        }
        self.go_on(result)
    }

    fn printed(&mut self, result: Result<(), Error>) -> Result<(), Error> {
        if result.is_err() {
            self.printer.quiet = true;
        }
        self.go_on(result)
    }

    fn go_on(&mut self, result: Result<(), Error>) -> Result<(), Error> {
        match result {
            Err(error) if self.will_be_saved => {
                complain(&format!("error: {error}; the run goes on without it"));
                self.failed = true;
                Ok(())
            }
            result => result,
        }
    }
}

/// What people see: the tutorials' lines, and on a terminal a bar.
struct Printer {
    quiet: bool,
    /// Whether the reader of the lines has gone.
    unread: bool,
    bar: ProgressBar,
    start: Instant,
    first: u64,
    epoch: Option<u64>,
    /// The last losses, for the summary.
    last: [f32; 100],
}

impl Printer {
    fn new(quiet: bool, trainer: &Trainer) -> Self {
        let target = if quiet {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let bar = ProgressBar::with_draw_target(Some(trainer.steps()), target);
        // The bar takes what the rest leaves of the line, down to 60 columns.
        let template = "{wide_bar:.cyan/dim} {pos}/{len}  {rate}  {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            let rate = |state: &ProgressState, line: &mut dyn fmt::Write| {
                let _ = write!(line, "{:.0} steps/s", state.per_sec());
            };
            bar.set_style(style.with_key("rate", rate));
        }
        bar.set_position(trainer.done());
        // The rate is that of this process.
        bar.reset_eta();
        let first = trainer.done();
        Self {
            quiet,
            unread: false,
            bar,
            start: Instant::now(),
            first,
            epoch: None,
            last: [f32::NAN; 100],
        }
    }

    fn say(&mut self, line: &str) -> Result<(), Error> {
        if self.quiet {
            return Ok(());
        }
        match self.bar.suspend(|| writeln!(std::io::stdout(), "{line}")) {
            // Nobody reads any more: the run goes on, for its files.
            Err(e) if e.kind() == ErrorKind::BrokenPipe => {
                (self.quiet, self.unread) = (true, true);
                Ok(())
            }
            result => result.map_err(|source| Error::Io {
                path: PathBuf::from("standard output"),
                action: "write",
                source,
            }),
        }
    }

    fn step(&mut self, step: Step) -> Result<(), Error> {
        self.last[(step.step % 100) as usize] = step.loss;
        self.bar.inc(1);
        if self.epoch != Some(step.epoch) {
            self.epoch = Some(step.epoch);
            self.say(&format!("New data, epoch {}", step.epoch))?;
        }
        if step.batch.is_multiple_of(EVERY) {
            self.say(&format!("Step {} Batch loss {:.6}", step.batch, step.loss))?;
        }
        Ok(())
    }

    fn end(&mut self, trainer: &Trainer, saved: Option<&Path>) -> Result<(), Error> {
        self.bar.finish_and_clear();
        let done = trainer.done() - self.first;
        let seconds = self.start.elapsed().as_secs_f64();
        let known = self.last.iter().filter(|loss| !loss.is_nan());
        let (sum, count) = known.fold((0.0, 0), |(sum, count), loss| (sum + loss, count + 1));
        let mean = if count == 0 {
            f32::NAN
        } else {
            sum / count as f32
        };
        let per_second = done as f64 / seconds.max(1e-9);
        if trainer.done() < trainer.steps() {
            let (at, of) = (trainer.done(), trainer.steps());
            self.say(&format!("Interrupted after step {at} of {of}"))?;
        }
        if done > 0 {
            self.say(&format!(
                "{done} steps in {seconds:.2} s, {per_second:.0} steps per second"
            ))?;
            self.say(&format!("Mean loss of the last {count} steps: {mean:.6}"))?;
        }
        match saved {
            Some(path) => self.say(&format!("Saved to {}", one_line(path.display()))),
            None => Ok(()),
        }
    }
}
