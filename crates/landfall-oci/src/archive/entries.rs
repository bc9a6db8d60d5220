//! An archive that is read in place: its table of contents is made once, and then each file is read where it is.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::oci_types::{Descriptor, media_type};

use crate::archive::bytes::{ArchiveBytes, spool_plain};
use crate::archive::contents::ContentLocation;
use crate::archive::error::ArchiveError;
use crate::archive::extent::{Extent, ExtentReader};
use crate::archive::files::{ArchiveFiles, DOCUMENT_SIZE_MAX, LocatedLayer, layer_media_type, too_large};
use crate::archive::table::EntryTable;
use crate::decode::{SNIFF_LENGTH, sniff_compression};
use crate::digest::{Algorithm, Digester};
use crate::tar_reader::{EntryKind, FileInput, TarError, TarReader};

/// The table of contents of an archive.
#[derive(Debug)]
pub(super) struct ArchiveEntries {
    pub(super) bytes: Arc<ArchiveBytes>,
    table: EntryTable<Extent>,
    archive: Utf8PathBuf,
    /// Directory of unnamed files.
    spool: Utf8PathBuf,
    /// True if the archive ends without an end mark.
    lacks_end_mark: bool,
}

impl ArchiveEntries {
    pub(super) fn index(
        bytes: ArchiveBytes,
        archive: &Utf8Path,
        spool: &Utf8Path,
    ) -> Result<ArchiveEntries, ArchiveError> {
        let read = |source| ArchiveError::Read {
            archive: archive.to_owned(),
            source,
        };
        let mut table = EntryTable::default();
        let mut reader = TarReader::new(FileInput::new(&bytes).map_err(|error| read(error.into()))?);
        while let Some(entry) = reader.next_entry().map_err(read)? {
            if let Some(path) = table.check(&entry)? {
                let extent = (entry.kind == EntryKind::File).then(|| Extent::of(&entry));
                table.insert(path, &entry, extent);
            }
        }
        let lacks_end_mark = reader.lacks_end_mark();
        Ok(ArchiveEntries {
            bytes: Arc::new(bytes),
            table,
            archive: archive.to_owned(),
            spool: spool.to_owned(),
            lacks_end_mark,
        })
    }

    fn reader<'a>(&'a self, extent: &'a Extent) -> ExtentReader<'a> {
        extent.reader_from(&self.bytes, 0, extent.size)
    }

    fn tar_error(&self, source: TarError) -> ArchiveError {
        ArchiveError::Read {
            archive: self.archive.clone(),
            source,
        }
    }

    fn read_error(&self, source: io::Error) -> ArchiveError {
        self.tar_error(source.into())
    }

    /// Decompresses a layer into an unnamed file.
    fn spool_layer(&self, extent: &Extent) -> io::Result<(Descriptor, File)> {
        let mut plain = spool_plain(self.reader(extent), &self.spool)?;
        let mut digester = Digester::new(Algorithm::Sha256);
        digester.read_all(&mut plain, |_| {})?;
        let size = digester.length();
        let layer = Descriptor::new(media_type::OCI_LAYER, digester.finish(), size);
        Ok((layer, plain))
    }
}

impl ArchiveFiles for ArchiveEntries {
    type File = Extent;

    fn table(&self) -> &EntryTable<Extent> {
        &self.table
    }

    fn or_cut_short(&self, missing: ArchiveError) -> ArchiveError {
        match self.lacks_end_mark {
            true => self.tar_error(TarError::CutShort),
            false => missing,
        }
    }

    fn read_file(&self, extent: &Extent, path: &str) -> Result<Bytes, ArchiveError> {
        if extent.size > DOCUMENT_SIZE_MAX {
            return Err(too_large(path));
        }
        let mut bytes = Vec::new();
        self.reader(extent)
            .read_to_end(&mut bytes)
            .map_err(|source| self.read_error(source))?;
        Ok(bytes.into())
    }

    fn location(&self, extent: &Extent, _path: &str) -> Result<ContentLocation, ArchiveError> {
        Ok(ContentLocation::Archive(extent.clone()))
    }

    fn describe_layer(&self, extent: &Extent, path: &str) -> Result<LocatedLayer, ArchiveError> {
        let mut first = Vec::new();
        let mut beginning = extent.reader_from(&self.bytes, 0, SNIFF_LENGTH as u64);
        beginning
            .read_to_end(&mut first)
            .map_err(|source| self.read_error(source))?;
        let Some(media_type) = layer_media_type(sniff_compression(&first)) else {
            let (layer, plain) = self.spool_layer(extent).map_err(|source| ArchiveError::Layer {
                entry: path.to_owned(),
                source,
            })?;
            return Ok((layer, ContentLocation::Spooled(Arc::new(plain))));
        };
        let mut digester = Digester::new(Algorithm::Sha256);
        let read = digester.read_all(&mut self.reader(extent), |_| {});
        read.map_err(|source| self.read_error(source))?;
        let layer = Descriptor::new(media_type, digester.finish(), extent.size);
        Ok((layer, ContentLocation::Archive(extent.clone())))
    }
}
