//! Exptimes as requests carry them.

/// An exptime as a client gave it: a number of 32 bits, which has a sign in text and none in the binary protocol.
///
/// It takes five bytes: a batch holds 64 requests, and each byte of them is one more to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exptime {
    bits: [u8; 4],
    has_sign: bool,
}

impl Exptime {
    /// One that has a sign.
    #[inline]
    pub fn signed(number: i32) -> Exptime {
        Exptime { bits: number.to_ne_bytes(), has_sign: true }
    }

    /// One that has none.
    #[inline]
    pub fn unsigned(number: u32) -> Exptime {
        Exptime { bits: number.to_ne_bytes(), has_sign: false }
    }

    /// The number.
    #[inline]
    pub fn number(self) -> i64 {
        if self.has_sign {
            i32::from_ne_bytes(self.bits).into()
        } else {
            u32::from_ne_bytes(self.bits).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bits_are_two_numbers() {
        for (exptime, number) in [
            (Exptime::signed(-1), -1),
            (Exptime::unsigned(u32::MAX), 4_294_967_295),
            (Exptime::signed(i32::MAX), 2_147_483_647),
            (Exptime::unsigned(7), 7),
        ] {
            assert_eq!(exptime.number(), number);
        }
    }
}
