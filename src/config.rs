//! `trunkline.toml`.
