//! Times every workload, at every level and through every API, against the limits of
//! the machine, and if asked to against the peers.

use clap::{Parser, ValueEnum};
use fused_lstm::{Level, Storage};
use fused_lstm_benches::limits::Limits;
use fused_lstm_benches::ours::{Api, Run, prepare};
use fused_lstm_benches::peers::{self, Answer, Peer};
use fused_lstm_benches::report::{self, Entry, Row};
use fused_lstm_benches::timing::Times;
use fused_lstm_benches::workload::{Mode, Workload};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Times the workloads of the tables, or those given, in one CSV row each.
#[derive(Parser)]
struct Args {
    /// Sizes I,H,L,B,T instead of the tables'; may be given several times.
    #[arg(long, value_name = "I,H,L,B,T")]
    workload: Vec<String>,
    /// What to do with the sizes given.
    #[arg(long, value_enum, default_value = "infer")]
    mode: ModeName,
    /// Only the workloads whose name holds this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// portable, neon, avx2, avx512, or all that the machine has.
    #[arg(long, default_value = "all")]
    level: String,
    /// Seconds for each row.
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    /// Interleave the peers that peers/build made in this folder; writes
    /// comparison.md and comparison.svg there.
    #[arg(long, value_name = "FOLDER")]
    peers: Option<PathBuf>,
    /// Threads of the peers, and ours for batches: each number makes a table.
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1")]
    threads: Vec<usize>,
}

#[derive(Clone, Copy, ValueEnum)]
enum ModeName {
    Stream,
    Infer,
    Train,
}

struct Candidate {
    level: Level,
    api: Api,
    run: Box<dyn Run>,
    times: Times,
}

const ROUNDS: u32 = 5;

/// Whose results are not those of f32: they stand in no comparison with others.
const NARROW: [Api; 2] = [Api::Narrow(Storage::F16), Api::Narrow(Storage::Int8)];

fn main() {
    let args = Args::parse();
    let workloads = workloads(&args);
    let levels: Vec<Level> = Level::available()
        .filter(|level| args.level == "all" || level.to_string() == args.level)
        .collect();
    if levels.is_empty() {
        fail(&format!(
            "--level: this machine has no level '{}'",
            args.level
        ));
    }
    if !(args.seconds > 0.0 && args.seconds < 1e4) {
        fail(&format!(
            "--seconds: expected more than 0, got '{}'",
            args.seconds
        ));
    }
    let mut peers = start_peers(&args);
    let limits = Limits::measure();
    eprintln!(
        "FMA peak {:.1} GFLOP/s, reads {:.0?} (bytes, GB/s)",
        limits.gflops, limits.reads
    );
    println!(
        "workload,level,api,threads,min_ns,median_ns,gflops,share_of_fma_peak,share_of_bandwidth"
    );
    let mut rows: Vec<Row> = Vec::new();
    for workload in workloads {
        rows.push(measure(workload, &levels, &mut peers, &limits, &args));
        // After every row, because all of them take long.
        if let Some(folder) = &args.peers {
            write_report(folder, &rows, &args, &limits);
        }
    }
}

fn workloads(args: &Args) -> Vec<Workload> {
    let mode = match args.mode {
        ModeName::Stream => Mode::Stream,
        ModeName::Infer => Mode::Infer,
        ModeName::Train => Mode::Train,
    };
    let mut workloads = if args.workload.is_empty() {
        Workload::all()
    } else {
        Vec::new()
    };
    for sizes in &args.workload {
        match Workload::parse(mode, sizes) {
            Ok(workload) => workloads.push(workload),
            Err(message) => fail(&message),
        }
    }
    if let Some(only) = &args.only {
        workloads.retain(|workload| workload.to_string().contains(only.as_str()));
    }
    workloads
}

fn start_peers(args: &Args) -> Vec<Peer> {
    let Some(folder) = &args.peers else {
        return Vec::new();
    };
    let mut started = Vec::new();
    for &threads in &args.threads {
        for name in peers::NAMES {
            match Peer::start(name, threads, folder) {
                Ok(peer) => started.push(peer),
                Err(e) => eprintln!("{name} is left out: {e}"),
            }
        }
    }
    started
}

/// Everybody in turn, several times over, so that a disturbance hits them all.
fn measure(
    workload: Workload,
    levels: &[Level],
    peers: &mut [Peer],
    limits: &Limits,
    args: &Args,
) -> Row {
    let mut candidates: Vec<Candidate> = Vec::new();
    for &level in levels {
        let more = args.threads.iter().filter(|&&threads| threads > 1);
        let threads = more.map(|&threads| Api::Threads(threads));
        for api in [Api::Fixed, Api::Packed, Api::RunTime]
            .into_iter()
            .chain(NARROW)
            .chain(threads)
        {
            if let Some(run) = prepare(&workload, api) {
                candidates.push(Candidate {
                    level,
                    api,
                    run,
                    times: Times::default(),
                });
            }
        }
    }
    let mut ready = match &args.peers {
        Some(folder) => load(&workload, levels, peers, folder),
        None => Vec::new(),
    };
    for _ in 0..ROUNDS {
        for candidate in &mut candidates {
            assert!(candidate.level.force());
            let time = Duration::from_secs_f64(args.seconds) / ROUNDS;
            candidate.times.take(time, || candidate.run.run());
        }
        for (peer, _, times) in &mut ready {
            times.0.extend(peer.time(args.seconds / f64::from(ROUNDS)));
        }
    }
    for Candidate {
        level, api, times, ..
    } in &candidates
    {
        let gflops = workload.flops() / times.min();
        println!(
            "{workload},{level},{},{},{:.1},{:.1},{gflops:.2},{:.3},{:.3}",
            api.name(),
            api.threads(),
            times.min(),
            times.median(),
            gflops / limits.gflops,
            workload.bytes() / times.min() / limits.bandwidth(workload.weight_bytes()),
        );
    }
    overhead(&workload, &candidates);
    for (peer, _, times) in &ready {
        println!(
            "{workload},,{},{},{:.1},{:.1},,,",
            peer.name,
            peer.threads,
            times.min(),
            times.median()
        );
    }
    let mut counts = vec![1];
    counts.extend(args.threads.iter().filter(|&&threads| threads > 1));
    let ours = counts.into_iter().filter_map(|threads| {
        let exact = |c: &&Candidate| !NARROW.contains(&c.api);
        let mine = candidates.iter().filter(exact);
        let mine = mine.filter(|c| c.api.threads() == threads);
        let best = mine.min_by(|a, b| a.times.min().total_cmp(&b.times.min()))?;
        Some(Entry {
            who: "ours".to_owned(),
            threads,
            times: (best.times.min(), best.times.median()),
            note: None,
        })
    });
    let theirs = ready
        .into_iter()
        .filter(|(_, _, times)| !times.0.is_empty())
        .map(|(peer, note, times)| Entry {
            who: peer.name.to_owned(),
            threads: peer.threads,
            times: (times.min(), times.median()),
            note,
        });
    let entries = ours.chain(theirs).collect();
    Row { workload, entries }
}

/// What a call costs more through the run-time API.
fn overhead(workload: &Workload, candidates: &[Candidate]) {
    for fixed in candidates.iter().filter(|c| c.api == Api::Fixed) {
        let same = candidates
            .iter()
            .find(|c| c.api == Api::RunTime && c.level == fixed.level);
        if let (Some(run_time), Mode::Stream) = (same, workload.mode) {
            let (a, b) = (&run_time.times, &fixed.times);
            let (least, middle) = (a.min() - b.min(), a.median() - b.median());
            println!(
                "{workload},{},run-time minus fixed,1,{least:.1},{middle:.1},,,",
                fixed.level
            );
        }
    }
}

/// The peers that can do it, with what there is to say of their results.
fn load<'p>(
    workload: &Workload,
    levels: &[Level],
    peers: &'p mut [Peer],
    folder: &Path,
) -> Vec<(&'p mut Peer, Option<String>, Times)> {
    let (numbers, outcome) = (folder.join("numbers.bin"), folder.join("outcome.bin"));
    if let Err(e) = peers::write_numbers(workload, &numbers) {
        fail(&format!("{}: {e}", numbers.display()));
    }
    assert!(levels.last().is_some_and(|level| level.force()));
    let Some(mut ours) = prepare(workload, Api::RunTime) else {
        return Vec::new();
    };
    ours.run();
    let mut ready = Vec::new();
    for peer in peers {
        let _ = std::fs::remove_file(&outcome);
        let note = match peer.load(workload, &numbers, &outcome) {
            Answer::No(why) => {
                eprintln!("{workload}: {} does not: {why}", peer.name);
                continue;
            }
            Answer::Part(why) => Some(format!("does a part only: {why}")),
            Answer::Whole => match peers::difference(ours.outcome(), &outcome) {
                Some(difference) if difference <= 1e-4 => None,
                Some(difference) => {
                    Some(format!("its result differs from ours by {difference:.1e}"))
                }
                None => Some("it left no result to compare".to_owned()),
            },
        };
        ready.push((peer, note, Times::default()));
    }
    ready
}

fn write_report(folder: &Path, rows: &[Row], args: &Args, limits: &Limits) {
    let mut text = format!(
        "Limits of one core, measured in the same run: {:.1} GFLOP/s; reads of {:.0?} (bytes, GB/s).\n",
        limits.gflops, limits.reads
    );
    for &threads in &args.threads {
        text.push_str(&format!("\n### Peers with {threads} thread(s)\n\n"));
        text.push_str(&report::table(rows, &peers::NAMES, threads));
    }
    text.push_str("\n### Notes (rows marked *)\n\n");
    text.push_str(&report::notes(rows));
    for (name, content) in [
        ("comparison.md", text),
        ("comparison.svg", report::chart(rows, &peers::NAMES)),
    ] {
        let path = folder.join(name);
        if let Err(e) = std::fs::write(&path, content) {
            fail(&format!("{}: {e}", path.display()));
        }
    }
}

fn fail(message: &str) -> ! {
    eprintln!("error: {message}");
    std::process::exit(2);
}
