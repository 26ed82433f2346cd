//! What a run by a recipe leaves for people: a log, a summary, and a page with pictures.

mod charts;
mod pictures;

use crate::Error;
use crate::files::{Place, replace};
use crate::jobs::Run;
use crate::trainer::Judged;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Writes the log anew: a CSV row for each epoch. A pipe gets the row of the last one.
pub fn log(path: &Path, run: &Run) -> Result<(), Error> {
    let names: Vec<&str> = run
        .task
        .scores
        .named()
        .iter()
        .map(|(name, _)| *name)
        .collect();
    let mut header: Vec<String> = crate::files::EPOCH_LOG_HEADER
        .split(',')
        .map(str::to_owned)
        .collect();
    header.extend(
        names
            .iter()
            .map(|name| name.to_lowercase().replace(' ', "_")),
    );
    let history = run.trainer.history();
    let rows = history.iter().map(|epoch| {
        let mut row = vec![
            epoch.restart.to_string(),
            epoch.epoch.to_string(),
            epoch.updates.to_string(),
            epoch.rate.to_string(),
            epoch.training.to_string(),
            epoch
                .validation
                .map_or(String::new(), |loss| loss.to_string()),
        ];
        row.extend(epoch.scores.iter().map(f64::to_string));
        row.resize(header.len(), String::new());
        row.join(",")
    });
    let stream = matches!(Place::of(path)?, Place::Stream(_));
    let skip = if stream {
        history.len().saturating_sub(1)
    } else {
        0
    };
    let mut text = String::new();
    for line in Some(header.join(","))
        .into_iter()
        .filter(|_| skip == 0)
        .chain(rows.skip(skip))
    {
        text.push_str(&line);
        text.push('\n');
    }
    if stream {
        let file = File::options().append(true).open(path);
        let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
        return written.map_err(Error::io(path, "write"));
    }
    replace(path, text.as_bytes())
}

/// Which epoch was best, and what the test part says of it, a line each.
pub fn summary(run: &Run) -> Result<Vec<String>, Error> {
    let mut lines: Vec<String> = best(run).into_iter().collect();
    if let Some(judged) = run.test()? {
        lines.push(format!("Test: {}", scores(&judged, run)));
    }
    Ok(lines)
}

fn best(run: &Run) -> Option<String> {
    let (restart, epoch, loss) = run.trainer.best_epoch()?;
    let by = match run.task.validation {
        Some(_) => "validation",
        None => "training",
    };
    let of = match run.recipe.training.restarts {
        1 => String::new(),
        _ => format!(" of run {}", restart + 1),
    };
    Some(format!("Best epoch {}{of}, {by} {loss:.5}", epoch + 1))
}

fn scores(judged: &Judged, run: &Run) -> String {
    let all = [("loss", judged.loss)]
        .into_iter()
        .chain(judged.scores.named());
    let all = all.chain(run.task.beside.iter().copied());
    all.map(|(name, value)| format!("{name} {value:.5}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// A text in HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Writes a page that needs nothing but itself, in the place of an older one at once.
pub fn write(path: &Path, run: &Run) -> Result<(), Error> {
    replace(path, page(path, run)?.as_bytes())
}

fn page(path: &Path, run: &Run) -> Result<String, Error> {
    let failed = |e: Box<dyn std::error::Error>| Error::Plot {
        path: path.to_owned(),
        problem: crate::one_line(e),
    };
    let name = format!("{:?}", run.recipe.job.name());
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<!-- {} -->\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{name}: a training run</title>\n\
         <style>{STYLE}</style>\n<h1>{name}</h1>\n",
        crate::files::PICTURE_MARK
    );
    for line in run.task.summary.iter().chain(&best(run)) {
        page.push_str(&format!("<p>{}</p>\n", escaped(line)));
    }
    if let Some(judged) = run.test()? {
        page.push_str("<h2>Test part</h2>\n<table>\n");
        let all = [("loss", judged.loss)]
            .into_iter()
            .chain(judged.scores.named());
        for (name, value) in all.chain(run.task.beside.iter().copied()) {
            page.push_str(&format!("<tr><th>{}<td>{value:.6}\n", escaped(name)));
        }
        page.push_str("</table>\n");
    }
    page.push_str("<h2>Loss</h2>\n");
    page.push_str(&pictures::curves(run).map_err(failed)?);
    page.push_str(&pictures::of_job(run, failed)?);
    page.push_str("<h2>Epochs</h2>\n<details><summary>All of them</summary>\n<table>\n<tr><th>run<th>epoch<th>rate<th>training<th>validation");
    for (name, _) in run.task.scores.named() {
        page.push_str(&format!("<th>{}", escaped(name)));
    }
    for epoch in run.trainer.history() {
        let validation = epoch
            .validation
            .map_or(String::new(), |loss| format!("{loss:.6}"));
        page.push_str(&format!(
            "\n<tr><td>{}<td>{}<td>{:.3e}<td>{:.6}<td>{validation}",
            epoch.restart + 1,
            epoch.epoch + 1,
            epoch.rate,
            epoch.training
        ));
        for score in &epoch.scores {
            page.push_str(&format!("<td>{score:.5}"));
        }
    }
    page.push_str("\n</table>\n</details>\n<h2>Recipe</h2>\n<pre>");
    page.push_str(&escaped(&run.recipe.to_toml()));
    page.push_str("</pre>\n</html>\n");
    Ok(page)
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;\
color:#222;background:#fff}h1,h2{line-height:1.2}svg{max-width:100%;height:auto}table{border-collapse:collapse}\
th,td{padding:.2em .7em;border-bottom:1px solid #ddd;text-align:right}th{font-weight:600}\
pre{background:#f5f5f5;padding:1em;overflow:auto;white-space:pre-wrap}.matrix td{min-width:2.5em}";
