//! Image layouts on disk.

use std::{
    collections::BTreeSet,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::json;

use crate::{Annotations, BLOB_BYTES, BLOBS, Blob, Descriptor, Image, MANIFEST, MANIFEST_BYTES, digest};

/// Why a layout could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The file system said so.
    #[error("{}: {source}", .path.display())]
    Io {
        /// What was to be read or written.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// Not JSON, or not what it should be.
    #[error("{}: {source}; write the layout anew with `make bundle`", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// Longer than we read.
    #[error("{}: more than {most} bytes", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What it may have.
        most: u64,
    },
    /// More than we follow.
    #[error("the image `{0}` names more than {BLOBS} blobs")]
    TooMany(String),
    /// A digest that is none, or that nobody here computes.
    #[error("`{0}` is no digest that is supported: it must be sha256: and 64 hexadecimal digits")]
    Digest(String),
    /// Somebody changed it.
    #[error("{}: the content has another digest or size than its name says; write the layout anew with `make bundle`", .0.display())]
    Changed(PathBuf),
    /// No image of that name.
    #[error("there is no image `{wanted}`; there are: {}", .names.join(", "))]
    Unknown {
        /// What was asked for.
        wanted: String,
        /// What there is.
        names: Vec<String>,
    },
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// Writes a layout of these images in the place of what was there.
///
/// # Errors
/// When a file cannot be written.
pub fn write(folder: &Path, images: &[Image]) -> Result<(), LayoutError> {
    let blobs = folder.join("blobs/sha256");
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(|source| io(folder, source))?;
    }
    fs::create_dir_all(&blobs).map_err(|source| io(&blobs, source))?;
    let mut manifests = Vec::new();
    for image in images {
        for blob in image.blobs.iter().chain([&image.manifest]) {
            let path = blobs.join(blob.digest.trim_start_matches("sha256:"));
            fs::write(&path, &blob.bytes).map_err(|source| io(&path, source))?;
        }
        manifests.push(Descriptor {
            media_type: MANIFEST.to_owned(),
            digest: image.manifest.digest.clone(),
            size: u64::try_from(image.manifest.bytes.len()).unwrap_or(u64::MAX),
            annotations: Some(Annotations { name: Some(image.name.clone()) }),
        });
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
    });
    for (name, value) in [("index.json", index), ("oci-layout", json!({"imageLayoutVersion": "1.0.0"}))] {
        let path = folder.join(name);
        fs::write(&path, value.to_string()).map_err(|source| io(&path, source))?;
    }
    Ok(())
}

/// Reads one image of a layout, and checks every digest.
///
/// # Errors
/// When there is no such image, or it is not what its digests say.
pub fn read(folder: &Path, name: &str) -> Result<Image, LayoutError> {
    let path = folder.join("index.json");
    let index: Index = parse(&path, &bytes(&path, MANIFEST_BYTES)?)?;
    let named = |descriptor: &Descriptor| descriptor.annotations.clone().and_then(|all| all.name);
    let Some(found) = index.manifests.iter().find(|each| named(each).as_deref() == Some(name)) else {
        let names = index.manifests.iter().filter_map(named).collect();
        return Err(LayoutError::Unknown { wanted: name.to_owned(), names });
    };
    let manifest = blob(folder, found, MANIFEST_BYTES)?;
    let read: Manifest = parse(&folder.join("blobs"), &manifest.bytes)?;
    let described: Vec<&Descriptor> = [&read.config].into_iter().chain(&read.layers).collect();
    if described.len() > BLOBS {
        return Err(LayoutError::TooMany(name.to_owned()));
    }
    let mut seen = BTreeSet::new();
    let mut blobs = Vec::new();
    for descriptor in described {
        if seen.insert(&descriptor.digest) {
            blobs.push(blob(folder, descriptor, BLOB_BYTES)?);
        }
    }
    Ok(Image { name: name.to_owned(), manifest, blobs })
}

fn blob(folder: &Path, descriptor: &Descriptor, most: u64) -> Result<Blob, LayoutError> {
    let Some(hex) = descriptor
        .digest
        .strip_prefix("sha256:")
        .filter(|hex| hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
    else {
        return Err(LayoutError::Digest(descriptor.digest.clone()));
    };
    let path = folder.join("blobs/sha256").join(hex);
    let bytes = bytes(&path, most)?;
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if digest(&bytes) != descriptor.digest || size != descriptor.size {
        return Err(LayoutError::Changed(path));
    }
    Ok(Blob { digest: descriptor.digest.clone(), bytes })
}

fn bytes(path: &Path, most: u64) -> Result<Vec<u8>, LayoutError> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(|source| io(path, source))?;
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(|source| io(path, source))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= most) {
        return Ok(bytes);
    }
    Err(LayoutError::TooLarge { path: path.to_owned(), most })
}

fn parse<'a, T: Deserialize<'a>>(path: &Path, bytes: &'a [u8]) -> Result<T, LayoutError> {
    serde_json::from_slice(bytes).map_err(|source| LayoutError::Malformed { path: path.to_owned(), source })
}

fn io(path: &Path, source: std::io::Error) -> LayoutError {
    LayoutError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Release;

    fn written() -> (tempfile::TempDir, Vec<Image>) {
        let folder = tempfile::tempdir().unwrap();
        let release = Release { title: "t".to_owned(), version: "1".to_owned(), licenses: "MIT".to_owned() };
        let images =
            vec![Image::layer("image", b"abc", &release), Image::artifact("artifact", b"abc", &release)];
        write(folder.path(), &images).unwrap();
        (folder, images)
    }

    #[test]
    fn what_was_written_is_read() {
        let (folder, images) = written();
        let read = read(folder.path(), "image").unwrap();
        assert_eq!(read, images[0]);
        // Configuration and first layer are the same bytes: once is enough.
        assert_eq!(super::read(folder.path(), "artifact").unwrap(), images[1]);
        let error = super::read(folder.path(), "other").unwrap_err().to_string();
        assert_eq!(error, "there is no image `other`; there are: image, artifact");
    }

    #[test]
    fn a_changed_blob_and_a_digest_that_leaves_the_folder_are_refused() {
        let (folder, images) = written();
        let path = folder.path().join("blobs/sha256").join(&images[0].blobs[1].digest[7..]);
        fs::write(&path, b"changed").unwrap();
        assert!(matches!(read(folder.path(), "image"), Err(LayoutError::Changed(at)) if at == path));
        let index = fs::read_to_string(folder.path().join("index.json")).unwrap();
        let hostile = index.replace(&images[0].manifest.digest, "sha256:../../../etc/passwd");
        fs::write(folder.path().join("index.json"), hostile).unwrap();
        assert!(matches!(read(folder.path(), "image"), Err(LayoutError::Digest(_))));
    }
}
