//! Kubernetes' resource quantities (`100m`, `64Mi`, `1e3`): parsed exactly enough to compare and add.
//! The scheduler and admission use it; text that is no quantity is an error, never zero.

/// A quantity in thousandths of its unit; large enough for any amount of bytes a machine has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity(i128);

impl Quantity {
    pub const ZERO: Quantity = Quantity(0);

    /// A whole number of units.
    pub const fn units(amount: i64) -> Self {
        Quantity(amount as i128 * 1000)
    }

    /// Reads a decimal number with an optional binary, decimal or exponent suffix; rounds up to thousandths.
    pub fn parse(text: &str) -> Option<Quantity> {
        let text = text.trim();
        let (negative, unsigned) = match text.as_bytes().first()? {
            b'-' => (true, text.get(1..)?),
            b'+' => (false, text.get(1..)?),
            _ => (false, text),
        };
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || number.len() > 24 || fraction.contains('.') {
            return None;
        }
        let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
        let (numerator, mut divisor) = scale(suffix)?;
        divisor = divisor.checked_mul(10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?)?;
        let thousandths = digits.checked_mul(1000)?.checked_mul(numerator)?;
        let rounded = thousandths / divisor + i128::from(thousandths % divisor != 0);
        Some(Quantity(if negative { -rounded } else { rounded }))
    }

    /// Thousandths of the unit.
    pub fn millis(self) -> i128 {
        self.0
    }

    /// Whole units, rounded up.
    pub fn ceil(self) -> i64 {
        let whole = self.0.div_euclid(1000) + i128::from(self.0.rem_euclid(1000) != 0);
        i64::try_from(whole).unwrap_or(if whole < 0 { i64::MIN } else { i64::MAX })
    }

    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    pub fn is_negative(self) -> bool {
        self.0 < 0
    }
}

/// The suffix as a fraction.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let factor = 10_i128.checked_pow(power.unsigned_abs().min(40))?;
            if power < 0 { (1, factor) } else { (factor, 1) }
        }
    })
}

impl std::ops::Add for Quantity {
    type Output = Quantity;

    fn add(self, other: Quantity) -> Quantity {
        Quantity(self.0.saturating_add(other.0))
    }
}

impl std::ops::Sub for Quantity {
    type Output = Quantity;

    fn sub(self, other: Quantity) -> Quantity {
        Quantity(self.0.saturating_sub(other.0))
    }
}

impl std::ops::AddAssign for Quantity {
    fn add_assign(&mut self, other: Quantity) {
        *self = *self + other;
    }
}

impl std::ops::SubAssign for Quantity {
    fn sub_assign(&mut self, other: Quantity) {
        *self = *self - other;
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Quantity>>(all: I) -> Quantity {
        all.fold(Quantity::ZERO, |sum, next| sum + next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_suffix() {
        for (text, millis) in [
            ("100m", 100),
            ("0.5", 500),
            (".5", 500),
            ("2", 2000),
            ("1k", 1_000_000),
            ("64Mi", 64 * 1024 * 1024 * 1000),
            ("1e3", 1_000_000),
            ("1E-3", 1),
            ("1.5Gi", 1_610_612_736_000),
            ("1n", 1),
            ("-1", -1000),
        ] {
            assert_eq!(Quantity::parse(text).map(Quantity::millis), Some(millis), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_quantity() {
        for text in ["", "x", "1.2.3", "1 Mi", "Mi", "1mi", "--1", "1e", "9999999999999999999999999999", "."]
        {
            assert_eq!(Quantity::parse(text), None, "{text}");
        }
    }

    #[test]
    fn rounds_up_to_units() {
        assert_eq!(Quantity::parse("100m").unwrap().ceil(), 1);
        assert_eq!(Quantity::parse("-100m").unwrap().ceil(), 0);
        assert_eq!(Quantity::units(3).ceil(), 3);
    }
}
