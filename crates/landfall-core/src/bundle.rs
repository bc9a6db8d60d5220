//! Bundles: files that carry the images of a site without a network [spec:bundles]. Each module is a part of the format.

pub mod adoption;
pub mod document;
pub mod foreign;
pub mod frame;
pub mod kept_receipts;
pub mod pieces;
pub mod policy;
pub mod receipt;
pub mod seek_table;
pub mod trust;
pub mod upload;
