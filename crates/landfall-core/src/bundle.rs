//! Bundles: files with all images of a site without a network [spec:bundles]. Each module is a part of the format.

pub mod trust;
