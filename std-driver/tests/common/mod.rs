//! What the driver's tests share: the command, and a folder of its own for each.

#![allow(dead_code, reason = "not every test uses all of it")]

// Links to the files of `fused-lstm-tests`, which is not published: the package has copies.
pub mod close;
pub mod oracle;
pub mod random;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder that goes when the test is over.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect(name)
    }

    /// The command in this folder, so that files can be named without it.
    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fused-lstm"));
        command
            .args(arguments.split_whitespace())
            .current_dir(self.0.path());
        command
    }

    /// The same, with signals as they are by default: whoever runs the tests may ignore them, as
    /// `nohup` and a shell's background do.
    pub fn interruptible(&self, arguments: &str) -> Command {
        if !cfg!(target_os = "linux") {
            return self.command(arguments);
        }
        let mut command = Command::new("env");
        command
            .arg("--default-signal=HUP,INT,TERM")
            .arg(env!("CARGO_BIN_EXE_fused-lstm"))
            .args(arguments.split_whitespace())
            .current_dir(self.0.path());
        command
    }

    pub fn run(&self, arguments: &str) -> Output {
        self.command(arguments)
            .output()
            .expect("the command starts")
    }

    /// Runs a script in this folder, in which `$FL` is the command.
    #[cfg(unix)]
    pub fn bash(&self, script: &str) -> Output {
        Command::new("bash")
            .args(["-c", script])
            .env("FL", env!("CARGO_BIN_EXE_fused-lstm"))
            .current_dir(self.0.path())
            .output()
            .expect("bash starts")
    }

    /// Runs a script, whose last command must fail as in [`fails`](Self::fails).
    #[cfg(unix)]
    #[track_caller]
    pub fn bash_fails(&self, script: &str, code: i32, parts: &[&str]) {
        failed(script, &self.bash(script), code, parts);
    }

    /// Runs the command, which must succeed, and gives what it prints.
    #[track_caller]
    pub fn ok(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{arguments}: {} {error}",
            output.status
        );
        assert!(error.is_empty(), "{arguments}: {error}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs the command, which must fail with `code` and one line that has all of
    /// `parts` in it.
    #[track_caller]
    pub fn fails(&self, arguments: &str, code: i32, parts: &[&str]) {
        failed(arguments, &self.run(arguments), code, parts);
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect(name)
    }

    /// The names of the files that are here.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).expect("a folder");
        let name = |e: std::io::Result<std::fs::DirEntry>| e.expect("an entry").file_name();
        let mut names: Vec<_> = entries
            .map(|e| name(e).into_string().expect("a text"))
            .collect();
        names.sort();
        names
    }
}

/// Refuses any other end than `code` and one line of error that has all of `parts` in it.
#[track_caller]
fn failed(what: &str, output: &Output, code: i32, parts: &[&str]) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{what}: {error}");
    assert_eq!(error.trim_end().lines().count(), 1, "{what}: {error}");
    assert!(error.starts_with("error: "), "{what}: {error}");
    for part in parts {
        assert!(error.contains(part), "{what}: no `{part}` in: {error}");
    }
}

/// Writes a safetensors file of f32 and i32 tensors.
pub fn write_tensors(
    path: &Path,
    f32s: &[(&str, &[usize], &[f32])],
    i32s: &[(&str, &[usize], &[i32])],
) {
    use safetensors::Dtype;
    use safetensors::tensor::TensorView;
    let bytes = |k: usize| -> Vec<u8> {
        match f32s.get(k) {
            Some((_, _, values)) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            None => i32s[k - f32s.len()]
                .2
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect(),
        }
    };
    let data: Vec<Vec<u8>> = (0..f32s.len() + i32s.len()).map(bytes).collect();
    let f32_shapes = f32s
        .iter()
        .map(|(name, shape, _)| (*name, shape.to_vec(), Dtype::F32));
    let i32_shapes = i32s
        .iter()
        .map(|(name, shape, _)| (*name, shape.to_vec(), Dtype::I32));
    let views = f32_shapes
        .chain(i32_shapes)
        .zip(&data)
        .map(|((name, shape, dtype), data)| {
            (
                name,
                TensorView::new(dtype, shape, data).expect("a shape that fits"),
            )
        });
    std::fs::write(path, safetensors::serialize(views, None).expect("tensors")).expect("a file");
}
