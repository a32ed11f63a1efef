//! `make bundle`: all that is published, into `dist/`. The same sources give the same bytes: nothing in it tells a time, a
//! machine or a folder.
//!
//! | in `dist/` | what it is |
//! |---|---|
//! | `portcullis.wasm`, `portcullis-*.wasm` | the modules |
//! | `portcullis-edge-*.tgz` | the npm package |
//! | `oci/` | an image layout of `portcullis.wasm`, for `portcullis push` |
//! | `manifests/` | the files of `envoy/`, those for meshes with the image's digest |
//! | `sbom.cdx.json` | what modules and package are made of (CycloneDX) |
//! | `SHA256SUMS` | of every file of these, for `sha256sum --check` |

mod manifests;
mod sbom;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use portcullis_image::{Image, Release, archive, digest};

use super::{edge, wasm};
use crate::layout::Layout;

/// The version of everything.
const VERSION: &str = env!("CARGO_PKG_VERSION");
const LICENSE: &str = "Apache-2.0";

/// Builds what has changed, and writes the bundle. `image` is the name under which the image will be pushed, without a tag.
///
/// # Errors
/// When something does not build or cannot be written.
pub fn run(layout: &Layout, image: &str) -> Result<()> {
    ensure!(
        !image.is_empty() && !image.contains(['@', '"', '\'', '\n', ' ']),
        "IMAGE={image}: name it like registry.example.com/portcullis/portcullis, without tag and digest"
    );
    wasm::build(layout, wasm::Which::Released)?;
    wasm::check_size(layout)?;
    edge::build(layout)?;
    print!("{}", assemble(layout, image, &layout.dist())?);
    println!("wrote {}; `portcullis push {image}:{VERSION}` pushes its image", layout.dist().display());
    Ok(())
}

/// Writes into a folder all that is made of what was built, and answers the sums.
///
/// # Errors
/// When something was not built, or cannot be written.
pub fn assemble(layout: &Layout, image: &str, folder: &Path) -> Result<String> {
    let mut published = Vec::new();
    for name in wasm::released() {
        let bytes = read(&layout.dist().join(name))?;
        put(folder, name, &bytes, &mut published)?;
    }
    let package = edge::packed(layout)?;
    put(folder, &format!("portcullis-edge-{VERSION}.tgz"), &package, &mut published)?;
    put(folder, "sbom.cdx.json", sbom::of(layout)?.as_bytes(), &mut published)?;

    let module = read(&layout.dist().join("portcullis.wasm"))?;
    let release =
        Release { title: "portcullis".to_owned(), version: VERSION.to_owned(), licenses: LICENSE.to_owned() };
    let images = [Image::layer("image", &module, &release), Image::artifact("artifact", &module, &release)];
    portcullis_image::write(&folder.join("oci"), &images)?;
    let [layer, _] = &images;
    manifests::write(layout, &folder.join("manifests"), image, &layer.manifest.digest)?;

    for part in ["manifests", "oci"] {
        for path in files(&folder.join(part))? {
            let name = path.strip_prefix(folder)?.to_string_lossy().into_owned();
            published.push((name, digest(&read(&path)?)));
        }
    }
    published.sort();
    let sums: String = published
        .iter()
        .map(|(name, digest)| format!("{}  {name}\n", digest.trim_start_matches("sha256:")))
        .collect();
    write(&folder.join("SHA256SUMS"), sums.as_bytes())?;
    Ok(sums)
}

fn put(folder: &Path, name: &str, bytes: &[u8], published: &mut Vec<(String, String)>) -> Result<()> {
    published.push((name.to_owned(), digest(bytes)));
    write(&folder.join(name), bytes)
}

/// Writes what has changed.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|there| there == bytes) { Ok(()) } else { wasm::write(path, bytes) }
}

/// Removes what lies in a folder besides these files, named from there: what an older build has written would be published.
pub(super) fn keep(folder: &Path, written: &BTreeSet<PathBuf>) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    for path in files(folder)? {
        if !written.contains(path.strip_prefix(folder)?) {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The files below a folder, sorted by name: the order in which a folder gives them is the machine's own.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// An archive as npm makes it of these files: everything lies below `package/`.
pub(super) fn npm_archive(folder: &Path) -> Result<Vec<u8>> {
    let mut contents = Vec::new();
    for path in files(folder)? {
        let name = Path::new("package").join(path.strip_prefix(folder)?);
        contents.push((name.to_string_lossy().into_owned(), read(&path)?));
    }
    let files: Vec<(&str, &[u8])> =
        contents.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    Ok(archive(&files))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_build_has_left_goes() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.js", "b/a.js", "b/old.js", "old/a.js"] {
            write(&folder.path().join(name), b"").unwrap();
        }
        let kept = ["a.js", "b/a.js", "new.js"].map(PathBuf::from).into();
        keep(folder.path(), &kept).unwrap();
        let left = files(folder.path()).unwrap();
        assert_eq!(left, ["a.js", "b/a.js"].map(|name| folder.path().join(name)));
        keep(&folder.path().join("none"), &kept).unwrap();
    }

    #[test]
    fn an_archive_does_not_depend_on_the_order_of_a_folder() {
        let folders = [["b.js", "a/c.js", "a/b.js"], ["a/b.js", "b.js", "a/c.js"]].map(|names| {
            let folder = tempfile::tempdir().unwrap();
            for name in names {
                write(&folder.path().join(name), name.as_bytes()).unwrap();
            }
            folder
        });
        let [one, other] = folders.each_ref().map(|folder| npm_archive(folder.path()).unwrap());
        assert_eq!(one, other);
    }
}
