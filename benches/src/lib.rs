//! What the kernels cost: the workloads, the machine's limits, and how both are
//! measured.

pub mod limits;
pub mod numbers;
pub mod ours;
pub mod peers;
pub mod report;
pub mod timing;
pub mod workload;
