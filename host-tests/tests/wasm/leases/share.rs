//! `on_error: local_share`: a part of each limit that needs no tokens.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Companion, Fate, Proxy, config, hourly, together};

fn shared(mut config: Value, proxies: u32) -> Value {
    config["rate_limit"]["on_error"] = json!("local_share");
    config["rate_limit"]["proxies"] = json!(proxies);
    config
}

#[test]
fn a_share_of_the_limit_needs_no_tokens_and_nobody_waits() {
    let config = shared(hourly(20), 2);
    let mut companion = Companion::new();
    let mut proxies = [Proxy::new(1, 1, &config), Proxy::new(2, 1, &config)];
    for proxy in &mut proxies {
        let statuses: Vec<u16> = (0..3).map(|_| proxy.ask(&mut companion, Fate::LostOnTheWay)).collect();
        assert_eq!(statuses, [200, 429, 429], "a tenth of twenty, for two");
        assert!(proxy.process.time() < Duration::from_millis(1));
    }
    let mut admitted = 2;
    for round in 0..120 {
        let proxy = &mut proxies[round % 2];
        admitted += usize::from(proxy.ask(&mut companion, Fate::Answered) == 200);
        proxy.idle(&mut companion, Duration::from_millis(500));
        together(&mut proxies);
    }
    // In the minute that this took nothing comes back.
    assert!((18..=20).contains(&admitted), "{admitted}");
}

/// Two proxies that know a tenant's own rate, of which nothing is spent.
fn knowing(rate: u32, companion: &mut Companion) -> [Proxy; 2] {
    let rule = json!({"name": "calls", "limit": 1000, "window": "1m", "policy": "api_calls_per_minute"});
    let config = shared(config(rule), 2);
    companion.rates = json!({"api_calls_per_minute": rate});
    let mut proxies = [Proxy::new(1, 1, &config), Proxy::new(2, 1, &config)];
    for proxy in &mut proxies {
        assert_eq!(proxy.ask(companion, Fate::Answered), 200);
        proxy.idle(companion, Duration::from_secs(20));
    }
    together(&mut proxies);
    proxies
}

#[test]
fn a_tenants_own_rate_is_shared_out_like_the_configured_one() {
    let mut companion = Companion::new();
    let mut proxies = knowing(40, &mut companion);
    let start = proxies[0].process.time();
    for proxy in &mut proxies {
        let statuses: Vec<u16> = (0..4).map(|_| proxy.ask(&mut companion, Fate::LostOnTheWay)).collect();
        assert_eq!(statuses, [200, 200, 429, 429], "a tenth of forty, for two");
    }
    let mut admitted = 4;
    for round in 0..120 {
        let proxy = &mut proxies[round % 2];
        admitted += (0..3).filter(|_| proxy.ask(&mut companion, Fate::Answered) == 200).count();
        proxy.idle(&mut companion, Duration::from_millis(500));
        together(&mut proxies);
    }
    let elapsed = proxies[0].process.time() - start;
    let most = 40 + (40.0 * elapsed.as_secs_f64() / 60.0).ceil() as usize;
    assert!((most * 9 / 10..=most).contains(&admitted), "{admitted} of {most}");
    companion.conserves();
}

#[test]
fn a_rate_too_small_to_be_shared_out_waits_for_tokens() {
    let mut companion = Companion::new();
    let mut proxies = knowing(5, &mut companion);
    let statuses: Vec<u16> = (0..4).map(|_| proxies[0].ask(&mut companion, Fate::Answered)).collect();
    assert_eq!(statuses, [200; 4], "no request is refused while there are tokens");
    assert_eq!(
        proxies[1].ask(&mut companion, Fate::LostOnTheWay),
        503,
        "and without the companion none passes"
    );
}
