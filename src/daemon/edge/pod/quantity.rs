//! Kubernetes quantities (`100m`, `64Mi`, `1e3`) as numbers. Used for resources and for the downward API.

/// The amount in thousandths; `None` for text that is not a quantity. Saturates instead of overflowing.
pub(super) fn thousandths(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits =
        text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '+' || c == '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let number: f64 = number.parse().ok()?;
    let factor = match suffix {
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        "Ti" => 1_099_511_627_776.0,
        "Pi" => 1_125_899_906_842_624.0,
        "Ei" => 1_152_921_504_606_846_976.0,
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            10_f64.powi(power)
        }
    };
    // A float cast saturates, which is what an absurd amount deserves.
    Some((number * factor * 1000.0).ceil() as i64)
}

/// The amount rounded up to whole units.
pub(super) fn whole(text: &str) -> Option<i64> {
    thousandths(text).map(|amount| amount.div_euclid(1000) + i64::from(amount.rem_euclid(1000) != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_kubernetes_writes() {
        assert_eq!(thousandths("100m"), Some(100));
        assert_eq!(thousandths("1.5"), Some(1500));
        assert_eq!(whole("64Mi"), Some(64 << 20));
        assert_eq!(whole("1e3"), Some(1000));
        assert_eq!(whole("100m"), Some(1));
        assert_eq!(whole("9999999Ei"), Some(i64::MAX / 1000 + 1));
        for bad in ["", "x", "1x", "1e", "--1"] {
            assert_eq!(thousandths(bad), None, "{bad}");
        }
    }
}
