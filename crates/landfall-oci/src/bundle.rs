//! Bundles on disk [spec:bundles]: what `landfall_core::bundle` describes, read, written and verified.

pub mod signature;
