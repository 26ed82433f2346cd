//! `train`: the loop with its printing, its files and its end.

use crate::args::Train;
use fused_lstm_driver::log::{Log, Row};
use fused_lstm_driver::settings::{Preset, Settings};
use fused_lstm_driver::tensors::check_writable;
use fused_lstm_driver::train::{Step, Trainer};
use fused_lstm_driver::{Error, checkpoint, plot};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// How a run ended that did not fail.
pub enum End {
    /// It did all its steps.
    Done,
    /// Ctrl-C.
    Interrupted,
}

/// Steps between two lines, and between two pictures.
const EVERY: u64 = 100;

pub fn train(arguments: &Train) -> Result<End, Error> {
    let files = &arguments.files;
    files.check(arguments.settings.data.as_ref())?;
    let mut trainer = trainer(arguments)?;
    // What cannot be written at the end is refused at the beginning.
    if let Some(path) = &files.save {
        check_writable(path)?;
    }
    if let Some(path) = &files.plot {
        plot::check(path)?;
    }
    let (mut log, mut losses) = match &files.log {
        Some(path) => open_log(path, &trainer, files.resume.is_some())?,
        None => (None, Vec::new()),
    };
    let interrupted = watch_for_interrupts();
    let mut printer = Printer::new(arguments.quiet, &trainer);

    while !interrupted.load(Ordering::Relaxed) {
        let Some(step) = trainer.step()? else { break };
        if let Some(log) = &mut log {
            log.write(step)?;
        }
        printer.step(step)?;
        if let Some(path) = &files.plot {
            losses.push(Row {
                step: step.step,
                epoch: step.epoch,
                loss: step.loss,
            });
            if step.batch.is_multiple_of(EVERY) {
                plot::draw(path, &trainer, &losses)?;
            }
        }
        if let (Some(path), Some(every)) = (&files.save, files.save_every)
            && trainer.done().is_multiple_of(every)
        {
            save(path, &trainer, &mut log)?;
        }
    }

    if let Some(log) = &mut log {
        log.flush()?;
    }
    if let Some(path) = &files.save {
        save(path, &trainer, &mut log)?;
    }
    if let (Some(path), true) = (&files.plot, trainer.done() > printer.first) {
        plot::draw(path, &trainer, &losses)?;
    }
    printer.end(&trainer, files.save.as_deref())?;
    Ok(if trainer.done() < trainer.steps() {
        End::Interrupted
    } else {
        End::Done
    })
}

/// The run that the arguments ask for: a new one, or one that goes on.
fn trainer(arguments: &Train) -> Result<Trainer, Error> {
    let (flags, files) = (&arguments.settings, &arguments.files);
    if let Some(path) = &files.resume {
        let trainer = checkpoint::resume(path)?;
        flags.agree_with(arguments.preset, trainer.settings())?;
        return Ok(trainer);
    }
    let preset = arguments.preset.unwrap_or(Preset::Echo);
    let trainer = Trainer::new(flags.over(Settings::preset(preset))?)?;
    match &files.init {
        Some(path) => trainer.with_weights(path),
        None => Ok(trainer),
    }
}

/// The log, and the losses that are in it already.
fn open_log(
    path: &Path,
    trainer: &Trainer,
    resuming: bool,
) -> Result<(Option<Log>, Vec<Row>), Error> {
    let (log, rows) = if resuming {
        Log::resume(path, trainer.done())?
    } else {
        (Log::create(path)?, Vec::new())
    };
    Ok((Some(log), rows))
}

/// A checkpoint, after the rows of the log that it will be gone on from.
fn save(path: &Path, trainer: &Trainer, log: &mut Option<Log>) -> Result<(), Error> {
    if let Some(log) = log {
        log.sync()?;
    }
    checkpoint::save(trainer, path)
}

/// Set once the process is asked to end.
fn watch_for_interrupts() -> &'static AtomicBool {
    static INTERRUPTED: AtomicBool = AtomicBool::new(false);
    // Without a handler Ctrl-C still ends the process, only less kindly.
    let _ = ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            // The second time somebody means it.
            std::process::exit(130);
        }
    });
    &INTERRUPTED
}

/// What people see: the tutorials' lines, and on a terminal a bar.
struct Printer {
    quiet: bool,
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
        let template = "{bar:30.cyan/dim} {pos}/{len} steps  {per_sec}  {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_position(trainer.done());
        let first = trainer.done();
        Self {
            quiet,
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
                self.quiet = true;
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
            Some(path) => self.say(&format!("Saved to {}", path.display())),
            None => Ok(()),
        }
    }
}
