//! Protected mode: a server that listens on every address because `-l` is missing, and asks for no password, refuses
//! clients of the public Internet.
//!
//! Attackers scan for open memcached servers all the time, to read and fill them and to use them against others. An
//! operator who gives `-l` has decided who may connect; one who does not give it meant the machines nearby. Container
//! images may need `-o no_protected_mode`: in a container every address may be public (as each pod's is in an IPv6
//! cluster), and the operator opens the server by publishing its port.
//!
//! Rule: the server judges a client by its address alone, once, before it reads anything from it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tracing::{debug, warn};

use super::listen::{Accepted, Endpoint, Listener};
use crate::clock::Tick;
use crate::net::log_throttle::LogThrottle;
use crate::settings::Settings;

/// Networks that routers of the public Internet do not route, with the lengths of their prefixes. All other addresses
/// are public.
const PRIVATE_V4: [(Ipv4Addr, u32); 6] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),     // RFC 1918, private networks
    (Ipv4Addr::new(172, 16, 0, 0), 12),  // RFC 1918
    (Ipv4Addr::new(192, 168, 0, 0), 16), // RFC 1918
    (Ipv4Addr::new(127, 0, 0, 0), 8),    // RFC 1122 (3.2.1.3), loopback
    (Ipv4Addr::new(169, 254, 0, 0), 16), // RFC 3927, link-local
    (Ipv4Addr::new(100, 64, 0, 0), 10), // RFC 6598, shared behind a carrier's NAT; clusters and VPNs use it too
];

/// The same of IPv6. Addresses that a translator makes of IPv4 addresses (RFC 6052, RFC 3056) are public.
const PRIVATE_V6: [(Ipv6Addr, u32); 3] = [
    (Ipv6Addr::LOCALHOST, 128),                       // RFC 4291 (2.5.3), loopback
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),  // RFC 4193, unique local
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10), // RFC 4291 (2.5.6), link-local
];

/// Whether protected mode applies to `listener`: no setting chose its address, and it asks for neither password nor
/// certificate.
pub(super) fn applies_to(listener: &Listener, settings: &Settings) -> bool {
    // A socket that was handed in may be for one address: then its owner has chosen where to listen.
    is_enabled(settings) && listener.is_everywhere() && !listener.requires_certificate()
}

/// Whether it applies to a listener of HTTP. Passwords change nothing there: metrics ask nobody for one.
pub(super) fn applies_to_http(listener: &Listener, settings: &Settings) -> bool {
    let is_chosen = settings.http.as_ref().is_some_and(|http| !http.listen.is_empty());
    settings.protected_mode && !is_chosen && listener.is_everywhere() && !listener.requires_certificate()
}

fn is_enabled(settings: &Settings) -> bool {
    settings.protected_mode && settings.listen.is_empty() && !settings.asks_for_password()
}

/// Whether `peer`, which connected to `local`, is neither on this machine nor in a private network.
///
/// A peer with the address it connected to is on this machine, whatever address that is: the kernel accepts no packet
/// from outside that bears one of its own addresses (`accept_local` of Linux's ip-sysctl is off by default).
pub(super) fn is_outsider(peer: IpAddr, local: IpAddr) -> bool {
    is_public(peer) && peer.to_canonical() != local.to_canonical()
}

/// Whether an address belongs to the public Internet. An IPv4 address that is mapped into IPv6 counts as the IPv4
/// address.
pub(super) fn is_public(address: IpAddr) -> bool {
    let is_within = |address: u128, network: u128, bits: u32, prefix_bits: u32| {
        (address ^ network) >> (bits - prefix_bits) == 0
    };
    !match address.to_canonical() {
        IpAddr::V4(address) => PRIVATE_V4.iter().any(|(network, prefix_bits)| {
            is_within(address.to_bits().into(), network.to_bits().into(), Ipv4Addr::BITS, *prefix_bits)
        }),
        IpAddr::V6(address) => PRIVATE_V6.iter().any(|(network, prefix_bits)| {
            is_within(address.to_bits(), network.to_bits(), Ipv6Addr::BITS, *prefix_bits)
        }),
    }
}

/// Whether protected mode refuses the client of `accepted`.
pub(super) fn refuses(accepted: &Accepted) -> bool {
    match (&accepted.peer, &accepted.local) {
        (Endpoint::Tcp(peer), Endpoint::Tcp(local)) => is_outsider(peer.ip(), local.ip()),
        _ => false,
    }
}

/// Logs that `peer` was refused at `now`, in a warning as often as `throttle` allows.
pub(super) fn log_refusal(throttle: &LogThrottle, peer: &Endpoint, now: Tick) {
    debug!(%peer, "refused: its address is public");
    if let Some(times) = throttle.count(1, now) {
        warn!(
            "refused {peer}, whose address is public, and {} more such clients since this was last logged; to serve \
             public addresses use -l (--listen) or, better, -Y (--auth-file); in a container, where clients may have \
             public addresses and a firewall decides, use -o no_protected_mode or MEMCACHED_PROTECTED_MODE=no",
            times - 1
        );
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use socket2::{Domain, Socket, Type};

    use super::super::listen;
    use super::*;
    use crate::settings::ListenAddress;

    #[test]
    fn private_are_these_networks_up_to_their_edges_and_public_is_the_rest() {
        let private = "10.0.0.0 10.255.255.255 172.16.0.0 172.31.255.255 192.168.0.0 192.168.255.255 127.0.0.1 \
             127.255.255.255 169.254.0.1 169.254.255.255 100.64.0.0 100.127.255.255 ::1 fc00:: \
             fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff fe80::1 febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
             ::ffff:127.0.0.1 ::ffff:10.1.2.3 ::ffff:100.64.0.1";
        let public = "0.0.0.0 1.1.1.1 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 \
             169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.167.255.255 192.169.0.0 198.51.100.7 \
             224.0.0.1 255.255.255.255 :: ::2 ::127.0.0.1 64:ff9b::7f00:1 2001:db8::1 2002:7f00:1:: \
             fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff fe00::1 fec0::1 ff02::1 ::ffff:8.8.8.8 \
             ::ffff:172.32.0.0";
        for (addresses, is_expected_public) in [(private, false), (public, true)] {
            for address in addresses.split_whitespace() {
                assert_eq!(is_public(address.parse().unwrap()), is_expected_public, "{address}");
            }
        }
    }

    #[test]
    fn a_machine_may_talk_to_its_own_public_address() {
        for (peer, local, expected) in [
            ("198.51.100.7", "198.51.100.7", false),
            ("::ffff:198.51.100.7", "198.51.100.7", false),
            ("2001:db8::7", "2001:db8::7", false),
            ("198.51.100.7", "198.51.100.8", true),
            ("198.51.100.7", "10.0.0.1", true),
            ("10.0.0.2", "198.51.100.7", false),
        ] {
            assert_eq!(
                is_outsider(peer.parse().unwrap(), local.parse().unwrap()),
                expected,
                "{peer} to {local}"
            );
        }
    }

    #[test]
    fn an_address_that_a_setting_chose_is_not_protected() {
        assert!(is_enabled(&Settings::default()));
        for host in ["*", "0.0.0.0", "198.51.100.7"] {
            let listen = vec![ListenAddress { host: host.to_owned(), ..ListenAddress::everywhere() }];
            assert!(!is_enabled(&Settings { listen, ..Settings::default() }), "{host}");
        }
        assert!(!is_enabled(&Settings { auth_file: Some("users".into()), ..Settings::default() }));
        assert!(!is_enabled(&Settings { has_one_user: true, ..Settings::default() }));
        assert!(!is_enabled(&Settings { protected_mode: false, ..Settings::default() }));
    }

    #[tokio::test]
    async fn every_address_is_protected_however_a_socket_that_is_handed_in_writes_it() {
        for (domain, address) in
            [(Domain::IPV4, "0.0.0.0:0"), (Domain::IPV6, "[::]:0"), (Domain::IPV6, "[::ffff:0.0.0.0]:0")]
        {
            let socket = Socket::new(domain, Type::STREAM, None).unwrap();
            if domain == Domain::IPV6 {
                socket.set_only_v6(false).unwrap();
            }
            let every: SocketAddr = address.parse().unwrap();
            socket.bind(&every.into()).unwrap();
            socket.listen(1).unwrap();
            let listener = listen::adopt(socket.into(), None).unwrap();
            assert!(applies_to(&listener, &Settings::default()), "{address}");
        }
    }
}
