//! Every target takes its seeds, whole and cut short, and there are some for each.

use std::{fs, path::Path};

#[test]
fn every_target_holds_for_its_seeds() {
    for (name, hold) in portcullis_fuzz::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
        let mut count = 0;
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let seed = fs::read(entry.expect("an entry").path()).expect("a file");
            hold(&seed);
            for cut in [1, 2, 3, seed.len() / 3, seed.len() / 2, seed.len().saturating_sub(1)] {
                hold(&seed[..cut.min(seed.len())]);
            }
            count += 1;
        }
        assert!(count > 0, "{name} has no seeds");
    }
}
