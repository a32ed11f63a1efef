//! The files of `envoy/` as they are used: those for meshes name the image by its digest, so that what a proxy loads is what
//! was tested, whoever moves the tag.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Result, ensure};

use crate::layout::Layout;

/// What the files of `envoy/mesh` say instead.
const PLACEHOLDER: &str = "registry.example.com/portcullis/portcullis:0.1.0";

/// Writes them below `folder`, in the place of what was there.
pub(super) fn write(layout: &Layout, folder: &Path, image: &str, digest: &str) -> Result<()> {
    let source = layout.root().join("envoy");
    let (mut pinned, mut written) = (0, BTreeSet::new());
    for part in ["mesh", "plain", "kubernetes"] {
        for path in super::files(&source.join(part))? {
            let text = String::from_utf8(super::read(&path)?)?;
            let (text, found) = pin(&text, image, digest);
            pinned += found;
            let name = path.strip_prefix(&source)?;
            super::write(&folder.join(name), text.as_bytes())?;
            written.insert(name.to_owned());
        }
    }
    super::keep(folder, &written)?;
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
