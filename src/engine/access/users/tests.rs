use base64::Engine as _;

use crate::engine::access::users::*;

/// Made by the reference implementation, from its own tests: "password" with the salt "somesalt".
const ARGON2ID: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
/// The same, of another kind and with four lanes.
const ARGON2I: &str = "$argon2i$v=19$m=65536,t=2,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub+b+dWRWJTmaaJObG";
/// `printf %s password | sha256sum`
const SHA256: &str = "{SHA256}5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8";
/// `printf %s passwordsalt | openssl dgst -sha256 -binary`, then `salt`, all of it through `base64`.
const SALTED: &str = "eje4XIkY6sGakInA+loqtNzj+QUo3N7sEIsj3fNge5lzYWx0";

fn rights(file: &str, token: &str) -> Option<Arc<Rights>> {
    let users = Users::parse(file.as_bytes()).unwrap_or_else(|error| panic!("{file:?}: {error}"));
    users.verify(&Credentials::of_text(token.as_bytes()).expect("two words"))
}

fn opens(file: &str, token: &str) {
    assert!(rights(file, token).is_some(), "{token:?} should open {file:?}");
}

fn refuses(file: &str, token: &str) {
    assert!(rights(file, token).is_none(), "{token:?} should not open {file:?}");
}

fn wrong(file: &str, line: usize, said: &str) {
    let error = Users::parse(file.as_bytes()).expect_err("it is wrong");
    let message = error.to_string();
    assert!(message.starts_with(&format!("line {line}: ")) && message.contains(said), "{message}");
    assert!(!format!("{message} {error:?}").contains("sesame"), "it shows a password: {message}");
}

#[test]
fn a_user_logs_in_with_its_own_password_only() {
    let file = "ann:sesame\nbob:secret\n";
    opens(file, "ann sesame");
    opens(file, "bob secret");
    for token in
        ["ann secret", "bob sesame", "carl sesame", "ann sesam", "ann sesamee", "ann SESAME", "an nsesame"]
    {
        refuses(file, token);
    }
    for nothing in ["", "\n", "\u{feff}"] {
        assert_eq!(Users::parse(nothing.as_bytes()).unwrap_err(), UsersError::Empty, "{nothing:?}");
    }
}

#[test]
fn the_first_colon_splits_and_passwords_may_hold_others() {
    opens("ann:open:sesame\n", "ann open:sesame");
    refuses("ann:open:sesame\n", "ann open");
    opens("ann::\n", "ann :");
    opens("ann:a:b:\n#x:pw:\n", "ann a:b:");
    opens("ann:a\nbob:pw:\n", "bob pw:");
    refuses("ann:a\nbob:pw:\n", "bob pw");
}

#[test]
fn ends_of_lines_are_no_part_of_passwords() {
    for file in
        ["ann:sesame", "ann:sesame\n", "ann:sesame\r\n", "bob:x\r\nann:sesame\r\n", "\u{feff}ann:sesame\r\n"]
    {
        opens(file, "ann sesame");
    }
}

#[test]
fn rights_stand_behind_the_last_colon_if_they_are_exactly_that() {
    let check = |line: &str, token: &str, may_write: bool, prefix: &[u8]| {
        let rights = rights(line, token).unwrap_or_else(|| panic!("{token:?} should open {line:?}"));
        assert_eq!((rights.may_write(), rights.prefix()), (may_write, prefix), "{line}");
    };
    check("ann:sesame", "ann sesame", true, b"");
    check("ann:sesame:rw", "ann sesame", true, b"");
    check("ann:sesame:ro", "ann sesame", false, b"");
    check("ann:open:sesame:ro", "ann open:sesame", false, b"");
    check("ann:sesame:ro,prefix=shop", "ann sesame", false, b"shop:");
    check("ann:sesame:prefix=shop", "ann sesame", true, b"shop:");
    // What is no right is a part of the password, so that a slip of the pen opens nothing.
    check("ann:sesame:RO", "ann sesame:RO", true, b"");
    check("ann:sesame:ro,", "ann sesame:ro,", true, b"");
    check("ann:sesame:prefix=", "ann sesame:prefix=", true, b"");
    // A password that ends like rights.
    check("ann:sesame:ro:rw", "ann sesame:ro", true, b"");
    refuses("ann:sesame:ro:rw", "ann sesame");
    // Hashes hold no colons.
    check(&format!("ann:{SHA256}:ro"), "ann password", false, b"");
    check(&format!("ann:{ARGON2ID}:ro"), "ann password", false, b"");
}

#[test]
fn a_user_may_have_several_passwords_with_rights_of_their_own() {
    let file = format!("ann:old:ro\nann:new\nann:{ARGON2ID}:prefix=a\n");
    assert!(!rights(&file, "ann old").unwrap().may_write());
    assert!(rights(&file, "ann new").unwrap().may_write());
    assert_eq!(rights(&file, "ann password").unwrap().prefix(), b"a:");
    refuses(&file, "ann other");
}

#[test]
fn passwords_are_hashed_as_their_marks_say() {
    opens(&format!("ann:{SHA256}"), "ann password");
    opens(&format!("ann:{}", SHA256.replace("5e88", "5E88")), "ann password");
    refuses(&format!("ann:{SHA256}"), "ann Password");
    opens(&format!("ann:{{SSHA256}}{SALTED}"), "ann password");
    refuses(&format!("ann:{{SSHA256}}{SALTED}"), "ann passwordsalt");
    for hash in [ARGON2ID, ARGON2I] {
        opens(&format!("ann:{hash}"), "ann password");
        refuses(&format!("ann:{hash}"), "ann passwore");
        refuses(&format!("ann:{hash}"), &format!("ann {hash}"));
    }
    // Anything else is what it says, as in memcached.
    opens("ann:{CRYPT}x", "ann {CRYPT}x");
}

#[test]
fn an_argon2_password_is_known_at_once_when_it_comes_again() {
    let users = Users::parse(format!("ann:{ARGON2ID}").as_bytes()).unwrap();
    let token = |text: &[u8]| Credentials::of_text(text).unwrap();
    assert!(users.verify_at_once(&token(b"ann password")).is_none());
    assert!(users.verify(&token(b"ann other")).is_none());
    assert!(users.verify_at_once(&token(b"ann other")).is_none());
    assert!(users.verify(&token(b"ann password")).is_some());
    assert!(users.verify_at_once(&token(b"ann password")).is_some());
    assert!(users.verify_at_once(&token(b"ann other")).is_none());
}

#[test]
fn refusing_costs_as_much_for_a_user_who_does_not_exist() {
    let costs = |file: String| Users::parse(file.as_bytes()).unwrap().cost_of_refusal;
    let none = costs("ann:sesame".to_owned());
    let one = costs(format!("ann:sesame\nbob:{ARGON2ID}"));
    let two = costs(format!("ann:{ARGON2ID}\nbob:{ARGON2ID}\nbob:{ARGON2ID}\n"));
    assert_eq!(none, Cost::default());
    assert_eq!(two, one.and(one));
    // What is left to spend is nothing for the costliest user, and all of it for one who is not there.
    let users = Users::parse(format!("ann:{ARGON2ID}\nbob:x\n").as_bytes()).unwrap();
    assert_eq!(users.cost_of_refusal.less(cost(users.of(b"ann"))), users.cost_of_refusal.less(one));
    assert_eq!(users.cost_of_refusal.less(cost(users.of(b"bob"))), one);
    assert_eq!(users.cost_of_refusal.less(cost(users.of(b"carl"))), one);
}

#[test]
fn what_is_wrong_is_told_by_line_and_without_the_password() {
    wrong("sesame", 1, "malformed entry");
    wrong("ann:x\n\nbob:sesame\n", 2, "malformed entry");
    wrong("# users, and what they may do\nann:sesame\n", 1, "malformed entry");
    wrong(":sesame\n", 1, "user is empty");
    wrong("ann:x\nbob:\n", 2, "password is empty");
    wrong("ann::rw\n", 1, "password is empty");
    wrong("ann: sesame\n", 1, "no space");
    wrong("ann sesame:x\n", 1, "no space");
    wrong("ann:sesame\t\n", 1, "control character");
    wrong("ann:{SHA256}sesame\n", 1, "64 hexadecimal digits");
    wrong(&format!("ann:{SHA256}0\n"), 1, "64 hexadecimal digits");
    wrong("ann:{SSHA256}sesame\n", 1, "a salt of 1 to 64 bytes");
    wrong("ann:$argon2sesame\n", 1, "no argon2 hash");
    wrong("ann:$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ\n", 1, "no argon2 hash");
    wrong(&format!("ann:{}\n", ARGON2ID.replace("v=19", "v=18")), 1, "no argon2 hash");
    wrong(&format!("ann:{}\n", ARGON2ID.replace("argon2id", "argon2x")), 1, "no argon2 hash");
}

#[test]
fn everything_has_a_limit() {
    let with = |m: u32, t: u32, p: u32| {
        format!("ann:{}", ARGON2ID.replace("m=256,t=2,p=1", &format!("m={m},t={t},p={p}")))
    };
    let parses = |file: String| assert!(Users::parse(file.as_bytes()).is_ok(), "{file}");
    parses(with(ARGON2_MEMORY_KIB_MAX, 1, 1));
    wrong(&with(ARGON2_MEMORY_KIB_MAX + 1, 1, 1), 1, "131073 KiB of memory");
    wrong(&with(u32::MAX, u32::MAX, 1), 1, "memory");
    parses(with(256, ARGON2_PASSES_MAX, 1));
    wrong(&with(256, ARGON2_PASSES_MAX + 1, 1), 1, "17 passes");
    parses(with(1024, 1, ARGON2_LANES_MAX));
    wrong(&with(1024, 1, ARGON2_LANES_MAX + 1), 1, "65 lanes");

    let salted = |salt_bytes: usize| {
        let bytes = vec![7; 32 + salt_bytes];
        format!("ann:{{SSHA256}}{}", base64::engine::general_purpose::STANDARD.encode(bytes))
    };
    parses(salted(1));
    parses(salted(64));
    for salt_bytes in [0, 65, 66, 67, 68, 200] {
        wrong(&salted(salt_bytes), 1, "a salt of 1 to 64 bytes");
    }

    let longest = format!("ann:{}", "x".repeat(USER_LINE_BYTES_MAX - 4));
    opens(&longest, &longest.replace(':', " "));
    wrong(&format!("ann:y\r\n{longest}x"), 2, "longer than 1024 bytes");

    let most: String = (0..PASSWORDS_PER_USER_MAX).map(|number| format!("ann:x{number}\n")).collect();
    opens(&most, "ann x7");
    wrong(&format!("{most}ann:x8"), PASSWORDS_PER_USER_MAX + 1, "more than 8 passwords");

    let most: String = (0..USERS_MAX).map(|number| format!("u{number}:x{number}\n")).collect();
    opens(&most, &format!("u{} x{}", USERS_MAX - 1, USERS_MAX - 1));
    let too_many = Users::parse(format!("{most}ann:x").as_bytes()).unwrap_err();
    assert_eq!(too_many, UsersError::TooManyUsers);

    let mut text = format!("ann:{}\n", "x".repeat(USER_LINE_BYTES_MAX - 5))
        .into_bytes()
        .repeat(USERS_FILE_BYTES_MAX >> 10);
    assert_eq!(text.len(), USERS_FILE_BYTES_MAX);
    assert_ne!(Users::parse(&text).unwrap_err(), UsersError::FileTooLong);
    text.push(b'x');
    assert_eq!(Users::parse(&text).unwrap_err(), UsersError::FileTooLong);
}

#[test]
fn a_token_is_two_words() {
    let token = Credentials::of_text;
    assert_eq!(token(b"ann sesame"), Some(Credentials::new(b"ann", b"sesame")));
    assert_eq!(token(b"ann  sesame and more"), Some(Credentials::new(b"ann", b"sesame")));
    let nobody = Credentials::new(b"", b"ann");
    assert_eq!(token(b" ann sesame"), Some(nobody), "a user without a name, and there is none");
    for text in [&b""[..], b" ", b"  ", b"ann", b"ann "] {
        assert_eq!(token(text), None);
    }
}

#[test]
fn nothing_shows_a_password() {
    let users = Users::parse(b"ann:sesame\n").unwrap();
    let credentials = Credentials::of_text(b"ann sesame").unwrap();
    assert!(!format!("{users:?} {credentials:?}").contains("sesame"));
}

#[test]
fn what_waits_to_be_verified_is_no_longer_than_a_line() {
    let kept = |text: &str| {
        let credentials = Credentials::of_text(text.as_bytes()).unwrap();
        credentials.user.len() + 1 + credentials.password.len()
    };
    assert_eq!(kept(&format!("ann   sesame {}", "x".repeat(10_000))), "ann sesame".len());
    let longest = "x".repeat(USER_LINE_BYTES_MAX - "ann ".len());
    assert_eq!(kept(&format!("ann {longest}")), USER_LINE_BYTES_MAX);
    assert_eq!(Credentials::of_text(format!("ann {longest}x").as_bytes()), Some(Credentials::default()));
    assert!(Credentials::of_text(b"").is_none());
}

#[test]
fn plain_credentials_are_whom_to_act_for_user_and_password() {
    let ann = Some(Credentials::new(b"ann", b"se same"));
    assert_eq!(Credentials::of_plain(b"\0ann\0se same"), ann);
    assert_eq!(Credentials::of_plain(b"ann\0ann\0se same"), ann);
    for wrong in [&b""[..], b"\0", b"ann", b"\0ann", b"bob\0ann\0se same", b"\0ann\0se\0same"] {
        assert_eq!(Credentials::of_plain(wrong), None, "{}", wrong.escape_ascii());
    }
}

#[test]
fn a_password_file_of_sasl_has_plain_passwords_and_no_rights() {
    let users = Users::parse_pwdb(b"ann:sesame\r\n\nbob:{SHA256}x:more\nc d:e f:\n").unwrap();
    let verify = |login: &[u8]| users.verify(&Credentials::of_plain(login).unwrap());
    for login in [&b"\0ann\0sesame"[..], b"\0bob\0{SHA256}x", b"\0c d\0e f"] {
        assert_eq!(verify(login).as_deref(), Some(&Rights::default()), "{}", login.escape_ascii());
    }
    for login in [&b"\0ann\0sesame:"[..], b"\0bob\0{SHA256}x:more", b"\0\0", b"\0ann\0"] {
        assert!(verify(login).is_none(), "{}", login.escape_ascii());
    }
    for (text, line, wrong) in [
        (&b"ann"[..], 1, LineError::Malformed),
        (b"ann:x\n:y", 2, LineError::UserEmpty),
        (b"\nann::x", 2, LineError::PasswordEmpty),
    ] {
        assert_eq!(Users::parse_pwdb(text).unwrap_err(), UsersError::Line { line, wrong });
    }
    assert_eq!(Users::parse_pwdb(b"\n\n").unwrap_err(), UsersError::Empty);
}

/// The example of RFC 2195.
#[test]
fn a_digest_of_cram_md5_is_verified_with_each_password_of_a_user() {
    let users = Users::parse(b"tim:other:ro\ntim:tanstaaftanstaaf\n").unwrap();
    let challenge = b"<1896.697170952@postoffice.reston.mci.net>";
    let digest = 0xb913_a602_c7ed_a7a4_95b4_e6e7_334d_3890_u128.to_be_bytes();
    assert!(users.know_passwords());
    assert!(users.verify_digest(b"tim", challenge, &digest).is_some_and(|rights| rights.are_all()));
    assert!(users.verify_digest(b"tom", challenge, &digest).is_none());
    assert!(users.verify_digest(b"tim", b"<another>", &digest).is_none());
    assert!(!Users::parse(format!("tim:x\nann:{ARGON2ID}").as_bytes()).unwrap().know_passwords());
    assert_ne!(Users::challenge(), Users::challenge());
}

fn one(name: &str, password: &str) -> Result<Users, LineError> {
    Users::of_one(&OneUser { name: name.into(), password: password.into() })
}

#[test]
fn one_user_logs_in_with_the_very_password() {
    // None of these is a hash, whatever it looks like, and none has rights at its end.
    for password in ["sesame", "a:b", "a:ro", "{SHA256}x", ARGON2ID, ":"] {
        let users = one("an:n", password).unwrap();
        let opens = |token: &str| users.verify(&Credentials::of_text(token.as_bytes()).expect("two words"));
        assert!(opens(&format!("an:n {password}")).expect(password).are_all());
        for wrong in [format!("ann {password}"), format!("an:n {password}x"), "an:n b".to_owned()] {
            assert!(opens(&wrong).is_none(), "{wrong}");
        }
        assert_eq!(users.len(), 1);
    }
}

#[test]
fn one_user_has_to_be_able_to_log_in() {
    assert_eq!(one("", "sesame").unwrap_err(), LineError::UserEmpty);
    assert_eq!(one("ann", "").unwrap_err(), LineError::PasswordEmpty);
    for (name, password) in [("a n", "sesame"), ("ann", "open sesame"), ("ann", "sesame\r"), ("an\n", "x")] {
        assert_eq!(one(name, password).unwrap_err(), LineError::Unsendable);
    }
    let longest = "x".repeat(USER_LINE_BYTES_MAX - 4);
    assert!(one("ann", &longest).is_ok());
    assert_eq!(one("ann", &format!("{longest}x")).unwrap_err(), LineError::TooLong);
}
