//! Writing our own small files so that a power cut leaves the old one or the new one, and never something between.

use camino::Utf8Path;

use anyhow::Context as _;

/// Writes a file of the state directory, mode 0600: temporary file, fsync, rename, fsync of the directory.
///
/// # Errors
///
/// When any of these steps fails; the old file is then still there.
pub(crate) fn write_private(path: &Utf8Path, bytes: &[u8]) -> anyhow::Result<()> {
    use std::io::Write as _;
    let directory = path.parent().context("a state file has a directory")?;
    let mut file = tempfile::NamedTempFile::new_in(directory).with_context(|| format!("cannot write `{path}`"))?;
    file.write_all(bytes)
        .with_context(|| format!("cannot write `{path}`"))?;
    file.as_file()
        .sync_all()
        .with_context(|| format!("cannot write `{path}`"))?;
    file.persist(path).with_context(|| format!("cannot write `{path}`"))?;
    fs_err::File::open(directory)?.sync_all()?;
    Ok(())
}
