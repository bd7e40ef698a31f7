//! A password as it is kept: hashed, whatever the file has.

use std::sync::OnceLock;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;

/// The most memory that an argon2 hash may ask for, in KiB: twice what RFC 9106 recommends where memory is short. It
/// is taken while a password is verified, one at a time, beside what `-m` allows.
pub const ARGON2_MEMORY_KIB_MAX: u32 = 128 << 10;
/// The most passes over that memory. With the most memory they take seconds.
pub const ARGON2_PASSES_MAX: u32 = 16;
/// The most lanes. They cost no more than one, because they are filled one after another.
pub const ARGON2_LANES_MAX: u32 = 64;
/// How much memory hashing asks for at least, in bytes, of which it touches what the parameters say. So much is always
/// taken from the system and given back to it; of less the C library may keep as much again for each thread that ever
/// hashed. Source: glibc (`DEFAULT_MMAP_THRESHOLD_MAX`).
const MEMORY_BYTES_MIN: usize = 32 << 20;
/// The longest salt behind a SHA-256 hash, in bytes.
const SALT_BYTES_MAX: usize = 64;
/// The length of a SHA-256 hash, in bytes.
const SHA256_BYTES: usize = 32;

/// Marks a password hashed with SHA-256, in hexadecimal digits as `sha256sum` writes them.
const SHA256_MARK: &[u8] = b"{SHA256}";
/// Marks a password hashed with SHA-256, the salt behind it; hash and salt are in base64, as LDAP servers have them.
const SALTED_SHA256_MARK: &[u8] = b"{SSHA256}";
/// What a hash in the PHC string format begins with, if argon2 made it.
const ARGON2_MARK: &[u8] = b"$argon2";

/// A random key of this process: hashes that were made with it are of no use in another process.
pub(super) type SessionKey = [u8; 16];

type Sha256Hash = [u8; SHA256_BYTES];

/// Why the hash of a password cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SecretError {
    /// Not 64 hexadecimal digits.
    #[error("{{SHA256}} must be followed by 64 hexadecimal digits, as sha256sum writes them")]
    Sha256,
    /// Not base64, or no salt behind the hash, or one that is too long.
    #[error(
        "{{SSHA256}} must be followed by the hash and a salt of 1 to {SALT_BYTES_MAX} bytes, in base64 together"
    )]
    SaltedSha256,
    /// Not a PHC string of an argon2 hash.
    #[error("this is no argon2 hash; it should look like $argon2id$v=19$m=19456,t=2,p=1$salt$hash")]
    Argon2,
    /// It wants too much memory.
    #[error("argon2 wants {kib} KiB of memory here (m=); at most {ARGON2_MEMORY_KIB_MAX} are allowed")]
    Argon2Memory {
        /// In KiB.
        kib: u32,
    },
    /// It wants too many passes.
    #[error("argon2 wants {passes} passes here (t=); at most {ARGON2_PASSES_MAX} are allowed")]
    Argon2Passes {
        /// How many.
        passes: u32,
    },
    /// It wants too many lanes.
    #[error("argon2 wants {lanes} lanes here (p=); at most {ARGON2_LANES_MAX} are allowed")]
    Argon2Lanes {
        /// How many.
        lanes: u32,
    },
}

/// One password.
pub(super) enum Secret {
    /// The file has it in the open.
    Plain(Box<PlainSecret>),
    Sha256 {
        hash: Sha256Hash,
        salt: Box<[u8]>,
    },
    Argon2(Box<Argon2Secret>),
}

/// What is kept of a password that the file has in the open.
pub(super) struct PlainSecret {
    /// As [`keyed`] makes it.
    hash: Sha256Hash,
    /// What signs the challenges of CRAM-MD5. Nobody can tell the password from it.
    signer: Signer,
}

type Signer = Hmac<Md5>;

pub(super) struct Argon2Secret {
    algorithm: Algorithm,
    version: Version,
    params: Params,
    salt: Box<[u8]>,
    hash: Box<[u8]>,
    /// The one password that this is the hash of, as [`keyed`] makes it, once it was seen. Then a user who comes back,
    /// or opens a hundred connections, waits for argon2 only once, and not behind those who try to guess.
    seen: OnceLock<Sha256Hash>,
}

impl Secret {
    /// The password that stands in a file as `text`.
    pub(super) fn parse(text: &[u8], key: &SessionKey) -> Result<Secret, SecretError> {
        if let Some(digits) = text.strip_prefix(SHA256_MARK) {
            let hash = hexadecimal(digits).ok_or(SecretError::Sha256)?;
            return Ok(Secret::Sha256 { hash, salt: Box::default() });
        }
        if let Some(text) = text.strip_prefix(SALTED_SHA256_MARK) {
            let (hash, salt) = hash_and_salt(text).ok_or(SecretError::SaltedSha256)?;
            return Ok(Secret::Sha256 { hash, salt });
        }
        if text.starts_with(ARGON2_MARK) {
            let text = std::str::from_utf8(text).map_err(|_| SecretError::Argon2)?;
            return Ok(Secret::Argon2(Box::new(Argon2Secret::parse(text)?)));
        }
        Ok(Secret::plain(text, key))
    }

    /// This very password, whatever it looks like.
    pub(super) fn plain(password: &[u8], key: &SessionKey) -> Secret {
        let signer = Signer::new_from_slice(password).expect("a password of any length will do");
        Secret::Plain(Box::new(PlainSecret { hash: keyed(key, password), signer }))
    }

    /// Whether it is known as it was written.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self, Secret::Plain(_))
    }

    /// Whether CRAM-MD5 makes `digest` of `challenge` and this password.
    pub(super) fn signs(&self, challenge: &[u8], digest: &[u8]) -> bool {
        match self {
            Secret::Plain(secret) => {
                let mut signer = secret.signer.clone();
                signer.update(challenge);
                signer.verify_slice(digest).is_ok()
            }
            Secret::Sha256 { .. } | Secret::Argon2(_) => false,
        }
    }

    /// Whether it is `password`, as far as that can be told in microseconds.
    pub(super) fn is_known_to_be(&self, password: &[u8], key: &SessionKey) -> bool {
        match self {
            Secret::Plain(secret) => is_same(&secret.hash, &keyed(key, password)),
            Secret::Sha256 { hash, salt } => is_same(hash, &sha256(&[password, salt])),
            Secret::Argon2(secret) => {
                secret.seen.get().is_some_and(|seen| is_same(seen, &keyed(key, password)))
            }
        }
    }

    /// Whether it is `password`. May take as long as its [`Secret::cost`] says.
    pub(super) fn is(&self, password: &[u8], key: &SessionKey) -> bool {
        match self {
            Secret::Argon2(secret) => {
                let is_right = secret.is(password);
                if is_right {
                    secret.seen.get_or_init(|| keyed(key, password));
                }
                is_right
            }
            Secret::Plain(_) | Secret::Sha256 { .. } => self.is_known_to_be(password, key),
        }
    }

    /// What finding out takes.
    pub(super) fn cost(&self) -> Cost {
        match self {
            Secret::Argon2(secret) => Cost::of(&secret.params),
            Secret::Plain(_) | Secret::Sha256 { .. } => Cost::default(),
        }
    }
}

impl Argon2Secret {
    fn parse(text: &str) -> Result<Argon2Secret, SecretError> {
        let wrong = || SecretError::Argon2;
        let phc = PasswordHash::new(text).map_err(|_| wrong())?;
        let algorithm = Algorithm::new(phc.algorithm).map_err(|_| wrong())?;
        // Those who do not tell have the one before there was a number. Source: the reference implementation.
        let version = phc.version.map_or(Ok(Version::V0x10), Version::try_from).map_err(|_| wrong())?;
        let params = Params::try_from(&phc).map_err(|_| wrong())?;
        if params.m_cost() > ARGON2_MEMORY_KIB_MAX {
            return Err(SecretError::Argon2Memory { kib: params.m_cost() });
        }
        if params.t_cost() > ARGON2_PASSES_MAX {
            return Err(SecretError::Argon2Passes { passes: params.t_cost() });
        }
        if params.p_cost() > ARGON2_LANES_MAX {
            return Err(SecretError::Argon2Lanes { lanes: params.p_cost() });
        }
        let (Some(salt), Some(hash)) = (phc.salt, phc.hash) else { return Err(wrong()) };
        let (salt, hash): (Box<[u8]>, Box<[u8]>) = (salt.as_ref().into(), hash.as_bytes().into());
        if salt.len() < argon2::MIN_SALT_LEN {
            return Err(wrong());
        }
        Ok(Argon2Secret { algorithm, version, params, salt, hash, seen: OnceLock::new() })
    }

    fn is(&self, password: &[u8]) -> bool {
        let argon2 = Argon2::new(self.algorithm, self.version, self.params.clone());
        let mut hash = vec![0; self.hash.len()];
        hash_into(&argon2, password, &self.salt, &mut hash) && is_same(&self.hash, &hash)
    }
}

/// What verifying takes, in KiB of memory passed over, and how much memory there may be for that at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cost {
    kib_passed: u64,
    memory_kib: u32,
    passes: u32,
}

impl Cost {
    fn of(params: &Params) -> Cost {
        let (memory_kib, passes) = (params.m_cost(), params.t_cost());
        Cost { kib_passed: u64::from(memory_kib) * u64::from(passes), memory_kib, passes }
    }

    /// That of both.
    pub(super) fn and(self, other: Cost) -> Cost {
        let kib_passed = self.kib_passed + other.kib_passed;
        Cost { kib_passed, ..self.max(other) }
    }

    /// The rest of the cost when `spent` was spent.
    pub(super) fn less(self, spent: Cost) -> Cost {
        Cost { kib_passed: self.kib_passed.saturating_sub(spent.kib_passed), ..self }
    }

    /// Takes that long, to no other end.
    pub(super) fn spend(mut self, password: &[u8]) {
        while self.kib_passed > 0 && self.passes > 0 {
            let wanted = self.kib_passed.div_ceil(self.passes.into());
            let memory_kib = u32::try_from(wanted).map_or(self.memory_kib, |kib| kib.min(self.memory_kib));
            let params = Params::new(memory_kib.max(Params::MIN_M_COST), self.passes, 1, None);
            let Ok(params) = params else { return };
            self = self.less(Cost::of(&params));
            let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
            let mut hash = [0; SHA256_BYTES];
            if !hash_into(&argon2, password, b"nobody's salt", &mut hash) {
                return;
            }
            std::hint::black_box(hash);
        }
    }
}

/// Hashes `password` into `hash`; `false` if there is no memory for it, which then counts as another password.
fn hash_into(argon2: &Argon2<'_>, password: &[u8], salt: &[u8], hash: &mut [u8]) -> bool {
    let mut memory = Vec::new();
    let blocks = argon2.params().block_count();
    if memory.try_reserve_exact(blocks.max(MEMORY_BYTES_MIN / size_of::<Block>())).is_err() {
        return false;
    }
    memory.resize(blocks, Block::default());
    argon2.hash_password_into_with_memory(password, salt, hash, &mut memory).is_ok()
}

/// A password as this process keeps it.
fn keyed(key: &SessionKey, password: &[u8]) -> Sha256Hash {
    sha256(&[key, password])
}

fn sha256(parts: &[&[u8]]) -> Sha256Hash {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().into()
}

/// Whether they are the same, in a time that does not tell where they differ.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

fn hexadecimal(digits: &[u8]) -> Option<Sha256Hash> {
    let mut hash = Sha256Hash::default();
    if digits.len() != 2 * hash.len() {
        return None;
    }
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(hash)
}

fn hash_and_salt(text: &[u8]) -> Option<(Sha256Hash, Box<[u8]>)> {
    const BASE64: GeneralPurpose = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    // One group more than fits, so that a hash that is too long is not mistaken for one that was cut off.
    let mut bytes = [0; SHA256_BYTES + SALT_BYTES_MAX + 3];
    let length = BASE64.decode_slice(text, &mut bytes).ok()?;
    let (hash, salt) = bytes[..length].split_first_chunk::<SHA256_BYTES>()?;
    (1..=SALT_BYTES_MAX).contains(&salt.len()).then(|| (*hash, salt.into()))
}
