//! What a proxy has sealed to a tenant's public key, opened with the tenant's keys as they change.

use portcullis_hpke::{Batch, Place, TenantKey};
use portcullis_keyring::{Error, Keyring, Tenant};

use crate::support::{keyring, rng, tenant};

fn sealed(tenant: &Tenant, key: &TenantKey, field: &str) -> Vec<u8> {
    let mut batch = Batch::begin(tenant, key, &[7; 32]).unwrap();
    batch.seal(&Place { tenant, field, purpose: "edge" }, b"4111 1111").unwrap()
}

fn opened(keyring: &Keyring, tenant: &Tenant, field: &str, envelope: &[u8]) -> Result<Vec<u8>, Error> {
    let place = Place { tenant, field, purpose: "edge" };
    keyring.open_edge(&place, envelope).map(|message| message.expose().to_vec())
}

#[test]
fn it_opens_for_its_tenant_and_field_alone_and_through_rotations() {
    let (keyring, mut rng) = (keyring(), rng());
    let (acme, other) = (tenant("acme"), tenant("globex"));
    assert!(matches!(keyring.public_key(&acme), Err(Error::UnknownTenant(_))));
    for tenant in [&acme, &other] {
        keyring.generate_tenant_key(tenant, 0, &mut rng).unwrap();
    }
    let first = keyring.public_key(&acme).unwrap();
    assert_eq!((first.version, keyring.public_key(&acme).unwrap()), (1, first));
    assert_ne!(first.public, keyring.public_key(&other).unwrap().public);
    let envelope = sealed(&acme, &first, "form iban");
    assert_eq!(opened(&keyring, &acme, "form iban", &envelope).unwrap(), b"4111 1111");
    assert!(matches!(opened(&keyring, &acme, "form bic", &envelope), Err(Error::Refused)));
    assert!(matches!(opened(&keyring, &other, "form iban", &envelope), Err(Error::Refused)));
    // Sealed to another's key under this tenant's name.
    let forged = sealed(&acme, &keyring.public_key(&other).unwrap(), "form iban");
    assert!(matches!(opened(&keyring, &acme, "form iban", &forged), Err(Error::Refused)));
    assert!(matches!(opened(&keyring, &acme, "form iban", b"nonsense"), Err(Error::Malformed(_))));

    keyring.rotate(&acme, 0, &mut rng).unwrap();
    let second = keyring.public_key(&acme).unwrap();
    assert_eq!(second.version, 2);
    assert_ne!(first.public, second.public);
    let fresh = sealed(&acme, &second, "form iban");
    for envelope in [&envelope, &fresh] {
        assert_eq!(opened(&keyring, &acme, "form iban", envelope).unwrap(), b"4111 1111");
    }
    keyring.set_min_decrypt_version(&acme, 2).unwrap();
    assert!(matches!(opened(&keyring, &acme, "form iban", &envelope), Err(Error::BelowMinimum { .. })));
    keyring.shred(&acme, 0).unwrap();
    assert!(matches!(opened(&keyring, &acme, "form iban", &fresh), Err(Error::Shredded(_))));
    assert!(matches!(keyring.public_key(&acme), Err(Error::Shredded(_))));
}
