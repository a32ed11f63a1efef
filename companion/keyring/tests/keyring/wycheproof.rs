//! The primitives against Project Wycheproof (<https://github.com/C2SP/wycheproof>): the cases on which implementations have
//! failed. Those count that the envelope can meet: AES-256-GCM with nonces of 96 bits and whole tags, and HKDF with SHA-256.

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce, Tag};
use hkdf::Hkdf;
use sha2::Sha256;
use wycheproof::TestResult;

#[test]
fn aes_256_gcm() {
    let set = wycheproof::aead::TestSet::load(wycheproof::aead::TestName::AesGcm).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    let groups = set.test_groups.iter();
    for group in groups.filter(|group| (group.key_size, group.nonce_size, group.tag_size) == (256, 96, 128)) {
        for test in &group.tests {
            let (cipher, nonce) =
                (Aes256Gcm::new_from_slice(&test.key).unwrap(), Nonce::try_from(&test.nonce[..]).unwrap());
            let mut sealed = test.pt.to_vec();
            let made =
                cipher.encrypt_inout_detached(&nonce, &test.aad, sealed.as_mut_slice().into()).unwrap();
            let matches = sealed[..] == test.ct[..] && made[..] == test.tag[..];
            let mut opened = test.ct.to_vec();
            let tag = Tag::try_from(&test.tag[..]).unwrap();
            let accepted =
                cipher.decrypt_inout_detached(&nonce, &test.aad, opened.as_mut_slice().into(), &tag).is_ok();
            match test.result {
                TestResult::Invalid => {
                    assert!(!matches && !accepted, "case {}: {}", test.tc_id, test.comment);
                    invalid += 1;
                }
                TestResult::Valid | TestResult::Acceptable => {
                    assert!(matches && accepted, "case {}: {}", test.tc_id, test.comment);
                    assert_eq!(opened[..], test.pt[..], "case {}", test.tc_id);
                    valid += 1;
                }
            }
        }
    }
    println!("AES-256-GCM: {valid} valid, {invalid} invalid");
    assert!(valid >= 30 && invalid >= 20, "{valid} and {invalid}: too few to prove anything");
}

#[test]
fn hkdf_sha_256() {
    let set = wycheproof::hkdf::TestSet::load(wycheproof::hkdf::TestName::HkdfSha256).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let mut made = vec![0; test.size];
        let done = Hkdf::<Sha256>::new(Some(&test.salt), &test.ikm).expand(&test.info, &mut made);
        match test.result {
            TestResult::Invalid => {
                assert!(done.is_err(), "case {}: {}", test.tc_id, test.comment);
                invalid += 1;
            }
            TestResult::Valid | TestResult::Acceptable => {
                assert!(done.is_ok() && made[..] == test.okm[..], "case {}: {}", test.tc_id, test.comment);
                valid += 1;
            }
        }
    }
    println!("HKDF-SHA-256: {valid} valid, {invalid} invalid");
    assert!(valid >= 80 && invalid >= 1, "{valid} and {invalid}: too few to prove anything");
}
