//! Archives that hold nothing but names and contents: no time, no owner, no rights but "everybody may read".

use std::io::Write as _;

use flate2::{Compression, GzBuilder};

/// A gzipped tar archive of these files, in this order.
#[must_use]
pub fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    gzip(&tar(files))
}

/// A tar archive in the oldest common format (ustar).
pub(crate) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(u64::try_from(content.len()).unwrap_or(u64::MAX));
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_entry_type(tar::EntryType::Regular);
        // Into a Vec, which never fails; names are our own and short.
        let written = builder.append_data(&mut header, name, *content);
        debug_assert!(written.is_ok(), "{name}");
    }
    builder.into_inner().unwrap_or_default()
}

/// The time in the head is zero, and the system is "unknown".
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::best());
    let written = encoder.write_all(bytes);
    debug_assert!(written.is_ok(), "a Vec takes everything");
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_holds_no_time_and_no_owner() {
        let packed = archive(&[("a/b.txt", b"hello"), ("c", b"")]);
        // RFC 1952: MTIME is bytes 4 to 7, OS is byte 9.
        assert_eq!((packed.get(4..8), packed.get(9)), (Some(&[0; 4][..]), Some(&255)));
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(packed.as_slice()));
        let mut names = Vec::new();
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            assert_eq!((entry.header().mtime().unwrap(), entry.header().uid().unwrap()), (0, 0));
            names.push(entry.path().unwrap().display().to_string());
        }
        assert_eq!(names, ["a/b.txt", "c"]);
    }
}
