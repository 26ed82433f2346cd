//! Files: what a path is, that nothing that is read is written, that nothing is replaced that is
//! something else, and that the training is saved whatever goes wrong beside it.
#![cfg(unix)]

mod common;

use common::{Folder, write_tensors};
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};

const SHORT: &str = "--quiet --epochs 1 --series-length 300";

/// A checkpoint `c`, a model `m` without more, and an input `x`.
fn with_files() -> Folder {
    let folder = Folder::new();
    folder.ok(&format!("train {SHORT} --layers 1 --save c"));
    let kernel = [0.5; 80];
    let m: [(&str, &[usize], &[f32]); 2] = [
        ("lstm.0.kernel", &[5, 16], &kernel),
        ("lstm.0.bias", &[16], &kernel[..16]),
    ];
    write_tensors(&folder.path("m"), &m, &[]);
    let x: [(&str, &[usize], &[f32]); 1] = [("x", &[7, 1, 1], &kernel[..7])];
    write_tensors(&folder.path("x"), &x, &[]);
    folder
}

/// What is no regular file is written to where it is: a link to an open file here, because
/// nobody should try this on the machine's own `/dev/stdout`.
#[test]
fn streams_are_written_to() {
    let folder = with_files();
    symlink("/proc/self/fd/1", folder.path("stdout")).unwrap();
    folder.ok("run --model m --input x --output y");
    folder.ok("export --model m --format bin --output m.bin");
    for (command, same) in [
        ("run --model m --input x --output stdout".to_owned(), "y"),
        (
            "export --model m --format bin --output stdout --force".into(),
            "m.bin",
        ),
        (format!("train {SHORT} --layers 1 --save stdout"), "c"),
    ] {
        let output = folder.run(&command);
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{command}"
        );
        assert!(output.stdout == folder.bytes(same), "{command}");
        let appended = folder.bash(&format!("echo begin >file && \"$FL\" {command} >>file"));
        assert!(appended.status.success(), "{command}");
        let file = folder.bytes("file");
        assert!(
            file == [b"begin\n", &folder.bytes(same)[..]].concat(),
            "{command}"
        );
        let piped = format!("rm -f pipe; mkfifo pipe; cat pipe >got & \"$FL\" {command}; wait");
        assert!(
            folder
                .bash(&piped.replace("stdout", "pipe"))
                .status
                .success()
        );
        assert!(folder.bytes("got") == folder.bytes(same), "{command}");
    }
    folder.ok("run --model m --input x --output /dev/null");
    let link = fs::read_link(folder.path("stdout")).unwrap();
    assert_eq!(link.to_str(), Some("/proc/self/fd/1"));
}

#[test]
fn links_that_lead_nowhere_are_refused() {
    let folder = with_files();
    symlink("nothing", folder.path("nowhere")).unwrap();
    symlink("circle", folder.path("circle")).unwrap();
    let before = folder.names();
    for (output, part) in [
        ("nowhere", "leads nowhere"),
        ("circle", "symbolic links"),
        ("no/y", "cannot write"),
        ("y/", "a folder"),
        (".", "a folder"),
        ("y/.", "a folder"),
    ] {
        for command in [
            "run --model m --input x --output",
            "export --model m --format c --force --output",
            "train --quiet --save",
            "train --quiet --log",
        ] {
            folder.fails(&format!("{command} {output}"), 1, &[output, part]);
        }
    }
    assert_eq!(folder.names(), before);
}

#[test]
fn what_is_read_is_never_written() {
    let folder = with_files();
    for name in ["c", "m", "x"] {
        symlink(name, folder.path(&format!("{name}-link"))).unwrap();
        fs::hard_link(folder.path(name), folder.path(&format!("{name}-hard"))).unwrap();
    }
    let before = ["c", "m", "x"].map(|name| folder.bytes(name));
    for (command, flag) in [
        ("run --force --model m --input x --output m", "--model"),
        ("run --force --model m --input x --output x", "--input"),
        (
            "run --force --model c --input x --state m --output m",
            "--state",
        ),
        (
            "export --force --format bin --model m --output m",
            "--model",
        ),
        ("train --force --init c --layers 1 --log c", "--init"),
        ("train --force --init c --layers 1 --plot c.svg", "--init"),
        ("train --force --resume c --log c", "--resume"),
        ("train --force --init c --layers 1 --save c", "--init"),
    ] {
        fs::hard_link(folder.path("c"), folder.path("c.svg")).unwrap();
        let (start, output) = command.rsplit_once(' ').unwrap();
        let mut outputs = vec![output.to_owned(), format!("./{output}")];
        if output != "c.svg" {
            outputs.extend([format!("{output}-link"), format!("{output}-hard")]);
        }
        for output in outputs {
            let parts = [&format!("another file than {flag}")[..], &output];
            folder.fails(&format!("{start} {output}"), 2, &parts);
        }
        fs::remove_file(folder.path("c.svg")).unwrap();
    }
    // The data that a checkpoint brings along is read too.
    let bits = [1; 300];
    let bits: [(&str, &[usize], &[i32]); 2] = [("x", &[1, 300], &bits), ("y", &[1, 300], &bits)];
    write_tensors(&folder.path("d"), &[], &bits);
    folder.ok("train --quiet --epochs 1 --data d --save e");
    folder.fails(
        "train --resume e --force --save d",
        2,
        &["another file than --data"],
    );
    assert!(["c", "m", "x"].map(|name| folder.bytes(name)) == before);
    // Two outputs in one place, which is not there yet.
    folder.fails(
        "train --save new --log ./new",
        2,
        &["--log", "another file than --save"],
    );
    // Where a run came from is where it may go.
    folder.ok("train --quiet --resume c --save c");
    folder.ok("train --quiet --resume c --save c-link");
}

/// An older file is replaced if it is what the command writes there, and else only by --force.
#[test]
fn other_files_are_not_replaced() {
    let folder = with_files();
    fs::write(folder.path("notes"), "precious\n").unwrap();
    fs::copy(folder.path("notes"), folder.path("notes.svg")).unwrap();
    fs::copy(folder.path("notes"), folder.path("notes.png")).unwrap();
    folder.ok("run --model m --input x --output y");
    folder.ok(&format!("train {SHORT} --log l --plot p.svg"));
    folder.ok(&format!("train {SHORT} --plot p.png"));
    let before = folder.names();
    for (command, others, own) in [
        (
            "run --model m --input x --output",
            &["notes", "c", "l"][..],
            "y",
        ),
        ("train --save", &["notes", "m", "x", "y", "l"], "c"),
        ("train --log", &["notes", "c", "y"], "l"),
        ("train --plot", &["notes.svg"], "p.svg"),
        ("train --plot", &["notes.png"], "p.png"),
    ] {
        let command = command.replace("train", &format!("train {SHORT} --layers 1"));
        let flag = command.rsplit_once(' ').unwrap().1.to_owned();
        for other in others {
            let bytes = folder.bytes(other);
            folder.fails(&format!("{command} {other}"), 2, &[&flag, other, "--force"]);
            assert!(folder.bytes(other) == bytes, "{command} {other}");
            folder.ok(&format!("{command} {other} --force"));
            assert!(folder.bytes(other) != bytes, "{command} {other}");
            fs::write(folder.path(other), bytes).unwrap();
        }
        folder.ok(&format!("{command} {own}"));
        // Nothing is lost with an empty file.
        File::create(folder.path(own)).unwrap();
        folder.ok(&format!("{command} {own}"));
    }
    assert_eq!(folder.names(), before);
}

#[test]
fn a_log_is_gone_on_with_only_if_it_is_the_runs() {
    let folder = Folder::new();
    folder.ok("train --quiet --epochs 2 --series-length 300 --log whole --save c");
    let whole = folder.text("whole");
    let lines: Vec<&str> = whole.lines().collect();
    assert_eq!(lines.len(), 9);
    let resume = "train --quiet --resume c --epochs 3 --log l";
    let with = |change: &dyn Fn(&mut Vec<String>)| {
        let mut lines: Vec<String> = lines.iter().map(|&line| line.into()).collect();
        change(&mut lines);
        lines.join("\n") + "\n"
    };
    for (text, part) in [
        ("one line".to_owned(), "no such header"),
        ("one line\n".into(), "no such header"),
        (
            with(&|lines| lines[0] = "step,loss,epoch".into()),
            "no such header",
        ),
        (
            with(&|lines| drop(lines.remove(4))),
            "step 4 instead of 3 in line 5",
        ),
        (
            with(&|lines| lines.insert(4, lines[3].clone())),
            "step 2 instead of 3 in line 5",
        ),
        (
            with(&|lines| drop(lines.pop())),
            "expected step 7 before the checkpoint's, got step 6",
        ),
        (
            with(&|lines| lines[3] = "2,0,NaN".into()),
            "loss NaN in line 4",
        ),
        (
            with(&|lines| lines[3] = "2,0,1e39".into()),
            "loss inf in line 4",
        ),
        (
            with(&|lines| lines[3] = "2,1,0.5".into()),
            "epoch 1 instead of 0 in line 4",
        ),
        (
            with(&|lines| lines[3] = "two,0,0.5".into()),
            "step,epoch,loss",
        ),
        (
            "step,epoch,loss\n9,2,0.5\n".into(),
            "expected the checkpoint's step 8, got step 9",
        ),
    ] {
        fs::write(folder.path("l"), &text).unwrap();
        folder.fails(resume, 1, &["l: ", part]);
        assert_eq!(folder.text("l"), text);
    }
    for text in ["", "step,ep", "step,epoch,loss\n"] {
        fs::write(folder.path("l"), text).unwrap();
        folder.ok(resume);
        assert!(
            folder.text("l").starts_with("step,epoch,loss\n8,2,"),
            "{text}"
        );
    }
    // What a kill has left half written is cut.
    fs::write(folder.path("l"), format!("{whole}8,2,0.")).unwrap();
    folder.ok(resume);
    assert!(folder.text("l").starts_with(&format!("{whole}8,2,0.")));
    assert_eq!(folder.text("l").lines().count(), 13);
}

#[test]
fn the_training_is_saved_first() {
    let folder = Folder::new();
    let train = "train --epochs 1 --series-length 3000";
    folder.ok(&format!("{train} --quiet --save whole"));
    symlink("/dev/full", folder.path("full.svg")).unwrap();
    for (script, part) in [
        (
            "--quiet --log /dev/full --save c",
            "/dev/full: cannot write",
        ),
        ("--quiet --plot full.svg --save c", "full.svg: cannot write"),
        ("--save c >/dev/full", "standard output: cannot write"),
    ] {
        let script = format!("rm -f c; \"$FL\" {train} {script}");
        folder.bash_fails(&script, 1, &[part, "the run goes on without it"]);
        assert!(folder.bytes("c") == folder.bytes("whole"), "{script}");
        // With nothing to save there is no reason to go on.
        folder.bash_fails(&script.replace("--save c", ""), 1, &[part]);
    }
    for script in [
        "--save c >&-",
        "--save c --plot p.png | head -1",
        "--quiet --save c --plot p.png",
    ] {
        let script = format!("export TMPDIR=/nowhere; rm -f c; \"$FL\" {train} {script}");
        let output = folder.bash(&script);
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{script}"
        );
        assert!(folder.bytes("c") == folder.bytes("whole"), "{script}");
    }
}

/// A step without finite numbers ends the run where it was before, to be gone on with.
#[test]
fn a_run_that_diverges_is_saved() {
    let folder = Folder::new();
    let diverging = "train --quiet --optimizer sgd --learning-rate 1e38 --save c --log l";
    folder.fails(diverging, 1, &["step 2", "finite", "--learning-rate"]);
    assert_eq!(
        folder.text("l").lines().count(),
        3,
        "steps 0 and 1 are there"
    );
    folder.fails("train --quiet --resume c", 1, &["step 2", "finite"]);
    folder.fails("train --quiet --resume c --log l", 1, &["step 2", "finite"]);
}

#[test]
fn modes_are_kept() {
    let folder = with_files();
    folder.ok("run --model m --input x --output y");
    let mode = |name| {
        fs::metadata(folder.path(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    for wanted in [0o600, 0o640, 0o666] {
        fs::set_permissions(folder.path("y"), fs::Permissions::from_mode(wanted)).unwrap();
        folder.ok("run --model m --input x --output y");
        assert_eq!(mode("y"), wanted);
    }
    fs::set_permissions(folder.path("y"), fs::Permissions::from_mode(0o444)).unwrap();
    let command = "run --model m --input x --output y";
    folder.fails(command, 1, &["y: cannot write", "denied"]);
    folder.fails(&format!("{command} --force"), 1, &["y: cannot write"]);
}

/// What cannot be put in its place is kept beside it: a file that is a mount point, in a namespace
/// of its own, if the system allows one.
#[test]
#[cfg(target_os = "linux")]
fn what_cannot_be_replaced_is_kept() {
    let folder = with_files();
    folder.ok("run --model m --input x --output y");
    folder.ok("run --model m --input x --output z");
    let mounted = |script: &str| {
        let script = format!("mount --bind z y && {script}");
        let unshared = ["-rm", "bash", "-c", &script];
        std::process::Command::new("unshare")
            .args(unshared)
            .env("FL", env!("CARGO_BIN_EXE_fused-lstm"))
            .current_dir(folder.path(""))
            .output()
    };
    match mounted("true") {
        Ok(output) if output.status.success() => {}
        _ => return eprintln!("skipped: no namespace to mount in"),
    }
    let output = mounted("\"$FL\" run --model m --input x --output y").unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("y.new is what it would be"), "{error}");
    assert!(folder.bytes("y.new") == folder.bytes("z"));
}

/// A folder is not taken for one of descriptors by its name.
#[test]
fn files_below_a_folder_named_fd_are_files() {
    let folder = with_files();
    fs::create_dir(folder.path("fd")).unwrap();
    fs::write(folder.path("fd/notes"), "precious").unwrap();
    folder.fails("run --model m --input x --output fd/notes", 2, &["--force"]);
    folder.ok("run --model m --input x --output fd/y");
    let once = folder.bytes("fd/y");
    folder.ok("run --model m --input x --output fd/y");
    assert!(folder.bytes("fd/y") == once);
}

/// Lines would spoil a file that goes where they go.
#[test]
fn lines_do_not_mix_with_files() {
    let folder = with_files();
    let train = "train --epochs 1 --series-length 300 --layers 1";
    let saved = folder.run(&format!("{train} --save /proc/self/fd/1"));
    assert!(saved.status.success() && saved.stdout == folder.bytes("c"));
    let logged = folder.run(&format!("{train} --log /proc/self/fd/1"));
    let log = String::from_utf8(logged.stdout).unwrap();
    assert!(log.starts_with("step,epoch,loss\n0,0,"), "{log}");
    assert_eq!(log.lines().count(), 5);
    assert!(
        folder
            .ok(&format!("{train} --log /dev/null"))
            .contains("Mean loss")
    );
    // And a run that nobody reads and that writes nothing has no reason to go on.
    let script = "timeout 60 \"$FL\" train --epochs 1000000 | head -1; echo ${PIPESTATUS[0]}";
    let output = folder.bash(script);
    assert_eq!(output.stdout, b"New data, epoch 0\n130\n");
}

/// A log on a full disk ends with its last whole row, and is gone on with when there is room.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_leaves_a_whole_log() {
    let folder = Folder::new();
    fs::create_dir(folder.path("disk")).unwrap();
    let script = "mount -t tmpfs -o size=8k tmpfs disk && \
        { \"$FL\" train --quiet --epochs 40 --layers 1 --truncation 10 --series-length 1500 \
          --save c --log disk/l; code=$?; cp disk/l l; exit $code; }";
    let output = std::process::Command::new("unshare")
        .args(["-rm", "bash", "-c", script])
        .env("FL", env!("CARGO_BIN_EXE_fused-lstm"))
        .current_dir(folder.path(""))
        .output();
    let Ok(output) = output else {
        return eprintln!("skipped: no unshare");
    };
    let error = String::from_utf8_lossy(&output.stderr);
    if error.contains("unshare") || error.contains("mount") {
        return eprintln!("skipped: {error}");
    }
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("disk/l: cannot write"), "{error}");
    let log = folder.text("l");
    assert!(log.starts_with("step,epoch,loss\n0,0,"), "{log}");
    assert!(log.ends_with('\n') && !log.contains('\0'));
    assert!(folder.path("c").exists());
}

/// Temporary files that a kill has left go; those that are being written stay, and so do others.
#[test]
fn abandoned_files_are_removed() {
    let folder = with_files();
    for name in [
        ".fused-lstm-dead00.tmp",
        ".fused-lstm-live00.tmp",
        ".fused-lstm-notes",
    ] {
        fs::write(folder.path(name), "half").unwrap();
    }
    let live = File::open(folder.path(".fused-lstm-live00.tmp")).unwrap();
    live.lock().unwrap();
    folder.ok("run --model m --input x --output y");
    let hidden = |names: Vec<String>| -> Vec<String> {
        names
            .into_iter()
            .filter(|name| name.starts_with('.'))
            .collect()
    };
    let left = [".fused-lstm-live00.tmp", ".fused-lstm-notes"];
    assert_eq!(hidden(folder.names()), left);
    drop(live);
    folder.ok("run --model m --input x --output y");
    assert_eq!(hidden(folder.names()), [".fused-lstm-notes"]);
}
