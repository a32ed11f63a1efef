//! The commonest passwords: words that people choose, and patterns that hands fall into.

/// Words, as they are when what dresses them up is taken off.
const WORDS: &str = "\
password passwort passw motdepasse contrasena senha parola wachtwoord haslo heslo lozinka sifre admin administrator root \
toor user guest test tester testing demo default changeme changeit letmein login logon welcome welkom bienvenue willkommen \
hello hallo hola bonjour secret geheim access master manager system server service support company office business \
work home house family mother father sister brother mama papa daddy mommy baby lover love iloveyou loveyou loveme mylove \
forever sweet sweetheart honey angel princess prince queen king kitty puppy dragon monkey tiger lion eagle falcon hunter \
ranger shadow phoenix wolf bear panda horse donkey chicken turtle dolphin shark butterfly flower rose lily daisy jasmine \
sunshine summer winter spring autumn sommer ete verano monday friday sunday january february march april june july august \
september october november december football futbol soccer baseball basketball hockey tennis golf liverpool chelsea arsenal \
barcelona realmadrid juventus milan bayern yankees cowboys lakers steelers superman batman spiderman ironman starwars \
pokemon pikachu naruto minecraft fortnite mustang ferrari porsche mercedes toyota honda yamaha corvette camaro harley \
computer internet google facebook instagram twitter youtube linkedin amazon apple microsoft windows android samsung iphone \
nokia cisco oracle linux ubuntu matrix hacker cheese banana orange cookie chocolate coffee pepper ginger cherry lemon \
pumpkin sugar pizza whisky vodka tequila michael jordan michelle jessica jennifer ashley amanda nicole daniel david andrew \
joshua matthew robert thomas william charles charlie george richard anthony alexander alex anna maria sarah laura andrea \
sophie emma olivia oliver jack harry martin stefan peter paul carlos jose juan pedro sergey natasha ivan marina merlin \
gandalf frodo trustno killer pass passion pussy fuck fuckyou fuckoff bitch asshole sexy hottie money dollar diamond silver \
golden rainbow purple yellow black white green blue red london paris berlin madrid moscow america england france germany \
brazil canada texas chicago boston dallas phoenix freedom liberty peace heaven jesus christ blessed faith grace lucky \
nothing whatever mypassword newpassword temp temporary backup database abc abcabc abcd qwe qwerty qwertz azerty asd asdf zxc zxcv qaz \
wsx qazwsx one two three letme iamgod godzilla snoopy garfield mickey donald simpson bond jamesbond agent sniper soldier army navy";

/// Rows of keyboards, and columns that hands go down.
const ROWS: [&str; 9] = [
    "qwertyuiop",
    "qwertzuiop",
    "azertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "yxcvbnm",
    "1q2w3e4r5t6y7u8i9o0p",
    "1qaz2wsx3edc4rfv5tgb",
    "qazwsxedcrfvtgb",
];

/// Whether a password is among the first that anybody would guess.
#[must_use]
pub fn is_common(password: &str) -> bool {
    let lower = password.to_lowercase();
    if is_pattern(&lower) {
        return true;
    }
    let core = |text: &str| text.trim_matches(|char: char| !char.is_alphabetic()).to_owned();
    // `P@ssw0rd1!`: first plain letters for signs, or the signs at the ends would be taken for dress.
    let plain = undressed(&lower);
    [core(&lower), core(&plain), core(&undressed(lower.trim_end_matches(|char: char| !char.is_alphabetic())))]
        .iter()
        .any(|word| is_word(word) || (word.len() >= 4 && is_pattern(word)))
}

fn is_word(word: &str) -> bool {
    // The same word twice is no second secret.
    let half = word.get(..word.len() / 2).filter(|half| word.len().is_multiple_of(2) && word.ends_with(half));
    !word.is_empty() && WORDS.split(' ').any(|known| known == word || half == Some(known))
}

/// What people write for letters.
fn undressed(text: &str) -> String {
    text.chars()
        .map(|char| match char {
            '@' | '4' => 'a',
            '3' => 'e',
            '1' | '!' | '|' => 'i',
            '0' => 'o',
            '$' | '5' => 's',
            '7' => 't',
            other => other,
        })
        .collect()
}

/// One character over and over, a short piece over and over, a run up or down, a row of keys.
fn is_pattern(text: &str) -> bool {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() < 3 {
        return true;
    }
    let repeats =
        (1..=chars.len() / 2).take(4).any(|piece| chars.chunks(piece).all(|chunk| chars.starts_with(chunk)));
    let steps = |step: i64| {
        let next = |pair: &[char]| match pair {
            [one, other] => i64::from(u32::from(*other)).saturating_sub(i64::from(u32::from(*one))),
            _ => 0,
        };
        // 9 and 0 are neighbours on keyboards.
        chars.windows(2).all(|pair| next(pair) == step || (pair == ['9', '0'] && step == 1))
    };
    let backwards: String = chars.iter().rev().collect();
    let row = ROWS.iter().any(|row| row.contains(text) || row.contains(&backwards));
    repeats || steps(1) || steps(-1) || row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_guesses_are_common() {
        for password in [
            "password",
            "Password1",
            "P@ssw0rd",
            "p@$$w0rd!",
            "123456",
            "1234567890",
            "87654321",
            "qwerty",
            "Qwertyuiop",
            "1q2w3e4r",
            "1qaz2wsx",
            "aaaaaaaa",
            "abcabcabc",
            "abcdefgh",
            "Letmein!",
            "iloveyou2",
            "ADMIN",
            "admin123",
            "Summer2024!",
            "welcome1",
            "Dragon",
            "dragondragon",
            "zxcvbnm",
            "poiuytrewq",
            "",
            "a",
            "Passwort99",
            "trustno1",
            "monkey!!",
        ] {
            assert!(is_common(password), "{password}");
        }
    }

    #[test]
    fn others_are_not() {
        for password in [
            "correct horse battery staple",
            "Gr4nite-Owl",
            "passwordless-future",
            "dragonfruit salad",
            "tr0ub4dor&3",
            "xK9#mQ2$vL",
            "administrate",
            "qwertyfish",
            "12345678x",
            "abcdefgi",
            "summerhouse-by-the-lake",
        ] {
            assert!(!is_common(password), "{password}");
        }
    }

    #[test]
    fn the_list_is_sound() {
        assert!(WORDS.split(' ').count() > 300);
        assert!(
            WORDS
                .split(' ')
                .all(|word| !word.is_empty() && word.chars().all(|char| char.is_ascii_lowercase()))
        );
    }
}
