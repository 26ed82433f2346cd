//! The product for operands that do not fit the first cache: block by block, each copied to where
//! it is read in order (Goto and van de Geijn 2008).
//!
//! ```text
//! for blocks of KC products of every sum           (once, if k is no more)
//!     for blocks of MC rows of a: copy it, in tiles of MR rows
//!         for panels of NR columns of b: copy it, unless it is packed already
//!             for tiles of MR rows: the micro-kernel
//! ```
//!
//! A panel stays near while all rows of a block of `a` pass by: in the first cache if it has few
//! rows, and else in the second, from where tall tiles read it less often. Sums over more than KC
//! products are kept in the output between blocks, so the chains are those of every other way.

use super::micro::Tiles;
use super::operand::{GemmArgs, Init, Sizes};
use super::pack::{pack_a, pack_b_panel};
use super::tile::{Prefetch, tiles};
use crate::layout::Cut;
use crate::layout::scratch::blocks::{KC, MC, NR_MAX};
use crate::layout::split::{align_to_cache_line, even_block_len};
use crate::simd::Simd;

/// KC if a panel shall fit the first cache.
const KC_L1: usize = 256;
/// Numbers of the blocks of a caller that has no scratch.
const OWN: usize = 1024;

/// The product; `PACKED`, with `b` in panels already, which are taken from the last to the first
/// if `descending`.
#[inline(always)]
pub(super) fn run<S: Simd, const PACKED: bool>(
    s: S,
    args: GemmArgs,
    Sizes { m, n, k }: Sizes,
    descending: bool,
) {
    const { assert!(2 * S::LANES <= NR_MAX) };
    let nr = 2 * S::LANES;
    let GemmArgs {
        a,
        b,
        init,
        mut c,
        scratch,
    } = args;
    let mut own;
    let scratch = if PACKED || scratch.len() >= OWN {
        align_to_cache_line(scratch)
    } else {
        own = [0.0; OWN];
        &mut own
    };

    // Rows whose numbers are neighbours are read as they are while a panel fits the first cache.
    // Blocks are of about one size, because few rows would not pay for their panels.
    let mut packs_a = !a.is_along_rows() || k > KC_L1;
    let mut mc = even_block_len(m, if packs_a { MC } else { 2 * MC });
    let most = if packs_a && PACKED { MC * KC / mc } else { KC };
    let mut kc = even_block_len(k, most);
    let panel_len = if PACKED { 0 } else { nr };
    if packs_a && (mc + panel_len) * kc > scratch.len() {
        packs_a = false;
        mc = even_block_len(m, 2 * MC);
    }
    if !packs_a && panel_len * kc > scratch.len() {
        kc = even_block_len(k, scratch.len() / nr);
    }

    let (panel, a_copy) = scratch.cut(panel_len * kc);
    for k_at in (0..k).step_by(kc) {
        let depth = kc.min(k - k_at);
        let init = if k_at == 0 { init } else { Init::Accumulate };
        for row in (0..m).step_by(mc) {
            let rows = mc.min(m - row);
            let a = a.rows(row, rows).columns(k_at, depth);
            let (a_copy, _) = (&mut *a_copy).cut(if packs_a { rows * depth } else { 0 });
            if packs_a {
                pack_a::<S>(a, a_copy);
            }
            let panels = n.div_ceil(nr);
            for index in 0..panels {
                let index = if descending {
                    panels - 1 - index
                } else {
                    index
                };
                let at = index * nr;
                let width = nr.min(n - at);
                let (b, ahead) = if PACKED {
                    let b = b.panel(at, width);
                    let next = if descending {
                        b.start().wrapping_sub(nr * k)
                    } else {
                        b.start().wrapping_add(width * k)
                    };
                    let block = b.rows(k_at, depth);
                    let ahead = next.wrapping_add(k_at * width);
                    (block, Prefetch::Panel(ahead))
                } else {
                    let b = b.rows(k_at, depth).columns(at, width);
                    let ahead = Prefetch::Rows(b.start().wrapping_add(width), b.row_stride());
                    (pack_b_panel(s, b, &mut *panel), ahead)
                };
                let (init, c) = (init.columns(at, width), c.part(row, rows, at, width));
                // Tiles of a product of this size take so long that a call does not count.
                if packs_a {
                    if let Some(product) = Tiles::with_packed_a(a_copy, b, init, c) {
                        if width == nr {
                            tiles::<S, 2, true, true, false>(s, product, ahead);
                        } else {
                            tiles::<S, 2, false, true, false>(s, product, ahead);
                        }
                    }
                } else if let Some(product) = Tiles::new(a, b, init, c) {
                    if width == nr {
                        tiles::<S, 2, true, false, false>(s, product, ahead);
                    } else {
                        tiles::<S, 2, false, false, false>(s, product, ahead);
                    }
                }
            }
        }
    }
}
