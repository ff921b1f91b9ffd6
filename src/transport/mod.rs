//! One folder a wire.
