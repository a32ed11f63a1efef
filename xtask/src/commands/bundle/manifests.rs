//! The files of `envoy/` as they are used: those for meshes name the image by its digest, so that what a proxy loads is what
//! was tested, whoever moves the tag.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::layout::Layout;

/// What the files of `envoy/mesh` say instead.
const PLACEHOLDER: &str = "registry.example.com/portcullis/portcullis:0.1.0";

/// Writes them below `folder`.
pub(super) fn write(layout: &Layout, folder: &Path, image: &str, digest: &str) -> Result<()> {
    let source = layout.root().join("envoy");
    let mut pinned = 0;
    for part in ["mesh", "plain", "kubernetes"] {
        for path in super::files(&source.join(part))? {
            let text = String::from_utf8(super::read(&path)?)?;
            let (text, found) = pin(&text, image, digest);
            pinned += found;
            super::write(&folder.join(path.strip_prefix(&source)?), text.as_bytes())?;
        }
    }
    ensure!(pinned == 2, "{pinned} files of envoy/ name {PLACEHOLDER}, must be Istio's and Envoy Gateway's");
    Ok(())
}

/// Names the image by its digest; answers how often.
fn pin(text: &str, image: &str, digest: &str) -> (String, usize) {
    (text.replace(PLACEHOLDER, &format!("{image}@{digest}")), text.matches(PLACEHOLDER).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_takes_the_place_of_the_tag() {
        let text = format!("url: oci://{PLACEHOLDER}\n");
        assert_eq!(pin(&text, "r/p", "sha256:ab"), ("url: oci://r/p@sha256:ab\n".to_owned(), 1));
    }
}
