//! A certificate for localhost that signs itself.

use std::{fs, path::PathBuf, process::Command, sync::OnceLock};

use super::stage::folder;

/// The folder of `cert.pem` and `key.pem`, made once by each run.
pub fn certificate() -> PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let folder = folder("tls");
        fs::create_dir_all(&folder).unwrap();
        let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
                         -addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem";
        let made = Command::new("openssl").args(arguments.split_whitespace()).current_dir(&folder).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        folder
    });
    made.clone()
}
