//! What can go wrong with a recording.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::FileError;

/// A recording could not be made, read or mended.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A folder or file could not be made.
    #[error("cannot create {}: {source}", path.display())]
    Create {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {problem}", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The disk is so slow that recording would take ever more memory.
    #[error("the disk under {} cannot keep up: {waiting} bytes wait to be written", folder.display())]
    TooSlow {
        /// The call's folder.
        folder: PathBuf,
        /// Bytes that wait.
        waiting: usize,
    },
}

impl From<FileError> for RecordError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Read { path, source } => Self::Read { path, source },
            FileError::Malformed { path, problem } => Self::Malformed { path, problem },
        }
    }
}

impl RecordError {
    pub(super) fn read(path: &Path, error: hound::Error) -> Self {
        let path = path.to_owned();
        match error {
            hound::Error::IoError(source) => Self::Read { path, source },
            other => Self::Malformed { path, problem: format!("not a WAV file that can be read: {other}") },
        }
    }
}
