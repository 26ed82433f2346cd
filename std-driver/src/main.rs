//! The command `fused-lstm`: arguments in, text out; the work is the library's.

mod args;
mod command;

use clap::Parser;
use clap::error::ErrorKind;
use std::process::ExitCode;

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
            eprintln!("{}", one_line(&error.render().to_string()));
            return ExitCode::from(2);
        }
    };
    let result = match arguments.command {
        args::Command::Train(train) => command::train(&train),
        args::Command::Run(run) => {
            fused_lstm_driver::infer::run(&run.model, &run.input, &run.output, run.batch_first)
                .map(|()| command::End::Done)
        }
        args::Command::Export(e) => {
            fused_lstm_driver::export::export(&e.model, e.format, &e.output, e.force)
                .map(|()| command::End::Done)
        }
    };
    match result {
        Ok(command::End::Done) => ExitCode::SUCCESS,
        // What shells report of a program that Ctrl-C ended.
        Ok(command::End::Interrupted) => ExitCode::from(130),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(if error.is_misuse() { 2 } else { 1 })
        }
    }
}

/// A message up to the hints about usage, as one line.
fn one_line(message: &str) -> String {
    let usage = message
        .find("\n\nUsage")
        .or(message.find("\n\nFor more"))
        .unwrap_or(message.len());
    message[..usage]
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}
