//! What the machine can do at most, measured: fused multiply–adds, and reads from
//! each cache.

#![allow(unsafe_code)]

use std::hint::black_box;
use std::time::{Duration, Instant};

/// The limits of one core.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Floating-point operations a nanosecond, an FMA counted as two.
    pub gflops: f64,
    /// The caches from the smallest, in bytes, and memory last, each with the bytes a
    /// nanosecond that can be read from it.
    pub reads: Vec<(usize, f64)>,
}

impl Limits {
    /// Takes the best of a few tries, about a third of a second in all.
    pub fn measure() -> Self {
        let caches: Vec<usize> = (0..=3).filter_map(data_cache_bytes).collect();
        let caches = if caches.is_empty() {
            vec![32 << 10, 512 << 10, 8 << 20]
        } else {
            caches
        };
        let read = |bytes: usize| {
            let data = vec![1.0f32; bytes / 4];
            let passes = (4 << 20) / bytes + 1;
            let ns = best(|| {
                for _ in 0..passes {
                    black_box(sum(black_box(&data)));
                }
            });
            (bytes * passes) as f64 / ns
        };
        let mut reads: Vec<(usize, f64)> = caches
            .iter()
            .map(|&bytes| (bytes, read((bytes / 2).min(8 << 20))))
            .collect();
        reads.push((usize::MAX, read(128 << 20)));
        const ROUNDS: usize = 20_000;
        let ns = best(|| {
            black_box(multiply_add(black_box(ROUNDS)));
        });
        Self {
            gflops: (ROUNDS * FLOPS_A_ROUND) as f64 / ns,
            reads,
        }
    }

    /// The bandwidth of the smallest cache that holds so many bytes.
    pub fn bandwidth(&self, bytes: usize) -> f64 {
        let holds = self.reads.iter().find(|(size, _)| bytes <= *size);
        holds.map_or(f64::NAN, |(_, bandwidth)| *bandwidth)
    }
}

fn best(mut run: impl FnMut()) -> f64 {
    let end = Instant::now() + Duration::from_millis(60);
    let mut best = f64::INFINITY;
    while best.is_infinite() || Instant::now() < end {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_nanos() as f64);
    }
    best
}

/// The size of a cache of the first core that holds data, as Linux tells it.
fn data_cache_bytes(index: usize) -> Option<usize> {
    let of = |name: &str| {
        let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{name}");
        std::fs::read_to_string(path).ok()
    };
    if of("type")?.trim() == "Instruction" {
        return None;
    }
    let kib: usize = of("size")?.trim().strip_suffix('K')?.parse().ok()?;
    Some(kib << 10)
}

const FLOPS_A_ROUND: usize = 10 * 8 * 2;

#[cfg(target_arch = "x86_64")]
fn multiply_add(rounds: usize) -> f32 {
    if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
        // SAFETY: the processor has both.
        unsafe { x86::multiply_add(rounds) }
    } else {
        multiply_add_plain(rounds)
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn multiply_add(rounds: usize) -> f32 {
    multiply_add_plain(rounds)
}

/// Ten chains of eight: what the compiler makes of it.
fn multiply_add_plain(rounds: usize) -> f32 {
    let mut chains = [[0.0f32; 8]; 10];
    for _ in 0..rounds {
        for v in chains.as_flattened_mut() {
            *v = *v * 0.5 + 1.0;
        }
    }
    chains.as_flattened().iter().sum()
}

#[cfg(target_arch = "x86_64")]
fn sum(data: &[f32]) -> f32 {
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has it.
        unsafe { x86::sum(data) }
    } else {
        sum_plain(data)
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn sum(data: &[f32]) -> f32 {
    sum_plain(data)
}

fn sum_plain(data: &[f32]) -> f32 {
    let mut chains = [0.0f32; 32];
    for group in data.chunks_exact(32) {
        for (sum, v) in chains.iter_mut().zip(group) {
            *sum += v;
        }
    }
    chains.iter().sum()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    /// # Safety
    /// The processor has AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn multiply_add(rounds: usize) -> f32 {
        let (half, one) = (_mm256_set1_ps(black_box(0.5)), _mm256_set1_ps(1.0));
        let mut chains = [_mm256_setzero_ps(); 10];
        for _ in 0..rounds {
            for v in &mut chains {
                *v = _mm256_fmadd_ps(*v, half, one);
            }
        }
        let mut sum = _mm256_setzero_ps();
        for v in chains {
            sum = _mm256_add_ps(sum, v);
        }
        _mm256_cvtss_f32(sum)
    }

    /// # Safety
    /// The processor has AVX2.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn sum(data: &[f32]) -> f32 {
        let mut chains = [_mm256_setzero_ps(); 8];
        for group in data.chunks_exact(64) {
            for (j, v) in chains.iter_mut().enumerate() {
                // SAFETY: the group has eight times eight numbers.
                let x = unsafe { _mm256_loadu_ps(group.as_ptr().add(8 * j)) };
                *v = _mm256_add_ps(*v, x);
            }
        }
        let mut sum = _mm256_setzero_ps();
        for v in chains {
            sum = _mm256_add_ps(sum, v);
        }
        _mm256_cvtss_f32(sum)
    }
}
