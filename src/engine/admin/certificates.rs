//! The certificates that the network shows to clients. The engine never sees them: it only has them read again
//! (`refresh_certs`), and shows their age (`stats`).

use std::fmt::Debug;
use std::sync::Arc;

use crate::engine::admin::Call;
use crate::engine::turn::blocking::{BlockingTask, Kind};
use crate::engine::{Engine, Session, Then};
use crate::protocol::{Owed, reply};

/// Certificates that were read from files.
pub trait Certificates: Debug + Send + Sync {
    /// Reads them again, for connections to come. It may wait for the disk.
    ///
    /// # Errors
    /// The error in one line; the old ones stay.
    fn refresh(&self) -> Result<(), String>;

    /// How long ago they were last read, in seconds.
    fn age_seconds(&self) -> u64;
}

impl Engine {
    /// Tells the engine that there is TLS; the first certificates stay.
    pub fn set_certificates(&self, certificates: Arc<dyn Certificates>) {
        // Only a test could do so twice.
        let _ = self.certificates().set(certificates);
    }
}

/// `refresh_certs`: a blocking task, because a disk may be slow.
pub(in crate::engine) fn refresh(engine: &Engine, call: &mut Call<'_, '_>) -> Option<Then> {
    let Some(certificates) = engine.certificates().get() else {
        call.owed.say(reply::ERROR);
        return None;
    };
    Some(call.session.block_on(Refresh { certificates: Arc::clone(certificates), outcome: None }))
}

/// Reads the certificates again.
#[derive(Debug)]
struct Refresh {
    certificates: Arc<dyn Certificates>,
    outcome: Option<Result<(), String>>,
}

impl BlockingTask for Refresh {
    fn kind(&self) -> Kind {
        Kind::Reading
    }

    fn run(&mut self) {
        self.outcome = Some(self.certificates.refresh());
    }

    fn finish(self: Box<Self>, _: &Engine, _: &mut Session, owed: &mut Owed) {
        match self.outcome {
            Some(Ok(())) => owed.say(reply::OK),
            Some(Err(why)) => {
                // The error may quote a path with line ends in it, and the reply is one line.
                owed.say(why.replace(['\r', '\n'], " ").as_bytes());
                owed.say(b"\r\n");
            }
            None => owed.say(b"SERVER_ERROR too busy to read certificates, try again later\r\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Epoch;
    use crate::protocol::Owed;
    use crate::settings::Settings;

    #[derive(Debug)]
    struct Broken;

    impl Certificates for Broken {
        fn refresh(&self) -> Result<(), String> {
            Err("what is\r\nwrong".to_owned())
        }

        fn age_seconds(&self) -> u64 {
            7
        }
    }

    #[test]
    fn whatever_is_wrong_is_said_in_one_line() {
        let (epoch, now) = Epoch::starting_at(1_700_000_000);
        let engine = Engine::new(Settings::default(), epoch);
        let mut session = engine.session(0);
        let mut ask = |words: &[u8]| {
            let mut owed = Owed::default();
            if engine.turn(&mut session, words, &mut owed, now).then == Then::Wait {
                session.run_task();
                engine.turn(&mut session, b"", &mut owed, now);
            }
            String::from_utf8(owed.into_bytes().to_vec()).unwrap()
        };
        assert_eq!(ask(b"refresh_certs\r\n"), "ERROR\r\n");
        assert!(!ask(b"stats\r\n").contains("ssl_"));
        engine.set_certificates(Arc::new(Broken));
        assert_eq!(ask(b"refresh_certs\r\n"), "what is  wrong\r\n");
        assert!(ask(b"stats\r\n").contains("STAT time_since_server_cert_refresh 7\r\n"));
    }
}
