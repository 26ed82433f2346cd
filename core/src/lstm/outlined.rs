//! The passes of training through a layer, where code is small in functions of their own: one
//! copy for all layers and sizes.

use super::layer;
use crate::layout::{CacheView, Extent, LayerShape, Params, StateView};
use crate::simd::Simd;

macro_rules! apart {
    ($($name:ident, $apart:ident($($argument:ident: $type:ty),*);)*) => {$(
        #[doc = concat!("[`layer::", stringify!($name), "`].")]
        #[inline(always)]
        pub(crate) fn $name<S: Simd, V: Simd>(s: (S, V), $($argument: $type),*) {
            if const { S::SMALL } {
                $apart(s, $($argument),*);
            } else {
                layer::$name(s, $($argument),*);
            }
        }

        #[inline(never)]
        fn $apart<S: Simd, V: Simd>(s: (S, V), $($argument: $type),*) {
            layer::$name(s, $($argument),*);
        }
    )*};
}

apart! {
    forward, forward_apart(
        shape: LayerShape,
        extent: Extent,
        params: Params<&[f32]>,
        x: &[f32],
        state: StateView<&mut [f32]>,
        cache: CacheView<&mut [f32]>,
        panels: &mut [f32]
    );
    backward_steps, backward_steps_apart(
        shape: LayerShape,
        extent: Extent,
        params: Params<&[f32]>,
        cache: CacheView<&mut [f32]>,
        dy: &[f32],
        dstate: StateView<&mut [f32]>,
        transposed: &mut [f32]
    );
    backward_products, backward_products_apart(
        shape: LayerShape,
        extent: Extent,
        params: Params<&[f32]>,
        x: &[f32],
        cache: CacheView<&[f32]>,
        gradients: Params<&mut [f32]>,
        dx: Option<(&mut [f32], &mut [f32])>
    );
}
