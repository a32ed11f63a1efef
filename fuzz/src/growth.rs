//! A short text, repeated up to 64 KiB: work that grows faster than its input takes longer than libFuzzer waits.

use portcullis_sanitize::inspect_value;

use crate::{Choices, values::scope};

const BYTES: usize = 64 * 1024;

/// Three bytes as in [`crate::values`]; then what stands before the repeated text, up to a line break, and that text.
pub fn hold(data: &[u8]) {
    let mut choices = Choices(data);
    let scope = scope(choices.next(), choices.next(), choices.next());
    let before = choices.until(b'\n');
    let again = choices.0;
    if !again.is_empty() {
        inspect_value(&[before, &again.repeat(BYTES / again.len())].concat(), scope);
    }
}
