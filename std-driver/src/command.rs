//! The commands: what the arguments ask of the library.

use crate::args::{Export, Run, Train, What, setting};
use crate::complain;
use crate::echo_report::Reports;
use crate::end::{End, first_of};
use crate::learn;
use fused_lstm_driver::checkpoint::{self, Checkpoint};
use fused_lstm_driver::data::GivenData;
use fused_lstm_driver::files::Contents;
use fused_lstm_driver::settings::{Preset, Settings};
use fused_lstm_driver::train::Trainer;
use fused_lstm_driver::{Error, export, infer, plot, signals, threads};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

pub fn run(run: &Run) -> Result<(), Error> {
    threads::start(run.threads.map(usize::from))?;
    let files = infer::Files {
        model: &run.model,
        input: &run.input,
        state: run.state.as_deref(),
        output: &run.output,
        force: run.force,
    };
    let options = infer::Options {
        batch_first: run.batch_first,
        outputs: run.outputs.clone(),
    };
    infer::run(files, &options)
}

pub fn export(export: &Export) -> Result<(), Error> {
    export::export(export::Export {
        model: &export.model,
        format: export.format,
        output: &export.output,
        name: export.name.as_deref(),
        force: export.force,
    })
}

pub fn train(arguments: &Train) -> Result<End, Error> {
    let files = &arguments.files;
    if let Some(end) = learn::train(arguments)? {
        return Ok(end);
    }
    let (mut trainer, news) = trainer(arguments)?;
    if let Some(report) = &files.report {
        let expected = "a run by a recipe of another job than echo (--plot draws the tutorials)";
        return Err(setting("report", expected, report.display()));
    }
    // What cannot be written at the end is refused at the beginning.
    if let Some(path) = &files.plot {
        plot::check(path)?;
    }
    let data = trainer.settings().data.as_deref();
    let log = match files.resume {
        Some(_) => Contents::ResumedLog,
        None => Contents::Log,
    };
    files.check(data.map(|path| ("data", path)), log)?;
    // One shard is one thread's.
    let one = trainer.settings().shards == 1;
    threads::start(if one {
        Some(1)
    } else {
        arguments.threads.map(usize::from)
    })?;
    let asked = signals::watch()?;
    let mut reports = Reports::new(arguments, &trainer)?;
    if !arguments.quiet
        && let Some(warning) = trainer.settings().warning()
    {
        complain(&format!("warning: {warning}"));
    }
    reports.say(&news)?;

    let save = files.save.as_deref();
    let ended = steps(&mut trainer, &mut reports, save, files.save_every, asked);
    // First of all: whatever went wrong, the training is not lost.
    let saved = save.map(|path| {
        reports.sync()?;
        checkpoint::save(&trainer, path)
    });
    first_of(ended, saved)?;
    reports.end(&trainer, save)?;
    Ok(if reports.failed() {
        End::Failed
    } else if trainer.done() < trainer.steps() {
        End::Interrupted
    } else {
        End::Done
    })
}

/// All steps, until they are done or somebody asks to end.
fn steps(
    trainer: &mut Trainer,
    reports: &mut Reports,
    save: Option<&Path>,
    every: Option<u64>,
    asked: &AtomicBool,
) -> Result<(), Error> {
    while !asked.load(Ordering::Relaxed) && reports.are_wanted() {
        let Some(step) = trainer.step()? else { break };
        reports.step(trainer, step)?;
        if let (Some(path), Some(every)) = (save, every)
            && trainer.done().is_multiple_of(every)
        {
            reports.sync()?;
            // There is another chance at the end, and until then the older one.
            if let Err(error) = checkpoint::save(trainer, path) {
                complain(&format!("warning: {error}; the run goes on"));
            }
        }
    }
    Ok(())
}

/// The run that the arguments ask for, a new one or one that goes on, and what there is to say
/// about it.
fn trainer(arguments: &Train) -> Result<(Trainer, String), Error> {
    let (flags, files) = (&arguments.settings, &arguments.files);
    if let Some(path) = &files.resume {
        let checkpoint = Checkpoint::open(path)?;
        let own = checkpoint.settings();
        let preset = match &arguments.what {
            Some(What::Preset(preset)) => Some(*preset),
            _ => None,
        };
        let settings = flags.resumed(preset, own)?;
        let changes = settings.changes_from(own)?.join(", ");
        let trainer = checkpoint.resume(settings)?;
        let (done, steps) = (trainer.done(), trainer.steps());
        let with = if changes.is_empty() {
            String::new()
        } else {
            format!(" with {changes}")
        };
        let news = if done == steps {
            format!("All {steps} steps are done already{with}: more --epochs go on from here")
        } else if with.is_empty() {
            String::new()
        } else {
            format!("Goes on after step {done} of {steps}{with}")
        };
        return Ok((trainer, news));
    }
    let base = match &arguments.what {
        Some(What::Recipe(path)) => {
            learn::echo_settings(path)?.unwrap_or(Settings::preset(Preset::Echo))
        }
        Some(What::Preset(preset)) => Settings::preset(*preset),
        _ => Settings::preset(Preset::Echo),
    };
    let mut settings = flags.over(base)?;
    let data = settings.data.as_deref();
    let data = data.map(|path| GivenData::open(path, settings.epochs.max(1)));
    let data = data.transpose()?;
    if let (Some(data), None) = (&data, flags.series_length) {
        settings.series_length = data.series_length();
    }
    let trainer = Trainer::with_data(settings, data)?;
    let trainer = match &files.init {
        Some(path) => trainer.with_weights(path)?,
        None => trainer,
    };
    Ok((trainer, String::new()))
}
