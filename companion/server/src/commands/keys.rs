//! `portcullis keys`: what an operator does with tenants' keys. It may run beside `serve`, which sees each change at once.

use std::io::{IsTerminal, Read, Write};
use std::sync::Arc;

use anyhow::{Context, bail};
use getrandom::SysRng;
use portcullis_audit_log::retention::Retention;
use portcullis_keyring::{Envelope, FernetKey, TenantRecord, open_fernet};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::cli::{KeysArgs, KeysCommand, SealedAs, Tenants};
use crate::clock::{Clock, Timestamp, rfc3339};
use crate::hardening;
use crate::keys::{Absent, Keys, Minimum, Service};
use crate::secret::Secret;
use crate::settings::{self, database, make_data_dir, process_variables};
use crate::storage::{self, Shape};
use crate::tenant::TenantId;
use crate::trail::seal;

/// Tenants read at a time.
const PAGE: usize = 100;
/// The longest input of `seal` and `open`: an envelope of the longest message, as base64.
const MAX_INPUT_BYTES: u64 = 24 << 20;
/// How long a Fernet key with the end of its line is.
const FERNET_KEY_BYTES: usize = 43;

/// Does what is asked for.
///
/// # Errors
/// No root key, a tenant without keys, a store that cannot be opened, input that is not what it should be.
pub fn run(args: &KeysArgs) -> anyhow::Result<()> {
    if hardening::forbid_dumps().is_err() {
        eprintln!("portcullis: the system does not forbid core dumps; they would hold keys");
    }
    make_data_dir(&args.store.data_dir)?;
    let place = database(&args.store)?;
    let service = Service::new(&process_variables, &args.store.data_dir, Absent::Reuse)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let storage = storage::open(&place, Shape::default()).await?;
        let keys = Keys::new(Arc::clone(&storage), &service, Clock::System);
        let done = command(&keys, &args.command).await;
        storage.close().await?;
        done
    })
}

async fn command(keys: &Keys, command: &KeysCommand) -> anyhow::Result<()> {
    match command {
        KeysCommand::Create { tenant } => {
            let tenant = TenantId::new(tenant)?;
            let record = keys.run(move |keys| keys.create(tenant.as_tenant())).await?;
            super::print(&line(&record))
        }
        KeysCommand::Public { tenant } => {
            super::print(&keys.public_key(&TenantId::new(tenant)?).await?.to_string())
        }
        KeysCommand::List { tenant, json } => list(keys, tenant.as_deref(), *json).await,
        KeysCommand::Rotate { tenants, older_than } => match older_than {
            Some(age) if tenants.all => {
                let rotated = keys.rotate_older_than(*age).await?;
                super::print(&format!("{rotated} rotated"))
            }
            Some(_) => bail!("--older-than: goes with --all"),
            None => each(keys, tenants, "rotated", rotate).await,
        },
        KeysCommand::Rewrap { tenants } => each(keys, tenants, "rewrapped", rewrap).await,
        KeysCommand::Minimum { tenant, version, trim, force, retention } => {
            let (tenant, kept) = (TenantId::new(tenant)?, settings::retention(retention)?);
            let minimum = Minimum { version: *version, trim: *trim, force: *force };
            let record = keys.run(move |keys| keys.set_minimum(&tenant, minimum, &kept)).await;
            super::print(&line(&record?))
        }
        KeysCommand::Trim { tenants, retention } => {
            let kept = settings::retention(retention)?;
            match &tenants.tenant {
                Some(tenant) => super::print(&trim(keys, TenantId::new(tenant)?, &kept).await?),
                None => super::print(&format!("{} versions deleted", keys.trim_all(&kept).await?)),
            }
        }
        KeysCommand::Shred { tenant, yes } => {
            if !yes {
                bail!("what {tenant}'s keys have sealed is lost for ever; add --yes if you mean it");
            }
            let tenant = TenantId::new(tenant)?;
            let named = tenant.clone();
            keys.run(move |keys| Ok(keys.keyring().any_record(named.as_tenant()).map(drop)?)).await?;
            let erased = keys.shred(&tenant).await?;
            super::print(&format!("{tenant}: shredded; {erased} events tell nothing of people any more"))
        }
        KeysCommand::Seal { tenant, data_type, fernet_keys } => {
            let tenant = TenantId::new(tenant)?;
            let input = input()?;
            let message = match fernet_keys {
                Some(path) => Zeroizing::new(from_fernet(path, &input)?),
                None => input,
            };
            let sealed = keys.encrypt_sensitive_data(message.to_vec(), &tenant, data_type).await?;
            super::print(&sealed.value)
        }
        KeysCommand::Open { tenant, sealed_as, purpose } => {
            let input = input()?;
            let text = std::str::from_utf8(&input).context("the envelope is not text; give it as base64")?;
            let (text, tenant) = (text.trim(), TenantId::new(tenant)?);
            let SealedAs { data_type, field, record } = sealed_as.clone();
            let opened = match (data_type, field, record) {
                (Some(data_type), ..) => keys.decrypt_sensitive_data(text, &tenant, &data_type).await?,
                (_, Some(field), _) => keys.open_edge(text, &tenant, field, purpose.clone()).await?,
                (.., record) => {
                    let place = seal::place_of(&tenant, record.unwrap_or_default());
                    keys.open(place, Envelope::from_text(text)?).await?
                }
            };
            std::io::stdout().write_all(opened.expose())?;
            Ok(())
        }
    }
}

async fn rotate(keys: Keys, tenant: TenantId) -> anyhow::Result<String> {
    let record =
        keys.run(move |keys| Ok(keys.keyring().rotate(tenant.as_tenant(), keys.now(), &mut SysRng)?)).await?;
    Ok(line(&record))
}

async fn trim(keys: &Keys, tenant: TenantId, kept: &Retention) -> anyhow::Result<String> {
    let done = keys.trim(&tenant, kept).await?;
    let stay = match done.left {
        0 => String::new(),
        left => format!("; {left} below the minimum stay: {}", done.why),
    };
    Ok(format!("{tenant}: {} versions deleted{stay}", done.deleted))
}

async fn rewrap(keys: Keys, tenant: TenantId) -> anyhow::Result<String> {
    let done = keys.rewrap_tenant(&tenant, Clock::System.now()).await?;
    if done.unreadable > 0 {
        bail!("{tenant}: {} values cannot be opened; the log on standard error names them", done.unreadable);
    }
    let root =
        if done.root_changed { "its keys stand under the new root key" } else { "its keys were current" };
    Ok(format!("{tenant}: {root}, {} values sealed anew", done.resealed))
}

/// Does a step for one tenant, or for all whose keys are not shredded; one that fails does not keep the others.
async fn each<F, S>(keys: &Keys, tenants: &Tenants, done: &str, step: S) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<String>>,
    S: Fn(Keys, TenantId) -> F,
{
    if let Some(tenant) = &tenants.tenant {
        return super::print(&step(keys.clone(), TenantId::new(tenant)?).await?);
    }
    let (mut count, mut failed, mut after) = (0_u64, 0_u64, None);
    loop {
        let page = page(keys, after.clone()).await?;
        let Some(last) = page.last() else { break };
        after = Some(TenantId::from(last.tenant.clone()));
        for record in page.iter().filter(|record| record.shredded_at.is_none()) {
            match step(keys.clone(), TenantId::from(record.tenant.clone())).await {
                Ok(_) => count = count.saturating_add(1),
                Err(error) => {
                    failed = failed.saturating_add(1);
                    eprintln!("portcullis: {}: {error:#}", record.tenant.as_str());
                }
            }
        }
        if std::io::stderr().is_terminal() {
            eprint!("\r{count} tenants {done}");
        }
    }
    if std::io::stderr().is_terminal() {
        eprintln!();
    }
    super::print(&format!("{count} tenants {done}"))?;
    if failed > 0 { bail!("{failed} tenants failed; run it again") } else { Ok(()) }
}

async fn page(keys: &Keys, after: Option<TenantId>) -> anyhow::Result<Vec<TenantRecord>> {
    let page =
        keys.run(move |keys| Ok(keys.keyring().records(after.as_ref().map(TenantId::as_tenant), PAGE)?));
    Ok(page.await?)
}

async fn list(keys: &Keys, tenant: Option<&str>, as_json: bool) -> anyhow::Result<()> {
    let show = |record: &TenantRecord| {
        super::print(&if as_json { document(record).to_string() } else { line(record) })
    };
    if let Some(tenant) = tenant {
        let tenant = TenantId::new(tenant)?;
        return show(&keys.run(move |keys| Ok(keys.keyring().any_record(tenant.as_tenant())?)).await?);
    }
    let mut after = None;
    loop {
        let page = page(keys, after.clone()).await?;
        page.iter().try_for_each(show)?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(TenantId::from(last.tenant.clone()));
    }
}

fn instant(milliseconds: i64) -> String {
    rfc3339(Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH))
}

fn line(record: &TenantRecord) -> String {
    let tenant = record.tenant.as_str();
    match record.shredded_at {
        Some(at) => format!("{tenant}: shredded {}", instant(at)),
        None => format!(
            "{tenant}: version {} of {}, opens from version {} on",
            record.current,
            record.rotated_at().map(instant).unwrap_or_default(),
            record.min_decrypt
        ),
    }
}

fn document(record: &TenantRecord) -> Value {
    let versions: Vec<Value> = record
        .versions
        .iter()
        .map(|held| json!({"version": held.version, "created_at": instant(held.created_at)}))
        .collect();
    json!({"tenant_id": record.tenant.as_str(), "current_version": record.current,
        "min_decrypt_version": record.min_decrypt, "versions": versions,
        "shredded_at": record.shredded_at.map(instant)})
}

fn input() -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut input = Zeroizing::new(Vec::new());
    std::io::stdin().lock().take(MAX_INPUT_BYTES).read_to_end(&mut input)?;
    Ok(input)
}

/// What a Fernet token holds, opened with the keys of a file, one a line.
fn from_fernet(path: &std::path::Path, token: &[u8]) -> anyhow::Result<Vec<u8>> {
    let secret = Secret::read(path, FERNET_KEY_BYTES)?;
    let text = std::str::from_utf8(secret.expose()).context("a Fernet key is text")?;
    let keys = text.lines().map(FernetKey::new).collect::<Result<Vec<_>, _>>()?;
    let token = std::str::from_utf8(token).context("a Fernet token is text")?;
    Ok(open_fernet(&keys, token.trim())?.expose().to_vec())
}
