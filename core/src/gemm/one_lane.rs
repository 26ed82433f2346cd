//! Products one lane at a time: one function for all callers, and nothing is packed.

use super::{Gemm, GemmArgs, MatRef};
use crate::simd::Scalar;

impl<const LONG: bool> Gemm for Scalar<LONG> {
    #[inline(always)]
    fn gemm(self, args: GemmArgs) {
        #[inline(never)]
        fn compiled(args: GemmArgs) {
            super::run(Scalar::<true> {}, args);
        }
        compiled(args);
    }
    fn gemm_packed(self, _: GemmArgs, _: bool) {}
    fn pack(self, _: MatRef, _: &mut [f32]) {}
    #[inline(never)]
    fn transpose(self, to: &mut [f32], from: MatRef) {
        super::pack::transpose(self, to, from);
    }
}
