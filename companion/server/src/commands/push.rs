//! `portcullis push`: an image of a layout into a registry (OCI Distribution Specification 1.1).
//!
//! Blobs that the registry has are not sent again; the manifest comes last, so that a tag never names what is not there. It
//! is sent byte for byte, and the registry's digest of it is compared with ours.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use axum::http::HeaderValue;
use oci_client::{
    Client, Reference, RegistryOperation,
    client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol},
    secrets::RegistryAuth,
};
use portcullis_image::{Image, MANIFEST};
use serde_json::json;

use crate::cli::PushArgs;

/// A registry that does not answer for so long is given up.
const CONNECT: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(60);

/// Pushes, and prints the name by which it can be fetched for ever.
///
/// # Errors
/// When the layout cannot be read, or the registry does not take it.
pub fn run(args: &PushArgs) -> Result<()> {
    let target: Reference = args.target.parse().map_err(|error| {
        anyhow::anyhow!(
            "{}: {error}; name it like registry.example.com/portcullis/portcullis:0.1.0",
            args.target
        )
    })?;
    let Some(tag) = target.tag().filter(|_| target.digest().is_none()) else {
        bail!("{}: an image is pushed under a tag, like {}:0.1.0", args.target, target.repository());
    };
    let image = portcullis_image::read(&args.from, args.image.name())
        .with_context(|| format!("{} is no layout to push; `make bundle` writes one", args.from.display()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let sent = runtime.block_on(push(args, &target, &image))?;
    let pinned = format!("{}/{}@{}", target.registry(), target.repository(), image.manifest.digest);
    if args.json {
        let told = json!({
            "reference": pinned,
            "tag": tag,
            "digest": image.manifest.digest,
            "blobs_sent": sent,
            "blobs_there": image.blobs.len().saturating_sub(sent),
        });
        return super::print(&told.to_string());
    }
    super::print(&pinned)
}

/// Answers how many blobs were sent.
async fn push(args: &PushArgs, target: &Reference, image: &Image) -> Result<usize> {
    let client = client(args)?;
    let login = match (&args.user, &args.password) {
        (Some(user), Some(password)) => RegistryAuth::Basic(user.clone(), password.clone()),
        _ => RegistryAuth::Anonymous,
    };
    let refused = || {
        format!(
            "{} does not take {}: check name and rights (REGISTRY_USER, REGISTRY_PASSWORD), and --plain-http for a \
             registry without TLS",
            target.registry(),
            target.repository()
        )
    };
    client.auth(target, &login, RegistryOperation::Push).await.with_context(refused)?;
    let mut sent = 0_usize;
    for blob in &image.blobs {
        // Who may push and not pull cannot ask: then it is sent.
        if client.blob_exists(target, &blob.digest).await.unwrap_or(false) {
            eprintln!("there already  {}", blob.digest);
            continue;
        }
        eprintln!("sending {:>9} bytes  {}", blob.bytes.len(), blob.digest);
        client.push_blob(target, blob.bytes.clone(), &blob.digest).await.with_context(refused)?;
        sent = sent.saturating_add(1);
    }
    let manifest = image.manifest.bytes.clone();
    client
        .push_manifest_raw(target, manifest, HeaderValue::from_static(MANIFEST))
        .await
        .with_context(refused)?;
    let (_, digest) = client
        .pull_manifest_raw(target, &login, &[MANIFEST])
        .await
        .context("the registry took the manifest and does not give it back")?;
    if digest != image.manifest.digest {
        bail!("the registry calls it {digest}, and it is {}", image.manifest.digest);
    }
    Ok(sent)
}

fn client(args: &PushArgs) -> Result<Client> {
    // One cryptographic provider for the whole program; it may be there already.
    drop(tokio_rustls::rustls::crypto::ring::default_provider().install_default());
    let mut config = ClientConfig {
        protocol: if args.plain_http { ClientProtocol::Http } else { ClientProtocol::Https },
        connect_timeout: Some(CONNECT),
        read_timeout: Some(ANSWER),
        user_agent: concat!("portcullis/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    };
    if let Some(ca) = &args.ca {
        let data = std::fs::read(ca).with_context(|| format!("cannot read {}", ca.display()))?;
        config.extra_root_certificates.push(Certificate { encoding: CertificateEncoding::Pem, data });
    }
    Client::try_from(config).context("the client for registries cannot be made")
}
