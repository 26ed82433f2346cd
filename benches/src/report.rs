//! The comparison as tables for people, and as a picture.

use crate::workload::{Mode, Workload};
use std::fmt::Write;

/// The time of somebody for a workload.
#[derive(Clone, Debug)]
pub struct Entry {
    /// `ours`, or a peer.
    pub who: String,
    /// Threads it had.
    pub threads: usize,
    /// The least and the middle, in nanoseconds.
    pub times: (f64, f64),
    /// What there is to say: a part only, another result.
    pub note: Option<String>,
}

/// A workload with everybody's times.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was done.
    pub workload: Workload,
    /// Ours first: the best API and level with one thread.
    pub entries: Vec<Entry>,
}

impl Row {
    fn find(&self, who: &str, threads: usize) -> Option<&Entry> {
        self.entries
            .iter()
            .find(|e| e.who == who && e.threads == threads)
    }

    /// The peers' best time with so many threads, and whose it is.
    pub fn best_peer(&self, threads: usize) -> Option<&Entry> {
        self.entries
            .iter()
            .filter(|e| e.who != "ours" && e.threads == threads)
            .min_by(|a, b| a.times.0.total_cmp(&b.times.0))
    }
}

/// Nanoseconds with a unit that suits them.
pub fn readable(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{ns:.0} ns"),
        ns if ns < 1e5 => format!("{:.1} µs", ns / 1e3),
        ns if ns < 1e6 => format!("{:.0} µs", ns / 1e3),
        ns if ns < 1e8 => format!("{:.1} ms", ns / 1e6),
        ns => format!("{:.0} ms", ns / 1e6),
    }
}

/// The table of times with so many threads: ours, and how many times as long each peer takes. At the
/// end of each group the geometric means, over the rows that the peer does.
pub fn table(rows: &[Row], peers: &[&str], threads: usize) -> String {
    let mut text = format!(
        "| workload | ours | {} | best peer takes |\n|---|---|",
        peers.join(" | ")
    );
    text.push_str(&"---|".repeat(peers.len() + 1));
    text.push('\n');
    for mode in [Mode::Stream, Mode::Infer, Mode::Train] {
        let group: Vec<&Row> = rows
            .iter()
            .filter(|row| row.workload.mode == mode)
            .collect();
        let ours = |row: &Row| {
            row.find("ours", threads)
                .or_else(|| row.find("ours", 1))
                .map(|e| e.times.0)
        };
        let mut ratios: Vec<Vec<f64>> = vec![Vec::new(); peers.len() + 1];
        for row in &group {
            let Some(us) = ours(row) else { continue };
            let _ = write!(text, "| `{}` | {} ", row.workload, readable(us));
            for (peer, ratios) in peers.iter().zip(&mut ratios) {
                match row.find(peer, threads) {
                    Some(entry) => {
                        let ratio = entry.times.0 / us;
                        ratios.push(ratio);
                        let star = if entry.note.is_some() { "*" } else { "" };
                        let _ = write!(text, "| {} (×{ratio:.2}){star} ", readable(entry.times.0));
                    }
                    None => text.push_str("| – "),
                }
            }
            match row.best_peer(threads) {
                Some(best) => {
                    let ratio = best.times.0 / us;
                    if let Some(all) = ratios.last_mut() {
                        all.push(ratio);
                    }
                    let mark = if ratio < 1.0 { "**" } else { "" };
                    let _ = writeln!(text, "| {mark}×{ratio:.2} ({}){mark} |", best.who);
                }
                None => text.push_str("| – |\n"),
            }
        }
        if group.len() > 1 {
            text.push_str("| *geometric mean* | ");
            for ratios in &ratios {
                let mean = ratios.iter().map(|r| r.ln()).sum::<f64>() / ratios.len() as f64;
                match ratios.len() {
                    0 => text.push_str("| – "),
                    n => {
                        let _ = write!(text, "| *×{:.2} over {n}* ", mean.exp());
                    }
                }
            }
            text.push_str("|\n");
        }
    }
    text
}

/// The notes of all entries, one line each.
pub fn notes(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        for entry in &row.entries {
            if let Some(note) = &entry.note {
                let _ = writeln!(
                    text,
                    "- `{}`, {} with {} thread(s): {note}",
                    row.workload, entry.who, entry.threads
                );
            }
        }
    }
    text
}

/// How many times as long every peer takes with one thread, on a logarithmic scale,
/// as an SVG.
pub fn chart(rows: &[Row], peers: &[&str]) -> String {
    const COLOURS: [&str; 9] = [
        "#d62728", "#ff7f0e", "#bcbd22", "#2ca02c", "#17becf", "#1f77b4", "#9467bd", "#e377c2",
        "#8c564b",
    ];
    const LEFT: f64 = 300.0;
    const WIDTH: f64 = 640.0;
    const LINE: f64 = 22.0;
    let decades = (-1..=4).map(f64::from);
    let x = |ratio: f64| LEFT + (ratio.log10().clamp(-1.0, 4.0) + 1.0) / 5.0 * WIDTH;
    let height = LINE * (rows.len() as f64 + 4.0);
    let bottom = height - 1.5 * LINE;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"980\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"980\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"16\" font-size=\"14\">Time of each peer over ours, one thread (right of the line: slower than ours)</text>\n"
    );
    for decade in decades {
        let at = x(10f64.powf(decade));
        let colour = if decade == 0.0 { "black" } else { "#dddddd" };
        let label = 10f64.powf(decade);
        let _ = writeln!(
            svg,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{:.1}\" y2=\"{bottom:.1}\" stroke=\"{colour}\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">×{label}</text>",
            2.2 * LINE,
            bottom + 16.0
        );
    }
    for (n, (peer, colour)) in peers.iter().zip(COLOURS).enumerate() {
        let at = LEFT + n as f64 * 72.0;
        let _ = writeln!(
            svg,
            "<circle cx=\"{at}\" cy=\"32\" r=\"4\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"36\" font-size=\"11\">{peer}</text>",
            at + 7.0
        );
    }
    for (n, row) in rows.iter().enumerate() {
        let y = LINE * (n as f64 + 2.8);
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            y + 4.0,
            row.workload
        );
        let Some(us) = row.find("ours", 1) else {
            continue;
        };
        for (peer, colour) in peers.iter().zip(COLOURS) {
            if let Some(entry) = row.find(peer, 1) {
                let at = x(entry.times.0 / us.times.0);
                let _ = writeln!(
                    svg,
                    "<circle cx=\"{at:.1}\" cy=\"{y:.1}\" r=\"5\" fill=\"{colour}\" fill-opacity=\"0.8\"/>"
                );
            }
        }
    }
    svg.push_str("</svg>\n");
    svg
}
