//! What training needs around the layers.

pub mod dense;
pub mod init;
pub mod loss;
pub mod optimizer;
