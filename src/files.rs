//! Writing files.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Writes a file beside its place, under a name that nobody else has, and moves it there: a reader sees the old one or the new
/// one, and what fails leaves nothing. `mode` is that of the file, less the process's umask.
pub(crate) fn write_whole(path: &Path, mode: u32, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut beside = tempfile::Builder::new().prefix(".").permissions(Permissions::from_mode(mode)).tempfile_in(folder)?;
    write(beside.as_file_mut())?;
    beside.as_file().sync_data()?;
    beside.persist(path).map(drop).map_err(|error| error.error)
}
