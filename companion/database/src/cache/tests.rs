use tokio_postgres::types::{ToSql, Type};

use super::key::{Digester, Values};
use super::*;

fn rows(text: &str) -> Rows {
    Rows::Sqlite(Arc::new(vec![vec![rusqlite::types::Value::Text(text.to_owned())]]))
}

fn key(text: &str) -> Key {
    Digester::new("test").bytes(text.as_bytes()).finish()
}

#[test]
fn no_two_questions_share_a_key() {
    let of = |parts: &[&[u8]]| {
        parts.iter().fold(Digester::new("x"), |digester, part| digester.bytes(part)).finish()
    };
    assert_ne!(of(&[b"ab", b"c"]), of(&[b"a", b"bc"]));
    assert_ne!(of(&[b"ab"]), of(&[b"ab", b""]));
    assert_ne!(Digester::new("a").finish(), Digester::new("b").finish());
    let context = |role: &str, user: &str| {
        Digester::new("x").context(&Context::default().role(role).setting("app.user", user).unwrap()).finish()
    };
    let all = [
        context("a", "b"),
        context("b", "a"),
        context("a", ""),
        context("a\0app.user", "b"),
        Digester::new("x").context(&Context::default().role("a")).finish(),
        Digester::new("x").context(&Context::default().search_path(&["a"])).finish(),
        Digester::new("x").context(&Context::default().search_path(&["a", "b"])).finish(),
        Digester::new("x").context(&Context::default().search_path(&["a\", \"b"])).finish(),
    ];
    for (at, one) in all.iter().enumerate() {
        assert!(!all.iter().skip(at + 1).any(|other| other == one), "{at}");
    }
    let values = |values: Values<'_>| Digester::new("x").values(values).unwrap().0.finish();
    let one: &(dyn ToSql + Sync) = &"1";
    let none: &(dyn ToSql + Sync) = &None::<&str>;
    let empty: &(dyn ToSql + Sync) = &"";
    assert_ne!(values(&[(one, Type::TEXT)]), values(&[(one, Type::VARCHAR)]));
    assert_ne!(values(&[(none, Type::TEXT)]), values(&[(empty, Type::TEXT)]));
    assert_ne!(
        values(&[(one, Type::TEXT), (empty, Type::TEXT)]),
        values(&[(empty, Type::TEXT), (one, Type::TEXT)])
    );
    let now: &(dyn ToSql + Sync) = &" Now ";
    assert!(Digester::new("x").values(&[(now, Type::TEXT)]).unwrap().1);
    assert!(Digester::new("x").values(&[(&1_i32, Type::TEXT)]).is_err());
}

#[test]
fn a_context_takes_what_policies_read_and_no_other_setting() {
    for name in ["role", "session_authorization", "search_path", "log_statement", ""] {
        assert!(Context::default().setting(name, "x").is_err(), "{name}");
    }
    assert!(Context::default().setting("App.User", "x").is_ok());
    assert!(Context::default().setting("app.user", &"x".repeat(MAX_ANSWER)).is_err());
}

#[tokio::test]
async fn of_several_who_ask_at_once_one_asks() {
    let cache = Arc::new(Cache::new(Limits::default()));
    let asked = Arc::new(AtomicU64::new(0));
    let all = (0..20).map(|_| {
        let (cache, asked) = (Arc::clone(&cache), Arc::clone(&asked));
        tokio::spawn(async move {
            let ask = async {
                asked.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(30)).await;
                Ok::<_, String>(rows("x"))
            };
            cache.answer(key("a"), ask).await.map(|rows| rows.bytes())
        })
    });
    for one in all.collect::<Vec<_>>() {
        assert!(one.await.unwrap().is_ok());
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    cache.answers.run_pending_tasks().await;
    let figures = cache.figures();
    assert_eq!((figures.hits, figures.misses, figures.entries), (19, 1, 1));
    // Who fails tells it, and leaves nothing behind.
    let failed = cache.answer(key("b"), async { Err("no".to_owned()) }).await;
    assert_eq!(failed.err().as_deref(), Some("no"));
    assert!(cache.answer(key("b"), async { Ok::<_, String>(rows("y")) }).await.is_ok());
}

#[tokio::test]
async fn bytes_and_life_have_bounds() {
    let cache = Cache::new(Limits { bytes: 100_000, life: Duration::from_millis(80) });
    let text = "x".repeat(1000);
    for number in 0..1000 {
        let kept = cache.answer(key(&number.to_string()), async { Ok::<_, String>(rows(&text)) }).await;
        assert!(kept.is_ok());
    }
    cache.answers.run_pending_tasks().await;
    let figures = cache.figures();
    assert!(figures.bytes <= 100_000 && figures.entries > 10, "{figures:?}");
    let large =
        cache.answer(key("large"), async { Ok::<_, String>(rows(&"x".repeat(MAX_ANSWER + 1))) }).await;
    assert!(large.is_ok(), "it is answered");
    assert!(cache.figures().refused.contains(&(Refusal::Large, 1)), "and not kept");
    tokio::time::sleep(Duration::from_millis(120)).await;
    assert!(cache.answer(key("999"), async { Err::<Rows, _>("asked again") }).await.is_err());
    assert!(!Cache::new(Limits { bytes: 0, ..Limits::default() }).is_on());
}
