//! Cost against size: the share of the machine's limit over hidden units, batch rows
//! and time steps, as CSV and as a picture.
//!
//! The limit is the larger of two times: that of the multiply–adds at the core's
//! peak, and that of reading the weights from the smallest cache that holds them.

use fused_lstm_benches::limits::Limits;
use fused_lstm_benches::ours::{Api, prepare};
use fused_lstm_benches::timing::Times;
use fused_lstm_benches::workload::{Head, Mode, Workload};
use std::fmt::Write;
use std::time::Duration;

/// A line of the picture: what varies, and what stays.
struct Line {
    name: &'static str,
    mode: Mode,
    sizes: &'static [usize],
    at: fn(usize) -> [usize; 5],
}

const H: &[usize] = &[
    4, 6, 8, 12, 16, 20, 24, 32, 40, 44, 46, 48, 64, 80, 96, 128, 192, 256, 384, 512, 768, 1024,
    1536, 2048,
];
const B: &[usize] = &[
    1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256,
];
const T: &[usize] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512];

const LINES: [Line; 7] = [
    Line {
        name: "infer, H, B = 1, T = 16",
        mode: Mode::Infer,
        sizes: H,
        at: |h| [h, h, 1, 1, 16],
    },
    Line {
        name: "infer, H, B = 32, T = 4",
        mode: Mode::Infer,
        sizes: H,
        at: |h| [h, h, 1, 32, 4],
    },
    Line {
        name: "train, H, B = 32, T = 4",
        mode: Mode::Train,
        sizes: H,
        at: |h| [h, h, 1, 32, 4],
    },
    Line {
        name: "infer, B, H = 64, T = 16",
        mode: Mode::Infer,
        sizes: B,
        at: |b| [64, 64, 1, b, 16],
    },
    Line {
        name: "train, B, H = 64, T = 16",
        mode: Mode::Train,
        sizes: B,
        at: |b| [64, 64, 1, b, 16],
    },
    Line {
        name: "infer, T, H = 64, B = 1",
        mode: Mode::Infer,
        sizes: T,
        at: |t| [64, 64, 1, 1, t],
    },
    Line {
        name: "train, T, H = 64, B = 16",
        mode: Mode::Train,
        sizes: T,
        at: |t| [64, 64, 1, 16, t],
    },
];

/// A size, the least time for it, and its share of the limit.
#[derive(Clone, Copy)]
struct Point {
    size: usize,
    ns: f64,
    share: f64,
}

fn main() {
    let limits = Limits::measure();
    eprintln!(
        "FMA peak {:.1} GFLOP/s, reads {:.0?} (bytes, GB/s)",
        limits.gflops, limits.reads
    );
    println!("line,size,min_ns,share_of_limit,cliff");
    let mut drawn = Vec::new();
    for line in &LINES {
        let points: Vec<Point> = line
            .sizes
            .iter()
            .map(|&size| {
                let [inputs, hidden, layers, batch, steps] = (line.at)(size);
                let workload = Workload {
                    mode: line.mode,
                    head: Head::None,
                    inputs,
                    hidden,
                    layers,
                    batch,
                    steps,
                };
                let ns = time(&workload);
                let flops = workload.flops() / limits.gflops;
                let bytes = workload.bytes() / limits.bandwidth(workload.weight_bytes());
                let share = flops.max(bytes) / ns;
                Point { size, ns, share }
            })
            .collect();
        for (at, Point { size, ns, share }) in points.iter().enumerate() {
            let cliff = if is_cliff(&points, at) { "yes" } else { "" };
            println!("\"{}\",{size},{ns:.0},{share:.3},{cliff}", line.name);
        }
        drawn.push((line.name, points));
    }
    let path = "target/sweep.svg";
    match std::fs::write(path, picture(&drawn)) {
        Ok(()) => eprintln!("{path} written"),
        Err(e) => {
            eprintln!("error: {path}: {e}");
            std::process::exit(1);
        }
    }
}

fn time(workload: &Workload) -> f64 {
    let Some(mut run) = prepare(workload, Api::RunTime) else {
        return f64::NAN;
    };
    let mut times = Times::default();
    for _ in 0..3 {
        times.take(Duration::from_millis(40), || run.run());
    }
    times.min()
}

/// Below 60 % of both its neighbours, or of the one there is.
fn is_cliff(points: &[Point], at: usize) -> bool {
    let share = |at: usize| points.get(at).map_or(f64::INFINITY, |point| point.share);
    let before = at.checked_sub(1).map_or(f64::INFINITY, share);
    share(at) < 0.6 * before.min(share(at + 1))
}

fn picture(lines: &[(&str, Vec<Point>)]) -> String {
    const COLOURS: [&str; 7] = [
        "#1f77b4", "#2ca02c", "#d62728", "#9467bd", "#ff7f0e", "#17becf", "#8c564b",
    ];
    let x = |size: usize| 60.0 + (size as f64).log2() / 11.0 * 700.0;
    let y = |share: f64| 420.0 - share.min(1.2) / 1.2 * 380.0;
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"980\" height=\"470\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"980\" height=\"470\" fill=\"white\"/>\n\
         <text x=\"60\" y=\"22\" font-size=\"14\">Share of the limit (multiply–adds or reads of the weights, the larger) against size</text>\n",
    );
    for step in 0..=6 {
        let share = f64::from(step) * 0.2;
        let _ = writeln!(
            svg,
            "<line x1=\"60\" x2=\"760\" y1=\"{0:.1}\" y2=\"{0:.1}\" stroke=\"#dddddd\"/>\
             <text x=\"54\" y=\"{1:.1}\" text-anchor=\"end\">{2:.0} %</text>",
            y(share),
            y(share) + 4.0,
            share * 100.0
        );
    }
    for power in 0..=11 {
        let at = x(1 << power);
        let _ = writeln!(
            svg,
            "<text x=\"{at:.1}\" y=\"440\" text-anchor=\"middle\">{}</text>",
            1 << power
        );
    }
    svg.push_str("<text x=\"410\" y=\"460\" text-anchor=\"middle\">size: hidden units H (= I), batch rows B, or time steps T</text>\n");
    for (n, ((name, points), colour)) in lines.iter().zip(COLOURS).enumerate() {
        let path: Vec<String> = points
            .iter()
            .map(|point| format!("{:.1},{:.1}", x(point.size), y(point.share)))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <text x=\"775\" y=\"{}\" fill=\"{colour}\">{name}</text>",
            path.join(" "),
            60 + 20 * n
        );
    }
    svg.push_str("</svg>\n");
    svg
}
