//! A connection to a bare engine: what `net` does for it, and what it may rely on.

use std::task::Waker;

use bytes::{Buf, BytesMut};
use ferrocached::clock::Tick;
use ferrocached::engine::{Engine, OWED_BYTES_MAX, Session, Then};
use ferrocached::protocol::Owed;

/// What one reply may take beyond the value in it: the longest is that of `stats settings`.
const REPLY_BYTES_MAX: usize = 16 << 10;

/// One connection, as `net` would keep it.
pub(crate) struct Connection {
    pub(crate) session: Session,
    input: BytesMut,
    /// Below this length of input a turn would achieve nothing.
    bytes_min: usize,
    too_early: bool,
    pub(crate) received: Vec<u8>,
    is_watching: bool,
    /// `Close` or `Shutdown` once it was said.
    pub(crate) ended: Option<Then>,
}

impl Connection {
    pub(crate) fn new(engine: &Engine, worker: usize, too_early: bool) -> Connection {
        Connection {
            session: engine.session(worker),
            input: BytesMut::new(),
            bytes_min: 1,
            too_early,
            received: Vec::new(),
            is_watching: false,
            ended: None,
        }
    }

    /// Input that was offered and not consumed.
    pub(crate) fn input_left(&self) -> usize {
        self.input.len()
    }

    /// Offers `piece` behind what is left of the input, and lets the engine work until it wants more.
    pub(crate) fn offer(&mut self, engine: &Engine, piece: &[u8], now: Tick) -> Result<(), String> {
        if self.ended.is_some() {
            return Ok(()); // A closed socket swallows what is sent, too.
        }
        if self.is_watching {
            self.ended = engine.wants_to_quit(&mut self.session, piece).then_some(Then::Close);
            return Ok(());
        }
        self.input.extend_from_slice(piece);
        if self.input.len() < self.bytes_min {
            return if self.too_early { self.turn_too_early(engine, now) } else { Ok(()) };
        }
        // Output that still waits to be sent must be left alone, so the engine is given some.
        let mut owed = Owed::default();
        owed.say(b"owed");
        let mut idle_turns = 0;
        loop {
            let (input_before, owed_before) = (self.input.len(), owed.remaining());
            let turn = engine.turn(&mut self.session, &self.input, &mut owed, now);
            if turn.consumed > input_before {
                return Err(format!("{} of {input_before} bytes were consumed", turn.consumed));
            }
            let owed_more = owed.remaining() - owed_before;
            if owed_more > OWED_BYTES_MAX + REPLY_BYTES_MAX + settings_item_bytes(engine) {
                return Err(format!("one turn came to owe {owed_more} bytes"));
            }
            self.input.advance(turn.consumed);
            match turn.then {
                Then::Read { bytes_min } if bytes_min <= self.input.len() => {
                    let left = self.input.len();
                    return Err(format!("the engine left {left} bytes, and asks for {bytes_min} in all"));
                }
                Then::Read { bytes_min } => {
                    self.bytes_min = bytes_min;
                    break;
                }
                Then::Again => {
                    // One such turn may have changed what the session waits for; two are the beginning of many.
                    let idle = turn.consumed == 0 && owed_more == 0 && !self.session.is_at_work();
                    idle_turns = if idle { idle_turns + 1 } else { 0 };
                    if idle_turns == 2 {
                        return Err("the engine asks for another turn but does nothing in it".to_owned());
                    }
                }
                Then::Wait => self.session.run_task(),
                Then::Retry => return Err("it is not patient, and is to wait for room".to_owned()),
                Then::Watch => {
                    self.is_watching = true;
                    let quits = engine.wants_to_quit(&mut self.session, &self.input);
                    self.ended = quits.then_some(Then::Close);
                    self.input.clear();
                    break;
                }
                Then::Close | Then::Shutdown { .. } => {
                    self.ended = Some(turn.then);
                    break;
                }
            }
        }
        let owed = owed.into_bytes();
        let owed = owed.strip_prefix(b"owed").ok_or("output that waited to be sent was touched")?;
        self.received.extend_from_slice(owed);
        Ok(())
    }

    /// What the engine has for one who watches.
    pub(crate) fn take_lines(&mut self, engine: &Engine) {
        let mut owed = Owed::default();
        engine.take_lines(&self.session, &mut owed, Waker::noop());
        self.received.extend_from_slice(&owed.into_bytes());
    }

    /// A turn with less input than the engine asked for must do nothing.
    fn turn_too_early(&mut self, engine: &Engine, now: Tick) -> Result<(), String> {
        let mut owed = Owed::default();
        let turn = engine.turn(&mut self.session, &self.input, &mut owed, now);
        let length = self.input.len();
        match turn.then {
            Then::Read { bytes_min } if turn.consumed == 0 && !owed.has_remaining() && bytes_min > length => {
                self.bytes_min = bytes_min;
                Ok(())
            }
            _ => Err(format!(
                "asked to wait for {} bytes, the engine said {turn:?} and {:?} at {length}",
                self.bytes_min,
                owed.into_bytes()
            )),
        }
    }
}

fn settings_item_bytes(engine: &Engine) -> usize {
    usize::try_from(engine.settings().item_bytes_max).expect("an item fits memory")
}
