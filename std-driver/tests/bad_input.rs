//! Every kind of bad input: one line that names it, the right exit code, and nothing
//! already saved lost.

mod common;

use common::{Folder, write_tensors};
use std::fs;

#[test]
fn settings_that_cannot_be() {
    let folder = Folder::new();
    for (flags, parts) in [
        ("--hidden 0", &["--hidden", "at least 1", "got 0"][..]),
        ("--hidden 4,0,4", &["--hidden", "at least 1"]),
        ("--hidden four", &["--hidden", "four"]),
        ("--layers 0", &["--layers", "1 to 1000"]),
        ("--layers 99999999999999", &["--layers", "1 to 1000"]),
        ("--hidden 4000000000", &["--hidden", "fits into memory"]),
        (
            "--series-length 9223372036854775805",
            &["--series-length", "fits into memory"],
        ),
        ("--save a --log a", &["--log", "another file than --save"]),
        (
            "--log ./a.svg --plot a.svg",
            &["--plot", "another file than --log"],
        ),
        (
            "--layers 2 --hidden 4,5,6",
            &["--layers", "expected 3", "got 2"],
        ),
        ("--batch 0", &["--batch"]),
        (
            "--batch 7",
            &["--batch", "a divisor of the series' 50000 bits", "got 7"],
        ),
        ("--truncation 0", &["--truncation"]),
        (
            "--truncation 10001",
            &["--truncation", "10000", "got 10001"],
        ),
        (
            "--echo-step 50000",
            &["--echo-step", "50000 bits", "got 50000"],
        ),
        ("--series-length 0", &["--series-length"]),
        ("--epochs 0", &["--epochs"]),
        ("--learning-rate 0", &["--learning-rate", "above 0"]),
        ("--learning-rate nan", &["--learning-rate", "NaN"]),
        ("--clip-norm -1", &["--clip-norm"]),
        ("--optimizer newton", &["--optimizer", "newton"]),
        ("--state forget", &["--state", "forget"]),
        ("--save-every 10", &["--save"]),
        ("--save c --save-every 0", &["--save-every", "0"]),
        (
            "--plot picture.gif",
            &["--plot", ".svg or .png", "picture.gif"],
        ),
        ("--hidden 99999999999", &["--hidden"]),
        ("--no-such-flag", &["--no-such-flag"]),
        ("echo-twice", &["echo-twice"]),
    ] {
        folder.fails(&format!("train {flags}"), 2, parts);
    }
    folder.fails("", 2, &["subcommand"]);
    assert!(folder.names().is_empty());
}

#[test]
fn paths_that_cannot_be_written_are_refused_first() {
    let folder = Folder::new();
    fs::create_dir(folder.path("folder")).unwrap();
    for (flags, parts) in [
        (
            "--save no/c.safetensors",
            &["no/c.safetensors", "cannot write"][..],
        ),
        ("--save folder", &["folder", "expected a file"]),
        ("--log no/l.csv", &["no/l.csv", "cannot write"]),
        ("--plot no/p.svg", &["no/p.svg", "cannot write"]),
    ] {
        folder.fails(&format!("train {flags}"), 1, parts);
    }
    assert_eq!(folder.names(), ["folder"]);
}

/// Runs the command where no file can grow: what a full disk does to a write.
#[cfg(unix)]
#[test]
fn a_full_disk_keeps_the_old_checkpoint() {
    let folder = Folder::new();
    let settings = "--quiet --epochs 1 --series-length 3000";
    folder.ok(&format!("train {settings} --save c.safetensors"));
    let before = fs::read(folder.path("c.safetensors")).unwrap();
    let program = env!("CARGO_BIN_EXE_fused-lstm");
    for (flags, name) in [
        ("--save c.safetensors", "c.safetensors"),
        ("--log l.csv", "l.csv"),
    ] {
        let script = format!(
            "cd '{}' && trap '' XFSZ && ulimit -f 0 && exec '{program}' train {settings} {flags}",
            folder.path("").display()
        );
        let output = std::process::Command::new("bash")
            .args(["-c", &script])
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(
            error.contains(name) && error.contains("File too large"),
            "{error}"
        );
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    assert_eq!(fs::read(folder.path("c.safetensors")).unwrap(), before);
    assert!(
        !folder.names().iter().any(|name| name.ends_with(".tmp")),
        "{:?}",
        folder.names()
    );
}

#[test]
fn a_loss_that_is_no_number_keeps_the_last_good_checkpoint() {
    let folder = Folder::new();
    let flags = "--quiet --optimizer sgd --learning-rate 1e38 --save c.safetensors --save-every 1";
    folder.fails(
        &format!("train {flags} --log l.csv"),
        1,
        &["finite", "--learning-rate"],
    );
    // What was saved before is whole, and can be gone on from.
    let rows = folder.text("l.csv").lines().count();
    assert!(rows >= 2, "the rows before the failure are there");
    folder.fails("train --quiet --resume c.safetensors", 1, &["finite"]);
}

#[test]
fn weights_that_do_not_fit() {
    let folder = Folder::new();
    let init = "train --quiet --init w.safetensors";
    let path = folder.path("w.safetensors");
    folder.fails(init, 1, &["w.safetensors", "cannot read"]);
    fs::write(&path, b"not tensors at all").unwrap();
    folder.fails(init, 1, &["w.safetensors", "expected a safetensors file"]);
    fs::write(&path, []).unwrap();
    folder.fails(init, 1, &["expected a safetensors file"]);

    folder.ok("train --quiet --epochs 1 --series-length 300 --hidden 5 --save w.safetensors");
    let parts = [
        "w.safetensors",
        "expected weights",
        "[4, 4, 4]",
        "[5, 5, 5]",
    ];
    folder.fails(init, 1, &parts);
    folder.ok(&format!("{init} --epochs 1 --series-length 300 --hidden 5"));
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    folder.fails(init, 1, &["expected a safetensors file"]);

    let (kernel, bias, head) = ([0.5; 80], [0.0; 16], [0.5; 8]);
    let write = |tensors: &[(&str, &[usize], &[f32])]| write_tensors(&path, tensors, &[]);
    write(&[("lstm.1.kernel", &[5, 16], &kernel)]);
    folder.fails(init, 1, &["key lstm.0.kernel", "got none"]);
    write(&[("lstm.0.kernel", &[5, 16], &kernel)]);
    folder.fails(init, 1, &["key lstm.0.bias", "got none"]);
    write(&[
        ("lstm.0.kernel", &[16, 5], &kernel),
        ("lstm.0.bias", &[16], &bias),
    ]);
    folder.fails(init, 1, &["key lstm.0.kernel", "[I+H, 4H]", "[16, 5]"]);
    write(&[
        ("lstm.0.kernel", &[5, 16], &kernel),
        ("lstm.0.bias", &[15], &bias[..15]),
    ]);
    folder.fails(init, 1, &["key lstm.0.bias", "expected shape [16]", "[15]"]);
    let layer: [(&str, &[usize], &[f32]); 2] = [
        ("lstm.0.kernel", &[5, 16], &kernel),
        ("lstm.0.bias", &[16], &bias),
    ];
    write(&[layer[0], layer[1], ("lstm.1.kernel", &[5, 16], &kernel)]);
    folder.fails(init, 1, &["key lstm.1.kernel", "[4+H, 4H]", "[5, 16]"]);
    write(&[layer[0], layer[1], ("lstm.2.kernel", &[5, 16], &kernel)]);
    folder.fails(init, 1, &["key lstm.2.kernel", "expected lstm.1.kernel"]);
    write(&[layer[0], layer[1], ("dense.weight", &[4, 2], &head)]);
    folder.fails(init, 1, &["key dense.weight", "dense.kernel"]);
    write(&[
        layer[0],
        layer[1],
        ("dense.kernel", &[2, 4], &head),
        ("dense.bias", &[4], &bias[..4]),
    ]);
    folder.fails(
        init,
        1,
        &["key dense.kernel", "expected shape [4, 4]", "[2, 4]"],
    );
    for bad in [f32::NAN, f32::INFINITY] {
        let mut kernel = kernel;
        kernel[7] = bad;
        write(&[("lstm.0.kernel", &[5, 16], &kernel), layer[1]]);
        folder.fails(init, 1, &["key lstm.0.kernel", "finite", " at 7"]);
    }
    write(&layer);
    folder.fails(&format!("{init} --layers 1"), 1, &["2 classes", "no head"]);
    // A model is no checkpoint.
    folder.fails(
        "train --resume w.safetensors",
        1,
        &["expected a checkpoint"],
    );
}

#[test]
fn data_that_does_not_fit() {
    let folder = Folder::new();
    let train = "train --quiet --epochs 2 --data d.safetensors --batch 5 --truncation 4";
    let write = |tensors: &[(&str, &[usize], &[i32])]| {
        write_tensors(&folder.path("d.safetensors"), &[], tensors);
    };
    let bits = [1; 200];
    folder.fails(train, 1, &["d.safetensors", "cannot read"]);
    write(&[("x", &[2, 100], &bits)]);
    folder.fails(train, 1, &["key y", "got none"]);
    write(&[("x", &[2, 100], &bits), ("y", &[100, 2], &bits)]);
    folder.fails(train, 1, &["key y", "the shape of x, [2, 100]", "[100, 2]"]);
    write(&[("x", &[200], &bits), ("y", &[200], &bits)]);
    folder.fails(train, 1, &["key x", "[epochs, length]", "[200]"]);
    write(&[("x", &[1, 200], &bits), ("y", &[1, 200], &bits)]);
    folder.fails(train, 1, &["key x", "at least 2 rows", "[1, 200]"]);
    let mut labels = bits;
    labels[103] = 2;
    write(&[("x", &[2, 100], &bits), ("y", &[2, 100], &labels)]);
    folder.fails(train, 1, &["key y", "labels 0 or 1", "2 at [1, 3]"]);
    write(&[
        ("x", &[2, 100], &bits),
        ("y", &[2, 100], &bits),
        ("z", &[1], &[0]),
    ]);
    folder.fails(train, 1, &["key z", "x and y"]);
    write(&[("x", &[2, 100], &bits), ("y", &[2, 100], &bits)]);
    folder.fails(
        &format!("{train} --series-length 50"),
        1,
        &["key x", "--series-length", "100"],
    );
    folder.fails(
        &train.replace("--batch 5", "--batch 3"),
        2,
        &["--batch", "100 bits", "got 3"],
    );
    let floats = [0.0f32; 200];
    let floats: [(&str, &[usize], &[f32]); 2] =
        [("x", &[2, 100], &floats), ("y", &[2, 100], &floats)];
    write_tensors(&folder.path("d.safetensors"), &floats, &[]);
    folder.fails(train, 1, &["key x", "expected I32", "F32"]);
    write(&[("x", &[2, 100], &bits), ("y", &[2, 100], &bits)]);
    folder.ok(train);
}

/// A checkpoint whose settings ask for more than its tensors hold is refused before
/// any room is made for them.
#[test]
fn checkpoints_that_contradict_themselves() {
    let folder = Folder::new();
    folder.ok("train --quiet --epochs 1 --series-length 300 --save c.safetensors");
    let resume = "train --quiet --resume c.safetensors";
    let path = folder.path("c.safetensors");
    let whole = fs::read(&path).unwrap();
    let text = |from: &str, to: &str| {
        // The header is JSON in JSON; what replaces it has the same length.
        assert_eq!(from.len(), to.len());
        let at = whole
            .windows(from.len())
            .position(|part| part == from.as_bytes())
            .expect(from);
        let mut changed = whole.clone();
        changed[at..at + to.len()].copy_from_slice(to.as_bytes());
        fs::write(&path, changed).unwrap();
    };
    text("[4,4,4]", "[99999]");
    folder.fails(
        resume,
        1,
        &["key lstm.0.kernel", "expected shape [100000, 399996]"],
    );
    text("\"batch\\\":5", "\"batch\\\":3");
    folder.fails(resume, 1, &["key state.0", "expected shape [2, 3, 4]"]);
    text("\"truncation\\\":15", "\"truncation\\\":90");
    folder.fails(
        resume,
        1,
        &["c.safetensors", "the checkpoint's settings", "--truncation"],
    );
    text("\"epochs\\\":1", "\"epochs\\\":x");
    folder.fails(resume, 1, &["c.safetensors", "settings cannot be read"]);
    text("\"U64\",\"shape\":[1]", "\"U64\",\"shape\":[2]");
    folder.fails(resume, 1, &["c.safetensors", "expected a safetensors file"]);
    // The numbers of 64 bits come first: the epoch, the generator's four, the step.
    let header = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let epoch = 8 + header;
    let step = epoch + 5 * 8;
    let mut changed = whole.clone();
    changed[step] = 99;
    fs::write(&path, changed).unwrap();
    folder.fails(resume, 1, &["key step", "at most 4", "got 99"]);
    changed = whole.clone();
    changed[epoch] = 7;
    fs::write(&path, changed).unwrap();
    folder.fails(
        resume,
        1,
        &["key epoch", "expected that of the step, 1, got 7"],
    );
}

/// Only regular files are replaced, and links stay links.
#[cfg(unix)]
#[test]
fn what_is_no_file_is_left_alone() {
    let folder = Folder::new();
    let settings = "--quiet --epochs 1 --series-length 300";
    folder.ok(&format!("train {settings} --log /dev/null"));
    std::os::unix::fs::symlink("real.safetensors", folder.path("link.safetensors")).unwrap();
    folder.fails(
        &format!("train {settings} --save link.safetensors"),
        1,
        &["link.safetensors", "a link that leads nowhere"],
    );
    fs::write(folder.path("real.safetensors"), "").unwrap();
    folder.ok(&format!("train {settings} --save link.safetensors"));
    assert!(folder.path("link.safetensors").is_symlink());
    folder.ok(&format!("train {settings} --init real.safetensors"));
    // A reader that has seen enough does not keep the run from being saved.
    let script = format!(
        "cd '{}' && '{}' train --save piped.safetensors | head -1",
        folder.path("").display(),
        env!("CARGO_BIN_EXE_fused-lstm")
    );
    let output = std::process::Command::new("bash")
        .args(["-c", &script])
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"New data, epoch 0\n");
    assert!(output.stderr.is_empty() && folder.path("piped.safetensors").is_file());
}

#[test]
fn logs_that_are_no_logs_are_left_alone() {
    let folder = Folder::new();
    folder.ok("train --quiet --epochs 1 --series-length 300 --save c.safetensors");
    fs::write(folder.path("l.csv"), "shopping list\nmilk\n").unwrap();
    folder.fails(
        "train --quiet --resume c.safetensors --log l.csv",
        1,
        &["l.csv", "step,epoch,loss"],
    );
    assert_eq!(folder.text("l.csv"), "shopping list\nmilk\n");
}
