//! Whose address a request comes from, when proxies may stand between.
//!
//! Anybody may write anything into `X-Forwarded-For`; only what a configured proxy has appended is believed. So the list is
//! read from its end, and the first address that is no proxy of ours is the client's.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// How many hops are looked at.
const HOPS_MAX: usize = 32;

/// The addresses that begin alike: `10.0.0.0/8`, or a single one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    network: IpAddr,
    bits: u32,
}

/// Why a text is no range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Neither an address nor a range.
    #[error("expected an address such as 10.0.0.7, or a range such as 10.0.0.0/8")]
    Malformed,
    /// The range has more or fewer bits than there are.
    #[error("a range has 1 to 32 bits, of IPv6 addresses 1 to 128")]
    Bits,
    /// Bits after the range's own are set.
    #[error("the address is not the first one of its range")]
    NotTheFirst,
}

impl AddressRange {
    /// Whether an address is in the range. An IPv4 address in its IPv6 form is the same.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let shift = 32 - self.bits;
                network.to_bits() >> shift == address.to_bits() >> shift
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let shift = 128 - self.bits;
                network.to_bits() >> shift == address.to_bits() >> shift
            }
            _ => false,
        }
    }
}

impl FromStr for AddressRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let written: IpAddr = address.parse().map_err(|_| RangeError::Malformed)?;
        let width = |address: &IpAddr| -> u32 { if address.is_ipv4() { 32 } else { 128 } };
        let bits: u32 = match bits {
            Some(bits) => bits.parse().map_err(|_| RangeError::Malformed)?,
            None => width(&written),
        };
        let network = written.to_canonical();
        // The bits of `::ffff:10.0.0.0/104` count from the IPv6 address: taken for those of the IPv4 address, or the
        // other way around, a range would hold everybody.
        let bits = match width(&written) - width(&network) {
            0 => Some(bits),
            mapped => bits.checked_sub(mapped),
        }
        .filter(|bits| (1..=width(&network)).contains(bits))
        .ok_or(RangeError::Bits)?;
        let is_first = match network {
            IpAddr::V4(network) => bits == 32 || network.to_bits() << bits == 0,
            IpAddr::V6(network) => bits == 128 || network.to_bits() << bits == 0,
        };
        is_first
            .then_some(Self { network, bits })
            .ok_or(RangeError::NotTheFirst)
    }
}

/// The address of the client behind `peer`, from the values of `X-Forwarded-For` in their order.
pub fn client_address<'a>(
    peer: IpAddr,
    forwarded_for: impl DoubleEndedIterator<Item = &'a str>,
    proxies: &[AddressRange],
) -> IpAddr {
    let mut address = peer.to_canonical();
    let hops = forwarded_for.rev().flat_map(|value| value.rsplit(','));
    for hop in hops.take(HOPS_MAX) {
        if !proxies.iter().any(|proxy| proxy.contains(address)) {
            break;
        }
        // A proxy that does not know it, and says so.
        let Some(before) = self::hop(hop.trim()) else {
            break;
        };
        address = before;
    }
    address
}

/// By which part of an address clients are told apart: an IPv6 network of 64 bits is one client's own.
pub fn limited_address(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let network = address.to_bits() >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
    }
}

/// An address, with a port or without.
fn hop(text: &str) -> Option<IpAddr> {
    let address = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => match text.split_once(':') {
            // With one colon the port follows an IPv4 address.
            Some((address, port)) if !port.contains(':') => address,
            _ => text,
        },
    };
    let address: IpAddr = address.parse().ok()?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(text: &str) -> AddressRange {
        text.parse().expect("a range")
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// CVE-2026-90711 and CVE-2026-92395: `::ffff:10.0.0.0/8` trusted everybody.
    #[test]
    fn a_range_holds_what_begins_alike() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("::ffff:10.0.0.0/104", "10.9.9.9", "11.0.0.1"),
            ("fd00::/8", "fd12::1", "fe80::1"),
            ("::1", "::1", "::2"),
            ("128.0.0.0/1", "::ffff:200.1.1.1", "1.1.1.1"),
        ] {
            assert!(range(text).contains(ip(inside)), "{text}");
            assert!(!range(text).contains(ip(outside)), "{text}");
        }
        for (text, error) in [
            ("", RangeError::Malformed),
            ("localhost", RangeError::Malformed),
            ("10.0.0.0/", RangeError::Malformed),
            ("10.0.0.0/-1", RangeError::Malformed),
            ("10.0.0.0/0", RangeError::Bits),
            ("0.0.0.0/0", RangeError::Bits),
            ("::/0", RangeError::Bits),
            ("10.0.0.0/33", RangeError::Bits),
            ("::ffff:10.0.0.0/8", RangeError::Bits),
            ("10.0.0.1/8", RangeError::NotTheFirst),
            ("fd00::1/8", RangeError::NotTheFirst),
        ] {
            assert_eq!(text.parse::<AddressRange>(), Err(error), "{text}");
        }
    }

    /// CVE-2020-28483, CVE-2026-111934, CVE-2026-110726 and CVE-2026-108162: the first address of the list, which anybody writes.
    #[test]
    fn the_first_address_from_the_end_that_is_no_proxy_is_the_clients() {
        let proxies = [range("10.0.0.0/8"), range("fd00::/8")];
        for (peer, headers, expected) in [
            ("192.0.2.1", vec!["1.1.1.1"], "192.0.2.1"),
            ("10.0.0.1", vec![], "10.0.0.1"),
            ("10.0.0.1", vec!["1.1.1.1"], "1.1.1.1"),
            ("::ffff:10.0.0.1", vec!["6.6.6.6, 1.1.1.1"], "1.1.1.1"),
            ("10.0.0.1", vec!["6.6.6.6, 1.1.1.1 , 10.0.0.2"], "1.1.1.1"),
            (
                "10.0.0.1",
                vec!["6.6.6.6", "1.1.1.1", "10.0.0.2"],
                "1.1.1.1",
            ),
            ("10.0.0.1", vec!["10.0.0.3"], "10.0.0.3"),
            ("10.0.0.1", vec!["1.1.1.1:4711"], "1.1.1.1"),
            ("10.0.0.1", vec!["[2001:db8::1]:4711"], "2001:db8::1"),
            ("10.0.0.1", vec!["2001:db8::1, fd00::7"], "2001:db8::1"),
            ("10.0.0.1", vec!["::ffff:1.1.1.1"], "1.1.1.1"),
            ("10.0.0.1", vec!["1.1.1.1, unknown"], "10.0.0.1"),
            ("10.0.0.1", vec!["1.1.1.1, "], "10.0.0.1"),
        ] {
            let found = client_address(ip(peer), headers.clone().into_iter(), &proxies);
            assert_eq!(found, ip(expected), "{peer} {headers:?}");
        }
        assert_eq!(
            limited_address(ip("2001:db8:1:2:3:4:5:6")),
            ip("2001:db8:1:2::")
        );
        assert_eq!(limited_address(ip("::ffff:1.2.3.4")), ip("1.2.3.4"));
    }

    proptest! {
        #[test]
        fn nobody_chooses_the_own_address(claimed in ".{0,80}", peer in any::<[u8; 4]>(), client in any::<[u8; 4]>()) {
            let proxies = [range("10.0.0.0/8")];
            let (peer, client) = (IpAddr::from(peer), IpAddr::from(client));
            prop_assume!(!proxies[0].contains(peer) && !proxies[0].contains(client));
            prop_assert_eq!(client_address(peer, [claimed.as_str()].into_iter(), &proxies), peer);
            // The proxy appends, to the client's own header or in one more.
            let appended = format!("{claimed}, {client}");
            let proxy = ip("10.0.0.1");
            prop_assert_eq!(client_address(proxy, [appended.as_str()].into_iter(), &proxies), client);
            let more = client.to_string();
            prop_assert_eq!(client_address(proxy, [claimed.as_str(), more.as_str()].into_iter(), &proxies), client);
        }
    }
}
