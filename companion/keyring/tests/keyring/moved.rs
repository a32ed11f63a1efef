//! An envelope opens where it was sealed, unaltered, and nowhere else.

use portcullis_keyring::{Context, Envelope, Error, Malformed, Tenant};
use proptest::prelude::*;
use rand::RngExt;

use crate::support::{keyring, rng, tenant};

const TENANTS: [&str; 4] = ["acme", "acm", "globex", "public"];
const NAMES: [&str; 6] = ["", "a", "ab", "b", "users", "users\0"];

/// How many tries: a million where code is fast.
const TRIES: usize = if cfg!(debug_assertions) { 20_000 } else { 1_000_000 };

#[test]
fn ciphertext_moved_to_another_tenant_table_column_row_or_purpose_is_never_accepted() {
    let (keyring, mut rng) = (keyring(), rng());
    let tenants: Vec<Tenant> = TENANTS.iter().map(|name| tenant(name)).collect();
    for tenant in &tenants {
        keyring.generate_tenant_key(tenant, 0, &mut rng).unwrap();
        keyring.rotate(tenant, 1, &mut rng).unwrap();
    }
    let place = {
        let tenants = &tenants;
        move |rng: &mut rand::rngs::StdRng| {
            let mut name = || NAMES[rng.random_range(0..NAMES.len())];
            let (table, column, row, purpose) = (name(), name(), name(), name());
            Context { tenant: &tenants[rng.random_range(0..tenants.len())], table, column, row, purpose }
        }
    };
    let sealed: Vec<_> = (0..1000)
        .map(|_| {
            let context = place(&mut rng);
            (context, keyring.seal(&context, b"4242 4242 4242 4242", &mut rng).unwrap())
        })
        .collect();
    let (mut refused, mut accepted) = (0_usize, 0_usize);
    while refused < TRIES {
        let (origin, envelope) = &sealed[rng.random_range(0..sealed.len())];
        let target = place(&mut rng);
        match keyring.open(&target, envelope) {
            Ok(_) => {
                assert_eq!(target, *origin, "accepted where it does not belong");
                accepted += 1;
            }
            Err(Error::Refused) => {
                assert_ne!(target, *origin, "refused where it belongs");
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(accepted > 0, "the tries must include the right place, or refusing proves nothing");
    println!(
        "{refused} tries at another tenant, table, column, row or purpose: 0 accepted; {accepted} at the right one: all opened"
    );
}

#[test]
fn an_envelope_relabelled_for_another_tenant_or_version_is_refused() {
    let (keyring, mut rng) = (keyring(), rng());
    let (acme, acmf) = (tenant("acme"), tenant("acmf"));
    for tenant in [&acme, &acmf] {
        keyring.generate_tenant_key(tenant, 0, &mut rng).unwrap();
        keyring.rotate(tenant, 1, &mut rng).unwrap();
    }
    let envelope = keyring.seal(&Context::of(&acme), b"secret", &mut rng).unwrap();
    let mut for_another = envelope.clone();
    for_another[6] = b'f';
    assert_eq!(Envelope::parse(&for_another).unwrap().tenant(), "acmf");
    assert!(matches!(keyring.open(&Context::of(&acmf), &for_another), Err(Error::Refused)));
    let mut for_another_version = envelope.clone();
    for_another_version[10] = 1;
    assert_eq!(Envelope::parse(&for_another_version).unwrap().key_version(), 1);
    assert!(matches!(keyring.open(&Context::of(&acme), &for_another_version), Err(Error::Refused)));
    assert_eq!(keyring.open(&Context::of(&acme), &envelope).unwrap().expose(), b"secret");
}

#[test]
fn every_altered_bit_and_every_missing_or_added_byte_is_noticed() {
    let (keyring, mut rng) = (keyring(), rng());
    let acme = tenant("acme");
    keyring.generate_tenant_key(&acme, 0, &mut rng).unwrap();
    let context = Context { table: "cards", column: "number", row: "7", ..Context::of(&acme) };
    for message in [&b""[..], b"x", &[7; 64]] {
        let envelope = keyring.seal(&context, message, &mut rng).unwrap();
        assert_eq!(keyring.open(&context, &envelope).unwrap().expose(), message);
        for place in 0..envelope.len() {
            for bit in 0..8 {
                let mut altered = envelope.clone();
                altered[place] ^= 1 << bit;
                assert!(keyring.open(&context, &altered).is_err(), "bit {bit} of byte {place}");
            }
            assert!(keyring.open(&context, &envelope[..place]).is_err(), "cut to {place}");
        }
        assert!(keyring.open(&context, &[&envelope[..], &[0]].concat()).is_err());
    }
}

#[test]
fn two_envelopes_of_one_message_share_nothing_after_their_first_fields() {
    let (keyring, mut rng) = (keyring(), rng());
    let acme = tenant("acme");
    keyring.generate_tenant_key(&acme, 0, &mut rng).unwrap();
    let mut seal = || keyring.seal(&Context::of(&acme), &[0; 64], &mut rng).unwrap();
    let (one, other) = (seal(), seal());
    assert_eq!(one[..11], other[..11]);
    for (start, length) in [(11, 32), (43, 32), (75, 64), (139, 16)] {
        assert_ne!(one[start..start + length], other[start..start + length]);
    }
    assert_eq!(one.len(), 11 + 32 + 32 + 64 + 16);
}

#[test]
fn what_is_no_envelope_says_why() {
    let (keyring, mut rng) = (keyring(), rng());
    let acme = tenant("acme");
    keyring.generate_tenant_key(&acme, 0, &mut rng).unwrap();
    let envelope = keyring.seal(&Context::of(&acme), b"m", &mut rng).unwrap();
    let with = |place: usize, byte: u8| {
        let mut bytes = envelope.clone();
        bytes[place] = byte;
        bytes
    };
    for (bytes, why) in [
        (Vec::new(), Malformed::Short),
        (with(0, 2), Malformed::Version(2)),
        (with(1, 2), Malformed::Algorithm(2)),
        (with(2, 0), Malformed::Tenant),
        (with(3, b' '), Malformed::Tenant),
        (with(2, 255), Malformed::Short),
        (with(10, 0), Malformed::KeyVersion),
        (vec![1; (16 << 20) + 200], Malformed::Long),
    ] {
        let refused = keyring.open(&Context::of(&acme), &bytes);
        assert!(matches!(refused, Err(Error::Malformed(found)) if found == why), "{refused:?}, not {why:?}");
    }
    assert!(matches!(keyring.decrypt_sensitive_data("§", &acme), Err(Error::Malformed(Malformed::Text))));
}

proptest! {
    #[test]
    fn what_was_sealed_is_opened(
        message in prop::collection::vec(any::<u8>(), 0..2000),
        table in ".{0,20}", column in ".{0,20}", row in ".{0,20}", purpose in ".{0,20}",
    ) {
        let (keyring, mut rng) = (keyring(), rng());
        let acme = tenant("acme");
        keyring.generate_tenant_key(&acme, 0, &mut rng).unwrap();
        let context = Context { tenant: &acme, table: &table, column: &column, row: &row, purpose: &purpose };
        let envelope = keyring.seal(&context, &message, &mut rng).unwrap();
        let opened = keyring.open(&context, &envelope).unwrap();
        prop_assert_eq!(opened.expose(), &message);
    }

    #[test]
    fn bytes_of_any_kind_are_refused_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (keyring, mut rng) = (keyring(), rng());
        let acme = tenant("acme");
        keyring.generate_tenant_key(&acme, 0, &mut rng).unwrap();
        prop_assert!(keyring.open(&Context::of(&acme), &bytes).is_err());
        let shaped = [&[1, 1, 4], &b"acme\0\0\0\x01"[..], &bytes].concat();
        prop_assert!(keyring.open(&Context::of(&acme), &shaped).is_err());
    }
}

#[test]
fn sensitive_data_goes_as_text_and_comes_back_for_its_tenant_alone() {
    let (keyring, mut rng) = (keyring(), rng());
    let (acme, globex) = (tenant("acme"), tenant("globex"));
    keyring.generate_tenant_key(&acme, 0, &mut rng).unwrap();
    keyring.generate_tenant_key(&globex, 0, &mut rng).unwrap();
    let text = keyring.encrypt_sensitive_data(b"iban", &acme, &mut rng).unwrap();
    assert!(text.is_ascii());
    assert_eq!(keyring.decrypt_sensitive_data(&text, &acme).unwrap().expose(), b"iban");
    assert!(matches!(keyring.decrypt_sensitive_data(&text, &globex), Err(Error::Refused)));
}

#[test]
fn a_message_may_be_as_long_as_said_and_no_longer() {
    let (keyring, mut rng) = (keyring(), rng());
    let acme = tenant("acme");
    keyring.generate_tenant_key(&acme, 0, &mut rng).unwrap();
    let longest = vec![1; portcullis_keyring::MAX_PLAINTEXT_BYTES];
    let envelope = keyring.seal(&Context::of(&acme), &longest, &mut rng).unwrap();
    assert_eq!(keyring.open(&Context::of(&acme), &envelope).unwrap().expose(), longest);
    let longer = [&longest[..], &[1]].concat();
    assert!(matches!(keyring.seal(&Context::of(&acme), &longer, &mut rng), Err(Error::TooLarge(_))));
}
