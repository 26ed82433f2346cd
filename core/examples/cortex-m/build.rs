//! Writes the memory map of the board: that of the target's emulated one, or of the one that
//! the variable BOARD names; and the imported networks of the folder `imported`, or of the one that the
//! variable IMPORTED names, with the numbers that they must give.

use std::env::var;
use std::path::{Path, PathBuf};

/// A board's flash and RAM: where they begin, and their KiB.
struct Board {
    name: &'static str,
    flash: (u32, u32),
    ram: (u32, u32),
}

const BOARDS: [Board; 6] = [
    // Cortex-M0, as M0+ but for two stages of the pipeline; nRF51.
    board("microbit", (0x0000_0000, 256), (0x2000_0000, 16)),
    // Cortex-M4F.
    board("mps2-an386", (0x0000_0000, 4096), (0x2000_0000, 4096)),
    // Cortex-M7.
    board("mps2-an500", (0x0000_0000, 4096), (0x2000_0000, 4096)),
    // Cortex-M33.
    board("mps2-an505", (0x1000_0000, 4096), (0x3800_0000, 2048)),
    // Cortex-M55.
    board("mps3-an547", (0x0000_0000, 512), (0x2000_0000, 512)),
    // RISC-V, a part of whose RAM stands in for flash.
    board("virt", (0x8000_0000, 4096), (0x8040_0000, 4096)),
];

const fn board(name: &'static str, flash: (u32, u32), ram: (u32, u32)) -> Board {
    Board { name, flash, ram }
}

fn main() {
    println!("cargo::rerun-if-env-changed=BOARD");
    println!("cargo::rerun-if-changed=build.rs");
    let target = var("TARGET").expect("cargo says the target");
    let usual = match target.split('-').next() {
        Some("thumbv6m") => "microbit",
        Some("thumbv8m.main") => "mps2-an505",
        Some("riscv32imafc") => "virt",
        _ => "mps2-an386",
    };
    let name = var("BOARD").unwrap_or_else(|_| usual.to_owned());
    let Some(board) = BOARDS.iter().find(|board| board.name == name) else {
        let names = BOARDS.map(|board| board.name).join(", ");
        println!("cargo::error=BOARD: expected one of {names}, got {name}");
        return;
    };
    let (flash, ram) = (board.flash, board.ram);
    let mut map = format!(
        "MEMORY {{\n  FLASH : ORIGIN = {:#x}, LENGTH = {}K\n  RAM : ORIGIN = {:#x}, LENGTH = {}K\n}}\n",
        flash.0, flash.1, ram.0, ram.1,
    );
    if target.starts_with("riscv") {
        for (region, memory) in [
            ("TEXT", "FLASH"),
            ("RODATA", "FLASH"),
            ("DATA", "RAM"),
            ("BSS", "RAM"),
            ("HEAP", "RAM"),
            ("STACK", "RAM"),
        ] {
            map += &format!("REGION_ALIAS(\"REGION_{region}\", {memory});\n");
        }
    }
    let folder = PathBuf::from(var("OUT_DIR").expect("cargo gives a folder"));
    std::fs::write(folder.join("memory.x"), map).expect("cargo's folder can be written to");
    imported(&folder);
    println!("cargo::rustc-link-search={}", folder.display());
    println!("cargo::rustc-env=BOARD={name}");
    println!("cargo::rustc-env=FLASH_START={}", flash.0);
    println!("cargo::rustc-env=FLASH_END={}", flash.0 + flash.1 * 1024);
}

/// The networks as they are, and inputs and outputs from CSV as arrays.
fn imported(to: &Path) {
    println!("cargo::rerun-if-env-changed=IMPORTED");
    let from = PathBuf::from(var("IMPORTED").unwrap_or_else(|_| "imported".to_owned()));
    let read = |name: &str| {
        let path = from.join(name);
        println!("cargo::rerun-if-changed={}", path.display());
        std::fs::read_to_string(&path).unwrap_or_else(|error| {
            println!("cargo::error={}: {error}", path.display());
            String::new()
        })
    };
    let write = |name: &str, text: String| {
        std::fs::write(to.join(name), text).expect("cargo's folder can be written to");
    };
    let mut expected = String::new();
    for network in ["amp", "words"] {
        let name = format!("{network}.rs");
        write(&name, read(&name));
        for part in ["x", "y"] {
            let text = read(&format!("{network}_{part}.csv"));
            let fields = text.lines().flat_map(|line| line.split(','));
            let numbers: Vec<f32> = fields
                .filter_map(|field| field.trim().parse().ok())
                .collect();
            let name = format!("{network}_{part}").to_uppercase();
            let len = numbers.len();
            expected += &format!("pub static {name}: [f32; {len}] = {numbers:?};\n");
        }
    }
    write("expected.rs", expected);
}
