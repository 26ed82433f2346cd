//! The process among others: signals, closed streams, limits of memory and threads.
#![cfg(unix)]

mod common;

use common::{Folder, write_tensors};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Output};
use std::time::{Duration, Instant};

const LONG: &str = "--quiet --epochs 2 --save c --save-every 1 --log l";

fn kill(child: &Child, signal: &str) {
    let kill = std::process::Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status();
    assert!(kill.expect("kill").success());
}

fn wait_for(folder: &Folder, name: &str) {
    let start = Instant::now();
    while !folder.path(name).exists() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "no {name} was written"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn ignored_signals_stay_ignored() {
    let folder = Folder::new();
    for (trapped, sent, code) in [
        ("HUP", "-HUP", 0),
        ("INT TERM", "-INT", 0),
        ("INT TERM", "-TERM", 0),
        ("HUP", "-TERM", 130),
        ("USR1", "-HUP", 130),
    ] {
        let long = "--quiet --epochs 20 --save c --save-every 300";
        let script = format!("trap '' {trapped}; exec \"$FL\" train {long}");
        // Whoever runs the tests may ignore signals too, as nohup does.
        let child = std::process::Command::new("env")
            .args(cfg!(target_os = "linux").then_some("--default-signal=HUP,INT,TERM"))
            .args(["bash", "-c", &script])
            .env("FL", env!("CARGO_BIN_EXE_fused-lstm"))
            .current_dir(folder.path(""))
            .spawn()
            .expect("bash starts");
        wait_for(&folder, "c");
        kill(&child, sent);
        let output = child.wait_with_output().expect("an end");
        assert_eq!(
            output.status.code(),
            Some(code),
            "{trapped} ignored, {sent} sent"
        );
        std::fs::remove_file(folder.path("c")).unwrap();
    }
}

/// A pipe that nobody reads does not keep a process from being ended.
#[test]
fn a_pipe_without_reader_can_be_interrupted() {
    let folder = Folder::new();
    assert!(folder.bash("mkfifo pipe").status.success());
    let short = "--quiet --epochs 1 --series-length 300";
    for flags in ["--save pipe", "--log pipe", "--save c --log pipe"] {
        let command = format!("train {short} {flags}");
        let child = folder.interruptible(&command).spawn();
        let child = child.expect("a start");
        std::thread::sleep(Duration::from_millis(300));
        kill(&child, "-INT");
        std::thread::sleep(Duration::from_millis(50));
        let again = ["-INT", &child.id().to_string()].map(str::to_owned);
        let _ = std::process::Command::new("kill").args(again).output();
        let output = child.wait_with_output().expect("an end");
        assert!(!output.status.success(), "{flags}: {:?}", output.status);
    }
}

/// Ends at random moments, by `kill -9` and by two signals in a row: no file is lost, none is half
/// written, none is left over, and the run can be gone on with to the very same end.
fn kills(count: u64) {
    let folder = Folder::new();
    folder.ok(&format!("train {LONG}"));
    let whole = (folder.bytes("c"), folder.bytes("l"));
    let mut seed = u64::from(std::process::id());
    let mut random = move |below: u64| {
        seed = (seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xd129_8cdb_73cc_a5e9);
        (seed >> 33) % below
    };
    for round in 0..count {
        for name in folder.names() {
            std::fs::remove_file(folder.path(&name)).unwrap();
        }
        let child = folder.interruptible(&format!("train {LONG}")).spawn();
        let child = child.unwrap();
        wait_for(&folder, "c");
        std::thread::sleep(Duration::from_micros(random(300_000)));
        if round % 2 == 0 {
            kill(&child, "-KILL");
        } else {
            kill(&child, "-INT");
            std::thread::sleep(Duration::from_micros(random(3_000)));
            // It may have ended by the first already.
            let again = ["-TERM", &child.id().to_string()].map(str::to_owned);
            let _ = std::process::Command::new("kill").args(again).output();
        }
        let output = child.wait_with_output().unwrap();
        let end = (output.status.code(), output.status.signal());
        assert!(
            matches!(end, (Some(0 | 130), _) | (_, Some(9))),
            "round {round}: {end:?}"
        );
        if round % 2 == 1 {
            assert_eq!(folder.names(), ["c", "l"], "round {round}");
            let log = folder.text("l");
            assert!(
                log.is_empty() || log.ends_with('\n'),
                "round {round}: {log}"
            );
        }
        let resumed = folder.run("train --quiet --resume c --log l --save c");
        let error = String::from_utf8_lossy(&resumed.stderr);
        assert!(resumed.status.success(), "round {round}: {error}");
        assert_eq!(folder.names(), ["c", "l"], "round {round}");
        assert!(
            (folder.bytes("c"), folder.bytes("l")) == whole,
            "round {round}"
        );
    }
}

#[test]
fn some_kills_lose_nothing() {
    kills(8);
}

#[test]
#[ignore = "takes minutes"]
fn many_kills_lose_nothing() {
    kills(300);
}

/// An error is one line, whatever its path holds; and where nobody can read it, the exit code
/// still says it.
#[test]
fn errors_are_one_line() {
    let folder = Folder::new();
    let script = r#""$FL" run --model $'no\nsuch\e[31mfile\u2028' --input x --output y"#;
    folder.bash_fails(script, 1, &[r"no\nsuch\u{1b}[31mfile\u{2028}: cannot read"]);
    folder.bash_fails(r#""$FL" train --plot $'a\nb'"#, 2, &[r"got a\nb"]);
    folder.bash_fails(
        r#""$FL" train --save $'no\rfolder/c'"#,
        1,
        &[r"no\rfolder/c"],
    );
    folder.bash_fails(
        r#""$FL" export --format $'e\nlf' --model m --output n"#,
        2,
        &["--format"],
    );
    for closed in ["2>&-", "2>/dev/full"] {
        for (arguments, code) in [
            ("run --model no --input x --output y", 1),
            ("train --hidden 0", 2),
            ("train --no-such-flag", 2),
            (
                "train --epochs 1 --series-length 300 --log /dev/full --save c --force",
                1,
            ),
            ("train --epochs 1 --series-length 300 --echo-step 20", 0),
        ] {
            let output = folder.bash(&format!("\"$FL\" {arguments} {closed}"));
            assert_eq!(output.status.code(), Some(code), "{arguments} {closed}");
        }
    }
}

/// What does not end is no file that could be read, and is not read to its end.
#[test]
fn files_without_end_are_refused() {
    let folder = Folder::new();
    let kernel = [0.5; 80];
    let m: [(&str, &[usize], &[f32]); 2] = [
        ("lstm.0.kernel", &[5, 16], &kernel),
        ("lstm.0.bias", &[16], &kernel[..16]),
    ];
    write_tensors(&folder.path("m"), &m, &[]);
    for arguments in [
        "run --model /dev/zero --input m --output y",
        "run --model m --input /dev/zero --output y",
        "run --model m --input /dev/urandom --output y",
        "export --format c --model /dev/zero --output y",
        "train --init /dev/zero",
        "train --resume /dev/zero",
        "train --data /dev/zero",
    ] {
        folder.fails(arguments, 1, &["/dev/", "expected a safetensors file"]);
    }
    // A header may promise what does not come.
    let header =
        r#"{"x":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    std::fs::write(folder.path("promise"), bytes).unwrap();
    let parts = ["promise: expected a safetensors file", "4000000000000"];
    folder.fails("run --model m --input promise --output y", 1, &parts);
    folder.bash_fails(
        "cat promise | \"$FL\" run --model m --input /dev/stdin --output y",
        1,
        &["/dev/stdin: "],
    );
    assert_eq!(folder.names(), ["m", "promise"]);
}

/// Exits that say what was missing, or no lack at all; never a panic or an abort.
#[track_caller]
fn ended_well(what: &str, output: &Output) -> bool {
    let error = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code();
    assert!(
        matches!(code, Some(0..=2)),
        "{what}: {:?} {error}",
        output.status
    );
    let lines = usize::from(code != Some(0));
    assert_eq!(error.lines().count(), lines, "{what}: {error}");
    code == Some(0)
}

#[test]
#[cfg(target_os = "linux")]
fn memory_that_cannot_be_had_is_an_error() {
    let folder = Folder::new();
    let limited = |arguments: &str| {
        let script = format!("ulimit -v 200000 && exec \"$FL\" {arguments}");
        ended_well(arguments, &folder.bash(&script))
    };
    let short = "--quiet --epochs 1 --batch 1 --series-length 2 --truncation 1 --echo-step 1";
    let mut ends = Vec::new();
    for hidden in [
        64, 400, 700, 800, 900, 1000, 1100, 1200, 1300, 1400, 2000, 9000, 4_000_000,
    ] {
        ends.push(limited(&format!(
            "train {short} --layers 1 --hidden {hidden} --save c --force"
        )));
    }
    for length in [3_000_000, 12_000_000, 99_000_000] {
        let flags = format!("--batch 1 --series-length {length} --truncation {length}");
        ends.push(limited(&format!(
            "train --quiet --epochs 1 --layers 1 --hidden 1 {flags}"
        )));
    }
    for epochs in [1, 5, 9] {
        let shape = [epochs, 1 << 20];
        let bits = vec![1; shape[0] * shape[1]];
        write_tensors(
            &folder.path("d"),
            &[],
            &[("x", &shape, &bits), ("y", &shape, &bits)],
        );
        let flags = format!(
            "--epochs {epochs} --data d --batch 1 --truncation {}",
            1 << 20
        );
        let output = format!("train --quiet --layers 1 --hidden 1 {flags}");
        ends.push(limited(&output));
    }
    // Many rows, each with a state.
    for batch in [1_000, 30_000, 100_000] {
        let hidden = 400;
        let m: [(&str, &[usize], &[f32]); 2] = [
            (
                "lstm.0.kernel",
                &[1 + hidden, 4 * hidden],
                &vec![0.5; (1 + hidden) * 4 * hidden],
            ),
            ("lstm.0.bias", &[4 * hidden], &vec![0.5; 4 * hidden]),
        ];
        write_tensors(&folder.path("m"), &m, &[]);
        let x: [(&str, &[usize], &[f32]); 1] = [("x", &[1, batch, 1], &vec![0.5; batch])];
        write_tensors(&folder.path("x"), &x, &[]);
        ends.push(limited(
            "run --model m --input x --output y --force --outputs y --threads 1",
        ));
        ends.push(limited(
            "run --model m --input x --output y --force --outputs state",
        ));
    }
    // Many numbers of output for each of input.
    let classes = 400_000;
    let m: [(&str, &[usize], &[f32]); 4] = [
        ("lstm.0.kernel", &[2, 4], &[0.5; 8]),
        ("lstm.0.bias", &[4], &[0.5; 4]),
        ("dense.kernel", &[1, classes], &vec![0.5; classes]),
        ("dense.bias", &[classes], &vec![0.5; classes]),
    ];
    write_tensors(&folder.path("m"), &m, &[]);
    for steps in [1, 10, 20, 30, 40, 50, 60, 80, 100, 1_000, 100_000] {
        let x: [(&str, &[usize], &[f32]); 1] = [("x", &[steps, 1, 1], &vec![0.5; steps])];
        write_tensors(&folder.path("x"), &x, &[]);
        ends.push(limited("run --model m --input x --output y --force"));
        ends.push(limited(
            "run --model m --input x --output y --force --outputs logits",
        ));
    }
    assert!(ends.contains(&true) && ends.contains(&false));
}

/// As a user whose processes are limited: root's are not.
#[test]
#[cfg(target_os = "linux")]
fn threads_that_cannot_be_had_are_an_error() {
    let folder = Folder::new();
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(folder.path(""), everybody).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_fused-lstm"), folder.path("fl")).unwrap();
    let user = folder.bash("id -u");
    let other = if user.stdout == b"0\n" {
        "setpriv --reuid 61234 --clear-groups"
    } else {
        ""
    };
    for arguments in [
        "train --threads 4 --shards 5",
        "train --save c",
        "run --threads 9 --model m --input x --output y",
    ] {
        let script = format!("ulimit -u 1 && exec {other} ./fl {arguments}");
        folder.bash_fails(&script, 1, &["cannot start a thread"]);
    }
}

/// The tutorials' own names.
#[test]
fn tutorials_names_are_flags() {
    let folder = Folder::new();
    folder.ok("train --quiet --epochs 2 --series-length 300 --layers 2 --hidden 5 --batch 3 --truncation 7 --save c");
    folder.ok(
        "train --quiet --num-epochs 2 --total-series-length 300 --num-layers 2 --state-size 5 \
         --batch-size 3 --truncated-backprop-length 7 --save d",
    );
    assert!(folder.bytes("c") == folder.bytes("d"));
}

#[test]
fn an_echo_beyond_the_truncation_is_warned_about() {
    let folder = Folder::new();
    for (flags, warned) in [
        ("--echo-step 14", false),
        ("--echo-step 15", true),
        ("--echo-step 20", true),
        ("--echo-step 20 --quiet", false),
    ] {
        let output = folder.run(&format!("train --epochs 1 --series-length 300 {flags}"));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success());
        assert_eq!(
            error.lines().count(),
            usize::from(warned),
            "{flags}: {error}"
        );
        assert_eq!(error.contains("carried state"), warned, "{flags}: {error}");
    }
}
