//! What the checks need of the board: where flash and stack are, and a count of instructions.

#![allow(unsafe_code)]

use core::ops::Range;
use core::ptr::{addr_of, with_exposed_provenance_mut};

/// The board's name.
pub const NAME: &str = env!("BOARD");

/// The addresses of flash.
pub const FLASH: Range<usize> = number(env!("FLASH_START"))..number(env!("FLASH_END"));

const fn number(digits: &str) -> usize {
    let (digits, mut value, mut k) = (digits.as_bytes(), 0, 0);
    while k < digits.len() {
        value = value * 10 + (digits[k] - b'0') as usize;
        k += 1;
    }
    value
}

// Places that the linker scripts of both runtimes name; none is read or written through these.
unsafe extern "C" {
    static __stext: u8;
    static __etext: u8;
    static __sdata: u8;
    static __edata: u8;
    static __sbss: u8;
    static __ebss: u8;
    static __sheap: u8;
}

macro_rules! bytes {
    ($start:ident, $end:ident) => {
        addr_of!($end) as usize - addr_of!($start) as usize
    };
}

/// Instructions in flash, of the whole program.
pub fn code_bytes() -> usize {
    bytes!(__stext, __etext)
}

/// Static memory, of the whole program.
pub fn static_bytes() -> usize {
    bytes!(__sdata, __edata) + bytes!(__sbss, __ebss)
}

/// Words between a stack that is measured and what the measuring takes itself.
const MARGIN: usize = 16;
/// What unused stack holds.
const PAINT: u32 = 0xc5c5_c5c5;
/// Words that are painted below the stack.
const PAINTED: usize = 2048;

/// Counts instructions, as the emulator's clock goes on with each.
pub struct Counter {
    /// Ticks of a million instructions.
    rate: u64,
    /// Ticks of measuring nothing.
    nothing: u32,
}

impl Counter {
    /// Finds how fast the clock goes, by instructions whose number is known.
    pub fn new() -> Self {
        clock::start();
        const ROUNDS: u32 = 50_000;
        let nothing = ticks(|| ());
        let ticks = ticks(|| two_instructions(ROUNDS)) - nothing;
        Self {
            rate: u64::from(ticks) * 1_000_000 / u64::from(2 * ROUNDS),
            nothing,
        }
    }

    /// The instructions that `work` takes, and the bytes of stack.
    #[inline(never)]
    pub fn measure(&self, work: impl FnOnce()) -> (u32, usize) {
        let top = paint();
        let ticks = ticks(work) - self.nothing;
        let instructions = u64::from(ticks) * 1_000_000 / self.rate;
        (instructions as u32, depth(top))
    }
}

#[inline(never)]
fn ticks(work: impl FnOnce()) -> u32 {
    let start = clock::now();
    work();
    clock::since(start)
}

/// So many rounds of two instructions.
#[inline(never)]
fn two_instructions(rounds: u32) {
    // SAFETY: counts a register down to zero.
    #[cfg(target_arch = "arm")]
    unsafe {
        core::arch::asm!("2: subs {0}, {0}, #1", "bne 2b", inout(reg) rounds => _);
    }
    // SAFETY: counts a register down to zero.
    #[cfg(target_arch = "riscv32")]
    unsafe {
        core::arch::asm!("2: addi {0}, {0}, -1", "bnez {0}, 2b", inout(reg) rounds => _);
    }
}

/// Paints what is free below the stack, as far as the static memory; gives where it begins.
#[inline(never)]
fn paint() -> usize {
    let marker = 0u32;
    let top = (addr_of!(marker) as usize & !3) - 4 * MARGIN;
    let bottom = (addr_of!(__sheap) as usize + 3) & !3;
    for word in 0..PAINTED.min((top - bottom) / 4) {
        // SAFETY: the word lies between the static memory and the stack in use, which does not
        // reach so far below a local of this function, that calls nothing.
        unsafe {
            with_exposed_provenance_mut::<u32>(top - 4 * (word + 1)).write_volatile(PAINT);
        }
    }
    top
}

/// Bytes of stack that were used below `top`, and the margin.
#[inline(never)]
fn depth(top: usize) -> usize {
    let bottom = (addr_of!(__sheap) as usize + 3) & !3;
    let mut unused = 0;
    let words = PAINTED.min((top - bottom) / 4);
    // From the lowest word up to the first that is no paint any more.
    while unused < words {
        // SAFETY: a word that `paint` wrote.
        let word = unsafe {
            with_exposed_provenance_mut::<u32>(top - 4 * (words - unused)).read_volatile()
        };
        if word != PAINT {
            break;
        }
        unused += 1;
    }
    4 * (words - unused + MARGIN)
}

#[cfg(target_arch = "arm")]
mod clock {
    //! SysTick: 24 bits, counting down.

    use cortex_m::peripheral::SYST;
    use cortex_m::peripheral::syst::SystClkSource;

    const MOST: u32 = 0x00ff_ffff;

    pub fn start() {
        if let Some(peripherals) = cortex_m::Peripherals::take() {
            let mut clock = peripherals.SYST;
            clock.set_clock_source(SystClkSource::Core);
            clock.set_reload(MOST);
            clock.clear_current();
            clock.enable_counter();
        }
    }

    pub fn now() -> u32 {
        SYST::get_current()
    }

    pub fn since(start: u32) -> u32 {
        start.wrapping_sub(now()) & MOST
    }
}

#[cfg(target_arch = "riscv32")]
mod clock {
    //! The count of retired instructions.

    pub fn start() {}

    pub fn now() -> u32 {
        riscv::register::minstret::read() as u32
    }

    pub fn since(start: u32) -> u32 {
        now().wrapping_sub(start)
    }
}

#[cfg_attr(target_arch = "arm", cortex_m_rt::entry)]
#[cfg_attr(target_arch = "riscv32", riscv_rt::entry)]
fn main() -> ! {
    semihosting::process::exit(i32::from(!crate::run()))
}
