//! Which interface leads to an address, by the kernel's tables of routes. Reads only, and sends nothing.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub name: String,
    /// The largest packet that it sends, in bytes.
    pub mtu: u32,
}

/// The interface for packets to this address.
pub fn towards(ip: IpAddr) -> Option<Device> {
    let name = if ip.is_loopback() {
        "lo".to_owned()
    } else {
        match ip {
            IpAddr::V4(ip) => v4(&fs::read_to_string("/proc/net/route").ok()?, ip)?,
            IpAddr::V6(ip) => v6(&fs::read_to_string("/proc/net/ipv6_route").ok()?, ip.to_bits())?,
        }
    };
    let mtu = fs::read_to_string(format!("/sys/class/net/{name}/mtu")).ok()?.trim().parse().ok()?;
    Some(Device { name, mtu })
}

/// Rows such as `eth0 000200C0 00000000 0001 0 0 0 00FFFFFF`, numbers in the machine's order of bytes. The longest mask
/// wins, then the lowest metric.
fn v4(table: &str, ip: Ipv4Addr) -> Option<String> {
    let wanted = u32::from_ne_bytes(ip.octets());
    let routes = table.lines().skip(1).filter_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| u32::from_str_radix(columns.get(at)?, 16).ok();
        let (destination, mask) = (number(1)?, number(7)?);
        let metric: u32 = columns.get(6)?.parse().ok()?;
        let fits = wanted & mask == destination;
        fits.then_some((mask.count_ones(), u32::MAX - metric, (*columns.first()?).to_owned()))
    });
    routes.max().map(|(_, _, name)| name)
}

/// Rows of destination, its length, source, its length, next hop, metric, counts, flags and name. Rejecting routes are on
/// `lo` and have the flag 0x200.
fn v6(table: &str, wanted: u128) -> Option<String> {
    let routes = table.lines().filter_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| u32::from_str_radix(columns.get(at)?, 16).ok();
        let destination = u128::from_str_radix(columns.first()?, 16).ok()?;
        let (length, metric, flags) = (number(1)?, number(5)?, number(8)?);
        let mask = u128::MAX.checked_shl(128_u32.checked_sub(length)?).unwrap_or(0);
        let fits = wanted & mask == destination && flags & 0x200 == 0;
        fits.then_some((length, u32::MAX - metric, (*columns.get(9)?).to_owned()))
    });
    routes.max().map(|(_, _, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_route_that_fits_wins() {
        let row = |name: &str, net: [u8; 4], mask: [u8; 4], metric: u32| {
            let hex = |bytes| format!("{:08X}", u32::from_ne_bytes(bytes));
            format!("{name}\t{}\t00000000\t0001\t0\t0\t{metric}\t{}\t0\t0\t0\n", hex(net), hex(mask))
        };
        let table = format!(
            "Iface\tDestination\n{}{}{}broken\n",
            row("wwan0", [0; 4], [0; 4], 700),
            row("eth0", [0; 4], [0; 4], 100),
            row("tun0", [10, 8, 0, 0], [255, 255, 0, 0], 0)
        );
        assert_eq!(v4(&table, Ipv4Addr::new(10, 8, 3, 4)).as_deref(), Some("tun0"));
        assert_eq!(v4(&table, Ipv4Addr::new(1, 1, 1, 1)).as_deref(), Some("eth0"));
        assert_eq!(v4("header\n", Ipv4Addr::LOCALHOST), None);
        let v6_row = |net: u128, length: u32, flags: &str, name: &str| {
            format!(
                "{net:032x} {length:02x} {:032x} 00 {:032x} 00000400 00000001 00000000 {flags} {name}\n",
                0, 0
            )
        };
        let net = 0xfd00_0000_0000_0000_0000_0000_0000_0000;
        let table = [
            v6_row(0, 0, "00000003", "eth0"),
            v6_row(net, 64, "00000001", "tun0"),
            v6_row(0, 0, "00200200", "lo"),
        ];
        assert_eq!(v6(&table.concat(), net + 5).as_deref(), Some("tun0"));
        assert_eq!(v6(&table.concat(), 1 << 120).as_deref(), Some("eth0"));
        assert_eq!(v6(&table[2], 5), None);
    }

    #[test]
    fn loopback_is_always_there() {
        let lo = towards(IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
        assert!(lo.name == "lo" && lo.mtu >= 1500, "{lo:?}");
    }
}
