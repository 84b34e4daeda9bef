//! Where the database is, and how the connection to it is made safe: libpq's URL, with its words for TLS.
//!
//! `sslmode` says as there: `disable`; `prefer` (the default) and `require`, which encrypt and believe whoever answers; `verify-ca` and
//! `verify-full`, which believe who has a certificate from `sslrootcert`, a file, or else from those that the system trusts.

use crate::error::Error;
use percent_encoding::percent_decode_str;
use std::path::PathBuf;
use std::time::Duration;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

/// Whom the connection believes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Whoever answers.
    Anybody,
    /// Who has a certificate, whatever name is in it.
    Certified,
    /// Who has a certificate with the name of the host.
    Named,
}

/// A database.
#[derive(Clone, Debug)]
pub struct Url {
    /// How to connect, but for TLS: for each host, in the order in which they are to be tried.
    pub configs: Vec<Config>,
    /// Whom to believe.
    pub trust: Trust,
    /// Where the certificates to trust are; `None`: the system's.
    pub roots: Option<PathBuf>,
}

fn wrong(what: impl Into<String>) -> Error {
    Error::Url { what: what.into() }
}

impl Url {
    /// Reads one.
    ///
    /// # Errors
    /// [`Error::Url`]; it never has the password in it.
    pub fn parse(url: &str) -> Result<Url, Error> {
        if !url.starts_with("postgresql://") && !url.starts_with("postgres://") {
            return Err(wrong("it does not begin with postgresql://"));
        }
        let (place, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut trust, mut mode, mut roots, mut rest) = (Trust::Anybody, SslMode::Prefer, None, Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8().map_err(|_| wrong("it is not UTF-8"))?;
            match name {
                "sslmode" => {
                    (trust, mode) = match &*value {
                        "disable" => (Trust::Anybody, SslMode::Disable),
                        "allow" | "prefer" => (Trust::Anybody, SslMode::Prefer),
                        "require" => (Trust::Anybody, SslMode::Require),
                        "verify-ca" => (Trust::Certified, SslMode::Require),
                        "verify-full" => (Trust::Named, SslMode::Require),
                        other => return Err(wrong(format!("there is no sslmode {other:?}"))),
                    }
                }
                "sslrootcert" => roots = Some(value.into_owned()).filter(|file| file != "system"),
                _ => rest.push(pair),
            }
        }
        // As libpq does for those that have set up a root: it is to be used.
        if trust == Trust::Anybody && mode == SslMode::Require && roots.is_some() {
            trust = Trust::Certified;
        }
        let rest = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
        let wanted = query.contains("target_session_attrs=");
        let configs = each_host(place).into_iter().map(|place| {
            let mut config: Config = format!("{place}{rest}").parse().map_err(|e| wrong(describe(&e)))?;
            config.ssl_mode(mode);
            if config.get_hosts().is_empty() {
                return Err(wrong("it names no host"));
            }
            if !wanted {
                config.target_session_attrs(TargetSessionAttrs::ReadWrite);
            }
            if config.get_connect_timeout().is_none() {
                config.connect_timeout(Duration::from_secs(2));
            }
            config.keepalives_idle(Duration::from_secs(5));
            config.keepalives_interval(Duration::from_secs(2));
            config.keepalives_retries(3);
            Ok(config)
        });
        Ok(Url { configs: configs.collect::<Result<_, _>>()?, trust, roots: roots.map(PathBuf::from) })
    }

    /// The first host: a name, an address, or the directory of a socket.
    pub fn host(&self) -> String {
        match self.configs.first().and_then(|config| config.get_hosts().first()) {
            Some(Host::Tcp(host)) => host.clone(),
            Some(Host::Unix(path)) => path.display().to_string(),
            None => String::new(),
        }
    }
}

/// The same for each of the hosts alone: one that takes connections and does not answer must not keep the next from being tried.
fn each_host(place: &str) -> Vec<String> {
    let Some((scheme, rest)) = place.split_once("://") else { return vec![place.to_owned()] };
    let (authority, path) =
        rest.split_once('/').map_or((rest, String::new()), |(a, path)| (a, format!("/{path}")));
    let (user, hosts) =
        authority.rsplit_once('@').map_or((String::new(), authority), |(u, h)| (format!("{u}@"), h));
    hosts.split(',').map(|host| format!("{scheme}://{user}{host}{path}")).collect()
}

/// An error with what it came from.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_what_holds_by_default() {
        let url = Url::parse("postgresql://prosody:secret@db1,db2:5433/xmpp").unwrap();
        assert_eq!(url.host(), "db1");
        assert_eq!(url.trust, Trust::Anybody);
        let hosts = [("db1", 5432), ("db2", 5433)];
        assert_eq!(url.configs.len(), hosts.len());
        for (config, (host, port)) in url.configs.iter().zip(hosts) {
            assert_eq!(config.get_hosts(), [Host::Tcp(host.into())]);
            assert!(config.get_ports().is_empty() && port == 5432 || config.get_ports() == [port]);
            assert_eq!((config.get_user(), config.get_password()), (Some("prosody"), Some(&b"secret"[..])));
            assert_eq!((config.get_dbname(), config.get_ssl_mode()), (Some("xmpp"), SslMode::Prefer));
            assert_eq!(config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        }
        // The directory of a socket.
        assert_eq!(Url::parse("postgresql:///xmpp?host=/run/postgresql").unwrap().host(), "/run/postgresql");
        assert_eq!(Url::parse("postgresql://%2Frun%2Fpostgresql/xmpp").unwrap().host(), "/run/postgresql");
    }

    #[test]
    fn sslmode_is_libpqs() {
        let trust = |query: &str| {
            let url = Url::parse(&format!("postgresql://u@h/d?{query}&connect_timeout=7")).unwrap();
            let config = &url.configs[0];
            assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(7)));
            (url.trust, config.get_ssl_mode(), url.roots)
        };
        assert_eq!(trust("sslmode=disable"), (Trust::Anybody, SslMode::Disable, None));
        assert_eq!(trust("sslmode=require"), (Trust::Anybody, SslMode::Require, None));
        let file = Some(PathBuf::from("/etc/a b.pem"));
        let (full, ca) = (Trust::Named, Trust::Certified);
        assert_eq!(
            trust("sslmode=verify-full&sslrootcert=/etc/a%20b.pem"),
            (full, SslMode::Require, file.clone())
        );
        assert_eq!(trust("sslmode=require&sslrootcert=/etc/a%20b.pem"), (ca, SslMode::Require, file));
        assert_eq!(trust("sslmode=verify-full&sslrootcert=system"), (full, SslMode::Require, None));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for url in [
            "mysql://u:secret@h/d",
            "postgresql://u:secret@h/d?sslmode=perhaps",
            "postgresql://u:secret@h:port/d",
            "postgresql://u:secret@h/d?what=1",
        ] {
            let text = Url::parse(url).unwrap_err().to_string();
            assert!(!text.contains("secret"), "{text}");
        }
    }
}
