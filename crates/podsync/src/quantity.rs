//! Kubernetes quantities as integers: bytes and counts rounded up, CPU in thousandths.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// 10^9: the finest unit a quantity can carry.
const NANO: i128 = 1_000_000_000;

fn suffix(text: &str) -> Option<i128> {
    Some(match text {
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        "" => NANO,
        "k" => 1_000 * NANO,
        "M" => 1_000_000 * NANO,
        "G" => 1_000_000_000 * NANO,
        "T" => 1_000_000_000_000 * NANO,
        "P" => 1_000_000_000_000_000 * NANO,
        "E" => 1_000_000_000_000_000_000 * NANO,
        "Ki" => (1 << 10) * NANO,
        "Mi" => (1 << 20) * NANO,
        "Gi" => (1 << 30) * NANO,
        "Ti" => (1 << 40) * NANO,
        "Pi" => (1 << 50) * NANO,
        "Ei" => (1 << 60) * NANO,
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let factor = 10i128.checked_pow(power.unsigned_abs())?;
            if power >= 0 { NANO.checked_mul(factor)? } else { NANO / factor }
        }
    })
}

/// In billionths, rounded up; `None` when the text is no quantity.
fn nano(text: &str) -> Option<i128> {
    let text = text.trim();
    let split = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = suffix(unit)?;
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value = if whole.is_empty() { 0 } else { whole.parse::<i128>().ok()?.checked_mul(unit)? };
    if !fraction.is_empty() {
        let digits = &fraction[..fraction.len().min(18)];
        let scale = 10i128.pow(u32::try_from(digits.len()).ok()?);
        let part = digits.parse::<i128>().ok()?.checked_mul(unit)?;
        value += part / scale + i128::from(part % scale != 0);
    }
    Some(if negative { -value } else { value })
}

fn ceil_div(value: i128, by: i128) -> i64 {
    let rounded = value.div_euclid(by) + i128::from(value.rem_euclid(by) != 0);
    i64::try_from(rounded).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

/// Whole units, rounded up, as Go's `Quantity.Value()`.
pub fn value(quantity: &Quantity) -> i64 {
    nano(&quantity.0).map_or(0, |n| ceil_div(n, NANO))
}

/// Thousandths, rounded up, as Go's `Quantity.MilliValue()`.
pub fn milli(quantity: &Quantity) -> i64 {
    nano(&quantity.0).map_or(0, |n| ceil_div(n, NANO / 1000))
}

/// `value(quantity) / divisor`, rounded up, as the downward API divides.
pub fn divide(quantity: &Quantity, divisor: &Quantity) -> i64 {
    match (nano(&quantity.0), nano(&divisor.0)) {
        (Some(n), Some(d)) if d > 0 => ceil_div(n, d),
        (Some(n), _) => ceil_div(n, NANO),
        _ => 0,
    }
}

/// Thousandths of a CPU in canonical form.
pub fn from_milli(milli: i64) -> Quantity {
    Quantity(if milli % 1000 == 0 { (milli / 1000).to_string() } else { format!("{milli}m") })
}

/// Bytes as nodes report them: in Ki when that is exact.
pub fn from_bytes(bytes: i64) -> Quantity {
    Quantity(if bytes != 0 && bytes % 1024 == 0 { format!("{}Ki", bytes / 1024) } else { bytes.to_string() })
}

/// One resource of a list.
pub fn get<'a>(list: Option<&'a BTreeMap<String, Quantity>>, name: &str) -> Option<&'a Quantity> {
    list?.get(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let check = |text: &str, whole: i64, thousandths: i64| {
            let quantity = Quantity(text.into());
            assert_eq!((value(&quantity), milli(&quantity)), (whole, thousandths), "{text}");
        };
        check("1", 1, 1000);
        check("100m", 1, 100);
        check("1.5", 2, 1500);
        check("64Mi", 67_108_864, 67_108_864_000);
        check("1e3", 1000, 1_000_000);
        check("0.1", 1, 100);
        check("1500u", 1, 2);
        check("-1", -1, -1000);
        check("rubbish", 0, 0);
    }

    #[test]
    fn canonical_forms() {
        assert_eq!(from_milli(2000).0, "2");
        assert_eq!(from_milli(1950).0, "1950m");
        assert_eq!(from_bytes(2048).0, "2Ki");
        assert_eq!(from_bytes(1000).0, "1000");
        assert_eq!(divide(&Quantity("64Mi".into()), &Quantity("1Mi".into())), 64);
        assert_eq!(divide(&Quantity("1500m".into()), &Quantity("1".into())), 2);
    }
}
