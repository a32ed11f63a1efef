//! A value in the encodings in which it may arrive.

fn each(value: &[u8], form: impl Fn(u8) -> String) -> Vec<u8> {
    value.iter().map(|byte| form(*byte)).collect::<String>().into_bytes()
}

fn special(value: &[u8], form: impl Fn(u8) -> String) -> Vec<u8> {
    each(value, |byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { form(byte) })
}

fn base64(value: &[u8], alphabet: &[u8; 64], padding: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in value.chunks(3) {
        let bits =
            chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..=chunk.len() {
            out.push(alphabet[(bits >> (18 - 6 * digit) & 63) as usize]);
        }
        if padding {
            out.resize(out.len() + 3 - chunk.len(), b'=');
        }
    }
    out
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The value in every encoding that applications, templates and browsers undo.
pub fn encodings(value: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let plain = base64(value, STANDARD, true);
    vec![
        ("as it is", value.to_vec()),
        ("percent", each(value, |b| format!("%{b:02x}"))),
        ("percent twice", each(value, |b| format!("%25{b:02X}"))),
        ("%u", each(value, |b| format!("%u{b:04x}"))),
        ("decimal references", each(value, |b| format!("&#{b};"))),
        ("hexadecimal references", each(value, |b| format!("&#x{b:04X};"))),
        ("\\u", each(value, |b| format!("\\u{b:04x}"))),
        ("\\x", special(value, |b| format!("\\x{b:02x}"))),
        ("octal", each(value, |b| format!("\\{b:03o}"))),
        (
            "UTF-7",
            special(value, |b| format!("+{}-", String::from_utf8_lossy(&base64(&[0, b], STANDARD, false)))),
        ),
        (
            "full width",
            each(value, |b| {
                let wide = if b > 0x20 { u32::from(b) + 0xfee0 } else { u32::from(b) };
                char::from_u32(wide).unwrap().to_string()
            }),
        ),
        ("base64 of base64", base64(&plain, STANDARD, true)),
        ("base64 in a data URL", [b"data:text/plain;base64,", &plain[..]].concat()),
        ("base64", plain),
        ("base64url", base64(value, URL_SAFE, false)),
        ("hexadecimal", each(value, |b| format!("{b:02x}"))),
        ("0x", [b"0x".to_vec(), each(value, |b| format!("{b:02X}"))].concat()),
    ]
}
