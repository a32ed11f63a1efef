//! Words of a POSIX shell, as far as a pasted command needs them: quotes, escapes, `$'...'`, lines that go on. Nothing is
//! expanded.

/// Splits a command into its words; `Err` names what is left open.
pub(crate) fn words(text: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        match (first, behind) {
            (b' ' | b'\t' | b'\r' | b'\n', _) => words.extend(word.take()),
            (b'\\', [b'\n', after @ ..] | [b'\r', b'\n', after @ ..]) => rest = after,
            (b'\\', [next, after @ ..]) => {
                word.get_or_insert_default().push(*next);
                rest = after;
            }
            (b'\'', _) => {
                let end = behind.iter().position(|b| *b == b'\'').ok_or("a ' is not closed")?;
                let (inside, after) = behind.split_at(end);
                word.get_or_insert_default().extend_from_slice(inside);
                rest = after.get(1..).unwrap_or_default();
            }
            (b'"', _) => rest = double(behind, word.get_or_insert_default())?,
            (b'$', [b'\'', after @ ..]) => rest = ansi(after, word.get_or_insert_default())?,
            // What follows is another command.
            (b';' | b'|' | b'&' | b'>' | b'<', _) if word.is_none() => break,
            (byte, _) => word.get_or_insert_default().push(*byte),
        }
    }
    words.extend(word);
    Ok(words)
}

fn double<'t>(mut rest: &'t [u8], word: &mut Vec<u8>) -> Result<&'t [u8], &'static str> {
    loop {
        match rest {
            [] => return Err("a \" is not closed"),
            [b'"', after @ ..] => return Ok(after),
            [b'\\', b'\n', after @ ..] => rest = after,
            [b'\\', next @ (b'"' | b'\\' | b'$' | b'`' | b'!'), after @ ..] => {
                word.push(*next);
                rest = after;
            }
            [byte, after @ ..] => {
                word.push(*byte);
                rest = after;
            }
        }
    }
}

/// `$'...'`, in which browsers write what a plain quote cannot hold.
fn ansi<'t>(mut rest: &'t [u8], word: &mut Vec<u8>) -> Result<&'t [u8], &'static str> {
    loop {
        match rest {
            [] => return Err("a $' is not closed"),
            [b'\'', after @ ..] => return Ok(after),
            [b'\\', b'u' | b'U', after @ ..] => {
                let (code, after) = number(after, 16, if rest.get(1) == Some(&b'u') { 4 } else { 8 });
                let char = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                word.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
                rest = after;
            }
            [b'\\', b'x', after @ ..] => {
                let (code, after) = number(after, 16, 2);
                word.push(u8::try_from(code).unwrap_or(b'?'));
                rest = after;
            }
            [b'\\', b'0'..=b'7', ..] => {
                let (code, after) = number(rest.get(1..).unwrap_or_default(), 8, 3);
                word.push(u8::try_from(code & 0xff).unwrap_or(b'?'));
                rest = after;
            }
            [b'\\', next, after @ ..] => {
                word.push(match next {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'a' => 7,
                    b'b' => 8,
                    b'e' | b'E' => 27,
                    b'f' => 12,
                    b'v' => 11,
                    other => *other,
                });
                rest = after;
            }
            [byte, after @ ..] => {
                word.push(*byte);
                rest = after;
            }
        }
    }
}

/// At most so many digits; 0 when there is none.
fn number(bytes: &[u8], radix: u32, most: usize) -> (u32, &[u8]) {
    let mut value: u32 = 0;
    let mut count = 0;
    for byte in bytes.iter().take(most) {
        let Some(digit) = char::from(*byte).to_digit(radix) else { break };
        value = value.wrapping_mul(radix).wrapping_add(digit);
        count += 1;
    }
    (value, bytes.get(count..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_a_shell() {
        let split = |text: &str| -> Vec<String> {
            let words = words(text.as_bytes()).unwrap();
            words.into_iter().map(|word| String::from_utf8_lossy(&word).into_owned()).collect()
        };
        assert_eq!(split("curl 'a b'\"c \\\" \\d\"e \\\n  -d ''"), ["curl", "a bc \" \\de", "-d", ""]);
        assert_eq!(split(r"$'it\'s\n\u00e9\x41\101!'"), ["it's\n\u{e9}AA!"]);
        assert_eq!(split("curl a&b?c=d;e | less"), ["curl", "a&b?c=d;e"]);
        assert_eq!(split("  "), Vec::<String>::new());
        for open in ["'a", "\"a", "$'a\\'"] {
            assert!(words(open.as_bytes()).is_err(), "{open}");
        }
    }
}
