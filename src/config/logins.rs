//! Who may log in, and by which protocol: options and variables that have to go together.

use std::ffi::OsString;
use std::path::PathBuf;

use super::Config;
use super::fault::Fault;
use crate::settings::{OneUser, Protocol};

impl Config {
    /// Makes the users of this file the only ones who may log in.
    pub(super) fn admit_users_of(&mut self, file: PathBuf) {
        if self.user.take().is_some() {
            let warning = "MEMCACHED_PASSWORD has no effect: -Y (--auth-file) is given as well, and wins";
            self.warnings.push(warning.to_owned());
        }
        self.settings.auth_file = Some(file);
    }

    /// Makes this user the only one who may log in.
    pub(super) fn admit_user(&mut self, user: OneUser) {
        if self.settings.auth_file.take().is_some() {
            let warning = "-Y (--auth-file) of the settings file has no effect: MEMCACHED_PASSWORD is given as well, and wins";
            self.warnings.push(warning.to_owned());
        }
        self.user = Some(user);
    }

    /// Notes `MEMCACHED_SASL_PWDB` with this `value`, or that there is a `SASL_CONF_PATH`.
    pub(super) fn note_sasl_variable(&mut self, is_pwdb: bool, value: OsString) {
        if is_pwdb {
            self.sasl_pwdb = Some(value.into());
        } else {
            self.sasl_conf_path_is_set = true;
        }
    }

    /// Checks what is said about logins, once all sources are applied.
    ///
    /// | users from | `-S` | text clients log in | binary clients log in |
    /// |---|---|---|---|
    /// | `-Y` | no | yes | are not served |
    /// | `-Y` | yes | yes | yes |
    /// | `MEMCACHED_PASSWORD` | implied | yes | yes |
    /// | `MEMCACHED_SASL_PWDB` | yes | are not served | yes |
    pub(super) fn reconcile_logins(&mut self) -> Result<(), Fault> {
        self.settings.has_one_user = self.user.is_some();
        let is_ascii = self.protocol_is_given && self.settings.protocol == Protocol::Ascii;
        // As in Bitnami's image, where a password means SASL.
        self.settings.sasl_enabled |= self.user.is_some() && !is_ascii;
        let users_may_use_text = self.settings.auth_file.is_some() || self.user.is_some();
        self.read_sasl_variables();
        let settings = &mut self.settings;
        if !settings.asks_for_password() {
            return Ok(());
        }
        if settings.udp_port.is_some() {
            return Err(if users_may_use_text { Fault::AuthFileWithUdp } else { Fault::SaslWithUdp });
        }
        if !settings.sasl_enabled {
            let is_binary = |entry: &_| matches!(entry, Some(Protocol::Binary));
            if self.protocol_is_given && !is_ascii
                || settings.listen.iter().any(|entry| is_binary(&entry.protocol))
            {
                return Err(Fault::AuthFileWithBinary);
            }
            settings.protocol = Protocol::Ascii;
            return Ok(());
        }
        if settings.auth_file.is_none() && !settings.has_one_user {
            return Err(Fault::SaslWithoutUsers);
        }
        match (self.protocol_is_given, settings.protocol) {
            (false, _) if users_may_use_text => settings.protocol = Protocol::Auto,
            (false, _) => settings.protocol = Protocol::Binary,
            (true, Protocol::Ascii) => return Err(Fault::SaslWithAscii),
            (true, Protocol::Auto) if !users_may_use_text => return Err(Fault::SaslWithAscii),
            (true, _) => {}
        }
        let is_text = |protocol| matches!(protocol, Some(Protocol::Ascii | Protocol::Auto));
        if !users_may_use_text && settings.listen.iter().any(|entry| is_text(entry.protocol)) {
            return Err(Fault::SaslWithAscii);
        }
        Ok(())
    }

    /// Applies the variables that only mean something with `-S`.
    fn read_sasl_variables(&mut self) {
        let has_users = self.settings.auth_file.is_some() || self.user.is_some();
        match self.sasl_pwdb.take() {
            Some(_) if !self.settings.sasl_enabled => self.warnings.push(
                "MEMCACHED_SASL_PWDB has no effect without -S (--enable-sasl): clients are NOT asked for a password by it"
                    .to_owned(),
            ),
            Some(_) if has_users => self.warnings.push(
                "MEMCACHED_SASL_PWDB has no effect: -Y (--auth-file) or MEMCACHED_PASSWORD is given as well, and wins"
                    .to_owned(),
            ),
            Some(file) => {
                self.settings.auth_file = Some(file);
                self.settings.auth_file_is_pwdb = true;
            }
            None => {}
        }
        if self.sasl_conf_path_is_set && self.settings.sasl_enabled {
            self.warnings.push(
                "SASL_CONF_PATH has no effect: Cyrus SASL is not used; users are those of -Y (--auth-file), \
                 MEMCACHED_SASL_PWDB or MEMCACHED_PASSWORD"
                    .to_owned(),
            );
        }
    }
}
