//! The command `fused-lstm`: arguments in, text out; the work is the library's.

mod args;
mod command;
mod echo_report;
mod end;
mod judging;
mod learn;
mod networks;

use clap::Parser;
use clap::error::ErrorKind;
use fused_lstm_driver::one_line;
use fused_lstm_driver::signals::INTERRUPTED;
use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

fn main() -> ExitCode {
    let arguments = match args::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            ) =>
        {
            // A reader that has closed the pipe has seen enough.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            complain(&first_line(&error.render().to_string()));
            return ExitCode::from(2);
        }
    };
    let result = match arguments.command {
        args::Command::Train(train) => command::train(&train),
        args::Command::Evaluate(evaluate) => judging::evaluate(&evaluate).map(|()| end::End::Done),
        args::Command::Sample(sample) => judging::sample(&sample).map(|()| end::End::Done),
        args::Command::Run(run) => command::run(&run).map(|()| end::End::Done),
        args::Command::Export(export) => command::export(&export).map(|()| end::End::Done),
        args::Command::Import(import) => networks::import(&import).map(|()| end::End::Done),
        args::Command::Inspect(inspect) => networks::inspect(&inspect).map(|()| end::End::Done),
        args::Command::Verify(verify) => networks::verify(&verify),
        args::Command::Quantize(quantize) => networks::quantize(&quantize).map(|()| end::End::Done),
    };
    match result {
        Ok(end::End::Done) => ExitCode::SUCCESS,
        Ok(end::End::Interrupted) => ExitCode::from(INTERRUPTED),
        // It has been said.
        Ok(end::End::Failed) => ExitCode::FAILURE,
        Err(error) => {
            complain(&format!("error: {error}"));
            ExitCode::from(if error.is_misuse() { 2 } else { 1 })
        }
    }
}

/// Whether another process says what this one would.
static SILENT: AtomicBool = AtomicBool::new(false);

/// Whether this process is the one that says what all of them would.
fn complain_only_if(is_first: bool) {
    SILENT.store(!is_first, Ordering::Relaxed);
}

/// Prints a line to standard error, if it is there.
fn complain(line: &str) {
    if !SILENT.load(Ordering::Relaxed) {
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

/// A message up to the hints about usage, as one line.
fn first_line(message: &str) -> String {
    let usage = message
        .find("\n\nUsage")
        .or(message.find("\n\nFor more"))
        .unwrap_or(message.len());
    let words: Vec<_> = message[..usage].split_whitespace().collect();
    one_line(words.join(" "))
}
