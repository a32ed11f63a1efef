//! Rotation, minimum versions, new root keys and shredding, while others read and write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use portcullis_keyring::{
    Context, Envelope, Error, KeyStore, Keyring, MAX_VERSIONS, MemoryStore, RootKeys, Saved, ServiceError,
    StoreError, Tenant, TenantRecord,
};
use rand::TryCryptoRng;

use crate::support::{keyring, rng, root, roots, tenant};

/// A store that others write too: what is in memory is checked against it, as a database is.
#[derive(Default)]
struct SharedStore(MemoryStore);

impl KeyStore for SharedStore {
    fn load(&self, tenant: &Tenant) -> Result<Option<TenantRecord>, StoreError> {
        self.0.load(tenant)
    }
    fn save(&self, record: &TenantRecord) -> Result<Saved, StoreError> {
        self.0.save(record)
    }
    fn list(&self, after: Option<&Tenant>, limit: usize) -> Result<Vec<TenantRecord>, StoreError> {
        self.0.list(after, limit)
    }
    fn is_newest(&self, tenant: &Tenant, revision: u64) -> Result<bool, StoreError> {
        Ok(self.load(tenant)?.is_some_and(|record| record.revision == revision))
    }
}

#[test]
fn rotation_while_many_read_and_write_fails_no_open() {
    let keyring = keyring();
    let tenants = ["acme", "globex", "initech"].map(tenant);
    for tenant in &tenants {
        keyring.generate_tenant_key(tenant, 0, &mut rng()).unwrap();
    }
    let (stop, opened) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for reader in 0..6_usize {
            let (keyring, tenants, stop, opened) = (&keyring, &tenants, &stop, &opened);
            scope.spawn(move || {
                let (mut rng, tenant) = (rng(), &tenants[reader % 3]);
                let context = Context { table: "t", ..Context::of(tenant) };
                let mut old = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let envelope = keyring.seal(&context, b"value", &mut rng).expect("no failed seal");
                    if old.len() < 200 {
                        old.push(envelope.clone());
                    }
                    for envelope in [&envelope, &old[opened.load(Ordering::Relaxed) % old.len()]] {
                        let message = keyring.open(&context, envelope).expect("no failed open");
                        assert_eq!(message.expose(), b"value");
                        opened.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        for round in 1..100 {
            for tenant in &tenants {
                keyring.rotate(tenant, round, &mut rng()).unwrap();
            }
            thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(opened.load(Ordering::Relaxed) > 600, "{opened:?}");
    assert_eq!(keyring.record(&tenants[0]).unwrap().current, 100);
}

#[test]
fn two_keyrings_over_one_store_rotate_at_once_and_lose_no_version() {
    let store = Arc::new(SharedStore::default());
    let keyrings = [(); 2].map(|()| Keyring::new(roots(), store.clone(), 100));
    let acme = tenant("acme");
    keyrings[0].generate_tenant_key(&acme, 0, &mut rng()).unwrap();
    assert!(matches!(keyrings[1].generate_tenant_key(&acme, 0, &mut rng()), Err(Error::Exists(_))));
    thread::scope(|scope| {
        for keyring in &keyrings {
            let acme = &acme;
            scope.spawn(move || {
                let mut done = 0;
                while done < 50 {
                    match keyring.rotate(acme, 1, &mut rng()) {
                        Ok(_) => done += 1,
                        Err(Error::Busy(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    let record = keyrings[0].record(&acme).unwrap();
    assert_eq!((record.current, record.versions.len()), (101, 101));
    let envelope = keyrings[0].seal(&Context::of(&acme), b"m", &mut rng()).unwrap();
    assert_eq!(keyrings[1].open(&Context::of(&acme), &envelope).unwrap().expose(), b"m");
}

#[test]
fn shredding_ends_all_reading_at_once_here_and_in_other_keyrings() {
    let store = Arc::new(SharedStore::default());
    let (here, there) = (Keyring::new(roots(), store.clone(), 100), Keyring::new(roots(), store, 100));
    let (acme, globex) = (tenant("acme"), tenant("globex"));
    let mut rng = rng();
    for tenant in [&acme, &globex] {
        here.generate_tenant_key(tenant, 0, &mut rng).unwrap();
    }
    let envelope = here.seal(&Context::of(&acme), b"m", &mut rng).unwrap();
    let kept = here.seal(&Context::of(&globex), b"kept", &mut rng).unwrap();
    for keyring in [&here, &there] {
        keyring.open(&Context::of(&acme), &envelope).unwrap();
        keyring.blind_index(&Context::of(&acme), b"m").unwrap();
    }
    here.shred(&acme, 7).unwrap();
    here.shred(&acme, 8).unwrap();
    for keyring in [&here, &there] {
        assert!(matches!(keyring.open(&Context::of(&acme), &envelope), Err(Error::Shredded(_))));
        assert!(matches!(keyring.seal(&Context::of(&acme), b"m", &mut rng), Err(Error::Shredded(_))));
        assert!(matches!(keyring.blind_index(&Context::of(&acme), b"m"), Err(Error::Shredded(_))));
        assert!(matches!(keyring.generate_tenant_key(&acme, 9, &mut rng), Err(Error::Shredded(_))));
        assert_eq!(keyring.open(&Context::of(&globex), &kept).unwrap().expose(), b"kept");
    }
    let left = here.records(None, 10).unwrap().into_iter().find(|record| record.tenant == acme).unwrap();
    assert_eq!((left.shredded_at, left.versions.len(), left.index.len()), (Some(7), 0, 0));
}

#[test]
fn no_open_that_begins_after_a_shredding_succeeds_however_busy_the_cache_is() {
    for _ in 0..200 {
        let keyring = keyring();
        let acme = tenant("acme");
        keyring.generate_tenant_key(&acme, 0, &mut rng()).unwrap();
        let envelope = keyring.seal(&Context::of(&acme), b"m", &mut rng()).unwrap();
        let shredded = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    loop {
                        let begun_after = shredded.load(Ordering::SeqCst);
                        let opened = keyring.open(&Context::of(&acme), &envelope);
                        assert!(!(begun_after && opened.is_ok()), "opened after the shredding");
                        if begun_after {
                            break;
                        }
                    }
                });
            }
            keyring.forget_all();
            keyring.shred(&acme, 1).unwrap();
            shredded.store(true, Ordering::SeqCst);
        });
        assert_eq!(keyring.cached_keys(), 0);
    }
}

#[test]
fn rewrap_moves_to_the_newest_version_and_the_minimum_shuts_out_the_older() {
    let (keyring, mut rng) = (keyring(), rng());
    let acme = tenant("acme");
    let context = Context { table: "t", column: "c", row: "1", ..Context::of(&acme) };
    keyring.generate_tenant_key(&acme, 0, &mut rng).unwrap();
    let first = keyring.seal(&context, b"m", &mut rng).unwrap();
    assert_eq!(keyring.rewrap(&context, &first, &mut rng).unwrap(), None);
    keyring.rotate(&acme, 1, &mut rng).unwrap();
    let second = keyring.rewrap(&context, &first, &mut rng).unwrap().unwrap();
    assert_eq!(Envelope::parse(&second).unwrap().key_version(), 2);
    assert_eq!(keyring.open(&context, &second).unwrap().expose(), b"m");

    assert!(matches!(
        keyring.set_min_decrypt_version(&acme, 3),
        Err(Error::UnknownVersion { version: 3, .. })
    ));
    keyring.set_min_decrypt_version(&acme, 2).unwrap();
    let below = keyring.open(&context, &first);
    assert!(matches!(below, Err(Error::BelowMinimum { version: 1, least: 2, .. })), "{below:?}");
    assert_eq!(keyring.open(&context, &second).unwrap().expose(), b"m");
    keyring.set_min_decrypt_version(&acme, 1).unwrap();
    keyring.open(&context, &first).unwrap();

    keyring.set_min_decrypt_version(&acme, 2).unwrap();
    let before = keyring.record(&acme).unwrap();
    assert_eq!(keyring.trim(&acme, 1).unwrap(), before, "nothing to delete, nothing changed");
    keyring.rotate(&acme, 2, &mut rng).unwrap();
    assert_eq!(keyring.trim(&acme, u32::MAX).unwrap().versions.len(), 2, "what opens stays");
    assert!(matches!(keyring.set_min_decrypt_version(&acme, 1), Err(Error::UnknownVersion { .. })));
    keyring.open(&context, &second).unwrap();
}

#[test]
fn there_are_at_most_so_many_versions_and_trimming_makes_room() {
    let (keyring, mut rng) = (keyring(), rng());
    let acme = tenant("acme");
    keyring.generate_tenant_key(&acme, 0, &mut rng).unwrap();
    for _ in 1..MAX_VERSIONS {
        keyring.rotate(&acme, 1, &mut rng).unwrap();
    }
    assert!(matches!(keyring.rotate(&acme, 1, &mut rng), Err(Error::TooManyVersions(_))));
    keyring.set_min_decrypt_version(&acme, 200).unwrap();
    keyring.trim(&acme, u32::MAX).unwrap();
    assert_eq!(keyring.rotate(&acme, 1, &mut rng).unwrap().current, 257);
}

#[test]
fn a_new_root_key_takes_over_without_touching_what_is_sealed() {
    let store = Arc::new(MemoryStore::default());
    let (acme, mut rng) = (tenant("acme"), rng());
    let before = Keyring::new(Arc::new(RootKeys::new(root(1), Vec::new())), store.clone(), 100);
    before.generate_tenant_key(&acme, 0, &mut rng).unwrap();
    let envelope = before.seal(&Context::of(&acme), b"m", &mut rng).unwrap();
    let index = before.blind_index(&Context::of(&acme), b"m").unwrap();

    let without = Keyring::new(Arc::new(RootKeys::new(root(2), Vec::new())), store.clone(), 100);
    let refused = without.open(&Context::of(&acme), &envelope);
    assert!(matches!(refused, Err(Error::Service(ServiceError::OtherRoot(id))) if id == root(1).id()));

    let both = Keyring::new(Arc::new(RootKeys::new(root(2), vec![root(1)])), store.clone(), 100);
    assert!(both.rewrap_tenant_key(&acme, &mut rng).unwrap());
    assert!(!both.rewrap_tenant_key(&acme, &mut rng).unwrap());

    let after = Keyring::new(Arc::new(RootKeys::new(root(2), Vec::new())), store, 100);
    assert_eq!(after.open(&Context::of(&acme), &envelope).unwrap().expose(), b"m");
    assert_eq!(after.blind_index(&Context::of(&acme), b"m").unwrap(), index);
}

#[test]
fn who_has_no_key_is_told_how_to_make_one() {
    let (keyring, mut rng) = (keyring(), rng());
    let error = keyring.seal(&Context::of(&tenant("nobody")), b"m", &mut rng).unwrap_err();
    assert!(error.to_string().contains("portcullis keys create nobody"), "{error}");
    assert!(matches!(keyring.shred(&tenant("nobody"), 0), Err(Error::UnknownTenant(_))));
}

/// A random source that has failed.
struct Broken;

impl rand::TryRng for Broken {
    type Error = std::io::Error;
    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Err(std::io::Error::other("broken"))
    }
    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Err(std::io::Error::other("broken"))
    }
    fn try_fill_bytes(&mut self, _: &mut [u8]) -> Result<(), Self::Error> {
        Err(std::io::Error::other("broken"))
    }
}

impl TryCryptoRng for Broken {}

#[test]
fn without_random_bytes_nothing_is_sealed_and_no_key_is_made() {
    let keyring = keyring();
    let acme = tenant("acme");
    assert!(matches!(keyring.generate_tenant_key(&acme, 0, &mut Broken), Err(Error::Random)));
    keyring.generate_tenant_key(&acme, 0, &mut rng()).unwrap();
    assert!(matches!(keyring.seal(&Context::of(&acme), b"m", &mut Broken), Err(Error::Random)));
    assert!(matches!(keyring.rotate(&acme, 0, &mut Broken), Err(Error::Random)));
    assert_eq!(keyring.record(&acme).unwrap().current, 1);
}

#[test]
fn of_many_who_rotate_what_is_due_one_does() {
    let store = Arc::new(SharedStore::default());
    let keyrings = [(); 4].map(|()| Keyring::new(roots(), store.clone(), 100));
    let acme = tenant("acme");
    keyrings[0].generate_tenant_key(&acme, 1000, &mut rng()).unwrap();
    assert_eq!(keyrings[1].rotate_when_due(&acme, 999, 1500, &mut rng()).unwrap(), None);
    let rotated: usize = thread::scope(|scope| {
        let tasks: Vec<_> = keyrings
            .iter()
            .map(|keyring| scope.spawn(|| keyring.rotate_when_due(&acme, 1000, 2000, &mut rng()).unwrap()))
            .collect();
        tasks.into_iter().filter_map(|task| task.join().unwrap()).count()
    });
    let record = keyrings[0].record(&acme).unwrap();
    assert_eq!((rotated, record.current, record.rotated_at()), (1, 2, Some(2000)));
}

#[test]
fn a_tenant_that_comes_back_gets_a_key_that_opens_nothing_of_before() {
    let store = Arc::new(SharedStore::default());
    let (here, there) = (Keyring::new(roots(), store.clone(), 100), Keyring::new(roots(), store, 100));
    let (acme, mut rng) = (tenant("acme"), rng());
    assert!(matches!(here.renew(&acme, 0, &mut rng), Err(Error::UnknownTenant(_))));
    here.generate_tenant_key(&acme, 0, &mut rng).unwrap();
    here.rotate(&acme, 1, &mut rng).unwrap();
    assert!(matches!(here.renew(&acme, 1, &mut rng), Err(Error::Exists(_))));
    let before = here.seal(&Context::of(&acme), b"m", &mut rng).unwrap();
    let index = here.blind_index(&Context::of(&acme), b"m").unwrap();
    here.shred(&acme, 2).unwrap();
    let renewed = there.renew(&acme, 3, &mut rng).unwrap();
    assert_eq!((renewed.current, renewed.min_decrypt, renewed.shredded_at), (3, 3, None));
    for keyring in [&here, &there] {
        let refused = keyring.open(&Context::of(&acme), &before);
        assert!(matches!(refused, Err(Error::UnknownVersion { version: 2, .. })), "{refused:?}");
        let fresh = keyring.seal(&Context::of(&acme), b"m", &mut rng).unwrap();
        assert_eq!(keyring.open(&Context::of(&acme), &fresh).unwrap().expose(), b"m");
        assert_ne!(keyring.blind_index(&Context::of(&acme), b"m").unwrap(), index);
    }
}

#[test]
fn a_session_asks_the_store_once_a_tenant_and_the_next_one_sees_what_changed() {
    struct Counted(MemoryStore, AtomicUsize);
    impl KeyStore for Counted {
        fn load(&self, tenant: &Tenant) -> Result<Option<TenantRecord>, StoreError> {
            self.0.load(tenant)
        }
        fn save(&self, record: &TenantRecord) -> Result<Saved, StoreError> {
            self.0.save(record)
        }
        fn list(&self, after: Option<&Tenant>, limit: usize) -> Result<Vec<TenantRecord>, StoreError> {
            self.0.list(after, limit)
        }
        fn is_newest(&self, tenant: &Tenant, revision: u64) -> Result<bool, StoreError> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Ok(self.load(tenant)?.is_some_and(|record| record.revision == revision))
        }
    }
    let store = Arc::new(Counted(MemoryStore::default(), AtomicUsize::new(0)));
    let (here, there) =
        (Keyring::new(roots(), store.clone(), 100), Keyring::new(roots(), store.clone(), 100));
    let (acme, globex, mut rng) = (tenant("acme"), tenant("globex"), rng());
    for tenant in [&acme, &globex] {
        here.generate_tenant_key(tenant, 0, &mut rng).unwrap();
        here.seal(&Context::of(tenant), b"warm", &mut rng).unwrap();
    }
    store.1.store(0, Ordering::Relaxed);
    let mut session = here.session();
    let mut envelopes = Vec::new();
    for _ in 0..50 {
        for tenant in [&acme, &globex] {
            let envelope = session.seal(&Context::of(tenant), b"m", &mut rng).unwrap();
            assert_eq!(session.open(&Context::of(tenant), &envelope).unwrap().expose(), b"m");
            envelopes.push(envelope);
        }
    }
    assert_eq!(store.1.load(Ordering::Relaxed), 2);
    there.shred(&acme, 1).unwrap();
    let mut later = here.session();
    assert!(matches!(later.open(&Context::of(&acme), &envelopes[0]), Err(Error::Shredded(_))));
    assert_eq!(later.open(&Context::of(&globex), &envelopes[1]).unwrap().expose(), b"m");
}
