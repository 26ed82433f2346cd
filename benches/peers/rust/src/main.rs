//! The Rust peers of the benchmark, `peers-rust {burn,candle,rten,tract} THREADS`,
//! under the protocol of ../README.md.

mod burn;
mod candle;
mod rten;
mod task;
mod tract;

use std::{
    env, error, fs,
    io::{self, BufRead},
    os::unix::process::CommandExt,
    panic::{self, AssertUnwindSafe},
    process::Command,
    time::{Duration, Instant},
};

use task::Task;

type Error = Box<dyn error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Error>;

/// A network that is ready to do its task again and again.
trait Net {
    /// One call.
    fn step(&mut self) -> Result<()>;

    /// The output of the last call, or the trained parameters.
    fn outcome(&mut self) -> Result<Vec<f32>>;
}

/// Builds a task's network for so many threads in one of the library's settings;
/// `None` if there are no more settings.
type Build = fn(&Task, threads: usize, setting: usize) -> Result<Option<Box<dyn Net>>>;

/// Nanoseconds per call, in samples of so many calls.
fn samples(net: &mut dyn Net, seconds: f64, calls: usize) -> Result<Vec<f64>> {
    let seconds = Duration::try_from_secs_f64(seconds)?;
    let begin = Instant::now();
    let mut samples = Vec::new();
    while samples.is_empty() || begin.elapsed() < seconds {
        let start = Instant::now();
        for _ in 0..calls {
            net.step()?;
        }
        samples.push(start.elapsed().as_nanos() as f64 / calls as f64);
    }
    Ok(samples)
}

fn least(samples: &[f64]) -> f64 {
    samples.iter().copied().fold(f64::INFINITY, f64::min)
}

/// The fastest setting's network after its first call, and the outcome of that.
fn load(build: Build, task: &Task, threads: usize) -> Result<(Box<dyn Net>, Vec<f32>)> {
    let mut best: Option<(f64, Box<dyn Net>, Vec<f32>)> = None;
    for setting in 0.. {
        let Some(mut net) = build(task, threads, setting)? else {
            break;
        };
        let mut cost = least(&samples(&mut *net, 0.0, 1)?);
        let outcome = net.outcome()?;
        // One call tells enough of a slow setting.
        if cost < 5e8 {
            cost = least(&samples(&mut *net, 0.2, 1)?);
        }
        eprintln!("setting {setting}: {cost} ns per call");
        if best.as_ref().is_none_or(|(least, ..)| cost < *least) {
            best = Some((cost, net, outcome));
        }
    }
    let (_, net, outcome) = best.ok_or("no setting")?;
    Ok((net, outcome))
}

fn measure(net: &mut dyn Net, seconds: f64) -> Result<String> {
    let cost = least(&samples(net, seconds / 10.0, 1)?);
    let samples = samples(net, seconds, (20e3 / cost).ceil().max(1.0) as usize)?;
    let chosen = samples.len().min(199);
    let evenly = (0..chosen).map(|n| samples[n * samples.len() / chosen]);
    let numbers = evenly.chain([least(&samples)]);
    Ok(numbers.fold("ns".into(), |line, ns| format!("{line} {ns:.0}")))
}

fn answer(
    words: &[&str],
    net: &mut Option<Box<dyn Net>>,
    build: Build,
    threads: usize,
) -> Result<String> {
    match (words, net) {
        (["load", task @ .., path], net) => {
            *net = None;
            let (loaded, outcome) = load(build, &Task::new(task)?, threads)?;
            let bytes: Vec<u8> = outcome.iter().flat_map(|v| v.to_le_bytes()).collect();
            fs::write(path, bytes)?;
            *net = Some(loaded);
            Ok("ok".into())
        }
        (["time", seconds], Some(net)) => measure(&mut **net, seconds.parse()?),
        _ => Err("no sense in this line".into()),
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().collect();
    let [_, name, threads] = &arguments[..] else {
        return Err("peers-rust {burn,candle,rten,tract} THREADS".into());
    };
    // The libraries take their numbers of threads from the environment, which
    // must be right before the process starts.
    let variables = [
        "RAYON_NUM_THREADS",
        "CANDLE_NUM_THREADS",
        "RTEN_NUM_THREADS",
    ];
    if variables
        .iter()
        .any(|v| env::var(v).ok().as_ref() != Some(threads))
    {
        return Err(Command::new(env::current_exe()?)
            .args(&arguments[1..])
            .envs(variables.map(|v| (v, threads)))
            .exec()
            .into());
    }
    let build: Build = match &name[..] {
        "burn" => burn::build,
        "candle" => candle::build,
        "rten" => rten::build,
        "tract" => tract::build,
        _ => return Err("an unknown peer".into()),
    };
    let threads = threads.parse()?;
    let mut net = None;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        if words == ["quit"] {
            break;
        }
        let call = || answer(&words, &mut net, build, threads);
        let answer = panic::catch_unwind(AssertUnwindSafe(call))
            .unwrap_or_else(|_| Err("a panic".into()))
            .unwrap_or_else(|error| format!("no {error}"));
        println!(
            "{}",
            answer.split_whitespace().collect::<Vec<_>>().join(" ")
        );
    }
    Ok(())
}
