//! PgBouncer's part of the settings.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::SettingsError;
use crate::bouncer::{Options, Starter};
use crate::cli::{BouncerArgs, ServerTls};

/// Where systems keep the certificates that they trust.
const SYSTEM_ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
/// How often everything is looked at.
const PAUSE: Duration = Duration::from_secs(1);

/// PgBouncer, if there is to be one.
///
/// # Errors
/// The variable and the remedy.
pub fn bouncer(args: &BouncerArgs, data_dir: &Path) -> Result<Option<Options>, SettingsError> {
    let given = |path: &Option<PathBuf>| path.clone().filter(|path| !path.as_os_str().is_empty());
    let Some(program) = given(&args.pgbouncer) else { return Ok(None) };
    let tls = match (given(&args.pgbouncer_tls_cert_file), given(&args.pgbouncer_tls_key_file)) {
        (Some(certificate), Some(key)) => Some((absolute(&certificate), absolute(&key))),
        (None, None) => None,
        _ => return Err(SettingsError::HalfTls("PGBOUNCER_TLS_CERT_FILE and PGBOUNCER_TLS_KEY_FILE")),
    };
    if tls.is_none() && !args.pgbouncer_address.is_loopback() {
        return Err(SettingsError::PlainBouncer);
    }
    let authorities = given(&args.pgbouncer_server_ca_file)
        .map(|file| absolute(&file))
        .or_else(|| SYSTEM_ROOTS.into_iter().map(PathBuf::from).find(|file| file.exists()));
    if authorities.is_none() && args.pgbouncer_server_tls == ServerTls::VerifyCa {
        return Err(SettingsError::NoAuthorities);
    }
    Ok(Some(Options {
        starter: match program.as_os_str() == "outside" {
            true => Starter::Outside,
            false => Starter::Companion(absolute(&program)),
        },
        folder: given(&args.pgbouncer_folder).unwrap_or_else(|| data_dir.join("pgbouncer")),
        address: args.pgbouncer_address,
        port: args.pgbouncer_port,
        mode: args.pgbouncer_pool_mode.as_str(),
        connections: args.pgbouncer_connections_max.into(),
        clients: args.pgbouncer_clients_max,
        tls,
        server_tls: args.pgbouncer_server_tls.as_str(),
        authorities: authorities.filter(|_| args.pgbouncer_server_tls == ServerTls::VerifyCa),
        pause: PAUSE,
    }))
}

/// PgBouncer runs in its own folder. A path that cannot be made absolute is told of when it is used.
fn absolute(path: &Path) -> PathBuf {
    match path.components().count() {
        // A program that is looked for on the PATH.
        1 if !path.exists() => path.to_owned(),
        _ => std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        own: BouncerArgs,
    }

    fn read(line: &str) -> Result<Option<Options>, SettingsError> {
        let line = Line::try_parse_from(["x"].into_iter().chain(line.split_whitespace())).unwrap();
        bouncer(&line.own, Path::new("/data"))
    }

    #[test]
    fn it_is_off_unless_asked_for_and_private_unless_secured() {
        assert!(read("").unwrap().is_none());
        let ca = "--pgbouncer-server-ca-file /ca.pem";
        let outside = read(&format!("--pgbouncer outside {ca}")).unwrap().unwrap();
        assert_eq!((outside.starter, outside.folder), (Starter::Outside, PathBuf::from("/data/pgbouncer")));
        let own = read(&format!("--pgbouncer /usr/sbin/pgbouncer {ca}")).unwrap().unwrap();
        assert_eq!(own.starter, Starter::Companion("/usr/sbin/pgbouncer".into()));
        assert_eq!(own.authorities, Some("/ca.pem".into()));
        let open = format!("--pgbouncer outside --pgbouncer-address 0.0.0.0 {ca}");
        assert!(matches!(read(&open), Err(SettingsError::PlainBouncer)));
        let half = format!("{open} --pgbouncer-tls-cert-file a.pem");
        assert!(matches!(read(&half), Err(SettingsError::HalfTls(_))));
        assert!(read(&format!("{half} --pgbouncer-tls-key-file b.pem")).unwrap().unwrap().tls.is_some());
        assert_eq!(
            read("--pgbouncer outside --pgbouncer-server-tls require").unwrap().unwrap().authorities,
            None
        );
    }
}
