//! `train` by a recipe: lines and a bar for people, the log, the report and the model.

use crate::args::{Train, What, setting};
use crate::end::{End, first_of};
use crate::{complain, complain_only_if};
use fused_lstm_driver::jobs::{Init, Run, Saved};
use fused_lstm_driver::recipe::{Job, Recipe, echo_to_toml};
use fused_lstm_driver::settings::Settings;
use fused_lstm_driver::tensors::TensorFile;
use fused_lstm_driver::trainer::{Epoch, Event, Group};
use fused_lstm_driver::{Error, files, jobs, one_line, recipe, report, signals, threads};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// The settings of a recipe whose job is the echo.
pub fn echo_settings(path: &Path) -> Result<Option<Settings>, Error> {
    recipe::echo_settings(path, &read(path)?)
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Io {
        path: path.to_owned(),
        action: "read",
        source,
    })
}

/// A run by a recipe, if that is what the arguments ask for.
pub fn train(arguments: &Train) -> Result<Option<End>, Error> {
    if arguments.print_recipe {
        print_recipe(arguments)?;
        return Ok(Some(End::Done));
    }
    let group = group();
    complain_only_if(group.is_first());
    let flags = &arguments.settings;
    let resumes = match &arguments.files.resume {
        Some(path) => Saved::is(&TensorFile::open(path)?),
        None => false,
    };
    let run = match (&arguments.what, &arguments.files.resume) {
        (what, Some(path)) if resumes => {
            if let Some(what) = what {
                let got = format!("{what:?}");
                return Err(setting(
                    "resume",
                    "no recipe beside it: it has its own",
                    got,
                ));
            }
            let own = Saved::open(path)?.recipe.model.hidden;
            let mut changes = flags.changes(&own)?;
            changes.extend(arguments.sets.iter().cloned());
            Run::resume(path, &changes, flags.data.as_deref())?
        }
        (Some(What::Recipe(path)), None) => {
            if echo_settings(path)?.is_some() {
                return refuse_sets(arguments).map(|()| None);
            }
            let own = Recipe::open(path, &[])?.model.hidden;
            let mut changes = flags.changes(&own)?;
            changes.extend(arguments.sets.iter().cloned());
            let mut recipe = Recipe::open(path, &changes)?;
            if let Some(data) = &flags.data {
                recipe.job.with_file(data.clone());
            }
            let init = arguments
                .files
                .init
                .as_deref()
                .map(Init::open)
                .transpose()?;
            Run::new(recipe, init)?
        }
        (Some(What::Job(job)), _) => {
            let expected = "a recipe: train JOB --print-recipe prints one to start from";
            let got = format!("{job:?}").to_lowercase();
            return Err(setting("train", expected, got));
        }
        _ => return refuse_sets(arguments).map(|()| None),
    };
    learn(arguments, run, group).map(Some)
}

fn refuse_sets(arguments: &Train) -> Result<(), Error> {
    match arguments.sets.first() {
        Some((key, _)) => Err(setting("set", "a recipe of another job than echo", key)),
        None => Ok(()),
    }
}

fn print_recipe(arguments: &Train) -> Result<(), Error> {
    let flags = &arguments.settings;
    let preset = |settings| Ok::<_, Error>(echo_to_toml(&flags.over(settings)?));
    let with_flags = |path: &Path, text: &str| {
        let own = Recipe::of_text(path, text, &[])?.model.hidden;
        let mut changes = flags.changes(&own)?;
        changes.extend(arguments.sets.iter().cloned());
        Ok::<_, Error>(Recipe::of_text(path, text, &changes)?.to_toml())
    };
    let text = match &arguments.what {
        None => preset(Settings::preset(fused_lstm_driver::settings::Preset::Echo))?,
        Some(What::Preset(name)) => preset(Settings::preset(*name))?,
        Some(What::Job(job)) => with_flags("the recipe".as_ref(), &Recipe::preset(*job).to_toml())?,
        Some(What::Recipe(path)) => match echo_settings(path)? {
            Some(settings) => preset(settings)?,
            None => with_flags(path, &read(path)?)?,
        },
    };
    say(text.trim_end()).map(drop)
}

/// A line on standard output; whether anybody reads it.
fn say(line: &str) -> Result<bool, Error> {
    match writeln!(std::io::stdout(), "{line}") {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(source) => Err(Error::Io {
            path: PathBuf::from("standard output"),
            action: "write",
            source,
        }),
    }
}

/// The processes that `mpirun` started, or this one alone.
fn group() -> Group {
    #[cfg(feature = "mpi")]
    return Group::of_ranks();
    #[cfg(not(feature = "mpi"))]
    Group::alone()
}

fn learn(arguments: &Train, run: Run, group: Group) -> Result<End, Error> {
    let mut run = run.with_group(group)?;
    let files = &arguments.files;
    let size = run.trainer.group().size();
    if size > run.recipe.training.shards {
        let expected = format!("at least {size}, a shard for each process");
        return Err(Error::Recipe {
            key: "training.shards".into(),
            expected,
            got: run.recipe.training.shards.to_string(),
        });
    }
    if let Some(plot) = &files.plot {
        let expected = "a tutorial (--report writes a page with the pictures of a recipe's job)";
        return Err(setting("plot", expected, plot.display()));
    }
    let data = &run.task.files;
    let mut read: Vec<_> = data.iter().map(|path| ("data", path.as_path())).collect();
    if let Some(What::Recipe(path)) = &arguments.what {
        read.push(("recipe", path));
    }
    // A resumed run writes its log anew.
    files.check(read, files::Contents::Log)?;
    threads::start(match run.recipe.training.shards {
        1 => Some(1),
        _ => arguments.threads.map(usize::from),
    })?;
    let asked = signals::watch()?;
    let mut told = Told::new(arguments, &run);
    for line in &run.task.summary {
        told.say(line)?;
    }
    let params = run.trainer.params().len();
    let layers: Vec<&str> = run
        .task
        .stages
        .iter()
        .map(|stage| stage.name.as_str())
        .collect();
    told.say(&format!("{params} parameters: {}", layers.join(", ")))?;
    if files.save.is_none() {
        told.say("Nothing will be kept of it: --save FILE.safetensors keeps the model")?;
    }
    let ended = epochs(arguments, &mut run, &mut told, asked);
    // First of all: whatever went wrong, the training is not lost.
    let saved = files.save.as_deref().map(|path| run.save(path));
    first_of(ended, saved)?;
    told.end(&run, files.save.as_deref())?;
    if let Some(path) = &files.report
        && run.trainer.group().is_first()
    {
        report::write(path, &run)?;
    }
    Ok(match run.trainer.is_done() {
        true => End::Done,
        false => End::Interrupted,
    })
}

/// All epochs, until they are done or somebody asks to end.
fn epochs(
    arguments: &Train,
    run: &mut Run,
    told: &mut Told,
    asked: &AtomicBool,
) -> Result<(), Error> {
    let files = &arguments.files;
    let mut steps = 0;
    // All processes end at the same step.
    while !run.trainer.group().any(asked.load(Ordering::Relaxed)) {
        let Some(event) = run.trainer.step()? else {
            break;
        };
        match event {
            Event::Step { loss, .. } => {
                steps += 1;
                told.step(run, loss);
                if let (Some(path), Some(every)) = (&files.save, files.save_every)
                    && steps % every == 0
                    // There is another chance at the end, and until then the older one.
                    && let Err(error) = run.save(path)
                {
                    complain(&format!("warning: {error}; the run goes on"));
                }
            }
            Event::Epoch(epoch) => {
                told.epoch(run, &epoch)?;
                if let Some(path) = &files.log
                    && run.trainer.group().is_first()
                {
                    report::log(path, run)?;
                }
                if let Some(path) = &files.save
                    && let Err(error) = run.save(path)
                {
                    complain(&format!("warning: {error}; the run goes on"));
                }
            }
        }
    }
    Ok(())
}

/// What people see: a line for each epoch, and on a terminal a bar.
struct Told {
    quiet: bool,
    bar: ProgressBar,
    start: Instant,
    first: u64,
}

impl Told {
    fn new(arguments: &Train, run: &Run) -> Self {
        let written = [
            &arguments.files.save,
            &arguments.files.log,
            &arguments.files.report,
        ];
        let quiet = arguments.quiet
            || !run.trainer.group().is_first()
            || written
                .into_iter()
                .flatten()
                .any(|path| files::is_standard_output(path));
        let target = match quiet {
            true => ProgressDrawTarget::hidden(),
            false => ProgressDrawTarget::stderr(),
        };
        let (done, of) = run.trainer.done_of();
        let bar = ProgressBar::with_draw_target(Some(of), target);
        let template = "{wide_bar:.cyan/dim} {pos}/{len}  loss {msg}  {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_position(done);
        bar.reset_eta();
        Self {
            quiet,
            bar,
            start: Instant::now(),
            first: done,
        }
    }

    fn say(&mut self, line: &str) -> Result<(), Error> {
        if !self.quiet && !self.bar.suspend(|| say(line))? {
            self.quiet = true;
        }
        Ok(())
    }

    fn step(&mut self, run: &Run, loss: f32) {
        let (done, of) = run.trainer.done_of();
        self.bar.set_length(of);
        self.bar.set_position(done);
        self.bar.set_message(format!("{loss:.4}"));
    }

    fn epoch(&mut self, run: &Run, epoch: &Epoch) -> Result<(), Error> {
        let training = &run.recipe.training;
        let mut line = String::new();
        if training.restarts > 1 {
            line.push_str(&format!("Run {}/{} ", epoch.restart + 1, training.restarts));
        }
        line.push_str(&format!(
            "Epoch {}/{} rate {:.2e} training {:.5}",
            epoch.epoch + 1,
            training.epochs,
            epoch.rate,
            epoch.training
        ));
        if let Some(validation) = epoch.validation {
            line.push_str(&format!(" validation {validation:.5}"));
            for ((name, _), value) in run.task.scores.named().iter().zip(&epoch.scores) {
                line.push_str(&format!(" {name} {value:.4}"));
            }
        }
        self.say(&line)?;
        if let Job::Text { data, .. } = &run.recipe.job
            && data.sample > 0
            && !self.quiet
        {
            let text = jobs::sample_of_run(run, run.trainer.params(), data.sample)?;
            self.say(&one_line(text))?;
        }
        Ok(())
    }

    fn end(&mut self, run: &Run, saved: Option<&Path>) -> Result<(), Error> {
        self.bar.finish_and_clear();
        let (done, of) = run.trainer.done_of();
        let seconds = self.start.elapsed().as_secs_f64();
        if !run.trainer.is_done() {
            self.say(&format!("Interrupted after batch {done} of {of}"))?;
        }
        let steps = done.saturating_sub(self.first) as f64;
        let rate = steps / seconds.max(1e-9);
        self.say(&format!("{seconds:.2} s, {rate:.0} batches per second"))?;
        for line in report::summary(run)? {
            self.say(&line)?;
        }
        match saved {
            Some(path) => self.say(&format!("Saved to {}", one_line(path.display()))),
            None => Ok(()),
        }
    }
}
