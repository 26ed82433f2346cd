//! Times every workload, at every level and through both doors, against the limits
//! of the machine: one CSV row each.

use clap::{Parser, ValueEnum};
use fused_lstm::Level;
use fused_lstm_benches::limits::Limits;
use fused_lstm_benches::ours::{Door, Run, prepare};
use fused_lstm_benches::timing::Times;
use fused_lstm_benches::workload::{Mode, Workload};
use std::time::Duration;

/// Times the workloads of the tables, or those given, in one CSV row each.
#[derive(Parser)]
struct Args {
    /// Sizes I,H,L,B,T instead of the tables'; may be given several times.
    #[arg(long, value_name = "I,H,L,B,T")]
    workload: Vec<String>,
    /// What to do with the sizes given.
    #[arg(long, value_enum, default_value = "infer", requires = "workload")]
    mode: ModeName,
    /// Only the workloads whose name holds this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// portable, avx2, avx512, or all that the machine has.
    #[arg(long, default_value = "all")]
    level: String,
    /// Seconds for each row.
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
}

#[derive(Clone, Copy, ValueEnum)]
enum ModeName {
    Stream,
    Infer,
    Train,
}

struct Candidate {
    level: Level,
    door: Door,
    run: Box<dyn Run>,
    times: Times,
}

const ROUNDS: u32 = 5;

fn main() {
    let args = Args::parse();
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
    workloads.retain(|w| {
        args.only
            .as_ref()
            .is_none_or(|only| w.to_string().contains(only.as_str()))
    });
    let levels: Vec<Level> = Level::available()
        .filter(|level| args.level == "all" || level.to_string() == args.level)
        .collect();
    if levels.is_empty() {
        fail(&format!(
            "--level: this machine has no level '{}'",
            args.level
        ));
    }
    let limits = Limits::measure();
    eprintln!(
        "FMA peak {:.1} GFLOP/s, reads {:.0?} (bytes, GB/s)",
        limits.gflops, limits.reads
    );
    println!(
        "workload,level,door,threads,min_ns,median_ns,gflops,share_of_fma_peak,share_of_bandwidth"
    );
    for workload in &workloads {
        let mut candidates: Vec<Candidate> = Vec::new();
        for &level in &levels {
            for door in [Door::Fixed, Door::Packed, Door::RunTime] {
                if let Some(run) = prepare(workload, door) {
                    candidates.push(Candidate {
                        level,
                        door,
                        run,
                        times: Times::default(),
                    });
                }
            }
        }
        for _ in 0..ROUNDS {
            for candidate in &mut candidates {
                assert!(candidate.level.force());
                let time = Duration::from_secs_f64(args.seconds) / ROUNDS;
                candidate.times.take(time, || candidate.run.run());
            }
        }
        for Candidate {
            level, door, times, ..
        } in &candidates
        {
            let gflops = workload.flops() / times.min();
            println!(
                "{workload},{level},{},1,{:.1},{:.1},{gflops:.2},{:.3},{:.3}",
                door.name(),
                times.min(),
                times.median(),
                gflops / limits.gflops,
                workload.bytes() / times.min() / limits.bandwidth(workload.weight_bytes()),
            );
        }
    }
}

fn fail(message: &str) -> ! {
    eprintln!("error: {message}");
    std::process::exit(2);
}
