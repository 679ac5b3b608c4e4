//! Which addresses a request may go to: by default those that anybody on the internet can reach, and no others.
//!
//! The ranges are those of the IANA registries of special-purpose addresses (RFC 6890 and what has been added since). An
//! address that has an IPv4 address in it counts as that one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// IPv4 ranges that are not public, as address and length of the prefix.
const SPECIAL_V4: [([u8; 4], u8); 15] = [
    // This network, private networks, shared address space (CGNAT), loopback, link-local (metadata services).
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    // Protocol assignments, documentation, the former 6to4 relays.
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    // Benchmarks, documentation twice.
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    // Multicast; reserved, with broadcast at its end.
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

/// What of `2000::/3`, the only global unicast there is, is not public: protocol assignments with Teredo, benchmarks and
/// ORCHID; documentation twice; 6to4, which goes wherever the IPv4 address in it says.
const SPECIAL_V6: [([u16; 2], u8); 4] =
    [([0x2001, 0], 23), ([0x2001, 0xdb8], 32), ([0x2002, 0], 16), ([0x3fff, 0], 20)];

/// Whether an address is one that anybody on the internet can reach.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// Whether a request may go to this address, when these ranges have been granted beyond what is public.
#[must_use]
pub fn may_reach(address: IpAddr, granted: &[IpNet]) -> bool {
    // The kernel connects to the IPv4 address in it.
    let address = address.to_canonical();
    is_public(address) || granted.iter().any(|range| range.contains(&address))
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let bits = u32::from(address);
    let within = |(start, length): ([u8; 4], u8)| {
        let mask = u32::MAX << (32 - u32::from(length));
        bits & mask == u32::from_be_bytes(start)
    };
    !SPECIAL_V4.into_iter().any(within)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(inner) = address.to_ipv4_mapped().or_else(|| nat64(address)) {
        return is_public_v4(inner);
    }
    let bits = u128::from(address);
    let within = |start: [u16; 2], length: u8| {
        let start = (u128::from(start[0]) << 112) | (u128::from(start[1]) << 96);
        let mask = u128::MAX << (128 - u32::from(length));
        bits & mask == start
    };
    within([0x2000, 0], 3) && !SPECIAL_V6.into_iter().any(|(start, length)| within(start, length))
}

/// The IPv4 address behind the well-known prefix of NAT64, `64:ff9b::/96` (RFC 6052), which networks without IPv4 use for
/// all of the rest of the world. Prefixes of one's own are not known here, and are not public.
fn nat64(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn special_addresses_are_not_public() {
        for special in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.0",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "169.254.170.2",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:10.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:808:808::1",
            "3fff::1",
            "3fff:fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fdff::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "5f00::1",
            "4000::1",
        ] {
            assert!(!is_public(address(special)), "{special}");
            assert!(!may_reach(address(special), &[]), "{special}");
        }
    }

    #[test]
    fn what_is_next_to_them_is() {
        for public in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2606:4700::1111",
            "2a00::1",
            "2003::1",
            "3ffe::1",
        ] {
            assert!(is_public(address(public)), "{public}");
        }
    }

    #[test]
    fn a_granted_range_is_reached_in_either_notation_and_no_further() {
        let granted = ["10.1.2.0/24".parse().expect("a range"), "fd00::/64".parse().expect("a range")];
        for (text, reached) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("10.1.3.1", false),
            ("::10.1.2.3", false),
            ("64:ff9b::10.1.2.3", false),
            ("2002:a01:203::", false),
            ("fd00::7", true),
            ("fd00:0:0:1::7", false),
            ("8.8.8.8", true),
        ] {
            assert_eq!(may_reach(address(text), &granted), reached, "{text}");
        }
    }

    proptest! {
        /// Against the standard library, which knows the ranges by other means.
        #[test]
        fn no_v4_address_that_the_standard_library_calls_special_is_public(bits: u32) {
            let v4 = Ipv4Addr::from(bits);
            let special = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_broadcast()
                || v4.is_documentation() || v4.is_multicast() || v4.is_unspecified();
            prop_assert!(!(special && is_public_v4(v4)));
        }

        #[test]
        fn a_v4_address_in_a_v6_address_counts_as_itself(bits: u32) {
            let v4 = Ipv4Addr::from(bits);
            let nat64 = Ipv6Addr::from((0x0064_ff9b_u128 << 96) | u128::from(bits));
            prop_assert_eq!(is_public(v4.to_ipv6_mapped().into()), is_public(v4.into()));
            prop_assert_eq!(is_public(nat64.into()), is_public(v4.into()));
        }

        #[test]
        fn nothing_outside_of_global_unicast_is_public(bits: u128) {
            let v6 = Ipv6Addr::from(bits);
            let embedded = v6.to_ipv4_mapped().is_some() || nat64(v6).is_some();
            prop_assert!(bits >> 125 == 1 || embedded || !is_public_v6(v6));
            prop_assert!(!(v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_multicast()) || !is_public_v6(v6));
        }

        /// Addresses close to the borders of the ranges, where a slip would be.
        #[test]
        fn a_granted_range_grants_just_itself(bits: u32, length in 8_u8..=32, other: u32) {
            let range = ipnet::Ipv4Net::new(Ipv4Addr::from(bits), length).expect("a length").trunc();
            let address = Ipv4Addr::from(other);
            let reached = may_reach(address.into(), &[range.into()]);
            prop_assert_eq!(reached, is_public_v4(address) || range.contains(&address));
        }
    }
}
